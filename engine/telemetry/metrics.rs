//! The engine's own metrics: every name with its meaning, and the calls that count. `render` writes
//! them as Prometheus text for `/metrics`.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tidewatch_model::{EventTime, Lsn, Severity};

use super::{
    latency::{QUANTILES, Recorder, Stage, Timer},
    process,
    registry::{Counter, Family, Kind, Text},
    ticks::Ticks,
};

/// What became of an event. Counted + duplicate + rejected + late = sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventResult {
    Accepted,
    Duplicate,
    Rejected,
    Late,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleOutcome {
    /// Judged, and nothing matched.
    Quiet,
    Matched,
    /// The rule failed, its limits included.
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    Delivered,
    /// An attempt failed and will be repeated.
    Retried,
    /// Attempts are used up, and the delivery was put aside.
    Dead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryOutcome {
    Answered,
    /// The question itself is wrong, or would write.
    Refused,
    /// Over its memory, time or rows.
    OverLimit,
    Failed,
}

/// Numbers that go up and down. Absent until set for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gauge {
    WatermarkSeconds,
    InFlightBatches,
    OpenWindows,
    HeadBytes,
    RawBytes,
    StoreBytes,
    DedupIds,
    DedupSpanSeconds,
    AlertsFiring,
    DeliveriesWaiting,
    LogRefusing,
    LogStopped,
    ViewsStopped,
    CheckpointsStopped,
    JournalsWaiting,
}

impl Gauge {
    pub const ALL: [Self; 15] = [
        Self::WatermarkSeconds,
        Self::InFlightBatches,
        Self::OpenWindows,
        Self::HeadBytes,
        Self::RawBytes,
        Self::StoreBytes,
        Self::DedupIds,
        Self::DedupSpanSeconds,
        Self::AlertsFiring,
        Self::DeliveriesWaiting,
        Self::LogRefusing,
        Self::LogStopped,
        Self::ViewsStopped,
        Self::CheckpointsStopped,
        Self::JournalsWaiting,
    ];

    const fn name_and_help(self) -> (&'static str, &'static str) {
        match self {
            Self::WatermarkSeconds => (
                "tidewatch_watermark_seconds",
                "Event time, in seconds since 1970, up to which minutes of live traffic are complete.",
            ),
            Self::InFlightBatches => {
                ("tidewatch_in_flight_batches", "Batches that are accepted at the door and not yet in the views.")
            }
            Self::OpenWindows => ("tidewatch_open_windows", "Minutes that still take events, over all partitions."),
            Self::HeadBytes => ("tidewatch_head_bytes", "Memory held by sealed minutes."),
            Self::RawBytes => ("tidewatch_raw_bytes", "Memory held by raw events that no checkpoint has yet."),
            Self::StoreBytes => {
                ("tidewatch_store_bytes", "What the newest checkpoint takes on disk: minutes, rows and state.")
            }
            Self::DedupIds => ("tidewatch_dedup_ids", "Event ids remembered to tell duplicates."),
            Self::DedupSpanSeconds => (
                "tidewatch_dedup_span_seconds",
                "Event time before the watermark for which duplicates are told; shrinks when memory for ids is full.",
            ),
            Self::AlertsFiring => ("tidewatch_alerts_firing", "Alerts that are firing."),
            Self::DeliveriesWaiting => {
                ("tidewatch_deliveries_waiting", "Deliveries of alerts that are not done, retries included.")
            }
            Self::LogRefusing => (
                "tidewatch_log_refusing",
                "1 while the log cannot be written and batches are refused; it passes with its cause, such as a full disk.",
            ),
            Self::LogStopped => {
                ("tidewatch_log_stopped", "1 once the log has stopped for good, as after a failed fsync: restart.")
            }
            Self::ViewsStopped => (
                "tidewatch_views_stopped",
                "1 once older minutes could not be read to be corrected; the log has every event: restart.",
            ),
            Self::CheckpointsStopped => (
                "tidewatch_checkpoints_stopped",
                "1 once no checkpoint can be written any more; the log has everything, and grows: restart.",
            ),
            Self::JournalsWaiting => (
                "tidewatch_journal_entries_waiting",
                "Verdicts, transitions and deliveries that the log did not take yet; nobody is told of such transitions.",
            ),
        }
    }
}

/// As `Metrics::time`, for a measurement that outlives its caller's frame.
#[derive(Debug)]
pub struct OwnedTimer {
    metrics: Arc<Metrics>,
    stage: Stage,
    start: u64,
}

impl OwnedTimer {
    pub fn start(metrics: &Arc<Metrics>, stage: Stage) -> Self {
        Self { metrics: Arc::clone(metrics), stage, start: metrics.nanos() }
    }
}

