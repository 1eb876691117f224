//! Causal 3-D convolution on the CPU, without gathering the pixels of each tap (im2col): the taps share one copy of a
//! band of the image, in which a step to the next tap is a step along the slice.
//!
//! The band's rows lie one after the other with a single zero between them, which is the right border of one and the
//! left border of the next. So the pixels that one tap meets are one long run, and each tap is a matrix product over
//! (frames of the kernel × input channels), added to the band's output. Results at the borders between rows are
//! computed and dropped. Same idea, other layout: "kn2row", Anderson et al. 1709.03395.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::{Target, Values, View, product, tensor};
use crate::kernels::ops::{Form, MERGED};

/// Values of the copied band: 256 KiB, so that it stays in the second cache while the taps pass over it.
const BAND: usize = 1 << 16;
/// Pixels a band has at least: fewer leave the product too little to reuse.
const PIXELS: usize = 96;
/// What a product may read past the last pixel, whose count is rounded up to whole vectors.
const SLACK: usize = 8;

/// A convolution's weights, cut into the products they make.
#[derive(Debug, Clone)]
pub struct Taps {
    values: Arc<Vec<f32>>,
    products: Arc<Vec<Product>>,
    form: Form,
    output: usize,
    input: usize,
}

/// One product: weights `[C_out][planes × k_t × C_in]` over planes of the copied band that follow each other.
#[derive(Debug, Clone)]
struct Product {
    /// Which of the four results of a doubled image it adds to.
    parity: usize,
    /// Where its first pixel lies.
    row: usize,
    column: usize,
    /// The first of its planes (of every second row and column of a halved image).
    phase: usize,
    /// The taps of each plane; several where they meet the same pixel of a doubled image.
    taps: Vec<Vec<[usize; 2]>>,
    /// Where its weights start.
    at: usize,
}

impl Taps {
    /// `values` `[C_out, C_in, k_t, k_h, k_w]`.
    pub fn new(values: &[f32], [output, input]: [usize; 2], form: Form) -> Self {
        let [kt, kh, kw] = form.kernel;
        let mut products = products(form);
        let mut taps = Vec::new();
        for product in &mut products {
            product.at = taps.len();
            for o in 0..output {
                for tap in &product.taps {
                    for t in 0..kt {
                        for c in 0..input {
                            let plane = &values[((o * input + c) * kt + t) * kh * kw..];
                            taps.push(tap.iter().map(|[r, s]| plane[r * kw + s]).sum());
                        }
                    }
                }
            }
        }
        Self { values: Arc::new(taps), products: Arc::new(products), form, output, input }
    }
}

fn products(form: Form) -> Vec<Product> {
    let [_, kh, kw] = form.kernel;
    let one = |parity, row, column, phase, taps| Product { parity, row, column, phase, taps, at: 0 };
    if form.halved {
        // Planes: even rows and columns, odd rows, odd columns, both odd. Row 2 is the next even one.
        return vec![
            one(0, 0, 0, 0, vec![vec![[0, 0]], vec![[1, 0]], vec![[0, 1]], vec![[1, 1]]]),
            one(0, 0, 1, 0, vec![vec![[0, 2]], vec![[1, 2]]]),
            one(0, 1, 0, 0, vec![vec![[2, 0]]]),
            one(0, 1, 0, 2, vec![vec![[2, 1]]]),
            one(0, 1, 1, 0, vec![vec![[2, 2]]]),
        ];
    }
    if form.doubled {
        let taps_of = |rows: &[usize], columns: &[usize]| {
            rows.iter().flat_map(|i| columns.iter().map(move |j| [*i, *j])).collect::<Vec<_>>()
        };
        let mut products = Vec::new();
        for (down, rows) in MERGED.iter().enumerate() {
            for (right, columns) in MERGED.iter().enumerate() {
                for (r, rows) in rows.iter().enumerate() {
                    for (s, columns) in columns.iter().enumerate() {
                        products.push(one(2 * down + right, down + r, right + s, 0, vec![taps_of(rows, columns)]));
                    }
                }
            }
        }
        return products;
    }
    (0..kh * kw).map(|tap| [tap / kw, tap % kw]).map(|[r, s]| one(0, r, s, 0, vec![vec![[r, s]]])).collect()
}

/// The frames that a convolution reads: zeros, then what is remembered, then the chunk's own.
struct Frames<'a> {
    zeros: usize,
    past: &'a [f32],
    past_frames: usize,
    own: &'a [f32],
    own_frames: usize,
    plane: usize,
    channels: usize,
}

