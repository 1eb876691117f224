//! How much memory there is, and whether a model can fit in it.

use sysinfo::System;

use crate::error::{Error, Result};
use crate::pipeline::ModelFiles;

/// Bytes of main memory that can still be had: of the machine, or of the container if that has fewer. `None` where the system does
/// not tell.
pub fn free() -> Option<u64> {
    let mut system = System::new();
    system.refresh_memory();
    let machine = Some(system.available_memory()).filter(|&bytes| bytes > 0);
    machine.into_iter().chain(system.cgroup_limits().map(|limits| limits.free_memory)).min()
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
    fn this_machine_has_memory_left() {
        let free = free().unwrap();
        assert!((1 << 20..1 << 46).contains(&free), "{free} bytes");
    }
}