impl Drop for OwnedTimer {
    fn drop(&mut self) {
        let nanos = self.metrics.nanos().saturating_sub(self.start);
        self.metrics.took(self.stage, std::time::Duration::from_nanos(nanos));
    }
}

/// Measures one rule over one minute, from its making to its drop.
#[derive(Debug)]
pub struct RuleTimer<'a> {
    metrics: &'a Metrics,
    total: Counter,
    start: u64,
}

impl Drop for RuleTimer<'_> {
    fn drop(&mut self) {
        let nanos = self.metrics.nanos().saturating_sub(self.start);
        self.total.add(nanos);
        self.metrics.took(Stage::JudgeRule, std::time::Duration::from_nanos(nanos));
    }
}

/// The bits of a NaN stand for "never set".
const UNSET: u64 = f64::NAN.to_bits();

#[derive(Debug)]
pub struct Metrics {
    ticks: Arc<dyn Ticks>,
    started: EventTime,
    events: [Counter; 4],
    rejections: Family<1>,
    view_failures: Family<1>,
    sealed_minutes: Counter,
    corrections: Counter,
    log_bytes: Counter,
    log_fsyncs: Counter,
    log_failures: Counter,
    checkpoints: Counter,
    checkpoint_failures: Counter,
    rooms_made: Counter,
    /// The newest record in a checkpoint.
    checkpointed: AtomicU64,
    rule_evaluations: Family<2>,
    rule_nanos: Family<1>,
    alerts: Family<2>,
    deliveries: Family<2>,
    queries: Family<1>,
    gauges: [AtomicU64; Gauge::ALL.len()],
    stages: [Recorder; Stage::ALL.len()],
}

impl Metrics {
    /// `started` is when the process started; `ticks` measures latencies.
    pub fn new(started: EventTime, ticks: Arc<dyn Ticks>) -> Self {
        Self {
            ticks,
            started,
            events: std::array::from_fn(|_| Counter::default()),
            rejections: Family::new(["reason"]),
            view_failures: Family::new(["view"]),
            sealed_minutes: Counter::default(),
            corrections: Counter::default(),
            log_bytes: Counter::default(),
            log_fsyncs: Counter::default(),
            log_failures: Counter::default(),
            checkpoints: Counter::default(),
            checkpoint_failures: Counter::default(),
            rooms_made: Counter::default(),
            checkpointed: AtomicU64::new(0),
            rule_evaluations: Family::new(["rule", "outcome"]),
            rule_nanos: Family::new(["rule"]),
            alerts: Family::new(["severity", "transition"]),
            deliveries: Family::new(["receiver", "result"]),
            queries: Family::new(["outcome"]),
            gauges: std::array::from_fn(|_| AtomicU64::new(UNSET)),
            stages: std::array::from_fn(|_| Recorder::new()),
        }
    }

    /// Counts what became of `n` events. Rejected ones are counted by `rejected`, with their reason.
    pub fn events(&self, result: EventResult, n: u64) {
        self.event_counter(result).add(n);
    }

    /// Counts `n` events that were refused for one reason, under both metrics. `reason` is one of a
    /// fixed set of short texts, never something that an event says.
    pub fn rejected(&self, reason: &str, n: u64) {
        self.event_counter(EventResult::Rejected).add(n);
        self.rejections.with([reason]).add(n);
    }

    /// Counts `n` events that one view could not take because one of its expressions failed. Other views have them.
    pub fn view_failed(&self, view: &str, n: u64) {
        self.view_failures.with([view]).add(n);
    }

    fn event_counter(&self, result: EventResult) -> &Counter {
        let [accepted, duplicate, rejected, late] = &self.events;
        match result {
            EventResult::Accepted => accepted,
            EventResult::Duplicate => duplicate,
            EventResult::Rejected => rejected,
            EventResult::Late => late,
        }
    }

    /// The counters that the live page shows: name, value, and what is counted.
    pub fn event_counts(&self) -> Vec<(&'static str, u64, &'static str)> {
        let [accepted, duplicate, rejected, late] = &self.events;
        vec![
            ("accepted", accepted.get(), "events counted"),
            ("duplicate", duplicate.get(), "events seen before"),
            ("rejected", rejected.get(), "events refused; see rejected_events"),
            ("late", late.get(), "events too late to count; see late_events"),
            ("sealed minutes", self.sealed_minutes.get(), "minutes sealed and judged"),
            ("corrections", self.corrections.get(), "sealed minutes that late events changed"),
            ("log bytes", self.log_bytes.get(), "bytes written to the log"),
        ]
    }

    pub fn sealed_minutes(&self, n: u64) {
        self.sealed_minutes.add(n);
    }

    pub fn corrections(&self, n: u64) {
        self.corrections.add(n);
    }

