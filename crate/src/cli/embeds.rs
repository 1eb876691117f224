//! Prompts as the model reads them, kept in a file: a clip of them needs no text encoder.

use std::path::Path;

use burn::tensor::{Tensor, TensorData};
use safetensors::tensor::{Dtype, TensorView, serialize};

use crate::device::Compute;
use crate::error::{Error, Result};
use crate::pipeline::PromptEmbeds;
use crate::weights::WeightSet;

/// Names of the tensors: of the prompt, and of the negative prompt where there is guidance.
const NAMES: [&str; 2] = ["prompt", "negative"];

/// Writes them as .safetensors, f32.
///
/// # Errors
/// [`Error::DeviceLost`] when they cannot be read back, [`Error::Fetch`] when the file cannot be written.
pub async fn write(path: &Path, embeds: &PromptEmbeds) -> Result<()> {
    let mut kept: Vec<(&str, Vec<usize>, Vec<u8>)> = Vec::new();
    for (name, tensor) in NAMES.into_iter().zip([Some(&embeds.prompt), embeds.negative.as_ref()]) {
        let Some(tensor) = tensor else { continue };
        let data = tensor.clone().into_data_async().await;
        let data = data.map_err(|e| Error::DeviceLost(format!("the prompt's embeddings did not come back: {e:?}")))?;
        let values = data.try_to_vec_as::<f32>();
        let values = values.map_err(|e| Error::Internal(format!("the prompt's embeddings are not f32: {e:?}")))?;
        kept.push((name, tensor.dims().to_vec(), values.iter().flat_map(|value| value.to_le_bytes()).collect()));
    }
    let failed = |e: safetensors::SafeTensorError| Error::Fetch(format!("could not write {}: {e}", path.display()));
    let mut tensors = Vec::new();
    for (name, shape, bytes) in &kept {
        tensors.push((*name, TensorView::new(Dtype::F32, shape.clone(), bytes).map_err(failed)?));
    }
    let bytes = serialize(tensors, None).map_err(failed)?;
    std::fs::write(path, bytes).map_err(|e| Error::Fetch(format!("could not write {}: {e}", path.display())))
}

/// Reads them again; whether they fit the model is checked where they are used.
///
/// # Errors
/// [`Error::Fetch`] when the file cannot be read, [`Error::Weights`] when it holds no embeddings.
pub fn read(path: &Path, compute: &Compute) -> Result<PromptEmbeds> {
    let bytes = std::fs::read(path).map_err(|e| Error::Fetch(format!("{}: {e}", path.display())))?;
    let set = WeightSet::from_bytes(bytes, &path.display().to_string())?;
    let wrong =
        |name: &str, found: String| Error::weights(name, format!("shape [1, Lt, D_text] in {}", path.display()), found);
    let tensor = |name: &str| -> Result<Option<Tensor<3>>> {
        let Some(info) = set.get(name) else { return Ok(None) };
        let shape = match <[usize; 3]>::try_from(info.shape.as_slice()) {
            Ok([1, length, width]) if length > 0 => [1, length, width],
            _ => return Err(wrong(name, format!("shape {:?}", info.shape))),
        };
        let values = set.take_f32(name, &shape)?;
        Ok(Some(Tensor::from_data(TensorData::new(values, shape), compute.device())))
    };
    let [prompt, negative] = NAMES;
    let missing = || wrong(prompt, "no such tensor".into());
    Ok(PromptEmbeds { prompt: tensor(prompt)?.ok_or_else(missing)?, negative: tensor(negative)? })
}
