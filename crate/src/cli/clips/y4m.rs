//! YUV4MPEG2 of eight bits, BT.709, as `tabreel generate` writes it.

use std::io::{BufRead, Read};
use std::path::Path;

use super::Timed;
use crate::condition::{Picture, Values};
use crate::error::{Error, Result};

pub(super) const MAGIC: &[u8] = b"YUV4MPEG2 ";

/// What the header says.
#[derive(Debug, PartialEq)]
struct Header {
    width: usize,
    height: usize,
    fps: f64,
    /// How many pixels share a chroma sample, across and down; `None` for grey.
    shared: Option<(usize, usize)>,
    full_range: bool,
}

/// The frames of a file, `most` at most and of `most_bytes` bytes of pixels; `None` for a kind that is not read here (more than
/// eight bits).
pub(super) fn read(mut file: impl BufRead, path: &Path, most: usize, most_bytes: u64) -> Result<Option<Timed>> {
    let failed = |e: std::io::Error| Error::Fetch(format!("{}: {e}", path.display()));
    let damaged = |what: &str| Error::options(format!("{} must be a whole Y4M clip, {what}", path.display()));
    let line = |file: &mut dyn BufRead| -> Result<String> {
        let mut line = Vec::new();
        file.take(4096).read_until(b'\n', &mut line).map_err(failed)?;
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    };
    let text = line(&mut file)?;
    let Some(header) = header(&text) else { return Ok(None) };
    if header.width == 0 || header.height == 0 {
        return Err(damaged("its header has no size"));
    }
    let mut out = Timed::new();
    let chroma = header.shared.map_or(0, |(x, y)| 2 * header.width.div_ceil(x) * header.height.div_ceil(y));
    let frame_bytes = header.width * header.height + chroma;
    // Grows as the file gives: a header may claim more than there is.
    let mut planes = Vec::new();
    while out.frames.len() < most {
        let start = line(&mut file)?;
        if start.is_empty() {
            break;
        }
        if !start.starts_with("FRAME") {
            return Err(damaged("a frame does not begin with FRAME"));
        }
        out.room_for(header.width as u64, header.height as u64, path, most_bytes)?;
        planes.clear();
        (&mut file).take(frame_bytes as u64).read_to_end(&mut planes).map_err(failed)?;
        if planes.len() < frame_bytes {
            return Err(damaged("its last frame is cut off"));
        }
        out.frames.push(Picture::new(header.width, header.height, Values::Rgba(rgba(&planes, &header)))?);
        out.seconds.push(1.0 / header.fps);
    }
    if out.frames.is_empty() {
        return Err(damaged("it has no frame"));
    }
    Ok(Some(out))
}

fn header(line: &str) -> Option<Header> {
    let mut header = Header { width: 0, height: 0, fps: 25.0, shared: Some((2, 2)), full_range: false };
    for word in line.split_ascii_whitespace().skip(1) {
        let (tag, value) = word.split_at_checked(1)?;
        match tag {
            "W" => header.width = value.parse().ok().filter(|side| *side < 1 << 16)?,
            "H" => header.height = value.parse().ok().filter(|side| *side < 1 << 16)?,
            "F" => {
                let (over, under) = value.split_once(':')?;
                let fps = over.parse::<f64>().ok()? / under.parse::<f64>().ok()?;
                header.fps = Some(fps).filter(|fps| fps.is_finite() && *fps > 0.0)?;
            }
            "C" => {
                header.shared = match value {
                    "420" | "420jpeg" | "420mpeg2" | "420paldv" => Some((2, 2)),
                    "422" => Some((2, 1)),
                    "444" => Some((1, 1)),
                    "mono" => None,
                    _ => return None,
                }
            }
            "X" => header.full_range |= value == "COLORRANGE=FULL",
            _ => {}
        }
    }
    Some(header)
}

/// One frame's pixels; ITU-R BT.709-6, sections 3 and 4, backwards.
fn rgba(planes: &[u8], header: &Header) -> Vec<u8> {
    let Header { width, height, shared, full_range, .. } = *header;
    let (base, luma_range, chroma_range) = if full_range { (0.0, 255.0, 255.0) } else { (16.0, 219.0, 224.0) };
    let (luma, chroma) = planes.split_at(width * height);
    let mut out = Vec::with_capacity(width * height * 4);
    for y in 0..height {
        for x in 0..width {
            let light = (f32::from(luma[y * width + x]) - base) * 255.0 / luma_range;
            let (blue, red) = match shared {
                None => (0.0, 0.0),
                Some((across, down)) => {
                    let (columns, rows) = (width.div_ceil(across), height.div_ceil(down));
                    let at = y / down * columns + x / across;
                    let value = |at: usize| (f32::from(chroma[at]) - 128.0) * 255.0 / chroma_range;
                    (value(at), value(columns * rows + at))
                }
            };
            let (r, b) = (light + 1.5748 * red, light + 1.8556 * blue);
            let g = (light - 0.2126 * r - 0.0722 * b) / 0.7152;
            out.extend([r, g, b].map(|v| v.round().clamp(0.0, 255.0) as u8));
            out.push(255);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(bytes: &[u8]) -> Result<Option<Timed>> {
        read(bytes, Path::new("a.y4m"), 100, 1 << 20)
    }

    #[test]
    fn pure_colours_come_back() {
        for (codes, colour) in
            [([235, 128, 128], [255, 255, 255]), ([63, 102, 240], [255, 0, 0]), ([32, 240, 118], [0, 0, 255])]
        {
            let clip = [b"YUV4MPEG2 W1 H1 F16:1 C444\nFRAME\n".as_slice(), &codes].concat();
            let clip = frames(&clip).unwrap().unwrap();
            let found = clip.frames[0].rgba(1, 1).unwrap();
            assert!(found.iter().zip(colour).all(|(a, b)| a.abs_diff(b) <= 2), "{found:?} for {colour:?}");
        }
    }

    #[test]
    fn sizes_rates_and_cut_files_are_seen() {
        let head = b"YUV4MPEG2 W3 H1 F24:1 Ip A1:1 C420jpeg XCOLORRANGE=LIMITED\n".as_slice();
        let frame = [b"FRAME\n".as_slice(), &[16, 126, 235, 128, 128, 128, 128]].concat();
        let clip = frames(&[head, &frame, &frame].concat()).unwrap().unwrap();
        assert_eq!((clip.frames.len(), clip.frames[0].size(), clip.seconds[1]), (2, (3, 1), 1.0 / 24.0));
        assert_eq!(clip.frames[0].rgba(1, 3).unwrap()[4..7], [128; 3]);
        let cut = frames(&[head, &frame[..10]].concat()).err().map(|e| e.to_string()).unwrap_or_default();
        assert_eq!(cut, "a.y4m must be a whole Y4M clip, its last frame is cut off");
        assert!(frames(head).is_err());
        assert!(frames(b"YUV4MPEG2 W2 H2 C420p10\n").unwrap().is_none(), "ten bits are left to ffmpeg");
    }
}
