//! `Head`: the writer's side of the store. One owner calls it; readers hold snapshots.
//!
//! What was added lies in memory until a save has it on disk and memory is needed: then the hours that changed longest ago
//! leave, and whoever asks for them reads them back. A correction to a minute on disk brings its hour back into memory.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use tidewatch_model::{EventTime, Fill, Minute, Window};
use tidewatch_views::{KeyBytes, PartialRows, View, with_roll_ups};

use crate::{
    cold::{Cold, Wanted},
    error::StoreError,
    hour::{Hour, NEVER, Seen, Slot, StoredMinute, hour_of, mark, short},
    parts::ViewParts,
    retention::NoRoom,
    roll_up::RollUpHead,
    seen,
    snapshot::{OpenMinute, Snapshot, ViewSnapshot},
};

/// What storing a minute told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stored {
    /// Rows that the minute has now.
    pub rows: usize,
    /// Integer sums that did not fit 64 bits and read as NULL.
    pub overflowed: usize,
}

#[derive(Debug)]
struct ViewHead {
    parts: Arc<ViewParts>,
    slots: Arc<BTreeMap<i64, Slot>>,
    cold: Option<Cold>,
    /// Of the minutes in memory.
    bytes: usize,
    /// What was added since the last save, in order: minutes, and corrections to them.
    unsaved: Vec<Arc<PartialRows>>,
    /// Retention has been kept up to this hour.
    kept_from: Option<i64>,
    /// Older hours have gone for want of room.
    no_room_before: Option<i64>,
}

/// What a view holds: of these hours every minute that was sealed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// First and last of each run of hours, in hours since 1970; of a roll-up, of its windows, by number.
    pub hours: Vec<(i64, i64)>,
    /// Retention has been kept up to this hour (or window).
    pub kept_from: Option<i64>,
    /// Older hours have gone for want of room, unless they are among `hours`.
    #[serde(default)]
    pub no_room_before: Option<i64>,
    #[serde(default)]
    pub window: Window,
}

impl Held {
    /// Whether the view holds an hour, or a window, that has some of these minutes.
    pub fn meets(&self, (first, last): (Minute, Minute)) -> bool {
        let at = |minute| match self.window {
            Window::Minute => hour_of(minute),
            window => window.number(minute).index(),
        };
        self.hours.iter().any(|(from, to)| *from <= at(last) && at(first) <= *to)
    }
}

/// The keys that were seen before an hour, with the minute in which each was seen last: what gaps are filled by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenBefore {
    pub hour: i64,
    pub keys: Vec<(KeyBytes, Minute)>,
}

/// What was added since the save before.
#[derive(Debug)]
pub struct Unsaved {
    /// The save's number: the head is told it once all of this is on disk.
    pub save: u64,
    /// For each view its minutes and corrections, in order: whoever adds them all up again has the same minutes.
    pub views: Vec<Vec<Arc<PartialRows>>>,
}

/// All views' minutes, and what they are rolled up to. `bytes_max` bounds those in memory, as far as they are on disk as well.
#[derive(Debug)]
pub struct Head {
    views: Vec<ViewHead>,
    /// Their places follow those of the views.
    roll_ups: Vec<RollUpHead>,
    bytes_max: usize,
    /// The number of the next save.
    save: u64,
    /// The newest save that is on disk.
    saved: u64,
}

impl Head {
    pub fn new(views: &[Arc<View>], bytes_max: usize) -> Result<Self, StoreError> {
        let heads = views.iter().enumerate().map(|(place, view)| {
            Ok(ViewHead {
                parts: Arc::new(ViewParts::new(view, place)?),
                slots: Arc::default(),
                cold: None,
                bytes: 0,
                unsaved: Vec::new(),
                kept_from: None,
                no_room_before: None,
            })
        });
        let heads = heads.collect::<Result<Vec<ViewHead>, StoreError>>()?;
        let of = heads.iter().flat_map(|head| head.parts.view().roll_ups.iter().map(move |roll_up| (head, roll_up)));
        let roll_ups = of.enumerate().map(|(at, (head, roll_up))| {
            let parts = head.parts.rolled_up(roll_up, heads.len() + at)?;
            Ok(RollUpHead::new(parts, head.parts.place))
        });
        let roll_ups = roll_ups.collect::<Result<_, StoreError>>()?;
        Ok(Self { views: heads, roll_ups, bytes_max, save: 1, saved: 0 })
    }

