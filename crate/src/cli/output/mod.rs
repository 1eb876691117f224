//! Finished clips as files; the extension chooses the format.

mod animated;
pub mod recipe;
mod sheet;
mod video;
mod y4m;

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, TensorView, serialize};

use crate::error::{Error, Result};

/// Latents as the scheduler leaves them: values and their shape `[B, C, F, H, W]`.
pub type Latents<'a> = (&'a [f32], [usize; 5]);

/// A clip: `[F, H, W, 3]` bytes of sRGB, and how fast it plays.
#[derive(Debug, Clone, Copy)]
struct Clip<'a> {
    rgb: &'a [u8],
    width: usize,
    height: usize,
    fps: f64,
    /// What it was made from, as JSON.
    recipe: Option<&'a str>,
}

impl<'a> Clip<'a> {
    fn frames(&self) -> impl ExactSizeIterator<Item = &'a [u8]> {
        self.rgb.chunks_exact((self.width * self.height * 3).max(1))
    }
}

const EXTENSIONS: [&str; 8] = ["gif", "png", "jpg", "jpeg", "mp4", "webm", "y4m", "safetensors"];

/// Checks that [`write`] will know the format.
///
/// # Errors
/// [`Error::InvalidOptions`] listing the extensions there are.
fn check_extension(path: &Path) -> Result<()> {
    let extension = extension(path);
    match EXTENSIONS.contains(&extension.as_str()) {
        true => Ok(()),
        false => Err(Error::InvalidOptions(format!(
            "the output must end in .{}, got {}",
            EXTENSIONS.join(", ."),
            path.display()
        ))),
    }
}

/// The file that a clip will be written to: tried beside its target before anything is computed, so that a target that cannot
/// be written is found out then; it takes the target's place once it is whole, and is removed if it never is.
#[derive(Debug)]
pub struct Partial {
    target: PathBuf,
    path: PathBuf,
}

impl Partial {
    /// Tries whether the file can be made.
    ///
    /// # Errors
    /// As [`check_extension`]; [`Error::Fetch`] when the target is a folder, its folder cannot be written, or it is a video and there
    /// is no ffmpeg that encodes it.
    pub fn create(target: &Path) -> Result<Self> {
        check_extension(target)?;
        if target.is_dir() {
            return Err(Error::Fetch(format!("the output must be a file, {} is a folder", target.display())));
        }
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(".partial");
        let path = target.with_file_name(name);
        File::create(&path).map_err(|e| Error::Fetch(format!("could not create {}: {e}", path.display())))?;
        let partial = Self { target: target.to_owned(), path };
        let extension = extension(target);
        if video::is_video(&extension) {
            video::try_out(&extension, &partial.path)?;
        }
        // Nothing lies there until there is something to write: a run that is stopped leaves no stump.
        let _ = std::fs::remove_file(&partial.path);
        Ok(partial)
    }

