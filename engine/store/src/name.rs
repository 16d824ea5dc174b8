//! The names of the store's files: what a file is for, a number that is never given twice, and its kind. It opens nothing.

/// The manifest in force.
pub const MANIFEST: &str = "MANIFEST";

/// A manifest that is being written.
pub(crate) const MANIFEST_PART: &str = "MANIFEST.part";

const DIGITS: usize = 20;
const PREFIX_BYTES_MAX: usize = 64;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Segment,
    Blob,
}

impl Kind {
    fn suffix(self) -> &'static str {
        match self {
            Self::Segment => ".parquet",
            Self::Blob => ".blob",
        }
    }
}

/// The name of a new file. The prefix is there for people: what a file name should not have becomes `_`.
pub(crate) fn file_name(prefix: &str, number: u64, kind: Kind) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let mut prefix: String = prefix.chars().take(PREFIX_BYTES_MAX).map(plain).collect();
    if prefix.is_empty() {
        prefix.push('_');
    }
    format!("{prefix}-{number:020}{}", kind.suffix())
}

/// The number in a name that `file_name` made; `None` for any other name, which is none of ours.
pub(crate) fn number_of(name: &str, kind: Kind) -> Option<u64> {
    let (prefix, digits) = name.strip_suffix(kind.suffix())?.rsplit_once('-')?;
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let ours = (1..=PREFIX_BYTES_MAX).contains(&prefix.len()) && prefix.bytes().all(plain);
    if !ours || digits.len() != DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// Whether this is the name of a file that a manifest can name.
pub fn is_file(name: &str) -> bool {
    number(name).is_some()
}

/// The number of a file of either kind.
pub(crate) fn number(name: &str) -> Option<u64> {
    number_of(name, Kind::Segment).or_else(|| number_of(name, Kind::Blob))
}
