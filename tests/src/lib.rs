//! What the Rust tests share: fixture folders, their tensors, comparing, running the built command line.

pub mod counting;
pub mod folders;
pub mod pytorch;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use burn::tensor::{Device, Int, Tensor, TensorData};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use tabreel::options::GivenOptions;
use tabreel::weights::{StoredType, decode};

/// The repository's root folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository").to_path_buf()
}

/// The folder of fixture cases: `TABREEL_FIXTURES`, else `tests/fixtures`.
pub fn fixtures() -> PathBuf {
    std::env::var_os("TABREEL_FIXTURES").map_or_else(|| root().join("tests/fixtures"), PathBuf::from)
}

/// A clip that a model of the fixtures' size makes at once: 5 frames of 48 × 32 px in 2 steps.
pub fn small_clip() -> GivenOptions {
    GivenOptions {
        prompt: Some("A red ball moves left.".into()),
        width: Some(48),
        height: Some(32),
        num_frames: Some(5),
        num_steps: Some(2),
        seed: Some(3),
        ..GivenOptions::default()
    }
}

/// One tensor of an `io.safetensors`, as f32 whatever it is stored as.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// Values, row-major.
    pub values: Vec<f32>,
}

impl Array {
    /// The same values as a tensor.
    pub fn tensor<const D: usize>(&self, device: &Device) -> Tensor<D> {
        assert_eq!(self.shape.len(), D, "rank of {:?}", self.shape);
        Tensor::from_data(TensorData::new(self.values.clone(), self.shape.clone()), device)
    }

    /// The same values as a tensor of integers.
    pub fn ints<const D: usize>(&self, device: &Device) -> Tensor<D, Int> {
        let values: Vec<i32> = self.values.iter().map(|&v| v as i32).collect();
        Tensor::from_data(TensorData::new(values, self.shape.clone()), device)
    }

    /// What a tensor holds; waits for the device.
    pub fn from_tensor<const D: usize>(tensor: Tensor<D>) -> Self {
        let data = tensor.into_data().convert::<f32>();
        Self { shape: data.shape().to_vec(), values: data.try_to_vec().expect("converted to f32 above") }
    }

    /// `‖self − expected‖ / ‖expected‖`.
    ///
    /// # Errors
    /// When the shapes differ or a value is not finite.
    pub fn relative_l2(&self, expected: &Self) -> Result<f64, String> {
        if self.shape != expected.shape {
            return Err(format!("shape {:?}, expected {:?}", self.shape, expected.shape));
        }
        if let Some(at) = self.values.iter().position(|v| !v.is_finite()) {
            return Err(format!("value {at} is {}", self.values[at]));
        }
        let square = |v: f64| v * v;
        let norm: f64 = expected.values.iter().map(|&e| square(e.into())).sum();
        let diff: f64 =
            self.values.iter().zip(&expected.values).map(|(&a, &e)| square(f64::from(a) - f64::from(e))).sum();
        Ok(if norm == 0.0 { diff.sqrt() } else { (diff / norm).sqrt() })
    }
}

/// A `.safetensors` file as arrays by name.
pub fn read_arrays(file: &Path) -> Result<BTreeMap<String, Array>, String> {
    let bytes = std::fs::read(file).map_err(|e| format!("{}: {e}", file.display()))?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| format!("{}: {e}", file.display()))?;
    tensors
        .iter()
        .map(|(name, view)| {
            let values = to_f32(view.dtype(), view.data()).ok_or_else(|| format!("{name}: type {:?}", view.dtype()))?;
            Ok((name.to_owned(), Array { shape: view.shape().to_vec(), values }))
        })
        .collect()
}

