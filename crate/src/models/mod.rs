//! The models, a folder each: video models and text encoders.

pub mod family;
pub mod names;
pub mod registry;
#[cfg(test)]
mod tests;
pub mod umt5;
pub mod wan;
