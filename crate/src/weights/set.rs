//! The tensors of one component, from one file or from several shards, asked for by name.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use super::info::TensorInfo;
use super::lora::Adapter;
use super::source::Bytes;
use super::{StoredType, WeightFile, decode, finite};
use crate::error::{Error, Result};

/// A component's tensors by name.
///
/// Every tensor taken is remembered, so that after a model has been built [`WeightSet::unused`] tells what it did not
/// ask for.
#[derive(Debug, Default)]
pub struct WeightSet {
    files: Vec<WeightFile>,
    entries: BTreeMap<String, Entry>,
    /// What LoRAs do to the tensor of a name.
    pub(super) adapters: BTreeMap<String, Vec<Adapter>>,
    blank: bool,
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
        Ok(Self { files, entries, adapters: BTreeMap::new(), blank: false })
    }

    /// A set of one file read from `bytes`.
    ///
    /// # Errors
    /// As [`WeightFile::parse`].
    pub fn from_bytes(bytes: Vec<u8>, label: &str) -> Result<Self> {
        Self::new(vec![WeightFile::parse(bytes, label)?])
    }

    /// The same tensors, all of zeros: reading them reads no file, and what is large need not be read ([`WeightSet::claim`]).
    /// LoRAs are left out.
    pub fn blank(&self) -> Self {
        let unused =
            |Entry { info, file, .. }: &Entry| Entry { info: info.clone(), file: *file, used: AtomicBool::new(false) };
        let files = self.files.iter().cloned().map(WeightFile::blank).collect();
        let entries = self.entries.iter().map(|(name, entry)| (name.clone(), unused(entry))).collect();
        Self { files, entries, adapters: BTreeMap::new(), blank: true }
    }

    /// True if only names and shapes count here: all values are zeros.
    pub fn is_blank(&self) -> bool {
        self.blank
    }

    /// Marks a tensor of the shape given used, as reading it would.
    ///
    /// # Errors
    /// As [`WeightSet::fetch`], but for what only the values tell.
    pub fn claim(&self, name: &str, expected_shape: &[usize]) -> Result<()> {
        let info = &self.take(name, expected_shape)?.info;
        if let Some(scale) = self.scale_of(info) {
            super::float8::check(&scale.info, scale.info.len(), info.len())?;
            scale.info.check_type()?;
            scale.used.store(true, Ordering::Relaxed);
        }
        info.check_type()
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
        self.values_now(self.entry(name, "a tensor of this name")?)
    }

    /// The values of a tensor of the shape given, of files that can be read at once, marking it used.
    ///
    /// # Errors
    /// As [`WeightSet::fetch_f32`].
    pub fn take_f32(&self, name: &str, expected_shape: &[usize]) -> Result<Vec<f32>> {
        finite(name, self.values_now(self.take(name, expected_shape)?)?)
    }

    fn values_now(&self, entry: &Entry) -> Result<Vec<f32>> {
        let mut values = decode(entry.info.dtype, &self.files[entry.file].read_now(&entry.info)?);
        if let Some(scale) = self.scale_of(&entry.info) {
            let stored = self.files[scale.file].read_now(&scale.info)?;
            let scales = finite(&scale.info.name, decode(scale.info.dtype, &stored))?;
            super::float8::scale(&scale.info, &scales, &mut values)?;
        }
        Ok(values)
    }

    /// True for a tensor that is no weight of its own: a marker, or the scale of another.
    pub fn is_beside(&self, name: &str) -> bool {
        let path = ["scale_weight", "weight_scale"].iter().find_map(|end| name.strip_suffix(end));
        let weight = path.and_then(|path| self.get(&format!("{path}weight")));
        super::float8::is_marker(name) || weight.is_some_and(|info| info.dtype.is_float8())
    }

    /// The type and bytes of a tensor of the shape given, marking it used: as it is stored, or as f32 with what LoRAs do to
    /// it where it is stored as f32 (else see [`WeightSet::low_rank`]); 8-bit floats as f16, their scale in it.
    ///
    /// # Errors
    /// [`Error::Weights`] when there is no such tensor or its shape is another; [`Error::Fetch`] when it cannot be read.
    pub async fn fetch(&self, name: &str, expected_shape: &[usize]) -> Result<(StoredType, Bytes<'_>)> {
        let entry = self.take(name, expected_shape)?;
        let bytes = self.files[entry.file].read(&entry.info).await?;
        if entry.info.dtype.is_float8() {
            return Ok(super::float8::widened(&self.scaled(entry, &bytes.here(), None).await?));
        }
        if self.is_merged(&entry.info) {
            let mut values = decode(entry.info.dtype, &bytes.here());
            self.add_differences(name, &mut values).await?;
            let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            return Ok((StoredType::F32, Bytes::Here(std::borrow::Cow::Owned(bytes))));
        }
        Ok((entry.info.dtype, bytes))
    }

    /// As [`WeightSet::fetch`], some rows of a matrix of the shape given.
    ///
    /// # Errors
    /// As [`WeightSet::fetch`], and [`Error::Weights`] when it has no such rows of whole blocks.
    pub async fn fetch_part(
        &self,
        name: &str,
        shape: [usize; 2],
        rows: Range<usize>,
    ) -> Result<(StoredType, Bytes<'_>)> {
        let entry = self.take(name, &shape)?;
        let dtype = entry.info.dtype;
        let bytes = dtype.bytes_for(&shape[1..]).filter(|_| rows.start < rows.end && rows.end <= shape[0]);
        let bytes = bytes.ok_or_else(|| {
            Error::weights(name, format!("rows {rows:?} of whole blocks"), format!("{shape:?} of {dtype}"))
        })?;
        if dtype.is_float8() || self.is_merged(&entry.info) {
            // What is added or multiplied is given for the whole.
            let (stored, whole) = self.fetch(name, &shape).await?;
            let whole = whole.here();
            let row = whole.len() / shape[0];
            let some = whole[rows.start * row..rows.end * row].to_vec();
            return Ok((stored, Bytes::Here(std::borrow::Cow::Owned(some))));
        }
        let start = entry.info.range.start;
        let range = start + rows.start as u64 * bytes..start + rows.end as u64 * bytes;
        let info = TensorInfo { range, ..entry.info.clone() };
        Ok((dtype, self.files[entry.file].read(&info).await?))
    }

    /// The values of a tensor of the shape given, marking it used.
    ///
    /// # Errors
    /// As [`WeightSet::fetch`], and [`Error::Weights`] when a value is infinite or not a number.
    pub async fn fetch_f32(&self, name: &str, expected_shape: &[usize]) -> Result<Vec<f32>> {
        let entry = self.take(name, expected_shape)?;
        let bytes = self.files[entry.file].read(&entry.info).await?;
        let mut values = finite(name, self.scaled(entry, &bytes.here(), None).await?)?;
        self.add_differences(name, &mut values).await?;
        Ok(values)
    }

    /// The values of a tensor, or of a row of it, 8-bit floats multiplied by the scale that stands beside them.
    async fn scaled(&self, entry: &Entry, bytes: &[u8], row: Option<usize>) -> Result<Vec<f32>> {
        let mut values = decode(entry.info.dtype, bytes);
        if let Some(scale) = self.scale_of(&entry.info) {
            let stored = self.files[scale.file].read(&scale.info).await?.here();
            let mut scales = finite(&scale.info.name, decode(scale.info.dtype, &stored))?;
            super::float8::check(&scale.info, scales.len(), entry.info.len())?;
            if let Some((row, rows)) = row.zip(entry.info.shape.first()) {
                // The scale of that row.
                scales = scales.get(row * scales.len() / rows).map(|own| vec![*own]).unwrap_or_default();
            }
            super::float8::scale(&scale.info, &scales, &mut values)?;
            scale.used.store(true, Ordering::Relaxed);
        }
        Ok(values)
    }

    /// The scale of an 8-bit tensor, as ComfyUI stores it: `….weight` and `….scale_weight`, or later `….weight_scale`.
    fn scale_of(&self, info: &TensorInfo) -> Option<&Entry> {
        let path = info.name.strip_suffix("weight").filter(|_| info.dtype.is_float8())?;
        ["scale_weight", "weight_scale"].iter().find_map(|name| self.entries.get(&format!("{path}{name}")))
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
        finite(name, self.scaled(entry, &self.files[entry.file].read(&info).await?.here(), Some(row)).await?)
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
        if self.adapters.contains_key(name) || self.scale_of(&entry.info).is_some() {
            // What is added or multiplied is given for the whole.
            let row = shape[1..].iter().product::<usize>();
            return Ok(self.fetch_f32(name, shape).await?[rows.start * row..rows.end * row].to_vec());
        }
        let info = TensorInfo { range, ..entry.info.clone() };
        finite(name, decode(dtype, &self.files[entry.file].read(&info).await?.here()))
    }

    /// Marks every tensor below a dotted prefix as used.
    pub fn mark_used(&self, prefix: &str) {
        for (_, entry) in self.below(prefix) {
            entry.used.store(true, Ordering::Relaxed);
        }
    }

    /// The names (without the prefix) and shapes of those below a dotted prefix that were asked for. Scales are left out: which
    /// weights have one, and how it is called, may differ from layer to layer.
    pub fn used_below(&self, prefix: &str) -> Vec<(&str, &[usize])> {
        let asked = |(name, entry): &(&String, &Entry)| entry.used.load(Ordering::Relaxed) && !self.is_beside(name);
        let used = self.below(prefix).filter(asked);
        used.map(|(name, entry)| (&name[prefix.len() + 1..], entry.info.shape.as_slice())).collect()
    }

    fn below<'a>(&'a self, prefix: &str) -> impl Iterator<Item = (&'a String, &'a Entry)> {
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}.") };
        self.entries.range(prefix.clone()..).take_while(move |(name, _)| name.starts_with(&prefix))
    }

    /// Names of the tensors that no `take_…` or `fetch…` asked for, sorted.
    pub fn unused(&self) -> Vec<String> {
        let left = |(name, e): &(&String, &Entry)| !e.used.load(Ordering::Relaxed) && !super::float8::is_marker(name);
        self.entries.iter().filter(left).map(|(name, _)| name.clone()).collect()
    }

    /// All tensors but those of some names.
    pub(super) fn without(mut self, left_out: impl Fn(&str) -> bool) -> Self {
        self.entries.retain(|name, _| !left_out(name));
        self
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
        Ok(Self { files: self.files, entries, adapters: self.adapters, blank: self.blank })
    }

    fn entry(&self, name: &str, expected: &str) -> Result<&Entry> {
        self.entries.get(name).ok_or_else(|| {
            let labels: Vec<&str> = self.files.iter().map(WeightFile::label).collect();
            Error::weights(name, expected, format!("no such tensor in {}", labels.join(", ")))
        })
    }

    fn take(&self, name: &str, expected_shape: &[usize]) -> Result<&Entry> {
        let entry = self.entry(name, &format!("a tensor of shape {expected_shape:?}"))?;
        if entry.info.shape != expected_shape && !is_folded(&entry.info.shape, expected_shape) {
            let found = format!("{:?} in {}", entry.info.shape, self.files[entry.file].label());
            return Err(Error::weights(name, format!("shape {expected_shape:?}"), found));
        }
        entry.used.store(true, Ordering::Relaxed);
        Ok(entry)
    }
}

/// True for the kernel of a 3-D convolution in a GGUF file of four dimensions, ggml's most: two neighbouring ones became
/// one, which leaves the numbers in their order.
fn is_folded(found: &[usize], expected: &[usize]) -> bool {
    expected.len() == 5
        && found.len() == 4
        && (0..4).any(|at| {
            let merged = expected[at].checked_mul(expected[at + 1]);
            merged == Some(found[at]) && found[..at] == expected[..at] && found[at + 1..] == expected[at + 2..]
        })
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