    /// Adds a sealed minute for the view at `at`, and to its roll-ups. After an error nothing was added.
    pub fn add(&mut self, at: usize, partial: PartialRows) -> Result<Stored, StoreError> {
        let save = self.save;
        let Some(head) = self.views.get_mut(at) else { return Ok(Stored::default()) };
        let (stored, rows) = head.add(partial, save)?;
        self.roll_ups_of(at).for_each(|roll_up| roll_up.seal(&rows, save));
        self.evict();
        Ok(stored)
    }

    fn roll_ups_of(&mut self, at: usize) -> impl Iterator<Item = &mut RollUpHead> {
        self.roll_ups.iter_mut().filter(move |roll_up| roll_up.of() == at)
    }

    /// Adds the rows of a correction. To a minute that had to go for want of room nothing is added: half a sum would be a
    /// wrong number. Its windows may still be there.
    pub fn correct(&mut self, at: usize, partial: PartialRows) -> Result<Stored, StoreError> {
        let save = self.save;
        let Some(head) = self.views.get_mut(at) else { return Ok(Stored::default()) };
        let (stored, rows) = if head.has_no_room_for(partial.minute()) {
            (Stored::default(), Arc::new(partial))
        } else {
            head.add(partial, save)?
        };
        self.roll_ups_of(at).for_each(|roll_up| roll_up.correct(&rows, save));
        self.evict();
        Ok(stored)
    }

    /// Drops what leaves the views' retention as time goes on to `watermark`. History that was older already when it was
    /// replayed does not leave it and stays, as long as there is room.
    pub fn retain(&mut self, watermark: EventTime) {
        for head in &mut self.views {
            let keep = hour_of(watermark.minus(head.parts.view().meta.retention).minute());
            let before = head.kept_from.map_or(keep, |before| before.max(keep));
            let kept = head.kept_from.replace(before).unwrap_or(keep);
            let leaving: Vec<i64> = head.slots.range(kept..before).map(|(hour, _)| *hour).collect();
            leaving.into_iter().for_each(|hour| head.forget(hour));
        }
        self.roll_ups.iter_mut().for_each(|roll_up| roll_up.retain(watermark));
    }

    /// Drops the hours before a minute, of whatever age: there is no room for them on disk.
    pub fn make_room(&mut self, no_room: NoRoom) {
        let before = hour_of(no_room.before);
        for head in &mut self.views {
            let leaving: Vec<i64> = head.slots.range(..before).map(|(hour, _)| *hour).collect();
            leaving.into_iter().for_each(|hour| head.forget(hour));
            head.no_room_before = head.no_room_before.max(Some(before));
        }
        self.roll_ups.iter_mut().for_each(|roll_up| roll_up.make_room(no_room));
    }

    /// What was added since the last call.
    pub fn take_unsaved(&mut self) -> Unsaved {
        let save = self.save;
        let views = self.views.iter_mut().map(|head| std::mem::take(&mut head.unsaved));
        let roll_ups = self.roll_ups.iter().map(|roll_up| roll_up.unsaved(save));
        let taken = Unsaved { save, views: views.chain(roll_ups).collect() };
        self.save += 1;
        taken
    }

    /// Everything that was taken for this save, and for those before it, is on disk, and can be read there.
    pub fn saved(&mut self, save: u64, cold: &Cold) {
        self.saved = self.saved.max(save);
        for head in &mut self.views {
            head.cold = Some(cold.clone());
        }
        let saved = self.saved;
        self.roll_ups.iter_mut().for_each(|roll_up| roll_up.saved(saved, cold));
        self.evict();
    }

    /// The hours that each view holds, and the windows that each roll-up does.
    pub fn held(&self) -> Vec<Held> {
        self.views.iter().map(ViewHead::held).chain(self.roll_ups.iter().map(RollUpHead::held)).collect()
    }

