//! Writes checkpoints: what is new goes into new files, and the manifest then names them all at once. After an error the
//! checkpoint before stays in force, and the same call can be made again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use arrow::{array::RecordBatch, error::ArrowError};
use tidewatch_alerts::Outbox;
use tidewatch_model::{Lsn, Minute, Window, limits};
use tidewatch_store::{
    Cold, Contents, Damage, Folder, FolderError, IdRun, Manifest, MergePolicy, Misfit, NoRoom, Segment, StoredView,
    ViewFrames, divided, in_turn, plan, plan_windows,
};
use tidewatch_views::{PartialRows, View, with_roll_ups};

use super::{CheckpointError, FrameDescription, owner, parts, state_file};
use crate::{
    core::{FoundDamage, SavedCore, SavedTable, SavedView},
    owed::Owed,
    quarantine::Quarantine,
};

/// What is saved beside the core.
#[derive(Debug)]
pub struct Rest {
    /// `OwedState` as JSON.
    owed: Vec<u8>,
    /// `OutboxState` as JSON.
    deliveries: Vec<u8>,
}

impl Rest {
    pub fn of(owed: &Owed, deliveries: &Outbox) -> Result<Self, serde_json::Error> {
        Ok(Self { owed: serde_json::to_vec(&owed.save())?, deliveries: serde_json::to_vec(&deliveries.save())? })
    }
}

#[derive(Debug)]
pub struct Checkpoints {
    folder: Folder,
    log_id: u64,
    /// Roll-ups stand behind the views.
    views: Vec<ViewFrames>,
    cold: Cold,
    /// Rows of each table that people were told will not be on disk.
    lost: BTreeMap<&'static str, u64>,
    /// Names of segments that were found damaged when they should be merged: they stay as they are.
    damaged: BTreeSet<String>,
    disk_bytes_max: u64,
}

impl Checkpoints {
    /// `cold` is what was restored.
    pub fn new(folder: Folder, log_id: u64, views: &[Arc<View>], cold: Cold) -> Result<Self, CheckpointError> {
        let views = with_roll_ups(views).into_iter().map(ViewFrames::new).collect::<Result<_, _>>()?;
        Ok(Self {
            folder,
            log_id,
            views,
            cold,
            lost: BTreeMap::new(),
            damaged: BTreeSet::new(),
            disk_bytes_max: u64::MAX,
        })
    }

    /// All files together should have no more bytes.
    #[must_use]
    pub fn with_disk_bytes_max(self, disk_bytes_max: u64) -> Self {
        Self { disk_bytes_max, ..self }
    }

    pub fn bytes(&self) -> u64 {
        tidewatch_store::bytes_of(&self.folder.manifest())
    }

    /// Where the files have more bytes than they should: everything older than this must go. It goes with the next checkpoint,
    /// because what the engine knows of it must go at the same time.
    pub fn no_room(&self) -> Option<NoRoom> {
        let window = |name: &str| {
            let stored = self.views.iter().find(|frames| frames.name() == name);
            stored.map_or(Window::Minute, ViewFrames::window)
        };
        tidewatch_store::over(&self.folder.manifest(), self.disk_bytes_max, window)
    }

    /// What is on disk by now.
    pub fn cold(&self) -> Cold {
        self.cold.with_manifest(self.folder.manifest())
    }

    /// What readers found damaged since the last call, with copies in the quarantine.
    pub fn damages(&self, quarantine: &Quarantine) -> Vec<FoundDamage> {
        let (manifest, found) = (self.folder.manifest(), self.cold.take_damages());
        found.iter().map(|damage| quarantine.stored(damage, &manifest)).collect()
    }

    /// The first record of the log that a start, or who copies a checkpoint, still needs.
    pub fn log_from(&self) -> Lsn {
        self.folder.pins().log_from()
    }

