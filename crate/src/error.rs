//! The one error type of the crate, sorted by what the user can do about it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

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
    /// What the host answered when it was asked for something; passed on as it is.
    #[error("{message}")]
    Host {
        /// The host's code.
        code: ErrorCode,
        /// The host's words.
        message: String,
    },
    /// A bug in this crate or below it.
    #[error("{0}")]
    Internal(String),
}

impl Error {
    /// The stable machine-readable code.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::UnsupportedDevice(_) => ErrorCode::UnsupportedDevice,
            Self::OutOfMemory(_) => ErrorCode::OutOfMemory,
            Self::DeviceLost(_) => ErrorCode::DeviceLost,
            Self::Fetch(_) => ErrorCode::Fetch,
            Self::Weights { .. } => ErrorCode::Weights,
            Self::Tokenizer(_) => ErrorCode::Tokenizer,
            Self::InvalidOptions(_) => ErrorCode::InvalidOptions,
            Self::Aborted => ErrorCode::Aborted,
            Self::Host { code, .. } => *code,
            Self::Internal(_) => ErrorCode::Internal,
        }
    }

    /// The error as it crosses a border.
    pub fn report(&self) -> ErrorReport {
        ErrorReport { code: self.code(), message: self.to_string() }
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

/// What went wrong, by what the caller can do about it. The names are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(rename = "TabreelErrorCode"))]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// The machine lacks something (WebGPU, a feature, a limit).
    UnsupportedDevice,
    /// A buffer could not be allocated.
    OutOfMemory,
    /// The GPU went away (driver reset, sleep, tab discarded).
    DeviceLost,
    /// A file could not be read or fetched.
    Fetch,
    /// A weight file or a tensor in it is not what the model needs.
    Weights,
    /// The tokenizer could not be read or applied.
    Tokenizer,
    /// An option is out of range, of the wrong type or does not fit the others.
    InvalidOptions,
    /// The caller cancelled.
    Aborted,
    /// A bug in the engine or below it.
    Internal,
}

impl ErrorCode {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::UnsupportedDevice,
        Self::OutOfMemory,
        Self::DeviceLost,
        Self::Fetch,
        Self::Weights,
        Self::Tokenizer,
        Self::InvalidOptions,
        Self::Aborted,
        Self::Internal,
    ];
}

/// An error as it crosses a border: what to do about it, and what happened in words.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(rename = "PlainError"))]
pub struct ErrorReport {
    /// What the caller can do about it.
    pub code: ErrorCode,
    /// Rule, value found and unit.
    pub message: String,
}
