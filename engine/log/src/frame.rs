//! One record's frame on disk: a header of fixed size, checked by itself, and a payload. The layout is
//! drawn in FORMAT.md. It knows nothing of files, and nothing of what a payload means.

use tidewatch_model::{Lsn, limits};

/// Opens each frame, so that a search behind a damaged place can find the next one.
pub(crate) const MAGIC: [u8; 4] = *b"TWfr";

/// Bytes of a frame before its payload.
pub(crate) const HEADER_BYTES: usize = 36;

const _: () = assert!(limits::RECORD_BYTES_MAX < u32::MAX as usize);

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// Bytes of the payload.
    pub length: u32,
    pub lsn: Lsn,
    /// The highest record that was synced when this frame was written. It tells a torn tail, which
    /// nobody was promised, from damage to something that was durable.
    pub durable: Lsn,
    pub kind: u8,
    /// The version of the payload's layout.
    pub layout: u8,
    pub payload_crc: u32,
}

/// Why bytes are no frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameFault {
    #[error("only {0} bytes are left, too few for a record's header")]
    ShortHeader(u64),
    #[error("no record begins here")]
    Magic,
    #[error("the record header's checksum is wrong")]
    HeaderChecksum,
    #[error("the record says that it is number {0}")]
    Sequence(Lsn),
    #[error("the record says that it has {0} bytes, more than any record may have")]
    Length(u32),
    #[error("the record has {length} bytes, but only {left} are left")]
    ShortPayload { length: u32, left: u64 },
    #[error("the record's checksum is wrong")]
    PayloadChecksum,
}

impl FrameHeader {
    /// `log_id` is part of what the checksum covers, so that neither a frame of another log nor a
    /// frame that someone put into a payload can pass for one of this log.
    pub fn encode(&self, log_id: u64) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let fields: [&[u8]; 6] = [
            &MAGIC,
            &self.length.to_le_bytes(),
            &self.lsn.0.to_le_bytes(),
            &self.durable.0.to_le_bytes(),
            &[self.kind, self.layout, 0, 0],
            &self.payload_crc.to_le_bytes(),
        ];
        let mut at = 0;
        for field in fields {
            // The fields' sizes add up to HEADER_BYTES - 4.
            bytes[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        }
        let crc = header_crc(log_id, &bytes[..at]);
        bytes[at..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8; HEADER_BYTES], log_id: u64) -> Result<Self, FrameFault> {
        let (covered, crc) = bytes.split_at(HEADER_BYTES - 4);
        if !covered.starts_with(&MAGIC) {
            return Err(FrameFault::Magic);
        }
        if header_crc(log_id, covered).to_le_bytes() != crc {
            return Err(FrameFault::HeaderChecksum);
        }
        let length = u32::from_le_bytes(part(bytes, 4));
        if length as usize > limits::RECORD_BYTES_MAX {
            return Err(FrameFault::Length(length));
        }
        Ok(Self {
            length,
            lsn: Lsn(u64::from_le_bytes(part(bytes, 8))),
            durable: Lsn(u64::from_le_bytes(part(bytes, 16))),
            kind: bytes[24],
            layout: bytes[25],
            payload_crc: u32::from_le_bytes(part(bytes, 28)),
        })
    }

    /// Bytes of the whole frame.
    pub fn frame_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.length)
    }
}

fn header_crc(log_id: u64, covered: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&log_id.to_le_bytes()), covered)
}

/// `N` bytes from `at` of a header that is known to be long enough.
pub(crate) fn part<const N: usize, const L: usize>(bytes: &[u8; L], at: usize) -> [u8; N] {
    let mut out = [0; N];
    // Callers pass constant places inside a constant size.
    out.copy_from_slice(&bytes[at..at + N]);
    out
}
