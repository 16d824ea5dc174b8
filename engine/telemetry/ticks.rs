//! The seam for measuring how long something took: a count of nanoseconds that never runs
//! backwards and means nothing on its own. The time of day is `model::Clock`.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

pub trait Ticks: Send + Sync + fmt::Debug {
    /// Nanoseconds since some fixed moment.
    fn nanos(&self) -> u64;
}

impl<T: Ticks + ?Sized> Ticks for Arc<T> {
    fn nanos(&self) -> u64 {
        (**self).nanos()
    }
}

/// The machine's monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct MonotonicTicks {
    start: Instant,
}

impl MonotonicTicks {
    #[expect(clippy::disallowed_methods, reason = "the one place where real time is measured")]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for MonotonicTicks {
    fn default() -> Self {
        Self::new()
    }
}

impl Ticks for MonotonicTicks {
    fn nanos(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Ticks that move only when told to. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct ManualTicks(Arc<AtomicU64>);

impl ManualTicks {
    pub fn advance(&self, nanos: u64) {
        // `fetch_add` would wrap around at the far end, and these ticks never run backwards.
        let _ = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |now| Some(now.saturating_add(nanos)));
    }
}

impl Ticks for ManualTicks {
    fn nanos(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}
