//! `Files`: what readers of the store's folder hold. Every byte that it hands out was verified. It changes nothing.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::array::RecordBatch;
use tidewatch_log::{FileSystem, ReadFile};
use tidewatch_model::Minute;

use crate::{
    error::{Affected, Damage, FolderError},
    manifest::FileEntry,
    segment::Segment,
    verified::{self, Selection},
};

/// Reads the files that a manifest names. Clones are cheap, and go to other threads; whoever reads keeps the manifest
/// (`Folder::manifest`) for as long, and its files stay.
#[derive(Clone, Debug)]
pub struct Files {
    pub(crate) fs: Arc<dyn FileSystem>,
    dir: Arc<Path>,
}

impl Files {
    pub(crate) fn new(fs: Arc<dyn FileSystem>, dir: &Path) -> Self {
        Self { fs, dir: dir.into() }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// All rows of a segment.
    pub fn read_segment(&self, segment: &Segment) -> Result<Vec<RecordBatch>, FolderError> {
        let file = self.open(&segment.file, Some(segment.affected()))?;
        verified::read(&self.path(&segment.file.name), &*file, segment, Selection::default())
    }

    /// All rows of a segment, but only these columns, in the order that they have there. The others are not read; names
    /// that it does not have are passed over, as of columns that came later.
    pub fn read_columns(&self, segment: &Segment, columns: &[&str]) -> Result<Vec<RecordBatch>, FolderError> {
        let file = self.open(&segment.file, Some(segment.affected()))?;
        let wanted = Selection { columns: Some(columns), minutes: None };
        verified::read(&self.path(&segment.file.name), &*file, segment, wanted)
    }

    /// The rows of a view's segment that belong to these minutes, the last among them; of all columns, or of some.
    pub fn read_minutes(
        &self,
        segment: &Segment,
        columns: Option<&[&str]>,
        minutes: (Minute, Minute),
    ) -> Result<Vec<RecordBatch>, FolderError> {
        let file = self.open(&segment.file, Some(segment.affected()))?;
        let wanted = Selection { columns, minutes: Some(minutes) };
        verified::read(&self.path(&segment.file.name), &*file, segment, wanted)
    }

    pub fn read_blob(&self, blob: &FileEntry) -> Result<Vec<u8>, FolderError> {
        let file = self.open(blob, None)?;
        let path = self.path(&blob.name);
        // The file has this length, so no number in a manifest can claim memory for nothing.
        let mut bytes = vec![0; usize::try_from(blob.bytes).map_err(|_| damaged(&path, "it is too long"))?];
        file.read_exact_at(0, &mut bytes).map_err(FolderError::io("read", &path))?;
        if crc32c::crc32c(&bytes) != blob.crc32c {
            return Err(damaged(&path, "its checksum is wrong"));
        }
        Ok(bytes)
    }

    /// Opens a file that is there and has its length.
    pub(crate) fn open(&self, entry: &FileEntry, affected: Option<Affected>) -> Result<Arc<dyn ReadFile>, FolderError> {
        let path = self.path(&entry.name);
        let damaged = |what: String| FolderError::from(Damage { file: path.clone(), what, affected });
        let file = match self.fs.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(damaged("the file is missing".to_owned()));
            }
            Err(error) => return Err(FolderError::io("open", path)(error)),
        };
        let length = file.len().map_err(FolderError::io("read", &path))?;
        if length != entry.bytes {
            return Err(damaged(format!("it has {length} bytes where the manifest says {}", entry.bytes)));
        }
        Ok(file)
    }
}

fn damaged(path: &Path, what: &str) -> FolderError {
    Damage { file: path.to_owned(), what: what.to_owned(), affected: None }.into()
}
