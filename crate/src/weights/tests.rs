//! The whole floor against the reference fixtures, and against damaged files.

use std::borrow::Cow;
use std::cell::Cell;
use std::ops::Range;
use std::path::PathBuf;
use std::rc::Rc;

use super::gguf_write::{self, Planned};
use super::quantize::encode;
use super::*;

/// A file of `tests/fixtures` (written by `tests/reference/make_fixtures.py`).
pub(super) fn fixture(path: &str) -> Vec<u8> {
    let full = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(path);
    std::fs::read(&full).unwrap_or_else(|e| panic!("{} is needed for this test: {e}", full.display()))
}

fn set_of(path: &str) -> WeightSet {
    WeightSet::from_bytes(fixture(path), path).unwrap()
}

fn small_gguf() -> Vec<u8> {
    let metadata = vec![
        ("general.architecture".to_owned(), MetaValue::String("wan".into())),
        ("pieces".to_owned(), MetaValue::Array(8, vec![MetaValue::String("▁a".into()), MetaValue::String("b".into())])),
        ("scores".to_owned(), MetaValue::Array(6, vec![MetaValue::F32(-1.5), MetaValue::F32(0.25)])),
        ("big".to_owned(), MetaValue::U64(u64::MAX)),
        ("small".to_owned(), MetaValue::I8(-3)),
        ("flag".to_owned(), MetaValue::Bool(true)),
    ];
    let values: Vec<f32> = (0..64).map(|i| i as f32 - 31.0).collect();
    let tensors: &[(&str, &[usize], StoredType)] = &[
        ("a", &[2, 32], StoredType::Q8_0),
        ("b.weight", &[1, 2, 1, 2, 2], StoredType::F32),
        ("scalar", &[], StoredType::F16),
    ];
    let mut out = Vec::new();
    gguf_write::write(&mut out, &metadata, tensors, |i| encode(&values[..[64, 8, 1][i]], tensors[i].2)).unwrap();
    out
}

fn small_safetensors() -> Vec<u8> {
    let header = br#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"b":{"dtype":"BF16","shape":[1],"data_offsets":[16,18]}}"#;
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header);
    for v in [1.0f32, -2.0, 3.5, 0.0] {
        out.extend(v.to_le_bytes());
    }
    out.extend([0x80, 0x3f]);
    out
}

#[test]
fn every_stored_type_decodes_exactly_as_the_gguf_package_does() {
    let expected = set_of("gguf/io.safetensors");
    let file = set_of("gguf/types.gguf");
    let mut seen = 0;
    for name in expected.names().filter_map(|n| n.strip_prefix("out.")) {
        let want = expected.f32(&format!("out.{name}")).unwrap();
        let got = file.f32(&format!("{}.weight", name.to_lowercase())).unwrap();
        assert_eq!(want.len(), got.len());
        let differ = want.iter().zip(&got).position(|(a, b)| a.to_bits() != b.to_bits());
        assert_eq!(differ, None, "{name}");
        seen += 1;
    }
    assert_eq!(seen, file.len());
}

#[test]
fn encoding_what_was_decoded_gives_the_same_bytes() {
    let file = WeightFile::parse(fixture("gguf/types.gguf"), "types.gguf").unwrap();
    for dtype in [StoredType::Q8_0, StoredType::Q4_0, StoredType::F16] {
        let info = file.tensors().iter().find(|t| t.dtype == dtype).unwrap();
        let raw = &*file.read_now(info).unwrap();
        assert!(encode(&decode(dtype, raw), dtype).unwrap() == raw, "{dtype}");
    }
}

#[test]
fn rewriting_a_gguf_gives_the_python_packages_file_byte_for_byte() {
    let original = fixture("wan_gguf/wan.gguf");
    let file = WeightFile::parse(original.clone(), "wan.gguf").unwrap();
    let metadata: Vec<_> = file.metadata().clone().into_iter().collect();
    let tensors: Vec<_> = file.tensors().iter().map(|t| (t.name.as_str(), t.shape.as_slice(), t.dtype)).collect();
    let mut out = Vec::new();
    gguf_write::write(&mut out, &metadata, &tensors, |i| Ok(file.read_now(&file.tensors()[i]).unwrap().into_owned()))
        .unwrap();
    assert!(out == original);
}

/// A file of which only the beginning may be read.
#[derive(Debug)]
struct HeaderOnly {
    bytes: Vec<u8>,
    readable: u64,
}

