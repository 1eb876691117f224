//! The tensors of one component, from one file or from several shards, asked for by name.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use super::info::TensorInfo;
use super::source::Bytes;
use super::{StoredType, WeightFile, decode};
use crate::error::{Error, Result};

/// A component's tensors by name.
///
/// Every tensor taken is remembered, so that after a model has been built [`WeightSet::unused`] tells what it did not
/// ask for.
#[derive(Debug, Default)]
pub struct WeightSet {
    files: Vec<WeightFile>,
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    info: TensorInfo,
    file: usize,
    used: AtomicBool,
}

impl WeightSet {
    /// Merges files (shards) into one set.
    ///
    /// # Errors
    /// [`Error::Weights`] when two files hold a tensor of the same name.
    pub fn new(files: Vec<WeightFile>) -> Result<Self> {
        let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
        for (file, weights) in files.iter().enumerate() {
            for info in weights.tensors() {
                let entry = Entry { info: info.clone(), file, used: AtomicBool::new(false) };
                if let Some(first) = entries.insert(info.name.clone(), entry) {
                    let found = format!("it in {} and in {}", files[first.file].label(), weights.label());
                    return Err(Error::weights(&info.name, "each name once over all shards", found));
                }
            }
        }
        Ok(Self { files, entries })
    }

    /// A set of one file read from `bytes`.
    ///
    /// # Errors
    /// As [`WeightFile::parse`].
    pub fn from_bytes(bytes: Vec<u8>, label: &str) -> Result<Self> {
        Self::new(vec![WeightFile::parse(bytes, label)?])
    }

    /// The files behind the set.
    pub fn files(&self) -> &[WeightFile] {
        &self.files
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if there is no tensor.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What is known of a tensor. Its `name` is the one asked for, also after renaming.
    pub fn get(&self, name: &str) -> Option<&TensorInfo> {
        self.entries.get(name).map(|e| &e.info)
    }

    /// All tensors, sorted by name.
    pub fn infos(&self) -> impl Iterator<Item = &TensorInfo> {
        self.entries.values().map(|e| &e.info)
    }

    /// The values of a tensor of any stored type, in row-major order, of files that can be read at once.
    ///
    /// # Errors
    /// [`Error::Weights`] when there is no such tensor; as [`WeightFile::read_now`].
    pub fn f32(&self, name: &str) -> Result<Vec<f32>> {
        let entry = self.entry(name, "a tensor of this name")?;
        Ok(decode(entry.info.dtype, &self.files[entry.file].read_now(&entry.info)?))
    }

    /// The values of a tensor of the shape given, of files that can be read at once, marking it used.
    ///
    /// # Errors
    /// As [`WeightSet::fetch_f32`].
    pub fn take_f32(&self, name: &str, expected_shape: &[usize]) -> Result<Vec<f32>> {
        let entry = self.take(name, expected_shape)?;
        finite(name, decode(entry.info.dtype, &self.files[entry.file].read_now(&entry.info)?))
    }

    /// The stored type and bytes of a tensor of the shape given, marking it used.
    ///
    /// # Errors
    /// [`Error::Weights`] when there is no such tensor or its shape is another; [`Error::Fetch`] when it cannot be read.
    pub async fn fetch(&self, name: &str, expected_shape: &[usize]) -> Result<(StoredType, Bytes<'_>)> {
        let entry = self.take(name, expected_shape)?;
        Ok((entry.info.dtype, self.files[entry.file].read(&entry.info).await?))
    }

    /// The values of a tensor of the shape given, marking it used.
    ///
    /// # Errors
    /// As [`WeightSet::fetch`], and [`Error::Weights`] when a value is infinite or not a number.
    pub async fn fetch_f32(&self, name: &str, expected_shape: &[usize]) -> Result<Vec<f32>> {
        let (dtype, bytes) = self.fetch(name, expected_shape).await?;
        finite(name, decode(dtype, &bytes.here()))
    }

    /// The values of one row of a table of the shape given, marking the table used.
    ///
    /// # Errors
    /// As [`WeightSet::fetch_f32`], and [`Error::Weights`] when the table has no such row.
    pub async fn fetch_row(&self, name: &str, [rows, columns]: [usize; 2], row: usize) -> Result<Vec<f32>> {
        let entry = self.take(name, &[rows, columns])?;
        let dtype = entry.info.dtype;
        let bytes = dtype.bytes_for(&[columns]).filter(|_| row < rows).ok_or_else(|| {
            Error::weights(name, format!("a row {row} of {columns} {dtype} values"), format!("{rows} rows"))
        })?;
        let start = entry.info.range.start + row as u64 * bytes;
        let info = TensorInfo { range: start..start + bytes, ..entry.info.clone() };
        finite(name, decode(dtype, &self.files[entry.file].read(&info).await?.here()))
    }

    /// The values of some of the outermost rows of a tensor of the shape given, marking it used: its elements must be stored
    /// one by one, not in blocks.
    ///
    /// # Errors
    /// As [`WeightSet::fetch_f32`], and [`Error::Weights`] when the tensor has no such rows.
    pub async fn fetch_rows(&self, name: &str, shape: &[usize], rows: Range<usize>) -> Result<Vec<f32>> {
        let entry = self.take(name, shape)?;
        let dtype = entry.info.dtype;
        let inside = shape.first().is_some_and(|&all| rows.start < rows.end && rows.end <= all);
        let bytes = dtype.bytes_for(&shape[1..]).filter(|_| inside && !dtype.is_quantized()).ok_or_else(|| {
            Error::weights(name, format!("rows {rows:?} of single values"), format!("{shape:?} of {dtype}"))
        })?;
        let start = entry.info.range.start;
        let range = start + rows.start as u64 * bytes..start + rows.end as u64 * bytes;
        let info = TensorInfo { range, ..entry.info.clone() };
        finite(name, decode(dtype, &self.files[entry.file].read(&info).await?.here()))
    }

    /// Marks every tensor below a dotted prefix as used.
    pub fn mark_used(&self, prefix: &str) {
        for (_, entry) in self.below(prefix) {
            entry.used.store(true, Ordering::Relaxed);
        }
    }

    /// The names (without the prefix) and shapes of those below a dotted prefix that were asked for.
    pub fn used_below(&self, prefix: &str) -> Vec<(&str, &[usize])> {
        let used = self.below(prefix).filter(|(_, entry)| entry.used.load(Ordering::Relaxed));
        used.map(|(name, entry)| (&name[prefix.len() + 1..], entry.info.shape.as_slice())).collect()
    }

    fn below<'a>(&'a self, prefix: &str) -> impl Iterator<Item = (&'a String, &'a Entry)> {
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}.") };
        self.entries.range(prefix.clone()..).take_while(move |(name, _)| name.starts_with(&prefix))
    }

    /// Names of the tensors that no `take_…` or `fetch…` asked for, sorted.
    pub fn unused(&self) -> Vec<String> {
        self.entries.iter().filter(|(_, e)| !e.used.load(Ordering::Relaxed)).map(|(name, _)| name.clone()).collect()
    }

    /// The same tensors under other names, with shapes as `rename` leaves them.
    ///
    /// # Errors
    /// [`Error::Weights`] when two tensors would get the same name or a shape would change the number of elements.
    pub(super) fn renamed(self, rename: impl Fn(&TensorInfo) -> (String, Vec<usize>)) -> Result<Self> {
        let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
        for (old, mut entry) in self.entries {
            let (name, shape) = rename(&entry.info);
            if shape.iter().product::<usize>() != entry.info.len() {
                return Err(Error::weights(
                    old,
                    format!("as many elements as {shape:?}"),
                    format!("{:?}", entry.info.shape),
                ));
            }
            entry.info.name.clone_from(&name);
            entry.info.shape = shape;
            if entries.insert(name.clone(), entry).is_some() {
                return Err(Error::weights(name, "one tensor under each name", format!("another besides {old}")));
            }
        }
        Ok(Self { files: self.files, entries })
    }

    fn entry(&self, name: &str, expected: &str) -> Result<&Entry> {
        self.entries.get(name).ok_or_else(|| {
            let labels: Vec<&str> = self.files.iter().map(WeightFile::label).collect();
            Error::weights(name, expected, format!("no such tensor in {}", labels.join(", ")))
        })
    }

    fn take(&self, name: &str, expected_shape: &[usize]) -> Result<&Entry> {
        let entry = self.entry(name, &format!("a tensor of shape {expected_shape:?}"))?;
        if entry.info.shape != expected_shape {
            let found = format!("{:?} in {}", entry.info.shape, self.files[entry.file].label());
            return Err(Error::weights(name, format!("shape {expected_shape:?}"), found));
        }
        entry.used.store(true, Ordering::Relaxed);
        Ok(entry)
    }
}

