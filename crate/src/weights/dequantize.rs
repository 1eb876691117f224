//! Stored elements → f32, number for number as the `gguf` Python package decodes them.
//!
//! Source: `gguf-py/gguf/quants.py` of <https://github.com/ggml-org/llama.cpp> (gguf 0.19). A block is a few scales
//! followed by packed integers; each function below decodes one block.

use half::f16;

use super::info::StoredType;
use crate::error::{Error, Result};

/// The 16 levels of the non-linear 4-bit types.
const IQ4_LEVELS: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// Decodes whole blocks to f32.
///
/// Bytes after the last whole block are ignored; callers pass a range of the right size (the file readers check it). Of an
/// unknown type there are no values: [`super::WeightFile::read`] refuses it before.
pub fn decode(dtype: StoredType, bytes: &[u8]) -> Vec<f32> {
    let mut out = Vec::with_capacity(bytes.len() / dtype.block_bytes() * dtype.block_len());
    match dtype {
        StoredType::F32 => out.extend(words(bytes).map(f32::from_le_bytes)),
        StoredType::F16 => out.extend(words(bytes).map(|w| f16::from_le_bytes(w).to_f32())),
        StoredType::BF16 => out.extend(words(bytes).map(|w| f32::from_bits(u32::from(u16::from_le_bytes(w)) << 16))),
        StoredType::F64 => out.extend(words(bytes).map(|w| f64::from_le_bytes(w) as f32)),
        StoredType::I64 => out.extend(words(bytes).map(|w| i64::from_le_bytes(w) as f32)),
        StoredType::I32 => out.extend(words(bytes).map(|w| i32::from_le_bytes(w) as f32)),
        StoredType::U8 => out.extend(bytes.iter().map(|&b| f32::from(b))),
        StoredType::Bool => out.extend(bytes.iter().map(|&b| f32::from(u8::from(b != 0)))),
        StoredType::F8_E4M3 => out.extend(bytes.iter().map(|&b| super::float8::e4m3(b))),
        StoredType::F8_E5M2 => out.extend(bytes.iter().map(|&b| super::float8::e5m2(b))),
        StoredType::Q4_0 => blocks::<18>(bytes, &mut out, q4_0),
        StoredType::Q4_1 => blocks::<20>(bytes, &mut out, q4_1),
        StoredType::Q5_0 => blocks::<22>(bytes, &mut out, q5_0),
        StoredType::Q5_1 => blocks::<24>(bytes, &mut out, q5_1),
        StoredType::Q8_0 => blocks::<34>(bytes, &mut out, q8_0),
        StoredType::Q2_K => blocks::<84>(bytes, &mut out, q2_k),
        StoredType::Q3_K => blocks::<110>(bytes, &mut out, q3_k),
        StoredType::Q4_K => blocks::<144>(bytes, &mut out, q4_k),
        StoredType::Q5_K => blocks::<176>(bytes, &mut out, q5_k),
        StoredType::Q6_K => blocks::<210>(bytes, &mut out, q6_k),
        StoredType::IQ4_NL => blocks::<18>(bytes, &mut out, iq4_nl),
        StoredType::IQ4_XS => blocks::<136>(bytes, &mut out, iq4_xs),
        StoredType::Unknown => {}
    }
    out
}

/// Refuses values that are infinite or not numbers.
///
/// # Errors
/// [`Error::Weights`] naming the tensor and the first of them.
pub fn finite(name: &str, values: Vec<f32>) -> Result<Vec<f32>> {
    match values.iter().position(|v| !v.is_finite()) {
        None => Ok(values),
        Some(at) => Err(Error::weights(name, "finite values", format!("{} at element {at}", values[at]))),
    }
}

fn words<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    bytes.as_chunks::<N>().0.iter().copied()
}

fn blocks<const N: usize>(bytes: &[u8], out: &mut Vec<f32>, decode: impl Fn(&[u8; N], &mut Vec<f32>)) {
    for block in bytes.as_chunks::<N>().0 {
        decode(block, out);
    }
}

/// The f16 at byte `at` of a block.
fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Nibble `i` of 16 bytes: the low halves first, then the high halves.
fn nibble(packed: &[u8], i: usize) -> u8 {
    let half = packed.len();
    if i < half { packed[i] & 0x0F } else { packed[i - half] >> 4 }
}

fn q4_0(b: &[u8; 18], out: &mut Vec<f32>) {
    let d = half_at(b, 0);
    out.extend((0..32).map(|i| d * (f32::from(nibble(&b[2..], i)) - 8.0)));
}

fn q4_1(b: &[u8; 20], out: &mut Vec<f32>) {
    let (d, min) = (half_at(b, 0), half_at(b, 2));
    out.extend((0..32).map(|i| d * f32::from(nibble(&b[4..], i)) + min));
}

/// Five bits: a nibble and, in a separate bit field, the fifth.
fn five_bits(high: &[u8], packed: &[u8], i: usize) -> f32 {
    let fifth = (high[i / 8] >> (i % 8)) & 1;
    f32::from(nibble(packed, i) | (fifth << 4))
}

fn q5_0(b: &[u8; 22], out: &mut Vec<f32>) {
    let d = half_at(b, 0);
    out.extend((0..32).map(|i| d * (five_bits(&b[2..6], &b[6..], i) - 16.0)));
}