    /// For each view that fills gaps, what was seen before its newest hour. Roll-ups fill none.
    pub fn seen(&self) -> Vec<Option<SeenBefore>> {
        let none = self.roll_ups.iter().map(|_| None);
        self.views.iter().map(ViewHead::seen_before_newest).chain(none).collect()
    }

    /// Views and their roll-ups, in the order of their places.
    pub fn stored(&self) -> Vec<Arc<View>> {
        let views: Vec<Arc<View>> = self.views.iter().map(|head| Arc::clone(head.parts.view())).collect();
        with_roll_ups(&views)
    }

    /// Of a new head: the view holds every sealed minute of these hours, and has them on disk.
    pub fn restore(
        &mut self,
        at: usize,
        held: &Held,
        seen: Option<&SeenBefore>,
        sealed: impl Fn(Minute) -> bool,
    ) -> Result<(), StoreError> {
        let Some(head) = self.views.get_mut(at) else {
            roll_up_at(&self.views, &mut self.roll_ups, at).into_iter().for_each(|roll_up| roll_up.restore(held));
            return Ok(());
        };
        (head.kept_from, head.no_room_before) = (held.kept_from, held.no_room_before);
        let mut slots = BTreeMap::new();
        for hour in held.hours.iter().flat_map(|(first, last)| *first..=*last) {
            let mut slot = Slot::default();
            let first = Minute::from_index(hour.saturating_mul(60));
            (0..60)
                .map(|at| first.plus(at))
                .filter(|minute| sealed(*minute))
                .for_each(|minute| slot.cold.insert(minute));
            slots.insert(hour, slot);
        }
        if let Some(before) = seen
            && let Some(slot) = slots.get_mut(&before.hour)
        {
            let seen_before = Some(head.numbered(before)?);
            slot.hot = Arc::new(Hour { minutes: BTreeMap::new(), seen_before });
        }
        head.slots = Arc::new(slots);
        Ok(())
    }

    /// The view at `at` is about to be built anew. Events are known from the minute `oldest` on, and were more before `gone`.
    pub fn begin_anew(&mut self, at: usize, oldest: Minute, gone: Option<Minute>) {
        self.roll_ups_of(at).for_each(|roll_up| roll_up.begin(oldest, gone));
    }

    /// Builds the roll-up at the place `at` from what its view holds.
    pub fn build_roll_up(&mut self, at: usize) -> Result<(), StoreError> {
        let Some(roll_up) = roll_up_at(&self.views, &mut self.roll_ups, at) else { return Ok(()) };
        let Some(head) = self.views.get(roll_up.of()) else { return Ok(()) };
        roll_up.build(&head.snapshot(Vec::new()), &head.held(), self.save)
    }

    /// Of a view whose rows were all added again: it holds every sealed minute of these hours, also where nothing was in it.
    pub fn add_empty(&mut self, at: usize, held: &Held, sealed: impl Fn(Minute) -> bool) -> Result<(), StoreError> {
        let save = self.save;
        let Some(head) = self.views.get_mut(at) else { return Ok(()) };
        (head.kept_from, head.no_room_before) = (held.kept_from, held.no_room_before);
        for hour in held.hours.iter().flat_map(|(first, last)| *first..=*last) {
            for minute in (hour * 60..hour * 60 + 60).map(Minute::from_index) {
                if sealed(minute) && !head.holds(minute) {
                    let (_, empty) = head.add(head.parts.view().no_rows(minute), save)?;
                    let roll_ups = self.roll_ups.iter_mut().filter(|roll_up| roll_up.of() == at);
                    roll_ups.for_each(|roll_up| roll_up.seal(&empty, save));
                }
            }
        }
        Ok(())
    }

    /// What can be read back leaves memory until the rest has room; hours that changed longest ago first.
    fn evict(&mut self) {
        let saved = self.saved;
        while self.bytes() > self.bytes_max {
            let leaving =
                self.views.iter().filter_map(|head| Some((head.bytes, head.leaving(saved)?, head.parts.place)));
            let Some((_, hour, place)) = leaving.max_by_key(|(bytes, ..)| *bytes) else { return };
            if let Some(head) = self.views.get_mut(place) {
                head.cool(hour);
            }
        }
    }

