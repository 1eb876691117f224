//! The layers of TAEHV: 2-D convolutions over each frame, and regrouping of frames and channels.

use burn::tensor::{Tensor, activation};

use super::BLOCKS;
use crate::error::Result;
use crate::nn::conv::{Depthwise, Form, FrameConv};
use crate::nn::loader::Loader;

/// Bytes of the largest tensors that are made at once.
pub const MOST_AT_ONCE: usize = 64 << 20;

/// The last frame that a block saw; none at the start of a clip.
pub type Past = Option<Tensor<5>>;

/// A residual block that sees each frame and the one before.
#[derive(Debug, Clone)]
pub struct MemBlock {
    /// The larger decoder's blocks look at each channel's surroundings first, and then at pixels alone: ConvNeXt (2201.03545).
    around: Option<Depthwise>,
    /// With a ReLU between two.
    convs: Vec<FrameConv>,
}

impl MemBlock {
    /// Reads the blocks `first`, `first` + 1 … of a level.
    ///
    /// # Errors
    /// [`crate::error::Error::Weights`] when a tensor is missing or mis-shaped.
    pub async fn load_all(side: &Loader, first: usize, width: usize, is_super: bool) -> Result<Vec<Self>> {
        let mut blocks = Vec::with_capacity(BLOCKS);
        for index in first..first + BLOCKS {
            let conv = side.at(index).at("conv");
            blocks.push(match is_super {
                true => Self {
                    around: Some(Depthwise::load(&conv.at(0), 2 * width, 7).await?),
                    convs: vec![
                        FrameConv::load(&conv.at(1), 2 * width, 4 * width, 1).await?,
                        pointwise(&conv.at(3), 4 * width, [width, width]).await?,
                    ],
                },
                false => Self {
                    around: None,
                    convs: vec![
                        FrameConv::load(&conv.at(0), 2 * width, width, 3).await?,
                        FrameConv::load(&conv.at(2), width, width, 3).await?,
                        FrameConv::load(&conv.at(4), width, width, 3).await?,
                    ],
                },
            });
        }
        Ok(blocks)
    }

    /// # Shapes
    /// `[1, C, F, H, W]` → the same; `past` `[1, C, 1, H, W]` becomes the last frame of `x`.
    pub fn forward(&self, x: Tensor<5>, past: &mut Past) -> Tensor<5> {
        let frames = x.dims()[2];
        if frames > 1 && 2 * x.shape().num_elements() * size_of::<f32>() > MOST_AT_ONCE {
            let one_by_one = (0..frames).map(|frame| self.forward(x.clone().narrow(2, frame, 1), past));
            return Tensor::cat(one_by_one.collect(), 2);
        }
        let last = x.clone().narrow(2, frames - 1, 1);
        let before = past.replace(last.clone()).unwrap_or_else(|| last.zeros_like());
        let before = match frames {
            1 => before,
            _ => Tensor::cat(vec![before, x.clone().narrow(2, 0, frames - 1)], 2),
        };
        let both = Tensor::cat(vec![x.clone(), before], 1);
        let Some(around) = &self.around else { return activation::relu(self.convolved(both) + x) };
        let y = around.forward(both);
        let [_, c, f, h, w] = y.dims();
        // Twice as many channels come next, the largest tensor, and nothing from here on looks at another row.
        let rows = (MOST_AT_ONCE / (2 * c * f * w * size_of::<f32>())).clamp(1, h);
        let part = |row: usize| self.convolved(y.clone().narrow(3, row, rows.min(h - row)));
        Tensor::cat((0..h).step_by(rows).map(part).collect(), 3) + x
    }

    fn convolved(&self, mut x: Tensor<5>) -> Tensor<5> {
        for (index, conv) in self.convs.iter().enumerate() {
            x = conv.forward(if index == 0 { x } else { activation::relu(x) });
        }
        x
    }
}

/// A kernel of one pixel without a bias; of a file with more rows, the last count.
///
/// # Errors
/// As [`MemBlock::load_all`].
pub async fn pointwise(loader: &Loader, input: usize, rows: [usize; 2]) -> Result<FrameConv> {
    FrameConv::load_without_bias(loader, input, rows, Form::plain([1, 1, 1])).await
}

