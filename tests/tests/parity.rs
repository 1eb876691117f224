//! Every fixture folder, replayed in Rust and compared with what the reference implementation gave.
//!
//! `TABREEL_FIXTURES=folder` takes other cases of the same layout, `TABREEL_TEST_DEVICE=gpu` runs them through WebGPU
//! (wgpu on whatever adapter there is); an argument keeps the cases whose name contains it.
//! How the folders are made: `tests/reference/README.md`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use tabreel::device::{Compute, DeviceChoice};
use tabreel::kernels::check::prepare;
use tabreel_tests::{Case, fixtures};

#[path = "parity/classes.rs"]
mod classes;
#[path = "parity/formats.rs"]
mod formats;
#[path = "parity/models.rs"]
mod models;
#[path = "parity/odd.rs"]
mod odd;
#[path = "parity/pipelines.rs"]
mod pipelines;
#[path = "parity/text.rs"]
mod text;

/// Kinds that the generator can write and later issues will port; found in a folder, they are listed,
/// and count neither as passed nor as failed.
const NOT_YET: &[&str] = &["latte", "ltx_dit", "ltx_vae090", "ltx_vae091", "ltx_vae095", "t5"];

/// Relative L2 that each output must stay within.
fn tolerance(compute: &Compute) -> f64 {
    if compute.is_gpu() { 1e-3 } else { 1e-4 }
}

/// Runs a case; `None` when its kind is unknown.
fn run(case: &mut Case, compute: &Compute) -> Option<Result<(), String>> {
    Some(match case.kind() {
        "wan_t2v" | "wan_ti2v" | "wan_flf2v" | "wan_vace" => models::transformer(case, compute),
        "anyflow" => models::flow_map(case, compute),
        "wan_vae21" | "wan_vae22" => models::vae(case, compute),
        "wan_gguf" => models::quantized_transformer(case, compute),
        "gguf" => models::gguf_types(case, compute),
        "taehv" | "taehv_super" => models::taehv(case, compute),
        "dit" | "walt" | "crate" => classes::transformer(case, compute),
        "kl_vae" => classes::vae(case, compute),
        "ddim" => classes::ddim(case, compute),
        "pipe_dit" => classes::folder(case, compute),
        "umt5" => text::umt5(case, compute),
        "clip_vision" => models::clip_vision(case, compute),
        "pipe_clip" => pipelines::clip(case, compute),
        "tokenizer" => text::tokenizer(case),
        "schedulers" => pipelines::schedulers(case, compute),
        "pipe_t2v" | "pipe_ti2v" | "pipe_flf2v" | "pipe_v2v" | "pipe_vace" | "pipe_anyflow" => {
            pipelines::latents(case, compute)
        }
        "folder_t2v" | "folder_t2v_euler" => pipelines::folder(case, compute),
        "odd_t2v" | "odd_dit" => odd::changes(case, compute),
        _ => return None,
    })
}

/// How a case folder ended.
enum Outcome {
    Passed,
    Failed,
    /// Its kind is one of [`NOT_YET`].
    NotYet(String),
}

/// Prints the rows of one case folder and says how it ended.
fn report(dir: &std::path::Path, compute: &Compute) -> Outcome {
    let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let row = |output: &str, what: &str, ok: bool| {
        println!("{name:<18} {output:<30} {what:<12} {}", if ok { "ok" } else { "FAILED" });
        ok
    };
    let mut case = match Case::open(dir) {
        Ok(case) => case,
        Err(why) => {
            row("", &why, false);
            return Outcome::Failed;
        }
    };
    let outcome = catch_unwind(AssertUnwindSafe(|| run(&mut case, compute)));
    let mut good = true;
    for (output, result) in &case.results {
        good &= match result {
            Ok(rel) => row(output, &format!("{rel:.2e}"), *rel <= tolerance(compute)),
            Err(why) => row(output, why, false),
        };
    }
    let kind = case.kind();
    let good = match outcome {
        Ok(None) if NOT_YET.contains(&kind) => {
            println!("{name:<18} {:<30} not yet supported: {kind}", "");
            return Outcome::NotYet(format!("{name} ({kind})"));
        }
        Ok(None) => row("", &format!("unsupported: {kind}"), false),
        Err(_) => row("", "panicked (message above)", false),
        Ok(Some(Err(why))) => row("", &why, false),
        Ok(Some(Ok(()))) => {
            for output in case.left_over() {
                good = row(output, "was never compared", false);
            }
            if case.results.is_empty() {
                good = row("", "nothing was compared", false);
            }
            good
        }
    };
    if good { Outcome::Passed } else { Outcome::Failed }
}

fn main() -> ExitCode {
    let filter = std::env::args().skip(1).find(|a| !a.starts_with('-')).unwrap_or_default();
    let choice = match std::env::var("TABREEL_TEST_DEVICE").as_deref() {
        Ok("gpu") => DeviceChoice::Gpu,
        Ok("cpu") | Err(_) => DeviceChoice::Cpu,
        Ok(other) => panic!("TABREEL_TEST_DEVICE must be cpu or gpu, got {other}"),
    };
    let compute = pollster::block_on(Compute::new(choice)).expect("the device for these tests");
    let again = pollster::block_on(Compute::new(choice)).expect("the device a second time");
    assert_eq!(again.device(), compute.device(), "one device, however often it is asked for");
    // TABREEL_KERNELS=off: Burn's own kernels instead of ours.
    if std::env::var("TABREEL_KERNELS").as_deref() != Ok("off") {
        for finding in pollster::block_on(prepare(&compute)) {
            println!("{finding}");
            assert!(finding.passed(), "{finding}");
        }
    }
    let folder = fixtures();
    let mut dirs: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.join("config.json").is_file()
                && path.file_name().is_some_and(|n| n.to_string_lossy().contains(&filter))
        })
        .collect();
    dirs.sort();

    println!(
        "\nparity with the reference on {}, relative L2 at most {:.0e}\n",
        compute.describe(),
        tolerance(&compute)
    );
    println!("{:<18} {:<30} {:<12}", "case", "output", "relative L2");
    let (mut passed, mut failed) = (0, usize::from(dirs.is_empty() && filter.is_empty()));
    let mut not_yet = Vec::new();
    for dir in &dirs {
        match report(dir, &compute) {
            Outcome::Passed => passed += 1,
            Outcome::Failed => failed += 1,
            Outcome::NotYet(what) => not_yet.push(what),
        }
    }
    // On the CPU alone: what a GPU's kernels make of each stored type, tests/tests/kernels shows.
    for dir in dirs.iter().filter(|_| !compute.is_gpu()) {
        let Some(result) = formats::again(dir, &compute) else { continue };
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        match result {
            Ok(()) => passed += 1,
            Err(_) => failed += 1,
        }
        println!(
            "{name:<18} {:<30} {}",
            "from other formats",
            result.err().map_or("ok".into(), |why| format!("FAILED: {why}"))
        );
    }
    if dirs.is_empty() {
        println!("no case folder in {}", folder.display());
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    if !not_yet.is_empty() {
        // tools/test.mjs repeats this line in its summary.
        println!("\nnot yet supported: {}: {}", not_yet.len(), not_yet.join(", "));
    }
    // The words of cargo's own harness, for whoever counts.
    println!("\ntest result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out\n");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