fn q5_1(b: &[u8; 24], out: &mut Vec<f32>) {
    let (d, min) = (half_at(b, 0), half_at(b, 2));
    out.extend((0..32).map(|i| d * five_bits(&b[4..8], &b[8..], i) + min));
}

fn q8_0(b: &[u8; 34], out: &mut Vec<f32>) {
    let d = half_at(b, 0);
    out.extend(b[2..].iter().map(|&q| f32::from(q as i8) * d));
}

/// Two bits of element `i` of 256: 64 bytes, 32 at a time, each holding four elements 32 apart.
fn two_bits(packed: &[u8], i: usize) -> u8 {
    (packed[i / 128 * 32 + i % 32] >> (2 * (i / 32 % 4))) & 3
}

fn q2_k(b: &[u8; 84], out: &mut Vec<f32>) {
    let (scales, qs) = (&b[..16], &b[16..80]);
    let (d, dmin) = (half_at(b, 80), half_at(b, 82));
    out.extend((0..256).map(|i| {
        let scale = scales[i / 16];
        (d * f32::from(scale & 0x0F)) * f32::from(two_bits(qs, i)) - dmin * f32::from(scale >> 4)
    }));
}

fn q3_k(b: &[u8; 110], out: &mut Vec<f32>) {
    let (mask, qs, packed) = (&b[..32], &b[32..96], &b[96..108]);
    let d = half_at(b, 108);
    // 16 scales of 6 bits: the low four in 8 bytes, the high two in 4.
    let scale = |j: usize| {
        let low = nibble(&packed[..8], j);
        let high = (packed[8 + j % 4] >> (2 * (j / 4))) & 3;
        f32::from(low | (high << 4)) - 32.0
    };
    out.extend((0..256).map(|i| {
        let offset = if (mask[i % 32] >> (i / 32)) & 1 == 1 { 0.0 } else { 4.0 };
        (d * scale(i / 16)) * (f32::from(two_bits(qs, i)) - offset)
    }));
}

/// Scale and minimum `j` of 8, six bits each in 12 bytes, as Q4_K and Q5_K pack them.
fn scale_and_min(packed: &[u8], j: usize) -> (f32, f32) {
    let (scale, min) = if j < 4 {
        (packed[j] & 0x3F, packed[j + 4] & 0x3F)
    } else {
        ((packed[j + 4] & 0x0F) | ((packed[j - 4] >> 2) & 0x30), (packed[j + 4] >> 4) | ((packed[j] >> 2) & 0x30))
    };
    (f32::from(scale), f32::from(min))
}

/// Four bits of element `i` of 256: 128 bytes, `run` at a time, each holding two elements `run` apart.
fn four_bits(packed: &[u8], i: usize, run: usize) -> u8 {
    nibble(&packed[i / (2 * run) * run..][..run], i % (2 * run))
}

fn q4_k(b: &[u8; 144], out: &mut Vec<f32>) {
    let (d, dmin) = (half_at(b, 0), half_at(b, 2));
    for j in 0..8 {
        let (scale, min) = scale_and_min(&b[4..16], j);
        let (scale, min) = (d * scale, dmin * min);
        out.extend((32 * j..32 * j + 32).map(|i| scale * f32::from(four_bits(&b[16..], i, 32)) - min));
    }
}

fn q5_k(b: &[u8; 176], out: &mut Vec<f32>) {
    let (high, qs) = (&b[16..48], &b[48..]);
    let (d, dmin) = (half_at(b, 0), half_at(b, 2));
    for j in 0..8 {
        let (scale, min) = scale_and_min(&b[4..16], j);
        let (scale, min) = (d * scale, dmin * min);
        out.extend((32 * j..32 * j + 32).map(|i| {
            let fifth = (high[i % 32] >> j) & 1;
            scale * f32::from(four_bits(qs, i, 32) | (fifth << 4)) - min
        }));
    }
}

fn q6_k(b: &[u8; 210], out: &mut Vec<f32>) {
    let (low, high, scales) = (&b[..128], &b[128..192], &b[192..208]);
    let d = half_at(b, 208);
    out.extend((0..256).map(|i| {
        let q = four_bits(low, i, 64) | (two_bits(high, i) << 4);
        (d * f32::from(scales[i / 16] as i8)) * (f32::from(q) - 32.0)
    }));
}

fn iq4_nl(b: &[u8; 18], out: &mut Vec<f32>) {
    let d = half_at(b, 0);
    out.extend((0..32).map(|i| d * f32::from(IQ4_LEVELS[usize::from(nibble(&b[2..], i))])));
}

fn iq4_xs(b: &[u8; 136], out: &mut Vec<f32>) {
    let d = half_at(b, 0);
    let scales_high = u16::from_le_bytes([b[2], b[3]]);
    for j in 0..8 {
        let low = (b[4 + j / 2] >> (4 * (j % 2))) & 0x0F;
        let high = ((scales_high >> (2 * j)) & 3) as u8;
        let scale = d * (f32::from(low | (high << 4)) - 32.0);
        let packed = &b[8 + 16 * j..8 + 16 * j + 16];
        out.extend((0..32).map(|i| scale * f32::from(IQ4_LEVELS[usize::from(nibble(packed, i))])));
    }
}
