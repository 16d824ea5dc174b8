//! A file system in memory that crashes on request: it knows for every byte and every name whether
//! it was synced, fails or stops at the operation it is told to, and after a crash keeps of the
//! unsynced what the test decides. It never touches a disk.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{FileSystem, ReadFile, WriteFile};

/// The unit in which a disk writes all or nothing, for `Fate::Blocks`.
const BLOCK_BYTES: usize = 512;

/// What goes wrong at one operation that changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The operation does nothing and says that the disk is full.
    Full,
    /// A write puts this many bytes into the file, then says that the disk is full.
    FullAfter(usize),
    /// The operation does nothing and says that the device failed. A failed sync is harsh, as Linux
    /// is: what was unsynced then is not on disk, though memory goes on showing it and a later sync succeeds.
    Device,
    /// The machine stops here: this and every later operation fails until `crash`. A write that is
    /// cut off so may still have reached the disk, which is for `crash_with` to decide.
    Halt,
}

/// What becomes of the unsynced end of a file in a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// This many bytes of it reached the disk.
    Kept(usize),
    /// The file has its full length, but of its blocks only those whose bit is set (the bits repeat)
    /// were written; the others read as zeros. So disks reorder writes.
    Blocks(u64),
}

/// A shared handle: clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct MemFs {
    disk: Arc<Mutex<Disk>>,
}

#[derive(Debug, Default)]
struct Disk {
    dirs: BTreeSet<PathBuf>,
    /// Names as the running system sees them, and as a crash would leave them.
    names: BTreeMap<PathBuf, u64>,
    synced_names: BTreeMap<PathBuf, u64>,
    /// What leads from the synced names to the others, in its order. Each of them reaches the disk whole.
    unsynced_names: Vec<NameChange>,
    files: BTreeMap<u64, Content>,
    next_file: u64,
    /// Grows with each crash; handles from before it are dead.
    boot: u64,
    operations: u64,
    fault: Option<(u64, Fault)>,
    halted: bool,
}

/// A change of names: what each of these paths names after it.
type NameChange = Vec<(PathBuf, Option<u64>)>;

/// A file's bytes. What a crash leaves for certain is `bytes[..stable]` followed by `cut_off`.
#[derive(Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    stable: usize,
    /// Synced bytes behind `stable` that were cut since, which is not synced yet.
    cut_off: Vec<u8>,
    /// What was unsynced when a sync failed. Memory shows it, and the disk will never have it.
    lost: Option<Range<usize>>,
}

impl MemFs {
    pub fn new() -> Self {
        Self::default()
    }

    /// The `nth` operation from now that changes something (1 is the next) meets `fault`.
    pub fn fail(&self, nth: u64, fault: Fault) {
        let mut disk = self.disk();
        disk.fault = Some((disk.operations + nth, fault));
    }

    /// The fault that was asked for and was not met yet is not to come.
    pub fn forget_fault(&self) {
        self.disk().fault = None;
    }

    /// Whether the machine has stopped.
    pub fn is_halted(&self) -> bool {
        self.disk().halted
    }

    /// The process stops before its next operation: that and every later one fails until `kill` or `crash`.
    pub fn halt(&self) {
        self.disk().halted = true;
    }

    /// The process is gone and its files are closed; the machine goes on with all that was written, synced or not.
    pub fn kill(&self) {
        let mut disk = self.disk();
        disk.boot += 1;
        disk.halted = false;
        disk.fault = None;
    }

    /// How many operations that change something there were.
    pub fn operations(&self) -> u64 {
        self.disk().operations
    }

    /// Crashes the machine: everything that was not synced is gone.
    pub fn crash(&self) {
        self.crash_with(|_, _| Fate::Kept(0));
    }

    /// Crashes the machine; `fate` decides for each file with unsynced bytes at its end what became
    /// of them, given their number. Unsynced names are gone, unsynced removals undone.
    pub fn crash_with(&self, fate: impl FnMut(&Path, usize) -> Fate) {
        self.crash_keeping(0, fate);
    }

    /// The same, where the first so many of the unsynced changes of names reached the disk, as a file system's journal
    /// may have them.
    pub fn crash_keeping(&self, names: usize, mut fate: impl FnMut(&Path, usize) -> Fate) {
        let mut disk = self.disk();
        let disk = &mut *disk;
        let unsynced = std::mem::take(&mut disk.unsynced_names);
        for (path, file) in unsynced.into_iter().take(names).flatten() {
            match file {
                Some(file) => disk.synced_names.insert(path, file),
                None => disk.synced_names.remove(&path),
            };
        }
        disk.names = disk.synced_names.clone();
        for (path, file) in &disk.names {
            if let Some(content) = disk.files.get_mut(file) {
                content.crash(|unsynced| fate(path, unsynced));
            }
        }
        let live: BTreeSet<u64> = disk.names.values().copied().collect();
        disk.files.retain(|file, _| live.contains(file));
        disk.boot += 1;
        disk.halted = false;
        disk.fault = None;
    }

