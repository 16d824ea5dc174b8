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
}
