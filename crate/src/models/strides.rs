//! How clips shrink by a codec that is known by its configuration alone.

use super::{kl, wan};
use crate::size::Stride;

/// The stride of a codec with this config.json; `None` for one of another family.
pub fn of_codec(json: &[u8]) -> Option<Stride> {
    kl::config::stride(json).or_else(|| wan::config::stride(json))
}