    /// How many changes of names were not synced.
    pub fn unsynced_names(&self) -> usize {
        self.disk().unsynced_names.len()
    }

    /// The names of all files, sorted.
    pub fn files(&self) -> Vec<PathBuf> {
        self.disk().names.keys().cloned().collect()
    }

    /// The bytes of a file, for tests.
    pub fn bytes(&self, path: &Path) -> Option<Vec<u8>> {
        let disk = self.disk();
        Some(disk.files.get(disk.names.get(path)?)?.bytes.clone())
    }

    /// Puts a file in place with these bytes, all synced, for tests.
    pub fn put(&self, path: &Path, bytes: Vec<u8>) {
        let mut disk = self.disk();
        let file = disk.new_file();
        disk.files.insert(file, Content { stable: bytes.len(), bytes, ..Content::default() });
        disk.names.insert(path.to_owned(), file);
        disk.synced_names.insert(path.to_owned(), file);
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        // The disk's own methods do not panic halfway, so a poisoned lock guards nothing broken.
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, disk: &Disk, file: u64) -> MemFile {
        MemFile { fs: self.clone(), file, boot: disk.boot }
    }
}

impl Content {
    fn sync(&mut self) {
        self.stable = self.bytes.len();
        self.cut_off.clear();
    }

    fn truncate(&mut self, length: usize) {
        if length < self.stable {
            let mut cut = self.bytes.get(length..self.stable).unwrap_or_default().to_vec();
            cut.append(&mut self.cut_off);
            self.cut_off = cut;
            self.stable = length;
        }
        self.bytes.resize(length, 0);
        self.lost = self.lost.take().filter(|lost| lost.start < length).map(|lost| lost.start..lost.end.min(length));
    }

    fn lose(&mut self) {
        let start = self.lost.as_ref().map_or(self.stable, |lost| lost.start.min(self.stable));
        self.lost = Some(start..self.bytes.len()).filter(|lost| !lost.is_empty());
    }

    /// Shows what the disk has.
    fn forget_cached(&mut self) {
        let lost = self.lost.take().and_then(|lost| self.bytes.get_mut(lost));
        lost.into_iter().for_each(|bytes| bytes.fill(0));
    }

    fn crash(&mut self, fate: impl FnOnce(usize) -> Fate) {
        self.forget_cached();
        let unsynced = self.bytes.split_off(self.stable.min(self.bytes.len()));
        if self.cut_off.is_empty() && !unsynced.is_empty() {
            match fate(unsynced.len()) {
                Fate::Kept(count) => self.bytes.extend(unsynced.iter().take(count)),
                Fate::Blocks(written) => {
                    for (at, block) in unsynced.chunks(BLOCK_BYTES).enumerate() {
                        let kept = written >> (at % 64) & 1 == 1;
                        self.bytes.extend(block.iter().map(|byte| if kept { *byte } else { 0 }));
                    }
                }
            }
        } else {
            self.bytes.append(&mut self.cut_off);
        }
        self.stable = self.bytes.len();
        self.cut_off.clear();
    }
}

impl Disk {
    fn new_file(&mut self) -> u64 {
        self.next_file += 1;
        self.next_file
    }

    /// Counts an operation that changes something, and says which fault it meets.
    fn operation(&mut self) -> io::Result<Option<Fault>> {
        if self.halted {
            return Err(halted());
        }
        self.operations += 1;
        match self.fault {
            Some((at, fault)) if at == self.operations => {
                self.fault = None;
                self.halted = fault == Fault::Halt;
                Ok(Some(fault))
            }
            _ => Ok(None),
        }
    }

    /// The same for operations that are all or nothing.
    fn atomic_operation(&mut self) -> io::Result<()> {
        match self.operation()? {
            None => Ok(()),
            Some(fault) => Err(fault.error()),
        }
    }

