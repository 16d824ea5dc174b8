//! Little-endian bytes, written and read back with every bound checked. It knows no record.

use crate::error::DecodeError;

/// Reads forward through a payload. No read allocates; what is handed out lies in the payload.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'a> {
    left: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { left: bytes, at: 0 }
    }

    pub fn left(&self) -> usize {
        self.left.len()
    }

    pub fn malformed(&self, what: impl Into<String>) -> DecodeError {
        DecodeError::Malformed { at: self.at, what: what.into() }
    }

    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        match self.left.split_at_checked(count) {
            Some((bytes, left)) => {
                self.left = left;
                self.at += count;
                Ok(bytes)
            }
            None => Err(self.malformed(format!("{count} bytes are wanted, {} are left", self.left.len()))),
        }
    }

    /// A cursor over the next `count` bytes alone, whose errors still tell places in the payload.
    pub fn section(&mut self, count: usize) -> Result<Self, DecodeError> {
        let at = self.at;
        Ok(Self { left: self.bytes(count)?, at })
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut out = [0; N];
        // `bytes` gave exactly N.
        out.copy_from_slice(self.bytes(N)?);
        Ok(out)
    }

    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    /// A byte that is 0 or 1.
    pub fn flag(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.malformed(format!("{other} is neither yes (1) nor no (0)"))),
        }
    }

    /// A text: its length as u32, then UTF-8.
    pub fn text(&mut self) -> Result<&'a str, DecodeError> {
        let length = self.u32()? as usize;
        let bytes = self.bytes(length)?;
        std::str::from_utf8(bytes).map_err(|error| self.malformed(format!("a text is not UTF-8: {error}")))
    }

    /// A count of things that take at least `each` bytes, so that no count outgrows its input.
    pub fn count(&mut self, each: usize) -> Result<usize, DecodeError> {
        let count = self.u32()? as usize;
        if count.saturating_mul(each) > self.left() {
            return Err(self.malformed(format!("{count} entries do not fit into {} bytes", self.left())));
        }
        Ok(count)
    }

    pub fn end(&self) -> Result<(), DecodeError> {
        if self.left.is_empty() {
            return Ok(());
        }
        Err(self.malformed(format!("{} bytes follow where nothing should", self.left())))
    }
}

/// A text as `Cursor::text` reads it. `None` where it is longer than any payload.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) -> Option<()> {
    put_length(out, text.len())?;
    out.extend_from_slice(text.as_bytes());
    Some(())
}

pub(crate) fn put_length(out: &mut Vec<u8>, length: usize) -> Option<()> {
    out.extend_from_slice(&u32::try_from(length).ok()?.to_le_bytes());
    Some(())
}

/// Fixed-size values one after another. The sizes are constant, so this compiles to a copy.
pub(crate) fn put_values<T: Copy, const N: usize>(out: &mut Vec<u8>, values: &[T], bytes: impl Fn(T) -> [u8; N]) {
    let start = out.len();
    out.resize(start + values.len() * N, 0);
    let (slots, _) = out.get_mut(start..).unwrap_or_default().as_chunks_mut::<N>();
    for (slot, value) in slots.iter_mut().zip(values) {
        *slot = bytes(*value);
    }
}

/// The values that `put_values` wrote.
pub(crate) fn take_values<T, const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (chunks, _) = bytes.as_chunks::<N>();
    chunks.iter().map(|chunk| value(*chunk)).collect()
}
