//! `C = epilogue(A · W + bias)`: a linear layer in one launch.
//!
//! On real GPUs tiles of both matrices go through workgroup memory; software adapters get 8×8 register tiles without
//! barriers, which cost them most (measured: `bench/README.md`).

use burn::tensor::{Device, Int, Tensor, TensorData, activation, module};
use burn_cubecl::tensor::CubeTensor;

use super::launch::{Shader, Template, blocks, fill, fold, lane_values, on_gpu, output_like, tensor, words_on_gpu};
pub use super::ops::Epilogue;
use super::repack::Packing;
use super::{Kernel, Switches, cpu};
use crate::memory::stay;

const TEMPLATE: Template = Template(include_str!("gemm.wgsl"));

/// The weights of a linear layer, as its device wants them.
#[derive(Debug, Clone)]
pub enum Matrix {
    /// `[K, N]`, f32.
    Plain(Tensor<2>),
    /// As stored, rearranged ([`super::repack`]); on a GPU only.
    Packed {
        /// The words.
        words: Tensor<1, Int>,
        /// What they hold.
        packing: Packing,
        /// Inputs.
        k: usize,
        /// Outputs.
        n: usize,
    },
    /// Of outputs one after another: too large for one binding.
    Split(Vec<Matrix>),
}

impl Matrix {
    /// Puts words from [`Packing::repack`] on a GPU.
    pub fn packed(words: Vec<u32>, packing: Packing, [n, k]: [usize; 2], device: &Device) -> Self {
        let length = words.len();
        let words: Vec<i32> = words.into_iter().map(|word| word as i32).collect();
        let words = stay(TensorData::new(words, [length]), device, |data, device| Tensor::from_data(data, device));
        Self::Packed { words, packing, k, n }
    }

    /// Inputs and outputs.
    fn dims(&self) -> [usize; 2] {
        match self {
            Self::Plain(weight) => weight.dims(),
            Self::Packed { k, n, .. } => [*k, *n],
            Self::Split(parts) => {
                [parts.first().map_or(0, |part| part.dims()[0]), parts.iter().map(|part| part.dims()[1]).sum()]
            }
        }
    }
}

/// A linear layer: `x` `[.., K]`, `weight` `[K, N]`, `bias` `[N]` → `[.., N]`.
///
/// # Shapes
/// With [`Epilogue::Add`] and [`Epilogue::GatedAdd`]: `x` `[B, L, K]`, `residual` `[B, L, N]`; a gate needs B = 1 to be
/// fused.
pub fn linear<const D: usize>(
    x: Tensor<D>,
    weight: &Matrix,
    bias: Option<&Tensor<1>>,
    epilogue: Epilogue,
) -> Tensor<D> {
    let switches = Switches::of(&x.device());
    let gpu = || in_one_or_two(&x, weight, bias, &epilogue, switches);
    match weight {
        Matrix::Plain(plain) => {
            let done = switches.run(Kernel::Gemm, gpu, || cpu::gemm::linear(&x, plain, bias, &epilogue));
            done.unwrap_or_else(|| linear_plain(x, plain, bias, epilogue))
        }
        Matrix::Split(parts) => finish(in_parts(&x, parts, bias), epilogue),
        Matrix::Packed { .. } => match gpu() {
            Some(done) => done,
            // Only tensors of another backend or type come here, and a model's tensors all live on one device.
            None => unreachable!("weights packed for the GPU meet a tensor that is not there"),
        },
    }
}

/// The products with each part of a matrix, side by side.
fn in_parts<const D: usize>(x: &Tensor<D>, parts: &[Matrix], bias: Option<&Tensor<1>>) -> Tensor<D> {
    let mut first = 0;
    let part = |part: &Matrix| {
        let [_, n] = part.dims();
        let bias = bias.map(|bias| bias.clone().narrow(0, first, n));
        first += n;
        linear(x.clone(), part, bias.as_ref(), Epilogue::Keep)
    };
    Tensor::cat(parts.iter().map(part).collect(), D - 1)
}

/// The twin of [`linear`] in plain tensors.
pub fn linear_plain<const D: usize>(
    x: Tensor<D>,
    weight: &Tensor<2>,
    bias: Option<&Tensor<1>>,
    epilogue: Epilogue,
) -> Tensor<D> {
    finish(module::linear(x, weight.clone(), bias.cloned()), epilogue)
}

