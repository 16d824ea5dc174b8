//! Reads a checkpoint back: the core, what was owed, and the deliveries, as they were after the manifest's last record.

use std::sync::Arc;

use tidewatch_alerts::{Outbox, OutboxState, RetryPolicy};
use tidewatch_model::Lsn;
use tidewatch_store::{Cold, Folder, Manifest, SeenBefore, ViewFrames};
use tidewatch_views::{IdRuns, OpenFrame, View, with_roll_ups};

use super::{
    CheckpointError, FrameDescription, domain_of,
    state_file::{self, StateFileError},
};
use crate::{
    core::{Core, CoreLimits, CoreState, Plan, RestoredCore},
    owed::{Owed, OwedState},
};

/// The state after the records up to `core.applied()`.
#[derive(Debug)]
pub struct Restored {
    pub core: Core,
    pub owed: Owed,
    pub deliveries: Outbox,
    /// What is on disk, for whoever writes the next checkpoint.
    pub cold: Cold,
}

impl Restored {
    /// Before the first record.
    fn blank(plan: &Plan, limits: CoreLimits, retry: RetryPolicy, cold: Cold) -> Result<Self, CheckpointError> {
        Ok(Self { core: Core::new(plan, limits)?, owed: Owed::default(), deliveries: Outbox::new(retry), cold })
    }

    /// The next record that the state has not seen.
    pub fn next(&self) -> Lsn {
        self.core.applied().next()
    }
}

pub fn restore(
    folder: &Folder,
    manifest: &Arc<Manifest>,
    plan: &Plan,
    limits: CoreLimits,
    retry: RetryPolicy,
) -> Result<Restored, CheckpointError> {
    let cold = Cold::new(folder.files().clone(), Arc::clone(manifest), limits.cache_bytes_max);
    let Some(state) = &manifest.state else { return Restored::blank(plan, limits, retry, cold) };
    let views = with_roll_ups(&plan.views).into_iter().map(ViewFrames::new).collect::<Result<Vec<_>, _>>()?;
    let bytes = folder.read_blob(state)?;
    let not_understood = |source: StateFileError| CheckpointError::StateFile { file: state.name.clone(), source };
    let ([core, owed, deliveries, open], frames) = state_file::decode_state(&bytes).map_err(not_understood)?;
    let mut core: CoreState<'static> = serde_json::from_slice(core).map_err(|error| not_understood(error.into()))?;
    let owed: OwedState = serde_json::from_slice(owed).map_err(|error| not_understood(error.into()))?;
    let deliveries: OutboxState<'static> =
        serde_json::from_slice(deliveries).map_err(|error| not_understood(error.into()))?;
    let described: Vec<FrameDescription> =
        serde_json::from_slice(open).map_err(|error| not_understood(error.into()))?;
    let mut open = Vec::new();
    let mut seen: Vec<Option<SeenBefore>> = vec![None; views.len()];
    for (of, frame) in described.into_iter().zip(frames) {
        let ours = |view: &ViewFrames| view.name() == of.view && view.fingerprint() == of.fingerprint;
        let Some((at, view)) = views.iter().enumerate().find(|(_, view)| ours(view)) else { continue };
        match (of.seen_before, seen.get_mut(at)) {
            (Some(hour), Some(seen)) => *seen = Some(view.read_seen(hour, &frame)?),
            _ => open.push(OpenFrame {
                session: of.session,
                view: at,
                name: of.view,
                fingerprint: of.fingerprint,
                frame,
            }),
        }
    }
    let stored = |view: &ViewFrames| {
        let stored = manifest.views.get(view.name());
        stored.is_some_and(|stored| stored.fingerprint == view.fingerprint())
    };
    let changed: Vec<usize> = views.iter().enumerate().filter(|(_, view)| !stored(view)).map(|(at, _)| at).collect();
    // What a view of another definition held is not known for this one.
    core.held.retain(|(name, _)| !changed.iter().any(|at| views.get(*at).is_some_and(|view| view.name() == name)));
    let restored = RestoredCore {
        applied: manifest.applied,
        state: core,
        open,
        ids: read_ids(folder, manifest)?,
        seen,
        cold: cold.clone(),
    };
    let mut core = Core::restore(plan, limits, restored)?;
    for at in &changed {
        match roll_up_of(plan, &views, *at) {
            None => core.rebuild(*at)?,
            // A view that is built anew builds its roll-ups.
            Some(of) if changed.contains(&of) => {}
            Some(_) => core.build_roll_up(*at)?,
        }
    }
    Ok(Restored { core, owed: Owed::restore(owed), deliveries: Outbox::restore(retry, deliveries), cold })
}

/// The place of the view that the roll-up at a place is of; `None` where a view is there.
fn roll_up_of(plan: &Plan, stored: &[ViewFrames], at: usize) -> Option<usize> {
    let roll_up = stored.get(at).filter(|frames| frames.window().is_roll_up())?;
    let has = |view: &Arc<View>| view.roll_ups.iter().any(|of| of.meta.name == roll_up.name());
    plan.views.iter().position(has)
}

fn read_ids(folder: &Folder, manifest: &Manifest) -> Result<Vec<IdRuns>, CheckpointError> {
    let mut ids = Vec::with_capacity(manifest.id_runs.len());
    for run in &manifest.id_runs {
        let bytes = folder.read_blob(&run.file)?;
        let runs = state_file::decode_ids(&bytes)
            .map_err(|source| CheckpointError::StateFile { file: run.file.name.clone(), source })?;
        // The manifest is whole, so an owner that is no owner is of a newer version, and nobody's here.
        ids.extend(domain_of(&run.owner).map(|domain| IdRuns { domain, runs }));
    }
    Ok(ids)
}
