//! Causal 3-D convolution in one launch: the frames remembered, the doubling or halving of size, bias and shortcut are
//! all part of it.
//!
//! Weights are repacked when they are loaded, `[parity][C_out / BM][k_t][k_h][C_in padded to BK][k_w][BM]`, so that
//! neighbouring threads read neighbouring words. Doubling the size and then convolving 3×3 is four 2×2 convolutions,
//! one for each parity of (row, column), whose taps that meet the same pixel are added up: 4/9 of the work.
//!
//! Weights stored in 16 bits stay so on a GPU, two in a word; the kernels need no 16-bit floats to read them. Sums of taps
//! are no 16-bit numbers any more and are kept as f32.

use burn::tensor::ops::{ConvOptions, PadMode};
use burn::tensor::{Device, Int, Tensor, TensorData, module};
use burn_cubecl::tensor::CubeTensor;
use half::{bf16, f16};

use super::launch::{Shader, fill, fold, is_gpu, on_gpu, output_like, tensor, words_on_gpu};
pub use super::ops::Form;
use super::ops::MERGED;
use super::repack_gpu::write_words;
use super::{Kernel, Switches, cpu};
use crate::error::Result;
use crate::memory::{hollow, stay};
use crate::weights::StoredType;

/// What a GPU keeps of each weight; the other devices keep f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// All 32 bits.
    F32,
    /// IEEE half precision: for values that were stored so.
    F16,
    /// The upper half of an f32: for values that were stored so.
    BF16,
}

impl Precision {
    /// The smallest that loses nothing of weights stored as `stored`.
    pub fn of(stored: StoredType, form: Form) -> Self {
        match stored {
            StoredType::F16 if !form.doubled => Self::F16,
            StoredType::BF16 if !form.doubled => Self::BF16,
            _ => Self::F32,
        }
    }

    /// Bytes of all weights of a shape `[C_out, C_in, …]`.
    pub fn bytes_of(self, shape: &[usize], form: Form) -> usize {
        // Sixteen sums of nine taps.
        let merged = if form.doubled { 16 } else { 9 };
        shape.iter().product::<usize>() * merged * self.bytes() / 9
    }

    /// Bytes of a value.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
        }
    }

    /// An even number of values as 32-bit words, the first of two in the lower half.
    fn words(self, values: &[f32]) -> Vec<u32> {
        let pair = |bits: fn(f32) -> u16| {
            values.chunks_exact(2).map(|two| u32::from(bits(two[0])) | u32::from(bits(two[1])) << 16).collect()
        };
        match self {
            Self::F32 => values.iter().map(|value| value.to_bits()).collect(),
            Self::F16 => pair(|value| f16::from_f32(value).to_bits()),
            Self::BF16 => pair(|value| bf16::from_f32(value).to_bits()),
        }
    }

    /// What four neighbouring output channels are in the kernels' text, and how they are read.
    fn text(self) -> [(&'static str, &'static str); 2] {
        match self {
            Self::F32 => [("four", "vec4<f32>"), ("read_four", "w")],
            Self::F16 => {
                [("four", "vec2<u32>"), ("read_four", "vec4<f32>(unpack2x16float(w.x), unpack2x16float(w.y))")]
            }
            Self::BF16 => [
                ("four", "vec2<u32>"),
                (
                    "read_four",
                    "bitcast<vec4<f32>>(vec4<u32>(w.x << 16u, w.x & 0xffff0000u, w.y << 16u, w.y & 0xffff0000u))",
                ),
            ],
        }
    }
}

/// The weights of a convolution, as its device wants them.
#[derive(Debug, Clone)]
pub struct Weights {
    form: Form,
    output: usize,
    input: usize,
    layout: Layout,
    bias: Tensor<1>,
}

#[derive(Debug, Clone)]
enum Layout {
    /// `[C_out, C_in, k_t, k_h, k_w]`
    Plain(Tensor<5>),
    /// As the kernel reads them, a GPU's words.
    Packed {
        words: Tensor<1, Int>,
        precision: Precision,
        tile: Tile,
    },
    Taps(cpu::conv3d::Taps),
    /// Of output channels one after another: too large for one binding.
    Split(Vec<Weights>),
}

