//! What is shown while the clip is still noise.

use burn::tensor::Tensor;

use crate::host::Event;
use crate::models::family::VideoCodec;
use crate::pace::{Later, Pace};
use crate::pixels;
use crate::sampling::AfterStep;

/// Decodes the first frame of each step's estimate: one frame costs a small part of a clip's decode.
pub(super) struct Preview<'a> {
    pub codec: &'a dyn VideoCodec,
    pub pace: &'a Pace<'a>,
    pub wanted: bool,
    /// Latent frames of reference pictures, which come first and are not shown.
    pub lead: usize,
}

impl AfterStep for Preview<'_> {
    fn wanted(&self) -> bool {
        self.wanted
    }

    fn call(&mut self, step: usize, clean: Tensor<5>) -> Later<'_, ()> {
        Box::pin(async move {
            let first = clean.narrow(2, self.lead, 1);
            let frame = self.codec.decode_stream().push(first, self.pace).await?;
            let [_, _, _, height, width] = frame.dims();
            if let Some(rgba) = pixels::to_rgba(frame).await?.into_iter().next() {
                self.pace.host().event(Event::Preview { step, width, height, rgba });
            }
            Ok(())
        })
    }
}
