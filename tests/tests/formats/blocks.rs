//! Values as GGUF types. Those that nothing here can encode get random blocks: any block of a type stands for some values.

use tabreel::noise::TorchRng;
use tabreel::weights::{StoredType, decode, quantize};
use tabreel_tests::bf16_bytes;

/// All types that a GGUF of Wan may have.
pub const TYPES: [StoredType; 15] = [
    StoredType::F32,
    StoredType::F16,
    StoredType::BF16,
    StoredType::Q8_0,
    StoredType::Q4_0,
    StoredType::Q4_1,
    StoredType::Q5_0,
    StoredType::Q5_1,
    StoredType::Q2_K,
    StoredType::Q3_K,
    StoredType::Q4_K,
    StoredType::Q5_K,
    StoredType::Q6_K,
    StoredType::IQ4_NL,
    StoredType::IQ4_XS,
];

/// As ComfyUI-GGUF chooses: matrices get the type, vectors, tables and patch embeddings stay f32; plain 16-bit files are so
/// throughout.
pub fn type_of(name: &str, shape: &[usize], target: StoredType) -> StoredType {
    let delicate = name.contains("scale_shift_table") || name.contains("patch_embedding") || name.contains("pos_embed");
    let whole = shape.last().is_some_and(|row| row % target.block_len() == 0);
    match target.is_quantized() {
        false => target,
        true if shape.len() == 2 && whole && !delicate => target,
        true => StoredType::F32,
    }
}

/// How far (relative L2) a model's output may be from f32; none for types whose blocks are random.
pub fn precision(dtype: StoredType) -> Option<f64> {
    match dtype {
        StoredType::F32 => Some(0.0),
        StoredType::F16 => Some(2e-3),
        StoredType::BF16 => Some(2e-2),
        StoredType::Q8_0 => Some(3e-2),
        StoredType::Q4_0 => Some(0.5),
        _ => None,
    }
}

/// The values in this type.
pub fn encode(values: &[f32], dtype: StoredType, seed: u64) -> Vec<u8> {
    match dtype {
        StoredType::F32 | StoredType::F16 | StoredType::Q8_0 | StoredType::Q4_0 => {
            quantize::encode(values, dtype).expect("whole blocks")
        }
        StoredType::BF16 => bf16_bytes(values),
        _ => random_blocks(values.len() / dtype.block_len(), dtype, seed),
    }
}

/// Where a block keeps its 16-bit scales, bytes from its start.
fn scales(dtype: StoredType) -> &'static [usize] {
    match dtype {
        StoredType::Q4_1 | StoredType::Q5_1 | StoredType::Q4_K | StoredType::Q5_K => &[0, 2],
        StoredType::Q2_K => &[80, 82],
        StoredType::Q3_K => &[108],
        StoredType::Q6_K => &[208],
        _ => &[0],
    }
}

fn random_blocks(count: usize, dtype: StoredType, seed: u64) -> Vec<u8> {
    // Bits of normal numbers: below the sign and exponent they are as good as any.
    let mut rng = TorchRng::new(seed);
    let normal = rng.randn(&[count * dtype.block_bytes()]);
    let mut bytes: Vec<u8> = normal.iter().map(|v| (v.to_bits() >> 7) as u8).collect();
    let set = |bytes: &mut [u8], scale: u16| {
        for block in bytes.chunks_exact_mut(dtype.block_bytes()) {
            scales(dtype).iter().for_each(|&at| block[at..at + 2].copy_from_slice(&scale.to_le_bytes()));
        }
    };
    // 1 first; then the power of two that brings the values near those of a layer.
    const ONE: u16 = 15 << 10;
    set(&mut bytes, ONE);
    let values = decode(dtype, &bytes);
    let size = (values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / values.len() as f64).sqrt();
    let exponent = ((0.06 / size).log2().round() as i32).clamp(-14, 0);
    set(&mut bytes, ((15 + exponent) as u16) << 10);
    bytes
}
