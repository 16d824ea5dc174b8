//! What de-duplication remembers: ids by their hash for a span of event time, and producers by the
//! greatest sequence heard. Both are bounded; at the limit the span shrinks, visibly.

use std::collections::{BTreeMap, HashMap, VecDeque};

use hashbrown::HashTable;
use tidewatch_model::{EventTime, IdHash, Minute, Span, limits};

/// Ids seen within `span` of event time, in one run a minute so that expiry costs what it frees.
#[derive(Debug)]
pub struct IdMemory {
    seen: HashTable<IdHash>,
    runs: BTreeMap<Minute, Vec<IdHash>>,
    span: Span,
    ids_max: usize,
    /// Minutes before this one were forgotten for want of room.
    forgotten_before: Option<Minute>,
}

/// XXH3 spreads its bits evenly, so its low half is a good hash of the whole.
fn low(id: &IdHash) -> u64 {
    *id as u64
}

impl IdMemory {
    pub fn new(span: Span, ids_max: usize) -> Self {
        Self { seen: HashTable::new(), runs: BTreeMap::new(), span, ids_max, forgotten_before: None }
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
        self.runs.entry(minute).or_default().push(id);
        true
    }

    fn forget_oldest(&mut self) {
        if let Some((minute, run)) = self.runs.pop_first() {
            self.drop_run(&run);
            self.forgotten_before = Some(self.forgotten_before.map_or(minute.next(), |m| m.max(minute.next())));
        }
    }

    fn drop_run(&mut self, run: &[IdHash]) {
        for id in run {
            if let Ok(entry) = self.seen.find_entry(low(id), |other| other == id) {
                entry.remove();
            }
        }
    }

    /// Forgets what the span no longer covers.
    pub fn expire(&mut self, watermark: EventTime) {
        let keep = watermark.minus(self.span).minute();
        while self.runs.first_key_value().is_some_and(|(minute, _)| *minute < keep) {
            if let Some((_, run)) = self.runs.pop_first() {
                self.drop_run(&run);
            }
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
