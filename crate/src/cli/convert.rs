//! `tabreel convert`: weights of a component to one GGUF file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use crate::error::{Error, Result};
use crate::models::names;
use crate::pipeline::{WEIGHTS, part_files};
use crate::weights::source::DiskFile;
use crate::weights::{ShardIndex, StoredType, WeightFile, WeightSet, gguf_write, lora};

/// Options of `convert`.
#[derive(Debug, Args)]
pub struct ConvertArgs {
    /// A .safetensors or .gguf file, or the folder of one component (shards with an index are fine).
    #[arg(value_name = "IN.safetensors|DIR")]
    input: PathBuf,
    /// The .gguf file to write. Tensors get the original Wan names, as other tools expect them.
    #[arg(value_name = "OUT.gguf")]
    output: PathBuf,
    /// Type of the matrices. Vectors, tables and patch embeddings stay f32, convolutions become f16.
    #[arg(long = "type", value_enum, ignore_case = true, default_value_t = TypeArg::Q8_0)]
    kind: TypeArg,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum TypeArg {
    /// 8 bits and a scale for every 32 values: 8.5 bits a value, hardly a difference to see.
    #[value(name = "q8_0")]
    Q8_0,
    /// 4 bits and a scale for every 32 values: 4.5 bits a value.
    #[value(name = "q4_0")]
    Q4_0,
    /// 16-bit floats.
    #[value(name = "f16")]
    F16,
}

impl TypeArg {
    fn stored(self) -> StoredType {
        match self {
            Self::Q8_0 => StoredType::Q8_0,
            Self::Q4_0 => StoredType::Q4_0,
            Self::F16 => StoredType::F16,
        }
    }
}

/// Runs `convert`.
///
/// # Errors
/// [`Error::Fetch`] when a file cannot be read or written, or OUT is a folder, [`Error::Weights`] when the input is damaged, is a
/// LoRA, or holds values that are not finite, [`Error::InvalidOptions`] when OUT does not end in `.gguf`.
pub fn run(args: ConvertArgs, json: bool) -> Result<()> {
    if args.output.extension().is_none_or(|e| e != "gguf") {
        return Err(Error::InvalidOptions(format!("the output must end in .gguf, got {}", args.output.display())));
    }
    // Else an hour's work would end at the renaming.
    if args.output.is_dir() {
        return Err(Error::Fetch(format!("the output must be a file, {} is a folder", args.output.display())));
    }
    let target = args.kind.stored();
    let set = read_component(&args.input)?;
    if set.files().iter().any(|file| lora::downs(file).next().is_some()) {
        let found = format!("a LoRA; give it as it is, with --lora {}", args.input.display());
        return Err(Error::weights(args.input.to_string_lossy(), "the weights of a part of a model", found));
    }
    let set = names::to_diffusers(set)?;
    let planned = gguf_write::plan(&set, target, &names::to_original(set.names()))?;
    let bar = if json { ProgressBar::hidden() } else { ProgressBar::new(planned.len() as u64) };
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} tensors {eta}") {
        bar.set_style(style);
    }
    // Written beside the target and renamed, so that an interrupted run leaves no half file under the final name.
    let partial = args.output.with_extension("gguf.partial");
    let written = write_file(&partial, |out| {
        gguf_write::write_set(out, &gguf_write::metadata(&set, target), &set, &planned, |i| bar.set_position(i as u64))
    });
    let written =
        written.and_then(|()| std::fs::rename(&partial, &args.output).map_err(|e| io_error(&args.output, &e)));
    if written.is_err() {
        let _ = std::fs::remove_file(&partial); // what matters is the first error
    }
    written?;
    bar.finish_and_clear();

    let bytes_in: u64 = set.files().iter().map(WeightFile::len_bytes).sum();
    let bytes_out = std::fs::metadata(&args.output).map_err(|e| io_error(&args.output, &e))?.len();
    let mut types: BTreeMap<&str, usize> = BTreeMap::new();
    planned.iter().for_each(|p| *types.entry(p.dtype.name()).or_default() += 1);
    super::inspect::print(&match json {
        true => serde_json::json!({ "type": "done", "out": args.output.to_string_lossy(), "tensors": planned.len(), "types": types,
            "bytesIn": bytes_in, "bytes": bytes_out })
        .to_string(),
        false => {
            let types: Vec<String> = types.iter().map(|(name, count)| format!("{count} {name}")).collect();
            let (from, to) = (super::inspect::size(bytes_in), super::inspect::size(bytes_out));
            format!("{}: {} tensors ({}), {from} became {to}", args.output.display(), planned.len(), types.join(", "))
        }
    })
}

