//! Clips in any format that an installed ffmpeg decodes.

use std::ffi::OsString;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use super::{MOST_FRAMES, ReadClip, SAME_RATE, cut_note, rate_note};
use crate::condition::{Picture, Values};
use crate::error::{Error, Result};

/// Reads a clip at `fps` frames a second, of `most_bytes` bytes of pixels at most; ffmpeg turns it upright and to sRGB as the file
/// says.
pub(super) fn read(path: &Path, fps: f64, most_bytes: u64) -> Result<ReadClip> {
    let name = named(path);
    let mut probe = Command::new("ffprobe");
    probe.args(["-v", "error", "-select_streams", "v:0", "-show_entries", "stream=avg_frame_rate", "-of", "csv=p=0"]);
    let rate = rate(&String::from_utf8_lossy(&ran(probe.arg(&name), path, 1 << 16)?));
    let mut decode = Command::new("ffmpeg");
    decode.args(["-v", "error", "-nostdin", "-i"]).arg(&name).args(["-map", "0:v:0", "-vf", &format!("fps={fps}")]);
    decode.args(["-frames:v", &MOST_FRAMES.to_string(), "-f", "image2pipe", "-c:v", "ppm", "pipe:1"]);
    let stream = ran(&mut decode, path, most_bytes)?;
    let mut rest = &stream[..];
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let damaged = || Error::options(format!("{}: ffmpeg gave a damaged frame", path.display()));
        let (picture, after) = ppm(rest).ok_or_else(damaged)?;
        frames.push(picture?);
        rest = after;
    }
    if frames.is_empty() {
        return Err(Error::options(format!("{} must be a clip, ffmpeg found no frame in it", path.display())));
    }
    let mut notes = cut_note(frames.len(), path);
    if let Some(rate) = rate.filter(|rate| frames.len() > 1 && (rate / fps - 1.0).abs() >= SAME_RATE) {
        notes.push(rate_note(path, rate, fps, frames.len()));
    }
    Ok(ReadClip { frames, notes })
}

/// A path that ffmpeg takes for nothing else, whatever it is called.
pub fn named(path: &Path) -> OsString {
    let mut name = OsString::from("file:");
    name.push(path);
    name
}

/// What a program of ffmpeg's wrote, `most` bytes at most: it is ended where it writes more.
fn ran(command: &mut Command, path: &Path, most: u64) -> Result<Vec<u8>> {
    let failed = |e: std::io::Error| Error::Fetch(format!("ffmpeg could not be run: {e}"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| match e.kind() {
        ErrorKind::NotFound => Error::Fetch(format!(
            "{} is no picture, GIF or Y4M; other clips (MP4, WebM, …) are read through ffmpeg, which is not installed",
            path.display()
        )),
        _ => failed(e),
    })?;
    let (Some(stdout), Some(mut stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(Error::Internal("ffmpeg was started without pipes".into()));
    };
    // Beside each other: a program that waits for one pipe to be read never fills the other.
    let words = std::thread::spawn(move || {
        let mut said = Vec::new();
        stderr.read_to_end(&mut said).map(|_| said)
    });
    let mut out = Vec::new();
    let read = stdout.take(most + 1).read_to_end(&mut out);
    let more = out.len() as u64 > most;
    if more {
        // It may be over by itself; what it wrote is not used either way.
        drop(child.kill());
    }
    let status = child.wait().map_err(failed)?;
    if more {
        return Err(Error::options(format!(
            "{} must have at most {most} bytes of pixels, it has more: cut it or make it smaller",
            path.display()
        )));
    }
    read.map_err(failed)?;
    if status.success() {
        return Ok(out);
    }
    let said = words.join().ok().and_then(std::result::Result::ok).unwrap_or_default();
    let said = String::from_utf8_lossy(&said).trim().lines().last().unwrap_or_default().to_owned();
    Err(Error::options(format!("{} must be a picture or a clip that ffmpeg decodes: {said}", path.display())))
}

/// "30000/1001" as a number.
fn rate(text: &str) -> Option<f64> {
    let (over, under) = text.trim().split_once('/')?;
    let rate = over.parse::<f64>().ok()? / under.trim_end_matches(',').parse::<f64>().ok()?;
    (rate.is_finite() && rate > 0.0).then_some(rate)
}

/// The first picture of a stream of binary PPMs, and what comes after it.
fn ppm(bytes: &[u8]) -> Option<(Result<Picture>, &[u8])> {
    let mut rest = bytes.strip_prefix(b"P6\n")?;
    let mut number = || {
        let end = rest.iter().position(u8::is_ascii_whitespace)?;
        let value = std::str::from_utf8(&rest[..end]).ok()?.parse::<usize>().ok()?;
        rest = &rest[end + 1..];
        Some(value)
    };
    let (width, height, most) = (number()?, number()?, number()?);
    let count = width.checked_mul(height)?.checked_mul(3)?;
    if most != 255 || rest.len() < count {
        return None;
    }
    let rgba = rest[..count].chunks_exact(3).flat_map(|p| [p[0], p[1], p[2], 255]).collect();
    Some((Picture::new(width, height, Values::Rgba(rgba)), &rest[count..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_frames_are_read() {
        assert_eq!(rate("30000/1001\n").map(|r| (r * 100.0).round()), Some(2997.0));
        assert_eq!((rate("0/0"), rate("N/A")), (None, None));
        let stream = [b"P6\n2 1\n255\n".as_slice(), &[1, 2, 3, 4, 5, 6], b"P6\n1 1\n255\n", &[7, 8, 9]].concat();
        let (first, rest) = ppm(&stream).unwrap();
        assert_eq!(first.unwrap().rgba(1, 2).unwrap(), [1, 2, 3, 255, 4, 5, 6, 255]);
        let (second, rest) = ppm(rest).unwrap();
        assert_eq!((second.unwrap().size(), rest.len()), ((1, 1), 0));
        assert!(ppm(&stream[..12]).is_none());
    }
}
