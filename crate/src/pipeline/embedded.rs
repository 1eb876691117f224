//! Prompts that were embedded before: a large text encoder is read from its file for each prompt, and people change the
//! seed more often than the words.

use std::cell::RefCell;
use std::collections::VecDeque;

use burn::tensor::{Device, Tensor, TensorData};

use crate::error::{Error, Result};

/// How many are remembered: a prompt and a negative prompt, as they were and as they were before.
const MOST: usize = 4;

/// Embeddings by the tokens they are of, in the host's memory: a few megabytes each.
#[derive(Debug, Default)]
pub struct Embedded(RefCell<VecDeque<(Vec<u32>, TensorData)>>);

impl Embedded {
    /// What was kept for these tokens.
    pub fn get(&self, ids: &[u32], device: &Device) -> Option<Tensor<3>> {
        let mut kept = self.0.borrow_mut();
        let at = kept.iter().position(|(of, _)| of == ids)?;
        // A negative prompt is asked for with each clip of many.
        kept.make_contiguous()[..=at].rotate_right(1);
        kept.front().map(|(_, data)| Tensor::from_data(data.clone(), device))
    }

    /// Keeps the embeddings of these tokens; those that were asked for longest ago go.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] when they cannot be read back.
    pub async fn keep(&self, ids: &[u32], embeds: &Tensor<3>) -> Result<()> {
        let data = embeds.clone().into_data_async().await;
        let data = data.map_err(|e| Error::DeviceLost(format!("the prompt's embeddings did not come back: {e:?}")))?;
        let mut kept = self.0.borrow_mut();
        kept.push_front((ids.to_vec(), data));
        kept.truncate(MOST);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_four_are_remembered() {
        let device = Device::flex();
        let kept = Embedded::default();
        for id in 0..6u32 {
            let embeds = Tensor::<3>::full([1, 2, 3], id as f32, &device);
            pollster::block_on(kept.keep(&[id, 1], &embeds)).unwrap();
        }
        assert!(kept.get(&[1, 1], &device).is_none());
        let found = kept.get(&[5, 1], &device).unwrap();
        assert_eq!(found.into_data().try_to_vec::<f32>().unwrap(), [5.0; 6]);
        // What is asked for again stays.
        for id in 6..12u32 {
            let embeds = Tensor::<3>::full([1, 2, 3], id as f32, &device);
            pollster::block_on(kept.keep(&[id, 1], &embeds)).unwrap();
            let found = kept.get(&[5, 1], &device).unwrap();
            assert_eq!(found.into_data().try_to_vec::<f32>().unwrap(), [5.0; 6]);
        }
    }
}
