//! How much memory there is, and whether a model can fit in it.

use crate::error::{Error, Result};
use crate::pipeline::ModelFiles;

/// Bytes of main memory that can still be had, as Linux tells: of the machine, or of the container if that has fewer.
pub fn free() -> Option<u64> {
    let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let machine = available(&std::fs::read_to_string("/proc/meminfo").ok()?);
    let container = number("/sys/fs/cgroup/memory.max")
        .map(|most| most.saturating_sub(number("/sys/fs/cgroup/memory.current").unwrap_or_default()));
    machine.into_iter().chain(container).min()
}

/// `MemAvailable` of `/proc/meminfo`, bytes.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Bytes that weights may take, unless somebody says how many: three fourths of what is free.
pub fn for_weights() -> Option<u64> {
    free().map(|bytes| bytes / 4 * 3)
}

/// A video codec's weights are held whole, and take on the CPU at least as much memory as their files; those of the other
/// parts are streamed where they do not fit.
///
/// # Errors
/// [`Error::OutOfMemory`] when they are larger than what is free.
pub fn check_model(files: &ModelFiles) -> Result<()> {
    let Some(free) = free() else { return Ok(()) };
    let needed = files.part_bytes("vae");
    if needed <= free {
        return Ok(());
    }
    let gb = |bytes: u64| bytes as f64 / 1e9;
    Err(Error::OutOfMemory(format!(
        "the weights of the VAE take at least {:.1} GB of memory, {:.1} GB are free",
        gb(needed),
        gb(free)
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read_in_bytes() {
        assert_eq!(available("MemTotal: 9 kB\nMemAvailable:   1024 kB\n"), Some(1 << 20));
        assert_eq!(available("MemTotal: 9 kB\n"), None);
    }
}
