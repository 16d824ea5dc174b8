//! What the design says of each event, as plainly as it can be written: one loop over events that decides counted,
//! duplicate or too late, and one over minutes that decides when they are sealed. It shares no code with the engine.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    events::{Event, MINUTE, Times},
    traffic::{Source, Submission},
};

/// What a step does.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub counted: u64,
    pub duplicates: u64,
    pub too_late: u64,
    pub rejected: u64,
    /// Minutes in the order in which they are sealed, and the session that sealed them.
    pub sealed: Vec<(i64, Option<u64>)>,
    /// Times that a minute is corrected.
    pub corrections: u64,
}

/// Live traffic, or one session: what shares a watermark and a memory of ids.
#[derive(Debug, Default)]
struct Domain {
    lateness: i64,
    dedup_span: i64,
    partitions: BTreeMap<Source, i64>,
    watermark: Option<i64>,
    /// The first minute that is not sealed, once there was an event.
    next: Option<i64>,
    newest: i64,
    /// Each id that is remembered, with the minute in which it came first.
    ids: BTreeMap<u32, i64>,
    /// Ids of minutes before this one were forgotten for want of room.
    forgotten_before: i64,
    open: BTreeMap<i64, Vec<Event>>,
}

#[derive(Debug)]
pub struct Model {
    times: Times,
    live: Domain,
    sessions: BTreeMap<u64, Domain>,
    /// The greatest sequence heard of each producer and each session.
    heard: BTreeMap<(Option<u64>, String), u64>,
    sealed: BTreeSet<i64>,
    /// The events of sealed minutes.
    settled: Vec<Event>,
    corrections: u64,
}

impl Domain {
    fn new(lateness: i64, dedup_span: i64) -> Self {
        Self { lateness, dedup_span, forgotten_before: i64::MIN, ..Self::default() }
    }

    /// The oldest minute of which every id is remembered.
    fn vouched(&self) -> Option<i64> {
        self.watermark.map(|watermark| (watermark - self.dedup_span).div_euclid(MINUTE).max(self.forgotten_before))
    }

    /// Whether the id is new; it is remembered from now on.
    fn is_new(&mut self, id: u32, minute: i64, ids_max: usize) -> bool {
        if self.ids.contains_key(&id) {
            return false;
        }
        if self.ids.len() >= ids_max
            && let Some(oldest) = self.ids.values().min().copied()
        {
            self.ids.retain(|_, minute| *minute != oldest);
            self.forgotten_before = self.forgotten_before.max(oldest + 1);
        }
        self.ids.insert(id, minute);
        true
    }

    fn raise(&mut self, source: Source, watermark: i64) {
        let entry = self.partitions.entry(source).or_insert(watermark);
        *entry = watermark.max(*entry);
        let least = self.partitions.values().min().copied();
        self.watermark = self.watermark.max(least);
        if let Some(watermark) = self.watermark {
            let oldest = (watermark - self.dedup_span).div_euclid(MINUTE);
            self.ids.retain(|_, minute| *minute >= oldest);
            if self.forgotten_before <= oldest {
                self.forgotten_before = i64::MIN;
            }
        }
    }

    /// Every minute up to `end`, empty ones too, but no empty stretch longer than `gap_max` minutes.
    fn take_before(&mut self, end: i64, gap_max: i64) -> Vec<(i64, Vec<Event>)> {
        let mut taken = Vec::new();
        let Some(mut minute) = self.next else { return taken };
        while minute < end {
            let filled = self.open.range(..end).next().map_or(end, |(filled, _)| *filled);
            if filled - minute > gap_max {
                minute = filled;
            } else {
                taken.push((minute, self.open.remove(&minute).unwrap_or_default()));
                minute += 1;
            }
        }
        self.next = Some(minute);
        taken
    }
}

impl Model {
    pub fn new(times: Times) -> Self {
        Self {
            times,
            live: Domain::new(times.lateness, times.dedup_span),
            sessions: BTreeMap::new(),
            heard: BTreeMap::new(),
            sealed: BTreeSet::new(),
            settled: Vec::new(),
            corrections: 0,
        }
    }

    /// The events of sealed minutes.
    pub fn settled(&self) -> &[Event] {
        &self.settled
    }

    /// The events that wait for their minute to be sealed.
    pub fn waiting(&self) -> Vec<Event> {
        let domains = std::iter::once(&self.live).chain(self.sessions.values());
        domains.flat_map(|domain| domain.open.values().flatten()).cloned().collect()
    }

    pub fn corrections(&self) -> u64 {
        self.corrections
    }

    pub fn open(&mut self, session: u64, lateness: i64) {
        let wider = lateness.max(self.times.lateness);
        match self.sessions.get_mut(&session) {
            Some(open) => open.lateness = open.lateness.max(lateness),
            None => {
                self.sessions.insert(session, Domain::new(wider, self.times.dedup_span + lateness));
            }
        }
    }

    pub fn end(&mut self, session: u64) -> Outcome {
        let mut outcome = Outcome::default();
        if let Some(mut domain) = self.sessions.remove(&session) {
            let minutes = domain.take_before(domain.newest + 1, self.gap_max());
            self.seal(Some(session), minutes, &mut outcome);
        }
        outcome
    }

    pub fn advance(&mut self, partition: u16, watermark: i64) -> Outcome {
        let mut outcome = Outcome::default();
        if self.live.next.is_some() {
            self.live.raise(Source::Live(partition), watermark);
            self.seal_due(Source::Live(partition), &mut outcome);
        }
        outcome
    }

