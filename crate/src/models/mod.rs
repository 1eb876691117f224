//! The video models, a folder each.

pub mod wan;