    fn named(&self, path: &Path) -> io::Result<u64> {
        if self.halted {
            return Err(halted());
        }
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Fault {
    fn error(self) -> io::Error {
        match self {
            Self::Full | Self::FullAfter(_) => io::Error::new(io::ErrorKind::StorageFull, "no space left on device"),
            Self::Device => io::Error::other("input/output error"),
            Self::Halt => halted(),
        }
    }
}

fn halted() -> io::Error {
    io::Error::other("the machine has stopped")
}

impl FileSystem for MemFs {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        if disk.dirs.contains(dir) {
            return Ok(());
        }
        disk.atomic_operation()?;
        for above in dir.ancestors() {
            disk.dirs.insert(above.to_owned());
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let disk = self.disk();
        if disk.halted {
            return Err(halted());
        }
        if !disk.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside = disk.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        let mut disk = self.disk();
        disk.atomic_operation()?;
        if disk.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if !path.parent().is_some_and(|dir| disk.dirs.contains(dir)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let file = disk.new_file();
        disk.files.insert(file, Content::default());
        disk.names.insert(path.to_owned(), file);
        disk.unsynced_names.push(vec![(path.to_owned(), Some(file))]);
        Ok(Box::new(self.handle(&disk, file)))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        let disk = self.disk();
        Ok(Box::new(self.handle(&disk, disk.named(path)?)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadFile>> {
        let disk = self.disk();
        Ok(Arc::new(self.handle(&disk, disk.named(path)?)))
    }

    fn forget_cached(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        let file = disk.named(path)?;
        disk.files.get_mut(&file).ok_or(io::ErrorKind::NotFound)?.forget_cached();
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.atomic_operation()?;
        let file = disk.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        disk.names.insert(to.to_owned(), file);
        disk.unsynced_names.push(vec![(from.to_owned(), None), (to.to_owned(), Some(file))]);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.atomic_operation()?;
        disk.names.remove(path).ok_or(io::ErrorKind::NotFound)?;
        disk.unsynced_names.push(vec![(path.to_owned(), None)]);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.atomic_operation()?;
        let disk = &mut *disk;
        disk.synced_names.retain(|path, _| path.parent() != Some(dir));
        let inside = disk.names.iter().filter(|(path, _)| path.parent() == Some(dir));
        disk.synced_names.extend(inside.map(|(path, file)| (path.clone(), *file)));
        // Files are renamed within a folder.
        disk.unsynced_names.retain(|change| !change.iter().any(|(path, _)| path.parent() == Some(dir)));
        Ok(())
    }
}

/// An open file of a `MemFs`.
#[derive(Debug)]
struct MemFile {
    fs: MemFs,
    file: u64,
    boot: u64,
}

impl MemFile {
    /// Runs `act` on the content unless the machine crashed since the file was opened.
    fn with<T>(&self, act: impl FnOnce(&mut Content) -> io::Result<T>) -> io::Result<T> {
        self.with_disk(|disk, file| {
            if disk.halted {
                return Err(halted());
            }
            act(disk.files.get_mut(&file).ok_or(io::ErrorKind::NotFound)?)
        })
    }

    fn with_disk<T>(&self, act: impl FnOnce(&mut Disk, u64) -> io::Result<T>) -> io::Result<T> {
        let mut disk = self.fs.disk();
        if disk.boot != self.boot {
            return Err(io::Error::other("the file was opened before the machine crashed"));
        }
        act(&mut disk, self.file)
    }

    /// Runs `act` on the content as one operation that changes something; `act` sees the fault.
    fn change<T>(&self, act: impl FnOnce(&mut Content, Option<Fault>) -> io::Result<T>) -> io::Result<T> {
        self.with_disk(|disk, file| {
            let fault = disk.operation()?;
            act(disk.files.get_mut(&file).ok_or(io::ErrorKind::NotFound)?, fault)
        })
    }
}

impl WriteFile for MemFile {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.change(|content, fault| {
            let arrived = match fault {
                None | Some(Fault::Halt) => bytes.len(),
                Some(Fault::FullAfter(count)) => count,
                Some(Fault::Full | Fault::Device) => 0,
            };
            content.bytes.extend(bytes.iter().take(arrived));
            fault.map_or(Ok(()), |fault| Err(fault.error()))
        })
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        self.change(|content, fault| match fault {
            None => {
                content.truncate(length);
                Ok(())
            }
            Some(fault) => Err(fault.error()),
        })
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.change(|content, fault| match fault {
            None => {
                content.sync();
                Ok(())
            }
            Some(fault) => {
                content.lose();
                Err(fault.error())
            }
        })
    }
}

impl ReadFile for MemFile {
    fn len(&self) -> io::Result<u64> {
        self.with(|content| Ok(content.bytes.len() as u64))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.with(|content| {
            let from = usize::try_from(offset).map_err(io::Error::other)?;
            let there = content.bytes.get(from..).unwrap_or_default();
            let count = there.len().min(buffer.len());
            for (slot, byte) in buffer.iter_mut().zip(there) {
                *slot = *byte;
            }
            Ok(count)
        })
    }
}
