//! What is shown while the clip is still noise.

use std::future::Future;
use std::pin::Pin;

use burn::tensor::Tensor;

use super::AsyncStep;
use crate::error::Result;
use crate::host::Event;
use crate::models::wan::Vae;
use crate::pace::Pace;
use crate::pixels;

/// Decodes the first frame of each step's estimate: one frame costs a small part of a clip's decode.
pub(super) struct Preview<'a> {
    pub vae: &'a Vae,
    pub pace: &'a Pace<'a>,
    pub wanted: bool,
    /// Latent frames of reference pictures, which come first and are not shown.
    pub references: usize,
}

impl AsyncStep for Preview<'_> {
    fn wanted(&self) -> bool {
        self.wanted
    }

    fn call<'a>(&'a mut self, step: usize, clean: Tensor<5>) -> Pin<Box<dyn Future<Output = Result<()>> + 'a>> {
        Box::pin(async move {
            let first = self.vae.denormalise(clean.narrow(2, self.references, 1));
            let frame = self.vae.decode_stream().push(first, self.pace).await?;
            let [_, _, _, height, width] = frame.dims();
            if let Some(rgba) = pixels::to_rgba(frame).await?.into_iter().next() {
                self.pace.host().event(Event::Preview { step, width, height, rgba });
            }
            Ok(())
        })
    }
}
