//! Embeds the page into the command line for `tabreel serve`, when `TABREEL_PAGE` names its folder (`npm run build:serve`),
//! absolute or from `crate/`. Without it nothing is read, and `serve` says that the page is missing.

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs, io};

/// A file with a compressed sibling is embedded as it is only up to this length, bytes: the engine's 28 MB are not.
const LARGE: u64 = 1_000_000;

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=TABREEL_PAGE");
    let folder = env::var_os("TABREEL_PAGE").filter(|path| !path.is_empty()).map(PathBuf::from);
    match write_page(folder.as_deref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("cargo::error=TABREEL_PAGE: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Writes `page.rs` into cargo's output folder: the table that `cli/serve/page.rs` includes.
fn write_page(folder: Option<&Path>) -> Result<(), String> {
    let out = env::var_os("OUT_DIR").map(PathBuf::from).ok_or("cargo sets OUT_DIR")?;
    let mut table = String::from("&[\n");
    if let Some(folder) = folder {
        println!("cargo::rerun-if-changed={}", folder.display());
        let told = |e: io::Error| format!("{}: {e}", folder.display());
        let folder = folder.canonicalize().map_err(told)?;
        let mut paths = Vec::new();
        list(&folder, &mut paths).map_err(told)?;
        if !paths.contains(&folder.join("index.html")) {
            return Err(format!("{} holds no index.html: `npm run build` makes the page", folder.display()));
        }
        for path in paths.iter().filter(|path| !is_sibling(path)) {
            table += &row(&folder, path).map_err(|e| format!("{}: {e}", path.display()))?;
        }
    }
    fs::write(out.join("page.rs"), table + "]\n").map_err(|e| format!("page.rs: {e}"))
}

/// All files below a folder, sorted.
fn list(folder: &Path, into: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut entries = fs::read_dir(folder)?.map(|entry| entry.map(|e| e.path())).collect::<io::Result<Vec<_>>>()?;
    entries.sort();
    for path in entries {
        if path.is_dir() { list(&path, into)? } else { into.push(path) }
    }
    Ok(())
}

fn sibling(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Whether this is the compressed form of a file beside it.
fn is_sibling(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "br" || ending == "gz") && path.with_extension("").exists()
}

/// One `Embedded { … }`.
fn row(folder: &Path, path: &Path) -> io::Result<String> {
    let bytes = fs::read(path)?;
    let mut hasher = DefaultHasher::new();
    hasher.write(&bytes);
    let changed = fs::metadata(path)?.modified()?;
    // An older sibling is of an older file.
    let packed = |ending| {
        let at = sibling(path, ending);
        let fresh = fs::metadata(&at).and_then(|meta| meta.modified()).is_ok_and(|time| time >= changed);
        fresh.then_some(at)
    };
    let (br, gzip) = (packed(".br"), packed(".gz"));
    let plain = (br.is_none() && gzip.is_none() || bytes.len() as u64 <= LARGE).then(|| path.to_owned());
    let name = path.strip_prefix(folder).map_err(io::Error::other)?;
    let name: Vec<_> = name.iter().map(|part| part.to_string_lossy()).collect();
    let mut text = format!("Embedded {{ path: {:?}, hash: \"{:016x}\"", name.join("/"), hasher.finish());
    for (field, file) in [("plain", plain), ("br", br), ("gzip", gzip)] {
        let value = file.map_or_else(|| "None".into(), |file| format!("Some(include_bytes!({file:?}))"));
        write!(text, ", {field}: {value}").map_err(io::Error::other)?;
    }
    Ok(text + " },\n")
}
