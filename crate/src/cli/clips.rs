//! Reading clips: pictures, GIF, animated PNG and WebP by themselves, Y4M here, everything else through ffmpeg where there is one.

pub mod ffmpeg;
mod y4m;

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use image::codecs::gif::GifDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::{AnimationDecoder, Frames, ImageDecoder, ImageFormat, ImageReader};

use super::{pictures, webp};
use crate::condition::{Picture, Values};
use crate::error::{Error, Result};

/// The most frames that are read of a file: what a minute and a bit has.
const MOST_FRAMES: usize = 4096;
/// Bytes of a pixel in memory.
const PIXEL: u64 = 4;
/// Rates that differ by less are taken for the same: a GIF counts in hundredths of a second.
const SAME_RATE: f64 = 0.02;
/// How long a GIF's frame is shown that does not say so, seconds; as browsers do.
const UNSAID: f64 = 0.1;

/// A clip from a file.
#[derive(Debug)]
pub struct ReadClip {
    /// Its frames at the rate that was asked for; one for a picture.
    pub frames: Vec<Picture>,
    /// What was done to it, in words.
    pub notes: Vec<String>,
}

/// Frames with the seconds that each is shown.
struct Timed {
    frames: Vec<Picture>,
    seconds: Vec<f64>,
}

impl Timed {
    fn new() -> Self {
        Self { frames: Vec::new(), seconds: Vec::new() }
    }

    /// Whether one more frame of this size still fits into `most` bytes, as an error if not.
    fn room_for(&self, width: u64, height: u64, path: &Path, most: u64) -> Result<()> {
        let wanted = (self.frames.len() as u64 + 1).saturating_mul(width.saturating_mul(height).saturating_mul(PIXEL));
        if wanted <= most {
            return Ok(());
        }
        Err(Error::options(format!(
            "{} must have at most {most} bytes of pixels, its frame {} of {width} × {height} px makes them {wanted}: \
             cut it or make it smaller",
            path.display(),
            self.frames.len()
        )))
    }
}

/// Reads a clip and brings it to `fps` frames a second; it may have `most_bytes` bytes of pixels, usually
/// [`crate::condition::MOST_CLIP_BYTES`].
///
/// # Errors
/// [`Error::Fetch`] when it cannot be read, or needs ffmpeg and there is none; [`Error::InvalidOptions`] when it is damaged,
/// too large or no clip.
pub fn read(path: &Path, fps: f64, most_bytes: u64) -> Result<ReadClip> {
    let failed = |e: std::io::Error| Error::Fetch(format!("{}: {e}", path.display()));
    let damaged = |e: image::ImageError| Error::options(format!("{} must be a whole clip: {e}", path.display()));
    let mut head = Vec::new();
    File::open(path).and_then(|file| file.take(16).read_to_end(&mut head)).map_err(failed)?;
    let open = || File::open(path).map(BufReader::new).map_err(failed);
    if head.starts_with(y4m::MAGIC) {
        if let Some(timed) = y4m::read(open()?, path, MOST_FRAMES, most_bytes)? {
            return Ok(resampled(timed, fps, path, most_bytes));
        }
        return ffmpeg::read(path, fps, most_bytes);
    }
    let limits = pictures::limits(most_bytes);
    let format = ImageReader::open(path).and_then(ImageReader::with_guessed_format).map_err(failed)?.format();
    let frames = match format {
        // A name says little: only what the content says counts.
        Some(format) if !magic(format, &head) => return ffmpeg::read(path, fps, most_bytes),
        None => return ffmpeg::read(path, fps, most_bytes),
        Some(ImageFormat::Gif) => {
            let mut decoder = GifDecoder::new(open()?).map_err(damaged)?;
            decoder.set_limits(limits).map_err(damaged)?;
            decoder.into_frames()
        }
        Some(ImageFormat::Png) => {
            let decoder = PngDecoder::with_limits(open()?, limits).map_err(damaged)?;
            if !decoder.is_apng().map_err(damaged)? {
                return single(path, most_bytes);
            }
            decoder.apng().map_err(damaged)?.into_frames()
        }
        Some(ImageFormat::WebP) => {
            let mut decoder = WebPDecoder::new(open()?).map_err(damaged)?;
            decoder.set_limits(limits).map_err(damaged)?;
            pictures::check_room(&decoder, path, most_bytes)?;
            if !decoder.has_animation() {
                return single(path, most_bytes);
            }
            webp::check_frames(open()?, path, most_bytes)?;
            decoder.into_frames()
        }
        Some(_) => return single(path, most_bytes),
    };
    Ok(resampled(
        timed(frames, path, most_bytes).map_err(|e| match e {
            Decoding::Picture(e) => damaged(e),
            Decoding::Other(e) => e,
        })?,
        fps,
        path,
        most_bytes,
    ))
}

