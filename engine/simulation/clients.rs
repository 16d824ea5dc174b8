//! The clients: they number their events or name them, send again what was not acknowledged, and remember what was.

use std::{collections::VecDeque, sync::Arc};

use anyhow::Context;
use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray},
    datatypes::Schema,
};
use rand::{Rng, rngs::StdRng, seq::IndexedRandom};
use tidewatch_model::{EventTime, SessionId, Span};
use tidewatch_serve::engine::{Producer, Submission};

/// Batches of one client that wait for their acknowledgement.
const WAITING_MAX: usize = 4;

#[derive(Clone, Debug)]
pub struct Sent {
    pub at: EventTime,
    pub status: &'static str,
    pub amount: i64,
    named: bool,
    /// So old that it must not be counted.
    pub ancient: bool,
    /// The client has been told that it is in the log.
    pub acknowledged: bool,
}

#[derive(Clone, Debug)]
pub struct Batch {
    /// Numbers of events.
    pub events: Vec<usize>,
    first_sequence: Option<u64>,
    /// It is on its way.
    pub sent: bool,
    /// Events in it were sent before by somebody else, so that nobody waits for them.
    again: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Numbers its events and sends one batch at a time.
    Numbered { name: String, named: bool, next: u64 },
    /// Gives each event an id, and sends batches in any order.
    Named,
    /// Sends history in a session of its own.
    Session { name: String, state: Session, next_at: EventTime, left: u32 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    Closed,
    Open(SessionId),
    Over,
}

#[derive(Clone, Debug)]
pub struct Client {
    pub kind: Kind,
    pub waiting: VecDeque<Batch>,
    /// A request other than a batch is under way.
    pub asking: bool,
}

/// What the clients of a case do.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    pub repeats: bool,
    pub ancients: bool,
}

#[derive(Debug)]
pub struct Clients {
    pub all: Vec<Client>,
    /// Every event that was ever made; its place is its number.
    pub events: Vec<Sent>,
    habits: Habits,
    /// How likely an event is a failure; it changes now and then.
    failing: f64,
}

/// What a client wants to do next.
pub enum Wish {
    Open {
        name: String,
    },
    End(SessionId),
    /// A submission of these events.
    Send(Submission, Vec<usize>),
}

impl Clients {
    pub fn random(rng: &mut StdRng, start: EventTime) -> Self {
        let mut kinds = vec![Kind::Named];
        for number in 0..rng.random_range(1..4) {
            kinds.push(Kind::Numbered { name: format!("gate-{number}"), named: rng.random(), next: 1 });
        }
        for number in 0..rng.random_range(0..3) {
            // Hours before anything that is live, and before each other.
            let next_at = start.minus(Span::from_minutes(120 * (number + 1)));
            let name = format!("history-{number}");
            kinds.push(Kind::Session { name, state: Session::Closed, next_at, left: rng.random_range(1..6) });
        }
        let client = |kind| Client { kind, waiting: VecDeque::new(), asking: false };
        Self {
            all: kinds.into_iter().map(client).collect(),
            events: Vec::new(),
            habits: Habits { repeats: rng.random_bool(0.3), ancients: rng.random_bool(0.3) },
            failing: 0.1,
        }
    }

    /// A client that was cut off has no more on its way than it knows of.
    pub fn cut_off(&mut self) {
        for client in &mut self.all {
            client.asking = false;
            client.waiting.retain(|batch| !batch.again);
            client.waiting.iter_mut().for_each(|batch| batch.sent = false);
            if let Kind::Session { state: state @ Session::Open(_), .. } = &mut client.kind {
                *state = Session::Closed;
            }
        }
    }

    /// Whether nobody has anything left to send.
    pub fn are_done(&self) -> bool {
        self.all.iter().all(|client| {
            let over = !matches!(&client.kind, Kind::Session { state, .. } if *state != Session::Over);
            client.waiting.is_empty() && over
        })
    }

    /// What the client `at` does now, if anything. `new`: it may have something new to say.
    pub fn wish(
        &mut self,
        rng: &mut StdRng,
        at: usize,
        now: EventTime,
        schema: &Arc<Schema>,
        new: bool,
    ) -> anyhow::Result<Option<Wish>> {
        let client = self.all.get(at).context("there is no such client")?;
        if let Kind::Session { name, state, left, .. } = &client.kind {
            match state {
                _ if client.asking => return Ok(None),
                Session::Closed => return Ok(Some(Wish::Open { name: name.clone() })),
                Session::Open(session) if *left == 0 && client.waiting.is_empty() => {
                    return Ok(Some(Wish::End(*session)));
                }
                Session::Over => return Ok(None),
                Session::Open(_) => {}
            }
        }
        let history = matches!(client.kind, Kind::Session { .. });
        if client.waiting.len() < WAITING_MAX && (new || history) {
            self.think_of(rng, at, now);
        }
        let Some(client) = self.all.get_mut(at) else { return Ok(None) };
        let one_by_one = !matches!(client.kind, Kind::Named);
        if one_by_one && client.waiting.front().is_some_and(|batch| batch.sent) {
            return Ok(None);
        }
        let Some(place) = client.waiting.iter().position(|batch| !batch.sent) else { return Ok(None) };
        let Some(batch) = client.waiting.get_mut(place) else { return Ok(None) };
        batch.sent = true;
        let (session, producer) = match &client.kind {
            Kind::Numbered { name, .. } => (None, Some(name.clone())),
            Kind::Named => (None, None),
            Kind::Session { state: Session::Open(session), .. } => (Some(*session), None),
            Kind::Session { .. } => return Ok(None),
        };
        let producer = producer.zip(batch.first_sequence).map(|(id, first_sequence)| Producer { id, first_sequence });
        let events = batch.events.clone();
        let submission = Submission {
            session,
            producer,
            rows: self.columns(schema, &events)?,
            offsets: (0..events.len() as u32).collect(),
            rejected: Vec::new(),
            arrived_at: now,
        };
        Ok(Some(Wish::Send(submission, events)))
    }

