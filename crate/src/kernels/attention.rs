//! Attention with an online softmax: no L × S matrix is ever stored, so memory grows with the length only.
//!
//! Source: FlashAttention 2205.14135 §3.1; online softmax 1805.02867. Heads stay inside `[B, L, N, K]`: nothing is
//! transposed on the way in or out.

use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Tensor, module};

use super::launch::{Shader, blocks, fill, fold, lane_values, on_gpu, output_like, tensor};
pub use super::ops::Scores;
use super::{Kernel, Switches, cpu};

/// Attention over heads.
///
/// # Shapes
/// `query` `[B, L, N, K]`, `key` and `value` `[B, S, N, K]` → `[B, L, N × K]`
pub fn attention(query: Tensor<4>, key: Tensor<4>, value: Tensor<4>, scores: Scores) -> Tensor<3> {
    let switches = Switches::of(&query.device());
    let done = switches.run(
        Kernel::Attention,
        || fused(&query, &key, &value, &scores, switches),
        || cpu::attention::attention(&query, &key, &value, &scores),
    );
    done.unwrap_or_else(|| attention_plain(query, key, value, scores))
}

/// The twin of [`attention`] in plain tensors.
pub fn attention_plain(query: Tensor<4>, key: Tensor<4>, value: Tensor<4>, scores: Scores) -> Tensor<3> {
    let [b, l, n, k] = query.dims();
    let s = key.dims()[1];
    let heads_first = |x: Tensor<4>| x.swap_dims(1, 2);
    let bias = scores.bias.map(|bias| bias.expand([b, n, l, s]));
    let hidden = scores.seen.map(|seen| seen.equal_elem(0.0).reshape([b, 1, 1, s]).expand([b, n, l, s]));
    let options = AttentionModuleOptions { scale: scores.scale, ..Default::default() };
    let out = module::attention(heads_first(query), heads_first(key), heads_first(value), hidden, bias, options);
    out.swap_dims(1, 2).reshape([b, l, n * k])
}

/// `None` where the kernel has no variant for the case.
fn fused(
    query: &Tensor<4>,
    key: &Tensor<4>,
    value: &Tensor<4>,
    scores: &Scores,
    switches: Switches,
) -> Option<Tensor<3>> {
    let [b, l, n, k] = query.dims();
    let s = key.dims()[1];
    if !k.is_multiple_of(4) || k > 1024 || s == 0 || b * l * n * k == 0 {
        return None;
    }
    let (q, key, value) = (on_gpu(query)?, on_gpu(key)?, on_gpu(value)?);
    let mut extra = Vec::new();
    let mut bias_batch = 1;
    if let Some(bias) = &scores.bias {
        bias_batch = bias.dims()[0];
        extra.push(on_gpu(bias)?);
    }
    if let Some(seen) = &scores.seen {
        extra.push(on_gpu(seen)?);
    }
    let out = output_like(&q, [b, l, n * k]);
    let mut buffers = vec![&q, &key, &value, &out];
    buffers.extend(&extra);
    let scale = scores.scale.unwrap_or(1.0 / (k as f64).sqrt()) as f32;
    let tile = Tile::choose(l, k, switches.software);
    let half = switches.half_tiles && matches!(tile, Tile::Workgroup { .. });
    let variant = Variant { tile, vectors: k / 4, bias: scores.bias.is_some(), seen: scores.seen.is_some(), half };
    let count = match variant.tile {
        Tile::Registers => fold((b * n * l.div_ceil(4)).div_ceil(8)),
        Tile::Workgroup { row_groups, .. } => [blocks(l, 4 * row_groups), n as u32, b as u32],
    };
    let words = [l, s, n, bias_batch, scale.to_bits() as usize, k / 4, b, 0].map(|w| w as u32);
    variant.shader().launch(&buffers, &words, count);
    Some(tensor(out))
}