    /// An estimate of the bytes in memory.
    pub fn bytes(&self) -> usize {
        self.views.iter().map(|view| view.bytes).sum()
    }

    pub fn series(&self) -> usize {
        self.views.iter().map(|view| view.parts.series.len()).sum()
    }

    /// The sealed minutes of every view as they stand.
    pub fn snapshot(&self) -> Snapshot {
        let views: Vec<_> = self.views.iter().map(|head| Arc::new(head.snapshot(Vec::new()))).collect();
        let none: Vec<Vec<Arc<PartialRows>>> = vec![Vec::new(); views.len()];
        Snapshot::new(self.with_roll_ups(views, &none))
    }

    /// The views' snapshots, and behind them those of the roll-ups.
    fn with_roll_ups(&self, views: Vec<Arc<ViewSnapshot>>, open: &[Vec<Arc<PartialRows>>]) -> Vec<Arc<ViewSnapshot>> {
        let roll_ups = self.roll_ups.iter().map(|roll_up| {
            let sealed_through = views.get(roll_up.of()).and_then(|view| view.sealed_through());
            let open = open.get(roll_up.of()).cloned().unwrap_or_default();
            Arc::new(roll_up.snapshot(sealed_through, open))
        });
        let roll_ups: Vec<_> = roll_ups.collect();
        views.into_iter().chain(roll_ups).collect()
    }

    /// The same with the open minutes: `open[i]` are those of view `i`.
    pub fn snapshot_with_open(&self, open: Vec<Vec<PartialRows>>) -> Result<Snapshot, StoreError> {
        let (mut views, mut rolled_up) = (Vec::with_capacity(open.len()), Vec::with_capacity(open.len()));
        for (head, open) in self.views.iter().zip(open) {
            let is_rolled_up = !head.parts.view().roll_ups.is_empty();
            rolled_up.push(if is_rolled_up { open.iter().cloned().map(Arc::new).collect() } else { Vec::new() });
            let open = open.into_iter().map(|partial| head.open_minute(partial)).collect::<Result<Vec<_>, _>>()?;
            views.push(Arc::new(head.snapshot(open)));
        }
        Ok(Snapshot::new(self.with_roll_ups(views, &rolled_up)))
    }
}

/// The roll-up at a place, those of the views being before.
fn roll_up_at<'a>(views: &[ViewHead], roll_ups: &'a mut [RollUpHead], at: usize) -> Option<&'a mut RollUpHead> {
    roll_ups.get_mut(at.checked_sub(views.len())?)
}

/// Ascending numbers as first and last of each run.
pub(crate) fn ranges(numbers: impl Iterator<Item = i64>) -> Vec<(i64, i64)> {
    let mut ranges: Vec<(i64, i64)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    ranges
}

impl ViewHead {
    fn snapshot(&self, open: Vec<OpenMinute>) -> ViewSnapshot {
        ViewSnapshot::new(Arc::clone(&self.parts), Arc::clone(&self.slots), self.cold.clone(), open)
    }

    fn held(&self) -> Held {
        Held {
            hours: ranges(self.slots.keys().copied()),
            kept_from: self.kept_from,
            no_room_before: self.no_room_before,
            window: Window::Minute,
        }
    }

    fn fills(&self) -> bool {
        matches!(self.parts.view().meta.fill, Fill::Zero { .. })
    }

    fn has_no_room_for(&self, minute: Minute) -> bool {
        self.no_room_before.is_some_and(|before| hour_of(minute) < before) && !self.holds(minute)
    }

    fn holds(&self, minute: Minute) -> bool {
        let slot = self.slots.get(&hour_of(minute));
        slot.is_some_and(|slot| slot.cold.contains(minute) || slot.hot.minutes.contains_key(&minute))
    }

