//! What the tests deliver, and a clock that jumps to wherever somebody waits for.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
};

use tidewatch_alerts::{
    Alerts, Judged, Labels, Outbox, Outcome, RetryPolicy, RuleAlerting, Transition, Values, VerdictRow,
};
use tidewatch_model::{Clock, EventTime, ManualClock, Minute, Severity, Span};
use tidewatch_sinks::{Delivery, Timer};

pub const NOW: EventTime = EventTime::from_micros(1_760_000_000_000_000);

/// One firing transition for each status.
pub fn fired(statuses: &[&str]) -> Vec<Transition> {
    let rule = RuleAlerting {
        name: "denied-surge".to_owned(),
        severity: Severity::Critical,
        for_: Span::ZERO,
        keep_firing_for: Span::ZERO,
        cooldown: Span::ZERO,
        labels: Labels::new(),
        summary: String::new(),
    };
    let row = |status: &&str| VerdictRow {
        labels: Labels::from([("status".to_owned(), (*status).to_owned())]),
        values: Values::from([("score".to_owned(), f64::INFINITY), ("value".to_owned(), 120.0)]),
        severity: Severity::Critical,
        summary: format!("{status}: 120 in a minute\nover two \"lines\""),
        warming_up: false,
    };
    let outcome = Outcome::Rows(statuses.iter().map(row).collect());
    let minute = Minute::from_index(29_000_000);
    Alerts::new().observe(Judged { rule: &rule, minute, outcome, notify: true }).unwrap()
}

pub fn delivery(receiver: &str) -> Delivery {
    let mut outbox = Outbox::new(RetryPolicy::default());
    let context = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    outbox.enqueue(&fired(&["denied"])[0], [receiver], Some(context), NOW);
    outbox.due(NOW).next().expect("it was enqueued").clone()
}

/// A wait ends at once, and the clock then shows its end.
#[derive(Debug)]
pub struct Jump(pub Arc<ManualClock>);

impl Timer for Jump {
    fn wait(&self, span: Span) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let clock = Arc::clone(&self.0);
        Box::pin(async move {
            tokio::task::yield_now().await;
            clock.advance(span);
        })
    }
}

pub fn clock() -> (Arc<ManualClock>, Arc<dyn Clock>, Arc<dyn Timer>) {
    let clock = Arc::new(ManualClock::at(NOW));
    (Arc::clone(&clock), Arc::clone(&clock) as Arc<dyn Clock>, Arc::new(Jump(clock)))
}

/// A writer whose lines a test can read.
#[derive(Clone, Debug, Default)]
pub struct Shared(pub Arc<Mutex<Vec<u8>>>);

impl Shared {
    pub fn lines(&self) -> Vec<String> {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap().lines().map(str::to_owned).collect()
    }
}

impl std::io::Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