    pub fn logged(&self, bytes: u64) {
        self.log_bytes.add(bytes);
    }

    pub fn fsynced(&self) {
        self.log_fsyncs.add(1);
    }

    /// A commit failed: its batches were refused.
    pub fn log_failed(&self) {
        self.log_failures.add(1);
    }

    /// A checkpoint could not be written: the log keeps what it would hold, and grows.
    pub fn checkpoint_failed(&self) {
        self.checkpoint_failures.add(1);
    }

    /// The store was larger than it may be, and its oldest minutes and rows go.
    pub fn made_room(&self) {
        self.rooms_made.add(1);
    }

    /// A checkpoint is in force that contains the records up to `through`.
    pub fn checkpointed(&self, through: Lsn) {
        self.checkpoints.add(1);
        self.checkpointed.store(through.0, Ordering::Relaxed);
    }

    pub fn rule_evaluated(&self, rule: &str, outcome: RuleOutcome) {
        let outcome = match outcome {
            RuleOutcome::Quiet => "quiet",
            RuleOutcome::Matched => "matched",
            RuleOutcome::Failed => "failed",
        };
        self.rule_evaluations.with([rule, outcome]).add(1);
    }

    /// `transition` is the state that an alert went into: `pending`, `firing`, `resolved`, ….
    pub fn alert(&self, severity: Severity, transition: &str) {
        self.alerts.with([severity.name(), transition]).add(1);
    }

    pub fn delivery(&self, receiver: &str, result: Delivery) {
        let result = match result {
            Delivery::Delivered => "delivered",
            Delivery::Retried => "retried",
            Delivery::Dead => "dead",
        };
        self.deliveries.with([receiver, result]).add(1);
    }

    pub fn query(&self, outcome: QueryOutcome) {
        let outcome = match outcome {
            QueryOutcome::Answered => "answered",
            QueryOutcome::Refused => "refused",
            QueryOutcome::OverLimit => "over_limit",
            QueryOutcome::Failed => "failed",
        };
        self.queries.with([outcome]).add(1);
    }

    pub fn set(&self, gauge: Gauge, value: f64) {
        // `ALL` and this array have the variants' order and number.
        self.gauges[gauge as usize].store(value.to_bits(), Ordering::Relaxed);
    }

