//! Reading sizes off the shapes of a checkpoint's tensors.

use crate::error::{Error, Result};
use crate::weights::WeightSet;

/// The size of a tensor along one axis.
///
/// # Errors
/// [`Error::Weights`] when there is no such tensor, or it has no such axis.
pub fn along(set: &WeightSet, name: &str, axis: usize) -> Result<usize> {
    let found = |what: String| Error::weights(name, format!("a size along axis {axis}, to tell the model by"), what);
    let info = set.get(name).ok_or_else(|| found("no such tensor".into()))?;
    info.shape.get(axis).copied().filter(|size| *size > 0).ok_or_else(|| found(format!("shape {:?}", info.shape)))
}

/// The elements of a tensor divided by `by`.
///
/// # Errors
/// [`Error::Weights`] when there is no such tensor, or it does not divide.
pub fn shared(set: &WeightSet, name: &str, by: usize) -> Result<usize> {
    let length = set.get(name).map_or(0, crate::weights::TensorInfo::len);
    match length.checked_div(by).filter(|part| *part > 0 && part * by == length) {
        Some(part) => Ok(part),
        None => {
            let found = if length == 0 { "no such tensor".into() } else { format!("{length} elements") };
            Err(Error::weights(name, format!("elements that are a multiple of {by}"), found))
        }
    }
}

/// How many layers `prefix.0`, `prefix.1` … there are.
pub fn layers(set: &WeightSet, prefix: &str) -> usize {
    let indices = set.names().filter_map(|name| {
        let (index, _) = name.strip_prefix(prefix)?.strip_prefix('.')?.split_once('.')?;
        index.parse::<usize>().ok()
    });
    indices.max().map_or(0, |last| last.saturating_add(1))
}
