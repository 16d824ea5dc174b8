//! A layer over a real disk that forgets what was not synced: unsynced bytes and unsynced names are in the memory of
//! this process alone, which sees them; the disk gets them when they are synced. So a process that is killed loses what
//! a machine loses whose power is cut. For tests; one process at a time, and nobody else may change the folders meanwhile.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{FileSystem, ReadFile, WriteFile};

/// Where files lie, below their own folder, whose bytes are synced and whose names are not.
const NAMELESS: &str = ".nameless";

/// A shared handle: clones are the same process's view of the same disk.
#[derive(Clone, Debug)]
pub struct ForgetfulFs {
    disk: Arc<dyn FileSystem>,
    view: Arc<Mutex<View>>,
}

#[derive(Debug, Default)]
struct View {
    /// Folders whose names were read.
    known: BTreeSet<PathBuf>,
    /// What this process sees.
    names: BTreeMap<PathBuf, File>,
    /// What became of names since their folder was synced, in order.
    unsynced: Vec<Renaming>,
    next: u64,
}

#[derive(Debug)]
enum Renaming {
    Made { file: File, path: PathBuf },
    Renamed { file: File, from: PathBuf, to: PathBuf, replaced: Option<File> },
    Removed { file: File, path: PathBuf },
}

type File = Arc<Mutex<Content>>;

impl Renaming {
    fn dir(&self) -> Option<&Path> {
        match self {
            Self::Made { path, .. } | Self::Renamed { to: path, .. } | Self::Removed { path, .. } => path.parent(),
        }
    }
}

/// A file's bytes: the first `kept` bytes of what is on the disk, and then `tail`.
#[derive(Debug)]
struct Content {
    /// Where the synced bytes are; for a file that was never synced, where they will be.
    at: PathBuf,
    /// Synced bytes, all of them on the disk.
    synced: u64,
    kept: u64,
    tail: Vec<u8>,
    /// The disk has forgotten its name; what is written to it still is nobody's.
    gone: bool,
}

impl ForgetfulFs {
    pub fn over(disk: Arc<dyn FileSystem>) -> Self {
        Self { disk, view: Arc::default() }
    }

    fn opened(&self, file: File) -> ForgetfulFile {
        ForgetfulFile { disk: Arc::clone(&self.disk), file, reader: Mutex::default() }
    }

    fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The view with the names of this file's folder.
    fn view_around(&self, path: &Path) -> io::Result<MutexGuard<'_, View>> {
        let dir = path.parent().ok_or(io::ErrorKind::NotFound)?;
        self.view_of(dir)
    }

    fn view_of(&self, dir: &Path) -> io::Result<MutexGuard<'_, View>> {
        let mut view = self.view();
        if !view.known.contains(dir) {
            for name in self.disk.list(dir)? {
                let path = dir.join(name);
                let bytes = self.disk.open(&path)?.len()?;
                let content = Content { synced: bytes, kept: bytes, ..Content::new(path.clone()) };
                view.names.insert(path, Arc::new(Mutex::new(content)));
            }
            view.known.insert(dir.to_owned());
        }
        Ok(view)
    }

    fn named(&self, path: &Path) -> io::Result<File> {
        let view = self.view_around(path)?;
        view.names.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Does on the disk what was done to a name.
    fn settle(&self, renaming: &Renaming) -> io::Result<()> {
        match renaming {
            Renaming::Made { file, path } => {
                let mut content = contents(file);
                match self.disk.rename(&content.at, path) {
                    // A name that was synced before any byte: an empty file.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => self.disk.create(path).map(drop)?,
                    renamed => renamed?,
                }
                content.at.clone_from(path);
            }
            Renaming::Renamed { file, from, to, replaced } => {
                self.disk.rename(from, to)?;
                contents(file).at.clone_from(to);
                replaced.iter().for_each(|replaced| contents(replaced).gone = true);
            }
            Renaming::Removed { file, path } => {
                self.disk.remove(path)?;
                contents(file).gone = true;
            }
        }
        Ok(())
    }
}

fn contents(file: &File) -> MutexGuard<'_, Content> {
    file.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Content {
    fn new(at: PathBuf) -> Self {
        Self { at, synced: 0, kept: 0, tail: Vec::new(), gone: false }
    }

    fn len(&self) -> u64 {
        self.kept + self.tail.len() as u64
    }

    fn truncate(&mut self, length: u64) {
        match length.checked_sub(self.kept).map(usize::try_from) {
            Some(Ok(rest)) => self.tail.resize(rest, 0),
            _ => {
                self.kept = length.min(self.kept);
                self.tail.clear();
            }
        }
    }

    fn sync(&mut self, disk: &dyn FileSystem) -> io::Result<()> {
        if self.gone || self.kept == self.synced && self.tail.is_empty() {
            return Ok(());
        }
        let mut file = match disk.append(&self.at) {
            // Of a file that never had a synced byte the disk knows nothing yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.synced == 0 => disk.create(&self.at)?,
            opened => opened?,
        };
        if self.kept < self.synced {
            file.truncate(self.kept)?;
            self.synced = self.kept;
        }
        file.write_all(&self.tail)?;
        self.synced = self.len();
        self.kept = self.synced;
        self.tail = Vec::new();
        Ok(())
    }
}