    /// When this returns, a restart needs no record of the log up to `saved.applied`.
    pub fn write(&mut self, saved: &SavedCore, rest: &Rest) -> Result<(), CheckpointError> {
        let before = self.folder.manifest();
        let lsns = (before.applied.next(), saved.applied);
        let mut next = Manifest { log_id: self.log_id, applied: saved.applied, ..Manifest::clone(&before) };
        next.views = Default::default();
        for at in 0..self.views.len() {
            if let (Some(frames), Some(view)) = (self.views.get(at), saved.views.get(at)) {
                let name = frames.name().to_owned();
                let stored = self.write_view(at, before.views.get(&name), view, lsns)?;
                next.views.insert(name, stored);
            }
        }
        for table in &saved.tables {
            let segments = next.tables.remove(table.name).unwrap_or_default();
            let segments = self.write_table(segments, table, lsns)?;
            next.tables.insert(table.name.to_owned(), segments);
        }
        next.id_runs = self.write_ids(next.id_runs, saved)?;
        next.state = Some(self.folder.write_blob("state", &state_bytes(&self.views, saved, rest)?)?);
        self.folder.commit(next)?;
        Ok(())
    }

    fn write_view(
        &mut self,
        at: usize,
        before: Option<&StoredView>,
        saved: &SavedView,
        lsns: (Lsn, Lsn),
    ) -> Result<StoredView, CheckpointError> {
        let Some(frames) = self.views.get(at) else { return Ok(StoredView::default()) };
        let fingerprint = frames.fingerprint();
        // Rows of another definition are gone with this checkpoint: the view was built anew.
        let mut segments = before
            .filter(|stored| stored.fingerprint == fingerprint)
            .map_or_else(Vec::new, |stored| stored.segments.clone());
        segments.retain(|segment| saved.held.meets(segment.minutes));
        let window = frames.window();
        let mut rows: BTreeMap<Minute, u64> = BTreeMap::new();
        let new = || saved.new.iter().map(AsRef::as_ref).filter(|rows: &&PartialRows| !rows.is_empty());
        new().for_each(|of| *rows.entry(window.number(of.minute())).or_default() += of.len() as u64);
        for (first, last) in divided(&rows, limits::MERGE_ROWS_MAX) {
            let part = new().filter(|rows| (first..=last).contains(&window.number(rows.minute())));
            if let Some(frame) = frames.write(part)? {
                let minutes = (window.first(first), window.first(last));
                let contents = Contents { minutes, lsns, level: 0 };
                segments.push(self.folder.write_segment(frames.name(), &[frame], contents)?);
            }
        }
        Segment::sort(&mut segments);
        Ok(StoredView { fingerprint, segments })
    }

    fn write_table(
        &mut self,
        segments: Vec<Segment>,
        saved: &SavedTable,
        lsns: (Lsn, Lsn),
    ) -> Result<Vec<Segment>, CheckpointError> {
        let told = self.lost.insert(saved.name, saved.lost).unwrap_or(0);
        if saved.lost > told {
            tracing::warn!(
                table = saved.name,
                rows = saved.lost - told,
                "rows came faster than checkpoints could hold; they are counted in the views and not kept as rows"
            );
        }
        let mut segments = segments;
        if let Some((from, to)) = saved.leaving {
            segments.retain(|segment| !(from..to).contains(&segment.minutes.1));
        }
        for (minutes, rows) in parts::of(&saved.new, saved.time, limits::MERGE_ROWS_MAX)? {
            let contents = Contents { minutes, lsns, level: 0 };
            segments.push(self.folder.write_segment(saved.name, &rows, contents)?);
        }
        Segment::sort(&mut segments);
        Ok(segments)
    }

    fn write_ids(&mut self, before: Vec<IdRun>, saved: &SavedCore) -> Result<Vec<IdRun>, CheckpointError> {
        let held = |run: &IdRun| {
            let from = saved.ids_from.iter().find(|(domain, _)| owner(*domain) == run.owner);
            from.and_then(|(_, from)| *from).is_some_and(|from| run.minutes.1 >= from)
        };
        let mut runs: Vec<IdRun> = before.into_iter().filter(held).collect();
        for ids in &saved.ids {
            let minutes = ids.runs.iter().map(|(minute, _)| *minute);
            let (Some(first), Some(last)) = (minutes.clone().min(), minutes.max()) else { continue };
            let file = self.folder.write_blob("ids", &state_file::encode_ids(&ids.runs))?;
            runs.push(IdRun { file, owner: owner(ids.domain), minutes: (first, last) });
        }
        Ok(runs)
    }