/// Arrays by name as the bytes of a `.safetensors` file, f32.
pub fn safetensors_file(arrays: &BTreeMap<String, Array>) -> Vec<u8> {
    let bytes: Vec<Vec<u8>> =
        arrays.values().map(|array| array.values.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
    let views = arrays.iter().zip(&bytes).map(|((name, array), bytes)| {
        (name, TensorView::new(Dtype::F32, array.shape.clone(), bytes).expect("as many values as its shape says"))
    });
    safetensors::serialize(views, None).expect("names and lengths that a header can hold")
}

/// Values in BF16, rounded to even as torch does it; they must be finite.
pub fn bf16_bytes(values: &[f32]) -> Vec<u8> {
    let rounded = |bits: u32| ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16;
    values.iter().flat_map(|v| rounded(v.to_bits()).to_le_bytes()).collect()
}

/// A `.safetensors` file whose matrices are 8-bit floats beside their scales, as ComfyUI writes them (one for a tensor, later one
/// for each row), and what they stand for. Scales are powers of two, so that every value is exact in 16 bits.
pub fn float8_file(arrays: &BTreeMap<String, Array>) -> (Vec<u8>, BTreeMap<String, Array>) {
    float8_file_of(arrays, 2)
}

/// As [`float8_file`], weights of up to so many axes.
pub fn float8_file_of(arrays: &BTreeMap<String, Array>, most_axes: usize) -> (Vec<u8>, BTreeMap<String, Array>) {
    let codes: Vec<u8> = (0..=u8::MAX).collect();
    let numbers = decode(StoredType::F8_E4M3, &codes);
    let plain = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let (mut tensors, mut meant) = (Vec::new(), arrays.clone());
    for (nth, (name, array)) in arrays.iter().enumerate() {
        let shape = array.shape.clone();
        let Some(path) = name.strip_suffix("weight").filter(|_| (2..=most_axes).contains(&shape.len())) else {
            tensors.push((name.clone(), Dtype::F32, shape, plain(&array.values)));
            continue;
        };
        let (kind, scales): (&str, Vec<f32>) = match nth % 2 {
            0 => ("scale_weight", vec![0.25]),
            _ => ("weight_scale", (0..shape[0]).map(|row| if row % 2 == 0 { 0.25 } else { 0.5 }).collect()),
        };
        let (mut stored, mut values) = (Vec::new(), Vec::new());
        for (some, scale) in array.values.chunks(array.values.len() / scales.len()).zip(&scales) {
            for value in some {
                let off = |code: u8| (numbers[usize::from(code)] * scale - value).abs();
                let finite = codes.iter().copied().filter(|code| off(*code).is_finite());
                let near = finite.min_by(|a, b| off(*a).total_cmp(&off(*b))).expect("numbers among 256 codes");
                stored.push(near);
                values.push(numbers[usize::from(near)] * scale);
            }
        }
        let of_scales = if scales.len() == 1 { vec![1] } else { vec![scales.len(), 1] };
        tensors.push((name.clone(), Dtype::F8_E4M3, shape.clone(), stored));
        tensors.push((format!("{path}{kind}"), Dtype::F32, of_scales, plain(&scales)));
        meant.insert(name.clone(), Array { shape, values });
    }
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        (name, TensorView::new(*dtype, shape.clone(), bytes).expect("as many values as its shape says"))
    });
    (safetensors::serialize(views, None).expect("names and lengths that a header can hold"), meant)
}

fn to_f32(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    fn each<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        bytes.as_chunks::<N>().0.iter().map(|&b| value(b)).collect()
    }
    Some(match dtype {
        Dtype::F32 => each(bytes, f32::from_le_bytes),
        Dtype::F64 => each(bytes, |b| f64::from_le_bytes(b) as f32),
        Dtype::I64 => each(bytes, |b| i64::from_le_bytes(b) as f32),
        Dtype::I32 => each(bytes, |b| i32::from_le_bytes(b) as f32),
        Dtype::U8 => bytes.iter().map(|&b| b.into()).collect(),
        _ => return None,
    })
}

