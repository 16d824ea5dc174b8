//! Looks at every byte of a data folder: the log, the store, and the secret. It changes nothing.

use std::{io, path::Path, sync::Arc};

use anyhow::Context;
use tidewatch_log::{Contained, FileSystem, Lost, Survey, Tail, survey as survey_log};
use tidewatch_model::Lsn;
use tidewatch_store::{Damage, Manifest, ManifestFound, StoreSurvey, survey as survey_store};

use super::{Action, Finding, Remedy};
use crate::{checkpoint::state_file, id_secret};

const RESTORE: &str = "Restore the data folder from a backup (`tidewatch restore`) if this must not be missing";

/// A data folder, and all that was found in it.
#[derive(Debug)]
pub struct Examination {
    pub store: StoreSurvey,
    /// `None` where the log cannot be read at all; a finding says why.
    pub log: Option<Survey>,
    pub findings: Vec<Finding>,
}

impl Examination {
    pub fn is_sound(&self) -> bool {
        !self.findings.iter().any(Finding::is_a_fault)
    }

    /// What a repair would do; each once.
    pub fn actions(&self) -> Vec<Action> {
        let actions = self.findings.iter().filter_map(|finding| match &finding.remedy {
            Remedy::Repair(action) => Some(action.clone()),
            Remedy::NotNeeded(_) | Remedy::Impossible(_) => None,
        });
        let mut actions: Vec<Action> = actions.collect();
        actions.sort();
        actions.dedup();
        // It makes the others needless.
        if actions.first() == Some(&Action::RebuildFromLog) {
            actions.truncate(1);
        }
        actions
    }
}

/// Examines a data folder that nobody else uses.
///
/// # Errors
/// The disk does not answer, or a newer version wrote the folder.
pub fn examine(disk: &Arc<dyn FileSystem>, data_dir: &Path) -> anyhow::Result<Examination> {
    let store = survey_store(disk, &data_dir.join("store")).context("the store cannot be examined")?;
    let manifest = store.manifest().filter(|manifest| !manifest.is_blank()).cloned();
    let contained = Contained {
        log_id: manifest.as_ref().map(|manifest| manifest.log_id),
        before: manifest.as_ref().map_or(Lsn(0), |manifest| manifest.applied.next()),
    };
    let mut examiner = Examiner { disk, data_dir, findings: Vec::new() };
    let log = examiner.log(contained)?;
    if let (Some(log), Some(manifest)) = (&log, &manifest) {
        examiner.together(log, manifest);
    }
    let whole_log = log.as_ref().is_some_and(|log| reaches_back(log, manifest.as_deref()));
    examiner.store(&store, whole_log)?;
    examiner.secret(&store, log.as_ref())?;
    examiner.names()?;
    let findings = examiner.findings;
    Ok(Examination { store, log, findings })
}

/// Whether the log alone has everything that ever was.
fn reaches_back(log: &Survey, manifest: Option<&Manifest>) -> bool {
    log.first == Lsn(1)
        && log.next > Lsn(1)
        && log.lost.is_empty()
        && log.tail != Tail::Damaged
        && manifest.is_none_or(|of| log.log_id == Some(of.log_id) && log.next > of.applied)
}

struct Examiner<'a> {
    disk: &'a Arc<dyn FileSystem>,
    data_dir: &'a Path,
    findings: Vec<Finding>,
}

