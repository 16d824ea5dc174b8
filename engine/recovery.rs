//! What a start finds on disk: the newest checkpoint, and the records of the log that came after it. Applied one after
//! the other they give the state as it was, and what is still owed.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context, bail};
use arrow::{array::AsArray, compute, datatypes::TimestampMicrosecondType};
use tidewatch_alerts::RetryPolicy;
use tidewatch_log::{DecodeError, FileSystem, LogError, Lost, Reader, Record, RecordKind, Schemas};
use tidewatch_model::{EventTime, Lsn, Minute};
use tidewatch_store::{Findings, Folder};
use tidewatch_views::Stream;

use crate::{
    checkpoint::{self, Restored},
    core::{CoreLimits, FoundDamage, Plan, Recollection},
    quarantine::Quarantine,
};

/// Which records the log holds, and where.
pub struct Found {
    pub disk: Arc<dyn FileSystem>,
    pub dir: PathBuf,
    pub id: u64,
    pub first: Lsn,
    pub last: Lsn,
    /// What of them is damaged.
    pub lost: Vec<Lost>,
}

/// The state as the newest checkpoint and the log after it left it.
pub fn recover(
    plan: &Plan,
    limits: CoreLimits,
    retry: RetryPolicy,
    folder: &Folder,
    log: &Found,
    quarantine: &Quarantine,
) -> anyhow::Result<Restored> {
    let manifest = folder.manifest();
    let mut restored = checkpoint::restore(folder, &manifest, plan, limits, retry)?;
    let next = restored.next();
    let retired = restored.core.retire_gone_rules();
    restored.owed.add(retired);
    follows(log, manifest.log_id, next)?;
    let schemas = || -> Schemas { [Arc::clone(&plan.stream.schema)].into_iter().collect() };
    let records = || Reader::open(Arc::clone(&log.disk), &log.dir, log.id, (next, log.last), schemas());
    let mut recollection = Recollection::default();
    for record in records()?.only(RecordKind::Journal) {
        if let Some((_, Record::Journal(journal))) = understood(record)? {
            recollection.recall(&journal)?;
        }
    }
    restored.core.know(recollection.take_known());
    let mut gaps = Gaps::default();
    for record in records()? {
        if let Err(LogError::Lost(lost)) = &record {
            gaps.met(lost, restored.core.operator().watermark());
        }
        let Some((lsn, record)) = understood(record)? else { continue };
        gaps.went_on(&record, &plan.stream);
        match restored.core.apply(lsn, &record) {
            Ok(effects) => restored.owed.caused(&effects),
            Err(error) => {
                tracing::error!(%lsn, %error, "a record in the log could not be applied; its events are not counted")
            }
        }
    }
    let mut damages: Vec<FoundDamage> = log.lost.iter().map(|lost| gaps.told(lost, next, quarantine)).collect();
    let stored = folder.findings().damaged.clone().into_iter().chain(restored.cold.take_damages());
    damages.extend(stored.map(|damage| quarantine.stored(&damage, &manifest)));
    restored.core.note_damages(damages);
    restored.owed.recall(&recollection);
    recollection.take_outbox().into_iter().for_each(|event| restored.deliveries.take_in(event));
    Ok(restored)
}

/// Where records of the log are missing, and which minutes their events may have been of.
#[derive(Default)]
struct Gaps {
    gaps: Vec<Gap>,
    /// The oldest event of the newest record that has any.
    oldest: Option<Minute>,
}

struct Gap {
    lost: Lost,
    /// The watermark's before: what is older would have been late. In a replay, that of the oldest event just before.
    from: Option<Minute>,
    /// The newest of the events that came next.
    to: Option<Minute>,
}

impl Gaps {
    fn met(&mut self, lost: &Lost, watermark: Option<EventTime>) {
        let from = watermark.map(EventTime::minute).or(self.oldest);
        self.gaps.push(Gap { lost: lost.clone(), from, to: None });
    }

    fn went_on(&mut self, record: &Record, stream: &Stream) {
        let Record::Events(events) = record else { return };
        let times = events.rows.column(stream.schema.event_time()).as_primitive_opt::<TimestampMicrosecondType>();
        let minute = |micros| EventTime::from_micros(micros).minute();
        let Some(newest) = times.and_then(compute::max).map(minute) else { return };
        self.oldest = times.and_then(compute::min).map(minute);
        let open = self.gaps.iter_mut().rev().take_while(|gap| gap.to.is_none());
        open.for_each(|gap| gap.to = gap.from.max(Some(newest)));
    }

    /// A damage of the log as it is told: what a checkpoint has is not missing for its sake.
    fn told(&self, lost: &Lost, next: Lsn, quarantine: &Quarantine) -> FoundDamage {
        let gap = self.gaps.iter().find(|gap| (&gap.lost.file, gap.lost.offset) == (&lost.file, lost.offset));
        let of_events = lost.kind.is_none_or(|kind| kind == RecordKind::Events);
        let minutes = gap.filter(|_| of_events).map_or((None, None), |gap| (gap.from, gap.to));
        let mut lost = lost.clone();
        if lost.next <= next && lost.exact {
            lost.first = lost.next;
            lost.reason.push_str("; the checkpoint has what it held");
        }
        lost.first = lost.first.max(next).min(lost.next);
        if let Some(kind) = lost.kind {
            lost.reason = format!("{}; it held {}", lost.reason, kind.text());
        }
        quarantine.log(&lost, minutes)
    }
}

/// A record without meaning is told of and left out, and so are those that are lost: the survey told of them.
fn understood<T>(record: Result<T, LogError>) -> anyhow::Result<Option<T>> {
    match record {
        Ok(record) => Ok(Some(record)),
        // Left out, it would be missing from the next checkpoint as well.
        Err(error @ LogError::Undecodable { source: DecodeError::Newer { .. }, .. }) => {
            Err(error).context("the log cannot be read; nothing was changed")
        }
        Err(error @ LogError::Undecodable { .. }) => {
            tracing::error!(%error, "a record of the log is left out: it is not understood");
            Ok(None)
        }
        Err(LogError::Lost(_)) => Ok(None),
        Err(error) => Err(error).context("the log cannot be read; nothing was changed"),
    }
}

/// Whether the log goes on where the checkpoint ends.
fn follows(log: &Found, checkpointed: u64, next: Lsn) -> anyhow::Result<()> {
    let dir = log.dir.display();
    if next > Lsn(1) && checkpointed != log.id {
        bail!("the log in {dir} is not the one that the checkpoint was made of; restore both from the same backup");
    }
    if log.first > next {
        bail!(
            "the log in {dir} begins with record {}, but the checkpoint ends before record {next}; restore both from the \
             same backup",
            log.first
        );
    }
    if log.last.next() < next {
        bail!(
            "the log in {dir} ends with record {}, but the checkpoint contains records up to the one before {next}; \
             restore both from the same backup",
            log.last
        );
    }
    Ok(())
}

/// Tells people what opening the store found.
pub fn report(findings: &Findings) {
    for name in &findings.foreign {
        tracing::warn!(name, "a file in the store's folder is none of the store's; it is left alone");
    }
    if !findings.removed.is_empty() {
        tracing::info!(files = findings.removed.len(), "files of a checkpoint that was not finished were removed");
    }
}
