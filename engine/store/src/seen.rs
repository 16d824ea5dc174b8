//! What was seen before an hour, from the newest point at which it is known: minutes in memory are looked at, and of those on
//! disk the keys are read. Reading for itself is the last resort: while the engine runs, the head carries it along.

use std::sync::Arc;

use tidewatch_model::Minute;

use crate::{
    cache::CacheKey,
    cold::Wanted,
    error::StoreError,
    hour::{Seen, hour_of},
    snapshot::ViewSnapshot,
};

/// For each series, the newest minute before `hour` in which it had a row, at least as far back as the view's horizon.
pub(crate) fn before(view: &ViewSnapshot, hour: i64) -> Result<Arc<Seen>, StoreError> {
    if let Some(known) = view.slots.get(&hour).and_then(|slot| slot.hot.seen_before.clone()) {
        return Ok(Arc::new(known));
    }
    let version = view.slots.get(&hour).map(|slot| slot.version);
    let key = version.map(|version| CacheKey { place: view.parts.place, hour, version });
    let cache = view.cold.as_ref().map(|cold| cold.cache());
    if let (Some(key), Some(cache)) = (key, cache)
        && let Some(seen) = cache.seen(key)
    {
        return Ok(seen);
    }
    let horizon = view.parts.view().fill_horizon.minutes_ceil();
    let mut from = hour_of(Minute::from_index(hour.saturating_mul(60)).plus(-horizon));
    let mut seen = Seen::new();
    if let Some((at, known)) =
        view.slots.range(from..hour).rev().find_map(|(at, slot)| Some((*at, slot.hot.seen_before.clone()?)))
    {
        (from, seen) = (at, known);
    }
    let mut wanted = Vec::new();
    for (at, slot) in view.slots.range(from..hour) {
        slot.hot.mark(&mut seen);
        if !slot.cold.is_empty() {
            wanted.push(Wanted { hour: *at, minutes: slot.cold, version: slot.version });
        }
    }
    if let Some(cold) = &view.cold {
        cold.mark(&view.parts, &wanted, &mut seen)?;
    }
    let seen = Arc::new(seen);
    if let (Some(key), Some(cache), false) = (key, cache, wanted.is_empty()) {
        cache.put_seen(key, &seen);
    }
    Ok(seen)
}
