//! Where the demo's events come from and how they reach the engine: history through a replay session, then live
//! traffic as the demo's clock goes.

use std::sync::{Arc, OnceLock};

use anyhow::Context;
use arrow::array::RecordBatch;
use tidewatch_model::{Clock, EventTime, Minute, SessionId, Span, limits};
use tidewatch_serve::{
    Engine,
    engine::{Producer, Refusal, SessionRequest, Submission},
};
use tidewatch_traffic::{ARRIVAL_DELAY_MAX, Incident, Traffic};

use crate::{clock::FastClock, front::Front, telemetry::MonotonicTicks};

/// Stands still until `go`, then runs at the demo's speed.
#[derive(Debug)]
pub struct DemoClock {
    start: EventTime,
    speed: u32,
    running: OnceLock<FastClock<MonotonicTicks>>,
}

impl DemoClock {
    pub fn new(start: EventTime, speed: u32) -> Self {
        Self { start, speed, running: OnceLock::new() }
    }

    pub fn go(&self) {
        self.running.get_or_init(|| FastClock::new(self.start, self.speed, MonotonicTicks::new()));
    }
}

impl Clock for DemoClock {
    fn now(&self) -> EventTime {
        self.running.get().map_or(self.start, FastClock::now)
    }
}

pub struct Feed {
    traffic: Traffic,
    front: Arc<Front>,
    clock: Arc<DemoClock>,
    sent_through: EventTime,
}

/// One slice of arrivals, so that a slice stays well below the greatest batch at any rate.
const SLICE: Span = Span::from_seconds(60);

impl Feed {
    pub fn new(traffic: Traffic, front: Arc<Front>, clock: Arc<DemoClock>) -> Self {
        let sent_through = clock.now();
        Self { traffic, front, clock, sent_through }
    }

    /// Calm history up to `to`, through a replay session: sealed at once.
    pub async fn fill(&self, mut history: Traffic, from: Minute, to: Minute) -> anyhow::Result<u64> {
        let request = SessionRequest { name: "demo-history".to_owned(), lateness: None, notify: false };
        let session = self.front.open_session(request).await?.session;
        let end = to.start().plus(ARRIVAL_DELAY_MAX);
        let mut at = from.start();
        let mut sequence = 0;
        while at < end {
            let next = at.plus(SLICE).min(end);
            let rows = history.arrivals(at, next)?;
            at = next;
            sequence = self.submit(rows, Some((session, sequence))).await?;
        }
        Ok(self.front.end_session(session).await?.accepted)
    }

    /// Sends what has arrived by now.
    pub async fn send_due(&mut self) -> anyhow::Result<()> {
        let now = self.clock.now();
        while self.sent_through < now {
            let next = self.sent_through.plus(SLICE).min(now);
            let rows = self.traffic.arrivals(self.sent_through, next)?;
            self.submit(rows, None).await?;
            self.sent_through = next;
        }
        Ok(())
    }

    /// Returns the sequence after the rows.
    async fn submit(&self, rows: RecordBatch, session: Option<(SessionId, u64)>) -> anyhow::Result<u64> {
        let mut sequence = session.map_or(0, |(_, sequence)| sequence);
        let mut at = 0;
        while at < rows.num_rows() {
            let length = (rows.num_rows() - at).min(limits::BATCH_EVENTS_MAX);
            let slice = rows.slice(at, length);
            at += length;
            let submission = Submission {
                session: session.map(|(session, _)| session),
                producer: session.map(|(_, _)| Producer { id: "demo".to_owned(), first_sequence: sequence }),
                offsets: (0..length as u32).collect(),
                rows: slice,
                rejected: Vec::new(),
                arrived_at: self.clock.now(),
            };
            self.deliver(submission).await?;
            sequence += length as u64;
        }
        Ok(sequence)
    }

    async fn deliver(&self, submission: Submission) -> anyhow::Result<()> {
        loop {
            match self.front.submit(submission.clone()).await {
                Ok(acknowledgement) => {
                    acknowledgement.await.context("the log did not take a batch")?;
                    return Ok(());
                }
                Err(Refusal::Busy { retry_after }) => tokio::time::sleep(retry_after).await,
                Err(refusal) => return Err(refusal).context("the engine refused a batch"),
            }
        }
    }

    /// The incidents that began before `to`.
    pub fn incidents(&mut self, from: Minute, to: Minute) -> Vec<Incident> {
        self.traffic.incidents(from, to).to_vec()
    }
}