/// The weights of a component: a file, or those of a folder that a load takes.
fn read_component(path: &Path) -> Result<WeightSet> {
    if !path.is_dir() {
        return WeightSet::new(vec![read_file(path)?]);
    }
    let names = part_files(path)?;
    let weights: Vec<&String> = names.iter().filter(|name| WEIGHTS.iter().any(|end| name.ends_with(end))).collect();
    if weights.is_empty() {
        return Err(Error::Fetch(format!(
            "{} holds no weights ({}){}",
            path.display(),
            WEIGHTS.join(", "),
            hint(path)?
        )));
    }
    let set = WeightSet::new(weights.iter().map(|name| read_file(&path.join(name))).collect::<Result<_>>()?)?;
    for name in names.iter().filter(|name| name.ends_with(".index.json")) {
        let index = path.join(name);
        let text = std::fs::read_to_string(&index).map_err(|e| io_error(&index, &e))?;
        ShardIndex::parse(&text, &index.to_string_lossy())?.check(&set)?;
    }
    Ok(set)
}

/// Which folders below may have been meant, in words; empty where there are none.
fn hint(path: &Path) -> Result<String> {
    let entries = std::fs::read_dir(path).map_err(|e| io_error(path, &e))?;
    let folders = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|dir| dir.join("config.json").is_file());
    let mut parts: Vec<String> = folders.map(|dir| dir.display().to_string()).collect();
    parts.sort();
    Ok(if parts.is_empty() { String::new() } else { format!("; did you mean {}?", parts.join(" or ")) })
}

fn read_file(path: &Path) -> Result<WeightFile> {
    WeightFile::open_now(Rc::new(DiskFile::open(path)?), &path.to_string_lossy())
}

fn write_file(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    let mut out = BufWriter::new(File::create(path).map_err(|e| io_error(path, &e))?);
    write(&mut out)?;
    out.flush().map_err(|e| io_error(path, &e))
}

fn io_error(path: &Path, error: &std::io::Error) -> Error {
    Error::Fetch(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(path: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(path)
    }

    fn out(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("tabreel-convert-{}-{name}", std::process::id()))
    }

    #[test]
    fn a_converted_file_reads_back_within_the_types_precision() {
        for (kind, tolerance) in [(TypeArg::F16, 1e-3), (TypeArg::Q8_0, 1e-2), (TypeArg::Q4_0, 0.13)] {
            let output = out(&format!("{kind:?}.gguf"));
            let args = ConvertArgs { input: fixture("wan_vace/weights.safetensors"), output: output.clone(), kind };
            run(args, true).unwrap();
            let back = names::to_diffusers(read_component(&output).unwrap()).unwrap();
            std::fs::remove_file(&output).unwrap();
            let original = read_component(&fixture("wan_vace/weights.safetensors")).unwrap();
            assert_eq!(back.names().collect::<Vec<_>>(), original.names().collect::<Vec<_>>());
            for info in original.infos() {
                let (a, b) = (original.f32(&info.name).unwrap(), back.take_f32(&info.name, &info.shape).unwrap());
                let error: f32 = a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum();
                let norm: f32 = a.iter().map(|a| a.powi(2)).sum();
                assert!((error / norm).sqrt() < tolerance, "{kind:?} {}: {}", info.name, (error / norm).sqrt());
            }
        }
    }

    #[test]
    fn a_wrong_ending_and_a_missing_input_are_told_before_anything_is_written() {
        let args = |input: &str, output: PathBuf| ConvertArgs { input: input.into(), output, kind: TypeArg::F16 };
        assert!(run(args("x", "y.bin".into()), true).unwrap_err().to_string().contains("must end in .gguf, got y.bin"));
        let output = out("none.gguf");
        assert!(matches!(run(args("/nonexistent", output.clone()), true), Err(Error::Fetch(_))));
        assert!(!output.exists());
    }
}
