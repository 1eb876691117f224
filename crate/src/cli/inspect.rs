//! `tabreel inspect`: what a weight file, a model or a clip holds, what is missing or left over, and whether this machine can
//! run it. Only headers are read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use clap::Args;
use serde_json::{Value, json};

use super::catalogue;
use super::identity::Identity;
use super::kind;
use super::output::recipe;
use super::room;
use crate::device::Compute;
use crate::error::{Error, Result};
use crate::models::registry::{Registry, Role};
use crate::options::Presets;
use crate::pipeline::{Inspection, LOOSE, ModelCard, ModelFiles, WEIGHTS, inspect, part_files};
use crate::weights::source::DiskFile;
use crate::weights::{FileFormat, WeightFile};

/// Options of `inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// A model folder, the folder of one component, a .safetensors, .gguf, .pt or .pth file, or a clip made by `generate`, whose recipe is
    /// shown. Several files are taken as the parts of one model.
    #[arg(value_name = "DIR|FILE", required = true)]
    paths: Vec<PathBuf>,
    /// Model folder: says whether the clip was made with it.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
}

/// Runs `inspect`.
///
/// # Errors
/// [`Error::Fetch`] when something cannot be read, [`Error::Weights`] when a file is damaged, [`Error::InvalidOptions`] for a model
/// beside what is no clip.
pub fn run(args: InspectArgs, json: bool) -> Result<()> {
    let mut report = match &args.paths[..] {
        [path] => one(path)?,
        paths => {
            let mut files = ModelFiles::default();
            let mut told = Vec::new();
            for path in paths {
                add_loose(&mut files, path)?;
                if WeightFile::open_now(Rc::new(DiskFile::open(path)?), &path.to_string_lossy()).is_ok() {
                    told.push(file_report(path)?);
                }
            }
            let found = found(&files)?;
            json!({ "type": "set", "files": told, "presets": presets_beside(&found)?, "inspection": found })
        }
    };
    if let Some(folder) = &args.model {
        compare(&mut report, folder)?;
    }
    print(&if json { report.to_string() } else { words(&report) })
}

/// Adds whether a clip was made with the model in a folder.
fn compare(report: &mut Value, folder: &Path) -> Result<()> {
    if report["type"] != "clip" {
        let found = report["type"].as_str().unwrap_or_default();
        return Err(Error::options(format!("--model is for a clip with a recipe, got a {found}")));
    }
    let model = Identity::of_folder(folder)?;
    let differs = model.differs(&report["recipe"]["model"]);
    report["model"] = json!({ "name": model.name, "hash": model.hash, "same": differs.is_none(), "differs": differs });
    Ok(())
}

fn one(path: &Path) -> Result<Value> {
    if path.is_dir() {
        return if weight_paths(path)?.is_empty() { model_report(path) } else { component_report(path) };
    }
    match recipe::read(path)? {
        Some(recipe) => Ok(json!({ "type": "clip", "path": path.to_string_lossy(), "recipe": recipe })),
        None if is_picture(path)? => Err(Error::options(format!("{} carries no recipe of tabreel's", path.display()))),
        None => {
            let mut report = file_report(path)?;
            let mut files = ModelFiles::default();
            add_loose(&mut files, path)?;
            let found = found(&files)?;
            report["presets"] = json!(presets_beside(&found)?);
            report["inspection"] = json!(found);
            Ok(report)
        }
    }
}

fn component_report(path: &Path) -> Result<Value> {
    let headers: Vec<WeightFile> = weight_paths(path)?.iter().map(|p| read_header(p)).collect::<Result<_>>()?;
    let kind = kind::of(&headers)?;
    let mut report = json!({ "type": "component", "path": path.to_string_lossy(), "class": class_of(path), "kind": kind,
        "files": weight_paths(path)?.iter().map(|p| file_report(p)).collect::<Result<Vec<_>>>()? });
    let role = kind["role"].as_str().unwrap_or_default();
    if let Some(part) = Role::ALL.iter().find(|known| known.words() == role) {
        let mut files = ModelFiles::default();
        for name in part_files(path)? {
            files.add(format!("{}/{name}", part.part()), Rc::new(DiskFile::open(&path.join(&name))?));
        }
        report["inspection"] = json!(found(&files)?);
    }
    Ok(report)
}