/// A kernel of one pixel that makes each frame one or two.
#[derive(Debug, Clone)]
pub struct Grow {
    conv: FrameConv,
    times: usize,
}

impl Grow {
    /// Reads `conv.weight` `[times · width, width, 1, 1]`; of a file with more rows, the last count.
    ///
    /// # Errors
    /// As [`MemBlock::load_all`].
    pub async fn load(loader: &Loader, width: usize, doubles: bool) -> Result<Self> {
        let times = if doubles { 2 } else { 1 };
        let (conv, rows) = (loader.at("conv"), times * width);
        // A file for four frames a latent frame may bring rows for eight; the reference cuts them off in front.
        let doubled = conv.shape("weight").is_some_and(|shape| shape.first() == Some(&(2 * rows)));
        let stored = if doubled { 2 * rows } else { rows };
        Ok(Self { conv: pointwise(&conv, width, [stored, rows]).await?, times })
    }

    /// # Shapes
    /// `[1, C, F, H, W]` → `[1, C, times · F, H, W]`
    pub fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let [b, c, f, h, w] = x.dims();
        let y = self.conv.forward(x);
        match self.times {
            1 => y,
            n => y.reshape([b, n, c, f, h * w]).permute([0, 2, 3, 1, 4]).reshape([b, c, n * f, h, w]),
        }
    }
}

/// A kernel of one pixel that makes one frame of each one or two.
#[derive(Debug, Clone)]
pub struct Pool {
    conv: FrameConv,
    times: usize,
}

impl Pool {
    /// Reads `conv.weight` `[width, times · width, 1, 1]`.
    ///
    /// # Errors
    /// As [`MemBlock::load_all`].
    pub async fn load(loader: &Loader, width: usize, halves: bool) -> Result<Self> {
        let times = if halves { 2 } else { 1 };
        Ok(Self { conv: pointwise(&loader.at("conv"), times * width, [width, width]).await?, times })
    }

    /// How many frames become one.
    pub fn times(&self) -> usize {
        self.times
    }

    /// # Shapes
    /// `[1, C, F, H, W]` → `[1, C, F / times, H, W]`
    pub fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let [b, c, f, h, w] = x.dims();
        let x = match self.times {
            1 => x,
            n => x.reshape([b, c, f / n, n, h * w]).permute([0, 3, 1, 2, 4]).reshape([b, n * c, f / n, h, w]),
        };
        self.conv.forward(x)
    }
}

/// Some rows of a frame, with neighbours above and below that convolutions over them look at.
pub struct Strip {
    /// `[1, C, 1, above + count + below, W]`
    pub rows: Tensor<5>,
    /// Rows above that count to the strip before.
    pub above: usize,
    /// Its own rows.
    pub count: usize,
}

/// A frame cut into strips that, doubled in size and `width` channels deep, take no more than [`MOST_AT_ONCE`] each.
pub fn strips(frame: Tensor<5>, width: usize) -> Vec<Strip> {
    let [_, _, _, height, across] = frame.dims();
    let mut first = 0;
    let strip = |(above, count, below): (usize, usize, usize)| {
        let rows = frame.clone().narrow(3, first - above, above + count + below);
        first += count;
        Strip { rows, above, count }
    };
    strip_rows([height, across], width).into_iter().map(strip).collect()
}

/// Rows above, of its own and below of each strip of a frame of this height and width.
pub fn strip_rows([height, across]: [usize; 2], width: usize) -> Vec<(usize, usize, usize)> {
    /// The convolution that doubles looks one row further, the one after it half a row.
    const MARGIN: usize = 2;
    let most = (MOST_AT_ONCE / (4 * width * across * size_of::<f32>()).max(1)).saturating_sub(2 * MARGIN).max(1);
    let step = height.div_ceil(height.div_ceil(most).max(1)).max(1);
    let strip = |first: usize| {
        let count = step.min(height - first);
        (MARGIN.min(first), count, MARGIN.min(height - first - count))
    };
    (0..height).step_by(step).map(strip).collect()
}