    /// Measures a stage until the answer is dropped.
    #[must_use = "a timer that is dropped at once measures nothing"]
    pub fn time(&self, stage: Stage) -> Timer<'_> {
        Timer::start(self.recorder(stage), &*self.ticks)
    }

    /// Measures one rule over one minute until the answer is dropped.
    #[must_use = "a timer that is dropped at once measures nothing"]
    pub fn time_rule(&self, rule: &str) -> RuleTimer<'_> {
        RuleTimer { metrics: self, total: self.rule_nanos.with([rule]), start: self.nanos() }
    }

    /// What `OwnedTimer` and `RuleTimer` measure with.
    fn nanos(&self) -> u64 {
        self.ticks.nanos()
    }

    /// Records a stage whose length was measured elsewhere.
    pub fn took(&self, stage: Stage, length: std::time::Duration) {
        let nanos = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        self.recorder(stage).record(self.ticks.nanos(), nanos);
    }

    fn recorder(&self, stage: Stage) -> &Recorder {
        // `Stage::ALL` and this array have the variants' order and number.
        &self.stages[stage as usize]
    }

    /// Everything in Prometheus' text form; its content type is `CONTENT_TYPE`.
    pub fn render(&self) -> String {
        let mut text = Text::default();
        self.render_counters(&mut text);
        self.render_gauges(&mut text);
        self.render_checkpoint(&mut text);
        self.render_stages(&mut text);
        self.render_process(&mut text);
        text.finish()
    }

    fn render_counters(&self, text: &mut Text) {
        let name = "tidewatch_events_total";
        text.head(name, Kind::Counter, "Events received, by what became of them; the sum is what was sent.");
        for (counter, result) in self.events.iter().zip(["accepted", "duplicate", "rejected", "late"]) {
            text.sample(name, &[("result", result)], counter.get());
        }
        let reasons = "Events refused, by reason. They are kept in rejected_events.";
        family(text, "tidewatch_rejections_total", reasons, &self.rejections);
        let failures = "Events that a view lacks because one of its expressions failed on them; the log says why.";
        family(text, "tidewatch_view_failures_total", failures, &self.view_failures);
        for (name, help, counter) in [
            ("tidewatch_windows_sealed_total", "Minutes sealed.", &self.sealed_minutes),
            (
                "tidewatch_corrections_total",
                "Events that came for a minute after it was sealed, and were added to it.",
                &self.corrections,
            ),
            ("tidewatch_log_bytes_total", "Bytes appended to the log.", &self.log_bytes),
            ("tidewatch_log_fsyncs_total", "Times the log waited for the disk.", &self.log_fsyncs),
            (
                "tidewatch_log_failures_total",
                "Commits of the log that failed; their batches were refused.",
                &self.log_failures,
            ),
            ("tidewatch_checkpoints_total", "Checkpoints written.", &self.checkpoints),
            (
                "tidewatch_checkpoint_failures_total",
                "Attempts to write a checkpoint that failed; the log keeps what it would hold, and grows.",
                &self.checkpoint_failures,
            ),
            (
                "tidewatch_store_rooms_made_total",
                "Checkpoints that took more than `store.disk_bytes_max`, so that the oldest minutes and rows had to go.",
                &self.rooms_made,
            ),
        ] {
            text.head(name, Kind::Counter, help);
            text.sample::<&str>(name, &[], counter.get());
        }
        let rules = "Verdicts of rules on minutes: quiet, matched, or failed, its limits included.";
        family(text, "tidewatch_rule_evaluations_total", rules, &self.rule_evaluations);
        self.render_rule_seconds(text);
        let alerts = "Transitions of alerts, by severity and the state gone into.";
        family(text, "tidewatch_alerts_total", alerts, &self.alerts);
        let deliveries = "Attempts to deliver alerts: delivered, retried later, or dead after the last attempt.";
        family(text, "tidewatch_deliveries_total", deliveries, &self.deliveries);
        family(text, "tidewatch_queries_total", "Questions in SQL, by outcome.", &self.queries);
    }

    /// Which rule costs what; the quantiles over all rules are the stage `judge_rule`.
    fn render_rule_seconds(&self, text: &mut Text) {
        let name = "tidewatch_rule_seconds_total";
        let series = self.rule_nanos.snapshot();
        if !series.is_empty() {
            text.head(name, Kind::Counter, "Time spent judging minutes, by rule.");
        }
        for (labels, nanos) in series {
            text.sample(name, &labels, nanos as f64 / 1e9);
        }
    }

    fn render_gauges(&self, text: &mut Text) {
        for gauge in Gauge::ALL {
            let value = f64::from_bits(self.gauges[gauge as usize].load(Ordering::Relaxed));
            if !value.is_nan() {
                let (name, help) = gauge.name_and_help();
                text.head(name, Kind::Gauge, help);
                text.sample::<&str>(name, &[], value);
            }
        }
    }

    fn render_stages(&self, text: &mut Text) {
        let name = "tidewatch_stage_seconds";
        let help = "How long each stage of an event's way takes; quantiles cover the last one to two minutes.";
        text.head(name, Kind::Summary, help);
        let now = self.ticks.nanos();
        for stage in Stage::ALL {
            let summary = self.recorder(stage).summary(now);
            for (at, (_, quantile)) in QUANTILES.iter().enumerate() {
                // Prometheus' word for "nothing lately".
                let value = summary.quantiles.and_then(|values| values.get(at).copied()).unwrap_or(f64::NAN);
                text.sample(name, &[("stage", stage.name()), ("quantile", quantile)], value);
            }
            text.sample(&format!("{name}_sum"), &[("stage", stage.name())], summary.sum_seconds);
            text.sample(&format!("{name}_count"), &[("stage", stage.name())], summary.count);
        }
    }

    fn render_checkpoint(&self, text: &mut Text) {
        let name = "tidewatch_checkpoint_lsn";
        text.head(
            name,
            Kind::Gauge,
            "The newest record of the log that a checkpoint of this process contains; 0 for none.",
        );
        text.sample::<&str>(name, &[], self.checkpointed.load(Ordering::Relaxed));
    }

    fn render_process(&self, text: &mut Text) {
        let name = "tidewatch_build_info";
        text.head(name, Kind::Gauge, "Always 1; the labels say which build this is.");
        text.sample(name, &[("version", env!("CARGO_PKG_VERSION"))], 1);
        if let Some(bytes) = process::resident_bytes() {
            let name = "process_resident_memory_bytes";
            text.head(name, Kind::Gauge, "Memory that the process holds, in bytes.");
            text.sample::<&str>(name, &[], bytes);
        }
        let name = "process_start_time_seconds";
        text.head(name, Kind::Gauge, "When the process started, in seconds since 1970.");
        text.sample::<&str>(name, &[], self.started.micros() as f64 / 1e6);
    }
}

/// The content type of `Metrics::render`.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

fn family<const LABELS: usize>(text: &mut Text, name: &str, help: &str, family: &Family<LABELS>) {
    let series = family.snapshot();
    if series.is_empty() {
        return;
    }
    text.head(name, Kind::Counter, help);
    for (labels, value) in series {
        text.sample(name, &labels, value);
    }
}
