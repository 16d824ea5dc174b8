//! `Backups`: backups of the running engine, one at a time, made beside its work. The checkpoint that is copied is pinned,
//! and so is the log after it; what comes in meanwhile is not part of the copy.

use std::{path::PathBuf, sync::Arc};

use futures::StreamExt;
use tidewatch_backup::{BackupError, Descriptor, Making, Progress, Source, Target, back_up};
use tidewatch_log::{FileSystem, Log};
use tidewatch_model::Clock;
use tidewatch_serve::engine::{BackupDone, BackupNews, BackupProgress, Refusal};
use tidewatch_store::Pins;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;

/// News of a backup that nobody has read yet. At the limit: left out, as the next tells more.
const NEWS_MAX: usize = 16;

/// What a backup is made of.
pub struct Backups {
    pub disk: Arc<dyn FileSystem>,
    pub data_dir: PathBuf,
    pub pins: Pins,
    pub log: Arc<Log>,
    pub log_id: u64,
    pub clock: Arc<dyn Clock>,
    /// One permit.
    pub at_once: Arc<Semaphore>,
}

impl Backups {
    /// Begins a backup, unless one is being made. It is given up when nobody reads its news any more.
    pub fn begin(&self, to: String) -> Result<BackupNews, Refusal> {
        let Ok(alone) = Arc::clone(&self.at_once).try_acquire_owned() else {
            let reason = "a backup is being made already; ask again when it is done";
            return Err(Refusal::Unavailable(reason.to_owned()));
        };
        // Before anything is read: what comes after is not in the copy, and nothing that the copy needs goes.
        let pin = self.pins.pin();
        let (disk, data_dir, log, log_id) =
            (Arc::clone(&self.disk), self.data_dir.clone(), Arc::clone(&self.log), self.log_id);
        let making = making(&*self.clock);
        let (tell, news) = mpsc::channel(NEWS_MAX);
        let source =
            move || log.sync().map(|last| Source { disk, data_dir, pin, log_id, last }).map_err(BackupError::from);
        tokio::spawn(run(source, to, making, tell, alone));
        Ok(ReceiverStream::new(news).boxed())
    }
}

/// For a backup that begins now.
pub fn making(clock: &dyn Clock) -> Making {
    Making { at: clock.now(), engine: env!("CARGO_PKG_VERSION").to_owned() }
}

async fn run(
    source: impl FnOnce() -> Result<Source, BackupError> + Send + 'static,
    to: String,
    making: Making,
    tell: mpsc::Sender<Result<BackupProgress, Refusal>>,
    _alone: OwnedSemaphorePermit,
) {
    let made = async {
        let ready = move || Ok::<_, BackupError>((source()?, Target::make(&to)?));
        let blocking = tokio::task::spawn_blocking(ready);
        let broken_off = |error: tokio::task::JoinError| BackupError::BrokenOff(error.to_string());
        let (source, target) = blocking.await.map_err(broken_off)??;
        let heard = |progress: Progress| {
            // Full: the next tells more. Closed: the backup is given up below.
            let _ = tell.try_send(Ok(news(progress, None)));
        };
        back_up(source, &target, making, heard).await
    };
    let made = tokio::select! {
        made = made => made,
        () = tell.closed() => {
            tracing::warn!("a backup was given up: whoever asked for it has gone");
            return;
        }
    };
    let last = match made {
        Ok((descriptor, progress)) => {
            tracing::info!(id = descriptor.id, last = %descriptor.last, bytes = progress.bytes,
                sent = progress.bytes_moved, "a backup was made");
            Ok(news(progress, Some(&descriptor)))
        }
        Err(error) => {
            tracing::error!(%error, "a backup could not be made");
            Err(refusal(&error))
        }
    };
    // Whoever asked may have gone; the backup is there or is not.
    let _ = tell.send(last).await;
}

fn news(progress: Progress, made: Option<&Descriptor>) -> BackupProgress {
    BackupProgress {
        objects: progress.objects,
        bytes: progress.bytes,
        objects_done: progress.objects_done,
        bytes_done: progress.bytes_done,
        bytes_sent: progress.bytes_moved,
        done: made.map(|made| BackupDone { id: made.id.clone(), last: made.last }),
    }
}

fn refusal(error: &BackupError) -> Refusal {
    match error {
        BackupError::Address { .. } | BackupError::Foreign { .. } => Refusal::Invalid(error.to_string()),
        _ => Refusal::Unavailable(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use tidewatch_log::{LogConfig, StdFs, Unobserved, Writer};
    use tidewatch_store::Folder;

    use super::*;
    use crate::clock::SystemClock;

    #[tokio::test]
    async fn one_backup_is_made_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let data_dir = root.path().join("data");
        let disk: Arc<dyn FileSystem> = Arc::new(StdFs);
        let (folder, _) = Folder::open(Arc::clone(&disk), &data_dir.join("store")).unwrap();
        let (writer, found) = Writer::open(Arc::clone(&disk), &data_dir.join("log"), &LogConfig::new(1)).unwrap();
        let backups = Backups {
            disk,
            data_dir,
            pins: folder.pins().clone(),
            log: Arc::new(Log::start(writer, Arc::new(Unobserved)).unwrap()),
            log_id: found.log_id,
            clock: Arc::new(SystemClock),
            at_once: Arc::new(Semaphore::new(1)),
        };
        let to = || root.path().join("backups").display().to_string();
        let other = Arc::clone(&backups.at_once).try_acquire_owned().unwrap();
        match backups.begin(to()) {
            Err(Refusal::Unavailable(reason)) => assert!(reason.contains("is being made already"), "{reason}"),
            _ => panic!("two at a time"),
        }
        drop(other);
        let told: Vec<_> = backups.begin(to()).unwrap().collect().await;
        let last = told.last().unwrap().as_ref().unwrap();
        assert_eq!(last.done.as_ref().map(|done| done.last), Some(found.last()));
        // Also one that nobody waits for ends, and the next may begin.
        drop(backups.begin(to()).unwrap());
        drop(backups.at_once.acquire().await.unwrap());
        let nowhere: Vec<_> = backups.begin("ftp://host/x".to_owned()).unwrap().collect().await;
        assert!(matches!(nowhere.last(), Some(Err(Refusal::Invalid(_)))), "{nowhere:?}");
    }
}
