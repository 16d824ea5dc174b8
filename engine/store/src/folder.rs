//! `Folder`: the writer's side of the store's files: new files, and the manifest's replacement, which makes them visible at
//! once. A file is never changed, and goes only when no manifest that is in force or still read names it.
//!
//! What fails before the replacement is taken back, and the manifest before stays in force. A sync that fails poisons the
//! folder: after it nobody knows what the disk has.

use std::{collections::BTreeSet, io, path::Path, sync::Arc};

use arrow::array::RecordBatch;
use tidewatch_log::{FileSystem, out_of_handles};
use tidewatch_model::limits;

use crate::{
    error::{Damage, FolderError},
    files::Files,
    manifest::{FileEntry, FormatVersion, MANIFEST_VERSION, Manifest, ManifestFault},
    name::{self, Kind, MANIFEST, MANIFEST_PART},
    pins::Pins,
    segment::{Contents, EncodedSegment, Segment},
};

/// What opening a folder found beside the manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Files that are none of the store's. They were left alone.
    pub foreign: Vec<String>,
    /// Files of a checkpoint that was not finished. They were removed.
    pub removed: Vec<String>,
    /// Files that are missing or have another length than the manifest says. What they hold is not checked on opening.
    pub damaged: Vec<Damage>,
}

#[derive(Debug)]
pub struct Folder {
    files: Files,
    /// In force.
    manifest: Arc<Manifest>,
    /// The same, for other threads.
    pins: Pins,
    /// Replaced, but still held by readers.
    replaced: Vec<Arc<Manifest>>,
    /// Files that no manifest in force names, and that were not removed yet.
    leaving: BTreeSet<String>,
    /// Files written since the last commit.
    fresh: BTreeSet<String>,
    /// Files of a manifest that was put in place and whose name could not be synced, for want of a file descriptor: until
    /// the next commit nobody knows whether a crash would leave it in force.
    unsure: BTreeSet<String>,
    next_file: u64,
    findings: Findings,
    poison: Option<Arc<str>>,
}

impl Folder {
    /// Opens the store in `dir`, or makes one. Returns its manifest; `None` before the first checkpoint.
    pub fn open(fs: Arc<dyn FileSystem>, dir: &Path) -> Result<(Self, Option<Manifest>), FolderError> {
        fs.create_dir(dir).map_err(FolderError::io("make the folder", dir))?;
        // A process that was killed may have left a manifest whose name only the page cache knows. Nothing may be
        // removed for its sake before it survives a crash of the machine.
        fs.sync_dir(dir).map_err(FolderError::io("sync the folder", dir))?;
        let names = fs.list(dir).map_err(FolderError::io("list", dir))?;
        let manifest = match names.iter().any(|name| name == MANIFEST) {
            true => Some(read_manifest(&*fs, dir, MANIFEST)?),
            false => None,
        };
        let numbers = names.iter().filter_map(|name| name::number(name));
        let after_last = numbers.max().map(|number| number.saturating_add(1));
        let made = manifest.is_some();
        let mut manifest = manifest.unwrap_or_default();
        let in_force = Arc::new(manifest.clone());
        let mut folder = Self {
            files: Files::new(fs, dir),
            // Also of files that could not be removed, no name is given again.
            next_file: manifest.next_file.max(after_last.unwrap_or_default()),
            pins: Pins::new(Arc::clone(&in_force)),
            manifest: in_force,
            replaced: Vec::new(),
            leaving: BTreeSet::new(),
            fresh: BTreeSet::new(),
            unsure: BTreeSet::new(),
            findings: Findings::default(),
            poison: None,
        };
        folder.look_around(&names)?;
        if !made {
            // From here on files without a manifest are damage, and not a first checkpoint that was broken off.
            if let Some(orphan) = names.iter().find(|name| name::number(name).is_some()) {
                let what =
                    format!("the manifest is missing, but there are files that it should name, such as `{orphan}`");
                return Err(Damage { file: dir.join(MANIFEST), what, affected: None }.into());
            }
            manifest.next_file = folder.next_file;
            folder.replace_manifest(&manifest)?;
        }
        folder.findings.removed = folder.leaving.iter().cloned().collect();
        folder.sweep();
        Ok((folder, Some(manifest).filter(|manifest| !manifest.is_blank())))
    }

    /// Compares the names in the folder with those in the manifest. Removes nothing.
    fn look_around(&mut self, names: &[String]) -> Result<(), FolderError> {
        let manifest = Arc::clone(&self.manifest);
        let mut named = BTreeSet::new();
        for (file, affected) in manifest.files() {
            named.insert(file.name.as_str());
            match self.files.open(file, affected) {
                Ok(_) => {}
                Err(FolderError::Damaged(damage)) => self.findings.damaged.push(damage),
                Err(error) => return Err(error),
            }
        }
        for name in names.iter().filter(|name| *name != MANIFEST && !named.contains(name.as_str())) {
            if name == MANIFEST_PART || name::number(name).is_some() {
                self.leaving.insert(name.clone());
            } else {
                self.findings.foreign.push(name.clone());
            }
        }
        Ok(())
    }