/// Whether a file starts as those of a format do.
fn magic(format: ImageFormat, head: &[u8]) -> bool {
    match format {
        ImageFormat::Gif => head.starts_with(b"GIF8"),
        ImageFormat::Png => head.starts_with(b"\x89PNG"),
        ImageFormat::WebP => head.starts_with(b"RIFF") && head.get(8..12) == Some(b"WEBP"),
        ImageFormat::Jpeg => head.starts_with(&[0xff, 0xd8]),
        ImageFormat::Bmp => head.starts_with(b"BM"),
        _ => false,
    }
}

fn single(path: &Path, most_bytes: u64) -> Result<ReadClip> {
    Ok(ReadClip { frames: vec![pictures::read(path, most_bytes)?], notes: Vec::new() })
}

enum Decoding {
    Picture(image::ImageError),
    Other(Error),
}

fn timed(frames: Frames<'_>, path: &Path, most_bytes: u64) -> std::result::Result<Timed, Decoding> {
    let mut out = Timed::new();
    for frame in frames.take(MOST_FRAMES) {
        let frame = frame.map_err(Decoding::Picture)?;
        let (numerator, denominator) = frame.delay().numer_denom_ms();
        let seconds = f64::from(numerator) / f64::from(denominator.max(1)) / 1000.0;
        out.seconds.push(if seconds > 0.01 { seconds } else { UNSAID });
        let rgba = frame.into_buffer();
        let (width, height) = rgba.dimensions();
        out.room_for(width.into(), height.into(), path, most_bytes).map_err(Decoding::Other)?;
        let picture = Picture::new(width as usize, height as usize, Values::Rgba(rgba.into_raw()));
        out.frames.push(picture.map_err(Decoding::Other)?);
    }
    if out.frames.is_empty() {
        return Err(Decoding::Other(Error::options("a clip must have one frame at least, got none")));
    }
    Ok(out)
}

/// The frames that are seen at each tick of `fps`.
fn resampled(Timed { frames, seconds }: Timed, fps: f64, path: &Path, most_bytes: u64) -> ReadClip {
    let count = frames.len();
    let total: f64 = seconds.iter().sum();
    let rate = count as f64 / total;
    let mut notes = cut_note(count, path);
    if count < 2 || (rate / fps - 1.0).abs() < SAME_RATE {
        return ReadClip { frames, notes };
    }
    // A frame that is shown for minutes becomes many.
    let (width, height) = frames[0].size();
    let fit = usize::try_from(most_bytes / (width as u64 * height as u64 * PIXEL).max(1)).unwrap_or(MOST_FRAMES);
    let most = fit.clamp(1, MOST_FRAMES);
    let wanted = ((total * fps).round() as usize).max(1);
    if wanted > most {
        notes
            .push(format!("{}: at {fps} frames a second it has {wanted} frames, only {most} are read", path.display()));
    }
    let wanted = wanted.min(most);
    let (mut at, mut until) = (0, seconds[0]);
    let mut out = Vec::with_capacity(wanted);
    for i in 0..wanted {
        while (i as f64 + 0.5) / fps > until && at + 1 < count {
            at += 1;
            until += seconds[at];
        }
        out.push(frames[at].clone());
    }
    notes.push(rate_note(path, rate, fps, out.len()));
    ReadClip { frames: out, notes }
}

