//! What the files of crate/src import from each other, read from their text: rustfmt's layout is relied on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

/// A path as segments from the crate's root: `["models", "wan", "Vae"]`.
pub type Segments = Vec<String>;

/// A source file.
#[derive(Debug)]
pub struct Module {
    /// Where it lies.
    pub file: PathBuf,
    /// Its place in the crate: `["models", "wan", "vae"]`.
    pub path: Segments,
    /// Its text without comments.
    pub text: String,
}

impl Module {
    /// A module with this text.
    pub fn new(file: PathBuf, path: Segments, source: &str) -> Self {
        let lines = source.lines().map(|line| line.split("//").next().unwrap_or_default());
        Self { file, path, text: lines.collect::<Vec<_>>().join("\n") }
    }

    /// Paths from the crate's root that its text names, its test module's too; some may be no module of the crate.
    pub fn paths(&self) -> BTreeSet<Segments> {
        Names::of(&self.path, &self.text).used
    }

    /// The text without test modules, which end a file.
    fn without_tests(&self) -> &str {
        let end = self.text.match_indices("#[cfg(test)]\nmod ").find(|(at, _)| {
            let line = self.text[*at..].lines().nth(1).unwrap_or_default();
            line.ends_with('{')
        });
        end.map_or(&self.text, |(at, _)| &self.text[..at])
    }
}

