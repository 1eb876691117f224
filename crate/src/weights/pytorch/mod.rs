//! PyTorch files (`.pt`, `.pth`): a zip archive of raw storages, and a pickle that says which tensor lies where.
//!
//! Nothing in the pickle is run: [`pickle`] knows the few opcodes and classes that tensors need and refuses all else by
//! name. Entries must be stored, not compressed, as `torch.save` writes them.
//!
//! Source: `torch/serialization.py` and `torch/_utils.py` of <https://github.com/pytorch/pytorch>.

mod kinds;
mod pickle;
mod zip;

use std::rc::Rc;

use self::kinds::Kind;
use self::pickle::Tensor;
use self::zip::Archive;
use super::Metadata;
use super::info::{StoredType, TensorInfo, may_hold};
use super::source::ByteSource;
use crate::error::{Error, Result};

/// What a zip archive begins with.
pub(super) const MAGIC: &[u8] = b"PK\x03\x04";

/// Longest pickle that is read: one of a thousand tensors takes some 200 kB.
const MOST_PICKLE: u64 = 16 << 20;

/// Reads which tensors a file holds, and where.
///
/// # Errors
/// [`Error::Weights`] when it is no PyTorch file of tensors, is damaged, or asks for a class that is not allowed;
/// [`Error::Fetch`] when it cannot be read.
pub(super) async fn open(source: &Rc<dyn ByteSource>, label: &str) -> Result<(Metadata, Vec<TensorInfo>)> {
    let archive = Archive::open(source.as_ref(), label).await?;
    let index = archive
        .names()
        .find(|name| name.ends_with("/data.pkl"))
        .map(str::to_owned)
        .ok_or_else(|| Error::weights(label, "a PyTorch file", "a zip archive without data.pkl"))?;
    let folder = index.strip_suffix("data.pkl").unwrap_or_default();
    let order = format!("{folder}byteorder");
    if archive.contains(&order) && archive.read(&order, 16).await? != b"little" {
        return Err(Error::weights(label, "numbers with the lowest byte first", "another byte order"));
    }
    let bytes = archive.read(&index, MOST_PICKLE).await?;
    let mut tensors = Vec::new();
    for tensor in pickle::tensors(&bytes, label)? {
        let place = archive.place(&format!("{folder}data/{}", tensor.storage)).await?;
        tensors.push(info(tensor, place)?);
    }
    Ok((Metadata::new(), tensors))
}

fn info(tensor: Tensor, place: std::ops::Range<u64>) -> Result<TensorInfo> {
    let Tensor { name, kind: Kind { dtype, unknown }, offset, shape, strides, .. } = tensor;
    if dtype == StoredType::Unknown {
        // Nor is known how large its elements are: they are somewhere in its storage.
        return match may_hold(place.end.saturating_sub(place.start), &shape) {
            true => Ok(TensorInfo { name, shape, dtype, range: place, unknown }),
            false => Err(Error::weights(name, "a tensor inside its storage", format!("shape {shape:?}"))),
        };
    }
    if !is_contiguous(&shape, &strides) {
        let found = format!("strides {strides:?} for shape {shape:?}");
        return Err(Error::weights(name, "a tensor whose rows lie one after another", found));
    }
    let outside = || Error::weights(&name, "a tensor inside its storage", format!("{dtype} of shape {shape:?}"));
    let size = dtype.bytes_for(&shape).ok_or_else(outside)?;
    let start = offset.checked_mul(dtype.block_bytes() as u64).and_then(|skip| place.start.checked_add(skip));
    let start = start.ok_or_else(outside)?;
    match start.checked_add(size) {
        Some(end) if end <= place.end => Ok(TensorInfo { name, shape, dtype, range: start..end, unknown }),
        _ => Err(outside()),
    }
}

/// True if the strides are those of the shape, row-major; axes of one are free.
fn is_contiguous(shape: &[usize], strides: &[u64]) -> bool {
    let mut wanted = 1u64;
    shape.len() == strides.len()
        && shape.iter().zip(strides).rev().all(|(&size, &stride)| {
            let fits = size == 1 || stride == wanted;
            wanted = wanted.saturating_mul(size as u64);
            fits
        })
}
