//! How long each stage of an event's way takes: a histogram per stage over a rotating interval,
//! recorded once per batch. Quantiles cover the last one to two intervals; sum and count cover the
//! process's life.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use hdrhistogram::Histogram;

use super::ticks::Ticks;

/// How long one of the two histograms is filled before it is the older one.
const INTERVAL_NANOS: u64 = 60_000_000_000;
/// Shorter times count as half a microsecond, longer ones as an hour; two digits are kept.
const LOWEST_NANOS: u64 = 512;
const HIGHEST_NANOS: u64 = 3_600_000_000_000;
const DIGITS: u8 = 2;

pub const QUANTILES: [(f64, &str); 4] = [(0.5, "0.5"), (0.9, "0.9"), (0.99, "0.99"), (0.999, "0.999")];

/// A stage of the way. The name is the metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// A batch from its arrival to its acknowledgement.
    Submit,
    /// A batch from the wire's form into columns.
    Convert,
    /// Records into the log, without waiting for the disk.
    LogAppend,
    Fsync,
    /// A record into the views.
    Apply,
    Seal,
    /// What the pipeline stands still for while a checkpoint is taken.
    Save,
    /// A checkpoint into its files.
    Checkpoint,
    /// A record's wait for a checkpoint, because rows fill the memory that they have until then.
    AwaitCheckpoint,
    /// One merge of segments.
    Merge,
    /// All rules over one minute.
    JudgeMinute,
    /// One rule over one minute.
    JudgeRule,
    /// One attempt to tell a receiver of an alert.
    Deliver,
    Query,
    RemoteRead,
}

impl Stage {
    pub const ALL: [Self; 15] = [
        Self::Submit,
        Self::Convert,
        Self::LogAppend,
        Self::Fsync,
        Self::Apply,
        Self::Seal,
        Self::Save,
        Self::Checkpoint,
        Self::AwaitCheckpoint,
        Self::Merge,
        Self::JudgeMinute,
        Self::JudgeRule,
        Self::Deliver,
        Self::Query,
        Self::RemoteRead,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Convert => "convert",
            Self::LogAppend => "log_append",
            Self::Fsync => "fsync",
            Self::Apply => "apply",
            Self::Seal => "seal",
            Self::Save => "save",
            Self::Checkpoint => "checkpoint",
            Self::AwaitCheckpoint => "await_checkpoint",
            Self::Merge => "merge",
            Self::JudgeMinute => "judge_minute",
            Self::JudgeRule => "judge_rule",
            Self::Deliver => "deliver",
            Self::Query => "query",
            Self::RemoteRead => "remote_read",
        }
    }
}

/// What is known of one stage at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// In the order of `QUANTILES`, in seconds; `None` where nothing was recorded lately.
    pub quantiles: Option<[f64; QUANTILES.len()]>,
    pub sum_seconds: f64,
    pub count: u64,
}

/// The recorder of one stage.
#[derive(Debug)]
pub struct Recorder {
    windows: Mutex<Windows>,
    sum_nanos: AtomicU64,
    count: AtomicU64,
}

#[derive(Debug)]
struct Windows {
    /// Which interval since the start `current` belongs to.
    interval: u64,
    current: Histogram<u32>,
    earlier: Histogram<u32>,
}

impl Recorder {
    pub fn new() -> Self {
        let empty = || {
            // Refused only for bounds that make no sense, and these are constants that a test uses.
            Histogram::new_with_bounds(LOWEST_NANOS, HIGHEST_NANOS, DIGITS).expect("constant bounds are valid")
        };
        let windows = Windows { interval: 0, current: empty(), earlier: empty() };
        Self { windows: Mutex::new(windows), sum_nanos: AtomicU64::new(0), count: AtomicU64::new(0) }
    }

