//! `tabreel generate --batch`: a clip of text of each line of a file, several in one pass of the model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::terminal::TerminalHost;
use super::{GenerateArgs, check_before_loading, random_seed, suggestion};
use crate::cli::given::Arranged;
use crate::cli::output::{self, recipe};
use crate::cli::vocabulary::Vocabulary;
use crate::condition::Condition;
use crate::contract::EngineResult;
use crate::error::{Error, Result};
use crate::options::Value as OptionValue;
use crate::options::{CALLER_OPTIONS, GivenOptions, Kind, MODEL_OPTIONS, OptionSpec};
use crate::pipeline::Clip;

/// The key of a clip's file, and of all clips' on the command line.
const OUT: &str = "out";

/// What a line asks for.
#[derive(Debug, PartialEq)]
struct Line {
    /// The file's name and the line's number, from 1, for messages.
    place: String,
    asked: GivenOptions,
    out: PathBuf,
}

/// Runs `generate` with a batch.
///
/// # Errors
/// As [`super::run`], naming the line where there is one; [`Error::Fetch`] when `file` cannot be read, [`Error::InvalidOptions`] when
/// it is no batch. Clips that were done before something failed are there.
pub fn run(args: &GenerateArgs, file: &Path, json: bool) -> Result<()> {
    let text = std::fs::read_to_string(file).map_err(|e| Error::Fetch(format!("{}: {e}", file.display())))?;
    let lines = lines(&text, &file.display().to_string(), args.out.as_deref())?;
    let outs = lines.iter().map(|line| output::Partial::create(&line.out).map_err(|e| blame(&line.place, e)));
    let mut outs = outs.collect::<Result<Vec<_>>>()?.into_iter();
    let host = TerminalHost::new(json);
    pollster::block_on(async {
        let mut common = args.options.0.clone();
        let model = args.choose(&mut common).await?;
        let vocabulary = Vocabulary::of(&model.files).await?;
        let mut clips = Vec::with_capacity(lines.len());
        for line in &lines {
            let mut asked = over(line.asked.clone(), &common);
            let seed = *asked.seed.get_or_insert_with(random_seed);
            if args.suggest {
                let prompt = asked.prompt.as_deref().unwrap_or_default();
                let suggested = suggestion(vocabulary.as_ref(), prompt, seed).map_err(|e| blame(&line.place, e))?;
                asked.prompt = Some(suggested);
            }
            check_before_loading(&asked, &model.card.default).map_err(|e| blame(&line.place, e))?;
            clips.push(asked.settle(&model.card.default));
        }
        let opened = args.open(&model, &host).await?;
        let (draft, of_text) = (opened.draft(&host).await?, Arranged::Clip(Condition::default()));
        for (line, options) in lines.iter().zip(&clips) {
            of_text.check(&draft, options, &host).map_err(|e| blame(&line.place, e))?;
        }
        drop(draft);
        let pipeline = opened.load(&host).await?;
        clips.iter().for_each(|options| host.tell_prompt(&options.prompt, vocabulary.as_ref(), args.suggest));
        let (identity, given) = (opened.identity(args).await?, args.given.recipe(&of_text));
        let steps = |pack: std::ops::Range<usize>| clips.get(pack)?.iter().map(|options| options.num_steps).max();
        host.set_steps(pipeline.packs(&clips, &host).into_iter().filter_map(steps).sum());
        let mut made = |place: usize, clip: Clip| -> Result<()> {
            let (Some(line), Some(options), Some(out)) = (lines.get(place), clips.get(place), outs.next()) else {
                return Err(Error::Internal(format!("clip {place} was not asked for")));
            };
            let recipe = recipe::write(&identity, args.given.task_name(&of_text, options), options, &given);
            let (frames, latents) = (host.take_frames(), (clip.latents.as_slice(), clip.latents_shape));
            let size = [frames.count, options.height, options.width];
            output::write(out, &frames.rgb, size, options.fps, Some(latents), Some(&recipe))?;
            host.tell_made(&line.out, &EngineResult::new(&clip, options, pipeline.compute()));
            Ok(())
        };
        pipeline.generate_packed(&clips, &host, &mut made).await?;
        host.finish();
        Ok(())
    })
}

