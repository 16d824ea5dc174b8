//! `Condition`: what the disk keeps the engine from doing, told in one place to everybody who asks: readiness, metrics
//! and the trace. It decides nothing about batches; the log does.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use tidewatch_log::LogError;

use crate::telemetry::{Gauge, Metrics};

#[derive(Debug)]
pub struct Condition {
    metrics: Arc<Metrics>,
    /// The last commit failed, in a way that can pass.
    refusing: AtomicBool,
    stopped: Mutex<Stopped>,
}

/// What has ended for the life of this process, and why.
#[derive(Debug, Default)]
struct Stopped {
    log: Option<String>,
    views: Option<String>,
    checkpoints: Option<String>,
}

/// What can end for the life of the process.
enum Part {
    Log,
    Views,
    Checkpoints,
}

impl Condition {
    pub fn new(metrics: Arc<Metrics>) -> Self {
        for gauge in [
            Gauge::LogRefusing,
            Gauge::LogStopped,
            Gauge::ViewsStopped,
            Gauge::CheckpointsStopped,
            Gauge::JournalsWaiting,
        ] {
            metrics.set(gauge, 0.0);
        }
        Self { metrics, refusing: AtomicBool::new(false), stopped: Mutex::default() }
    }

    /// The log took a commit.
    pub fn log_wrote(&self) {
        if self.refusing.swap(false, Ordering::AcqRel) {
            self.metrics.set(Gauge::LogRefusing, 0.0);
            tracing::info!("the log can be written again; batches are taken");
        }
    }

    /// The log did not take a commit.
    pub fn log_failed(&self, error: &LogError) {
        self.metrics.log_failed();
        if error.is_retryable() {
            // Once, not for every batch that is refused meanwhile.
            if !self.refusing.swap(true, Ordering::AcqRel) {
                self.metrics.set(Gauge::LogRefusing, 1.0);
                tracing::error!(%error, "the log cannot be written; batches are refused until it can");
            }
            return;
        }
        if self.stop(Part::Log, error.to_string()) {
            tracing::error!(%error, "the engine takes no more events; questions are answered; restart it");
        }
    }

    /// A minute could not be brought up to date, because older ones could not be read: what is in memory does not follow
    /// the log any more.
    pub fn stop_views(&self, reason: &str) {
        let told = format!("the views have stopped: {reason}; the log has every event, restart the engine");
        if self.stop(Part::Views, told) {
            tracing::error!(reason, "the views have stopped: they do not follow the log any more; restart the engine");
        }
    }

    /// Asked for every record.
    pub fn views_follow(&self) -> bool {
        self.stopped().views.is_none()
    }

    pub fn views_stopped(&self) -> Option<String> {
        self.stopped().views.clone()
    }

    /// No checkpoint can be written any more: the log grows, and the next start will take longer.
    pub fn checkpoints_stopped(&self, reason: &str) {
        let told = format!("no checkpoint can be written any more; the log has everything, and grows: {reason}");
        if self.stop(Part::Checkpoints, told) {
            tracing::error!(reason, "no checkpoint can be written any more; the log has everything, and grows");
        }
    }

    /// Keeps the first reason; true where it is that.
    fn stop(&self, part: Part, reason: String) -> bool {
        let mut stopped = self.stopped();
        let (told, gauge) = match part {
            Part::Log => (&mut stopped.log, Gauge::LogStopped),
            Part::Views => (&mut stopped.views, Gauge::ViewsStopped),
            Part::Checkpoints => (&mut stopped.checkpoints, Gauge::CheckpointsStopped),
        };
        if told.is_some() {
            return false;
        }
        *told = Some(reason);
        self.metrics.set(gauge, 1.0);
        true
    }

    /// Whether all is well but for what passes; else what has stopped and what to do.
    pub fn sound(&self) -> Result<(), String> {
        let stopped = self.stopped();
        let reasons: Vec<&str> =
            [&stopped.log, &stopped.views, &stopped.checkpoints].into_iter().flatten().map(String::as_str).collect();
        if reasons.is_empty() { Ok(()) } else { Err(reasons.join("; ")) }
    }

    fn stopped(&self) -> MutexGuard<'_, Stopped> {
        // Each field is set as a whole.
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
