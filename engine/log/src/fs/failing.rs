//! A layer over any file system that fails at command: what the command says to fail does, until it is lifted. The
//! command is asked for before every operation, so that somebody outside the process can give it. For tests.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
};

use super::{FileSystem, ReadFile, WriteFile};

/// Where the command in force comes from, such as a file. No text: nothing fails.
pub trait Command: Send + Sync {
    fn text(&self) -> String;
}

impl<F: Fn() -> String + Send + Sync> Command for F {
    fn text(&self) -> String {
        self()
    }
}

/// What can be told to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    /// Making, opening and listing files, and what else needs a file descriptor.
    Open,
    /// Writing to a file. Half of the bytes arrive before the failure, unless the file system is read-only.
    Write,
    /// Cutting, renaming and removing.
    Change,
    Sync,
}

/// One line of a command: `write ENOSPC`, `sync EIO 3`, `sync EIO at /store/`. The operation is `open`, `write`, `change`,
/// `sync`, or `all` for all that change something; with a number n, the nth from then on fails, alone; with `at`, only
/// where the path holds that text.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Failure {
    operation: Option<Operation>,
    errno: i32,
    nth: Option<u64>,
    at: Option<String>,
}

impl FromStr for Failure {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let mut words = line.split_whitespace();
        let operation = match words.next() {
            Some("open") => Some(Operation::Open),
            Some("write") => Some(Operation::Write),
            Some("change") => Some(Operation::Change),
            Some("sync") => Some(Operation::Sync),
            Some("all") => None,
            other => return Err(format!("{other:?} is not open, write, change, sync or all")),
        };
        // Of Linux.
        let errno = match words.next() {
            Some("EIO") => 5,
            Some("EMFILE") => 24,
            Some("ENOSPC") => 28,
            Some("EROFS") => 30,
            other => return Err(format!("{other:?} is not EIO, EMFILE, ENOSPC or EROFS")),
        };
        let mut failure = Self { operation, errno, nth: None, at: None };
        while let Some(word) = words.next() {
            match word {
                "at" => failure.at = words.next().map(str::to_owned),
                count => failure.nth = Some(count.parse().map_err(|error| format!("the count `{count}`: {error}"))?),
            }
        }
        Ok(failure)
    }
}

impl Failure {
    fn meets(&mut self, operation: Operation, path: &Path) -> bool {
        let meant = self.operation.map_or(operation != Operation::Open, |meant| meant == operation)
            && self.at.as_deref().is_none_or(|part| path.to_string_lossy().contains(part));
        match &mut self.nth {
            _ if !meant => false,
            None => true,
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                *left == 0
            }
        }
    }
}

/// Fails as it is told; a clone follows the same command.
#[derive(Clone)]
pub struct FailingFs {
    disk: Arc<dyn FileSystem>,
    command: Arc<dyn Command>,
    given: Arc<Mutex<Given>>,
}

/// The command as it was last read.
#[derive(Default)]
struct Given {
    text: String,
    failures: Vec<Failure>,
}

impl fmt::Debug for FailingFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FailingFs").field("disk", &self.disk).finish_non_exhaustive()
    }
}

impl FailingFs {
    pub fn over(disk: Arc<dyn FileSystem>, command: Arc<dyn Command>) -> Self {
        Self { disk, command, given: Arc::default() }
    }

    fn meets(&self, operation: Operation, path: &Path) -> io::Result<()> {
        let text = self.command.text();
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        if text != given.text {
            let parsed = text.lines().filter(|line| !line.trim().is_empty()).map(|line| {
                line.parse().map_err(|error| io::Error::other(format!("the command `{line}` to fail: {error}")))
            });
            given.failures = parsed.collect::<io::Result<_>>()?;
            given.text = text;
        }
        let mut met = None;
        for failure in &mut given.failures {
            if failure.meets(operation, path) {
                met = Some(io::Error::from_raw_os_error(failure.errno));
            }
        }
        met.map_or(Ok(()), Err)
    }

    fn failing(&self, path: &Path, file: Box<dyn WriteFile>) -> Box<dyn WriteFile> {
        Box::new(FailingFile { fs: self.clone(), path: path.to_owned(), file })
    }
}

impl FileSystem for FailingFs {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.meets(Operation::Open, dir)?;
        self.disk.list(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        self.meets(Operation::Open, path)?;
        self.meets(Operation::Change, path)?;
        Ok(self.failing(path, self.disk.create(path)?))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        self.meets(Operation::Open, path)?;
        Ok(self.failing(path, self.disk.append(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadFile>> {
        self.meets(Operation::Open, path)?;
        self.disk.open(path)
    }

    fn forget_cached(&self, path: &Path) -> io::Result<()> {
        self.disk.forget_cached(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.meets(Operation::Change, to)?;
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.meets(Operation::Change, path)?;
        self.disk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        // A folder is opened to be synced.
        self.meets(Operation::Open, dir)?;
        self.meets(Operation::Sync, dir)?;
        self.disk.sync_dir(dir)
    }
}

#[derive(Debug)]
struct FailingFile {
    fs: FailingFs,
    path: PathBuf,
    file: Box<dyn WriteFile>,
}

impl WriteFile for FailingFile {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = self.fs.meets(Operation::Write, &self.path) {
            if error.kind() != io::ErrorKind::ReadOnlyFilesystem {
                let (arrived, _) = bytes.split_at(bytes.len() / 2);
                self.file.write_all(arrived)?;
            }
            return Err(error);
        }
        self.file.write_all(bytes)
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.fs.meets(Operation::Change, &self.path)?;
        self.file.truncate(length)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.fs.meets(Operation::Sync, &self.path)?;
        self.file.sync_data()
    }
}