fn cut_note(count: usize, path: &Path) -> Vec<String> {
    let cut = count >= MOST_FRAMES;
    cut.then(|| format!("{}: only its first {MOST_FRAMES} frames are read", path.display())).into_iter().collect()
}

fn rate_note(path: &Path, rate: f64, fps: f64, count: usize) -> String {
    let rate = (rate * 100.0).round() / 100.0;
    format!("{}: {rate} frames a second, resampled to {count} frames at {fps}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::condition::MOST_CLIP_BYTES;

    fn clip(seconds: &[f64]) -> Timed {
        let frame = |i: usize| Picture::new(1, 1, Values::Rgba(vec![i as u8, 0, 0, 255])).unwrap();
        Timed { frames: (0..seconds.len()).map(frame).collect(), seconds: seconds.to_vec() }
    }

    fn seen(seconds: &[f64], fps: f64) -> (Vec<u8>, Vec<String>) {
        let clip = resampled(clip(seconds), fps, Path::new("a.gif"), MOST_CLIP_BYTES);
        (clip.frames.iter().map(|f| f.rgba(1, 1).unwrap()[0]).collect(), clip.notes)
    }

    #[test]
    fn another_rate_is_resampled_and_said_so() {
        let (frames, notes) = seen(&[0.1; 4], 20.0);
        assert_eq!(frames, [0, 0, 1, 1, 2, 2, 3, 3]);
        assert_eq!(notes, ["a.gif: 10 frames a second, resampled to 8 frames at 20"]);
        assert_eq!(seen(&[0.05; 8], 8.0).0, [1, 3, 6]);
        // Frames of different lengths.
        assert_eq!(seen(&[0.3, 0.1], 10.0).0, [0, 0, 0, 1]);
    }

    #[test]
    fn a_frame_that_is_shown_for_minutes_is_not_copied_beyond_the_room() {
        let clip = resampled(clip(&[600.0, 0.1]), 16.0, Path::new("a.gif"), 400);
        assert_eq!(clip.frames.len(), 100);
        assert_eq!(clip.notes[0], "a.gif: at 16 frames a second it has 9602 frames, only 100 are read");
    }

    #[test]
    fn a_clip_larger_than_the_room_is_refused_before_it_is_held() {
        let y4m = |size: &str| std::format!("YUV4MPEG2 {size} F16:1 Cmono\nFRAME\nxxxx").into_bytes();
        let told = |size: &str, most| {
            let bytes = y4m(size);
            let read = y4m::read(&bytes[..], Path::new("a.y4m"), MOST_FRAMES, most);
            read.err().map(|e| e.to_string()).unwrap_or_default()
        };
        assert_eq!(told("W2 H2", 16), "");
        let rule = "a.y4m must have at most 15 bytes of pixels, its frame 0 of 2 × 2 px makes them 16: cut it or make it smaller";
        assert_eq!(told("W2 H2", 15), rule);
        assert!(told("W65535 H65535", MOST_CLIP_BYTES).contains("at most"));
        assert!(
            told("W16000 H16000", MOST_CLIP_BYTES).contains("cut off"),
            "and nothing is held for what is not there"
        );
    }

    #[test]
    fn the_same_rate_in_hundredths_is_left_alone() {
        let (frames, notes) = seen(&[0.06, 0.07, 0.06, 0.06, 0.06], 16.0);
        assert_eq!((frames.len(), notes.len()), (5, 0));
        assert_eq!(seen(&[3.0], 16.0).0.len(), 1, "a picture is one frame however long it is shown");
    }
}