    fn finish(self) -> Result<()> {
        std::fs::rename(&self.path, &self.target)
            .map_err(|e| Error::Fetch(format!("could not write {}: {e}", self.target.display())))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Gone already where it took its target's place.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Writes a clip: `.gif` loops, `.png` and `.jpg` are a contact sheet (one frame: the picture itself), `.mp4` and `.webm` go through
/// ffmpeg, `.y4m` is raw video in BT.709 limited range 4:2:0, `.safetensors` holds `frames` u8 `[F, H, W, 3]` and, if given,
/// `latents` f32. All but `.y4m` and `.jpg`, which have no place for it, keep the recipe.
///
/// # Shapes
/// `rgb`: `[F, H, W, 3]`, `size`: `[F, H, W]`; `fps` frames a second.
///
/// # Errors
/// [`Error::InvalidOptions`] for a size the format cannot hold or data that do not fit the
/// size; [`Error::Fetch`] when the file cannot be written. The clip itself is then kept among the system's temporary files, if
/// that can be done, and the error says where.
pub fn write(
    out: Partial,
    rgb: &[u8],
    size: [usize; 3],
    fps: f64,
    latents: Option<Latents<'_>>,
    recipe: Option<&str>,
) -> Result<()> {
    let [frames, height, width] = size;
    if size.contains(&0) || rgb.len() != frames * height * width * 3 {
        let rule = format!(
            "{frames} frames of {width} × {height} px take {} bytes, got {}",
            frames * height * width * 3,
            rgb.len()
        );
        return Err(Error::InvalidOptions(rule));
    }
    if !(fps.is_finite() && fps > 0.0) {
        return Err(Error::InvalidOptions(format!("fps must be finite and above 0, got {fps}")));
    }
    let clip = Clip { rgb, width, height, fps, recipe };
    let encode = |extension: &str, path: &Path| match extension {
        "gif" => with_file(path, |out| animated::write(clip, out)),
        "png" => with_file(path, |out| sheet::write(clip, out)),
        "jpg" | "jpeg" => with_file(path, |out| sheet::write_jpeg(clip, out)),
        "y4m" => with_file(path, |out| y4m::write(clip, out)),
        video if video::is_video(video) => video::write(clip, video, path),
        _ => write_tensors(path, rgb, [frames, height, width, 3], latents, recipe),
    };
    let target = out.target.clone();
    let extension = extension(&target);
    let written = encode(&extension, &out.path).map_err(|error| match error {
        Error::Fetch(why) => Error::Fetch(format!("{}: {why}", target.display())),
        other => other,
    });
    let Err(error) = written.and_then(|()| out.finish()) else { return Ok(()) };
    let kept = |place: &Path| format!("the clip is kept as {}", place.display());
    Err(match (rescue(&target, &extension, encode), error) {
        (Some(place), Error::Fetch(why)) => Error::Fetch(format!("{why}; {}", kept(&place))),
        (Some(place), Error::InvalidOptions(why)) => Error::InvalidOptions(format!("{why}; {}", kept(&place))),
        (_, error) => error,
    })
}

/// Keeps a clip that could not be written where it was to go, for it may hold hours of work: among the system's temporary files, as
/// it was asked for or, where the format is what failed, as Y4M. `None` where that fails too.
fn rescue(target: &Path, extension: &str, encode: impl Fn(&str, &Path) -> Result<()>) -> Option<PathBuf> {
    [extension, "y4m"].into_iter().find_map(|extension| {
        let mut name = OsString::from(format!("tabreel-{}-", std::process::id()));
        name.push(target.file_stem().unwrap_or_default());
        name.push(format!(".{extension}"));
        let path = std::env::temp_dir().join(name);
        match encode(extension, &path) {
            Ok(()) => Some(path),
            Err(_) => {
                let _ = std::fs::remove_file(&path);
                None
            }
        }
    })
}

fn write_tensors(
    path: &Path,
    rgb: &[u8],
    shape: [usize; 4],
    latents: Option<Latents<'_>>,
    recipe: Option<&str>,
) -> Result<()> {
    let failed = |e: safetensors::SafeTensorError| Error::Fetch(format!("could not write {}: {e}", path.display()));
    let mut tensors = vec![("frames", TensorView::new(Dtype::U8, shape.to_vec(), rgb).map_err(failed)?)];
    let values: Vec<u8> = latents.iter().flat_map(|(values, _)| values.iter().flat_map(|v| v.to_le_bytes())).collect();
    if let Some((_, shape)) = latents {
        tensors.push(("latents", TensorView::new(Dtype::F32, shape.to_vec(), &values).map_err(failed)?));
    }
    let mut metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    metadata.extend(recipe.map(|recipe| (recipe::KEY.to_owned(), recipe.to_owned())));
    let bytes = serialize(tensors, Some(metadata)).map_err(failed)?;
    std::fs::write(path, bytes).map_err(|e| Error::Fetch(format!("could not write {}: {e}", path.display())))
}

fn with_file(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    let mut out = BufWriter::new(
        File::create(path).map_err(|e| Error::Fetch(format!("could not create {}: {e}", path.display())))?,
    );
    write(&mut out)?;
    out.flush().map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Fetch(format!("could not write the output: {error}"))
}

fn extension(path: &Path) -> String {
    path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A red square that moves over a gradient.
    pub(super) fn moving_square(frames: usize, width: usize, height: usize) -> Vec<u8> {
        let mut rgb = Vec::with_capacity(frames * width * height * 3);
        for f in 0..frames {
            for y in 0..height {
                for x in 0..width {
                    let inside = (f * 3..f * 3 + 8).contains(&x) && (6..14).contains(&y);
                    let sky =
                        [(40 + y * 120 / height) as u8, (90 + y * 100 / height) as u8, (200 - x * 60 / width) as u8];
                    rgb.extend(if inside { [220, 30, 20] } else { sky });
                }
            }
        }
        rgb
    }

    pub(super) fn psnr(a: &[u8], b: &[u8]) -> f64 {
        assert_eq!(a.len(), b.len());
        let error: f64 = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
        10.0 * (255.0f64.powi(2) / (error / a.len() as f64).max(1e-9)).log10()
    }

    fn temporary(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("tabreel-output-{}-{name}", std::process::id()))
    }

    #[test]
    fn safetensors_hold_frames_and_latents() {
        let path = temporary("clip.safetensors");
        let rgb = moving_square(2, 16, 16);
        let latents: Vec<f32> = (0..24).map(|i| i as f32 / 7.0).collect();
        write(Partial::create(&path).unwrap(), &rgb, [2, 16, 16], 16.0, Some((&latents, [1, 4, 1, 2, 3])), None)
            .unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let set = crate::weights::WeightSet::from_bytes(bytes, "clip").unwrap();
        assert_eq!(set.get("frames").unwrap().shape, [2, 16, 16, 3]);
        assert_eq!(set.f32("frames").unwrap(), rgb.iter().map(|b| f32::from(*b)).collect::<Vec<_>>());
        assert_eq!(set.take_f32("latents", &[1, 4, 1, 2, 3]).unwrap(), latents);
    }

    #[test]
    fn every_format_writes_a_file_with_its_own_magic() {
        let rgb = moving_square(5, 32, 16);
        for (name, magic) in [
            ("a.gif", &b"GIF89a"[..]),
            ("a.PNG", b"\x89PNG"),
            ("a.jpg", b"\xff\xd8\xff"),
            ("a.y4m", b"YUV4MPEG2 W32 H16 F16:1"),
        ] {
            let path = temporary(name);
            write(Partial::create(&path).unwrap(), &rgb, [5, 16, 32], 16.0, None, Some("{\"tabreel\":\"ä\"}")).unwrap();
            let recipe = recipe::read(&path).unwrap();
            assert_eq!(recipe.is_some_and(|r| r["tabreel"] == "ä"), !["a.y4m", "a.jpg"].contains(&name), "{name}");
            let bytes = std::fs::read(&path).unwrap();
            std::fs::remove_file(&path).unwrap();
            assert!(bytes.starts_with(magic), "{name}");
        }
    }

    #[test]
    fn unknown_extensions_wrong_sizes_and_speeds_are_refused_with_the_rule() {
        let text = |r: Result<()>| r.unwrap_err().to_string();
        assert!(text(check_extension(Path::new("clip.avi"))).contains(".mp4, .webm, .y4m, .safetensors, got clip.avi"));
        assert!(text(check_extension(Path::new("clip"))).contains("got clip"));
        let target = temporary("refused.gif");
        let out = || Partial::create(&target).unwrap();
        assert!(text(write(out(), &[0; 11], [1, 2, 2], 8.0, None, None)).contains("take 12 bytes, got 11"));
        assert!(text(write(out(), &[0; 12], [1, 2, 2], 0.0, None, None)).contains("fps"));
        assert!(!target.exists() && !target.with_extension("gif.partial").exists(), "a refusal leaves nothing");
        assert!(matches!(Partial::create(Path::new("/nonexistent/x.gif")), Err(Error::Fetch(_))));
    }
}