    /// What is stored now, and the rows that were added.
    fn add(&mut self, partial: PartialRows, save: u64) -> Result<(Stored, Arc<PartialRows>), StoreError> {
        let minute = partial.minute();
        if self.slots.get(&hour_of(minute)).is_some_and(|slot| slot.cold.contains(minute)) {
            self.warm(hour_of(minute))?;
            if self.slots.get(&hour_of(minute)).is_some_and(|slot| slot.cold.contains(minute)) {
                // A part of the minute is damaged. What is added to it is kept, for the day when that is repaired.
                let rows = Arc::new(partial);
                self.unsaved.push(Arc::clone(&rows));
                return Ok((Stored::default(), rows));
            }
        }
        let stored = self.slots.get(&hour_of(minute)).and_then(|slot| slot.hot.minutes.get(&minute));
        let before = stored.map_or(0, |stored| stored.bytes());
        let (merged, correction) = match stored {
            Some(stored) => {
                let correction = self.survivors(&stored.partial, partial);
                (stored.partial.merged(&correction), Some(Arc::new(correction)))
            }
            None => (partial, None),
        };
        let (stored, overflowed) = self.parts.stored(merged)?;
        let rows = stored.series.len();
        let added = correction.unwrap_or_else(|| Arc::clone(&stored.partial));
        self.unsaved.push(Arc::clone(&added));
        self.bytes = self.bytes.saturating_sub(before) + stored.bytes();
        self.put(minute, stored, save);
        Ok((Stored { rows, overflowed }, added))
    }

    /// Of a correction to a view with HAVING, only keys that are stored can be added to: what the others had before was
    /// not kept, and half a sum would be a wrong number.
    fn survivors(&self, stored: &PartialRows, correction: PartialRows) -> PartialRows {
        if self.parts.view().having.is_none() {
            return correction;
        }
        let known = |key| stored.keys().binary_search(key).is_ok();
        let places = correction.keys().iter().enumerate().filter(|(_, key)| known(key)).map(|(at, _)| at as u32);
        correction.select(&places.collect::<Vec<_>>())
    }

    fn put(&mut self, minute: Minute, stored: StoredMinute, save: u64) {
        let at = hour_of(minute);
        if !self.slots.contains_key(&at) {
            let seen_before = if self.fills() { self.seen_before(at) } else { None };
            let hot = Arc::new(Hour { minutes: BTreeMap::new(), seen_before });
            Arc::make_mut(&mut self.slots).insert(at, Slot { hot, ..Slot::default() });
        }
        let series = stored.series.clone();
        let fills = self.fills();
        let horizon = self.parts.view().fill_horizon.minutes_ceil();
        let slots = Arc::make_mut(&mut self.slots);
        if let Some(slot) = slots.get_mut(&at) {
            Arc::make_mut(&mut slot.hot).minutes.insert(minute, Arc::new(stored));
            slot.changed = save;
        }
        if !fills {
            return;
        }
        let last = hour_of(minute.plus(horizon)).max(at + 1);
        for (_, slot) in slots.range_mut(at + 1..=last) {
            match &slot.hot.seen_before {
                // What readers found out for themselves may no longer be so.
                None => slot.version = slot.version.wrapping_add(1),
                Some(seen) => {
                    let news = |s: &&u32| seen.get(**s as usize).is_none_or(|before| *before < short(minute));
                    let news: Vec<u32> = series.iter().filter(news).copied().collect();
                    if !news.is_empty()
                        && let Some(seen) = &mut Arc::make_mut(&mut slot.hot).seen_before
                    {
                        news.iter().for_each(|series| mark(seen, *series, short(minute)));
                    }
                }
            }
        }
    }

    /// What was seen before an hour; `None` where the disk does not answer, and then readers look for themselves.
    fn seen_before(&self, hour: i64) -> Option<Seen> {
        let snapshot = self.snapshot(Vec::new());
        match seen::before(&snapshot, hour) {
            Ok(seen) => Some(Arc::unwrap_or_clone(seen)),
            Err(error) => {
                tracing::warn!(%error, "what was seen before an hour could not be looked up; it is asked for again");
                None
            }
        }
    }

