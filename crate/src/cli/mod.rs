//! `tabreel generate | convert | card | inspect | serve`.

mod card;
mod catalogue;
pub mod clips;
mod compare;
mod convert;
mod embeds;
mod generate;
mod given;
mod identity;
mod inspect;
mod kind;
mod model;
mod options;
mod output;
mod pictures;
mod room;
mod serve;
mod vocabulary;
mod webp;

pub use output::recipe;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::{Error, ErrorCode};

/// Text-to-video generation on your own machine: the native twin of the browser version.
#[derive(Debug, Parser)]
#[command(name = "tabreel", version, about, after_help = EXIT_CODES)]
struct Cli {
    /// Print machine-readable JSON (one object a line) instead of words and a progress bar.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done · 2 wrong usage or options · 3 a file is missing or cannot be read · \
4 weights or tokenizer do not fit · 5 no usable device or memory · 130 cancelled · 1 anything else";

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a clip (or an image, with --frames 1) from a prompt, and from pictures and clips.
    Generate(generate::GenerateArgs),
    /// Convert weights to GGUF.
    Convert(convert::ConvertArgs),
    /// List a model folder's files, with sizes and SHA-256, in its tabreel.json.
    Card(card::CardArgs),
    /// Show what a model folder or a weight file holds, or what a clip was made from.
    Inspect(inspect::InspectArgs),
    /// Serve the page, its engine and the default model from this program: no network, no other files.
    Serve(serve::ServeArgs),
}

/// Runs the command line; returns the process's exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Generate(args) => generate::run(args, cli.json),
        Command::Convert(args) => convert::run(args, cli.json),
        Command::Card(args) => card::run(args, cli.json),
        Command::Inspect(args) => inspect::run(args, cli.json),
        Command::Serve(args) => serve::run(&args, cli.json),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            match cli.json {
                true => {
                    let mut line = serde_json::json!(error.report());
                    line["type"] = "error".into();
                    let _ = writeln!(std::io::stdout(), "{line}");
                }
                false => drop(writeln!(std::io::stderr(), "error: {error}")),
            }
            ExitCode::from(exit_code(&error))
        }
    }
}

fn exit_code(error: &Error) -> u8 {
    match error.code() {
        ErrorCode::InvalidOptions => 2,
        ErrorCode::Fetch => 3,
        ErrorCode::Weights | ErrorCode::Tokenizer => 4,
        ErrorCode::UnsupportedDevice | ErrorCode::OutOfMemory | ErrorCode::DeviceLost => 5,
        ErrorCode::Aborted => 130,
        ErrorCode::Internal => 1,
    }
}
