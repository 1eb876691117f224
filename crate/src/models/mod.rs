//! The models, a folder each: video models, text and picture encoders.

pub mod clip;
pub mod family;
pub mod footage;
pub mod names;
pub mod registry;
mod sizes;
pub mod taehv;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_identify;
#[cfg(test)]
mod tests_lora;
pub mod umt5;
pub mod wan;