impl ByteSource for HeaderOnly {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_now(&self, range: Range<u64>) -> Result<Option<Cow<'_, [u8]>>> {
        // The first read may be of more than the header: what lies behind is not told.
        let mut bytes = self.bytes[range.start as usize..range.end as usize].to_vec();
        let told = self.readable.saturating_sub(range.start).min(range.end - range.start) as usize;
        bytes[told..].fill(0);
        match range.start < self.readable {
            true => Ok(Some(Cow::Owned(bytes))),
            false => Err(Error::Fetch("only the header can be read".into())),
        }
    }
}

/// A file of any length that is zeros behind its first bytes, and remembers the longest read.
#[derive(Debug)]
struct Vast {
    start: Vec<u8>,
    len: u64,
    longest: Cell<u64>,
}

impl ByteSource for Vast {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_now(&self, range: Range<u64>) -> Result<Option<Cow<'_, [u8]>>> {
        let length = range.end - range.start;
        self.longest.set(self.longest.get().max(length));
        assert!(length <= MOST_HEADER, "{length} bytes are read at once");
        let mut bytes = vec![0; length as usize];
        let told = self.start.get(range.start as usize..).unwrap_or_default();
        let told = &told[..told.len().min(bytes.len())];
        bytes[..told.len()].copy_from_slice(told);
        Ok(Some(Cow::Owned(bytes)))
    }
}

#[test]
fn a_long_file_that_is_no_weight_file_is_not_read_to_find_that_out() {
    const LONG: u64 = 20 << 30;
    let text = |length: u64| [&length.to_le_bytes()[..], b"zeros"].concat();
    // A key of nearly the whole file's length, and a header as long as it.
    let mut key = [b"GGUF".as_slice(), &3u32.to_le_bytes(), &0u64.to_le_bytes(), &1u64.to_le_bytes()].concat();
    key.extend((LONG - 1000).to_le_bytes());
    let mut header = (LONG - 1000).to_le_bytes().to_vec();
    header.push(b'{');
    let zip = b"PK\x03\x04".to_vec();
    for (start, words) in [
        (text(100), "a safetensors, GGUF or PyTorch file"),
        (text(LONG - 1000), "a safetensors, GGUF or PyTorch file"),
        (Vec::new(), "a safetensors, GGUF or PyTorch file"),
        (b"GGUF".to_vec(), "GGUF version 2 or 3"),
        (key, "a header of at most 268435456 bytes"),
        (header, "a header of at most 268435456 bytes"),
        (zip, "no directory at the end"),
    ] {
        let source = Rc::new(Vast { start, len: LONG, longest: Cell::new(0) });
        let told = WeightFile::open_now(source.clone(), "long.bin").unwrap_err().to_string();
        assert!(told.contains("long.bin") && told.contains(words), "{told}");
        assert!(source.longest.get() <= FIRST_READ, "{told} after a read of {} bytes", source.longest.get());
    }
}

#[test]
fn a_header_can_be_read_without_the_data() {
    for whole in [small_gguf(), small_safetensors()] {
        let full = WeightFile::parse(whole.clone(), "full").unwrap();
        let first = full.tensors().iter().map(|t| t.range.start).min().unwrap();
        // A file of which every byte after the header must not be read.
        let longer = HeaderOnly { bytes: whole.clone(), readable: first };
        let head = WeightFile::open_now(Rc::new(longer), "head").unwrap();
        assert_eq!(head.tensors(), full.tensors());
        assert_eq!(head.len_bytes(), whole.len() as u64);
        assert!(head.read_now(&head.tensors()[0]).is_err());
    }
}

#[test]
fn arrays_of_bytes_stay_bytes_and_other_items_are_limited_in_number() {
    let header = |kind: u32, count: u64, item: &[u8]| {
        let mut out = [b"GGUF".as_slice(), &3u32.to_le_bytes(), &0u64.to_le_bytes(), &1u64.to_le_bytes()].concat();
        out.extend(1u64.to_le_bytes());
        out.push(b'a');
        out.extend(9u32.to_le_bytes());
        out.extend(kind.to_le_bytes());
        out.extend(count.to_le_bytes());
        out.extend(item.repeat(count as usize));
        WeightFile::parse(out, "big.gguf")
    };
    let file = header(0, 6 << 20, &[7]).unwrap();
    assert_eq!(file.metadata()["a"].as_bytes().map(<[u8]>::len), Some(6 << 20));
    let told = header(7, 6 << 20, &[1]).unwrap_err().to_string();
    assert!(told.contains("at most 4194304"), "{told}");
    // Nested arrays count together.
    let inner = [7u32.to_le_bytes().as_slice(), &8u64.to_le_bytes(), &[1; 8]].concat();
    assert!(header(9, 1000, &inner).is_ok());
    assert!(header(9, 600_000, &inner).is_err());
}

