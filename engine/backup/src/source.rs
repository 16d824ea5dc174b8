//! `Source`: the files of a data folder as they were at one moment, and how much of each. The manifest is pinned, so its
//! files and the log after it stay; each file has a checksum by which its copy is told from any other.

use std::{io, path::PathBuf, sync::Arc};

use bytes::Bytes;
use tidewatch_log::{Contained, Extent, FileSystem, LogConfig, ReadFile, Writer};
use tidewatch_model::{Lsn, limits};
use tidewatch_store::{Folder, FolderError, MANIFEST, Pin};

use crate::{descriptor::Object, error::BackupError};

/// The files of a data folder.
pub const LOG: &str = "log";
pub const STORE: &str = "store";
/// The secret behind the tags of masked event ids.
pub const ID_KEY: &str = "id.key";

/// More than the secret has.
const ID_KEY_BYTES_MAX: u64 = 1 << 10;

/// What is copied. Its caller holds the folder's lock.
#[derive(Debug)]
pub struct Source {
    pub disk: Arc<dyn FileSystem>,
    pub data_dir: PathBuf,
    pub pin: Pin,
    pub log_id: u64,
    /// The newest record; it is durable.
    pub last: Lsn,
}

/// Why a folder that nobody uses cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Store(#[from] FolderError),
    #[error(transparent)]
    Log(#[from] tidewatch_log::LogError),
}

/// A file to be copied.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub object: Object,
    held: Held,
}

#[derive(Clone, Debug)]
enum Held {
    /// In this file, which may be longer.
    File(PathBuf),
    Memory(Bytes),
}

impl Source {
    /// Of a folder that no engine uses: opened as a start opens it, so a torn end of the log is cut.
    pub fn standing(disk: Arc<dyn FileSystem>, data_dir: PathBuf, new_log_id: u64) -> Result<Self, OpenError> {
        let (folder, _) = Folder::open(Arc::clone(&disk), &data_dir.join(STORE))?;
        let pin = folder.pins().pin();
        let contained = Contained { log_id: (!pin.is_blank()).then_some(pin.log_id), before: pin.applied.next() };
        let config = LogConfig { contained, ..LogConfig::new(new_log_id) };
        let (_, found) = Writer::open(Arc::clone(&disk), &data_dir.join(LOG), &config)?;
        Ok(Self { disk, data_dir, pin, log_id: found.log_id, last: found.last() })
    }

    /// Every file with its checksum. Reads the stretch of the log, and no other file.
    pub(crate) fn pieces(&self) -> Result<Vec<Piece>, BackupError> {
        self.check()?;
        let mut pieces = Vec::new();
        let id_key = self.data_dir.join(ID_KEY);
        match self.disk.read(&id_key, ID_KEY_BYTES_MAX) {
            Ok(bytes) => pieces.push(Piece::memory(ID_KEY.to_owned(), bytes)),
            // A folder that was never started has none.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(BackupError::io("read", id_key)(error)),
        }
        let log = self.data_dir.join(LOG);
        for segment in Extent::of(&*self.disk, &log, self.pin.applied.next(), self.last)?.segments {
            let file = log.join(&segment.name);
            let mut piece = Piece {
                object: Object { path: format!("{LOG}/{}", segment.name), bytes: segment.bytes, crc32c: 0 },
                held: Held::File(file),
            };
            piece.object.crc32c = PieceReader::open(&*self.disk, &piece)?.checksum()?;
            pieces.push(piece);
        }
        let store = self.data_dir.join(STORE);
        pieces.extend(self.pin.files().map(|(file, _)| Piece {
            object: Object { path: format!("{STORE}/{}", file.name), bytes: file.bytes, crc32c: file.crc32c },
            held: Held::File(store.join(&file.name)),
        }));
        let manifest = self.pin.encode();
        let manifest =
            manifest.map_err(|what| BackupError::Damaged { file: self.data_dir.join(STORE).join(MANIFEST), what })?;
        pieces.push(Piece::memory(format!("{STORE}/{MANIFEST}"), manifest));
        Ok(pieces)
    }

    /// Whether the log goes on where the checkpoint ends: else no engine would start on the copy.
    fn check(&self) -> Result<(), BackupError> {
        let file = self.data_dir.join(LOG);
        if self.pin.applied > Lsn(0) && self.pin.log_id != self.log_id {
            let what = "it is not the log that the checkpoint was made of".to_owned();
            return Err(BackupError::Damaged { file, what });
        }
        if self.last < self.pin.applied {
            let (last, applied) = (self.last, self.pin.applied);
            let what = format!("it ends with record {last}, and the checkpoint contains records up to {applied}");
            return Err(BackupError::Damaged { file, what });
        }
        Ok(())
    }
}

impl Piece {
    fn memory(path: String, bytes: Vec<u8>) -> Self {
        let object = Object { path, bytes: bytes.len() as u64, crc32c: crc32c::crc32c(&bytes) };
        Self { object, held: Held::Memory(bytes.into()) }
    }
}

/// Reads a piece from its beginning to its end.
#[derive(Debug)]
pub(crate) struct PieceReader {
    path: PathBuf,
    held: Reading,
    at: u64,
    object: Object,
    crc32c: u32,
}

#[derive(Debug)]
enum Reading {
    File(Arc<dyn ReadFile>),
    Memory(Bytes),
}

impl PieceReader {
    pub fn open(disk: &dyn FileSystem, piece: &Piece) -> Result<Self, BackupError> {
        let (path, held) = match &piece.held {
            Held::Memory(bytes) => (PathBuf::from(&piece.object.path), Reading::Memory(bytes.clone())),
            Held::File(path) => match disk.open(path) {
                Ok(file) => (path.clone(), Reading::File(file)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(BackupError::Damaged { file: path.clone(), what: "the file is missing".to_owned() });
                }
                Err(error) => return Err(BackupError::io("open", path)(error)),
            },
        };
        Ok(Self { path, held, at: 0, object: piece.object.clone(), crc32c: 0 })
    }

    /// The next bytes, at most as many as one part of an upload has. None at the end: then all of it was as its checksum
    /// says.
    pub fn next(&mut self) -> Result<Option<Bytes>, BackupError> {
        let left = self.object.bytes - self.at;
        if left == 0 {
            return if self.crc32c == self.object.crc32c {
                Ok(None)
            } else {
                Err(self.damaged("its checksum is wrong"))
            };
        }
        let part = usize::try_from(left).unwrap_or(usize::MAX).min(limits::BACKUP_PART_BYTES);
        let bytes = match &self.held {
            Reading::Memory(bytes) => bytes.slice(usize::try_from(self.at).unwrap_or(usize::MAX)..).slice(..part),
            Reading::File(file) => {
                let mut bytes = vec![0; part];
                match file.read_exact_at(self.at, &mut bytes) {
                    Ok(()) => bytes.into(),
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                        return Err(self.damaged(&format!("it is shorter than {} bytes", self.object.bytes)));
                    }
                    Err(error) => return Err(BackupError::io("read", &self.path)(error)),
                }
            }
        };
        self.crc32c = crc32c::crc32c_append(self.crc32c, &bytes);
        self.at += bytes.len() as u64;
        Ok(Some(bytes))
    }

    /// Of a piece whose checksum nobody knows yet.
    fn checksum(mut self) -> Result<u32, BackupError> {
        while self.at < self.object.bytes {
            self.next()?;
        }
        Ok(self.crc32c)
    }

    fn damaged(&self, what: &str) -> BackupError {
        BackupError::Damaged { file: self.path.clone(), what: what.to_owned() }
    }
}