/// Refuses values that are infinite or not numbers.
///
/// # Errors
/// [`Error::Weights`] naming the tensor and the first of them.
pub fn finite(name: &str, values: Vec<f32>) -> Result<Vec<f32>> {
    match values.iter().position(|v| !v.is_finite()) {
        None => Ok(values),
        Some(at) => Err(Error::weights(name, "finite values", format!("{} at element {at}", values[at]))),
    }
}

/// A `*.safetensors.index.json`: which shard holds which tensor.
#[derive(Debug, Clone, serde::Deserialize)]
pub struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

impl ShardIndex {
    /// Reads the index.
    ///
    /// # Errors
    /// [`Error::Weights`] when it is not JSON with a `weight_map`, or a shard is not a plain file name (it must not
    /// lead out of the model's folder).
    pub fn parse(json: &str, label: &str) -> Result<Self> {
        let index: Self = serde_json::from_str(json).map_err(|e| {
            Error::weights(label, "JSON with a weight_map of tensor names to file names", e.to_string())
        })?;
        match index.weight_map.values().find(|f| f.is_empty() || f.contains(['/', '\\']) || f.starts_with('.')) {
            None => Ok(index),
            Some(bad) => Err(Error::weights(label, "shards named by plain file names", format!("{bad:?}"))),
        }
    }

    /// The shards' file names, each once, sorted.
    pub fn files(&self) -> Vec<&str> {
        self.weight_map.values().map(String::as_str).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Checks that the set holds every tensor the index names.
    ///
    /// # Errors
    /// [`Error::Weights`] naming the first tensor that is missing.
    pub fn check(&self, set: &WeightSet) -> Result<()> {
        match self.weight_map.iter().find(|(name, _)| set.get(name).is_none()) {
            None => Ok(()),
            Some((name, file)) => {
                Err(Error::weights(name, format!("it in {file}, as the index says"), "no such tensor"))
            }
        }
    }
}
