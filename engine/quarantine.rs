//! `Quarantine`: copies of damaged bytes in the folder `quarantine` under the data folder, each with a report beside it, so
//! that they can be looked at when the log has forgotten its segment and the store its file. Nothing is ever removed from it.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use tidewatch_log::{FileSystem, Lost};
use tidewatch_model::{Clock, EventTime, Minute};
use tidewatch_store::{Damage, Manifest};

use crate::core::{DamagedPart, FoundDamage};

const FOLDER: &str = "quarantine";

/// How much is copied at once.
const COPY_BYTES: usize = 1 << 20;

#[derive(Clone)]
pub struct Quarantine {
    disk: Arc<dyn FileSystem>,
    data_dir: PathBuf,
    clock: Arc<dyn Clock>,
}

impl Quarantine {
    pub fn new(disk: Arc<dyn FileSystem>, data_dir: &Path, clock: Arc<dyn Clock>) -> Self {
        Self { disk, data_dir: data_dir.to_owned(), clock }
    }

    /// Takes in a damaged stretch of the log, of which events of these minutes may have been lost.
    pub fn log(&self, lost: &Lost, minutes: (Option<Minute>, Option<Minute>)) -> FoundDamage {
        let last = tidewatch_model::Lsn(lost.next.0.saturating_sub(1));
        self.take(FoundDamage {
            found_at: self.now(),
            part: DamagedPart::Log,
            file: self.under_data(&lost.file),
            offset: Some(lost.offset),
            bytes: Some(lost.bytes),
            of: None,
            lsns: (lost.next > lost.first).then_some((lost.first, last)),
            records: lost.records(),
            rows: None,
            minutes,
            reason: lost.reason.clone(),
            quarantined_as: None,
        })
    }

    /// Takes in a damaged file of the store.
    pub fn stored(&self, damage: &Damage, manifest: &Manifest) -> FoundDamage {
        let owner = manifest.owner(&damage.file);
        let affected = damage.affected;
        self.take(FoundDamage {
            found_at: self.now(),
            part: DamagedPart::Segment,
            file: self.under_data(&damage.file),
            offset: None,
            bytes: owner.map(|(_, segment)| segment.file.bytes),
            of: owner.map(|(name, _)| name.to_owned()),
            lsns: owner.map(|(_, segment)| segment.lsns),
            records: None,
            rows: affected.map(|affected| affected.rows),
            minutes: affected.map_or((None, None), |of| (Some(of.minutes.0), Some(of.minutes.1))),
            reason: damage.what.clone(),
            quarantined_as: None,
        })
    }

    /// Moves a file of the data folder into the quarantine; one that is not there is fine.
    pub fn set_aside(&self, file: &Path) -> io::Result<()> {
        let folder = self.data_dir.join(FOLDER);
        self.disk.create_dir(&folder)?;
        let there = self.disk.list(&folder)?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let mut names = std::iter::once(name.to_string()).chain((2..).map(|number| format!("{name}.{number}")));
        let Some(name) = names.find(|name| !there.contains(name)) else { return Ok(()) };
        match self.disk.rename(file, &folder.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => self.disk.sync_dir(&folder),
        }
    }

    fn now(&self) -> EventTime {
        self.clock.now()
    }

    /// Names in tables and reports are as people see them from the data folder.
    fn under_data(&self, file: &Path) -> String {
        file.strip_prefix(&self.data_dir).unwrap_or(file).display().to_string()
    }

    /// Copies what is damaged, and tells people. A copy that cannot be made keeps nothing from going on.
    fn take(&self, mut damage: FoundDamage) -> FoundDamage {
        match self.copied(&mut damage) {
            Ok(()) => tracing::error!(
                file = damage.file,
                reason = damage.reason,
                quarantined_as = damage.quarantined_as,
                "damage was found; the table `damages` says what is missing, and everything else is served"
            ),
            Err(error) => tracing::error!(
                file = damage.file,
                reason = damage.reason,
                %error,
                "damage was found, and could not be copied into the quarantine; the table `damages` says what is missing"
            ),
        }
        damage
    }

    fn copied(&self, damage: &mut FoundDamage) -> io::Result<()> {
        let folder = self.data_dir.join(FOLDER);
        self.disk.create_dir(&folder)?;
        let source = self.data_dir.join(&damage.file);
        let name = Path::new(&damage.file).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = damage.offset.map_or_else(|| name.clone(), |offset| format!("{name}.at-{offset}"));
        let there = self.disk.list(&folder)?;
        if there.contains(&name) || self.copy(&source, damage, &folder, &name)? {
            damage.quarantined_as = Some(format!("{FOLDER}/{name}"));
        }
        let report = format!("{name}.json");
        if !there.contains(&report) {
            let mut text = serde_json::to_vec_pretty(&damage.report())?;
            text.push(b'\n');
            self.put(&folder, &report, &mut |file| file.write_all(&text))?;
        }
        Ok(())
    }

    /// False where there is nothing to copy.
    fn copy(&self, source: &Path, damage: &FoundDamage, folder: &Path, name: &str) -> io::Result<bool> {
        let file = match self.disk.open(source) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let (from, length) = (damage.offset.unwrap_or_default(), file.len()?);
        // A stretch of the log is copied alone, a file of the store as it is.
        let to = damage.offset.and(damage.bytes).map_or(length, |bytes| from.saturating_add(bytes).min(length));
        if from >= to {
            return Ok(false);
        }
        self.put(folder, name, &mut |copy| {
            let mut at = from;
            while at < to {
                let mut bytes = vec![0; usize::try_from(to - at).unwrap_or(COPY_BYTES).min(COPY_BYTES)];
                file.read_exact_at(at, &mut bytes)?;
                copy.write_all(&bytes)?;
                at += bytes.len() as u64;
            }
            Ok(())
        })?;
        Ok(true)
    }

    /// A new file, under another name first, so that a crash leaves no half of it.
    fn put(
        &self,
        folder: &Path,
        name: &str,
        write: &mut dyn FnMut(&mut dyn tidewatch_log::WriteFile) -> io::Result<()>,
    ) -> io::Result<()> {
        let part = folder.join(format!("{name}.part"));
        match self.disk.remove(&part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = self.disk.create(&part)?;
        write(&mut *file)?;
        file.sync_data()?;
        self.disk.rename(&part, &folder.join(name))?;
        self.disk.sync_dir(folder)
    }
}