    /// Segments that were never merged.
    pub fn unmerged(&self) -> usize {
        self.folder.manifest().segments().filter(|segment| segment.level == 0).count()
    }

    /// Merges what has become many small segments, one merge at a time, and answers how many rows it read. `None` where
    /// nothing needs it.
    pub fn compact(&mut self) -> Result<Option<u64>, CheckpointError> {
        let policy = MergePolicy::default();
        let before = self.folder.manifest();
        let mut next = Manifest::clone(&before);
        let whole = |segment: &Segment| !self.damaged.contains(&segment.file.name);
        for frames in &self.views {
            let Some(stored) = next.views.get_mut(frames.name()) else { continue };
            let Some(merge) = plan_windows(frames.window(), &stored.segments, &policy, whole) else { continue };
            let inputs = merge.inputs_of(&stored.segments);
            let added_up = |segments: Vec<Vec<RecordBatch>>| {
                let mut minutes = Vec::new();
                for rows in segments {
                    minutes.extend(frames.read(&rows).map_err(external)?);
                }
                Ok(frames.write(&minutes).map_err(external)?.into_iter().collect())
            };
            return match self.folder.merge(frames.name(), &inputs, merge.level, added_up) {
                Ok(merged) => {
                    merge.apply(&mut stored.segments, merged);
                    self.merged(next, &inputs)
                }
                Err(error) => self.gone_around(error, &inputs),
            };
        }
        for (name, segments) in &mut next.tables {
            let Some(merge) = plan(segments, &policy, whole) else { continue };
            let inputs = merge.inputs_of(segments);
            return match self.folder.merge(name, &inputs, merge.level, in_turn) {
                Ok(merged) => {
                    merge.apply(segments, merged);
                    self.merged(next, &inputs)
                }
                Err(error) => self.gone_around(error, &inputs),
            };
        }
        Ok(None)
    }

    fn merged(&mut self, next: Manifest, inputs: &[Segment]) -> Result<Option<u64>, CheckpointError> {
        self.folder.commit(next)?;
        Ok(Some(rows_of(inputs)))
    }

    /// One damaged segment must not end all merging: it stays as it is, and the others are merged without it.
    fn gone_around(&mut self, error: FolderError, inputs: &[Segment]) -> Result<Option<u64>, CheckpointError> {
        let FolderError::Damaged(damage) = error else { return Err(error.into()) };
        if !named(&damage).is_some_and(|name| self.damaged.insert(name)) {
            return Err(FolderError::Damaged(damage).into());
        }
        self.cold.met(&damage);
        Ok(Some(rows_of(inputs)))
    }
}

fn rows_of(segments: &[Segment]) -> u64 {
    segments.iter().map(|segment| segment.rows).sum()
}

/// The name of the damaged file.
fn named(damage: &Damage) -> Option<String> {
    Some(damage.file.file_name()?.to_str()?.to_owned())
}

fn external(error: Misfit) -> ArrowError {
    ArrowError::ExternalError(Box::new(error))
}

fn state_bytes(views: &[ViewFrames], saved: &SavedCore, rest: &Rest) -> Result<Vec<u8>, CheckpointError> {
    let open = saved.open.iter().map(|open| FrameDescription {
        session: open.session,
        view: open.name.clone(),
        fingerprint: open.fingerprint,
        seen_before: None,
    });
    let mut described: Vec<FrameDescription> = open.collect();
    let mut frames: Vec<RecordBatch> = saved.open.iter().map(|open| open.frame.clone()).collect();
    for (view, seen) in views.iter().zip(&saved.views).filter_map(|(view, saved)| Some((view, saved.seen.as_ref()?))) {
        let (name, fingerprint) = (view.name().to_owned(), view.fingerprint());
        described.push(FrameDescription { session: None, view: name, fingerprint, seen_before: Some(seen.hour) });
        frames.push(view.write_seen(seen)?);
    }
    let not_understood = |source| CheckpointError::StateFile { file: "the state".to_owned(), source };
    let described = serde_json::to_vec(&described).map_err(|error| not_understood(error.into()))?;
    state_file::encode_state([&saved.state, &rest.owed, &rest.deliveries, &described], &frames).map_err(not_understood)
}
