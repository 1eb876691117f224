//! The table of options as flags of the command line.

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, value_parser};

use crate::options::{CALLER_OPTIONS, GivenOptions, Kind, MODEL_OPTIONS, OptionSpec, Value};

/// What the flags say; one for each row of the table that has one.
#[derive(Debug, Clone)]
pub struct OptionArgs(pub GivenOptions);

impl Args for OptionArgs {
    fn augment_args(command: Command) -> Command {
        let rows = CALLER_OPTIONS.iter().chain(MODEL_OPTIONS);
        command.args(rows.filter_map(|row| Some(flag(row, row.flag?))))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn flag(row: &OptionSpec, name: &'static str) -> Arg {
    let arg = Arg::new(row.name).long(name).required(row.default_words().is_none()).help(help(row));
    match row.kind {
        Kind::Text | Kind::Label => arg.value_parser(value_parser!(String)),
        Kind::Choice(words) => arg.value_parser(clap::builder::PossibleValuesParser::new(words)),
        Kind::List => arg.value_parser(numbers).value_name("N,N,…").allow_hyphen_values(true),
        // A value below zero is refused in words, not taken for a flag.
        Kind::Whole => arg.value_parser(value_parser!(u64)).allow_negative_numbers(true),
        Kind::Number => arg.value_parser(value_parser!(f64)).allow_negative_numbers(true),
        Kind::Flag => arg.action(clap::ArgAction::SetTrue),
    }
}

/// `1, 0.9, 0.5`
fn numbers(text: &str) -> Result<Vec<f64>, String> {
    let number =
        |word: &str| word.trim().parse().map_err(|_| format!("must be numbers with commas between, got {word:?}"));
    text.split(',').map(number).collect()
}

/// `Denoising steps. [1 to 200 steps; default: the model's, else 50]`
fn help(row: &OptionSpec) -> String {
    let models = MODEL_OPTIONS.iter().any(|other| other.name == row.name);
    let default = row.default_words().map(|words| match models {
        true => format!("default: the model's, else {words}"),
        false => format!("default: {words}"),
    });
    let notes: Vec<String> = row.range_words().into_iter().chain(default).collect();
    match notes.is_empty() {
        true => row.doc.trim().to_owned(),
        false => format!("{} [{}]", row.doc.trim(), notes.join("; ")),
    }
}

impl FromArgMatches for OptionArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self(GivenOptions::from_values(|row| {
            row.flag?;
            match row.kind {
                Kind::Text | Kind::Label | Kind::Choice(_) => {
                    matches.get_one::<String>(row.name).map(|text| Value::Text(text))
                }
                Kind::List => matches.get_one::<Vec<f64>>(row.name).map(|numbers| Value::List(numbers)),
                Kind::Whole => matches.get_one::<u64>(row.name).copied().map(Value::Whole),
                Kind::Number => matches.get_one::<f64>(row.name).copied().map(Value::Number),
                Kind::Flag => matches.get_one::<bool>(row.name).copied().map(Value::Flag),
            }
        })))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
