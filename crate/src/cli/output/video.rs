//! MP4 and WebM through an installed ffmpeg, which is handed the clip as Y4M.

use std::io::{BufWriter, ErrorKind, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{Clip, y4m};
use crate::cli::clips::ffmpeg::named;
use crate::error::{Error, Result};

/// Endings, and what ffmpeg is told for each: H.264 and VP9, near to lossless for the eye.
const FORMATS: [(&str, &[&str]); 2] = [
    ("mp4", &["-c:v", "libx264", "-crf", "16", "-preset", "medium", "-movflags", "+faststart", "-f", "mp4"]),
    ("webm", &["-c:v", "libvpx-vp9", "-crf", "18", "-b:v", "0", "-f", "webm"]),
];
/// What Y4M holds and has no word for.
const COLOURS: [&str; 8] =
    ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv"];

/// Whether a clip with this ending is written here.
pub(super) fn is_video(extension: &str) -> bool {
    FORMATS.iter().any(|(name, _)| *name == extension)
}

/// Tries a clip of one frame, so that a missing ffmpeg, or one without the encoder, is found out before anything is computed.
///
/// # Errors
/// As [`write`].
pub(super) fn try_out(extension: &str, path: &Path) -> Result<()> {
    const SIDE: usize = 64;
    write(Clip { rgb: &[0; SIDE * SIDE * 3], width: SIDE, height: SIDE, fps: 1.0, recipe: None }, extension, path)
}

fn missing(e: std::io::Error) -> Error {
    Error::Fetch(match e.kind() {
        ErrorKind::NotFound => {
            "MP4 and WebM are written through ffmpeg, which is not installed; .gif, .png and .y4m need nothing".into()
        }
        _ => format!("ffmpeg could not be run: {e}"),
    })
}

/// Writes the clip to `path`; the recipe becomes the file's comment, where the page keeps it too, unless it is longer than 64 KiB.
///
/// # Errors
/// [`Error::Fetch`] without ffmpeg, naming what can be written without it, and with ffmpeg's own words where it fails.
pub(super) fn write(clip: Clip<'_>, extension: &str, path: &Path) -> Result<()> {
    let Some((_, format)) = FORMATS.iter().find(|(name, _)| *name == extension) else {
        return Err(Error::Internal(format!("no video ends in .{extension}")));
    };
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-y", "-f", "yuv4mpegpipe", "-i", "pipe:0", "-pix_fmt", "yuv420p"]).args(COLOURS);
    // On Linux no argument of a program may be longer than 128 KiB.
    if let Some(recipe) = clip.recipe.filter(|recipe| recipe.len() < 1 << 16) {
        command.args(["-metadata", &format!("comment={recipe}")]);
    }
    command.args(*format).arg(named(path)).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(missing)?;
    let (Some(stdin), Some(mut stderr)) = (child.stdin.take(), child.stderr.take()) else {
        return Err(Error::Internal("ffmpeg was started without pipes".into()));
    };
    // Beside each other: a program that waits for one pipe to be read never empties the other.
    let words = std::thread::spawn(move || {
        let mut said = String::new();
        stderr.read_to_string(&mut said).map(|_| said)
    });
    let mut out = BufWriter::new(stdin);
    let written = y4m::write(clip, &mut out).and_then(|()| out.flush().map_err(super::failed));
    drop(out);
    let status = child.wait().map_err(|e| Error::Fetch(format!("ffmpeg could not be run: {e}")))?;
    let said = words.join().ok().and_then(std::result::Result::ok).unwrap_or_default();
    if status.success() {
        return written;
    }
    // What it says goes before the pipe that it closed.
    let said = said.trim().lines().last().unwrap_or("it said nothing").to_owned();
    Err(Error::Fetch(format!("ffmpeg could not write .{extension}: {said}")))
}

/// The recipe in the tags of an MP4 or WebM, ours or the page's; `None` without one, or without an ffprobe to read it.
pub(super) fn comment(path: &Path) -> Option<String> {
    let mut probe = Command::new("ffprobe");
    probe.args(["-v", "error", "-show_entries", "format_tags", "-of", "json"]).arg(named(path));
    let told = probe.stdin(Stdio::null()).output().ok()?;
    let told: Value = serde_json::from_slice(&told.stdout).ok()?;
    let tags = told["format"]["tags"].as_object()?;
    // Matroska writes its tags in capitals.
    let comment = tags.iter().find(|(name, _)| name.eq_ignore_ascii_case("comment"))?;
    comment.1.as_str().map(str::to_owned)
}

/// Whether a file begins as MP4 or WebM do.
pub(super) fn begins(head: &[u8]) -> bool {
    head.get(4..8) == Some(b"ftyp") || head.starts_with(&[0x1a, 0x45, 0xdf, 0xa3])
}
