//! Where the tensors of a GGUF file lie: their headers state where each begins, and its type how long it is.

use std::collections::BTreeSet;
use std::ops::Bound;

use crate::error::{Error, Result};
use crate::weights::info::{StoredType, TensorInfo, may_hold};

/// Turns stated offsets into ranges, and checks that they are aligned, inside the file and disjoint.
pub(super) fn place(
    tensors: Vec<(TensorInfo, u64)>,
    data_start: u64,
    alignment: usize,
    file_len: u64,
    label: &str,
) -> Result<Vec<TensorInfo>> {
    let mut placed = Vec::with_capacity(tensors.len());
    for (mut info, offset) in tensors {
        if offset % alignment as u64 != 0 {
            return Err(Error::weights(
                info.name,
                format!("an offset that is a multiple of {alignment}"),
                format!("{offset}"),
            ));
        }
        let size = info.range.end;
        let start = data_start.checked_add(offset);
        let end = start.and_then(|s| s.checked_add(size));
        match (start, end) {
            (Some(start), Some(end)) if end <= file_len => info.range = start..end,
            _ => {
                let found = format!(
                    "{size} bytes at offset {offset} of the data in {label}, a file of {file_len} bytes (truncated?)"
                );
                return Err(Error::weights(info.name, "data inside the file", found));
            }
        }
        placed.push(info);
    }
    measure_unknown(&mut placed, file_len)?;
    check_disjoint(&placed)?;
    Ok(placed)
}

/// Gives tensors of a type that nothing here knows the bytes up to the next one.
fn measure_unknown(tensors: &mut [TensorInfo], file_len: u64) -> Result<()> {
    let starts: BTreeSet<u64> = tensors.iter().map(|t| t.range.start).collect();
    for info in tensors.iter_mut().filter(|info| info.dtype == StoredType::Unknown) {
        let behind = (Bound::Excluded(info.range.start), Bound::Unbounded);
        info.range.end = starts.range(behind).next().copied().unwrap_or(file_len);
        let bytes = info.stored_bytes();
        if !may_hold(bytes, &info.shape) {
            let rule = format!("a shape of no more elements than {bytes} bytes hold");
            return Err(Error::weights(&info.name, rule, format!("{:?} (truncated?)", info.shape)));
        }
    }
    Ok(())
}

fn check_disjoint(tensors: &[TensorInfo]) -> Result<()> {
    let mut order: Vec<&TensorInfo> = tensors.iter().filter(|t| !t.range.is_empty()).collect();
    order.sort_by_key(|t| t.range.start);
    for pair in order.windows(2) {
        if let [a, b] = pair
            && a.range.end > b.range.start
        {
            return Err(Error::weights(&b.name, "data of its own", format!("bytes shared with {}", a.name)));
        }
    }
    Ok(())
}
