//! Files that the host reads: `{ path, size, read(start, end) }`, whose bytes stay JavaScript's until they are needed here.

use std::borrow::Cow;
use std::ops::Range;
use std::rc::Rc;

use js_sys::{Function, Promise, Reflect, Uint8Array};
use serde::Deserialize;
use wasm_bindgen::JsCast;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use super::{method, to_js_error};
use crate::error::{Error, ErrorCode, Result};
use crate::pace::Later;
use crate::pipeline::{LoraFile, ModelFiles};
use crate::weights::source::{ByteSource, Bytes, Elsewhere};

/// Largest whole number that a JavaScript number holds exactly.
const MOST: f64 = 9_007_199_254_740_991.0;

/// A file that the host reads by range.
#[derive(Debug)]
struct HostFile {
    this: JsValue,
    read: Function,
    path: String,
    len: u64,
}

/// Bytes in an `ArrayBuffer`.
#[derive(Debug)]
struct HostBytes(Uint8Array);

/// An error of the host's, `{ code, message }`.
#[derive(Deserialize)]
struct Thrown {
    code: ErrorCode,
    message: String,
}

/// The files of a model: an array of `{ path: string, size: number, read(start, end): Promise<Uint8Array> }`, and LoRAs, which
/// have a `strength: number` besides.
pub fn model_files(files: &JsValue) -> Result<ModelFiles, JsValue> {
    let wrong = |rule: &str| to_js_error(Error::options(rule.to_owned()));
    let files: js_sys::Array =
        files.clone().dyn_into().map_err(|_| wrong("files must be an array of { path, size, read }"))?;
    let mut out = ModelFiles::default();
    for file in files.iter() {
        let field = |name: &str| Reflect::get(&file, &name.into()).unwrap_or(JsValue::UNDEFINED);
        let path = field("path").as_string().ok_or_else(|| wrong("a file's path must be a string"))?;
        let size = field("size").as_f64().filter(|size| size.fract() == 0.0 && (0.0..=MOST).contains(size));
        let size = size.ok_or_else(|| wrong("a file's size must be a whole number of bytes"))?;
        let read = method(&file, "file.read")?;
        let strength = field("strength");
        let source = Rc::new(HostFile { this: file, read, path: path.clone(), len: size as u64 });
        match strength.as_f64() {
            None if strength.is_undefined() => out.add(path, source),
            Some(strength) if strength.is_finite() => {
                out.add_lora(LoraFile { label: path, source, strength: strength as f32 });
            }
            _ => return Err(wrong("a LoRA's strength must be a finite number")),
        }
    }
    Ok(out)
}

impl ByteSource for HostFile {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_now(&self, _: Range<u64>) -> Result<Option<Cow<'_, [u8]>>> {
        Ok(None)
    }

    fn read(&self, range: Range<u64>) -> Later<'_, Bytes<'_>> {
        Box::pin(async move {
            let (start, end) = (range.start as f64, range.end as f64);
            let asked = self.read.call2(&self.this, &start.into(), &end.into());
            let answer = match asked {
                Ok(promise) => JsFuture::from(Promise::resolve(&promise)).await,
                Err(thrown) => Err(thrown),
            };
            let bytes = answer.map_err(|thrown| self.error(&thrown))?;
            let bytes: Uint8Array = bytes
                .dyn_into()
                .map_err(|_| Error::Internal(format!("read of {} must give a Uint8Array", self.path)))?;
            let wanted = range.end.saturating_sub(range.start);
            match u64::from(bytes.length()) == wanted {
                true => Ok(Bytes::Elsewhere(Box::new(HostBytes(bytes)))),
                false => Err(Error::Fetch(format!(
                    "{}: {wanted} bytes from byte {} on were asked for, {} came",
                    self.path,
                    range.start,
                    bytes.length()
                ))),
            }
        })
    }
}

impl HostFile {
    fn error(&self, thrown: &JsValue) -> Error {
        match serde_wasm_bindgen::from_value::<Thrown>(thrown.clone()) {
            Ok(Thrown { code, message }) => Error::Host { code, message },
            Err(_) => {
                let message = Reflect::get(thrown, &"message".into()).ok().and_then(|m| m.as_string());
                Error::Fetch(format!("{}: {}", self.path, message.unwrap_or_else(|| format!("{thrown:?}"))))
            }
        }
    }
}

impl Elsewhere for HostBytes {
    fn len(&self) -> usize {
        self.0.length() as usize
    }

    fn to_vec(&self) -> Vec<u8> {
        self.0.to_vec()
    }

    fn write_to(&self, buffer: &wgpu::Buffer, queue: &wgpu::Queue, offset: u64) -> Result<()> {
        let (Some(buffer), Some(queue)) = (buffer.as_webgpu(), queue.as_webgpu()) else {
            return Err(Error::Internal("a GPU of another kind than the browser's".into()));
        };
        let queue = JsValue::from(queue.clone());
        let write =
            method(&queue, "queue.writeBuffer").map_err(|_| Error::Internal("a queue without writeBuffer".into()))?;
        let whole = self.0.length() & !3;
        let put = |at: u64, bytes: &Uint8Array| {
            let arguments = js_sys::Array::of3(&JsValue::from(buffer.clone()), &(at as f64).into(), bytes);
            write.apply(&queue, &arguments).map(drop)
        };
        let mut written = if whole > 0 { put(offset, &self.0.subarray(0, whole)) } else { Ok(()) };
        if whole < self.0.length() && written.is_ok() {
            // Writes are of whole words: the rest is padded with zeros.
            let rest = Uint8Array::new_with_length(4);
            rest.set(&self.0.subarray(whole, self.0.length()), 0);
            written = put(offset + u64::from(whole), &rest);
        }
        written.map_err(|thrown| Error::DeviceLost(format!("the GPU took no data: {thrown:?}")))
    }
}
