//! The models, a folder each: video models and text encoders.

pub mod names;
#[cfg(test)]
mod tests;
pub mod umt5;
pub mod wan;
