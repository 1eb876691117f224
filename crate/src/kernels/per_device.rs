//! State of the process that belongs to a device: two engines on two devices must not see each other's.

use std::sync::{PoisonError, RwLock};

use burn::tensor::Device;

/// A value for each device that was given one. There are few, so that a lookup is a comparison or two.
#[derive(Debug)]
pub struct PerDevice<T>(RwLock<Vec<(Device, T)>>);

impl<T: Clone> PerDevice<T> {
    /// No device has a value.
    pub const fn new() -> Self {
        Self(RwLock::new(Vec::new()))
    }

    /// The value of `device`, if it was given one.
    pub fn get(&self, device: &Device) -> Option<T> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.iter().find(|(known, _)| known == device).map(|(_, value)| value.clone())
    }

    /// Gives `device` what `next` makes of its value so far.
    pub fn update(&self, device: &Device, next: impl FnOnce(Option<&T>) -> T) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match all.iter_mut().find(|(known, _)| known == device) {
            Some((_, value)) => *value = next(Some(value)),
            None => all.push((device.clone(), next(None))),
        }
    }
}
