//! Stored weights rearranged for the matrix product, so that they stay as small on the GPU as they are in the file.
//!
//! `W` `[N, K]` (rows are outputs, as checkpoints store them) becomes planes of 32-bit words, one after another, each
//! `[groups of k][⌈N / 4⌉]`: a word belongs to four neighbouring outputs, and neighbouring threads read neighbouring
//! words. `t` = ⌈N / 4⌉, `j` = output mod 4; missing outputs are zero.
//!
//! | plane | for | a word holds | words |
//! |---|---|---|---|
//! | bytes | Q8_0 | k; byte j | K t |
//! | halves | F16, BF16 | k; two words, half j | 2 K t |
//! | low bits | other Q | k / 2; 4 bits at 16 (k mod 2) + 4 j | K t / 2 |
//! | bit 4 | Q5 | k / 8; bit 4 (k mod 8) + j | K t / 8 |
//! | bits 4, 5 | Q6_K | k / 4; 2 bits at 8 (k mod 4) + 2 j | K t / 4 |
//! | d, then m or dmin | all Q | block; two words, f16 j | 2 t a block, each |
//! | scales | Q4_K, Q5_K | k / 32; byte j of the scale's word, then of the minimum's | K t / 16 |
//! | scales | Q6_K | k / 16; byte j | K t / 16 |
//!
//! Source of the block layouts: `ggml-common.h`, `gguf-py/gguf/quants.py` of llama.cpp.

use crate::error::{Error, Result};
use crate::weights::StoredType;

/// A stored type that the kernel reads as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// IEEE half precision.
    F16,
    /// The upper half of an f32.
    BF16,
    /// 32 bytes and a scale.
    Q8_0,
    /// 32 nibbles and a scale.
    Q4_0,
    /// 32 nibbles, scale and minimum.
    Q4_1,
    /// 32 times 5 bits and a scale.
    Q5_0,
    /// 32 times 5 bits, scale and minimum.
    Q5_1,
    /// 256 nibbles, 8 scales and minima of 6 bits.
    Q4K,
    /// 256 times 5 bits, 8 scales and minima of 6 bits.
    Q5K,
    /// 256 times 6 bits, 16 scales of 8 bits.
    Q6K,
}

/// Where the planes lie, in words.
struct Planes {
    high_at: usize,
    scale_at: usize,
    scale_words: usize,
    minimum: bool,
    small_at: usize,
    small_words: usize,
}

impl Packing {
    /// How tensors of a stored type are packed; `None` for types the kernel does not read, which are expanded to f32.
    pub fn of(stored: StoredType) -> Option<Self> {
        Some(match stored {
            StoredType::F16 => Self::F16,
            StoredType::BF16 => Self::BF16,
            StoredType::Q8_0 => Self::Q8_0,
            StoredType::Q4_0 => Self::Q4_0,
            StoredType::Q4_1 => Self::Q4_1,
            StoredType::Q5_0 => Self::Q5_0,
            StoredType::Q5_1 => Self::Q5_1,
            StoredType::Q4_K => Self::Q4K,
            StoredType::Q5_K => Self::Q5K,
            StoredType::Q6_K => Self::Q6K,
            _ => return None,
        })
    }