impl FileSystem for ForgetfulFs {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        // Folders are made at once: what is in them is what may be forgotten.
        self.disk.create_dir(dir)?;
        let nameless = dir.join(NAMELESS);
        self.disk.create_dir(&nameless)?;
        if !self.view().known.contains(dir) {
            for name in self.disk.list(&nameless)? {
                self.disk.remove(&nameless.join(name))?;
            }
        }
        self.view_of(dir).map(drop)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let view = self.view_of(dir)?;
        let inside = view.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        let mut view = self.view_around(path)?;
        if view.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let dir = path.parent().ok_or(io::ErrorKind::NotFound)?;
        let at = dir.join(NAMELESS).join(view.next.to_string());
        view.next += 1;
        let file = Arc::new(Mutex::new(Content::new(at)));
        view.names.insert(path.to_owned(), Arc::clone(&file));
        view.unsynced.push(Renaming::Made { file: Arc::clone(&file), path: path.to_owned() });
        Ok(Box::new(self.opened(file)))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        Ok(Box::new(self.opened(self.named(path)?)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadFile>> {
        let file = self.opened(self.named(path)?);
        // Now, because its name may go before it is read.
        file.reader(&contents(&file.file))?;
        Ok(Arc::new(file))
    }

    fn forget_cached(&self, _: &Path) -> io::Result<()> {
        // What is not synced is in this process's memory alone, so none is left of the process before.
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut view = self.view_around(from)?;
        let file = view.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        let replaced = view.names.insert(to.to_owned(), Arc::clone(&file));
        view.unsynced.push(Renaming::Renamed { file, from: from.to_owned(), to: to.to_owned(), replaced });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut view = self.view_around(path)?;
        let file = view.names.remove(path).ok_or(io::ErrorKind::NotFound)?;
        view.unsynced.push(Renaming::Removed { file, path: path.to_owned() });
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut view = self.view();
        let unsynced = std::mem::take(&mut view.unsynced);
        let (mut now, later): (Vec<_>, Vec<_>) = unsynced.into_iter().partition(|renaming| renaming.dir() == Some(dir));
        view.unsynced = later;
        now.reverse();
        // One after the other, as a journalling file system does: a kill in between leaves the first of them.
        while let Some(renaming) = now.pop() {
            if let Err(error) = self.settle(&renaming) {
                now.push(renaming);
                now.reverse();
                view.unsynced.extend(now);
                return Err(error);
            }
        }
        Ok(())
    }
}

/// An open file of a `ForgetfulFs`.
#[derive(Debug)]
struct ForgetfulFile {
    disk: Arc<dyn FileSystem>,
    file: File,
    /// The synced bytes, once they were asked for.
    reader: Mutex<Option<Arc<dyn ReadFile>>>,
}

impl ForgetfulFile {
    /// `None` where the disk has nothing of the file.
    fn reader(&self, content: &Content) -> io::Result<Option<Arc<dyn ReadFile>>> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        if reader.is_none() && content.kept > 0 {
            *reader = Some(self.disk.open(&content.at)?);
        }
        Ok(reader.clone())
    }
}

impl WriteFile for ForgetfulFile {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        contents(&self.file).tail.extend_from_slice(bytes);
        Ok(())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        contents(&self.file).truncate(length);
        Ok(())
    }

    fn sync_data(&mut self) -> io::Result<()> {
        contents(&self.file).sync(&*self.disk)
    }
}

impl ReadFile for ForgetfulFile {
    fn len(&self) -> io::Result<u64> {
        Ok(contents(&self.file).len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let content = contents(&self.file);
        if offset < content.kept
            && let Some(reader) = self.reader(&content)?
        {
            let there = usize::try_from(content.kept - offset).unwrap_or(usize::MAX).min(buffer.len());
            return reader.read_at(offset, buffer.get_mut(..there).unwrap_or_default());
        }
        let from = usize::try_from(offset.saturating_sub(content.kept)).map_err(io::Error::other)?;
        let there = content.tail.get(from..).unwrap_or_default();
        let count = there.len().min(buffer.len());
        for (slot, byte) in buffer.iter_mut().zip(there) {
            *slot = *byte;
        }
        Ok(count)
    }
}