impl Weights {
    /// `values` `[C_out, C_in, k_t, k_h, k_w]`, which `precision` holds without loss; `bias` `[C_out]`.
    pub fn new(
        values: Vec<f32>,
        [output, input]: [usize; 2],
        form: Form,
        precision: Precision,
        bias: Tensor<1>,
        device: &Device,
    ) -> Self {
        let [t, h, w] = form.kernel;
        let shape = [output, input, t, h, w];
        let switches = Switches::of(device);
        let layout = match switches.has(Kernel::Conv3d) {
            true if is_gpu(device) => {
                let tile = Tile::choose(shape, switches.software);
                let words = precision.words(&repack(&values, shape, tile, form.doubled));
                let words: Vec<i32> = words.into_iter().map(|word| word as i32).collect();
                let length = words.len();
                let data = TensorData::new(words, [length]);
                let words = stay(data, device, |data, device| Tensor::from_data(data, device));
                Layout::Packed { words, precision, tile }
            }
            true if *device == Device::flex() => Layout::Taps(cpu::conv3d::Taps::new(&values, [output, input], form)),
            _ => Layout::Plain(stay(TensorData::new(values, shape), device, |data, device| {
                Tensor::from_data(data, device)
            })),
        };
        Self { form, output, input, layout, bias }
    }
}

impl Weights {
    /// Of no values, for a model that makes nothing: they take no memory on the CPU.
    pub fn hollow([output, input]: [usize; 2], form: Form, bias: Tensor<1>, device: &Device) -> Self {
        let [t, h, w] = form.kernel;
        Self { form, output, input, layout: Layout::Plain(hollow([output, input, t, h, w], device)), bias }
    }

    /// The parts of a convolution's output channels, in order, all of one form that does not split frames off; at least one.
    pub fn joined(parts: Vec<Self>, form: Form, bias: Tensor<1>) -> Self {
        let output = parts.iter().map(|part| part.output).sum();
        let input = parts.first().map_or(0, |part| part.input);
        Self { form, output, input, layout: Layout::Split(parts), bias }
    }
}

/// Weights on their way to a GPU, laid out for the kernel some output channels at a time.
pub struct Parts {
    form: Form,
    output: usize,
    input: usize,
    tile: Tile,
    precision: Precision,
    words: Tensor<1, Int>,
    queue: wgpu::Queue,
}

impl Parts {
    /// `None` where no GPU's kernel will read them.
    pub fn new(
        [output, input]: [usize; 2],
        form: Form,
        precision: Precision,
        device: &Device,
        queue: &wgpu::Queue,
    ) -> Option<Self> {
        let switches = Switches::of(device);
        if !switches.has(Kernel::Conv3d) || !is_gpu(device) {
            return None;
        }
        let [t, h, w] = form.kernel;
        let tile = Tile::choose([output, input, t, h, w], switches.software);
        let words = Tensor::empty([1], device);
        let mut parts = Self { form, output, input, tile, precision, words, queue: queue.clone() };
        let length = parts.parities() * output.div_ceil(tile.channels) * parts.block_bytes() / size_of::<u32>();
        parts.words = device.memory_persistent_allocations((), |()| Tensor::empty([length], device));
        Some(parts)
    }

    /// How many channels to put at once: about `wanted`, in whole tiles.
    pub fn channels(&self, wanted: usize) -> usize {
        (wanted / self.tile.channels).max(1) * self.tile.channels
    }

    /// Puts the weights of the output channels from `first` on, a multiple of [`Parts::channels`]: `values`
    /// `[channels, C_in, k_t, k_h, k_w]`.
    ///
    /// # Errors
    /// [`crate::error::Error::DeviceLost`] when the GPU has no buffer for them.
    pub fn put(&self, first: usize, values: &[f32]) -> Result<()> {
        let [t, h, w] = self.form.kernel;
        let channels = values.len() / (self.input * t * h * w);
        let packed = repack(values, [channels, self.input, t, h, w], self.tile, self.form.doubled);
        let (blocks, all) = (channels.div_ceil(self.tile.channels), self.output.div_ceil(self.tile.channels));
        let primitive = words_on_gpu(&self.words);
        for (parity, part) in packed.chunks_exact(blocks * self.block()).enumerate() {
            let at = (parity * all + first / self.tile.channels) * self.block_bytes();
            let bytes: Vec<u8> = self.precision.words(part).iter().flat_map(|word| word.to_le_bytes()).collect();
            write_words(primitive.as_ref(), &self.queue, at as u64, &bytes)?;
        }
        Ok(())
    }

