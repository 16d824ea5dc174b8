//! The simulated disk: memory that forgets, tears, fills up and fails, and the bugs that are planted below the engine.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rand::{Rng, rngs::StdRng};
use tidewatch_log::{Fate, Fault, FileSystem, MemFs, ReadFile, WriteFile};

use crate::planted::Planted;

/// A shared handle: clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimDisk {
    memory: MemFs,
    planted: Option<Planted>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    full: bool,
    swap: Swap,
}

/// How far the swap of two writes is.
#[derive(Debug)]
enum Swap {
    After(u32),
    Holding(Vec<u8>),
    Done,
}

impl SimDisk {
    /// `swap_after` is for the bug that swaps writes: how many go well before.
    pub fn new(planted: Option<Planted>, swap_after: u32) -> Self {
        let state = State { full: false, swap: Swap::After(swap_after) };
        Self { memory: MemFs::new(), planted, state: Arc::new(Mutex::new(state)) }
    }

    /// From now on there is no room, or there is again.
    pub fn set_full(&self, full: bool) {
        self.state().full = full;
    }

    /// The operation `nth` from now meets `fault`.
    pub fn fail(&self, nth: u64, fault: Fault) {
        self.memory.fail(nth, fault);
    }

    /// Nothing goes wrong any more, but for a machine that has stopped.
    pub fn calm(&self) {
        self.set_full(false);
        self.memory.forget_fault();
    }

    pub fn is_halted(&self) -> bool {
        self.memory.is_halted()
    }

    pub fn operations(&self) -> u64 {
        self.memory.operations()
    }

    /// From here on nothing is written, until the process or the machine is gone.
    pub fn halt(&self) {
        self.memory.halt();
    }

    /// The process is gone; the machine keeps what was written.
    pub fn kill(&self) {
        self.memory.kill();
    }

    /// The power fails: of what was not synced the disk has whatever chance left it.
    pub fn crash(&self, rng: &mut StdRng) {
        let names = rng.random_range(0..=self.memory.unsynced_names());
        self.memory.crash_keeping(names, |_, bytes| match rng.random_range(0..4) {
            0 => Fate::Kept(0),
            1 => Fate::Kept(bytes),
            2 => Fate::Kept(rng.random_range(0..=bytes)),
            _ => Fate::Blocks(rng.random()),
        });
    }

    /// Flips one bit of a file of the log or the store, and says where.
    ///
    /// Some segments are not the same from run to run, only as long (the compressor is suspected, not found out); their
    /// checksums stand in the manifest as decimals, which is thus a few bytes longer or shorter. So that the same seed flips the
    /// same byte it comes last, and only its first pages count.
    pub fn flip(&self, rng: &mut StdRng) -> Option<(PathBuf, usize)> {
        let is_manifest = |path: &Path| path.ends_with("MANIFEST");
        let mut files: Vec<(PathBuf, Vec<u8>)> = self
            .memory
            .files()
            .into_iter()
            .filter_map(|path| Some((path.clone(), self.memory.bytes(&path)?)))
            .collect();
        files.sort_by_key(|(path, _)| is_manifest(path));
        let counted = |path: &Path, bytes: &[u8]| if is_manifest(path) { bytes.len() & !4_095 } else { bytes.len() };
        let bytes: usize = files.iter().map(|(path, bytes)| counted(path, bytes)).sum();
        let mut at = rng.random_range(0..bytes.max(1));
        for (path, mut bytes) in files {
            let counted = counted(&path, &bytes);
            if let Some(byte) = bytes.get_mut(at).filter(|_| at < counted) {
                *byte ^= 1 << rng.random_range(0..8);
                self.memory.put(&path, bytes);
                return Some((path, at));
            }
            at -= counted;
        }
        None
    }

    fn wrap(&self, path: &Path, file: Box<dyn WriteFile>) -> Box<dyn WriteFile> {
        Box::new(SimFile { disk: self.clone(), in_log: path.components().any(|part| part.as_os_str() == "log"), file })
    }

    /// Where the disk is full, the next operation meets that.
    fn make_room(&self, fault: Fault) {
        if self.state().full {
            self.memory.fail(1, fault);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FileSystem for SimDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.memory.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.memory.list(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        self.make_room(Fault::Full);
        Ok(self.wrap(path, self.memory.create(path)?))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        Ok(self.wrap(path, self.memory.append(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn ReadFile>> {
        self.memory.open(path)
    }

    fn forget_cached(&self, path: &Path) -> io::Result<()> {
        self.memory.forget_cached(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.memory.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.memory.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        match self.planted {
            Some(Planted::SkipFolderSync) => Ok(()),
            _ => self.memory.sync_dir(dir),
        }
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    in_log: bool,
    file: Box<dyn WriteFile>,
}

impl SimFile {
    /// What is to be written now in place of `bytes`, in this order.
    fn swapped(&self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut state = self.disk.state();
        match &mut state.swap {
            Swap::After(0) => {
                state.swap = Swap::Holding(bytes.to_vec());
                Vec::new()
            }
            Swap::After(writes) => {
                *writes -= 1;
                vec![bytes.to_vec()]
            }
            Swap::Holding(held) => {
                let held = std::mem::take(held);
                state.swap = Swap::Done;
                vec![bytes.to_vec(), held]
            }
            Swap::Done => vec![bytes.to_vec()],
        }
    }
}

impl WriteFile for SimFile {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.disk.make_room(Fault::FullAfter(bytes.len() / 2));
        if self.in_log && self.disk.planted == Some(Planted::SwapLogWrites) {
            return self.swapped(bytes).iter().try_for_each(|bytes| self.file.write_all(bytes));
        }
        self.file.write_all(bytes)
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.file.truncate(length)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        let skipped = if self.in_log { Planted::SkipLogSync } else { Planted::SkipStoreSync };
        if self.disk.planted == Some(skipped) { Ok(()) } else { self.file.sync_data() }
    }
}