/// How the work is cut.
#[derive(Debug, Clone, Copy)]
enum Tile {
    /// Four rows of a head a thread; the running sums live in the output. For software adapters.
    Registers,
    /// Threads across the keys and down the rows, keys a thread scores at once, vectors staged at once.
    Workgroup { key_groups: usize, row_groups: usize, keys: usize, staged: usize },
}

impl Tile {
    fn choose(rows: usize, head_dim: usize, software: bool) -> Self {
        let (key_groups, row_groups, keys, staged) = match (head_dim, rows) {
            _ if software => return Self::Registers,
            (129.., _) => (32, 8, 2, 2),
            (_, 257..) => (8, 16, 4, 4),
            _ => (8, 8, 4, 4),
        };
        Self::Workgroup { key_groups, row_groups, keys, staged }
    }
}

#[derive(Debug, Clone, Copy)]
struct Variant {
    tile: Tile,
    vectors: usize,
    bias: bool,
    seen: bool,
    half: bool,
}

impl Variant {
    fn shader(self) -> Shader {
        let (key, threads) = match self.tile {
            // One pipeline serves every head size here.
            Tile::Registers => (format!("{:?}", Self { vectors: 0, ..self }), 8),
            Tile::Workgroup { key_groups, row_groups, .. } => (format!("{self:?}"), (key_groups * row_groups) as u32),
        };
        Shader { name: "attention", key, source: Box::new(move || self.source()), threads }
    }

    fn source(self) -> String {
        let score = self.score();
        let numbers: Vec<(&str, usize)> = match self.tile {
            Tile::Registers => vec![("wg", 8)],
            Tile::Workgroup { key_groups, row_groups, keys, staged } => {
                let room = (4 * row_groups + key_groups * keys) * staged;
                // As many values as fit where queries and keys were; a power of two that divides the keys of a turn.
                let mut values = 1;
                while 2 * values * self.vectors <= room && 2 * values <= key_groups * keys {
                    values *= 2;
                }
                vec![
                    ("k4", self.vectors),
                    ("cg", key_groups),
                    ("rg", row_groups),
                    ("kt", keys),
                    ("kc", staged),
                    ("vk", values),
                    ("stage", room.max(values * self.vectors)),
                    ("threads", key_groups * row_groups),
                ]
            }
        };
        let numbers: Vec<(&str, String)> = numbers.into_iter().map(|(name, n)| (name, n.to_string())).collect();
        let mut values = vec![("score", score.as_str())];
        values.extend(lane_values(self.half));
        values.extend(numbers.iter().map(|(name, n)| (*name, n.as_str())));
        let text = match self.tile {
            Tile::Registers => include_str!("attention_software.wgsl"),
            Tile::Workgroup { .. } => include_str!("attention_gpu.wgsl"),
        };
        fill(text, &values)
    }

    /// The bindings after the output and what becomes of a score.
    fn score(self) -> String {
        let mut text = String::new();
        let mut binding = 4;
        let mut bind = |declaration: &str| {
            text += &format!("@group(0) @binding({binding}) {declaration};\n");
            binding += 1;
        };
        if self.bias {
            bind("var<storage, read_write> bias: array<f32>"); // [Bb, N, L, S]
        }
        if self.seen {
            bind("var<storage, read_write> seen: array<f32>"); // [B, S]
        }
        bind("var<uniform> P: array<vec4<u32>, 2>");
        let biased = match self.bias {
            true => "score + bias[((min(b, P[0].w - 1u) * P[0].z + n) * P[0].x + l) * P[0].y + s]",
            false => "score",
        };
        let edited = match self.seen {
            true => format!("select({biased}, HIDDEN, seen[b * P[0].y + s] == 0.0)"),
            false => biased.to_string(),
        };
        text += &format!("fn edit(score: f32, b: u32, n: u32, l: u32, s: u32) -> f32 {{ return {edited}; }}\n");
        text
    }
}