    /// The weights, all of which have been put; `bias` `[C_out]`.
    pub fn finish(self, bias: Tensor<1>) -> Weights {
        let Self { form, output, input, tile, precision, words, .. } = self;
        Weights { form, output, input, layout: Layout::Packed { words, precision, tile }, bias }
    }

    fn parities(&self) -> usize {
        if self.form.doubled { 4 } else { 1 }
    }

    /// Values of a block: the weights of a tile's channels.
    fn block(&self) -> usize {
        let [t, h, w] = self.form.kernel;
        let (rows, columns) = if self.form.doubled { (2, 2) } else { (h, w) };
        t * rows * self.input.next_multiple_of(self.tile.depth) * columns * self.tile.channels
    }

    fn block_bytes(&self) -> usize {
        self.block() * self.precision.bytes()
    }
}

/// The convolution of `x`, which `past` frames precede (zeros before those), plus `residual`.
///
/// `lead` is how many frames before `x` the first output sees; `past` may hold fewer.
///
/// # Shapes
/// `x` `[B, C_in, F, H, W]`, `past` `[B, C_in, P ≤ lead, H, W]`, `residual` as the result
/// → `[B, C_out, (lead + F − k_t) / time_stride + 1, H', W']`, with split `[B, C_out / 2, 2 × that, H', W']`
pub fn conv3d(
    x: Tensor<5>,
    past: Option<Tensor<5>>,
    lead: usize,
    weights: &Weights,
    residual: Option<Tensor<5>>,
) -> Tensor<5> {
    match &weights.layout {
        Layout::Plain(weight) => conv3d_plain(x, past, lead, weight, &weights.bias, weights.form, residual),
        Layout::Taps(taps) => {
            match cpu::conv3d::conv3d(&x, past.as_ref(), lead, taps, &weights.bias, residual.as_ref()) {
                Some(done) => done,
                None => unreachable!("weights laid out for the CPU meet a tensor that is not there"),
            }
        }
        Layout::Split(parts) => {
            let mut first = 0;
            let part = |part: &Weights| {
                let residual = residual.as_ref().map(|residual| residual.clone().narrow(1, first, part.output));
                first += part.output;
                conv3d(x.clone(), past.clone(), lead, part, residual)
            };
            Tensor::cat(parts.iter().map(part).collect(), 1)
        }
        Layout::Packed { words, precision, tile } => {
            let packed = (words, *precision, *tile);
            match fused(&x, past.as_ref(), lead, weights, packed, residual.as_ref()) {
                Some(done) => done,
                // Only tensors of another backend or type come here, and a model's tensors all live on one device.
                None => unreachable!("weights packed for the GPU meet a tensor that is not there"),
            }
        }
    }
}

/// The twin of [`conv3d`] in plain tensors.
pub fn conv3d_plain(
    x: Tensor<5>,
    past: Option<Tensor<5>>,
    lead: usize,
    weight: &Tensor<5>,
    bias: &Tensor<1>,
    form: Form,
    residual: Option<Tensor<5>>,
) -> Tensor<5> {
    let y = match form.kernel {
        [1, _, _] => framewise(x, weight, bias, form),
        [_, h, w] => {
            let x = with_past(x, past, lead);
            let options = ConvOptions::new([form.time_stride, 1, 1], [0, h / 2, w / 2], [1, 1, 1], 1);
            module::conv3d(x, weight.clone(), Some(bias.clone()), options)
        }
    };
    let y = match form.split {
        true => {
            let [b, c, f, h, w] = y.dims();
            let halves = y.reshape([b, 2, c / 2, f, h, w]).permute([0, 2, 3, 1, 4, 5]);
            halves.reshape([b, c / 2, 2 * f, h, w])
        }
        false => y,
    };
    match residual {
        Some(residual) => y + residual,
        None => y,
    }
}

/// `x` with exactly `lead` frames before it.
fn with_past(x: Tensor<5>, past: Option<Tensor<5>>, lead: usize) -> Tensor<5> {
    let [b, c, _, h, w] = x.dims();
    let known = past.as_ref().map_or(0, |past| past.dims()[2]);
    let mut pieces = Vec::new();
    if lead > known {
        pieces.push(Tensor::zeros([b, c, lead - known, h, w], &x.device()));
    }
    pieces.extend(past);
    pieces.push(x);
    if pieces.len() == 1 { pieces.swap_remove(0) } else { Tensor::cat(pieces, 2) }
}

