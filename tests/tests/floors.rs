//! Imports inside the crate only point down the house's floors, stages do not know each other, and no files import each
//! other in a circle. The plan is in ARCHITECTURE of the README; this reads every path into the crate in crate/src.

use std::collections::BTreeSet;
use std::path::PathBuf;

use imports::{Module, Segments, circles, edges, modules};

#[path = "floors/imports.rs"]
mod imports;

/// From the ground up. Modules of one floor may use each other, except the stages.
const FLOORS: [(&str, &[&str]); 8] = [
    ("ground", &["condition", "config", "device", "error", "host", "memory", "options", "pace", "size"]),
    ("bytes", &["weights"]),
    ("kernels", &["kernels"]),
    ("blocks", &["nn"]),
    ("stages", STAGES),
    ("loop", &["sampling"]),
    ("order", &["pipeline", "tasks"]),
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

fn src() -> PathBuf {
    tabreel_tests::root().join("crate/src")
}

#[test]
fn imports_only_point_down() {
    let files = modules(&src());
    assert!(files.len() > 10, "crate/src holds {} files only", files.len());
    let rooms: BTreeSet<&String> = files.iter().map(|module| &module.path[0]).collect();
    let mut broken = Vec::new();
    for module in &files {
        let own = &module.path[0];
        let used: BTreeSet<Segments> = module.paths();
        let used: BTreeSet<&String> = used.iter().filter_map(|path| path.first()).collect();
        // Anything else is a macro or type at the crate's root, or `super::helper` in a test module.
        for used in used.intersection(&rooms).filter(|used| **used != own) {
            broken.extend(broken_rule(own, used).map(|why| format!("{}: {why}", module.file.display())));
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn every_room_is_on_one_floor() {
    let entries = std::fs::read_dir(src()).expect("crate/src can be read");
    let names = entries.map(|entry| entry.expect("a directory entry").path().with_extension(""));
    let mut rooms: BTreeSet<String> =
        names.map(|path| path.file_name().unwrap_or_default().to_string_lossy().into_owned()).collect();
    rooms.remove("lib");
    let planned: Vec<&str> = FLOORS.iter().flat_map(|(_, modules)| modules.iter().copied()).collect();
    for room in &rooms {
        let floors = planned.iter().filter(|planned| *planned == room).count();
        assert_eq!(floors, 1, "crate/src/{room} is on {floors} floors: it needs one in FLOORS");
    }
    for room in planned {
        assert!(rooms.contains(room), "FLOORS has {room}, which is not in crate/src");
    }
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let files = modules(&src());
    let names = |circle: &Vec<usize>| {
        let names: Vec<String> = circle.iter().chain(&circle[..1]).map(|&i| files[i].path.join("/")).collect();
        names.join(" -> ")
    };
    let found: Vec<String> = circles(&edges(&files)).iter().map(names).collect();
    assert!(found.is_empty(), "what both need goes to a file below both:\n{}", found.join("\n"));
}

#[test]
fn only_the_border_names_js_values() {
    for module in modules(&src()) {
        assert!(module.path[0] == "web" || !module.text.contains("JsValue"), "{} names JsValue", module.file.display());
    }
}

fn module(path: &str, source: &str) -> Module {
    Module::new(PathBuf::from(path), path.split('/').map(str::to_owned).collect(), source)
}

#[test]
fn an_upward_or_sideways_import_is_found() {
    let used = |source, path| -> Vec<String> {
        module(path, source).paths().into_iter().map(|path| path.join("::")).collect()
    };
    assert_eq!(used("use crate::nn::{attention, rope};", "models"), ["nn::attention", "nn::rope"]);
    assert_eq!(
        used("use crate::{device::Compute, nn::{conv, linear as l}, pipeline};", "models/wan"),
        ["device::Compute", "nn::conv", "nn::linear", "pipeline"]
    );
    assert_eq!(used("let x = crate::weights::open(); // crate::web", "nn"), ["weights::open"]);
    assert_eq!(used("use super::super::pipeline::Options;", "models/wan"), ["pipeline::Options"]);
    assert_eq!(used("use super::names;", "models/wan"), ["models::names"]);
    assert_eq!(
        used("use super::cpu;\nfn f() { cpu::rows::rms() }", "kernels/norm"),
        ["kernels::cpu", "kernels::cpu::rows::rms"]
    );
    assert_eq!(used("use std::fs;\nfn f() { fs::read() }", "nn"), Vec::<String>::new());
    assert!(broken_rule("nn", "pipeline").is_some());
    assert!(broken_rule("tokenizer", "noise").is_some());
    assert!(broken_rule("weights", "surprise").is_some());
    assert!(broken_rule("pipeline", "models").is_none());
    assert!(broken_rule("config", "error").is_none());
}

#[test]
fn a_circle_is_found() {
    let circle = |files: &[(&str, &str)]| {
        let modules: Vec<Module> = files.iter().map(|(path, source)| module(path, source)).collect();
        circles(&edges(&modules)).into_iter().collect::<Vec<_>>()
    };
    assert_eq!(
        circle(&[("a", "use crate::b::B;"), ("b", "use crate::c;"), ("c", "fn f(x: crate::a::A) {}")]),
        [[0, 1, 2]]
    );
    assert!(circle(&[("a", "use crate::b::B;"), ("b", "use crate::c::C;"), ("c", "use crate::d::D;")]).is_empty());
    // Through a module that is imported, and through one that passes a name on.
    let children = "pub mod x;\npub mod y;\npub use y::{Y, z};";
    assert_eq!(
        circle(&[("a", "use crate::b;\nfn f() { b::x::g() }"), ("b", children), ("b/x", "use crate::a;"), ("b/y", "")]),
        [[0, 2]]
    );
    assert_eq!(
        circle(&[("a", "use crate::b::Y;"), ("b", children), ("b/x", ""), ("b/y", "use crate::a::A;")]),
        [[0, 3]]
    );
    assert_eq!(circle(&[("b", children), ("b/x", "use super::Y;"), ("b/y", "use super::x::X;")]), [[1, 2]]);
    // Tests may use what they like; a child's parent is no one else.
    let test = "fn f() {}\n\n#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}";
    assert!(circle(&[("a", "use crate::b::f;"), ("b", test)]).is_empty());
    assert!(
        circle(&[
            ("b", "mod x;\n#[cfg(test)]\nmod tests;\nuse x::X;"),
            ("b/x", "use super::B;"),
            ("b/tests", "use super::x;")
        ])
        .is_empty()
    );
}
