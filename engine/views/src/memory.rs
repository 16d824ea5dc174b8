//! What de-duplication remembers: ids by their hash for a span of event time, and producers by the
//! greatest sequence heard. Both are bounded; at the limit the span shrinks, visibly.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use hashbrown::{HashTable, hash_table::Entry};
use serde::{Deserialize, Serialize};
use tidewatch_model::{EventTime, IdHash, Minute, Span, limits};

/// Ids seen within `span` of event time, in one run a minute so that expiry costs what it frees.
#[derive(Debug)]
pub struct IdMemory {
    seen: HashTable<IdHash>,
    runs: BTreeMap<Minute, Run>,
    /// Minutes with ids that `take_unsaved` has not handed out.
    unsaved: BTreeSet<Minute>,
    span: Span,
    ids_max: usize,
    /// Minutes before this one were forgotten for want of room.
    forgotten_before: Option<Minute>,
}

/// The ids of one minute in the order of their coming.
#[derive(Debug, Default)]
struct Run {
    ids: Vec<IdHash>,
    /// As many of the first were handed out to be saved.
    saved: usize,
}

/// All of the memory but the runs themselves.
///
/// A minute's ids are dropped together, and then no more of that minute come, because what is older than the memory
/// vouches for is late. So of all ids that were ever handed out, those of `oldest` and later are the ones that are held.
/// The exception is the id for which room was made: its minute may be as old as what was dropped. Such ids are few and
/// stand here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdsState {
    /// As a number: the text of a `Span` is not exact to the microsecond.
    span_us: i64,
    pub forgotten_before: Option<Minute>,
    /// The oldest minute that is remembered whole.
    pub oldest: Option<Minute>,
    /// All ids, those of `leftovers` among them.
    pub held: usize,
    /// Ids of minutes before `forgotten_before`: the minute, the high and the low half.
    leftovers: Vec<(Minute, u64, u64)>,
}

/// XXH3 spreads its bits evenly, so its low half is a good hash of the whole.
fn low(id: &IdHash) -> u64 {
    *id as u64
}

impl IdMemory {
    pub fn new(span: Span, ids_max: usize) -> Self {
        Self {
            seen: HashTable::new(),
            runs: BTreeMap::new(),
            unsaved: BTreeSet::new(),
            span,
            ids_max,
            forgotten_before: None,
        }
    }

    pub fn state(&self) -> IdsState {
        IdsState {
            span_us: self.span.micros(),
            forgotten_before: self.forgotten_before,
            oldest: self.oldest_whole(),
            held: self.len(),
            leftovers: self.leftovers().collect(),
        }
    }

    /// The oldest minute that is remembered whole: runs of older ones are not needed to restore the memory.
    pub fn oldest_whole(&self) -> Option<Minute> {
        let forgotten = self.forgotten_before.unwrap_or(Minute::from_index(i64::MIN));
        self.runs.range(forgotten..).next().map(|(minute, _)| *minute)
    }

    fn leftovers(&self) -> impl Iterator<Item = (Minute, u64, u64)> {
        let forgotten = self.forgotten_before.unwrap_or(Minute::from_index(i64::MIN));
        let halves = |minute: Minute, id: &IdHash| (minute, (*id >> 64) as u64, *id as u64);
        self.runs.range(..forgotten).flat_map(move |(minute, run)| run.ids.iter().map(move |id| halves(*minute, id)))
    }

    /// A memory as it was saved, save for the ids, which `recall` brings back. `span` is the one to be kept from now on;
    /// without one it stays what it was.
    pub fn resume(state: &IdsState, span: Option<Span>, ids_max: usize, watermark: Option<EventTime>) -> Self {
        let before = Span::from_micros(state.span_us);
        let span = span.unwrap_or(before);
        let mut memory = Self::new(span, ids_max);
        memory.seen.reserve(state.held.min(ids_max), low);
        memory.forgotten_before = state.forgotten_before;
        for (minute, high, low) in &state.leftovers {
            memory.take_back(*minute, &[IdHash::from(*high) << 64 | IdHash::from(*low)]);
        }
        if let Some(watermark) = watermark.filter(|_| span > before) {
            // What a longer span would cover besides was not remembered, so it cannot be vouched for.
            let covered = watermark.minus(before).minute();
            memory.forgotten_before = Some(memory.forgotten_before.map_or(covered, |minute| minute.max(covered)));
        }
        memory
    }

    /// Takes back ids that were handed out, of which `held` says what is held still. The same id may come repeatedly.
    pub fn recall(&mut self, held: &IdsState, minute: Minute, ids: &[IdHash]) {
        if held.oldest.is_some_and(|oldest| oldest <= minute) {
            self.take_back(minute, ids);
        }
    }

