//! What the log tells of itself: one call a commit. It has no clock; whoever observes brings one.

use std::time::Duration;

/// Hears of each commit, on the commit thread; must not block.
pub trait Observer: Send + Sync + 'static {
    /// A monotonic time for measuring, from any origin. One that stands still turns measuring off.
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }

    /// A commit succeeded.
    fn committed(&self, _commit: &Commit) {}

    /// A commit failed; its records were not kept.
    fn failed(&self, _error: &crate::LogError) {}
}

/// One group commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    pub records: usize,
    /// Events in those records.
    pub events: usize,
    pub bytes: usize,
    /// Whether it waited for the disk.
    pub synced: bool,
    /// Spent writing, including a change of segment.
    pub write: Duration,
    /// Spent in fdatasync.
    pub sync: Duration,
}

/// Hears and says nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

impl Observer for Unobserved {}
