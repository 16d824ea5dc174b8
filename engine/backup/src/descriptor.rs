//! `Descriptor`: what a backup consists of. It is the last object that is written, so a backup that broke off has none and
//! is none. Its bytes are drawn in FORMAT.md.

use std::{collections::BTreeSet, str::FromStr};

use serde::{Deserialize, Serialize};
use tidewatch_log::is_segment;
use tidewatch_model::{EventTime, Lsn, limits};
use tidewatch_store::{MANIFEST, is_file};

use crate::source::{ID_KEY, LOG, STORE};

/// The newest format of backups that this version writes and reads.
pub const BACKUP_VERSION: u32 = 1;

const MAGIC: &str = "TIDEBACK";

/// A line of five fields is no longer than this.
const FIRST_LINE_BYTES_MAX: usize = 128;

/// A file of the data folder as the backup holds it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Object {
    /// Below the data folder, such as `store/MANIFEST`.
    pub path: String,
    pub bytes: u64,
    pub crc32c: u32,
}

impl Object {
    /// Where the target has it. Other contents have another name, so what is there already need not be sent again.
    pub(crate) fn key(&self) -> String {
        format!("objects/{}.{}.{}", self.path, self.bytes, hex(self.crc32c))
    }

    /// Whether it is a file that a data folder has: nothing else is ever written into one.
    fn is_ours(&self) -> bool {
        match self.path.split_once('/') {
            None => self.path == ID_KEY,
            Some((LOG, name)) => is_segment(name),
            Some((STORE, name)) => name == MANIFEST || is_file(name),
            Some(_) => false,
        }
    }
}

/// The formats of the files that a backup holds, as far as they stand at the files' beginnings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Formats {
    pub log: u32,
    pub manifest: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Descriptor {
    pub id: String,
    /// When it was begun.
    pub made_at: EventTime,
    /// The version of the program that made it.
    pub engine: String,
    pub formats: Formats,
    pub log_id: u64,
    /// The newest record that the checkpoint contains.
    pub applied: Lsn,
    /// The newest record that the backup contains.
    pub last: Lsn,
    pub objects: Vec<Object>,
}

/// Why bytes are no descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DescriptorFault {
    Damaged(String),
    Newer(u32),
}

/// The name of a backup: names sort by time, and two of the same second have two.
pub(crate) fn id(made_at: EventTime, log_id: u64, last: Lsn) -> String {
    let micros = made_at.micros().rem_euclid(1_000_000);
    let second = EventTime::from_micros(made_at.micros() - micros).to_string();
    let time: String = second.chars().filter(|c| !matches!(c, '-' | ':' | 'Z')).collect();
    format!("{time}.{micros:06}Z-{log_id:016x}-{:020}", last.0)
}

/// Which log a backup of this name is of.
pub(crate) fn log_id_of(id: &str) -> Option<u64> {
    u64::from_str_radix(id.split('-').nth(1)?, 16).ok()
}

impl Descriptor {
    pub fn bytes(&self) -> u64 {
        self.objects.iter().map(|object| object.bytes).sum()
    }

    /// What must hold of every descriptor, before it is written and after it was read.
    fn check(&self) -> Result<(), String> {
        let mut paths = BTreeSet::new();
        for object in &self.objects {
            if !object.is_ours() {
                return Err(format!("`{}` is no file of a data folder", object.path));
            }
            if !paths.insert(object.path.as_str()) {
                return Err(format!("`{}` is named twice", object.path));
            }
        }
        if !paths.contains(format!("{STORE}/{MANIFEST}").as_str()) {
            return Err("it names no manifest".to_owned());
        }
        if !paths.iter().any(|path| path.starts_with("log/")) {
            return Err("it names no part of the log".to_owned());
        }
        Ok(())
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>, String> {
        self.check()?;
        let mut body = serde_json::to_vec_pretty(self).map_err(|error| error.to_string())?;
        body.push(b'\n');
        let covered = format!("{MAGIC} {BACKUP_VERSION} {} {}", body.len(), hex(crc32c::crc32c(&body)));
        let mut bytes = format!("{covered} {}\n", hex(crc32c::crc32c(covered.as_bytes()))).into_bytes();
        bytes.append(&mut body);
        if bytes.len() > limits::BACKUP_DESCRIPTOR_BYTES_MAX {
            let max = limits::BACKUP_DESCRIPTOR_BYTES_MAX;
            return Err(format!("a descriptor of {} bytes is too large ({max} are allowed)", bytes.len()));
        }
        Ok(bytes)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DescriptorFault> {
        let descriptor: Self =
            serde_json::from_slice(checked_body(bytes)?).map_err(|error| damaged(error.to_string()))?;
        descriptor.check().map_err(damaged)?;
        Ok(descriptor)
    }
}

fn damaged(what: impl Into<String>) -> DescriptorFault {
    DescriptorFault::Damaged(what.into())
}

/// What follows the first line, after its checksums were found right.
fn checked_body(bytes: &[u8]) -> Result<&[u8], DescriptorFault> {
    let end = bytes.iter().take(FIRST_LINE_BYTES_MAX).position(|byte| *byte == b'\n');
    let (line, body) =
        end.and_then(|end| bytes.split_at_checked(end)).ok_or_else(|| damaged("it has no first line"))?;
    let body = body.get(1..).unwrap_or_default();
    let line = std::str::from_utf8(line).map_err(|_| damaged("its first line is no text"))?;
    let (covered, crc) = line.rsplit_once(' ').ok_or_else(|| damaged("its first line is too short"))?;
    if crc != hex(crc32c::crc32c(covered.as_bytes())) {
        return Err(damaged("the checksum of its first line is wrong"));
    }
    let fields: Vec<&str> = covered.split(' ').collect();
    let [MAGIC, version, length, crc] = fields.as_slice() else {
        return Err(damaged("it does not begin as a descriptor does"));
    };
    match number(version) {
        Some(BACKUP_VERSION) => {}
        Some(newer) if newer > BACKUP_VERSION => return Err(DescriptorFault::Newer(newer)),
        _ => return Err(damaged(format!("there never was a version {version} of the descriptor"))),
    }
    if number(length) != Some(body.len()) {
        return Err(damaged("it is not as long as its first line says"));
    }
    if *crc != hex(crc32c::crc32c(body)) {
        return Err(damaged("its checksum is wrong"));
    }
    Ok(body)
}

fn number<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

/// As it is written in a first line, and never otherwise.
fn hex(crc: u32) -> String {
    format!("{crc:08x}")
}
