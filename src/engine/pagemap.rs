//! Whether memories may be reset by asking the kernel which pages were written.
//!
//! `PAGEMAP_SCAN` (Linux 6.7) makes a reset cost what the guest touched, and keeps the pages mapped. It is
//! three times faster than giving pages back. But wasmtime 48 asks only for pages *present in memory*: a
//! written page that sits in swap would be missed, and one guest's data would show up in the next one's
//! memory. So it is used only where no swap is on.

use crate::error::{Error, Result};

/// The operator's say on resetting memories through the kernel's page map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pagemap {
    /// Where it works and is safe.
    #[default]
    Auto,
    /// Required: the engine does not start without it.
    On,
    /// Never.
    Off,
}

/// Decides; `Err` in the answer says why not.
pub(super) fn decide(wish: Pagemap) -> Result<Result<(), &'static str>> {
    let obstacle = match wish {
        Pagemap::Off => return Ok(Err("switched off by configuration")),
        Pagemap::Auto | Pagemap::On => obstacle(),
    };
    match (wish, obstacle) {
        (_, None) => Ok(Ok(())),
        (Pagemap::On, Some(why)) => Err(Error::invalid("engine.pagemap", format!("cannot be on: {why}"))),
        (_, Some(why)) => Ok(Err(why)),
    }
}

fn obstacle() -> Option<&'static str> {
    match std::fs::read_to_string("/proc/swaps") {
        Ok(swaps) if has_swap(&swaps) => {
            return Some("swap is on, and written pages in swap would survive a reset");
        }
        Ok(_) => {}
        Err(_) => return Some("/proc/swaps cannot be read, so swap may be on"),
    }
    if wasmtime::PoolingAllocationConfig::is_pagemap_scan_available() {
        None
    } else {
        Some("this kernel has no PAGEMAP_SCAN (Linux 6.7 and later have it)")
    }
}

/// The file has a line of headings, then one line for each swap area.
fn has_swap(swaps: &str) -> bool {
    swaps.lines().skip(1).any(|line| !line.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swap_area_is_seen() {
        let headings = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
        assert!(!has_swap(headings));
        assert!(has_swap(&format!(
            "{headings}/dev/zram0                              partition\t8388604\t\t0\t\t100\n"
        )));
    }

    #[test]
    fn off_is_off() {
        assert!(decide(Pagemap::Off).unwrap().is_err());
    }
}
