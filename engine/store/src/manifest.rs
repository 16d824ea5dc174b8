//! `Manifest`: what is visible, and so the checkpoint: which record of the log it contains, and every file that belongs
//! to it with its length and checksum. Its bytes are drawn in FORMAT.md. It opens no file.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    path::Path,
};

use serde::{Deserialize, Serialize};
use tidewatch_model::{Lsn, Minute, limits};

use crate::{
    error::Affected,
    name::{self, Kind},
    segment::Segment,
};

/// The newest format of the manifest that this version writes and reads.
pub const MANIFEST_VERSION: u32 = 2;

/// The oldest that it reads. Of version 1 all records of a table's segments are disjoint; nothing else differs.
const OLDEST_VERSION: u32 = 1;

/// The format that a manifest stands in on disk, and so the format of the whole folder: whatever changes in one of its files
/// comes with a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FormatVersion(u32);

impl FormatVersion {
    pub const NEWEST: Self = Self(MANIFEST_VERSION);

    pub fn number(self) -> u32 {
        self.0
    }

    /// Whether a version before this one can still open the folder.
    pub fn is_older(self) -> bool {
        self < Self::NEWEST
    }
}

impl Default for FormatVersion {
    fn default() -> Self {
        Self::NEWEST
    }
}

pub(crate) const HEADER_BYTES: usize = 32;

/// The first 16 bytes (magic, version, their checksum) stay as they are in every version to come,
/// so that any version can tell a newer one from damage.
const PRELUDE_BYTES: usize = 16;
const MAGIC: [u8; 8] = *b"TIDEMANI";

/// A file that is never changed once it has its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// In the store's folder.
    pub name: String,
    pub bytes: u64,
    pub crc32c: u32,
}

/// A run of ids that de-duplication remembers, in a file of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdRun {
    pub file: FileEntry,
    /// Whose ids these are; the text is the owner's own.
    pub owner: String,
    /// The oldest and the newest minute of the ids.
    pub minutes: (Minute, Minute),
}

/// What is stored of one view.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredView {
    /// Of the view's definition: rows of another definition are not this view's.
    pub fingerprint: u64,
    /// In the order of the log; two of them have no records in common, or no minutes.
    pub segments: Vec<Segment>,
}

/// Everything that is visible at once. What it does not name does not exist.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// As it was read. It stands in the header.
    #[serde(skip)]
    pub version: FormatVersion,
    /// The log whose records are contained.
    pub log_id: u64,
    /// The newest record that is contained; all before it are.
    pub applied: Lsn,
    /// The number of the next new file. The folder keeps it.
    pub next_file: u64,
    /// What the engine holds beside rows and ids.
    pub state: Option<FileEntry>,
    pub id_runs: Vec<IdRun>,
    /// By the view's name.
    pub views: BTreeMap<String, StoredView>,
    /// By the table's name (`transactions`, `verdicts`, …), as in a view.
    pub tables: BTreeMap<String, Vec<Segment>>,
}

/// Why bytes are no manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ManifestFault {
    Damaged(String),
    Newer(u32),
}

impl Manifest {
    /// What a folder holds before its first checkpoint.
    pub fn is_blank(&self) -> bool {
        *self == Self { version: self.version, next_file: self.next_file, ..Self::default() }
    }

    /// Every file, with what is lost if it cannot be read.
    pub fn files(&self) -> impl Iterator<Item = (&FileEntry, Option<Affected>)> {
        let runs = self.id_runs.iter().map(|run| &run.file);
        let blobs = self.state.iter().chain(runs).map(|file| (file, None));
        blobs.chain(self.segments().map(|segment| (&segment.file, Some(segment.affected()))))
    }

    /// The view or table that a segment's file belongs to, and the segment.
    pub fn owner(&self, file: &Path) -> Option<(&str, &Segment)> {
        let name = file.file_name()?.to_str()?;
        let named = self.segment_lists().flat_map(|(owner, segments)| segments.iter().map(move |of| (owner, of)));
        named.into_iter().find(|(_, segment)| segment.file.name == name)
    }

