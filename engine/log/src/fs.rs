//! The file-system seam: the few operations that the log and the store need, so that the same code
//! runs on a real disk and on one that forgets, tears and fails on demand. It never interprets bytes.

mod failing;
mod forgetful;
mod memory;
mod real;

use std::{fmt, io, path::Path, sync::Arc};

pub use failing::{Command, FailingFs};
pub use forgetful::ForgetfulFs;
pub use memory::{Fate, Fault, MemFs};
pub use real::StdFs;

/// Whether this says that the process has too many files open. Then the file system was not asked for anything: an
/// fdatasync that fails so has not begun.
pub fn out_of_handles(error: &io::Error) -> bool {
    // EMFILE and ENFILE, of Linux and every other Unix.
    matches!(error.raw_os_error(), Some(24 | 23))
}

/// What a folder of files can do. Files are only ever appended to, cut, renamed and removed.
pub trait FileSystem: Send + Sync + fmt::Debug {
    /// Makes a folder and those above it. One that exists is fine.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// The names of the plain files in a folder, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Makes a new file. One that exists is an error (`AlreadyExists`). The name survives a crash
    /// of the machine only after `sync_dir`.
    fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>>;

    /// The same, for what only the owner of the process may read.
    fn create_private(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        self.create(path)
    }

    /// Opens an existing file so that writes go to its end.
    fn append(&self, path: &Path) -> io::Result<Box<dyn WriteFile>>;

    /// Opens an existing file for reading at any place.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadFile>>;

    /// Has the next reads of a file come from the disk, where memory has nothing that is still to be written. After a
    /// failed sync the system may show what it dropped, and this is what shows it up.
    fn forget_cached(&self, path: &Path) -> io::Result<()>;

    /// Gives a file another name, atomically replacing what bore it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a folder (created, renamed, removed) survive a crash of the machine.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// A whole file, refused (`InvalidData`) where it is longer than the caller can accept.
    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
        let file = self.open(path)?;
        let length = file.len()?;
        if length > bytes_max {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{} has {length} bytes; at most {bytes_max} are expected", path.display()),
            ));
        }
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        file.read_exact_at(0, &mut bytes)?;
        Ok(bytes)
    }
}

/// An open file that is written at its end.
pub trait WriteFile: Send + fmt::Debug {
    /// Writes all of `bytes`. After an error an unknown part of them may be in the file.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Cuts the file; later writes go to its new end.
    fn truncate(&mut self, length: u64) -> io::Result<()>;

    /// Returns when everything written survives a crash of the machine. After an error nothing is
    /// known about what was written since the last success, and asking again proves nothing.
    fn sync_data(&mut self) -> io::Result<()>;
}

/// An open file that is read.
pub trait ReadFile: Send + Sync + fmt::Debug {
    /// The length in bytes, now.
    fn len(&self) -> io::Result<u64>;

    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reads up to `buffer.len()` bytes; fewer only at the end of the file or when interrupted.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.read_at(offset + done as u64, rest) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