impl Examiner<'_> {
    fn found(&mut self, place: impl Into<String>, what: impl Into<String>, remedy: Remedy) {
        self.findings.push(Finding::new(place, what, remedy));
    }

    fn place(&self, file: &Path) -> String {
        file.strip_prefix(self.data_dir).unwrap_or(file).display().to_string()
    }

    fn log(&mut self, contained: Contained) -> anyhow::Result<Option<Survey>> {
        let dir = self.data_dir.join("log");
        match self.disk.list(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot list {}", dir.display())),
            Ok(_) => {}
        }
        let survey = match survey_log(&**self.disk, &dir, contained, Lsn(0)) {
            Ok(survey) => survey,
            Err(tidewatch_log::LogError::Damaged(damage)) => {
                let what = format!(
                    "{}. No other file says which log this is, so no record of it can be told from a stranger's, and \
                     the engine does not start.",
                    sentence(&damage.reason)
                );
                self.found(self.place(&damage.file), what, Remedy::Impossible(RESTORE.to_owned()));
                return Ok(None);
            }
            Err(error) => return Err(error).context("the log cannot be examined"),
        };
        for lost in &survey.lost {
            self.lost(lost, contained.before);
        }
        if let Tail::Torn(cut) | Tail::Unborn(cut) = &survey.tail {
            let what = format!(
                "The last {} bytes were being written when the engine was killed, and nobody was told that they were \
                 safe.",
                cut.bytes
            );
            let why = "the next start cuts them off".to_owned();
            self.found(format!("{} from byte {}", self.place(&cut.file), cut.offset), what, Remedy::NotNeeded(why));
        }
        Ok(Some(survey))
    }

    fn lost(&mut self, lost: &Lost, before: Lsn) {
        let place = format!("{}, {} bytes from byte {}", self.place(&lost.file), lost.bytes, lost.offset);
        let why = sentence(&lost.reason);
        if !loses(lost, before) {
            let kept = match lost.records() {
                Some(0) => "no record is lost: those of this file are read under the damaged header",
                _ => "no record is lost: the checkpoint has what was there",
            };
            self.found(place, format!("{why}."), Remedy::NotNeeded(kept.to_owned()));
            return;
        }
        let first = lost.first.max(before);
        let held = lost.kind.map(|kind| format!(" It held {}.", kind.text())).unwrap_or_default();
        let gone = match lost.exact.then_some(lost.next.0 - first.0) {
            Some(1) => format!("Record {first} is lost."),
            Some(records) => format!("{records} records are lost, {first} to {}.", lost.next.0 - 1),
            None => format!("The records from {first} on are lost; how many there were cannot be known."),
        };
        let advice = format!(
            "nothing else here has these records. The engine starts all the same, serves everything else, keeps a copy in \
             `quarantine/` and says in the table `damages` which minutes may lack something. Senders that still have \
             the events can send them again under the same ids: what is counted already counts once. {RESTORE}"
        );
        self.found(place, format!("{why}. {gone}{held}"), Remedy::Impossible(advice));
    }

    /// Whether log and checkpoint belong together.
    fn together(&mut self, log: &Survey, manifest: &Manifest) {
        let next = manifest.applied.next();
        let problem = if log.log_id.is_some_and(|id| id != manifest.log_id) {
            "The log is not the one that the checkpoint was made of.".to_owned()
        } else if log.first > next {
            format!("The log begins with record {}, but the checkpoint ends before record {next}.", log.first)
        } else if log.next < next {
            format!("The log ends before record {}, but the checkpoint has the records before {next}.", log.next)
        } else {
            return;
        };
        let advice = "the engine does not start like this. Restore log and store from the same backup".to_owned();
        self.found("log", problem, Remedy::Impossible(advice));
    }

    fn store(&mut self, store: &StoreSurvey, whole_log: bool) -> anyhow::Result<()> {
        let from_log = |otherwise: String| match whole_log {
            true => Remedy::Repair(Action::RebuildFromLog),
            false => Remedy::Impossible(otherwise),
        };
        if let ManifestFound::Damaged(damage) = &store.manifest {
            let what = format!(
                "{}. Without it no file of the store counts, and the engine does not start.",
                sentence(&damage.what)
            );
            let remedy = match &store.next {
                Some(_) => Remedy::Repair(Action::UseNextManifest),
                None => from_log(format!(
                    "the log no longer has every record from the first on, so nothing can be built anew. {RESTORE}"
                )),
            };
            self.found(self.place(&damage.file), what, remedy);
        }
        if let Some(manifest) = store.manifest() {
            for damage in &store.damaged {
                let (what, remedy) = stored(damage, manifest, &from_log);
                self.found(self.place(&damage.file), what, remedy);
            }
            self.blobs(store, manifest, &from_log)?;
            if let Some(one) = store.unnamed.first() {
                let more = match store.unnamed.len() - 1 {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                let what = "The manifest names no such file: a checkpoint that was replaced or not finished left it.";
                let why = "the next start removes it".to_owned();
                self.found(format!("store/{one}{more}"), what, Remedy::NotNeeded(why));
            }
        }
        for name in &store.foreign {
            let why = "it is left alone".to_owned();
            self.found(format!("store/{name}"), "This file is none of the store's.", Remedy::NotNeeded(why));
        }
        Ok(())
    }

    /// Blobs whose bytes are right must also be understood.
    fn blobs(
        &mut self,
        store: &StoreSurvey,
        manifest: &Manifest,
        from_log: &dyn Fn(String) -> Remedy,
    ) -> anyhow::Result<()> {
        let dir = self.data_dir.join("store");
        let whole = |name: &str| !store.damaged.iter().any(|damage| damage.file == dir.join(name));
        let read = |file: &tidewatch_store::FileEntry| {
            self.disk
                .read(&dir.join(&file.name), file.bytes)
                .with_context(|| format!("cannot read store/{}", file.name))
        };
        let mut wrong = Vec::new();
        if let Some(state) = manifest.state.as_ref().filter(|state| whole(&state.name)) {
            wrong.extend(state_file::decode_state(&read(state)?).err().map(|error| (state.name.clone(), error)));
        }
        for run in manifest.id_runs.iter().filter(|run| whole(&run.file.name)) {
            wrong.extend(state_file::decode_ids(&read(&run.file)?).err().map(|error| (run.file.name.clone(), error)));
        }
        for (name, error) in wrong {
            let what = format!("The bytes are those that were written, but they are not understood: {error}.");
            self.found(format!("store/{name}"), what, from_log(format!("the engine does not start. {RESTORE}")));
        }
        Ok(())
    }

    /// The secret belongs to the data: without it ids that look like card numbers count again when they are sent again.
    fn secret(&mut self, store: &StoreSurvey, log: Option<&Survey>) -> anyhow::Result<()> {
        let has_data =
            store.manifest().is_some_and(|manifest| !manifest.is_blank()) || log.is_some_and(|log| log.next > Lsn(1));
        let restore = "restore it from a backup before the next start; it cannot be made again";
        match id_secret::found(&**self.disk, self.data_dir).context("the secret cannot be examined")? {
            id_secret::Found::Whole => {}
            id_secret::Found::Missing if !has_data => {}
            id_secret::Found::Missing => {
                let what = "There is data, but not the secret behind the tags of masked event ids. The next start makes \
                            a new one, and masked ids that are sent again then count again.";
                self.found(id_secret::FILE_NAME, what, Remedy::Impossible(restore.to_owned()));
            }
            id_secret::Found::Damaged { bytes } => {
                let what = format!("The secret has {bytes} bytes and is damaged; the engine does not start.");
                self.found(id_secret::FILE_NAME, what, Remedy::Impossible(restore.to_owned()));
            }
        }
        Ok(())
    }

    /// Files in the data folder itself.
    fn names(&mut self) -> anyhow::Result<()> {
        let names =
            self.disk.list(self.data_dir).with_context(|| format!("cannot list {}", self.data_dir.display()))?;
        let ours = ["LOCK", "RESTORING", "alerts.jsonl", id_secret::FILE_NAME, "id.part"];
        for name in names.into_iter().filter(|name| !ours.contains(&name.as_str())) {
            let why = "it is left alone".to_owned();
            self.found(name, "This file is none of the engine's.", Remedy::NotNeeded(why));
        }
        Ok(())
    }
}

