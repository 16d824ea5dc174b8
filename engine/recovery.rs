//! What a start finds on disk: the newest checkpoint, and the records of the log that came after it. Applied one after
//! the other they give the state as it was, and what is still owed.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context, bail};
use tidewatch_alerts::RetryPolicy;
use tidewatch_log::{FileSystem, LogError, Reader, Record, RecordKind, Schemas};
use tidewatch_model::Lsn;
use tidewatch_store::{Findings, Folder};

use crate::{
    checkpoint::{self, Restored},
    core::{CoreLimits, Plan, Recollection},
};

/// Which records the log holds, and where.
pub struct Found {
    pub disk: Arc<dyn FileSystem>,
    pub dir: PathBuf,
    pub id: u64,
    pub first: Lsn,
    pub last: Lsn,
}

/// The state as the newest checkpoint and the log after it left it.
pub fn recover(
    plan: &Plan,
    limits: CoreLimits,
    retry: RetryPolicy,
    folder: &Folder,
    log: &Found,
) -> anyhow::Result<Restored> {
    let manifest = folder.manifest();
    let mut restored = checkpoint::restore(folder, &manifest, plan, limits, retry)?;
    let next = restored.next();
    let retired = restored.core.retire_gone_rules();
    restored.owed.add(retired);
    follows(log, manifest.log_id, next)?;
    let schemas = || -> Schemas { [Arc::clone(&plan.stream.schema)].into_iter().collect() };
    let records = || Reader::open(Arc::clone(&log.disk), &log.dir, next, log.last, schemas());
    let mut recollection = Recollection::default();
    for record in records()?.only(RecordKind::Journal) {
        if let Some((_, Record::Journal(journal))) = understood(record)? {
            recollection.recall(&journal)?;
        }
    }
    restored.core.know(recollection.take_known());
    for record in records()? {
        let Some((lsn, record)) = understood(record)? else { continue };
        match restored.core.apply(lsn, &record) {
            Ok(effects) => restored.owed.caused(&effects),
            Err(error) => {
                tracing::error!(%lsn, %error, "a record in the log could not be applied; its events are not counted")
            }
        }
    }
    restored.owed.recall(&recollection);
    recollection.take_outbox().into_iter().for_each(|event| restored.deliveries.take_in(event));
    Ok(restored)
}

/// A record without meaning is told of and left out.
fn understood<T>(record: Result<T, LogError>) -> anyhow::Result<Option<T>> {
    match record {
        Ok(record) => Ok(Some(record)),
        Err(error @ LogError::Undecodable { .. }) => {
            tracing::error!(%error, "a record of the log is left out: it is not understood");
            Ok(None)
        }
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
    for damage in &findings.damaged {
        tracing::error!(%damage, "the store is damaged");
    }
    for name in &findings.foreign {
        tracing::warn!(name, "a file in the store's folder is none of the store's; it is left alone");
    }
    if !findings.removed.is_empty() {
        tracing::info!(files = findings.removed.len(), "files of a checkpoint that was not finished were removed");
    }
}