/// One case folder of the parity suite, and what has been compared in it so far.
#[derive(Debug)]
pub struct Case {
    /// The folder's name.
    pub name: String,
    /// The folder.
    pub dir: PathBuf,
    /// Its `config.json`.
    pub config: serde_json::Value,
    io: BTreeMap<String, Array>,
    compared: BTreeSet<String>,
    /// What Rust made of each output, the last one where it was compared more than once.
    pub made: BTreeMap<String, Array>,
    /// Output names with their relative L2.
    pub results: Vec<(String, Result<f64, String>)>,
}

impl Case {
    /// Reads `config.json` and `io.safetensors`.
    pub fn open(dir: &Path) -> Result<Self, String> {
        let text = std::fs::read(dir.join("config.json")).map_err(|e| format!("config.json: {e}"))?;
        let config = serde_json::from_slice(&text).map_err(|e| format!("config.json: {e}"))?;
        let io = read_arrays(&dir.join("io.safetensors"))?;
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self {
            name,
            dir: dir.to_owned(),
            config,
            io,
            compared: BTreeSet::new(),
            made: BTreeMap::new(),
            results: Vec::new(),
        })
    }

    /// The kind, by which the Rust side knows what to do.
    pub fn kind(&self) -> &str {
        self.config["case"].as_str().unwrap_or_default()
    }

    /// A tensor by its full name (`in.z0`).
    pub fn get(&self, name: &str) -> Result<&Array, String> {
        self.io.get(name).ok_or_else(|| format!("io.safetensors has no {name}"))
    }

    /// The `N` of all tensors named `prefix` + N, in order.
    pub fn numbered(&self, prefix: &str) -> Vec<usize> {
        let mut numbers: Vec<usize> =
            self.io.keys().filter_map(|name| name.strip_prefix(prefix)?.parse().ok()).collect();
        numbers.sort_unstable();
        numbers
    }

    /// Names that start with `prefix`, without it.
    pub fn names(&self, prefix: &str) -> Vec<String> {
        self.io.keys().filter_map(|name| Some(name.strip_prefix(prefix)?.to_owned())).collect()
    }

    /// Compares what Rust made with the output of this full name (`out.sample`).
    pub fn compare(&mut self, name: &str, found: &Array) {
        let result = self.get(name).and_then(|expected| found.relative_l2(expected));
        self.compared.insert(name.to_owned());
        self.made.insert(name.to_owned(), found.clone());
        self.results.push((name.to_owned(), result));
    }

    /// [`Case::compare`] of a tensor.
    pub fn compare_tensor<const D: usize>(&mut self, name: &str, found: Tensor<D>) {
        self.compare(name, &Array::from_tensor(found));
    }

    /// Outputs that nothing was compared with: a case must leave none.
    pub fn left_over(&self) -> Vec<&str> {
        self.io.keys().filter(|k| k.starts_with("out.") && !self.compared.contains(*k)).map(String::as_str).collect()
    }
}

/// The built `tabreel` command line (built on first use, in the profile these tests run in).
pub fn tabreel_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--package", "tabreel", "--bin", "tabreel", "--message-format=json-render-diagnostics"]);
        if !cfg!(debug_assertions) {
            cargo.arg("--release");
        }
        // With the page inside, `serve` would not end (crate/build.rs).
        cargo.env_remove("TABREEL_PAGE");
        let built = cargo.current_dir(root()).stderr(Stdio::inherit()).output().expect("cargo runs");
        assert!(built.status.success(), "tabreel did not build");
        // Cargo says where: the tests may lie in a build folder of their own.
        let told = String::from_utf8_lossy(&built.stdout);
        let mut artifacts = told.lines().rev().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let program = artifacts.find_map(|artifact| artifact["executable"].as_str().map(PathBuf::from));
        program.expect("cargo names the program it built")
    })
}

/// Runs the command line and waits for it.
pub fn tabreel(args: &[&str]) -> Output {
    Command::new(tabreel_binary()).args(args).output().expect("the command line starts")
}

/// Demands success of a command line and returns what was printed.
///
/// # Panics
/// When it failed.
pub fn done(output: Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{:?}\n{out}{err}", output.status);
    out.into_owned()
}