/// Every module below `src`, the crate's root aside.
pub fn modules(src: &Path) -> Vec<Module> {
    let mut files = sources(src);
    files.retain(|file| *file != src.join("lib.rs"));
    let module = |file: PathBuf| {
        let place = file.strip_prefix(src).expect("below src").with_extension("");
        let mut path: Segments = place.iter().map(|s| s.to_string_lossy().into_owned()).collect();
        path.retain(|s| s != "mod");
        let source = std::fs::read_to_string(&file).expect("a source file");
        Module::new(file, path, &source)
    };
    files.into_iter().map(module).collect()
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

/// Names of a text, from the crate's root.
#[derive(Debug, Default)]
struct Names {
    /// All that it names.
    used: BTreeSet<Segments>,
    /// Names that it brings into scope, and its children.
    bound: BTreeMap<String, Segments>,
    /// Those of them that others see.
    exported: BTreeMap<String, Segments>,
    /// Children that exist in tests only.
    tests: BTreeSet<String>,
}

impl Names {
    fn of(module: &[String], text: &str) -> Self {
        let mut names = Self::default();
        for (at, _) in text.match_indices("mod ") {
            let declared = &text[at + 4..];
            let Some((child, _)) = declared.split_once(';').filter(|(child, _)| child.chars().all(in_name)) else {
                continue;
            };
            names.bound.insert(child.to_string(), [module, &[child.to_string()]].concat());
            if text[..at].trim_end().ends_with("#[cfg(test)]") {
                names.tests.insert(child.to_string());
            }
        }
        // What is imported first: a path in the code may start with it.
        for imports in [true, false] {
            for (at, start) in starts_of_paths(text) {
                let before = text[..at].trim_end();
                let import = before.ends_with("use") && !before[..before.len() - 3].ends_with(in_name);
                let Some(base) = (import == imports).then(|| names.base(module, start)).flatten() else { continue };
                let mut leaves = Vec::new();
                expand(&text[at + start.len()..], &base, &mut leaves);
                let public = before.strip_suffix("use").is_some_and(|head| {
                    let head = head.trim_end();
                    head.ends_with("pub") || head.ends_with("pub(crate)") || head.ends_with("pub(super)")
                });
                for (path, name) in leaves {
                    if import {
                        names.bound.insert(name.clone(), path.clone());
                    }
                    if public {
                        names.exported.insert(name, path.clone());
                    }
                    names.used.insert(path);
                }
            }
        }
        names
    }

    /// What the first segment of a path stands for; `None` for another crate.
    fn base(&self, module: &[String], start: &str) -> Option<Segments> {
        let ups = start.matches("super").count();
        match start {
            "crate" => Some(Vec::new()),
            "self" => Some(module.to_vec()),
            _ if ups > 0 => Some(module[..module.len().checked_sub(ups)?].to_vec()),
            _ => self.bound.get(start).cloned(),
        }
    }
}

fn in_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where paths of two segments and more start, with their first segment; `super::super` counts as one.
fn starts_of_paths(text: &str) -> Vec<(usize, &str)> {
    let mut starts = Vec::new();
    let mut from = 0;
    while let Some(found) = text[from..].find("::") {
        let end = from + found;
        let at =
            text[..end].rfind(|c| !in_name(c)).map_or(0, |i| i + text[i..].chars().next().map_or(1, char::len_utf8));
        let mut next = end + 2;
        if at < end && !text[..at].ends_with("::") {
            let mut first = end;
            while text[at..first].ends_with("super") && text[first + 2..].starts_with("super::") {
                first += "::super".len();
            }
            starts.push((at, &text[at..first]));
            next = first + 2;
        }
        from = next;
    }
    starts
}

/// The paths of `::a::{b, c::d as e}` below `base`, each with the name that an import of it binds.
fn expand(rest: &str, base: &[String], leaves: &mut Vec<(Segments, String)>) {
    let last = || base.last().cloned().unwrap_or_default();
    let Some(rest) = rest.strip_prefix("::") else {
        let name = rest.trim_start().strip_prefix("as ").map_or_else(last, first_name);
        leaves.push((base.to_vec(), name));
        return;
    };
    let rest = rest.trim_start();
    if let Some(group) = rest.strip_prefix('{') {
        for item in items(group) {
            expand(&format!("::{}", item.trim()), base, leaves);
        }
        return;
    }
    let name = first_name(rest);
    match name.as_str() {
        // `*`, `<T>`, the end of a group.
        "" | "self" => leaves.push((base.to_vec(), last())),
        _ => expand(&rest[name.len()..], &[base, std::slice::from_ref(&name)].concat(), leaves),
    }
}

fn first_name(text: &str) -> String {
    text.chars().take_while(|c| in_name(*c)).collect()
}

/// `a, b::{c, d}} …` → `a`, `b::{c, d}`.
fn items(group: &str) -> Vec<String> {
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
    items.retain(|item| !item.trim().is_empty());
    items
}

/// Which module's code needs which other's: by index, test modules left out. A name that a module only passes on leads
/// to where it comes from; what a child takes from its own parent is not counted, since it is the parent's part.
pub fn edges(modules: &[Module]) -> Vec<BTreeSet<usize>> {
    let index: BTreeMap<&[String], usize> = modules.iter().enumerate().map(|(i, m)| (m.path.as_slice(), i)).collect();
    let names: Vec<Names> = modules.iter().map(|m| Names::of(&m.path, m.without_tests())).collect();
    let parent = |i: usize| modules[i].path.split_last().and_then(|(_, path)| index.get(path).copied());
    let of_tests = |i: usize| {
        let own = modules[i].path.last().expect("a module has a name");
        parent(i).is_some_and(|p| names[p].tests.contains(own))
    };
    let resolve = |path: &Segments| {
        let mut path = path.clone();
        // A chain of re-exports is short.
        for _ in 0..8 {
            let length = (1..=path.len()).rev().find(|n| index.contains_key(&path[..*n]))?;
            let found = index[&path[..length]];
            match path.get(length).and_then(|name| names[found].exported.get(name)) {
                Some(target) => path = [target, &path[length + 1..]].concat(),
                None => return Some(found),
            }
        }
        None
    };
    let of = |i: usize| {
        let used = names[i].used.iter().filter_map(&resolve);
        used.filter(|j| *j != i && Some(*j) != parent(i) && !of_tests(*j)).collect()
    };
    (0..modules.len()).map(|i| if of_tests(i) { BTreeSet::new() } else { of(i) }).collect()
}

/// The shortest circle through each module that is in one, each circle once.
pub fn circles(edges: &[BTreeSet<usize>]) -> BTreeSet<Vec<usize>> {
    let shortest = |start: usize| {
        let mut before = vec![None; edges.len()];
        let mut queue = VecDeque::from([start]);
        while let Some(at) = queue.pop_front() {
            for &next in &edges[at] {
                if next == start {
                    let mut circle = vec![at];
                    while let Some(previous) = before[circle[circle.len() - 1]] {
                        circle.push(previous);
                    }
                    circle.reverse();
                    return Some(circle);
                }
                if before[next].is_none() {
                    before[next] = Some(at);
                    queue.push_back(next);
                }
            }
        }
        None
    };
    let from_smallest = |mut circle: Vec<usize>| {
        let first = (0..circle.len()).min_by_key(|i| circle[*i]).unwrap_or_default();
        circle.rotate_left(first);
        circle
    };
    (0..edges.len()).filter_map(shortest).map(from_smallest).collect()
}