    /// Brings the minutes of an hour that are on disk back into memory, but for those that are damaged.
    fn warm(&mut self, hour: i64) -> Result<(), StoreError> {
        let Some(slot) = self.slots.get(&hour) else { return Ok(()) };
        let Some(cold) = &self.cold else { return Ok(()) };
        let wanted = Wanted { hour, minutes: slot.cold, version: slot.version };
        let mut hours = cold.hours(&self.parts, &[wanted])?;
        let Some(read) = hours.remove(&hour) else { return Ok(()) };
        self.bytes += read.bytes();
        if let Some(slot) = Arc::make_mut(&mut self.slots).get_mut(&hour) {
            let minutes = read.minutes.iter().map(|(minute, stored)| (*minute, Arc::clone(stored)));
            Arc::make_mut(&mut slot.hot).minutes.extend(minutes);
            read.minutes.keys().for_each(|minute| slot.cold.remove(*minute));
        }
        Ok(())
    }

    /// The hour that leaves memory next: of those that are on disk as they are, the one that changed longest ago.
    fn leaving(&self, saved: u64) -> Option<i64> {
        let on_disk = |slot: &Slot| slot.changed <= saved && !slot.hot.minutes.is_empty();
        let leaving = self.slots.iter().filter(|(_, slot)| on_disk(slot));
        leaving.min_by_key(|(hour, slot)| (slot.changed, **hour)).map(|(hour, _)| *hour)
    }

    /// Lets an hour's minutes go from memory.
    fn cool(&mut self, hour: i64) {
        let Some(slot) = Arc::make_mut(&mut self.slots).get_mut(&hour) else { return };
        let hot = std::mem::take(&mut slot.hot);
        self.bytes = self.bytes.saturating_sub(hot.bytes());
        hot.minutes.keys().for_each(|minute| slot.cold.insert(*minute));
        slot.version = slot.version.wrapping_add(1);
    }

    fn forget(&mut self, hour: i64) {
        if let Some(slot) = Arc::make_mut(&mut self.slots).remove(&hour) {
            self.bytes = self.bytes.saturating_sub(slot.hot.bytes());
        }
    }

    fn open_minute(&self, partial: PartialRows) -> Result<OpenMinute, StoreError> {
        let minute = partial.minute();
        let finished = self.parts.finish(partial)?;
        let series = self.parts.series.intern(finished.partial.keys(), &finished.keys);
        let series = series.map_err(|source| self.parts.columns_error(source))?;
        Ok(OpenMinute { minute, series, keys: finished.keys, measures: finished.measures })
    }

    /// As far as it is known without reading.
    fn seen_before_newest(&self) -> Option<SeenBefore> {
        let (hour, slot) = self.slots.last_key_value()?;
        let seen = slot.hot.seen_before.as_ref()?;
        let last = |series: u32| seen.get(series as usize).copied().filter(|last| *last != NEVER);
        let oldest =
            short(Minute::from_index(hour.saturating_mul(60)).plus(-self.parts.view().fill_horizon.minutes_ceil()));
        let keys = self.parts.series.keys_of(|series| last(series).is_some_and(|last| last >= oldest));
        let keys = keys.into_iter().filter_map(|(key, series)| Some((key, Minute::from_index(last(series)?.into()))));
        let mut keys: Vec<(KeyBytes, Minute)> = keys.collect();
        keys.sort_unstable();
        Some(SeenBefore { hour: *hour, keys })
    }

    fn numbered(&self, before: &SeenBefore) -> Result<Seen, StoreError> {
        let parts = &self.parts;
        let keys: Vec<&KeyBytes> = before.keys.iter().map(|(key, _)| key).collect();
        let columns = parts.frames.codec().decode(&keys).map_err(|source| parts.columns_error(source))?;
        let shown = parts.view().key_order.iter().filter_map(|at| columns.get(*at).cloned()).collect::<Vec<_>>();
        let numbers = parts.series.intern(&keys, &shown).map_err(|source| parts.columns_error(source))?;
        let mut seen = Seen::new();
        numbers.iter().zip(&before.keys).for_each(|(series, (_, minute))| mark(&mut seen, *series, short(*minute)));
        Ok(seen)
    }
}