impl Frames<'_> {
    /// One channel of a frame, counted with those before the chunk; must not be a zero frame.
    fn plane(&self, batch: usize, channel: usize, frame: usize) -> &[f32] {
        let frame = frame - self.zeros;
        let (values, frames, frame) = match frame.checked_sub(self.past_frames) {
            None => (self.past, self.past_frames, frame),
            Some(own) => (self.own, self.own_frames, own),
        };
        &values[((batch * self.channels + channel) * frames + frame) * self.plane..][..self.plane]
    }
}

/// How an image is cut into bands, and where things lie in the copy of one: planes of (phase, frame of the kernel,
/// input channel), each the band's rows with a border.
struct Bands<'a> {
    taps: &'a Taps,
    source: [usize; 2],
    /// Pixels counted in rows and columns: the result's, or the source's where each becomes four.
    grid: [usize; 2],
    /// Pixels of the result in each direction for one that is counted.
    scale: usize,
    /// Rows of a band.
    rows: usize,
    /// Rows that taps reach beyond a band's own, and how many of them lie above.
    more_rows: usize,
    pad: usize,
    /// From one row of a band to the next.
    stride: usize,
    /// Frames of the kernel × input channels.
    depth: usize,
    plane: usize,
    /// Odd and even rows and columns lie apart where every second one is a tap's.
    phases: usize,
    /// From one output channel of a band's result to the next.
    run: usize,
}

impl<'a> Bands<'a> {
    fn new(taps: &'a Taps, source: [usize; 2]) -> Self {
        let Form { kernel: [kt, kh, _], halved, doubled, .. } = taps.form;
        let [height, width] = source;
        let grid = if halved { [(height - 2) / 2 + 1, (width - 2) / 2 + 1] } else { source };
        let (phases, pad, more_rows) = match (halved, doubled) {
            (true, _) => (4, 0, 1),
            (_, true) => (1, 1, 2),
            _ => (1, kh / 2, kh - 1),
        };
        let stride = grid[1] + usize::from(more_rows > 0);
        let depth = kt * taps.input;
        let rows = (BAND / (phases * depth * stride)).max(PIXELS.div_ceil(stride)).clamp(1, grid[0]);
        Self {
            taps,
            source,
            grid,
            scale: if doubled { 2 } else { 1 },
            rows,
            more_rows,
            pad,
            stride,
            depth,
            plane: (rows + more_rows) * stride + SLACK,
            phases,
            run: (rows * stride).next_multiple_of(4),
        }
    }

    /// Copies the frames `idle ..` of the kernel for the rows from `top`.
    fn copy(&self, frames: &Frames<'_>, batch: usize, first: usize, idle: usize, top: usize, to: &mut [f32]) {
        let rows = self.rows.min(self.grid[0] - top);
        for t in idle..self.taps.form.kernel[0] {
            for c in 0..self.taps.input {
                let from = frames.plane(batch, c, first + t);
                let to = &mut to[(t * self.taps.input + c) * self.plane..];
                match self.taps.form.halved {
                    true => self.part_phases(from, top, rows, to),
                    false => self.copy_rows(from, top, rows, to),
                }
            }
        }
    }

    /// Rows `top − pad …` of an image; those outside it are zeros.
    fn copy_rows(&self, from: &[f32], top: usize, rows: usize, to: &mut [f32]) {
        let [height, width] = self.source;
        for row in 0..rows + self.more_rows {
            let to = &mut to[row * self.stride + self.pad..][..width];
            match (top + row).checked_sub(self.pad).filter(|y| *y < height) {
                Some(y) => to.copy_from_slice(&from[y * width..][..width]),
                None => to.fill(0.0),
            }
        }
    }

    /// Rows `2 top …` of an image parted into even and odd rows and columns; what lies outside is zeros.
    fn part_phases(&self, from: &[f32], top: usize, rows: usize, to: &mut [f32]) {
        let [height, width] = self.source;
        for (phase, [odd_row, odd_column]) in [[0, 0], [1, 0], [0, 1], [1, 1]].into_iter().enumerate() {
            let to = &mut to[phase * self.depth * self.plane..];
            for row in 0..=rows {
                let to = &mut to[row * self.stride..][..self.stride];
                let y = 2 * (top + row) + odd_row;
                if y >= height {
                    to.fill(0.0);
                    continue;
                }
                let line = from[y * width..][..width].iter().skip(odd_column).step_by(2);
                let count = line.len().min(self.stride);
                to.iter_mut().zip(line).for_each(|(to, x)| *to = *x);
                to[count..].fill(0.0);
            }
        }
    }

