//! What a WebP file's frames claim, looked at before they are decoded.

use std::io::{BufReader, ErrorKind, Read, Seek};
use std::path::Path;

use crate::error::{Error, Result};

/// Bytes before the first chunk: `RIFF`, a size, `WEBP`.
const HEAD: u64 = 12;
/// Bytes of an `ANMF` chunk before the chunks in it.
const FRAME_HEAD: u64 = 16;
/// Bytes of a pixel while a frame is decoded.
const PIXEL: u64 = 4;

/// Refuses a file with a frame whose pixels would be too many: `image-webp` 0.2 makes room for what a frame's own header claims, up
/// to 16,383 px a side, before it compares that with the picture's size.
///
/// # Errors
/// [`Error::Fetch`] when it cannot be read, [`Error::InvalidOptions`] when a frame is too large or its chunk has no whole size.
pub fn check_frames(mut reader: BufReader<impl Read + Seek>, path: &Path, most_bytes: u64) -> Result<()> {
    let failed = |e: std::io::Error| Error::Fetch(format!("{}: {e}", path.display()));
    // `until`: the end of the frame that `at` is in.
    let (mut at, mut until) = (HEAD, u64::MAX);
    while let Some((name, size)) = head(&mut reader, at).map_err(failed)? {
        let inside = at + 8;
        // Chunks fill up to even sizes, so a frame that is made of them has one.
        at = match &name {
            b"ANMF" if size % 2 == 1 => {
                return Err(Error::options(format!(
                    "{} must be a whole picture: a frame of {size} bytes",
                    path.display()
                )));
            }
            b"ANMF" => {
                until = inside + size;
                inside + FRAME_HEAD
            }
            _ => inside + size + size % 2,
        };
        if at >= until {
            (at, until) = (until, u64::MAX);
        }
        if &name != b"VP8 " {
            continue;
        }
        let Some((width, height)) = lossy_size(&mut reader, inside).map_err(failed)? else { continue };
        let bytes = u64::from(width) * u64::from(height) * PIXEL;
        if bytes > most_bytes {
            return Err(Error::options(format!(
                "{} must have at most {most_bytes} bytes of pixels, a frame of {width} × {height} px makes {bytes}: make it smaller",
                path.display()
            )));
        }
    }
    Ok(())
}

/// A chunk's name and size; `None` at the file's end.
fn head(reader: &mut BufReader<impl Read + Seek>, at: u64) -> std::io::Result<Option<([u8; 4], u64)>> {
    Ok(exactly::<8>(reader, at)?.map(|[a, b, c, d, size @ ..]| ([a, b, c, d], u32::from_le_bytes(size).into())))
}

/// Width and height in a lossy frame's header (RFC 6386, 9.1); `None` if it is none.
fn lossy_size(reader: &mut BufReader<impl Read + Seek>, at: u64) -> std::io::Result<Option<(u16, u16)>> {
    const SIDE: u16 = 0x3fff;
    Ok(exactly::<10>(reader, at)?.and_then(|header| match header {
        [_, _, _, 0x9d, 0x01, 0x2a, a, b, c, d] => {
            Some((u16::from_le_bytes([a, b]) & SIDE, u16::from_le_bytes([c, d]) & SIDE))
        }
        _ => None,
    }))
}

fn exactly<const N: usize>(reader: &mut BufReader<impl Read + Seek>, at: u64) -> std::io::Result<Option<[u8; N]>> {
    let mut bytes = [0; N];
    // What is buffered stays: a file may be millions of small chunks.
    let here = reader.stream_position()?;
    reader.seek_relative(at as i64 - here as i64)?;
    match reader.read_exact(&mut bytes) {
        Ok(()) => Ok(Some(bytes)),
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => Ok(None),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn chunk(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
        [&name[..], &(body.len() as u32).to_le_bytes(), body, &[0][..body.len() % 2]].concat()
    }

    fn lossy(side: u16) -> Vec<u8> {
        let [low, high] = side.to_le_bytes();
        chunk(b"VP8 ", &[0, 0, 0, 0x9d, 0x01, 0x2a, low, high, low, high])
    }

    fn told(chunks: &[Vec<u8>]) -> String {
        let bytes = [b"RIFF\0\0\0\0WEBP".to_vec(), chunks.concat()].concat();
        check_frames(BufReader::new(Cursor::new(bytes)), Path::new("a.webp"), 400)
            .err()
            .map(|e| e.to_string())
            .unwrap_or_default()
    }

    #[test]
    fn a_frame_that_claims_too_much_is_refused_wherever_it_stands() {
        let rule = "a.webp must have at most 400 bytes of pixels, a frame of 16383 × 16383 px makes 1073610756: make it smaller";
        let frame = |chunks: &[Vec<u8>]| chunk(b"ANMF", &[vec![0; 16], chunks.concat()].concat());
        let canvas = || chunk(b"VP8X", &[0; 10]);
        assert_eq!(told(&[lossy(10)]), "");
        assert_eq!(told(&[canvas(), frame(&[chunk(b"ALPH", &[1]), lossy(10)]), lossy(10)]), "");
        assert_eq!(told(&[lossy(0xffff)]), rule);
        assert_eq!(told(&[canvas(), chunk(b"EXIF", &[0; 7]), lossy(0xffff)]), rule);
        assert_eq!(told(&[canvas(), frame(&[lossy(10)]), frame(&[chunk(b"ALPH", &[1]), lossy(0xffff)])]), rule);
        // A chunk that says it reaches beyond its frame hides nothing.
        let far = [b"ABCD".to_vec(), u32::MAX.to_le_bytes().to_vec()].concat();
        assert_eq!(told(&[canvas(), frame(&[lossy(10), far]), frame(&[lossy(0xffff)])]), rule);
    }
}
