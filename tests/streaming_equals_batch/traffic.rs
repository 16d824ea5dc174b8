//! Random traffic: what clients submit, what the clock says, when sessions open and end, when a
//! checkpoint is written, when the engine restarts.
//! It does not judge what of it counts.

use std::collections::BTreeMap;

use rand::{Rng, rngs::StdRng, seq::IndexedRandom};

use super::events::{DAY, Event, HOUR, MINUTE, SECOND, Times};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    Live(u16),
    Session(u64),
}

/// Who numbers the events of a submission, and the number of the first.
#[derive(Clone, Debug)]
pub struct Numbering {
    pub producer: String,
    pub first: u64,
}

#[derive(Clone, Debug)]
pub struct Submission {
    pub source: Source,
    pub numbering: Option<Numbering>,
    /// What was sent, in order; `None` is an event that the door refuses.
    pub sent: Vec<Option<Event>>,
}

#[derive(Clone, Debug)]
pub enum Step {
    Submit(Submission),
    Advance { partition: u16, watermark: i64 },
    Open { session: u64, lateness: i64 },
    End { session: u64 },
    Checkpoint,
    Restart,
}

/// A client's events as it numbers them. What it did not send yet it may skip.
#[derive(Debug, Default)]
struct Numbered {
    events: Vec<Option<Event>>,
}

#[derive(Debug)]
struct Clock {
    now: i64,
    lateness: i64,
}

pub struct Traffic<'a> {
    rng: &'a mut StdRng,
    times: Times,
    /// Nothing is later than lateness and there are no sessions, so that there are no corrections.
    tidy: bool,
    with_ids: f64,
    now: i64,
    partitions: Vec<Option<Clock>>,
    sessions: BTreeMap<u64, Clock>,
    numbered: BTreeMap<(Option<u64>, String), Numbered>,
    history: BTreeMap<Source, Vec<Event>>,
    next_id: u32,
    steps: Vec<Step>,
}

pub fn random(rng: &mut StdRng, times: Times, tidy: bool) -> Vec<Step> {
    let with_ids = *[0.0, 0.8, 0.8, 0.8, 1.0].choose(rng).unwrap();
    let partitions = if tidy { 1 } else { rng.random_range(1..=3) };
    let now = 1_780_000_000 * SECOND + rng.random_range(0..DAY);
    let mut traffic = Traffic {
        rng,
        times,
        tidy,
        with_ids: if tidy { 1.0 } else { with_ids },
        now,
        partitions: (0..partitions).map(|_| None).collect(),
        sessions: BTreeMap::new(),
        numbered: BTreeMap::new(),
        history: BTreeMap::new(),
        next_id: 0,
        steps: Vec::new(),
    };
    traffic.run();
    traffic.steps
}

