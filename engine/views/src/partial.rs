//! `PartialRows`: one minute of one view as mergeable partial state, in order of key.

use std::collections::HashMap;

use tidewatch_model::Minute;

use crate::states::States;

/// A key of a view in its row format: comparable bytes, the same for equal keys within a process.
pub type KeyBytes = Box<[u8]>;

/// Rows of partial state. Keys are strictly ascending; every state column has one entry a key.
#[derive(Clone, Debug, PartialEq)]
pub struct PartialRows {
    minute: Minute,
    keys: Vec<KeyBytes>,
    states: Vec<States>,
}

impl PartialRows {
    /// `keys` may come in any order, without repeats; `states` are in the order of `keys`.
    pub fn new(minute: Minute, keys: Vec<KeyBytes>, mut states: Vec<States>) -> Self {
        assert!(
            states.iter().all(|column| column.len() == keys.len()),
            "a state column of another length than its keys"
        );
        let mut order: Vec<u32> = (0..keys.len() as u32).collect();
        order.sort_unstable_by(|a, b| keys[*a as usize].cmp(&keys[*b as usize]));
        let states = states.iter_mut().map(|column| column.take(&order)).collect();
        let mut keys = keys;
        let keys: Vec<KeyBytes> = order.iter().map(|at| std::mem::take(&mut keys[*at as usize])).collect();
        assert!(keys.windows(2).all(|pair| pair[0] < pair[1]), "a key stands twice in one minute's partial rows");
        Self { minute, keys, states }
    }

    pub fn minute(&self) -> Minute {
        self.minute
    }

    pub fn keys(&self) -> &[KeyBytes] {
        &self.keys
    }

    pub fn states(&self) -> &[States] {
        &self.states
    }

    /// The keys and the states.
    pub fn into_parts(self) -> (Vec<KeyBytes>, Vec<States>) {
        (self.keys, self.states)
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The rows at the given places, in order.
    #[must_use]
    pub fn select(&self, rows: &[u32]) -> Self {
        Self {
            minute: self.minute,
            keys: rows.iter().map(|row| self.keys[*row as usize].clone()).collect(),
            states: self.states.iter().map(|column| column.gather(rows)).collect(),
        }
    }

    /// Both sets of rows added up, key by key.
    #[must_use]
    pub fn merged(&self, other: &Self) -> Self {
        assert_eq!(self.minute, other.minute, "partial rows of two minutes were merged");
        let mut keys = self.keys.clone();
        let mut slots = Vec::with_capacity(other.keys.len());
        for key in &other.keys {
            match self.keys.binary_search(key) {
                Ok(at) => slots.push(at as u32),
                Err(_) => {
                    slots.push(keys.len() as u32);
                    keys.push(key.clone());
                }
            }
        }
        let mut states = self.states.clone();
        for (ours, theirs) in states.iter_mut().zip(&other.states) {
            ours.grow(keys.len());
            ours.merge(&slots, theirs);
        }
        Self::new(self.minute, keys, states)
    }

    /// All of these added up, key by key, as rows of `minute`: that of each, or where the window begins that holds them. `None`
    /// where there are none to add.
    pub fn summed<'a>(minute: Minute, all: impl IntoIterator<Item = &'a Self>) -> Option<Self> {
        let mut all = all.into_iter();
        let first = all.next()?;
        let Some(second) = all.next() else { return Some(Self { minute, ..first.clone() }) };
        let (mut keys, mut states) = (first.keys.clone(), first.states.clone());
        let mut known: HashMap<&[u8], u32> =
            first.keys.iter().enumerate().map(|(at, key)| (key.as_ref(), at as u32)).collect();
        for rows in std::iter::once(second).chain(all) {
            let mut slots = Vec::with_capacity(rows.keys.len());
            for key in &rows.keys {
                slots.push(*known.entry(key.as_ref()).or_insert_with(|| {
                    keys.push(key.clone());
                    (keys.len() - 1) as u32
                }));
            }
            for (ours, theirs) in states.iter_mut().zip(&rows.states) {
                ours.grow(keys.len());
                ours.merge(&slots, theirs);
            }
        }
        Some(Self::new(minute, keys, states))
    }

    /// An estimate of the bytes held.
    pub fn bytes(&self) -> usize {
        self.keys.iter().map(|key| key.len() + 16).sum::<usize>() + self.states.iter().map(States::bytes).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(entries: &[(&str, i64)]) -> PartialRows {
        let keys = entries.iter().map(|(key, _)| key.as_bytes().into()).collect();
        PartialRows::new(Minute::from_index(1), keys, vec![States::Count(entries.iter().map(|(_, n)| *n).collect())])
    }

    #[test]
    fn merging_adds_key_by_key_in_any_order() {
        let (a, b) = (rows(&[("b", 1), ("a", 2)]), rows(&[("c", 5), ("a", 10)]));
        let expected = rows(&[("a", 12), ("b", 1), ("c", 5)]);
        assert_eq!(a.merged(&b), expected);
        assert_eq!(b.merged(&a), expected);
        assert_eq!(expected.select(&[0, 2]), rows(&[("a", 12), ("c", 5)]));
        let minute = Minute::from_index(1);
        assert_eq!(PartialRows::summed(minute, [&a, &b]), Some(expected));
        assert_eq!(PartialRows::summed(minute, [&a, &b, &a]), Some(a.merged(&b).merged(&a)));
        assert_eq!(PartialRows::summed(minute, []), None);
        assert_eq!(PartialRows::summed(Minute::from_index(0), [&a]).map(|rows| rows.minute().index()), Some(0));
    }
}
