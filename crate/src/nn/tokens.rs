//! Which tokens of a pass belong together: clips of different sizes and lengths packed one after another into one row, so
//! that every linear layer sees them all at once and attention stays within each.
//!
//! Source: patch n' pack, NaViT 2307.06304 §2.

use std::ops::Range;

use burn::tensor::Tensor;

use super::attention::attend;
use super::rope::Rope;

/// Where the tokens of a pass stand, `[B, L]` of them; a packed pass has B = 1.
#[derive(Debug, Clone)]
pub struct Tokens {
    /// Rotary tables by position, each clip counted from 0.
    rope: Rope,
    /// Tokens of each clip; one entry when nothing is packed.
    lengths: Vec<usize>,
}

impl Tokens {
    /// The tokens of one clip, or of a batch of clips of one size.
    pub fn of_one(rope: Rope) -> Self {
        Self { lengths: vec![rope.len()], rope }
    }

    /// Several clips in one row. At least one.
    pub fn packed(ropes: &[&Rope]) -> Self {
        Self { lengths: ropes.iter().map(|rope| rope.len()).collect(), rope: Rope::packed(ropes) }
    }

    /// The rotary tables of all tokens.
    pub fn rope(&self) -> &Rope {
        &self.rope
    }

    /// Where each clip's tokens lie in the row.
    pub fn segments(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.lengths.iter().scan(0, |start, &length| {
            let segment = *start..*start + length;
            *start = segment.end;
            Some(segment)
        })
    }

    /// Self-attention within each clip.
    ///
    /// # Shapes
    /// `q`, `k`, `v` `[B, L, N, K]` → `[B, L, N × K]`
    pub fn attend_within(&self, q: Tensor<4>, k: Tensor<4>, v: Tensor<4>) -> Tensor<3> {
        self.each(q, |segment, q| {
            let part = |t: &Tensor<4>| t.clone().narrow(1, segment.start, segment.len());
            if self.lengths.len() == 1 { attend(q, k.clone(), v.clone()) } else { attend(q, part(&k), part(&v)) }
        })
    }

    /// Attention of each clip to keys and values of its own: one pair for each clip, in order.
    ///
    /// # Shapes
    /// `q` `[B, L, N, K]`, each key and value `[B, S, N, K]` → `[B, L, N × K]`
    pub fn attend_to(&self, q: Tensor<4>, others: &[&(Tensor<4>, Tensor<4>)]) -> Tensor<3> {
        debug_assert_eq!(others.len(), self.lengths.len(), "a pair of keys and values for each clip");
        let mut others = others.iter();
        self.each(q, |_, q| match others.next() {
            Some((k, v)) => attend(q, k.clone(), v.clone()),
            // Nothing to attend to adds nothing.
            None => {
                let [b, l, heads, dim] = q.dims();
                Tensor::zeros([b, l, heads * dim], &q.device())
            }
        })
    }

    fn each(&self, q: Tensor<4>, mut attention: impl FnMut(Range<usize>, Tensor<4>) -> Tensor<3>) -> Tensor<3> {
        if let [length] = self.lengths[..] {
            return attention(0..length, q);
        }
        let parts = self.segments().map(|segment| {
            let part = q.clone().narrow(1, segment.start, segment.len());
            attention(segment, part)
        });
        Tensor::cat(parts.collect(), 1)
    }
}