/// Whether records are missing for the sake of a damage: those before `before` a checkpoint has.
pub fn loses(lost: &Lost, before: Lsn) -> bool {
    lost.records().is_none_or(|records| records > 0 && lost.next > before)
}

/// What a damaged file of the store takes away, and what can be done.
fn stored(damage: &Damage, manifest: &Manifest, from_log: &dyn Fn(String) -> Remedy) -> (String, Remedy) {
    let why = sentence(&damage.what);
    let (Some((owner, segment)), Some(affected)) = (manifest.owner(&damage.file), damage.affected) else {
        let what = format!("{why}. It holds what the engine cannot do without, so the engine does not start.");
        return (
            what,
            from_log(format!(
                "the log no longer has every record from the first on, so nothing can be built anew. {RESTORE}"
            )),
        );
    };
    let (oldest, newest) = affected.minutes;
    let (oldest, newest) = (oldest.start(), newest.start());
    if manifest.tables.contains_key(owner) {
        let what = format!("{why}. {} rows of the table `{owner}`, {oldest} to {newest}, are missing.", affected.rows);
        let from_log = from_log(String::new());
        let drop = Remedy::Repair(Action::DropTableSegment(segment.file.name.clone()));
        return (what, if matches!(from_log, Remedy::Repair(_)) { from_log } else { drop });
    }
    let what = format!(
        "{why}. {} rows of the view `{owner}` are missing, so its minutes {oldest} to {newest} are not served: half a sum \
         would be a wrong number. Everything else is.",
        affected.rows
    );
    let otherwise = format!(
        "the log no longer has every record from the first on, from which alone these rows could be made. The file stays \
         where it is, so that no minute is served in part. {RESTORE}"
    );
    (what, from_log(otherwise))
}

/// With a capital letter.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