    pub fn findings(&self) -> &Findings {
        &self.findings
    }

    /// The manifest in force. Its files stay for as long as anybody holds it, also when it is replaced.
    pub fn manifest(&self) -> Arc<Manifest> {
        Arc::clone(&self.manifest)
    }

    /// For who copies the folder on another thread.
    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    /// For readers on other threads.
    pub fn files(&self) -> &Files {
        &self.files
    }

    pub fn read_segment(&self, segment: &Segment) -> Result<Vec<RecordBatch>, FolderError> {
        self.files.read_segment(segment)
    }

    pub fn read_blob(&self, blob: &FileEntry) -> Result<Vec<u8>, FolderError> {
        self.files.read_blob(blob)
    }

    /// Writes rows into a new file, synced. The next commit makes it visible if its manifest names it, and removes it
    /// otherwise. `prefix` tells people what the file is. After an error nothing is left of what was written since the
    /// last commit.
    pub fn write_segment(
        &mut self,
        prefix: &str,
        batches: &[RecordBatch],
        contents: Contents,
    ) -> Result<Segment, FolderError> {
        self.alive()?;
        self.write_encoded(prefix, &EncodedSegment::new(batches, contents)?)
    }

    /// The same with a segment that was made elsewhere.
    pub fn write_encoded(&mut self, prefix: &str, encoded: &EncodedSegment) -> Result<Segment, FolderError> {
        let name = self.new_name(prefix, Kind::Segment);
        self.write_new(&name, encoded.bytes())?;
        Ok(encoded.named(name))
    }

    /// Writes bytes into a new file, as `write_segment` does.
    pub fn write_blob(&mut self, prefix: &str, bytes: &[u8]) -> Result<FileEntry, FolderError> {
        let name = self.new_name(prefix, Kind::Blob);
        self.write_new(&name, bytes)?;
        Ok(FileEntry { name, bytes: bytes.len() as u64, crc32c: crc32c::crc32c(bytes) })
    }

    /// Puts a manifest in force: when this returns, it survives a crash of the machine, and what it names is all there is.
    /// One that follows a manifest of an older format is refused: `upgrade` comes first.
    pub fn commit(&mut self, mut manifest: Manifest) -> Result<Arc<Manifest>, FolderError> {
        self.alive()?;
        if let Err(error) = self.is_written_here(manifest.version) {
            self.discard();
            return Err(error);
        }
        manifest.next_file = self.next_file;
        self.check(&manifest).map_err(FolderError::Unsound)?;
        self.sync_folder("before a checkpoint")?;
        self.replace_manifest(&manifest)?;
        let manifest = Arc::new(manifest);
        let before = std::mem::replace(&mut self.manifest, Arc::clone(&manifest));
        self.pins.replaced(&manifest);
        let kept: BTreeSet<&str> = manifest.files().map(|(file, _)| file.name.as_str()).collect();
        let written = std::mem::take(&mut self.fresh).into_iter().chain(std::mem::take(&mut self.unsure));
        let gone = before.files().map(|(file, _)| file.name.clone()).chain(written);
        self.leaving.extend(gone.filter(|name| !kept.contains(name.as_str())));
        self.replaced.push(before);
        self.sweep();
        Ok(manifest)
    }

    /// Puts the same manifest in force in the newest format. The version before does not open the folder from then on.
    pub fn upgrade(&mut self) -> Result<Arc<Manifest>, FolderError> {
        self.commit(Manifest { version: FormatVersion::NEWEST, ..Manifest::clone(&self.manifest) })
    }

    /// An error where the folder is of a format that this version reads and does not write.
    pub fn is_written_here(&self, version: FormatVersion) -> Result<(), FolderError> {
        if !version.is_older() {
            return Ok(());
        }
        let dir = self.files.dir().display().to_string();
        Err(FolderError::Older { dir, found: version.number(), needed: MANIFEST_VERSION })
    }

    /// Removes what was written since the last commit, such as when a checkpoint is given up.
    pub fn discard(&mut self) {
        for name in std::mem::take(&mut self.fresh) {
            self.remove(&name);
        }
    }

    /// Removes files that nobody reads any more. Every commit does so too.
    pub fn sweep(&mut self) {
        self.replaced.retain(|manifest| Arc::strong_count(manifest) > 1);
        let read: BTreeSet<&str> =
            self.replaced.iter().flat_map(|manifest| manifest.files()).map(|(file, _)| file.name.as_str()).collect();
        let (stay, go) = std::mem::take(&mut self.leaving).into_iter().partition(|name| read.contains(name.as_str()));
        self.leaving = stay;
        let go: BTreeSet<String> = go;
        for name in go {
            self.remove(&name);
        }
    }

