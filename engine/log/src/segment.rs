//! A segment: one file of the log, its name and its header. The layout is drawn in FORMAT.md.
//! It neither reads nor writes frames.

use tidewatch_model::Lsn;

use crate::frame::part;

/// The newest segment format that this version writes and reads.
pub const FORMAT_VERSION: u32 = 1;

/// Bytes of a segment before its first frame.
pub(crate) const HEADER_BYTES: usize = 40;

/// The first 16 bytes (magic, version, their checksum) stay as they are in every version to come,
/// so that any version can tell a newer one from damage.
const PRELUDE_BYTES: usize = 16;
const MAGIC: [u8; 8] = *b"TIDEWLOG";
const SUFFIX: &str = ".log";
const DIGITS: usize = 20;

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// Drawn once when a log is made; the same in all its segments.
    pub log_id: u64,
    /// The number of the first record in the file.
    pub first: Lsn,
}

/// Why bytes are no segment header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    Damaged(&'static str),
    Newer(u32),
}

impl SegmentHeader {
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        let prelude = crc32c::crc32c(&bytes[..12]);
        bytes[12..16].copy_from_slice(&prelude.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.log_id.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.first.0.to_le_bytes());
        // 32..36 is kept for later and zero.
        let crc = crc32c::crc32c(&bytes[..36]);
        bytes[36..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Takes as many bytes as there are, up to `HEADER_BYTES`.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderFault> {
        let Some(prelude) = bytes.first_chunk::<PRELUDE_BYTES>() else {
            return Err(HeaderFault::Damaged("the file is too short for a segment header"));
        };
        if prelude[..8] != MAGIC {
            return Err(HeaderFault::Damaged("the file does not begin as a segment of the log does"));
        }
        if crc32c::crc32c(&prelude[..12]) != u32::from_le_bytes(part(prelude, 12)) {
            return Err(HeaderFault::Damaged("the checksum of the segment's version is wrong"));
        }
        let version = u32::from_le_bytes(part(prelude, 8));
        if version > FORMAT_VERSION {
            return Err(HeaderFault::Newer(version));
        }
        if version != FORMAT_VERSION {
            return Err(HeaderFault::Damaged("the segment has a version that never was"));
        }
        let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(HeaderFault::Damaged("the file is too short for a segment header"));
        };
        if crc32c::crc32c(&header[..36]) != u32::from_le_bytes(part(header, 36)) {
            return Err(HeaderFault::Damaged("the segment header's checksum is wrong"));
        }
        Ok(Self { log_id: u64::from_le_bytes(part(header, 16)), first: Lsn(u64::from_le_bytes(part(header, 24))) })
    }
}

/// The name of the segment that begins with `first`: its number in twenty digits, so that names sort.
pub(crate) fn file_name(first: Lsn) -> String {
    format!("{first:020}{SUFFIX}", first = first.0)
}

/// Whether a file of this name is a segment.
pub fn is_segment(name: &str) -> bool {
    parse_file_name(name).is_some()
}

/// The first record of the segment with this name; `None` for files that are none of the log's.
pub(crate) fn parse_file_name(name: &str) -> Option<Lsn> {
    let digits = name.strip_suffix(SUFFIX)?;
    if digits.len() != DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|first| *first > 0).map(Lsn)
}