    /// Sections of the kernel's text that read it: the reader and, for quantized types, the decoder.
    pub fn sections(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::F16 => ("w.f16", None),
            Self::BF16 => ("w.bf16", None),
            Self::Q8_0 => ("w.quant", Some("q.q8_0")),
            Self::Q4_0 => ("w.quant", Some("q.q4_0")),
            Self::Q4_1 => ("w.quant", Some("q.q4_1")),
            Self::Q5_0 => ("w.quant", Some("q.q5_0")),
            Self::Q5_1 => ("w.quant", Some("q.q5_1")),
            Self::Q4K => ("w.quant", Some("q.q4_k")),
            Self::Q5K => ("w.quant", Some("q.q5_k")),
            Self::Q6K => ("w.quant", Some("q.q6_k")),
        }
    }

    /// Elements and bytes of a stored block.
    pub fn block(self) -> (usize, usize) {
        match self {
            Self::F16 | Self::BF16 => (1, 2),
            Self::Q8_0 => (32, 34),
            Self::Q4_0 => (32, 18),
            Self::Q4_1 => (32, 20),
            Self::Q5_0 => (32, 22),
            Self::Q5_1 => (32, 24),
            Self::Q4K => (256, 144),
            Self::Q5K => (256, 176),
            Self::Q6K => (256, 210),
        }
    }

    /// How many words `[n, k]` takes.
    pub fn words(self, n: usize, k: usize) -> usize {
        let Planes { small_at, small_words, .. } = self.planes(n, k);
        small_at + small_words
    }

    fn planes(self, n: usize, k: usize) -> Planes {
        let t = n.div_ceil(4);
        let length = self.block().0;
        let low_words = match self {
            Self::F16 | Self::BF16 => 2 * k * t,
            Self::Q8_0 => k * t,
            _ => k / 2 * t,
        };
        let high_words = match self {
            Self::Q6K => k / 4 * t,
            Self::Q5_0 | Self::Q5_1 | Self::Q5K => k / 8 * t,
            _ => 0,
        };
        let scale_at = low_words + high_words;
        let scale_words = if length > 1 { k / length * 2 * t } else { 0 };
        let minimum = matches!(self, Self::Q4_1 | Self::Q5_1 | Self::Q4K | Self::Q5K);
        let small_words = if length == 256 { k / 16 * t } else { 0 };
        Planes {
            high_at: low_words,
            scale_at,
            scale_words,
            minimum,
            small_at: scale_at + scale_words * (1 + usize::from(minimum)),
            small_words,
        }
    }

    /// Refuses stored bytes that are not `[n, k]` of this type.
    ///
    /// # Errors
    /// [`Error::Weights`] naming `tensor`.
    pub fn check(self, tensor: &str, bytes: usize, n: usize, k: usize) -> Result<()> {
        let (length, size) = self.block();
        match k.is_multiple_of(length) && bytes == n * k / length * size {
            true => Ok(()),
            false => {
                let expected = format!("rows of whole blocks of {length}, {n} × {k} in all");
                Err(Error::weights(tensor, expected, format!("{bytes} bytes")))
            }
        }
    }

    /// Rearranges `bytes`, the stored `[n, k]`.
    ///
    /// # Errors
    /// [`Error::Weights`] naming `tensor` when a value or scale is infinite or not a number, or `bytes` is too short.
    pub fn repack(self, tensor: &str, bytes: &[u8], n: usize, k: usize) -> Result<Vec<u32>> {
        self.check(tensor, bytes.len(), n, k)?;
        let packed = match self {
            Self::F16 => halves(bytes, n, k, 0x7c00),
            Self::BF16 => halves(bytes, n, k, 0x7f80),
            _ => self.quantized(bytes, n, k),
        };
        packed.ok_or_else(|| Error::weights(tensor, "finite values", "an infinite one or one that is not a number"))
    }

    /// `None` when a scale is not finite.
    fn quantized(self, bytes: &[u8], n: usize, k: usize) -> Option<Vec<u32>> {
        let (length, size) = self.block();
        let t = n.div_ceil(4);
        let five = matches!(self, Self::Q5_0 | Self::Q5_1 | Self::Q5K);
        let Planes { high_at, scale_at, scale_words, minimum, small_at, small_words } = self.planes(n, k);
        let mut out = vec![0u32; small_at + small_words];
        for (row, blocks) in bytes.chunks_exact(k / length * size).enumerate() {
            let (column, j) = (row / 4, row % 4);
            for (b, block) in blocks.chunks_exact(size).enumerate() {
                let at = scale_at + (b * t + column) * 2 + j / 2;
                let mut put = |at: usize, from: usize| {
                    let half = u16::from_le_bytes([block[from], block[from + 1]]);
                    out[at] |= u32::from(half) << (16 * (j % 2));
                    half & 0x7c00 != 0x7c00
                };
                let finite = put(at, if self == Self::Q6K { 208 } else { 0 });
                if !finite || (minimum && !put(at + scale_words, 2)) {
                    return None;
                }
                match self {
                    Self::Q4K | Self::Q5K => {
                        for (s, (scale, minimum)) in small_scales(&block[4..16]).into_iter().enumerate() {
                            let at = small_at + ((b * 8 + s) * t + column) * 2;
                            out[at] |= u32::from(scale) << (8 * j);
                            out[at + 1] |= u32::from(minimum) << (8 * j);
                        }
                    }
                    Self::Q6K => {
                        for (s, &scale) in block[192..208].iter().enumerate() {
                            out[small_at + (b * 16 + s) * t + column] |= u32::from(scale) << (8 * j);
                        }
                    }
                    _ => {}
                }
                for i in 0..length {
                    let at = b * length + i;
                    if self == Self::Q8_0 {
                        out[at * t + column] |= u32::from(block[2 + i]) << (8 * j);
                        continue;
                    }
                    let (low, high) = self.bits(block, i);
                    out[at / 2 * t + column] |= u32::from(low) << (16 * (at % 2) + 4 * j);
                    if five {
                        out[high_at + at / 8 * t + column] |= u32::from(high) << (4 * (at % 8) + j);
                    } else if self == Self::Q6K {
                        out[high_at + at / 4 * t + column] |= u32::from(high) << (8 * (at % 4) + 2 * j);
                    }
                }
            }
        }
        Some(out)
    }

    /// The low four bits and the bits above them of element `i` of a block.
    fn bits(self, block: &[u8], i: usize) -> (u8, u8) {
        let nibble = |from: usize, half: usize| block[from] >> (4 * half) & 15;
        let (r, up) = (i % 32, i / 32);
        match self {
            Self::Q4_0 => (nibble(2 + i % 16, i / 16), 0),
            Self::Q4_1 => (nibble(4 + i % 16, i / 16), 0),
            Self::Q5_0 => (nibble(6 + i % 16, i / 16), block[2 + i / 8] >> (i % 8) & 1),
            Self::Q5_1 => (nibble(8 + i % 16, i / 16), block[4 + i / 8] >> (i % 8) & 1),
            Self::Q4K => (nibble(16 + up / 2 * 32 + r, up % 2), 0),
            Self::Q5K => (nibble(48 + up / 2 * 32 + r, up % 2), block[16 + r] >> up & 1),
            Self::Q6K => {
                let (half, quarter) = (i / 128, i / 32 % 4);
                let low = nibble(half * 64 + i % 64, quarter / 2);
                (low, block[128 + half * 32 + r] >> (2 * quarter) & 3)
            }
            Self::F16 | Self::BF16 | Self::Q8_0 => (0, 0),
        }
    }
}

/// The eight 6-bit scales and minima of a Q4_K or Q5_K block from their 12 bytes.
fn small_scales(packed: &[u8]) -> [(u8, u8); 8] {
    std::array::from_fn(|s| match s {
        0..4 => (packed[s] & 63, packed[s + 4] & 63),
        _ => {
            let both = packed[s + 4];
            ((both & 15) | (packed[s - 4] >> 6) << 4, (both >> 4) | (packed[s] >> 6) << 4)
        }
    })
}

/// 16-bit values `[n, k]` → `[k, 4 ⌈n / 4⌉]`; `exponent` all ones means infinite or not a number.
fn halves(bytes: &[u8], n: usize, k: usize, exponent: u16) -> Option<Vec<u32>> {
    let t = n.div_ceil(4);
    let mut out = vec![0u32; 2 * k * t];
    for (row, values) in bytes.chunks_exact(2 * k).enumerate() {
        for (i, value) in values.chunks_exact(2).enumerate() {
            let half = u16::from_le_bytes([value[0], value[1]]);
            if half & exponent == exponent {
                return None;
            }
            out[(i * t + row / 4) * 2 + row % 4 / 2] |= u32::from(half) << (16 * (row % 2));
        }
    }
    Some(out)
}
