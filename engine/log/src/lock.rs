//! One process per data folder: a locked file that names its holder. The lock is the operating
//! system's and ends with the process, however that ends. It never waits.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

const FILE_NAME: &str = "LOCK";

/// More than a holder ever writes.
const HOLDER_BYTES_MAX: u64 = 1_024;

/// The data folder is ours until this is dropped.
#[derive(Debug)]
pub struct DataFolderLock {
    file: File,
    path: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process is at work there.
    #[error(
        "the data folder {} is in use by process {pid}{}: stop that process, or use another folder",
        .dir.display(),
        .address.as_deref().map(|address| format!(" (serving at {address})")).unwrap_or_default()
    )]
    Held { dir: PathBuf, pid: String, address: Option<String> },

    #[error("could not {action} {}: {source}; check that the folder exists on a disk that can be written", .path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

impl DataFolderLock {
    /// Locks `dir`, which is made where it does not exist, and writes down who holds it.
    pub fn acquire(dir: &Path) -> Result<Self, LockError> {
        let io_error = |action, path: &Path| {
            let path = path.to_owned();
            move |source| LockError::Io { action, path, source }
        };
        std::fs::create_dir_all(dir).map_err(io_error("make the data folder", dir))?;
        let path = dir.join(FILE_NAME);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io_error("open the lock file", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held(dir, &mut file)),
            Err(TryLockError::Error(source)) => return Err(io_error("lock", &path)(source)),
        }
        let mut lock = Self { file, path };
        lock.write(None)?;
        Ok(lock)
    }

    /// Writes down where the holder can be reached, for the error that a second process shows.
    pub fn announce(&mut self, address: &str) -> Result<(), LockError> {
        self.write(Some(address))
    }

    fn write(&mut self, address: Option<&str>) -> Result<(), LockError> {
        let text = format!("{}\n{}\n", std::process::id(), address.unwrap_or_default());
        self.file
            .set_len(0)
            .and_then(|()| self.file.rewind())
            .and_then(|()| self.file.write_all(text.as_bytes()))
            .map_err(|source| LockError::Io { action: "write to the lock file", path: self.path.clone(), source })
    }
}

fn held(dir: &Path, file: &mut File) -> LockError {
    let mut text = String::new();
    // Unreadable, or not written yet: the holder stays unknown, which is no reason to say less clearly
    // that there is one.
    if (&*file).take(HOLDER_BYTES_MAX).read_to_string(&mut text).is_err() {
        text.clear();
    }
    let mut lines = text.lines();
    let pid = lines.next().filter(|pid| !pid.is_empty()).unwrap_or("(unknown)").to_owned();
    let address = lines.next().filter(|address| !address.is_empty()).map(str::to_owned);
    LockError::Held { dir: dir.to_owned(), pid, address }
}
