//! What a transformer prepares once a clip, because it does not change from step to step.

use std::borrow::Cow;

use burn::tensor::Tensor;

use super::block::{Block, Context, Projected};
use crate::nn::layers::Layers;
use crate::nn::linear::Linear;
use crate::nn::tokens::Tokens;

/// What does not change from step to step of a clip: positions, the projected prompt, control patches.
#[derive(Debug, Clone)]
pub struct Fixed {
    /// Patches along frames, rows and columns.
    pub(super) grid: [usize; 3],
    pub(super) tokens: Tokens,
    pub(super) contexts: Contexts,
    pub(super) control: Option<FixedControl>,
}

/// The context for each block.
#[derive(Debug, Clone)]
pub(super) enum Contexts {
    /// Keys and values of the blocks and of the control branch's blocks.
    Projected { blocks: Vec<Projected>, vace: Vec<Projected> },
    /// Too large to keep so: projected in every forward.
    Whole(Context),
}

/// Up to this many bytes, keys and values of the context are kept from step to step: all of them for a small model, for
/// Wan 1.3B (376 MB at 512 tokens) none.
const KEPT_CONTEXT_BYTES: usize = 64 << 20;

/// Whether a context of so many values is kept as keys and values of all `blocks`, where these are kept too.
pub(super) fn keeps_projected(values: usize, blocks: usize) -> bool {
    values * blocks * 2 * size_of::<f32>() <= KEPT_CONTEXT_BYTES
}

/// The control branch's input, embedded.
#[derive(Debug, Clone)]
pub(super) struct FixedControl {
    /// `[B, L, D]`
    pub(super) embedded: Tensor<3>,
    pub(super) scales: Vec<f32>,
}

impl Contexts {
    /// For the blocks of the main stream and those of the control branch.
    pub(super) fn new(context: Context, blocks: &Layers<Block>, vace: Option<&Layers<(Block, Linear)>>) -> Self {
        let all = blocks.len() + vace.map_or(0, Layers::len);
        let few = keeps_projected(context.text.dims().iter().product(), all);
        match (blocks.kept(), vace.map_or(Some(&[][..]), Layers::kept)) {
            (Some(blocks), Some(vace)) if few => Self::Projected {
                blocks: blocks.iter().map(|block| block.project(&context)).collect(),
                vace: vace.iter().map(|(block, _)| block.project(&context)).collect(),
            },
            _ => Self::Whole(context),
        }
    }

    pub(super) fn of_block<'a>(&'a self, i: usize, block: &Block) -> Cow<'a, Projected> {
        match self {
            Self::Projected { blocks, .. } => Cow::Borrowed(&blocks[i]),
            Self::Whole(context) => Cow::Owned(block.project(context)),
        }
    }

    pub(super) fn of_vace_block<'a>(&'a self, i: usize, block: &Block) -> Cow<'a, Projected> {
        match self {
            Self::Projected { vace, .. } => Cow::Borrowed(&vace[i]),
            Self::Whole(context) => Cow::Owned(block.project(context)),
        }
    }

    /// Prompts in the batch.
    pub(super) fn rows(&self) -> usize {
        match self {
            Self::Projected { blocks, .. } => blocks.first().map_or(1, Projected::rows),
            Self::Whole(context) => context.text.dims()[0],
        }
    }
}

/// A block, with the contexts of all clips of the pass.
pub(super) fn through<'a>(
    block: &Block,
    x: Tensor<3>,
    context: impl Fn(&'a Contexts) -> Cow<'a, Projected>,
    fixed: &[&'a Fixed],
    modulation: &Tensor<4>,
    tokens: &Tokens,
) -> Tensor<3> {
    let contexts: Vec<_> = fixed.iter().map(|fixed| context(&fixed.contexts)).collect();
    let contexts: Vec<&Projected> = contexts.iter().map(AsRef::as_ref).collect();
    block.forward(x, &contexts, modulation, tokens)
}