    /// Every segment, of views and of tables.
    pub fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.segment_lists().flat_map(|(_, segments)| segments)
    }

    pub(crate) fn segment_lists(&self) -> impl Iterator<Item = (&str, &[Segment])> {
        let views = self.views.iter().map(|(name, view)| (name.as_str(), view.segments.as_slice()));
        views.chain(self.tables.iter().map(|(name, segments)| (name.as_str(), segments.as_slice())))
    }

    /// What must hold of every manifest, before it is written and after it was read. An error says what does not.
    pub fn check(&self) -> Result<(), String> {
        let mut names = BTreeSet::new();
        for (file, rows) in self.files() {
            let kind = if rows.is_some() { Kind::Segment } else { Kind::Blob };
            let Some(number) = name::number_of(&file.name, kind) else {
                return Err(format!("`{}` is not the name of a file of the store", file.name));
            };
            if number >= self.next_file {
                return Err(format!("`{}` has a number that was not given yet", file.name));
            }
            if !names.insert(&file.name) {
                return Err(format!("`{}` is named twice", file.name));
            }
        }
        for run in &self.id_runs {
            if run.minutes.0 > run.minutes.1 {
                return Err(format!("the ids in `{}` end before they begin", run.file.name));
            }
        }
        for (owner, segments) in self.segment_lists() {
            check_segments(segments, self.applied).map_err(|what| format!("`{owner}`: {what}"))?;
        }
        Ok(())
    }

    /// The bytes of the manifest's file.
    pub fn encode(&self) -> Result<Vec<u8>, String> {
        let body = serde_json::to_vec(self).map_err(|error| error.to_string())?;
        if body.len() > limits::MANIFEST_BYTES_MAX - HEADER_BYTES {
            return Err(format!(
                "a manifest of {} bytes is too large ({} are allowed); compaction or retention has to make room",
                body.len(),
                limits::MANIFEST_BYTES_MAX
            ));
        }
        let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&self.version.number().to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes.extend_from_slice(&body);
        Ok(bytes)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, ManifestFault> {
        let (version, body) = checked_body(bytes)?;
        let manifest: Self = serde_json::from_slice(body).map_err(|error| damaged(error.to_string()))?;
        let manifest = Self { version, ..manifest };
        manifest.check().map_err(damaged)?;
        Ok(manifest)
    }
}

/// The version, and what follows the header, after all checksums were found right.
fn checked_body(bytes: &[u8]) -> Result<(FormatVersion, &[u8]), ManifestFault> {
    if !bytes.starts_with(&MAGIC) {
        return Err(damaged("the file does not begin as a manifest does"));
    }
    if crc32c::crc32c(front(bytes, PRELUDE_BYTES - 4)?) != u32_at(bytes, PRELUDE_BYTES - 4)? {
        return Err(damaged("the checksum of the manifest's version is wrong"));
    }
    let version = match u32_at(bytes, MAGIC.len())? {
        known @ OLDEST_VERSION..=MANIFEST_VERSION => FormatVersion(known),
        newer if newer > MANIFEST_VERSION => return Err(ManifestFault::Newer(newer)),
        other => return Err(damaged(format!("there never was a version {other} of the manifest"))),
    };
    if crc32c::crc32c(front(bytes, HEADER_BYTES - 4)?) != u32_at(bytes, HEADER_BYTES - 4)? {
        return Err(damaged("the checksum of the manifest's header is wrong"));
    }
    let body = bytes.get(HEADER_BYTES..).unwrap_or_default();
    if u64::from_le_bytes(part(bytes, PRELUDE_BYTES)?) != body.len() as u64 {
        return Err(damaged("the manifest is not as long as its header says"));
    }
    if crc32c::crc32c(body) != u32_at(bytes, HEADER_BYTES - 8)? {
        return Err(damaged("the manifest's checksum is wrong"));
    }
    Ok((version, body))
}

fn damaged(what: impl Into<String>) -> ManifestFault {
    ManifestFault::Damaged(what.into())
}

fn front(bytes: &[u8], count: usize) -> Result<&[u8], ManifestFault> {
    bytes.get(..count).ok_or_else(|| damaged("the file is too short for a manifest"))
}

fn part<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], ManifestFault> {
    let part = bytes.get(at..).and_then(|rest| rest.first_chunk());
    part.copied().ok_or_else(|| damaged("the file is too short for a manifest"))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, ManifestFault> {
    Ok(u32::from_le_bytes(part(bytes, at)?))
}

/// Each segment is sound, they come in the order of the log, and no two of them can hold a row of the same record and minute.
pub(crate) fn check_segments(segments: &[Segment], applied: Lsn) -> Result<(), String> {
    let mut before = None;
    // Those that reach up to the record that is looked at, by their first minute: their minutes are disjoint.
    let mut reaching: BTreeMap<Minute, &Segment> = BTreeMap::new();
    let mut ends: BinaryHeap<Reverse<(Lsn, Minute)>> = BinaryHeap::new();
    for segment in segments {
        segment.check()?;
        let name = &segment.file.name;
        let place = (segment.lsns.0, segment.minutes.0);
        if before.is_some_and(|before| place < before) {
            return Err(format!("`{name}` stands behind a segment that begins later"));
        }
        if segment.lsns.1 > applied {
            return Err(format!("`{name}` holds records behind {applied}, the newest that is contained"));
        }
        while let Some(Reverse((_, first))) = ends.peek().filter(|Reverse((end, _))| *end < segment.lsns.0) {
            reaching.remove(first);
            ends.pop();
        }
        let nearest = reaching.range(..=segment.minutes.1).next_back().map(|(_, nearest)| *nearest);
        if let Some(other) = nearest.filter(|other| other.meets(&segment.contents())) {
            return Err(format!("`{name}` has records and minutes that `{}` already holds", other.file.name));
        }
        reaching.insert(segment.minutes.0, segment);
        ends.push(Reverse((segment.lsns.1, segment.minutes.0)));
        before = Some(place);
    }
    Ok(())
}