#[test]
fn a_small_gguf_reads_back_as_written() {
    let file = WeightFile::parse(small_gguf(), "small.gguf").unwrap();
    assert_eq!(file.format(), FileFormat::Gguf);
    assert_eq!(file.metadata()["big"].as_u64(), Some(u64::MAX));
    assert_eq!(file.metadata()["small"], MetaValue::I8(-3));
    assert_eq!(file.metadata()["pieces"].as_array().unwrap()[0].as_str(), Some("▁a"));
    assert_eq!(file.metadata()["scores"].as_array().unwrap()[0].as_f64(), Some(-1.5));
    let b = &file.tensors()[1];
    assert_eq!(b.shape, [1, 2, 1, 2, 2]);
    assert_eq!(decode(b.dtype, &file.read_now(b).unwrap()), (0..8).map(|i| i as f32 - 31.0).collect::<Vec<_>>());
}

#[test]
fn safetensors_values_and_metadata_are_read() {
    let set = WeightSet::from_bytes(small_safetensors(), "s").unwrap();
    assert_eq!(set.f32("a").unwrap(), [1.0, -2.0, 3.5, 0.0]);
    assert_eq!(set.f32("b").unwrap(), [1.0]);
    assert_eq!(set.files()[0].metadata()["format"].as_str(), Some("pt"));
}

#[test]
fn a_file_cut_anywhere_is_an_error_and_never_a_panic() {
    for whole in [small_gguf(), small_safetensors()] {
        for len in 0..whole.len() {
            let cut = WeightFile::parse(whole[..len].to_vec(), "cut");
            // Only the padding after the last tensor may be missing.
            assert!(cut.is_err() || len + 32 > whole.len(), "{len} of {} bytes", whole.len());
        }
    }
}

#[test]
fn a_file_with_any_byte_changed_never_panics() {
    for whole in [small_gguf(), small_safetensors()] {
        for at in 0..whole.len() {
            for flip in [0x01, 0x80, 0xff, 0x20] {
                let mut bad = whole.clone();
                bad[at] ^= flip;
                if let Ok(set) = WeightSet::from_bytes(bad, "bad") {
                    for name in set.names() {
                        let shape = set.get(name).unwrap().shape.clone();
                        let _ = set.take_f32(name, &shape);
                    }
                }
            }
        }
    }
}

#[test]
fn overlapping_misplaced_and_unknown_tensors_are_named() {
    let patched = |from: &[u8], to: &[u8]| {
        let mut bytes = small_gguf();
        let at = bytes.windows(from.len()).position(|w| w == from).unwrap();
        bytes[at..at + to.len()].copy_from_slice(to);
        WeightSet::from_bytes(bytes, "patched.gguf")
    };
    let patch = |from: &[u8], to: &[u8]| patched(from, to).unwrap_err().to_string();
    // Type number and offset follow the dimensions of "b.weight": 2, 2, 1, 2, 1 → type 0, offset 96.
    let entry: Vec<u8> = [2u64, 2, 1, 2, 1]
        .iter()
        .flat_map(|d| d.to_le_bytes())
        .chain(0u32.to_le_bytes())
        .chain(96u64.to_le_bytes())
        .collect();
    let with = |kind: u32, offset: u64| {
        let mut e = entry.clone();
        e[40..44].copy_from_slice(&kind.to_le_bytes());
        e[44..].copy_from_slice(&offset.to_le_bytes());
        e
    };
    for (number, name) in [(16, "IQ2_XXS"), (99, "GGUF type 99")] {
        let set = patched(&entry, &with(number, 96)).unwrap();
        // Up to the next tensor: how long it is, its type would say.
        let found = set.get("b.weight").map(|info| (info.dtype, info.type_name(), info.stored_bytes()));
        assert_eq!(found, Some((StoredType::Unknown, name, 32)));
        let told = set.f32("b.weight").unwrap_err().to_string();
        assert_eq!(told, format!("b.weight: expected a type that can be decoded here, found {name}"));
        assert_eq!(set.take_f32("a", &[2, 32]).unwrap().len(), 64);
        assert!(patch(&entry, &with(number, 0)).contains("bytes shared with"));
        assert!(patch(&entry, &with(number, 1 << 40)).contains("data inside the file"));
        let mut vast = with(number, 96);
        vast[..8].copy_from_slice(&(1u64 << 20).to_le_bytes());
        assert!(patch(&entry, &vast).contains("a shape of no more elements than 32 bytes hold"));
    }
    assert!(patch(&entry, &with(0, 0)).contains("bytes shared with"));
    assert!(patch(&entry, &with(0, 7)).contains("multiple of 32"));
    assert!(patch(&entry, &with(0, 1 << 40)).contains("data inside the file"));
}