fn add_loose(files: &mut ModelFiles, path: &Path) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    files.add(format!("{LOOSE}/{name}"), Rc::new(DiskFile::open(path)?));
    Ok(())
}

/// On this machine's CPU, with the memory that is free.
fn found(files: &ModelFiles) -> Result<Inspection> {
    pollster::block_on(inspect(&Registry::default(), files, &Compute::cpu(), room::for_weights()))
}

/// Presets that the catalogue has for the transformer among some files.
fn presets_beside(found: &Inspection) -> Result<Presets> {
    let transformer = found.parts.iter().find(|part| part.part == Role::Denoiser.part());
    catalogue::presets_for(transformer.map_or("", |part| part.name.as_str()))
}

/// Of a folder's card, or, where it has none, of the catalogue. What is wrong with a card, the inspection says.
fn presets_in(files: &ModelFiles) -> Result<Presets> {
    pollster::block_on(async {
        let card = ModelCard::read(files).await?;
        catalogue::presets_of(&Registry::default(), files, &card).await
    })
}

/// Whether a file is a PNG or GIF, which hold no weights.
fn is_picture(path: &Path) -> Result<bool> {
    let mut head = Vec::new();
    let file = File::open(path).map_err(|e| Error::Fetch(format!("{}: {e}", path.display())))?;
    file.take(4).read_to_end(&mut head).map_err(|e| Error::Fetch(format!("{}: {e}", path.display())))?;
    Ok(head == b"\x89PNG" || head == b"GIF8")
}

/// Prints a text; a reader that has gone away (`| head`) is no error.
pub(super) fn print(text: &str) -> Result<()> {
    match writeln!(std::io::stdout(), "{}", text.trim_end()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::Fetch(format!("could not print: {e}"))),
        _ => Ok(()),
    }
}

/// Bytes in words, decimal units.
pub(super) fn size(bytes: u64) -> String {
    scaled(bytes as f64, &["B", "kB", "MB", "GB", "TB"])
}

fn scaled(mut value: f64, units: &[&str]) -> String {
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = if unit == 0 || value >= 99.5 { 0 } else { 1 };
    format!("{value:.digits$} {}", units[unit]).trim_end().to_owned()
}

fn model_report(dir: &Path) -> Result<Value> {
    let index = read_json(&dir.join("model_index.json"));
    let mut components = Vec::new();
    for path in entries(dir)?.into_iter().filter(|p| p.is_dir()) {
        let files = weight_paths(&path)?;
        let (mut parameters, mut tensors, mut types) = (0, 0, BTreeMap::new());
        for file in &files {
            let file = read_header(file)?;
            tensors += file.tensors().len();
            for info in file.tensors() {
                parameters += info.len();
                *types.entry(info.type_name().to_owned()).or_insert(0u64) += info.stored_bytes();
            }
        }
        let bytes: u64 =
            entries(&path)?.iter().filter_map(|p| p.metadata().ok()).filter(|m| m.is_file()).map(|m| m.len()).sum();
        components.push(json!({ "name": path.file_name().map(|n| n.to_string_lossy()), "class": class_of(&path),
            "tensors": tensors, "parameters": parameters, "bytes": bytes, "bytesByType": types }));
    }
    if components.is_empty() {
        return Err(Error::Fetch(format!("{} holds no weights and no components", dir.display())));
    }
    let files = ModelFiles::read_dir(dir)?;
    Ok(json!({ "type": "model", "path": dir.to_string_lossy(), "class": index["_class_name"], "components": components,
        "hash": Identity::of_folder(dir)?.hash, "presets": presets_in(&files).unwrap_or_default(),
        "inspection": found(&files)? }))
}

