//! The tensors of a clip's steps, as they come and go in [`super::block`], [`super::vace`] and [`super::transformer`].

use super::block::feed_forward_rows;
use super::config::TransformerConfig;
use super::fixed::keeps_projected;
use crate::memory::pool::{Pool, Taken};
use crate::models::family::Prompts;

/// Tensors as large as the latents that stay through the steps or are made in each: the latents, what a solver remembers of
/// earlier steps, the velocities.
const LATENTS: usize = 6;
/// Blocks after which nothing new is needed.
const BLOCKS: usize = 2;

/// Values of a pass's tensors.
struct Pass<'a> {
    config: &'a TransformerConfig,
    rows: u64,
    /// Tokens of a clip, L.
    length: u64,
    /// `[B, L, D]`
    stream: u64,
    /// `[B, Lt, D]`
    context: u64,
    /// Whether each token has a time of its own.
    timed: bool,
}

/// Takes of `pool` what a clip of so many latent cells takes from its prompts to its last step; `timed` if each token has a time of
/// its own.
pub(super) fn denoise(pool: &Pool, config: &TransformerConfig, cells: u64, prompts: Prompts, timed: bool) {
    let (rows, tokens, d) = (prompts.rows as u64, prompts.tokens as u64, config.hidden_dim() as u64);
    let length = cells / config.patch_size.iter().product::<usize>().max(1) as u64;
    let pass = Pass { config, rows, length, stream: rows * length * d, context: rows * tokens * d, timed };
    let embeds: Vec<Taken> = (0..prompts.passes).map(|_| pool.take(rows * tokens * config.text_dim as u64)).collect();
    let control = (!config.vace_layers.is_empty()).then_some(cells * config.vace_in_channels as u64);
    let mut stays: Vec<Taken> = control.iter().map(|values| pool.take(*values)).collect();
    for embeds in embeds {
        // Cosines and sines, the prompt at model width and, where they are few, its keys and values in each block.
        stays.extend([(); 2].map(|()| pool.take(length * config.attention_head_dim as u64 / 2)));
        let hidden = pool.turn(embeds, pass.context);
        let context = pool.turn(hidden, pass.context);
        match pass.keeps_projected() {
            true => stays.extend((0..2 * pass.blocks()).map(|_| pool.take(pass.context))),
            false => stays.push(context),
        }
        if let Some(control) = control {
            let embedded = pool.turn(pool.take(control), length * d);
            stays.push(pool.turn(embedded, length * d));
        }
    }
    stays.extend((0..LATENTS).map(|_| pool.take(cells * config.out_channels() as u64)));
    for _ in 0..prompts.passes {
        pass.rehearse(pool, cells);
    }
}