/// What follows a product, in plain tensors.
pub fn finish<const D: usize>(y: Tensor<D>, epilogue: Epilogue) -> Tensor<D> {
    let dims = y.dims();
    match epilogue {
        Epilogue::Keep => y,
        Epilogue::Gelu => activation::gelu_approximate(y),
        Epilogue::Silu => activation::silu(y),
        Epilogue::Add(residual) => residual.reshape(dims) + y,
        Epilogue::GatedAdd(gate, residual) => {
            let y = y.reshape(residual.dims());
            (residual + y * gate).reshape(dims)
        }
    }
}

/// In one launch, or the product by the kernel and the epilogue by Burn; `None` where the tensors are no GPU's.
fn in_one_or_two<const D: usize>(
    x: &Tensor<D>,
    weight: &Matrix,
    bias: Option<&Tensor<1>>,
    epilogue: &Epilogue,
    switches: Switches,
) -> Option<Tensor<D>> {
    fused(x, weight, bias, epilogue, switches).or_else(|| {
        let product = fused(x, weight, bias, &Epilogue::Keep, switches)?;
        Some(finish(product, epilogue.clone()))
    })
}

/// `None` where the kernel has no variant for the case.
fn fused<const D: usize>(
    x: &Tensor<D>,
    weight: &Matrix,
    bias: Option<&Tensor<1>>,
    epilogue: &Epilogue,
    switches: Switches,
) -> Option<Tensor<D>> {
    let mut shape = x.dims();
    let [k, n] = weight.dims();
    let m = shape.iter().product::<usize>() / k;
    if m == 0 || n == 0 {
        return None;
    }
    shape[D - 1] = n;
    let a = on_gpu(x)?;
    let (w, packing) = match weight {
        Matrix::Plain(weight) => (on_gpu(weight)?, None),
        Matrix::Packed { words, packing, .. } => (words_on_gpu(words)?, Some(*packing)),
        Matrix::Split(_) => return None,
    };
    let bias = match bias {
        Some(bias) => Some(on_gpu(bias)?),
        None => None,
    };
    let mut gate_stride = 0;
    let (form, extra): (Form, Vec<CubeTensor>) = match (epilogue, bias) {
        (Epilogue::Keep, None) => (Form::Bare, vec![]),
        (_, None) => return None,
        (Epilogue::Keep, Some(b)) => (Form::Bias, vec![b]),
        (Epilogue::Gelu, Some(b)) => (Form::Gelu, vec![b]),
        (Epilogue::Silu, Some(b)) => (Form::Silu, vec![b]),
        (Epilogue::Add(residual), Some(b)) => (Form::Add, vec![b, on_gpu(residual)?]),
        (Epilogue::GatedAdd(gate, residual), Some(b)) => {
            let [batch, rows, _] = gate.dims();
            if batch != 1 || residual.dims()[0] != 1 {
                return None;
            }
            gate_stride = if rows == 1 { 0 } else { n };
            (Form::GatedAdd, vec![b, on_gpu(gate)?, on_gpu(residual)?])
        }
    };
    let out = output_like(&a, shape);
    let mut buffers = vec![&a, &w];
    buffers.extend(&extra);
    buffers.push(&out);
    let variant = Variant::choose([m, n, k], packing, form, switches);
    let count = variant.count(m, n);
    variant.shader().launch(&buffers, &[m as u32, n as u32, k as u32, gate_stride as u32], count);
    Some(tensor(out))
}

/// The epilogue as the text knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Bare,
    Bias,
    Gelu,
    Silu,
    Add,
    GatedAdd,
}

impl Form {
    /// The stored expression and the buffers between W and C.
    fn text(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Bare => ("v", &[]),
            Self::Bias => ("v + B[j]", &["B"]),
            Self::Gelu => ("gelu(v + B[j])", &["B"]),
            Self::Silu => ("silu(v + B[j])", &["B"]),
            Self::Add => ("R[i] + v + B[j]", &["B", "R"]),
            Self::GatedAdd => ("R[i] + G[gi] * (v + B[j])", &["B", "G", "R"]),
        }
    }
}

/// How the work is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tile {
    /// 8×8 in registers, for software adapters.
    Registers,
    /// At most 8 rows, one thread for four columns, without barriers.
    FewRows(usize),
    /// At most 8 rows, K shared out among 8 threads.
    FewRowsShared(usize),
    /// Workgroup tile: kernel section, threads across and down, depth, rows and columns.
    Workgroup { section: &'static str, tx: usize, ty: usize, depth: usize, rows: usize, columns: usize },
}

const TILE_32: Tile = Tile::Workgroup { section: "kernel.gpu4", tx: 8, ty: 8, depth: 32, rows: 32, columns: 32 };
const TILE_64: Tile = Tile::Workgroup { section: "kernel.gpu8", tx: 8, ty: 8, depth: 16, rows: 64, columns: 64 };
const TILE_128: Tile = Tile::Workgroup { section: "kernel.gpu8", tx: 8, ty: 16, depth: 16, rows: 128, columns: 64 };