fn file_report(path: &Path) -> Result<Value> {
    let file = read_header(path)?;
    let tensors: Vec<Value> = file
        .tensors()
        .iter()
        .map(|t| json!({ "name": t.name, "type": t.type_name(), "shape": t.shape, "bytes": t.stored_bytes() }))
        .collect();
    let metadata: BTreeMap<&str, String> = file.metadata().iter().map(|(k, v)| (k.as_str(), v.summary())).collect();
    let format = match file.format() {
        FileFormat::Safetensors => "safetensors",
        FileFormat::Gguf => "GGUF",
        FileFormat::PyTorch => "PyTorch",
    };
    let kind = kind::of(std::slice::from_ref(&file))?;
    Ok(
        json!({ "type": "file", "path": path.to_string_lossy(), "format": format, "kind": kind, "bytes": file.len_bytes(), "metadata": metadata,
        "parameters": file.tensors().iter().map(|t| t.len()).sum::<usize>(), "tensors": tensors }),
    )
}

/// The report as a person reads it.
fn words(report: &Value) -> String {
    let text = |v: &Value| v.as_str().unwrap_or("-").to_owned();
    let count = |v: &Value| scaled(v.as_f64().unwrap_or(0.0), &["", "K", "M", "B"]);
    let bytes = |v: &Value| size(v.as_u64().unwrap_or(0));
    let list = |v: &Value| v.as_array().cloned().unwrap_or_default();
    match report["type"].as_str() {
        Some("model") => {
            let mut rows =
                vec![["component", "class", "tensors", "parameters", "size", "types"].map(String::from).to_vec()];
            for c in list(&report["components"]) {
                let types: Vec<String> = c["bytesByType"]
                    .as_object()
                    .into_iter()
                    .flatten()
                    .map(|(k, v)| format!("{k} {}", bytes(v)))
                    .collect();
                rows.push(vec![
                    text(&c["name"]),
                    text(&c["class"]),
                    c["tensors"].to_string(),
                    count(&c["parameters"]),
                    bytes(&c["bytes"]),
                    types.join(", "),
                ]);
            }
            format!(
                "{} in {}\nhash {}\n\n{}\n{}{}",
                text(&report["class"]),
                text(&report["path"]),
                text(&report["hash"]),
                table(&rows),
                presets_words(report),
                found_words(&report["inspection"])
            )
        }
        Some("set") => {
            let files: Vec<String> = list(&report["files"]).iter().map(words).collect();
            format!("{}\n{}{}", files.join("\n"), presets_words(report), found_words(&report["inspection"]))
        }
        Some("clip") => {
            let recipe = &report["recipe"];
            // The package writes both as objects with a name, the command line the model.
            let name = |v: &Value| v["name"].as_str().or(v.as_str()).unwrap_or("-").to_owned();
            let hash = recipe["model"]["hash"].as_str().map(|hash| ("model hash".to_owned(), hash.to_owned()));
            let rows = ["model", "task"].into_iter().map(|key| (key.to_owned(), name(&recipe[key]))).chain(hash);
            let value = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
            let fields = |key: &str| recipe[key].as_object().cloned().unwrap_or_default().into_iter();
            let rows = rows.chain(fields("options").chain(fields("given")).map(|(key, v)| (key, value(&v))));
            let rows: Vec<Vec<String>> = rows.map(|(key, value)| vec![key, value]).collect();
            let compared = match (&report["model"], report["model"]["differs"].as_str()) {
                (Value::Null, _) => String::new(),
                (_, Some(differs)) => format!("\n{differs}"),
                (model, None) => format!("\nmade with {}, the model of --model", text(&model["name"])),
            };
            format!("{}: made by tabreel\n\n{}{compared}", text(&report["path"]), table(&rows))
        }
        Some("component") => {
            let files: Vec<String> = list(&report["files"]).iter().map(words).collect();
            let (class, path) = (text(&report["class"]), text(&report["path"]));
            format!("{class} in {path}\n\n{}\n{}", files.join("\n"), found_words(&report["inspection"]))
        }
        _ => {
            let tensors = list(&report["tensors"]);
            let mut out = format!(
                "{}: {}, {}, {} tensors, {} parameters\n",
                text(&report["path"]),
                text(&report["format"]),
                bytes(&report["bytes"]),
                tensors.len(),
                count(&report["parameters"])
            );
            if let Some(kind) = kind::words(&report["kind"], size) {
                out += &format!("  {kind}\n");
            }
            for (key, value) in report["metadata"].as_object().into_iter().flatten() {
                out += &format!("  {key} = {}\n", text(value));
            }
            let mut rows = vec![["tensor", "type", "shape", "size"].map(String::from).to_vec()];
            for t in tensors {
                let shape: Vec<String> = list(&t["shape"]).iter().map(Value::to_string).collect();
                rows.push(vec![text(&t["name"]), text(&t["type"]), shape.join(" × "), bytes(&t["bytes"])]);
            }
            format!("{out}\n{}\n{}{}", table(&rows), presets_words(report), found_words(&report["inspection"]))
        }
    }
}