/// Every second row and column, from the first on: what a stride of two leaves of a convolution.
///
/// # Shapes
/// `[1, C, F, H, W]` → `[1, C, F, H / 2, W / 2]`
pub fn halved(x: Tensor<5>) -> Tensor<5> {
    let [b, c, f, h, w] = x.dims();
    let x = x.reshape([b * c * f, h / 2, 2, w]).narrow(2, 0, 1);
    x.reshape([b * c * f, h / 2, w / 2, 2]).narrow(3, 0, 1).reshape([b, c, f, h / 2, w / 2])
}

/// torch's `pixel_shuffle`.
///
/// # Shapes
/// `[1, C · p · p, F, H, W]` → `[1, C, F, p · H, p · W]`
pub fn shuffled(x: Tensor<5>, patch: usize) -> Tensor<5> {
    let [b, c, f, h, w] = x.dims();
    if patch == 1 {
        return x;
    }
    let c = c / (patch * patch);
    let x = x.reshape([b * c, patch, patch, f, h, w]).permute([0, 3, 4, 1, 5, 2]);
    x.reshape([b, c, f, h * patch, w * patch])
}

/// torch's `pixel_unshuffle`.
///
/// # Shapes
/// `[1, C, F, p · H, p · W]` → `[1, C · p · p, F, H, W]`
pub fn unshuffled(x: Tensor<5>, patch: usize) -> Tensor<5> {
    let [b, c, f, h, w] = x.dims();
    if patch == 1 {
        return x;
    }
    let (h, w) = (h / patch, w / patch);
    let x = x.reshape([b * c, f, h, patch, w, patch]).permute([0, 3, 5, 1, 2, 4]);
    x.reshape([b, c * patch * patch, f, h, w])
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use burn::tensor::{Device, Tensor, TensorData};
    use pollster::block_on;

    use super::{MOST_AT_ONCE, MemBlock, strips};
    use crate::models::tests::set_of;
    use crate::nn::loader::Loader;

    #[test]
    fn strips_are_small_enough_and_cover_a_frame() {
        let frame = Tensor::<5>::zeros([1, 1, 1, 360, 640], &Device::flex());
        let cut = strips(frame, 64);
        assert!(cut.len() > 1);
        assert_eq!(cut.iter().map(|strip| strip.count).sum::<usize>(), 360);
        for (index, strip) in cut.iter().enumerate() {
            let rows = strip.rows.dims()[3];
            assert!(rows * 640 * 4 * 64 * size_of::<f32>() <= MOST_AT_ONCE);
            assert_eq!(strip.above, if index == 0 { 0 } else { 2 });
            let below = rows - strip.above - strip.count;
            assert_eq!(below, if index + 1 == cut.len() { 0 } else { 2 });
        }
    }

    #[test]
    fn a_frame_of_the_larger_decoder_in_pieces_is_what_its_rows_are_alone() {
        let (device, width, shape) = (Device::flex(), 6, [1usize, 6, 1, 1200, 600]);
        let loader = Loader::new(&Rc::new(set_of("taehv_super/weights.safetensors")), &device);
        let blocks = block_on(MemBlock::load_all(&loader.at("decoder"), 15, width, true)).unwrap();
        let values: Vec<f32> = (0..shape.iter().product::<usize>()).map(|i| (i * 37 % 1009) as f32 / 500.0).collect();
        let x = Tensor::<5>::from_data(TensorData::new(values, shape), &device);
        // The channels between take four times as much: two pieces, of which the second begins here.
        let edge = MOST_AT_ONCE / (4 * width * 600 * size_of::<f32>());
        assert!((20..1180).contains(&edge), "{edge}");
        let whole = blocks[0].forward(x.clone(), &mut None);
        // A kernel of seven looks three rows further.
        let rows = blocks[0].forward(x.narrow(3, edge - 13, 26), &mut None).narrow(3, 3, 20);
        let apart = (whole.narrow(3, edge - 10, 20) - rows).into_data().try_to_vec::<f32>().unwrap();
        assert!(apart.iter().all(|difference| difference.abs() < 1e-4));
    }
}
