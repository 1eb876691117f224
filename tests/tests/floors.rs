//! Imports inside the crate only point down the house's floors, and stages do not know each other.
//! The plan is in ARCHITECTURE of the README; this reads every `crate::…` and `super::…` path in crate/src.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// From the ground up. Modules of one floor may use each other, except the stages.
const FLOORS: [(&str, &[&str]); 8] = [
    ("ground", &["condition", "config", "device", "error", "host", "memory", "options", "pace", "size"]),
    ("bytes", &["weights"]),
    ("kernels", &["kernels"]),
    ("blocks", &["nn"]),
    ("stages", STAGES),
    ("loop", &["sampling"]),
    ("order", &["pipeline"]),
    ("border", &["contract", "web", "main", "cli"]),
];
const STAGES: &[&str] = &["tokenizer", "noise", "schedulers", "models", "pixels"];

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|(_, modules)| modules.contains(&module))
}

/// Why `from` must not use `to`, if so.
fn broken_rule(from: &str, to: &str) -> Option<String> {
    let (Some(a), Some(b)) = (floor(from), floor(to)) else {
        let stray = if floor(from).is_none() { from } else { to };
        return Some(format!("{stray} has no floor: add it to FLOORS in tests/tests/floors.rs"));
    };
    if b > a {
        return Some(format!("{from} ({}) must not use {to} ({}), which is above it", FLOORS[a].0, FLOORS[b].0));
    }
    (from != to && STAGES.contains(&from) && STAGES.contains(&to))
        .then(|| format!("{from} must not use {to}: stages do not know each other, only the pipeline does"))
}

/// The top-level modules that a source text names; `depth` is the module's distance from the crate's root.
fn modules_used(source: &str, depth: usize) -> BTreeSet<String> {
    let code: String =
        source.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    let mut used = BTreeSet::new();
    for prefix in ["crate::".to_owned(), "super::".repeat(depth)] {
        for (at, _) in code.match_indices(&prefix) {
            // `super::super::x` also contains the shorter prefix: what is matched must start the path.
            if code[..at].ends_with("::") || code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
                continue;
            }
            let rest = &code[at + prefix.len()..];
            let names: Vec<String> = match rest.strip_prefix('{') {
                None => first_name(rest).into_iter().collect(),
                Some(group) => top_level_items(group).iter().filter_map(|item| first_name(item)).collect(),
            };
            // `super::helper` in a test module at the end of a file names no module.
            used.extend(names.into_iter().filter(|name| prefix == "crate::" || floor(name).is_some()));
        }
    }
    used
}

/// The module at the start of a path; macros and types at the crate's root are no module.
fn first_name(path: &str) -> Option<String> {
    let name: String = path.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    name.starts_with(|c: char| c.is_lowercase()).then_some(name)
}

/// `a, b::{c, d}} …` → `a`, `b::{c, d}`.
fn top_level_items(group: &str) -> Vec<String> {
    let (mut depth, mut items) = (0, vec![String::new()]);
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => items.push(String::new()),
            _ => {}
        }
        if !(c == ',' && depth == 0) {
            items.last_mut().expect("never empty").push(c);
        }
    }
    items
}

/// All `.rs` files below `folder`.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("crate/src can be read") {
        let path = entry.expect("a directory entry").path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files
}

/// Each source file with the segments of its module path (`models`, `wan`, `vae`).
fn modules() -> Vec<(PathBuf, Vec<String>)> {
    let src = tabreel_tests::root().join("crate/src");
    sources(&src)
        .into_iter()
        .filter(|file| *file != src.join("lib.rs"))
        .map(|file| {
            let path = file.strip_prefix(&src).expect("below src").with_extension("");
            let mut segments: Vec<String> = path.iter().map(|s| s.to_string_lossy().into_owned()).collect();
            segments.retain(|s| s != "mod");
            (file, segments)
        })
        .collect()
}

#[test]
fn imports_only_point_down() {
    let files = modules();
    assert!(files.len() > 10, "crate/src holds {} files only", files.len());
    let mut broken = Vec::new();
    for (file, segments) in files {
        let source = std::fs::read_to_string(&file).expect("a source file");
        let own = &segments[0];
        for used in modules_used(&source, segments.len()).iter().filter(|used| *used != own) {
            broken.extend(broken_rule(own, used).map(|why| format!("{}: {why}", file.display())));
        }
        if floor(own).is_none() {
            broken.push(format!("{}: {own} has no floor: add it to FLOORS", file.display()));
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn only_the_border_names_js_values() {
    for (file, segments) in modules() {
        let source = std::fs::read_to_string(&file).expect("a source file");
        assert!(segments[0] == "web" || !source.contains("JsValue"), "{} names JsValue", file.display());
    }
}

#[test]
fn an_upward_or_sideways_import_is_found() {
    let used = |source, depth| modules_used(source, depth).into_iter().collect::<Vec<_>>();
    assert_eq!(used("use crate::nn::{attention, rope};", 1), ["nn"]);
    assert_eq!(used("use crate::{device::Compute, nn::{conv, linear}, pipeline};", 2), ["device", "nn", "pipeline"]);
    assert_eq!(used("let x = crate::weights::open(); // crate::web", 1), ["weights"]);
    assert_eq!(used("use super::super::pipeline::Options;", 2), ["pipeline"]);
    assert_eq!(used("use super::names;", 2), Vec::<String>::new());
    assert_eq!(used("mod tests { use super::helper; }", 1), Vec::<String>::new());
    assert!(broken_rule("nn", "pipeline").is_some());
    assert!(broken_rule("umt5", "noise").is_some());
    assert!(broken_rule("weights", "surprise").is_some());
    assert!(broken_rule("pipeline", "models").is_none());
    assert!(broken_rule("config", "error").is_none());
}