/// The presets that `generate --preset` takes, in a line.
fn presets_words(report: &Value) -> String {
    serde_json::from_value(report["presets"].clone()).map_or(String::new(), |presets| catalogue::words(&presets))
}

/// What a model may take, by the names of its capabilities.
const TAKEN: [(&str, &str); 8] = [
    ("text", "text alone"),
    ("image", "a first frame"),
    ("lastImage", "a last frame"),
    ("keyframes", "pictures and clips anywhere"),
    ("mask", "masks"),
    ("control", "a control clip"),
    ("reference", "reference pictures"),
    ("source", "a source clip"),
];

/// What a whole model takes, and what not and why; empty where that is not known.
fn taken_words(can: &Value) -> String {
    let named = |wanted: bool| {
        let names = TAKEN.iter().filter(|(key, _)| can[*key].as_bool() == Some(wanted)).map(|(_, words)| *words);
        names.collect::<Vec<_>>().join(", ")
    };
    let (yes, no) = (named(true), named(false));
    let mut out = if yes.is_empty() { String::new() } else { format!("takes: {yes}\n") };
    if let Some(classes) = can["classes"].as_u64().filter(|classes| *classes > 0) {
        out += &format!("shows one of {classes} classes\n");
    }
    if !no.is_empty() {
        let why = can["why"].as_str().filter(|why| !why.is_empty()).map_or(String::new(), |why| format!(": {why}"));
        out += &format!("takes not: {no}{why}\n");
    }
    out
}

/// A line for each part, and the verdict; empty where nothing was found out.
fn found_words(found: &Value) -> String {
    let list = |v: &Value| v.as_array().cloned().unwrap_or_default();
    let mut out = String::new();
    for part in list(&found["parts"]) {
        let text = |key: &str| part[key].as_str().unwrap_or_default().to_owned();
        let name = if text("name").is_empty() { String::new() } else { format!(" {},", text("name")) };
        let memory = part["memory"].as_u64().filter(|bytes| *bytes > 0);
        let memory = memory.map_or(String::new(), |bytes| format!(", {} in memory on the CPU", size(bytes)));
        let stored = size(part["bytes"].as_u64().unwrap_or(0));
        out += &format!("{}:{name} {stored}{memory}\n", text("part"));
        let left = list(&part["leftOver"]);
        if let Some(first) = left.first().and_then(Value::as_str) {
            out += &format!("  left over: {} tensors (the first: {first})\n", left.len());
        }
        if !text("problem").is_empty() {
            out += &format!("  problem: {}\n", text("problem"));
        }
    }
    out += &taken_words(&found["capabilities"]);
    let planned = |key: &str| found["plan"][key].as_u64().map(size);
    if let (Some(load), Some(peak)) = (planned("loadBytes"), planned("peakBytes")) {
        out += &format!("memory on the CPU: {load} while it loads, {peak} or more for a clip of its own size\n");
    }
    if let Some(why) = found["caution"].as_str() {
        out += &format!("may not suffice: {why}\n");
    }
    match (found["runs"].as_bool(), found["reason"].as_str()) {
        (Some(true), Some(why)) => out + &format!("runs on this machine's CPU: {why}\n"),
        (Some(false), Some(why)) => out + &format!("does not run as it is: {why}\n"),
        _ => out,
    }
}

