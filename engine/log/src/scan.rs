//! Walks over the frames of one segment, checking each. Holds one record at most in memory, and
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

    /// Checks frames up to the end of the file, or up to the first that is broken.
    pub fn verify(&mut self) -> Result<(), ScanError> {
        while let Some(header) = self.header()? {
            self.payload(&header)?;
            self.pass(&header);
        }
        Ok(())
    }

    /// Whether anything behind this place says that the record expected here had been durable.
    pub fn was_durable(&mut self) -> io::Result<bool> {
        let (log_id, expected) = (self.log_id, self.expected);
        let mut at = self.offset + 1;
        while at + (frame::HEADER_BYTES as u64) <= self.length {
            let chunk = usize::try_from(self.length - at).unwrap_or(READ_BYTES).min(READ_BYTES);
            let bytes = self.bytes(at, chunk)?;
            let proof =
                bytes.windows(frame::HEADER_BYTES).filter(|window| window.starts_with(&frame::MAGIC)).any(|window| {
                    window
                        .first_chunk()
                        .and_then(|bytes| FrameHeader::decode(bytes, log_id).ok())
                        .is_some_and(|header| header.durable >= expected)
                });
            if proof {
                return Ok(true);
            }
            // A header may straddle two chunks: the next begins where the last whole window ended.
            at += (chunk - frame::HEADER_BYTES + 1) as u64;
        }
        Ok(false)
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
