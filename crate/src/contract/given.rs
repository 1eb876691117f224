//! What is known of a clip, as it crosses the border.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Visitor};

use crate::condition::{Condition, Fit, Picture, Piece, Values};
use crate::error::Result;

/// What is known of a clip besides the text, as the engine takes it.
#[derive(Debug, serde::Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(not(test), serde(deny_unknown_fields))] // ts-rs complains of what it does not know
pub struct EngineCondition {
    /// In any order.
    pieces: Vec<EnginePiece>,
    /// How strongly the model's control branch acts, 0 to 10; 1, as trained, where it is left out.
    #[serde(default)]
    #[cfg_attr(test, ts(optional))]
    control_scale: Option<f32>,
    /// Made pixels nearer than this to known ones in their frame are evened out towards their colours, 0 to 64 px; 0 is a hard
    /// edge.
    #[serde(default)]
    #[cfg_attr(test, ts(optional))]
    seam: Option<usize>,
    /// Whether known pixels come back unchanged; true where it is left out.
    #[serde(default)]
    #[cfg_attr(test, ts(optional))]
    paste: Option<bool>,
}

/// One thing that is known of a clip.
#[derive(Debug, serde::Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(tag = "kind", rename_all = "camelCase")]
#[cfg_attr(not(test), serde(deny_unknown_fields))]
pub enum EnginePiece {
    /// The picture that a frame shows.
    Frame {
        /// Counted from 0; below 0 from the end, −1 is the last frame.
        at: i64,
        /// What is not opaque in it is to be made, by models that take masks.
        picture: EnginePicture,
        /// `cover` where it is left out.
        #[serde(default)]
        #[cfg_attr(test, ts(optional, as = "Option<_>"))]
        fit: Fit,
    },
    /// A clip whose first frame lies at frame `at`.
    Clip {
        /// Counted from 0.
        at: usize,
        /// What is not opaque in them is to be made.
        frames: Vec<EnginePicture>,
        /// `cover` where it is left out.
        #[serde(default)]
        #[cfg_attr(test, ts(optional, as = "Option<_>"))]
        fit: Fit,
    },
    /// Which pixels of the given frames are to be made anew.
    Mask {
        /// White where they are; one for all frames, or one each.
        frames: Vec<EnginePicture>,
    },
    /// What the parts to be made should follow.
    Control {
        /// Edges, a sketch, depth or a pose, from frame 0 on.
        frames: Vec<EnginePicture>,
    },
    /// Something that should appear.
    Reference {
        /// It.
        picture: EnginePicture,
    },
    /// A clip to start from in place of noise.
    Source {
        /// As many as the clip has.
        frames: Vec<EnginePicture>,
        /// Which part of the steps is run, 0 to 1: 1 keeps nothing of it.
        strength: f64,
    },
}

/// A picture, rows top to bottom.
#[derive(Debug, serde::Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[cfg_attr(not(test), serde(deny_unknown_fields))]
pub struct EnginePicture {
    /// Pixels.
    width: usize,
    /// Pixels.
    height: usize,
    /// Red, green, blue and opacity of each pixel: `width × height × 4` bytes.
    #[cfg_attr(test, ts(type = "Uint8Array<ArrayBuffer>"))]
    rgba: Bytes,
}

/// Bytes that come over whole, not one by one.
#[derive(Debug)]
struct Bytes(Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Whole;
        impl Visitor<'_> for Whole {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a Uint8Array")
            }

            fn visit_byte_buf<E: serde::de::Error>(self, bytes: Vec<u8>) -> std::result::Result<Bytes, E> {
                Ok(Bytes(bytes))
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> std::result::Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }
        }
        deserializer.deserialize_byte_buf(Whole)
    }
}

impl EnginePicture {
    fn into_picture(self) -> Result<Picture> {
        Picture::new(self.width, self.height, Values::Rgba(self.rgba.0))
    }
}

fn pictures(frames: Vec<EnginePicture>) -> Result<Vec<Picture>> {
    frames.into_iter().map(EnginePicture::into_picture).collect()
}

impl EnginePiece {
    fn into_piece(self) -> Result<Piece> {
        Ok(match self {
            Self::Frame { at, picture, fit } => Piece::Frame { at, picture: picture.into_picture()?, fit },
            Self::Clip { at, frames, fit } => Piece::Clip { at, frames: pictures(frames)?, fit },
            Self::Mask { frames } => Piece::Mask(pictures(frames)?),
            Self::Control { frames } => Piece::Control(pictures(frames)?),
            Self::Reference { picture } => Piece::Reference(picture.into_picture()?),
            Self::Source { frames, strength } => Piece::Source { frames: pictures(frames)?, strength },
        })
    }
}

impl EngineCondition {
    /// As the engine knows it.
    ///
    /// # Errors
    /// [`crate::error::Error::InvalidOptions`] when a picture has not as many bytes as its size says.
    pub fn into_condition(self) -> Result<Condition> {
        let pieces = self.pieces.into_iter().map(EnginePiece::into_piece).collect::<Result<_>>()?;
        let usual = Condition::default();
        Ok(Condition {
            pieces,
            control_scale: self.control_scale.unwrap_or(usual.control_scale),
            seam: self.seam.unwrap_or(usual.seam),
            paste: self.paste.unwrap_or(usual.paste),
        })
    }
}
