//! `SealedMinutes`: which minutes of a stream were sealed, as ranges.

use std::collections::BTreeMap;

use tidewatch_model::Minute;

/// A set of minutes, kept as disjoint ranges (first → last). Traffic seals minutes one after another,
/// so there are as many ranges as there are gaps in history.
#[derive(Debug, Default, Clone)]
pub struct SealedMinutes {
    ranges: BTreeMap<Minute, Minute>,
}

impl SealedMinutes {
    pub fn contains(&self, minute: Minute) -> bool {
        self.ranges.range(..=minute).next_back().is_some_and(|(_, last)| minute <= *last)
    }

    pub fn insert(&mut self, minute: Minute) {
        if self.contains(minute) {
            return;
        }
        let mut first = minute;
        let mut last = minute;
        if let Some((before, end)) = self.ranges.range(..minute).next_back()
            && end.next() == minute
        {
            first = *before;
        }
        if let Some(end) = self.ranges.remove(&minute.next()) {
            last = end;
        }
        self.ranges.insert(first, last);
    }

    /// The ranges as (first, last), in order of time.
    pub fn ranges(&self) -> impl Iterator<Item = (Minute, Minute)> {
        self.ranges.iter().map(|(first, last)| (*first, *last))
    }

    /// The set of these ranges; `None` where they are not such as `ranges` gives them.
    pub fn from_ranges(ranges: &[(Minute, Minute)]) -> Option<Self> {
        let ordered = ranges.iter().all(|(first, last)| first <= last);
        let apart = ranges.windows(2).all(|pair| matches!(pair, [before, after] if before.1.next() < after.0));
        (ordered && apart).then(|| Self { ranges: ranges.iter().copied().collect() })
    }

    pub fn newest(&self) -> Option<Minute> {
        self.ranges.values().next_back().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_join() {
        let mut sealed = SealedMinutes::default();
        for minute in [5, 7, 6, 1, 9, 8] {
            sealed.insert(Minute::from_index(minute));
        }
        let inside: Vec<i64> = (0..12).filter(|m| sealed.contains(Minute::from_index(*m))).collect();
        assert_eq!(inside, [1, 5, 6, 7, 8, 9]);
        assert_eq!(sealed.ranges.len(), 2);
        assert_eq!(sealed.newest(), Some(Minute::from_index(9)));
    }

    #[test]
    fn ranges_are_taken_back_as_they_were_given() {
        let range = |first, last| (Minute::from_index(first), Minute::from_index(last));
        for (ranges, good) in [
            (vec![], true),
            (vec![range(1, 1), range(3, 9)], true),
            (vec![range(1, 2), range(3, 9)], false),
            (vec![range(3, 9), range(1, 1)], false),
            (vec![range(1, 5), range(4, 9)], false),
            (vec![range(2, 1)], false),
        ] {
            let back = SealedMinutes::from_ranges(&ranges);
            assert_eq!(back.map(|sealed| sealed.ranges().collect()), good.then_some(ranges));
        }
    }
}