/// The clips of a batch; `all` is where those go that name no file of their own.
fn lines(text: &str, file: &str, all: Option<&Path>) -> Result<Vec<Line>> {
    let mut lines: Vec<Line> = Vec::new();
    let mut taken: BTreeMap<PathBuf, String> = BTreeMap::new();
    for (at, text) in text.lines().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
        let place = format!("{file}, line {}", at + 1);
        let (asked, own) = parse(text.trim()).map_err(|e| blame(&place, e))?;
        let out = match (own, all) {
            (Some(own), _) => own,
            (None, Some(all)) => numbered(all, lines.len() + 1),
            (None, None) => {
                return Err(Error::options(format!(
                    "{place}: \"{OUT}\" must name the clip's file where --out names none for all, got none"
                )));
            }
        };
        if let Some(other) = taken.insert(resolved(&out), place.clone()) {
            let found = format!("{} in {other} and {place}", out.display());
            return Err(Error::options(format!("each clip must have a file of its own, got {found}")));
        }
        lines.push(Line { place, asked, out });
    }
    match lines.is_empty() {
        true => {
            Err(Error::options(format!("a batch must have at least one line that asks for a clip, got none in {file}")))
        }
        false => Ok(lines),
    }
}

/// A prompt, or a JSON object by the names of the flags; and the clip's own file.
fn parse(text: &str) -> Result<(GivenOptions, Option<PathBuf>)> {
    if !text.starts_with('{') {
        return Ok((GivenOptions { prompt: Some(text.to_owned()), ..GivenOptions::default() }, None));
    }
    let mut asked: Map<String, Value> = serde_json::from_str(text)
        .map_err(|e| Error::options(format!("a line that begins with {{ must be a JSON object: {e}")))?;
    let out = match asked.remove(OUT) {
        None => None,
        Some(Value::String(path)) => Some(path.into()),
        Some(other) => return Err(Error::options(format!("\"{OUT}\" must be a path in quotes, got {other}"))),
    };
    if let Some(name) = asked.keys().find(|name| !rows().any(|(known, _)| known == name.as_str())) {
        let known: Vec<&str> = rows().map(|(known, _)| known).chain([OUT]).collect();
        return Err(Error::options(format!("a clip of a batch takes {}, got {name:?}", known.join(", "))));
    }
    Ok((options_of(asked)?, out))
}

/// The rows of the table that a line can name, by their flags. A preset is chosen for all.
fn rows() -> impl Iterator<Item = (&'static str, &'static OptionSpec)> {
    let rows = CALLER_OPTIONS.iter().chain(MODEL_OPTIONS).filter(|row| row.name != "preset");
    rows.filter_map(|row| Some((row.flag?, row)))
}

fn options_of(mut asked: Map<String, Value>) -> Result<GivenOptions> {
    let mut lists = BTreeMap::new();
    for (name, row) in rows() {
        let Some(value) = asked.get_mut(name) else { continue };
        let (fits, kind) = match row.kind {
            Kind::Text | Kind::Choice(_) => (value.is_string(), "words in quotes"),
            Kind::Label => {
                if value.is_u64() {
                    *value = value.to_string().into();
                }
                (value.is_string(), "a number or a name in quotes")
            }
            Kind::Whole => (value.is_u64(), "a whole number, 0 or more"),
            Kind::Number => (value.is_number(), "a number"),
            Kind::Flag => (value.is_boolean(), "true or false"),
            Kind::List => {
                let numbers =
                    value.as_array().and_then(|all| all.iter().map(Value::as_f64).collect::<Option<Vec<_>>>());
                let fits = numbers.is_some();
                lists.extend(numbers.map(|numbers| (name, numbers)));
                (fits, "numbers in brackets")
            }
        };
        if !fits {
            return Err(Error::options(format!("\"{name}\" must be {kind}, got {value}")));
        }
    }
    Ok(GivenOptions::from_values(|row| {
        let name = row.flag?;
        let value = asked.get(name)?;
        match row.kind {
            Kind::Text | Kind::Label | Kind::Choice(_) => value.as_str().map(OptionValue::Text),
            Kind::Whole => value.as_u64().map(OptionValue::Whole),
            Kind::Number => value.as_f64().map(OptionValue::Number),
            Kind::Flag => value.as_bool().map(OptionValue::Flag),
            Kind::List => lists.get(name).map(|numbers| OptionValue::List(numbers)),
        }
    }))
}

/// What a line asks for, and beside it what holds for all. Steps and levels of noise are one thing, and so are prompt and class.
fn over(line: GivenOptions, common: &GivenOptions) -> GivenOptions {
    let mut common = common.clone();
    if line.num_steps.is_some() || line.sigmas.is_some() {
        (common.num_steps, common.sigmas) = (None, None);
    }
    if line.prompt.is_some() || line.class_label.is_some() {
        (common.prompt, common.class_label) = (None, None);
    }
    line.or(&common)
}

/// Where a file will lie: `a.gif`, `./a.gif` and `b/../a.gif` are one. A folder that is not there is refused later.
fn resolved(out: &Path) -> PathBuf {
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    folder.canonicalize().unwrap_or_else(|_| folder.to_owned()).join(out.file_name().unwrap_or_default())
}

