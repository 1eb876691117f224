//! The one error type of the crate, sorted by what the user can do about it.

use std::borrow::Cow;

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong, each with a message that names the rule, the value found and its unit.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The machine lacks something (WebGPU, a feature, a limit).
    #[error("{0}")]
    UnsupportedDevice(String),
    /// A buffer could not be allocated.
    #[error("{0}")]
    OutOfMemory(String),
    /// The GPU went away (driver reset, sleep, tab discarded).
    #[error("{0}")]
    DeviceLost(String),
    /// A file could not be read or fetched.
    #[error("{0}")]
    Fetch(String),
    /// A weight file or a tensor in it is not what the model needs.
    #[error("{tensor}: expected {expected}, found {found}")]
    Weights {
        /// The tensor's name, or the file's when no tensor can be named.
        tensor: String,
        /// What the model needs there.
        expected: String,
        /// What the file holds.
        found: String,
    },
    /// The tokenizer could not be read or applied.
    #[error("{0}")]
    Tokenizer(String),
    /// An option is out of range, of the wrong type or does not fit the others.
    #[error("{0}")]
    InvalidOptions(String),
    /// The caller cancelled.
    #[error("cancelled")]
    Aborted,
    /// A bug in this crate or below it.
    #[error("{0}")]
    Internal(String),
}

impl Error {
    /// The stable machine-readable code that crosses the JS border.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnsupportedDevice(_) => "unsupported-device",
            Self::OutOfMemory(_) => "out-of-memory",
            Self::DeviceLost(_) => "device-lost",
            Self::Fetch(_) => "fetch",
            Self::Weights { .. } => "weights",
            Self::Tokenizer(_) => "tokenizer",
            Self::InvalidOptions(_) => "invalid-options",
            Self::Aborted => "aborted",
            Self::Internal(_) => "internal",
        }
    }

    /// A weight error; `tensor` may also name a file.
    pub fn weights(tensor: impl Into<String>, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::Weights { tensor: tensor.into(), expected: expected.into(), found: found.into() }
    }

    /// An option error with the message given.
    pub fn options<'a>(message: impl Into<Cow<'a, str>>) -> Self {
        Self::InvalidOptions(message.into().into_owned())
    }
}