#[test]
fn absurd_counts_are_refused_before_anything_is_allocated() {
    for at in [8, 16] {
        let mut bytes = small_gguf();
        bytes[at..at + 8].copy_from_slice(&u64::MAX.to_le_bytes());
        let message = WeightFile::parse(bytes, "huge.gguf").unwrap_err().to_string();
        assert!(message.contains("huge.gguf") && message.contains("18446744073709551615"), "{message}");
    }
}

#[test]
fn a_file_of_another_kind_is_named_with_its_first_bytes() {
    let zip = WeightFile::parse(b"PK\x03\x04 a zip file".to_vec(), "model.pth").unwrap_err().to_string();
    assert!(zip.contains("a whole zip archive"), "{zip}");
    let message = WeightFile::parse(b"7z\xbc\xaf a file".to_vec(), "model.bin").unwrap_err().to_string();
    assert!(
        message.starts_with("model.bin: expected a safetensors, GGUF or PyTorch file")
            && message.contains("37 7a bc af"),
        "{message}"
    );
}

#[test]
fn a_wrong_shape_a_missing_name_and_a_nan_are_told_apart() {
    let mut bytes = small_safetensors();
    let at = bytes.len() - 18 + 8;
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    let set = WeightSet::from_bytes(bytes, "s.safetensors").unwrap();
    let message = |e: Error| e.to_string();
    assert_eq!(message(set.take_f32("a", &[4]).unwrap_err()), "a: expected shape [4], found [2, 2] in s.safetensors");
    assert_eq!(message(set.take_f32("a", &[2, 2]).unwrap_err()), "a: expected finite values, found NaN at element 2");
    assert_eq!(
        message(set.take_f32("c", &[1]).unwrap_err()),
        "c: expected a tensor of shape [1], found no such tensor in s.safetensors"
    );
    assert_eq!(set.unused(), ["b"]);
}

#[test]
fn shards_merge_and_a_name_in_two_of_them_is_an_error() {
    let a = WeightFile::parse(small_safetensors(), "1.safetensors").unwrap();
    let g = WeightFile::parse(small_gguf(), "2.gguf").unwrap();
    let message = WeightSet::new(vec![a.clone(), g]).unwrap_err().to_string();
    assert_eq!(message, "a: expected each name once over all shards, found it in 1.safetensors and in 2.gguf");
    let index =
        ShardIndex::parse(r#"{"metadata":{},"weight_map":{"a":"1.safetensors","x":"2.safetensors"}}"#, "i").unwrap();
    assert_eq!(index.files(), ["1.safetensors", "2.safetensors"]);
    assert!(
        index
            .check(&WeightSet::new(vec![a]).unwrap())
            .unwrap_err()
            .to_string()
            .starts_with("x: expected it in 2.safetensors")
    );
    assert!(ShardIndex::parse(r#"{"weight_map":{"a":"../secret"}}"#, "i").is_err());
}

#[test]
fn a_plan_keeps_delicate_tensors_in_f32() {
    let set = set_of("wan_vace/weights.safetensors");
    let planned = gguf_write::plan(&set, StoredType::Q8_0, &Default::default()).unwrap();
    let dtype = |name: &str| planned.iter().find(|p: &&Planned| p.name == name).unwrap().dtype;
    assert_eq!(dtype("scale_shift_table"), StoredType::F32);
    assert_eq!(dtype("vace_patch_embedding.weight"), StoredType::F32);
    assert_eq!(dtype("blocks.0.attn1.to_q.bias"), StoredType::F32);
    assert_eq!(dtype("blocks.0.ffn.net.2.weight"), StoredType::Q8_0); // rows of 96
    assert_eq!(dtype("blocks.0.attn1.to_q.weight"), StoredType::F16); // rows of 48 are not whole blocks
}