/// Kernels of one frame: Burn's 2-D convolution is the faster one.
fn framewise(x: Tensor<5>, weight: &Tensor<5>, bias: &Tensor<1>, form: Form) -> Tensor<5> {
    let [b, c, f, h, w] = x.dims();
    let [output, input, _, k, _] = weight.dims();
    let weight = weight.clone().reshape([output, input, k, k]);
    let mut frames = x.swap_dims(1, 2).reshape([b * f, c, h, w]);
    if form.doubled {
        let n = b * f * c;
        frames = frames.reshape([n, h, 1, w, 1]).expand([n, h, 2, w, 2]).reshape([b * f, c, 2 * h, 2 * w]);
    }
    let (stride, padding) = if form.halved { (2, 0) } else { (1, k / 2) };
    if form.halved {
        frames = frames.pad((0, 1, 0, 1), PadMode::Constant(0.0));
    }
    let options = ConvOptions::new([stride, stride], [padding, padding], [1, 1], 1);
    let out = module::conv2d(frames, weight, Some(bias.clone()), options);
    let [_, c, h, w] = out.dims();
    out.reshape([b, f, c, h, w]).swap_dims(1, 2)
}

/// How the work is cut: output channels × pixels × input channels of a tile, and of a thread (in fours).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tile {
    channels: usize,
    pixels: usize,
    depth: usize,
    thread_channels: usize,
    thread_pixels: usize,
}

impl Tile {
    /// Eight pixels × four channels in registers, for software adapters.
    const REGISTERS: Self = Self { channels: 4, pixels: 8, depth: 1, thread_channels: 1, thread_pixels: 2 };

    /// Weights are packed for one tile, so it follows from the channels alone.
    fn choose([output, input, ..]: [usize; 5], software: bool) -> Self {
        let tile = |channels, pixels, depth, thread_channels, thread_pixels| Self {
            channels,
            pixels,
            depth,
            thread_channels,
            thread_pixels,
        };
        match output {
            _ if software => Self::REGISTERS,
            ..=16 => tile(16, 128, 8, 1, 1),
            _ if input <= 12 => tile(16, 128, 8, 1, 1),
            _ if output.is_multiple_of(64) || output >= 192 => tile(64, 64, 16, 1, 1),
            _ => tile(32, 128, 16, 2, 1),
        }
    }

    fn in_registers(self) -> bool {
        self == Self::REGISTERS
    }

    fn threads(self) -> usize {
        if self.in_registers() {
            return 64;
        }
        self.channels / (4 * self.thread_channels) * (self.pixels / (4 * self.thread_pixels))
    }
}

fn repack(values: &[f32], [output, input, kt, kh, kw]: [usize; 5], tile: Tile, doubled: bool) -> Vec<f32> {
    let blocks = output.div_ceil(tile.channels);
    let depth = input.next_multiple_of(tile.depth);
    let (rows, columns, parities) = if doubled { (2, 2, 4) } else { (kh, kw, 1) };
    let mut packed = vec![0.0f32; parities * blocks * kt * rows * depth * columns * tile.channels];
    for parity in 0..parities {
        for (o, of_output) in values.chunks_exact(input * kt * kh * kw).enumerate() {
            for (c, taps) in of_output.chunks_exact(kt * kh * kw).enumerate() {
                for (t, taps) in taps.chunks_exact(kh * kw).enumerate() {
                    for r in 0..rows {
                        for s in 0..columns {
                            let sum: f64 = match doubled {
                                true => MERGED[parity >> 1][r]
                                    .iter()
                                    .flat_map(|i| {
                                        MERGED[parity & 1][s].iter().map(move |j| f64::from(taps[i * kw + j]))
                                    })
                                    .sum(),
                                false => f64::from(taps[r * kw + s]),
                            };
                            let block = (parity * blocks + o / tile.channels) * kt + t;
                            let at = ((block * rows + r) * depth + c) * columns + s;
                            packed[at * tile.channels + o % tile.channels] = sum as f32;
                        }
                    }
                }
            }
        }
    }
    packed
}