#[derive(Debug, Clone, Copy)]
struct Variant {
    tile: Tile,
    packing: Option<Packing>,
    form: Form,
    whole_k: bool,
    whole_n: bool,
    half: bool,
}

impl Variant {
    fn choose([m, n, k]: [usize; 3], packing: Option<Packing>, form: Form, switches: Switches) -> Self {
        let rows = [1, 2, 4, 8].into_iter().find(|&rows| rows >= m);
        let workgroups = |side: usize| m.div_ceil(side) * n.div_ceil(side);
        let tile = match (rows, switches.software) {
            (Some(rows), true) => Tile::FewRows(rows),
            (None, true) => Tile::Registers,
            (Some(rows), false) => Tile::FewRowsShared(rows),
            // Enough workgroups to fill a GPU come before large tiles.
            (None, false) if workgroups(64) < 48 => TILE_32,
            (None, false) if workgroups(64) < 512 => TILE_64,
            (None, false) => TILE_128,
        };
        let half = switches.half_tiles && matches!(tile, Tile::Workgroup { .. });
        Self { tile, packing, form, whole_k: k.is_multiple_of(4), whole_n: n.is_multiple_of(4), half }
    }

    fn count(self, m: usize, n: usize) -> [u32; 3] {
        match self.tile {
            Tile::Registers => fold((m.div_ceil(8) * n.div_ceil(8)).div_ceil(16)),
            Tile::FewRows(_) | Tile::FewRowsShared(_) => [blocks(n.div_ceil(4), 8), 1, 1],
            Tile::Workgroup { rows, columns, .. } => [blocks(n, columns), blocks(m, rows), 1],
        }
    }

    fn threads(self) -> u32 {
        match self.tile {
            Tile::Registers => 16,
            Tile::FewRows(_) => 8,
            Tile::FewRowsShared(_) => 64,
            Tile::Workgroup { tx, ty, .. } => (tx * ty) as u32,
        }
    }

    fn shader(self) -> Shader {
        Shader {
            name: "gemm",
            key: format!("{self:?}"),
            source: Box::new(move || self.source()),
            threads: self.threads(),
        }
    }

    fn source(self) -> String {
        let (expression, extra) = self.form.text();
        let kind = |whole: bool| if whole { "vec4<f32>" } else { "f32" };
        let whole_w = self.whole_k && self.whole_n;
        let (kind_w, reader, decoder) = match self.packing.map(Packing::sections) {
            None => (kind(whole_w), if whole_w { "w.f32" } else { "w.f32any" }, None),
            Some((reader, None)) => ("vec2<u32>", reader, None),
            Some((reader, decoder)) => ("u32", reader, decoder),
        };
        let mut buffers = vec![("A", kind(self.whole_k)), ("W", kind_w)];
        buffers.extend(extra.iter().map(|&name| (name, kind(self.whole_n))));
        buffers.push(("C", kind(self.whole_n)));
        let mut bindings: String = buffers
            .iter()
            .enumerate()
            .map(|(i, (name, kind))| {
                format!("@group(0) @binding({i}) var<storage, read_write> {name}: array<{kind}>;\n")
            })
            .collect();
        bindings += &format!("@group(0) @binding({}) var<uniform> P: array<vec4<u32>, 1>;", buffers.len());
        let section = |name: &str| TEMPLATE.section(name);
        let (kernel, numbers) = match self.tile {
            Tile::Registers => ("kernel.sw", vec![]),
            Tile::FewRows(rows) => ("kernel.small1", vec![("rows", rows)]),
            Tile::FewRowsShared(rows) => ("kernel.small", vec![("rows", rows), ("slices", 8)]),
            Tile::Workgroup { section, tx, ty, depth, .. } => (section, vec![("tx", tx), ("ty", ty), ("bk", depth)]),
        };
        let numbers: Vec<(&str, String)> = numbers.into_iter().map(|(name, n)| (name, n.to_string())).collect();
        let mut values = vec![
            ("bindings", bindings.as_str()),
            ("a", section(if self.whole_k { "a.vec" } else { "a.any" })),
            ("w", section(reader)),
            ("quant", decoder.map_or("", section)),
            ("c", section(if self.whole_n { "c.vec" } else { "c.any" })),
            ("act", section("act")),
            ("epi", expression),
        ];
        values.extend(lane_values(self.half));
        values.extend(numbers.iter().map(|(name, n)| (*name, n.as_str())));
        fill(section(kernel), &values)
    }
}
