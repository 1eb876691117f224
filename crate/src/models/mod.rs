//! The models, a folder each: video models, text and picture encoders.

pub mod classes;
pub mod clip;
pub mod dit;
pub mod family;
pub mod footage;
pub mod kl;
pub mod names;
pub mod registry;
mod sizes;
mod strides;
pub mod taehv;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_identify;
#[cfg(test)]
mod tests_lora;
pub mod umt5;
pub mod wan;
