//! Reading and writing a guest's memory, every address checked.

use super::errno::{Errno, Result};
use super::{View, Wasi};
use std::ops::Range;
use wasmtime::{Caller, Extern, Memory};

/// Pieces of one read or write at most.
const MAX_PIECES: u32 = 1024;

/// Bytes that one read or write moves at most; the guest asks again for more.
pub(super) const MAX_MOVED: usize = 1 << 20;

/// The memory of the guest that calls.
pub(super) fn of<T>(caller: &mut Caller<'_, T>) -> Result<Memory> {
    match caller.get_export("memory") {
        Some(Extern::Memory(memory)) => Ok(memory),
        _ => Err(Errno::FAULT),
    }
}

/// Does a call that needs not wait, and gives its error number.
pub(super) fn with<T: View>(
    caller: &mut Caller<'_, T>,
    call: impl FnOnce(&mut Guest<'_>, &mut Wasi) -> Result<()>,
) -> i32 {
    let result = of(caller).and_then(|memory| {
        let (bytes, state) = memory.data_and_store_mut(caller);
        call(&mut Guest(bytes), state.wasi())
    });
    number(result)
}

/// The number that a call answers.
pub(super) fn number(result: Result<()>) -> i32 {
    match result {
        Ok(()) => 0,
        Err(errno) => i32::from(errno.0),
    }
}

/// A guest's memory.
pub(super) struct Guest<'a>(pub &'a mut [u8]);

impl Guest<'_> {
    /// A range of addresses, checked.
    pub fn range(&self, at: u32, length: u32) -> Result<Range<usize>> {
        let start = at as usize;
        let end = start.checked_add(length as usize).filter(|end| *end <= self.0.len()).ok_or(Errno::FAULT)?;
        Ok(start..end)
    }

    /// Bytes.
    pub fn bytes(&self, at: u32, length: u32) -> Result<&[u8]> {
        Ok(&self.0[self.range(at, length)?])
    }

    /// A path or name.
    pub fn text(&self, at: u32, length: u32) -> Result<String> {
        if length > 1 << 16 {
            return Err(Errno::NAMETOOLONG);
        }
        let text = std::str::from_utf8(self.bytes(at, length)?).map_err(|_| Errno::ILSEQ)?;
        match text.contains('\0') {
            true => Err(Errno::ILSEQ),
            false => Ok(text.to_owned()),
        }
    }

    /// Writes bytes.
    pub fn put(&mut self, at: u32, bytes: &[u8]) -> Result<()> {
        let length = u32::try_from(bytes.len()).map_err(|_| Errno::FAULT)?;
        let range = self.range(at, length)?;
        self.0[range].copy_from_slice(bytes);
        Ok(())
    }

    /// Writes a number of four bytes.
    pub fn put_u32(&mut self, at: u32, value: u32) -> Result<()> {
        self.put(at, &value.to_le_bytes())
    }

    /// Writes a number of eight bytes.
    pub fn put_u64(&mut self, at: u32, value: u64) -> Result<()> {
        self.put(at, &value.to_le_bytes())
    }

    /// Reads a number of four bytes.
    pub fn u32(&self, at: u32) -> Result<u32> {
        let bytes = self.bytes(at, 4)?;
        Ok(bytes.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte)))
    }

    /// Reads a number of eight bytes.
    pub fn u64(&self, at: u32) -> Result<u64> {
        let high = at.checked_add(4).ok_or(Errno::FAULT)?;
        Ok(u64::from(self.u32(at)?) | u64::from(self.u32(high)?) << 32)
    }

    /// The pieces of a scattered read or gathered write, each within the memory, as far as `max` bytes go.
    pub fn pieces(&self, at: u32, count: u32, max: usize) -> Result<Vec<Range<usize>>> {
        if count > MAX_PIECES {
            return Err(Errno::INVAL);
        }
        let mut left = max;
        let mut pieces = Vec::with_capacity(count as usize);
        for index in 0..count {
            let piece = at.checked_add(index * 8).ok_or(Errno::FAULT)?;
            let (start, length) = (self.u32(piece)?, self.u32(piece.checked_add(4).ok_or(Errno::FAULT)?)?);
            let range = self.range(start, length)?;
            let taken = range.len().min(left);
            left -= taken;
            if taken > 0 {
                pieces.push(range.start..range.start + taken);
            }
        }
        Ok(pieces)
    }
}