    pub fn submit(&mut self, submission: &Submission) -> Outcome {
        let mut outcome = Outcome::default();
        let session = match submission.source {
            Source::Live(_) => None,
            Source::Session(session) => Some(session),
        };
        let sender = submission.numbering.as_ref().map(|numbering| match session {
            None => (None, numbering.producer.clone()),
            Some(session) => (Some(session), String::new()),
        });
        let heard = sender.as_ref().and_then(|sender| self.heard.get(sender)).copied();
        let watermark = self.domain(session).and_then(|domain| domain.watermark);
        let mut greatest = None;
        let mut corrected = BTreeSet::new();
        for (place, event) in submission.sent.iter().enumerate() {
            let Some(event) = event else {
                outcome.rejected += 1;
                continue;
            };
            let sequence = submission.numbering.as_ref().map(|numbering| numbering.first + place as u64);
            let ids_max = self.times.ids_max;
            let horizon = self.times.correction_horizon;
            let Some(domain) = self.domain(session) else {
                // The session has ended.
                outcome.too_late += 1;
                continue;
            };
            let minute = event.minute();
            // Lateness is judged by the watermark before the batch.
            let beyond =
                watermark.is_some_and(|watermark| minute < (watermark - horizon - domain.lateness).div_euclid(MINUTE));
            let unvouched = event.id.is_some() && domain.vouched().is_some_and(|vouched| minute < vouched);
            if sequence.is_some() && sequence <= heard {
                outcome.duplicates += 1;
            } else if beyond || unvouched {
                outcome.too_late += 1;
            } else if event.id.is_some_and(|id| !domain.is_new(id, minute, ids_max)) {
                outcome.duplicates += 1;
            } else {
                outcome.counted += 1;
                greatest = greatest.max(Some(event.at));
                let past = watermark.is_some_and(|watermark| minute < watermark.div_euclid(MINUTE));
                if self.count(session, event, past) {
                    corrected.insert(minute);
                }
            }
        }
        outcome.corrections = corrected.len() as u64;
        self.corrections += outcome.corrections;
        if let (Some(sender), Some(numbering)) = (sender, &submission.numbering) {
            let last = numbering.first + (submission.sent.len() as u64).saturating_sub(1);
            let entry = self.heard.entry(sender).or_insert(last);
            *entry = last.max(*entry);
        }
        if let Some(greatest) = greatest
            && let Some(domain) = self.domain(session)
        {
            let watermark = greatest - domain.lateness;
            domain.raise(submission.source, watermark);
            self.seal_due(submission.source, &mut outcome);
        }
        outcome
    }

    /// Puts a counted event where it belongs; true where that is a correction. `past` says that the domain's
    /// watermark has left the event's minute.
    fn count(&mut self, session: Option<u64>, event: &Event, past: bool) -> bool {
        let minute = event.minute();
        let live_has_it = self.live.next.is_some_and(|next| minute >= next);
        if past && session.is_some() && live_has_it && !self.sealed.contains(&minute) {
            // The session is done with the minute and live traffic is not: it is not sealed, so nothing is corrected.
            self.live.open.entry(minute).or_default().push(event.clone());
            return false;
        }
        if past || (session.is_none() && self.sealed.contains(&minute)) {
            self.sealed.insert(minute);
            self.settled.push(event.clone());
            return true;
        }
        if let Some(domain) = self.domain(session) {
            domain.next = Some(domain.next.map_or(minute, |next| next.min(minute)));
            domain.newest = domain.newest.max(minute);
            domain.open.entry(minute).or_default().push(event.clone());
        }
        false
    }

    fn domain(&mut self, session: Option<u64>) -> Option<&mut Domain> {
        match session {
            None => Some(&mut self.live),
            Some(session) => self.sessions.get_mut(&session),
        }
    }

    /// The longest gap whose minutes are judged, in minutes.
    fn gap_max(&self) -> i64 {
        self.times.live_for.div_euclid(MINUTE) + i64::from(self.times.live_for.rem_euclid(MINUTE) > 0)
    }

    fn seal_due(&mut self, source: Source, outcome: &mut Outcome) {
        let session = match source {
            Source::Live(_) => None,
            Source::Session(session) => Some(session),
        };
        let gap_max = self.gap_max();
        let Some(domain) = self.domain(session) else { return };
        let Some(watermark) = domain.watermark else { return };
        let minutes = domain.take_before(watermark.div_euclid(MINUTE), gap_max);
        self.seal(session, minutes, outcome);
    }

    fn seal(&mut self, session: Option<u64>, minutes: Vec<(i64, Vec<Event>)>, outcome: &mut Outcome) {
        let mut corrections = 0;
        for (minute, events) in minutes {
            if self.sealed.contains(&minute) {
                corrections += u64::from(!events.is_empty());
                self.settled.extend(events);
            } else if session.is_some() && self.live.next.is_some_and(|next| minute >= next) {
                // Live traffic is still at this minute and will seal it.
                if !events.is_empty() {
                    self.live.open.entry(minute).or_default().extend(events);
                }
            } else {
                self.sealed.insert(minute);
                outcome.sealed.push((minute, session));
                self.settled.extend(events);
            }
        }
        outcome.corrections += corrections;
        self.corrections += corrections;
    }
}