    /// All taps of a parity over a band of `rows` rows; the frames before `idle` are zeros.
    fn multiply(&self, parity: usize, rows: usize, idle: usize, source: &[f32], result: &mut [f32]) {
        let Taps { values, products, output, input, .. } = self.taps;
        let count = (rows * self.stride).next_multiple_of(4);
        let mut add = false;
        for one in products.iter().filter(|one| one.parity == parity) {
            let depth = one.taps.len() * self.depth;
            let at = (one.phase * self.depth + idle * input) * self.plane + one.row * self.stride + one.column;
            product(
                [count, *output, depth - idle * input],
                Target { values: result, row: 1, column: self.run, add },
                View { values: &source[at..], row: 1, column: self.plane },
                View { values: &values[one.at + idle * input..], row: 1, column: depth },
                1.0,
            );
            add = true;
        }
    }

    /// One channel of a band's result, plus its bias, to its rows of the output's plane.
    fn store(&self, parity: usize, top: usize, rows: usize, from: &[f32], bias: f32, to: &mut [f32]) {
        let width = self.grid[1];
        for row in 0..rows {
            let from = &from[row * self.stride..][..width];
            let y = (top + row) * self.scale + (parity >> 1);
            let to = &mut to[y * width * self.scale + (parity & 1)..];
            match self.scale {
                1 => to.iter_mut().zip(from).for_each(|(to, x)| *to = x + bias),
                scale => to.iter_mut().step_by(scale).zip(from).for_each(|(to, x)| *to = x + bias),
            }
        }
    }
}

/// As [`crate::kernels::conv3d::conv3d`]; `None` where a tensor is elsewhere.
pub fn conv3d(
    x: &Tensor<5>,
    past: Option<&Tensor<5>>,
    lead: usize,
    taps: &Taps,
    bias: &Tensor<1>,
    residual: Option<&Tensor<5>>,
) -> Option<Tensor<5>> {
    let [b, _, f, height, width] = x.dims();
    let kt = taps.form.kernel[0];
    let past = past.filter(|past| past.dims()[2] > 0 && kt > 1);
    let past_frames = past.map_or(0, |past| past.dims()[2]);
    let (own, bias) = (Values::of(x)?, Values::of(bias)?);
    let past = match past {
        Some(past) => Some(Values::of(past)?),
        None => None,
    };
    let residual = match residual {
        Some(residual) => Some(Values::of(residual)?),
        None => None,
    };
    let frames = Frames {
        zeros: lead - past_frames,
        past: past.as_ref().map_or(&[], Values::as_slice),
        past_frames,
        own: own.as_slice(),
        own_frames: f,
        plane: height * width,
        channels: taps.input,
    };

    let bands = Bands::new(taps, [height, width]);
    let [grid_h, grid_w] = bands.grid;
    let pieces = if taps.form.split { 2 } else { 1 };
    let out_frames = (lead + f - kt) / taps.form.time_stride + 1;
    let channels = taps.output / pieces;
    let shape = [b, channels, out_frames * pieces, grid_h * bands.scale, grid_w * bands.scale];
    let out_plane = shape[3] * shape[4];
    let mut source = vec![0.0; bands.phases * bands.depth * bands.plane];
    let mut result = vec![0.0; taps.output * bands.run];
    let mut out = vec![0.0; shape.iter().product()];
    for batch in 0..b {
        for frame in 0..out_frames {
            let first = frame * taps.form.time_stride;
            let idle = frames.zeros.saturating_sub(first).min(kt - 1);
            for top in (0..grid_h).step_by(bands.rows) {
                let rows = bands.rows.min(grid_h - top);
                bands.copy(&frames, batch, first, idle, top, &mut source);
                for parity in 0..bands.scale * bands.scale {
                    bands.multiply(parity, rows, idle, &source, &mut result);
                    for (o, (from, bias)) in result.chunks_exact(bands.run).zip(bias.as_slice()).enumerate() {
                        let plane = ((batch * channels + o % channels) * out_frames + frame) * pieces + o / channels;
                        bands.store(parity, top, rows, from, *bias, &mut out[plane * out_plane..]);
                    }
                }
            }
        }
    }
    if let Some(residual) = residual {
        out.iter_mut().zip(residual.as_slice()).for_each(|(x, added)| *x += added);
    }
    Some(tensor(out, shape))
}
