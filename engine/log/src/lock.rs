//! One process per data folder: a locked file that names its holder. The lock is the operating
//! system's and ends with the process, however that ends. It never waits. A folder into which a restore
//! did not bring everything is nobody's.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

/// The locked file.
pub const LOCK: &str = "LOCK";

/// Stands in a folder from before the first file of a restore until after its last.
pub const RESTORING: &str = "RESTORING";

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
    Held {
        dir: PathBuf,
        pid: String,
        /// Where the holder is looked at with a browser.
        address: Option<String>,
        /// Where the holder takes commands (gRPC).
        commands: Option<String>,
    },

    /// What is there is a part of a backup.
    #[error(
        "a restore into the data folder {} was not finished, so what is there is only a part: remove the folder and restore \
         again", .0.display()
    )]
    HalfRestored(PathBuf),

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
        let path = dir.join(LOCK);
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
        let restoring = dir.join(RESTORING);
        if restoring.try_exists().map_err(io_error("look for", &restoring))? {
            return Err(LockError::HalfRestored(dir.to_owned()));
        }
        let mut lock = Self { file, path };
        lock.write("", "")?;
        Ok(lock)
    }

    /// Writes down where the holder can be reached: for the error that a second process shows, and for who asks the
    /// holder for what only it can do.
    pub fn announce(&mut self, address: &str, commands: &str) -> Result<(), LockError> {
        self.write(address, commands)
    }

    fn write(&mut self, address: &str, commands: &str) -> Result<(), LockError> {
        let text = format!("{}\n{address}\n{commands}\n", std::process::id());
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
    let mut lines = text.lines().map(|line| Some(line.to_owned()).filter(|line| !line.is_empty()));
    let mut line = || lines.next().flatten();
    let pid = line().unwrap_or_else(|| "(unknown)".to_owned());
    LockError::Held { dir: dir.to_owned(), pid, address: line(), commands: line() }
}