impl Traffic<'_> {
    fn run(&mut self) {
        let count = self.rng.random_range(6..45);
        let live_from = if !self.tidy && self.rng.random_bool(0.3) { self.rng.random_range(1..20) } else { 0 };
        let with_sessions = !self.tidy && (live_from > 0 || self.rng.random_bool(0.6));
        for step in 0..count {
            self.now += self.pause();
            match self.rng.random_range(0..100) {
                0..5 => self.steps.push(Step::Restart),
                5..15 => self.advance(),
                15..21 => self.steps.push(Step::Checkpoint),
                21..47 if with_sessions => self.session(),
                _ if step >= live_from => self.live(),
                _ => self.session(),
            }
        }
    }

    fn pause(&mut self) -> i64 {
        match self.rng.random_range(0..100) {
            0..5 => 0,
            5..82 => self.rng.random_range(0..90 * SECOND),
            82..93 => self.rng.random_range(MINUTE..10 * MINUTE),
            93..98 => self.rng.random_range(30 * MINUTE..5 * HOUR),
            _ => self.rng.random_range(DAY..3 * DAY),
        }
    }

    /// The clock's say about partitions that were heard before, as if they were idle.
    fn advance(&mut self) {
        for partition in 0..self.partitions.len() {
            if self.partitions[partition].is_some() && self.rng.random_bool(0.7) {
                let watermark = self.now - self.times.lateness - self.rng.random_range(0..MINUTE);
                self.steps.push(Step::Advance { partition: partition as u16, watermark });
                if self.tidy {
                    // What comes after a partition was called idle is as new as the clock.
                    self.partitions[partition] = Some(Clock { now: self.now, lateness: self.times.lateness });
                }
            }
        }
    }

    fn live(&mut self) {
        let partition = self.rng.random_range(0..self.partitions.len());
        let skew = if self.tidy { 0 } else { partition as i64 * self.rng.random_range(0..MINUTE) };
        let before = self.partitions[partition].as_ref().map_or(i64::MIN, |clock| clock.now);
        let clock = Clock { now: before.max(self.now - skew), lateness: self.times.lateness };
        self.partitions[partition] = Some(clock);
        let producer = format!("producer-{}", self.rng.random_range(0..3));
        let numbered = self.rng.random_bool(0.5).then_some(producer);
        self.submit(Source::Live(partition as u16), numbered);
    }

    fn session(&mut self) {
        let session = self.rng.random_range(1..=3);
        if !self.sessions.contains_key(&session) {
            let back = self.rng.random_range(0..40 * MINUTE);
            let now = match self.rng.random_range(0..10) {
                0..3 => self.now - self.rng.random_range(DAY..900 * DAY),
                3..8 => self.now - back,
                _ => self.now + self.rng.random_range(0..5 * HOUR),
            };
            self.sessions.insert(session, Clock { now, lateness: 0 });
            self.open(session);
        }
        match self.rng.random_range(0..100) {
            0..8 => self.open(session),
            8..16 => self.steps.push(Step::End { session }),
            16..20 => {
                self.steps.push(Step::End { session });
                self.open(session);
            }
            _ => {
                let pause = self.pause();
                if let Some(clock) = self.sessions.get_mut(&session) {
                    clock.now += pause;
                }
                // The rows of a file are numbered; other clients of a session need not do that.
                let numbered = (session != 3 && self.rng.random_bool(0.9)).then(|| "file".to_owned());
                self.submit(Source::Session(session), numbered);
            }
        }
    }

    fn open(&mut self, session: u64) {
        let lateness = *[0, 30 * SECOND, 5 * MINUTE, 2 * HOUR].choose(self.rng).unwrap();
        if let Some(clock) = self.sessions.get_mut(&session) {
            clock.lateness = lateness.max(self.times.lateness);
        }
        self.steps.push(Step::Open { session, lateness });
    }

    fn submit(&mut self, source: Source, producer: Option<String>) {
        let length =
            if self.rng.random_bool(0.06) { self.rng.random_range(30..120) } else { self.rng.random_range(1..13) };
        let Some(producer) = producer else {
            let sent = (0..length).map(|_| self.fresh(source)).collect();
            self.steps.push(Step::Submit(Submission { source, numbering: None, sent }));
            return;
        };
        let key = match source {
            Source::Live(_) => (None, producer.clone()),
            Source::Session(session) => (Some(session), producer.clone()),
        };
        let mut log = self.numbered.remove(&key).unwrap_or_default();
        let end = log.events.len();
        let first = match self.rng.random_range(0..100) {
            0..70 => end,
            // Acknowledgements were lost: some are sent again.
            70..85 => end.saturating_sub(self.rng.random_range(1..10)),
            85..93 => self.rng.random_range(0..=end),
            // A broken-off replay is repeated.
            93..95 => 0,
            _ => end + self.rng.random_range(1..4),
        };
        while log.events.len() < first + length {
            log.events.push(self.fresh(source));
        }
        let sent = log.events[first..first + length].to_vec();
        self.numbered.insert(key, log);
        let numbering = Some(Numbering { producer, first: first as u64 });
        self.steps.push(Step::Submit(Submission { source, numbering, sent }));
    }

    /// An event that was not sent before, or one whose id was; `None` for one that is malformed.
    fn fresh(&mut self, source: Source) -> Option<Event> {
        if self.rng.random_bool(0.04) {
            return None;
        }
        let at = self.time(source);
        let old = self.history.get(&source).filter(|_| self.rng.random_bool(0.1)).and_then(|old| {
            let recent = old.len().saturating_sub(30);
            if self.rng.random_bool(0.6) { old[recent..].choose(self.rng) } else { old.choose(self.rng) }
        });
        let event = match old.cloned() {
            // The same event again, or the same id with another time.
            Some(old) if self.rng.random_bool(0.5) && (!self.tidy || old.id.is_some()) => old,
            Some(old) => Event { at, ..old },
            None => {
                let id = self.rng.random_bool(self.with_ids).then(|| {
                    self.next_id += 1;
                    self.next_id
                });
                Event::random(self.rng, id, at)
            }
        };
        self.history.entry(source).or_default().push(event.clone());
        Some(event)
    }

    fn time(&mut self, source: Source) -> i64 {
        let horizon = self.times.correction_horizon.max(self.times.dedup_span);
        let step = self.rng.random_range(0..5 * SECOND);
        let clock = match source {
            Source::Live(partition) => self.partitions[usize::from(partition)].as_mut(),
            Source::Session(session) => self.sessions.get_mut(&session),
        };
        // Both are put in place before anything is submitted for them.
        let clock = clock.unwrap();
        clock.now += step;
        let lateness = clock.lateness;
        let back = match self.rng.random_range(0..100) {
            0..60 => self.rng.random_range(0..=lateness / 2),
            60..80 => self.rng.random_range(0..=lateness),
            _ if self.tidy => 0,
            80..91 => lateness + self.rng.random_range(0..=lateness + horizon),
            91..95 => 2 * lateness + horizon + self.rng.random_range(-2 * MINUTE..2 * MINUTE),
            95..97 => self.rng.random_range(0..3 * DAY),
            _ => -self.rng.random_range(0..3 * MINUTE),
        };
        clock.now - back
    }
}