    /// `now` is the moment of recording, in ticks.
    pub fn record(&self, now: u64, nanos: u64) {
        self.sum_nanos.fetch_add(nanos, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        windows.rotate(now);
        windows.current.saturating_record(nanos);
    }

    pub fn summary(&self, now: u64) -> Summary {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        windows.rotate(now);
        let mut both = windows.current.clone();
        // Same bounds, so that nothing can fall outside; if it did, the current interval stands alone.
        let _ = both.add(&windows.earlier);
        drop(windows);
        let seconds = |nanos: u64| nanos as f64 / 1e9;
        let quantiles =
            (!both.is_empty()).then(|| QUANTILES.map(|(quantile, _)| seconds(both.value_at_quantile(quantile))));
        Summary {
            quantiles,
            sum_seconds: seconds(self.sum_nanos.load(Ordering::Relaxed)),
            count: self.count.load(Ordering::Relaxed),
        }
    }
}

impl Windows {
    fn rotate(&mut self, now: u64) {
        let interval = now / INTERVAL_NANOS;
        if interval <= self.interval {
            return;
        }
        if interval == self.interval + 1 {
            std::mem::swap(&mut self.current, &mut self.earlier);
        } else {
            self.earlier.clear();
        }
        self.current.clear();
        self.interval = interval;
    }
}

/// Measures from its making to its drop.
#[derive(Debug)]
pub struct Timer<'a> {
    recorder: &'a Recorder,
    ticks: &'a dyn Ticks,
    start: u64,
}

impl<'a> Timer<'a> {
    pub(super) fn start(recorder: &'a Recorder, ticks: &'a dyn Ticks) -> Self {
        Self { recorder, ticks, start: ticks.nanos() }
    }
}

impl Drop for Timer<'_> {
    fn drop(&mut self) {
        let now = self.ticks.nanos();
        self.recorder.record(now, now.saturating_sub(self.start));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: u64 = 1_000_000;

    /// Within the two digits that are kept.
    fn near(left: f64, right: f64) -> bool {
        (left - right).abs() <= right * 0.01
    }

    #[test]
    fn quantiles_follow_what_was_recorded() {
        let recorder = Recorder::new();
        for milli in 1..=1_000 {
            recorder.record(0, milli * MILLI);
        }
        let summary = recorder.summary(1);
        let quantiles = summary.quantiles.unwrap();
        for (got, wanted) in quantiles.iter().zip([0.5, 0.9, 0.99, 0.999]) {
            assert!(near(*got, wanted), "{got} should be {wanted}");
        }
        assert_eq!((summary.count, summary.sum_seconds), (1_000, 500.5));
    }

    #[test]
    fn an_interval_is_seen_through_the_next_and_then_forgotten() {
        for (later, seen) in [(0, true), (INTERVAL_NANOS, true), (2 * INTERVAL_NANOS, false), (u64::MAX, false)] {
            let recorder = Recorder::new();
            recorder.record(INTERVAL_NANOS - 1, MILLI);
            let summary = recorder.summary(later);
            assert_eq!(summary.quantiles.is_some(), seen, "after {later} ns");
            assert_eq!(summary.count, 1, "the count is of the whole life");
        }
    }

    #[test]
    fn the_older_interval_is_replaced_not_added_to() {
        let recorder = Recorder::new();
        recorder.record(0, MILLI);
        recorder.record(INTERVAL_NANOS, 100 * MILLI);
        recorder.record(2 * INTERVAL_NANOS, 100 * MILLI);
        let quantiles = recorder.summary(2 * INTERVAL_NANOS).quantiles.unwrap();
        assert!(near(quantiles[0], 0.1), "{quantiles:?}");
    }

    #[test]
    fn extremes_are_clamped() {
        let recorder = Recorder::new();
        recorder.record(0, 0);
        recorder.record(0, u64::MAX / 2);
        let quantiles = recorder.summary(0).quantiles.unwrap();
        assert!(quantiles[3] >= 3_600.0 && quantiles[3] < 3_700.0, "{quantiles:?}");
    }
}