/// `clip.gif` → `clip-3.gif`
fn numbered(out: &Path, number: usize) -> PathBuf {
    let mut name = out.file_stem().unwrap_or_default().to_owned();
    name.push(format!("-{number}"));
    if let Some(extension) = out.extension() {
        name.push(".");
        name.push(extension);
    }
    out.with_file_name(name)
}

/// An error that says where it comes from, if that is something to be mended there.
fn blame(place: &str, error: Error) -> Error {
    match error {
        Error::InvalidOptions(why) => Error::InvalidOptions(format!("{place}: {why}")),
        Error::OutOfMemory(why) => Error::OutOfMemory(format!("{place}: {why}")),
        Error::Fetch(why) => Error::Fetch(format!("{place}: {why}")),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, all: Option<&str>) -> std::result::Result<Vec<Line>, String> {
        lines(text, "batch.jsonl", all.map(Path::new)).map_err(|e| e.to_string())
    }

    #[test]
    fn a_line_is_a_prompt_or_an_object_by_the_names_of_the_flags() {
        let text = r#"
a red fox in snow

{"prompt": "a ball", "width": 192, "frames": 25, "guidance": 1, "class": 7, "sigmas": [1, 0.5], "out": "a/ball.png"}"#;
        let found = read(text, Some("clips/clip.gif")).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(
            (found[0].asked.prompt.as_deref(), found[0].out.as_path()),
            (Some("a red fox in snow"), Path::new("clips/clip-1.gif"))
        );
        let ball = &found[1];
        assert_eq!((ball.place.as_str(), ball.out.as_path()), ("batch.jsonl, line 4", Path::new("a/ball.png")));
        let asked = GivenOptions {
            prompt: Some("a ball".into()),
            width: Some(192),
            num_frames: Some(25),
            guidance_scale: Some(1.0),
            class_label: Some("7".into()),
            sigmas: Some(vec![1.0, 0.5]),
            ..GivenOptions::default()
        };
        assert_eq!(ball.asked, asked);
    }

    #[test]
    fn each_refusal_names_the_line_the_rule_and_what_was_found() {
        let refused = |text: &str, words: &str| {
            let why = read(text, Some("clip.gif")).unwrap_err();
            assert!(why.contains(words), "{words:?} is not in: {why}");
        };
        refused(" \n\n", "a batch must have at least one line that asks for a clip, got none in batch.jsonl");
        refused("a ball\n{\"prompt\": ", "batch.jsonl, line 2: a line that begins with { must be a JSON object: ");
        refused(r#"{"prompt": "a", "numFrames": 5}"#, "line 1: a clip of a batch takes prompt, class, seed, negative,");
        refused(r#"{"prompt": "a", "preset": "rcm"}"#, "shift, sampler, sigmas, out, got \"preset\"");
        refused(r#"{"prompt": "a", "width": "192"}"#, "\"width\" must be a whole number, 0 or more, got \"192\"");
        refused(r#"{"prompt": "a", "sigmas": [1, "x"]}"#, "\"sigmas\" must be numbers in brackets, got [1,\"x\"]");
        refused(r#"{"prompt": "a", "out": 7}"#, "\"out\" must be a path in quotes, got 7");
        let twice = "{\"out\": \"a.gif\"}\n{\"out\": \"a.gif\"}";
        refused(
            twice,
            "each clip must have a file of its own, got a.gif in batch.jsonl, line 1 and batch.jsonl, line 2",
        );
        let spelled = "{\"out\": \"a.gif\"}\n{\"out\": \"src/.././a.gif\"}";
        refused(spelled, "got src/.././a.gif in batch.jsonl, line 1 and batch.jsonl, line 2");
        let why = read("a ball", None).unwrap_err();
        assert!(why.contains("line 1: \"out\" must name the clip's file where --out names none for all"), "{why}");
    }

    #[test]
    fn what_a_line_says_goes_before_what_holds_for_all() {
        let common = GivenOptions {
            prompt: Some("a ball".into()),
            num_steps: Some(9),
            height: Some(64),
            ..GivenOptions::default()
        };
        let line = GivenOptions { sigmas: Some(vec![1.0]), width: Some(96), ..GivenOptions::default() };
        let both = over(line, &common);
        assert_eq!((both.prompt.as_deref(), both.num_steps, both.sigmas), (Some("a ball"), None, Some(vec![1.0])));
        assert_eq!((both.width, both.height), (Some(96), Some(64)));
        let class = over(GivenOptions { class_label: Some("7".into()), ..GivenOptions::default() }, &common);
        assert_eq!((class.prompt, class.num_steps), (None, Some(9)));
    }

    #[test]
    fn clips_without_files_of_their_own_are_numbered() {
        assert_eq!(numbered(Path::new("a/clip.tar.gif"), 12), Path::new("a/clip.tar-12.gif"));
        assert_eq!(numbered(Path::new("clip"), 1), Path::new("clip-1"));
    }
}