    fn take_back(&mut self, minute: Minute, ids: &[IdHash]) {
        for id in ids {
            if let Entry::Vacant(free) = self.seen.entry(low(id), |other| other == id, low) {
                free.insert(*id);
                let run = self.runs.entry(minute).or_default();
                run.ids.push(*id);
                run.saved = run.ids.len();
            }
        }
    }

    /// The ids remembered since the last call, by minute; those that stand in the state are not among them.
    pub fn take_unsaved(&mut self) -> Vec<(Minute, Vec<IdHash>)> {
        let mut taken = Vec::with_capacity(self.unsaved.len());
        let forgotten = self.forgotten_before;
        let unsaved = std::mem::take(&mut self.unsaved).into_iter();
        for minute in unsaved.filter(|minute| forgotten.is_none_or(|forgotten| forgotten <= *minute)) {
            let Some(run) = self.runs.get_mut(&minute) else { continue };
            taken.push((minute, run.ids.get(run.saved..).unwrap_or_default().to_vec()));
            run.saved = run.ids.len();
        }
        taken
    }

    /// What was handed out before counts as not handed out.
    pub fn unsave(&mut self) {
        self.runs.values_mut().for_each(|run| run.saved = 0);
        self.unsaved = self.runs.keys().copied().collect();
    }

    /// The earliest event time for which a repeated id would be noticed.
    pub fn vouches_from(&self, watermark: EventTime) -> EventTime {
        let by_span = watermark.minus(self.span).minute().start();
        match self.forgotten_before {
            Some(minute) => by_span.max(minute.start()),
            None => by_span,
        }
    }

    /// Remembers an id; false where it was seen before.
    pub fn insert(&mut self, id: IdHash, minute: Minute) -> bool {
        if self.seen.find(low(&id), |other| *other == id).is_some() {
            return false;
        }
        if self.seen.len() >= self.ids_max {
            self.forget_oldest();
        }
        self.seen.insert_unique(low(&id), id, low);
        let run = self.runs.entry(minute).or_default();
        if run.saved == run.ids.len() {
            self.unsaved.insert(minute);
        }
        run.ids.push(id);
        true
    }

    fn forget_oldest(&mut self) {
        if let Some(minute) = self.drop_oldest() {
            self.forgotten_before = Some(self.forgotten_before.map_or(minute.next(), |m| m.max(minute.next())));
        }
    }

    fn drop_oldest(&mut self) -> Option<Minute> {
        let (minute, run) = self.runs.pop_first()?;
        self.unsaved.remove(&minute);
        for id in &run.ids {
            if let Ok(entry) = self.seen.find_entry(low(id), |other| other == id) {
                entry.remove();
            }
        }
        Some(minute)
    }

    /// Forgets every id as if it had never come: a bug, for whoever tests that it is found.
    pub fn forget_all(&mut self) {
        self.seen.clear();
        self.runs.clear();
        self.unsaved.clear();
    }

    /// Forgets what the span no longer covers.
    pub fn expire(&mut self, watermark: EventTime) {
        let keep = watermark.minus(self.span).minute();
        while self.runs.first_key_value().is_some_and(|(minute, _)| *minute < keep) {
            self.drop_oldest();
        }
        if self.forgotten_before.is_some_and(|minute| minute <= keep) {
            self.forgotten_before = None;
        }
        if self.seen.len() * 4 < self.seen.capacity() {
            self.seen.shrink_to(self.seen.len() * 2, low);
        }
    }

    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// The span that is covered now: shorter than asked for where memory was at its limit.
    pub fn effective_span(&self, watermark: EventTime) -> Span {
        watermark.since(self.vouches_from(watermark)).min(self.span)
    }
}

/// The greatest sequence heard of each producer.
#[derive(Debug, Default)]
pub struct Producers {
    heard: HashMap<Box<str>, u64>,
    order: VecDeque<Box<str>>,
}

impl Producers {
    /// The sequence at or below which this producer's events are repeats.
    pub fn last(&self, producer: &str) -> Option<u64> {
        self.heard.get(producer).copied()
    }

    pub fn hear(&mut self, producer: &str, sequence: u64) {
        if let Some(last) = self.heard.get_mut(producer) {
            *last = sequence.max(*last);
            return;
        }
        if self.heard.len() >= limits::PRODUCERS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.heard.remove(&oldest);
        }
        self.heard.insert(producer.into(), sequence);
        self.order.push_back(producer.into());
    }

    /// Each producer and its greatest sequence, the one heard of longest ago first. Hearing them in this order gives the
    /// same memory.
    pub fn in_order(&self) -> impl Iterator<Item = (&str, u64)> {
        self.order.iter().filter_map(|producer| Some((&**producer, self.last(producer)?)))
    }
}

#[cfg(test)]
mod tests {
    use tidewatch_model::hash_id;

    use super::*;

    fn id(n: u64) -> IdHash {
        hash_id(&n.to_le_bytes())
    }

