//! `HourCache`: hours that were read back from disk, for as long as there is room. What was not used for longest goes first.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::hour::{Hour, Seen};

/// An hour of the view at a place, at one version of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CacheKey {
    pub place: usize,
    pub hour: i64,
    pub version: u32,
}

#[derive(Clone, Debug)]
enum Entry {
    Hour(Arc<Hour>),
    Seen(Arc<Seen>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Hour,
    Seen,
}

#[derive(Debug, Default)]
struct Kept {
    entries: HashMap<(CacheKey, Kind), (Entry, usize, u64)>,
    bytes: usize,
    /// Counts uses.
    uses: u64,
}

/// Bounded by `bytes_max`; an hour that is larger alone is not kept.
#[derive(Debug)]
pub struct HourCache {
    kept: Mutex<Kept>,
    bytes_max: usize,
}

impl HourCache {
    pub fn new(bytes_max: usize) -> Self {
        Self { kept: Mutex::default(), bytes_max }
    }

    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.lock().bytes
    }

    pub(crate) fn hour(&self, key: CacheKey) -> Option<Arc<Hour>> {
        match self.get(key, Kind::Hour) {
            Some(Entry::Hour(hour)) => Some(hour),
            _ => None,
        }
    }

    pub(crate) fn put_hour(&self, key: CacheKey, hour: &Arc<Hour>) {
        self.put((key, Kind::Hour), Entry::Hour(Arc::clone(hour)), hour.bytes());
    }

    pub(crate) fn seen(&self, key: CacheKey) -> Option<Arc<Seen>> {
        match self.get(key, Kind::Seen) {
            Some(Entry::Seen(seen)) => Some(seen),
            _ => None,
        }
    }

    pub(crate) fn put_seen(&self, key: CacheKey, seen: &Arc<Seen>) {
        self.put((key, Kind::Seen), Entry::Seen(Arc::clone(seen)), size_of_val(seen.as_slice()));
    }

    fn get(&self, key: CacheKey, kind: Kind) -> Option<Entry> {
        let mut kept = self.lock();
        kept.uses += 1;
        let now = kept.uses;
        let (entry, _, used) = kept.entries.get_mut(&(key, kind))?;
        *used = now;
        Some(entry.clone())
    }

    fn put(&self, key: (CacheKey, Kind), entry: Entry, bytes: usize) {
        if bytes > self.bytes_max {
            return;
        }
        let mut kept = self.lock();
        kept.uses += 1;
        let now = kept.uses;
        if let Some((_, before, _)) = kept.entries.insert(key, (entry, bytes, now)) {
            kept.bytes = kept.bytes.saturating_sub(before);
        }
        kept.bytes += bytes;
        while kept.bytes > self.bytes_max {
            let Some(oldest) = kept.entries.iter().min_by_key(|(_, (.., used))| *used).map(|(key, _)| *key) else {
                return;
            };
            if let Some((_, bytes, _)) = kept.entries.remove(&oldest) {
                kept.bytes = kept.bytes.saturating_sub(bytes);
            }
        }
    }

    /// A panic while the lock was held leaves only a cache behind, which is right or absent.
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let cache = HourCache::new(24);
        let key = |hour| CacheKey { place: 0, hour, version: 1 };
        let seen = |numbers: usize| Arc::new(vec![0_i32; numbers]);
        cache.put_seen(key(1), &seen(3));
        cache.put_seen(key(2), &seen(3));
        assert!(cache.seen(key(1)).is_some());
        cache.put_seen(key(3), &seen(1));
        assert!(cache.seen(key(2)).is_none() && cache.seen(key(1)).is_some() && cache.seen(key(3)).is_some());
        cache.put_seen(key(4), &seen(100));
        assert!(cache.seen(key(4)).is_none(), "too large to be kept at all");
        assert_eq!(cache.bytes(), 16);
        assert!(cache.seen(CacheKey { version: 2, ..key(1) }).is_none(), "another version is another hour");
        assert!(cache.hour(key(1)).is_none());
    }
}