    /// What is not removed now is tried again at the next sweep, and at the next start.
    fn remove(&mut self, name: &str) {
        // Of a poisoned folder nobody knows which manifest a crash would leave: each keeps its files.
        if self.poison.is_some() {
            return;
        }
        let path = self.files.path(name);
        match self.files.fs.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "a file that is no longer needed stays for now");
                self.leaving.insert(name.to_owned());
            }
            _ => {}
        }
    }

    fn new_name(&mut self, prefix: &str, kind: Kind) -> String {
        let name = name::file_name(prefix, self.next_file, kind);
        self.next_file = self.next_file.saturating_add(1);
        name
    }

    /// What must hold of the next manifest.
    fn check(&self, manifest: &Manifest) -> Result<(), String> {
        manifest.check()?;
        if manifest.log_id == self.manifest.log_id && manifest.applied < self.manifest.applied {
            return Err(format!(
                "the checkpoint would go back from record {} to {}",
                self.manifest.applied, manifest.applied
            ));
        }
        let before: BTreeSet<&str> = self.manifest.files().map(|(file, _)| file.name.as_str()).collect();
        for (file, _) in manifest.files() {
            if !before.contains(file.name.as_str()) && !self.fresh.contains(&file.name) {
                return Err(format!("the checkpoint names `{}`, which is not there", file.name));
            }
        }
        Ok(())
    }

    /// Writes the manifest beside the one in force, and takes its place.
    fn replace_manifest(&mut self, manifest: &Manifest) -> Result<(), FolderError> {
        let bytes = manifest.encode().map_err(FolderError::Unsound)?;
        self.write_new(MANIFEST_PART, &bytes)?;
        let path = self.files.path(MANIFEST);
        match self.files.fs.rename(&self.files.path(MANIFEST_PART), &path) {
            Ok(()) => {}
            // Without room, and where nothing may be written, nothing was done.
            Err(error) if not_begun(&error) => {
                self.discard();
                return Err(FolderError::io("replace", path)(error));
            }
            Err(error) => return Err(self.poisoned(format!("replacing {} failed: {error}", path.display()))),
        }
        self.fresh.remove(MANIFEST_PART);
        let synced = self.sync_folder("after a checkpoint");
        if synced.is_err() {
            self.unsure.append(&mut self.fresh);
        }
        synced
    }

    /// A new file, whole and synced; its name is not.
    fn write_new(&mut self, name: &str, bytes: &[u8]) -> Result<(), FolderError> {
        self.alive()?;
        let path = self.files.path(name);
        let fs = Arc::clone(&self.files.fs);
        let made = fs.create(&path).or_else(|error| match error.kind() {
            // Left by a checkpoint that failed. Other names are never given twice.
            io::ErrorKind::AlreadyExists if name == MANIFEST_PART => fs.remove(&path).and_then(|()| fs.create(&path)),
            _ => Err(error),
        });
        let mut file = match made {
            Ok(file) => file,
            Err(error) => {
                self.discard();
                return Err(FolderError::io("make", path)(error));
            }
        };
        self.fresh.insert(name.to_owned());
        self.leaving.remove(name);
        if let Err(error) = file.write_all(bytes) {
            self.discard();
            return Err(FolderError::io("write", path)(error));
        }
        file.sync_data().map_err(|error| self.poisoned(format!("syncing {} failed: {error}", path.display())))
    }

    fn sync_folder(&mut self, when: &str) -> Result<(), FolderError> {
        let synced = self.files.fs.sync_dir(self.files.dir());
        synced.map_err(|error| {
            if out_of_handles(&error) {
                return FolderError::io("sync the folder", self.files.dir())(error);
            }
            let dir = self.files.dir().display().to_string();
            self.poisoned(format!("syncing the folder {dir} {when} failed: {error}"))
        })
    }

    fn poisoned(&mut self, reason: String) -> FolderError {
        tracing::error!(reason, "the store has stopped");
        let reason: Arc<str> = reason.into();
        self.poison = Some(Arc::clone(&reason));
        FolderError::Poisoned { reason }
    }

    fn alive(&self) -> Result<(), FolderError> {
        match &self.poison {
            Some(reason) => Err(FolderError::Poisoned { reason: Arc::clone(reason) }),
            None => Ok(()),
        }
    }
}

fn not_begun(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::ReadOnlyFilesystem
    )
}

pub(crate) fn read_manifest(fs: &dyn FileSystem, dir: &Path, name: &str) -> Result<Manifest, FolderError> {
    let path = dir.join(name);
    let damaged = |what: String| FolderError::from(Damage { file: path.clone(), what, affected: None });
    let bytes = match fs.read(&path, limits::MANIFEST_BYTES_MAX as u64) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(damaged(error.to_string())),
        Err(error) => return Err(FolderError::io("read", path)(error)),
    };
    match Manifest::decode(&bytes) {
        Ok(manifest) => Ok(manifest),
        Err(ManifestFault::Damaged(what)) => Err(damaged(what)),
        Err(ManifestFault::Newer(found)) => {
            Err(FolderError::Newer { what: path.display().to_string(), found, known: MANIFEST_VERSION })
        }
    }
}