    #[test]
    fn ids_are_forgotten_when_their_minute_leaves_the_span() {
        let mut memory = IdMemory::new(Span::from_minutes(10), 1_000);
        let minute = Minute::from_index(100);
        assert!(memory.insert(id(1), minute));
        assert!(!memory.insert(id(1), minute.plus(3)), "seen within the span, whatever its minute");
        memory.expire(minute.plus(10).start());
        assert!(!memory.insert(id(1), minute));
        memory.expire(minute.plus(11).start());
        assert!(memory.insert(id(1), minute.plus(11)));
        assert_eq!(memory.len(), 1);
    }

    #[test]
    fn at_the_limit_the_span_shrinks_and_says_so() {
        let mut memory = IdMemory::new(Span::from_minutes(60), 10);
        let start = Minute::from_index(1_000);
        for n in 0..12 {
            assert!(memory.insert(id(n), start.plus(n as i64 / 2)));
        }
        let watermark = start.plus(6).start();
        assert_eq!(memory.len(), 10);
        assert_eq!(memory.vouches_from(watermark), start.plus(1).start());
        assert_eq!(memory.effective_span(watermark), Span::from_minutes(5));
    }

    #[test]
    fn only_what_is_new_is_handed_out_and_only_what_is_held_is_taken_back() {
        let start = Minute::from_index(1_000);
        let mut memory = IdMemory::new(Span::from_minutes(10), 6);
        let mut handed_out = Vec::new();
        let save = |memory: &mut IdMemory, handed_out: &mut Vec<_>| {
            let new = memory.take_unsaved();
            let counts: Vec<(i64, usize)> = new.iter().map(|(m, ids)| (m.index() - 1_000, ids.len())).collect();
            handed_out.extend(new);
            counts
        };
        (0..3).for_each(|n| assert!(memory.insert(id(n), start.plus(n as i64 % 2))));
        assert_eq!(save(&mut memory, &mut handed_out), [(0, 2), (1, 1)]);
        assert_eq!(save(&mut memory, &mut handed_out), []);
        // The second forgets minute 0, and nothing of it is left to be saved.
        assert!(memory.insert(id(3), start));
        (4..8).for_each(|n| assert!(memory.insert(id(n), start.plus(1 + n as i64 % 2))));
        assert_eq!(save(&mut memory, &mut handed_out), [(1, 2), (2, 2)]);
        let state = memory.state();
        assert_eq!((state.oldest, state.held, state.forgotten_before), (Some(start.plus(1)), 5, Some(start.plus(1))));
        let mut back = IdMemory::resume(&state, None, 6, None);
        // Twice over: what a save that went wrong had handed out may come again.
        for (minute, ids) in handed_out.iter().chain(&handed_out) {
            back.recall(&state, *minute, ids);
        }
        assert_eq!(back.state(), state);
        assert_eq!(back.take_unsaved(), []);
        memory.unsave();
        back.unsave();
        assert_eq!(back.take_unsaved(), memory.take_unsaved());
    }

    #[test]
    fn the_id_for_which_its_own_minute_was_forgotten_is_remembered() {
        let minute = Minute::from_index(1_000);
        let mut memory = IdMemory::new(Span::from_minutes(10), 2);
        assert!(memory.insert(id(0), minute) && memory.insert(id(1), minute));
        let handed_out = memory.take_unsaved();
        assert!(memory.insert(id(2), minute));
        assert_eq!((memory.len(), memory.take_unsaved(), memory.oldest_whole()), (1, vec![], None));
        let state = memory.state();
        let mut back = IdMemory::resume(&state, None, 2, None);
        back.recall(&state, handed_out[0].0, &handed_out[0].1);
        assert_eq!(back.state(), state);
        assert!(!back.insert(id(2), minute) && back.insert(id(0), minute));
    }

    #[test]
    fn a_longer_span_vouches_only_for_what_was_remembered() {
        let watermark = Minute::from_index(1_000).start();
        let state = IdMemory::new(Span::from_minutes(10), 9).state();
        for (span, from, later) in [(30, 990, 990), (10, 990, 1_010), (5, 995, 1_015)] {
            let mut memory = IdMemory::resume(&state, Some(Span::from_minutes(span)), 9, Some(watermark));
            assert_eq!(memory.vouches_from(watermark).minute().index(), from, "{span}");
            let watermark = watermark.plus(Span::from_minutes(20));
            memory.expire(watermark);
            assert_eq!(memory.vouches_from(watermark).minute().index(), later, "{span}");
        }
    }

    #[test]
    fn the_producer_heard_of_first_is_forgotten_first() {
        let mut producers = Producers::default();
        for n in 0..=limits::PRODUCERS_MAX {
            producers.hear(&format!("p{n}"), n as u64);
        }
        assert_eq!(producers.last("p0"), None);
        assert_eq!(producers.last("p1"), Some(1));
        producers.hear("p1", 0);
        assert_eq!(producers.last("p1"), Some(1));
    }
}