impl Pass<'_> {
    /// Blocks of both streams.
    fn blocks(&self) -> usize {
        self.config.num_layers + self.config.vace_layers.len()
    }

    fn keeps_projected(&self) -> bool {
        keeps_projected(self.context as usize, self.blocks())
    }

    fn rehearse(&self, pool: &Pool, cells: u64) {
        let clip = self.length * self.config.hidden_dim() as u64;
        let input = pool.take(cells * self.config.in_channels as u64);
        let patches = pool.turn(input, cells * self.config.in_channels as u64);
        let mut stream = pool.turn(patches, clip);
        if self.rows > 1 {
            stream = pool.turn(stream, self.stream);
        }
        let _times = self.timed.then(|| [pool.take(clip), pool.take(6 * clip)]);
        // A hint of each of the control branch's blocks; they wait for the stream's.
        let mut hints = Vec::new();
        if !self.config.vace_layers.is_empty() {
            let mut control = pool.take(self.stream);
            for _ in &self.config.vace_layers {
                control = self.block(pool, control);
                hints.push(pool.take(self.stream));
            }
        }
        for _ in 0..BLOCKS.min(self.config.num_layers) {
            stream = self.block(pool, stream);
        }
        let normed = pool.turn(stream, self.stream);
        let velocity = pool.turn(normed, self.rows * cells * self.config.out_channels() as u64);
        drop(pool.turn(velocity, self.rows * cells * self.config.out_channels() as u64));
    }

    /// A block: the stream as it enters to the stream as it leaves.
    fn block(&self, pool: &Pool, stream: Taken) -> Taken {
        let wide = || pool.take(self.stream);
        let _six = self.timed.then(|| pool.take(6 * self.length * self.config.hidden_dim() as u64));
        let _context = (!self.keeps_projected()).then(|| {
            let key = pool.turn(pool.take(self.context), self.context);
            (key, pool.take(self.context))
        });
        // Self-attention: queries and keys before and after they are turned.
        let normed = wide();
        let query = pool.turn(wide(), self.stream);
        let key = pool.turn(wide(), self.stream);
        let value = pool.turn(normed, self.stream);
        let attended = pool.turn((query, key, value), self.stream);
        let stream = pool.turn((stream, attended), self.stream);
        // Attention to the prompt.
        let normed = wide();
        let query = pool.turn(pool.turn(normed, self.stream), self.stream);
        let attended = pool.turn(query, self.stream);
        let stream = pool.turn((stream, attended), self.stream);
        self.feed_forward(pool, stream)
    }

    /// In pieces where the hidden layer is large. A piece takes whatever buffer is free, so each may hold one of the stream's.
    fn feed_forward(&self, pool: &Pool, stream: Taken) -> Taken {
        let (d, hidden) = (self.config.hidden_dim() as u64, self.config.ffn_dim as u64);
        let rows = feed_forward_rows(self.rows as usize, self.length as usize, d as usize, hidden as usize) as u64;
        let mut pieces = Vec::new();
        let mut first = 0;
        while first < self.length {
            let count = self.rows * rows.min(self.length - first);
            let normed = pool.take(count * d);
            let wide = pool.turn(normed, count * hidden);
            pieces.push(pool.turn(wide, count * d));
            first += rows.max(1);
        }
        match pieces.pop() {
            Some(only) if pieces.is_empty() => only,
            last => pool.turn((stream, pieces, last), self.stream),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Latent cells of 512 × 288 × 33 px, at strides of 8 px and 4 frames.
    const CELLS: u64 = 9 * 36 * 64;

    /// Wan 2.1 1.3B, with so many blocks of its control branch.
    fn wan(layers: usize, hints: usize) -> TransformerConfig {
        let json = serde_json::json!({
            "patch_size": [1, 2, 2], "num_attention_heads": 12, "attention_head_dim": 128, "in_channels": 16, "out_channels": 16,
            "text_dim": 4096, "freq_dim": 256, "ffn_dim": 8960, "num_layers": layers, "cross_attn_norm": true,
            "eps": 1e-6, "rope_max_seq_len": 1024, "vace_layers": (0..hints).map(|i| 2 * i).collect::<Vec<_>>(),
            "vace_in_channels": if hints > 0 { 96 } else { 0 },
        });
        serde_json::from_value(json).unwrap()
    }

    fn taken(config: &TransformerConfig, prompts: Prompts, timed: bool) -> f64 {
        let pool = Pool::default();
        denoise(&pool, config, CELLS, prompts, timed);
        pool.bytes() as f64 / 1e9
    }

    const ONE: Prompts = Prompts { passes: 1, rows: 1, tokens: 512 };

    #[test]
    fn a_step_takes_what_was_measured_at_true_shapes() {
        // 0.30 GB beside the weights, of two layers (README, large models).
        let cut = taken(&wan(2, 0), ONE, false);
        assert!((cut / 0.30 - 1.0).abs() < 0.1, "{cut} GB");
        // Layers come one after another; of two the prompt's keys and values are kept.
        let whole = taken(&wan(30, 0), ONE, false);
        assert!((whole / cut - 1.0).abs() < 0.05, "{whole} GB");
    }

    #[test]
    fn hints_passes_rows_and_times_of_tokens_take_more() {
        let stream = (5184 * 1536 * 4) as f64 / 1e9;
        let (plain, vace) = (taken(&wan(30, 0), ONE, false), taken(&wan(30, 15), ONE, false));
        assert!(vace > plain + 14.0 * stream, "{plain} {vace}");
        assert!(taken(&wan(30, 15), Prompts { passes: 2, ..ONE }, false) > vace + 0.9 * stream);
        let batch = taken(&wan(30, 0), Prompts { rows: 2, ..ONE }, false);
        assert!(batch > 1.8 * plain && batch < 2.2 * plain, "{plain} {batch}");
        assert!(taken(&wan(30, 0), ONE, true) > plain + 12.0 * stream);
    }
}