/// Columns as wide as their widest cell.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, w)| format!("{cell:<w$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// The class a component's configuration names.
fn class_of(dir: &Path) -> Value {
    for name in ["config.json", "scheduler_config.json", "tokenizer_config.json"] {
        let config = read_json(&dir.join(name));
        for class in [&config["_class_name"], &config["architectures"][0], &config["tokenizer_class"]] {
            if class.is_string() {
                return class.clone();
            }
        }
    }
    Value::Null
}

/// A JSON file, or null where there is none to read: the report then has a gap instead of failing.
fn read_json(path: &Path) -> Value {
    std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// The weights that a load of a part takes.
fn weight_paths(dir: &Path) -> Result<Vec<PathBuf>> {
    let is_weights = |name: &String| WEIGHTS.iter().any(|end| name.ends_with(end));
    Ok(part_files(dir)?.into_iter().filter(is_weights).map(|name| dir.join(name)).collect())
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let failed = |e: std::io::Error| Error::Fetch(format!("{}: {e}", dir.display()));
    let mut paths = std::fs::read_dir(dir)
        .map_err(failed)?
        .map(|e| e.map(|e| e.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    paths.sort();
    Ok(paths)
}

/// Opens a file; only its header is read.
fn read_header(path: &Path) -> Result<WeightFile> {
    WeightFile::open_now(Rc::new(DiskFile::open(path)?), &path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(path: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(path)
    }

    #[test]
    fn a_gguf_is_told_with_metadata_types_and_shapes() {
        let text = words(&file_report(&fixture("wan_gguf/wan.gguf")).unwrap());
        assert!(text.contains("general.architecture = wan"), "{text}");
        assert!(
            text.lines()
                .any(|l| l.starts_with("patch_embedding.weight") && l.contains("F32") && l.contains("× 4 × 1 × 2 × 2")),
            "{text}"
        );
        assert!(text.lines().any(|l| l.starts_with("blocks.0.self_attn.q.weight") && l.contains("Q8_0")), "{text}");
    }

    #[test]
    fn a_model_folder_is_told_by_components() {
        let report = model_report(&fixture("folder_t2v/model")).unwrap();
        let component =
            |name: &str| report["components"].as_array().unwrap().iter().find(|c| c["name"] == name).unwrap().clone();
        assert_eq!(report["class"], "WanPipeline");
        assert_eq!(component("transformer")["class"], "WanTransformer3DModel");
        assert!(component("vae")["parameters"].as_u64().unwrap() > 0);
        assert_eq!(component("scheduler")["class"], "UniPCMultistepScheduler");
    }

    #[test]
    fn a_folder_without_weights_and_a_file_of_another_kind_are_errors() {
        let of = |paths: Vec<PathBuf>| InspectArgs { paths, model: None };
        assert!(matches!(run(of(vec![fixture("../src")]), true), Err(Error::Fetch(_))));
        assert!(matches!(run(of(vec![fixture("wan_gguf/config.json")]), true), Err(Error::Weights { .. })));
        assert!(matches!(run(of(vec!["/nonexistent".into()]), true), Err(Error::Fetch(_))));
    }

    #[test]
    fn what_a_model_takes_is_told_and_why_not_the_rest() {
        use crate::condition::Capabilities;
        let words = |can: Capabilities| taken_words(&json!(can));
        let all = words(Capabilities::all());
        assert!(all.starts_with("takes: text alone, a first frame, ") && all.lines().count() == 1, "{all}");
        let first = Capabilities { image: true, ..Capabilities::text_only("it takes text and a first frame only") };
        assert_eq!(
            words(first),
            "takes: text alone, a first frame, a source clip\n\
             takes not: a last frame, pictures and clips anywhere, masks, a control clip, reference pictures: it takes text and a \
             first frame only\n"
        );
        assert!(words(Capabilities::of_classes(10, true, "it shows classes")).starts_with("shows one of 10 classes\n"));
        assert_eq!(taken_words(&Value::Null), "");
    }

    #[test]
    fn sizes_are_given_in_words() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(999), "999 B");
        assert_eq!(size(12_345), "12.3 kB");
        assert_eq!(size(2_500_000_000), "2.5 GB");
    }
}