fn fused(
    x: &Tensor<5>,
    past: Option<&Tensor<5>>,
    lead: usize,
    weights: &Weights,
    (words, precision, tile): (&Tensor<1, Int>, Precision, Tile),
    residual: Option<&Tensor<5>>,
) -> Option<Tensor<5>> {
    let form = weights.form;
    let [b, _, f, height, width] = x.dims();
    let [kt, kh, kw] = form.kernel;
    let past = past.filter(|past| past.dims()[2] > 0 && kt > 1);
    let frames = (lead + f - kt) / form.time_stride + 1;
    let side = |n: usize| match form {
        Form { halved: true, .. } => (n - 2) / 2 + 1,
        Form { doubled: true, .. } => 2 * n,
        _ => n,
    };
    let (out_h, out_w) = (side(height), side(width));
    let pieces = 1 + usize::from(form.split);
    // Without taps in space rows have no edges: one long row fills the tiles best.
    let flat = kh == 1 && !form.halved && !form.doubled;
    let lay = |h: usize, w: usize| if flat { [1, h * w] } else { [h, w] };
    let ([in_h, in_w], [grid_h, grid_w]) = (lay(height, width), lay(out_h, out_w));
    let (rows, columns) = if form.doubled { (in_h, in_w) } else { (grid_h, grid_w) };
    let parities = if form.doubled { 4 } else { 1 };
    let lines = b * frames * rows;
    let groups = match tile.in_registers() {
        true => (lines * columns.div_ceil(8) * weights.output.div_ceil(4) * parities).div_ceil(64),
        false => weights.output.div_ceil(tile.channels) * (lines * columns).div_ceil(tile.pixels) * parities,
    };
    let count = fold(groups);
    let padding = if form.halved { 0 } else { kh / 2 };
    let past_frames = past.map_or(0, |past| past.dims()[2]);
    let sizes = [
        [weights.input, f, in_h, in_w],
        [weights.output, frames, grid_h, grid_w],
        [b, form.time_stride, lead, past_frames],
        [kt, if form.doubled { 2 } else { kh }, padding, padding],
        [count[0] as usize, pieces, 0, 0],
    ];
    let sizes: Vec<u32> = sizes.as_flattened().iter().map(|&w| w as u32).collect();

    let (x, words, bias) = (on_gpu(x)?, words_on_gpu(words)?, on_gpu(&weights.bias)?);
    let extra: Vec<CubeTensor> = [past, residual].into_iter().flatten().map(on_gpu).collect::<Option<_>>()?;
    let out = output_like(&x, [b, weights.output / pieces, frames * pieces, out_h, out_w]);
    let mut buffers = vec![&x, &words, &bias, &out];
    buffers.extend(&extra);
    let variant = Variant {
        tile,
        precision,
        columns: if form.doubled { 2 } else { kw },
        halved: form.halved,
        doubled: form.doubled,
        past: past.is_some(),
        residual: residual.is_some(),
    };
    variant.shader().launch(&buffers, &sizes, count);
    Some(tensor(out))
}

#[derive(Debug, Clone, Copy)]
struct Variant {
    tile: Tile,
    precision: Precision,
    columns: usize,
    halved: bool,
    doubled: bool,
    past: bool,
    residual: bool,
}

impl Variant {
    fn shader(self) -> Shader {
        Shader {
            name: "conv3d",
            key: format!("{self:?}"),
            source: Box::new(move || self.source()),
            threads: self.tile.threads() as u32,
        }
    }

    fn source(self) -> String {
        let text = match self.tile.in_registers() {
            true => include_str!("conv3d_software.wgsl"),
            false => include_str!("conv3d_gpu.wgsl"),
        };
        let on = |yes: bool| if yes { "" } else { "//" };
        let number = |n: usize| n.to_string();
        let past = usize::from(self.past);
        let numbers = [
            ("kw", number(self.columns)),
            ("stride", number(1 + usize::from(self.halved))),
            ("doubled", self.doubled.to_string()),
            ("at_residual", number(4 + past)),
            ("at_params", number(4 + past + usize::from(self.residual))),
            ("bm", number(self.tile.channels)),
            ("bn", number(self.tile.pixels)),
            ("bk", number(self.tile.depth)),
            ("m4", number(self.tile.thread_channels)),
            ("n4", number(self.tile.thread_pixels)),
            ("threads", number(self.tile.threads())),
        ];
        let mut values = vec![("if_past", on(self.past)), ("if_residual", on(self.residual))];
        values.extend(self.precision.text());
        values.extend(numbers.iter().map(|(name, value)| (*name, value.as_str())));
        fill(text, &values)
    }
}