    /// Makes the next batch of a client.
    fn think_of(&mut self, rng: &mut StdRng, at: usize, now: EventTime) {
        let count = rng.random_range(1..7);
        if rng.random_bool(0.1) {
            self.failing = *[0.02, 0.1, 0.7].choose(rng).unwrap_or(&0.1);
        }
        let Some(client) = self.all.get_mut(at) else { return };
        let mut times: Vec<(EventTime, bool)> = Vec::new();
        match &mut client.kind {
            Kind::Session { left: 0, .. } => return,
            Kind::Session { next_at, left, .. } => {
                *left -= 1;
                for _ in 0..count {
                    *next_at = next_at.plus(Span::from_seconds(rng.random_range(0..20)));
                    times.push((*next_at, false));
                }
            }
            Kind::Named | Kind::Numbered { .. } => {
                // What is too old is known once there is a watermark.
                let settled = self.events.iter().any(|event| event.acknowledged);
                for _ in 0..count {
                    let seconds = match rng.random_range(0..20) {
                        0..15 => rng.random_range(-5..15),
                        15..18 => rng.random_range(15..120),
                        _ => rng.random_range(120..900),
                    };
                    let ancient = settled && self.habits.ancients && rng.random_bool(0.05);
                    let old = if ancient { 3 * 86_400 } else { 0 };
                    times.push((now.minus(Span::from_seconds(seconds + old)), ancient));
                }
            }
        }
        let first_sequence = match &mut client.kind {
            Kind::Numbered { next, .. } => {
                *next += count;
                Some(*next - count)
            }
            Kind::Named | Kind::Session { .. } => None,
        };
        let named = !matches!(&client.kind, Kind::Numbered { named: false, .. });
        let anybody = matches!(client.kind, Kind::Named);
        let first = self.events.len();
        let made = times.into_iter().map(|(at, ancient)| Sent {
            at,
            status: if rng.random_bool(self.failing) { "failed" } else { "approved" },
            amount: rng.random_range(1..1_000),
            named,
            ancient,
            acknowledged: false,
        });
        self.events.extend(made);
        client.waiting.push_back(Batch {
            events: (first..self.events.len()).collect(),
            first_sequence,
            sent: false,
            again: false,
        });
        if anybody && self.habits.repeats && rng.random_bool(0.2) {
            // Named live events may come from anywhere again.
            let events: Vec<usize> = (0..rng.random_range(1..5))
                .map(|_| rng.random_range(0..self.events.len()))
                .filter(|number| {
                    self.events.get(*number).is_some_and(|event| {
                        event.named && event.acknowledged && event.at > now.minus(Span::from_minutes(60))
                    })
                })
                .collect();
            if !events.is_empty() {
                client.waiting.push_back(Batch { events, first_sequence: None, sent: false, again: true });
            }
        }
    }

    /// A client was told that a batch is in the log. Answers how many of its events had been acknowledged before.
    pub fn acknowledged(&mut self, at: usize, events: &[usize]) -> u64 {
        let mut again = 0;
        for number in events {
            if let Some(event) = self.events.get_mut(*number) {
                again += u64::from(event.acknowledged);
                event.acknowledged = true;
            }
        }
        if let Some(client) = self.all.get_mut(at) {
            client.waiting.retain(|batch| batch.events != events);
        }
        again
    }

    /// A client was told that a batch was not taken: it will send it again.
    pub fn refused(&mut self, at: usize, events: &[usize]) {
        let Some(client) = self.all.get_mut(at) else { return };
        client.waiting.retain(|batch| batch.events != events || !batch.again);
        client.waiting.iter_mut().filter(|batch| batch.events == events).for_each(|batch| batch.sent = false);
    }

    /// Events as columns of the stream.
    fn columns(&self, schema: &Arc<Schema>, numbers: &[usize]) -> anyhow::Result<RecordBatch> {
        let events = || numbers.iter().filter_map(|number| Some((*number, self.events.get(*number)?)));
        let columns = schema.fields().iter().map(|field| -> anyhow::Result<ArrayRef> {
            Ok(match field.name().as_str() {
                "event_id" => Arc::new(
                    events().map(|(n, event)| event.named.then(|| format!("event-{n}"))).collect::<StringArray>(),
                ),
                "occurred_at" => Arc::new(
                    TimestampMicrosecondArray::from_iter_values(events().map(|(_, event)| event.at.micros()))
                        .with_timezone("UTC"),
                ),
                "status" => Arc::new(events().map(|(_, event)| Some(event.status)).collect::<StringArray>()),
                "account_id" => Arc::new(events().map(|(n, _)| Some(account(n))).collect::<StringArray>()),
                "amount_minor" => Arc::new(Int64Array::from_iter_values(events().map(|(_, event)| event.amount))),
                other => anyhow::bail!("the simulation has no values for the column `{other}`"),
            })
        });
        Ok(RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<_, _>>()?)?)
    }
}

/// The account that only this event has.
pub fn account(number: usize) -> String {
    format!("account-{number}")
}
