//! The frames of one segment, each checked, and the search for the next one behind a damaged place. Holds one record at most in memory, and
//! allocates only what the file's own length justifies. It never writes.

use std::{io, sync::Arc};

use tidewatch_model::Lsn;

use crate::{
    frame::{self, FrameFault, FrameHeader},
    fs::ReadFile,
    segment,
};

/// How much is read at once.
const READ_BYTES: usize = 256 << 10;

/// A place in one segment.
#[derive(Debug)]
pub(crate) struct Scanner {
    file: Arc<dyn ReadFile>,
    length: u64,
    log_id: u64,
    offset: u64,
    expected: Lsn,
    buffer: Vec<u8>,
    buffer_at: u64,
}

/// Why a scan cannot go on.
#[derive(Debug)]
pub(crate) enum ScanError {
    Io(io::Error),
    Broken(FrameFault),
}

impl From<io::Error> for ScanError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Scanner {
    /// Begins behind the segment's header, with the record `first`. What is written to the file
    /// from now on is not seen.
    pub fn new(file: Arc<dyn ReadFile>, log_id: u64, first: Lsn) -> io::Result<Self> {
        let length = file.len()?;
        let offset = segment::HEADER_BYTES as u64;
        Ok(Self { file, length, log_id, offset, expected: first, buffer: Vec::new(), buffer_at: 0 })
    }

    /// Where the next frame begins.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The record that should come next.
    pub fn expected(&self) -> Lsn {
        self.expected
    }

    /// Bytes from the next frame to the end of the file.
    pub fn left(&self) -> u64 {
        self.length.saturating_sub(self.offset)
    }

    /// The next frame's header, checked; `None` at the end. Does not move.
    pub fn header(&mut self) -> Result<Option<FrameHeader>, ScanError> {
        let left = self.left();
        if left == 0 {
            return Ok(None);
        }
        if left < frame::HEADER_BYTES as u64 {
            return Err(ScanError::Broken(FrameFault::ShortHeader(left)));
        }
        let (log_id, expected) = (self.log_id, self.expected);
        let bytes = self.bytes(self.offset, frame::HEADER_BYTES)?;
        let bytes = bytes.first_chunk().ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        let header = FrameHeader::decode(bytes, log_id).map_err(ScanError::Broken)?;
        if header.lsn != expected {
            return Err(ScanError::Broken(FrameFault::Sequence(header.lsn)));
        }
        if header.frame_bytes() > left {
            let left = left - frame::HEADER_BYTES as u64;
            return Err(ScanError::Broken(FrameFault::ShortPayload { length: header.length, left }));
        }
        Ok(Some(header))
    }

    /// The payload of the frame whose header was just read, checked. Does not move.
    pub fn payload(&mut self, header: &FrameHeader) -> Result<&[u8], ScanError> {
        let payload = self.bytes(self.offset + frame::HEADER_BYTES as u64, header.length as usize)?;
        if crc32c::crc32c(payload) != header.payload_crc {
            return Err(ScanError::Broken(FrameFault::PayloadChecksum));
        }
        Ok(payload)
    }

    /// Moves behind the frame with this header.
    pub fn pass(&mut self, header: &FrameHeader) {
        self.offset += header.frame_bytes();
        self.expected = header.lsn.next();
    }

    /// To another place, where this record is expected.
    pub fn go_to(&mut self, offset: u64, expected: Lsn) {
        (self.offset, self.expected) = (offset, expected);
    }

    /// The next whole frame from here on, of a record from the expected one up to the one before `until`: where it stands,
    /// and its number. The log id in each header's checksum keeps what merely looks like a frame from being taken for one.
    pub fn search(&mut self, until: Lsn) -> io::Result<Option<(u64, Lsn)>> {
        let expected = self.expected;
        let mut from = self.offset;
        while let Some((at, header)) = self.next_header(from)? {
            let belongs = (expected..until).contains(&header.lsn) && header.frame_bytes() <= self.length - at;
            if belongs {
                let payload = self.bytes(at + frame::HEADER_BYTES as u64, header.length as usize)?;
                if crc32c::crc32c(payload) == header.payload_crc {
                    return Ok(Some((at, header.lsn)));
                }
            }
            from = at + 1;
        }
        Ok(None)
    }

    /// Whether anything behind this place says that the record expected here had been durable.
    pub fn was_durable(&mut self) -> io::Result<bool> {
        let expected = self.expected;
        let mut from = self.offset + 1;
        while let Some((at, header)) = self.next_header(from)? {
            if header.durable >= expected {
                return Ok(true);
            }
            from = at + 1;
        }
        Ok(false)
    }

    /// The highest record that a header from here on speaks of.
    pub fn highest(&mut self) -> io::Result<Option<Lsn>> {
        let mut highest = None;
        let mut from = self.offset;
        while let Some((at, header)) = self.next_header(from)? {
            highest = highest.max(Some(header.lsn.max(header.durable)));
            from = at + 1;
        }
        Ok(highest)
    }

    /// The first header from `at` on whose checksum is right, and where it stands.
    fn next_header(&mut self, mut at: u64) -> io::Result<Option<(u64, FrameHeader)>> {
        let log_id = self.log_id;
        while at + (frame::HEADER_BYTES as u64) <= self.length {
            let chunk = self.chunk_at(at);
            let bytes = self.bytes(at, chunk)?;
            let mut windows = (at..).zip(bytes.windows(frame::HEADER_BYTES));
            let header = windows.find_map(|(at, window)| {
                let bytes = window.first_chunk().filter(|_| window.starts_with(&frame::MAGIC))?;
                Some((at, FrameHeader::decode(bytes, log_id).ok()?))
            });
            if header.is_some() {
                return Ok(header);
            }
            // A header may straddle two chunks: the next begins where the last whole window ended.
            at += (chunk - frame::HEADER_BYTES + 1) as u64;
        }
        Ok(None)
    }

    /// How many bytes to look at from `at` on: those that were read already, if there is a header's worth of them.
    fn chunk_at(&self, at: u64) -> usize {
        let left = usize::try_from(self.length - at).unwrap_or(usize::MAX);
        let skipped = at.checked_sub(self.buffer_at).and_then(|skipped| usize::try_from(skipped).ok());
        let buffered = skipped.and_then(|skipped| self.buffer.len().checked_sub(skipped));
        buffered.filter(|bytes| *bytes >= frame::HEADER_BYTES).unwrap_or(READ_BYTES).min(left)
    }

    /// `count` bytes at `at`, which the caller knows to be inside the file.
    fn bytes(&mut self, at: u64, count: usize) -> io::Result<&[u8]> {
        let buffered = at >= self.buffer_at && at + count as u64 <= self.buffer_at + self.buffer.len() as u64;
        if !buffered {
            let there = self.length.saturating_sub(at);
            let wanted = u64::try_from(count.max(READ_BYTES)).map_err(io::Error::other)?.min(there);
            // Not more than the file has, and not more than one record may have.
            let wanted = usize::try_from(wanted).map_err(io::Error::other)?;
            if self.buffer.capacity() > 2 * READ_BYTES && wanted <= READ_BYTES {
                self.buffer = Vec::new();
            }
            self.buffer.clear();
            self.buffer.resize(wanted, 0);
            self.buffer_at = at;
            if let Err(error) = self.file.read_exact_at(at, &mut self.buffer) {
                self.buffer.clear();
                return Err(error);
            }
        }
        let from = usize::try_from(at - self.buffer_at).map_err(io::Error::other)?;
        self.buffer.get(from..from + count).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}
