//! A codec that keeps to what the device has left, whoever asks it to encode.

use burn::tensor::Tensor;

use crate::models::family::{DecodeStream, Room, VideoCodec};
use crate::models::footage::Footage;
use crate::pace::{Later, Pace};
use crate::size::{ClipSize, Stride};

/// A codec and its room.
pub struct Within<'a> {
    /// The model's.
    pub codec: &'a dyn VideoCodec,
    /// What the device has left for a clip.
    pub room: Room,
}

impl VideoCodec for Within<'_> {
    fn stride(&self) -> Stride {
        self.codec.stride()
    }

    fn latent_channels(&self) -> usize {
        self.codec.latent_channels()
    }

    fn encode<'a>(&'a self, video: &'a dyn Footage, pace: &'a Pace<'_>) -> Later<'a, Tensor<5>> {
        self.codec.encode_within(video, self.room, pace)
    }

    fn decode_stream(&self) -> Box<dyn DecodeStream + '_> {
        self.codec.decode_stream()
    }

    fn peak_bytes(&self, size: ClipSize, room: Room) -> u64 {
        self.codec.peak_bytes(size, room)
    }

    fn encode_peak_bytes(&self, size: ClipSize) -> u64 {
        self.codec.encode_peak_bytes(size)
    }
}
