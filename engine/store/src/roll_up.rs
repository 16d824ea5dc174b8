//! `RollUpHead`: the writer's side of one roll-up. What the view's minutes get, its windows get. On disk a window is what its
//! segments add up to; in memory lies only what is not there yet, shared with the view's own unsaved minutes. So a correction
//! reads nothing, however old its minute is.
//!
//! Slots, and what is on disk of them, are those of a view, with the numbers of windows in the place of minutes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tidewatch_model::{EventTime, Minute, Window};
use tidewatch_views::PartialRows;

use crate::{
    cold::Cold,
    error::StoreError,
    head::{Held, ranges},
    hour::{Slot, hour_of},
    parts::ViewParts,
    reading,
    retention::NoRoom,
    snapshot::{OfMinutes, ViewSnapshot},
};

#[derive(Debug)]
pub(crate) struct RollUpHead {
    parts: Arc<ViewParts>,
    /// The place of the view that is rolled up.
    of: usize,
    slots: Arc<BTreeMap<i64, Slot>>,
    cold: Option<Cold>,
    /// Retention has been kept up to this window.
    kept_from: Option<i64>,
    /// Of older windows not every minute is known, unless they are held.
    no_room_before: Option<i64>,
}

impl RollUpHead {
    pub fn new(parts: ViewParts, of: usize) -> Self {
        Self { parts: Arc::new(parts), of, slots: Arc::default(), cold: None, kept_from: None, no_room_before: None }
    }

    /// The place of the view that is rolled up.
    pub fn of(&self) -> usize {
        self.of
    }

    fn window(&self) -> Window {
        self.parts.window()
    }

    fn holds(&self, number: Minute) -> bool {
        self.slots.get(&hour_of(number)).is_some_and(|slot| slot.has(number))
    }

    /// The rows of a minute that was sealed, which may be none. Into a window whose beginning is not known nothing is added:
    /// half a sum would be a wrong number.
    pub fn seal(&mut self, rows: &Arc<PartialRows>, save: u64) {
        let number = self.window().number(rows.minute());
        let is_known = self.no_room_before.is_none_or(|before| before <= number.index());
        if is_known || self.holds(number) {
            self.put(number, rows, save);
        }
    }

    /// The rows of a correction, whether or not the view still has its minute. A late event may also be of a time from before the
    /// first minute that was sealed, and is then all that there is of its window; of one that has left it is not.
    pub fn correct(&mut self, rows: &Arc<PartialRows>, save: u64) {
        let number = self.window().number(rows.minute());
        if self.holds(number) || self.kept_from.is_none_or(|from| from <= number.index()) {
            self.seal(rows, save);
        }
    }

    fn put(&mut self, number: Minute, rows: &Arc<PartialRows>, save: u64) {
        if rows.is_empty() && self.holds(number) {
            return;
        }
        let slot = Arc::make_mut(&mut self.slots).entry(hour_of(number)).or_default();
        Arc::make_mut(&mut slot.fresh).entry(number).or_default().push((save, Arc::clone(rows)));
    }

    /// Drops what leaves the retention as time goes on to `watermark`.
    pub fn retain(&mut self, watermark: EventTime) {
        let keep = self.window().number(watermark.minus(self.parts.view().meta.retention).minute()).index();
        let before = self.kept_from.map_or(keep, |before| before.max(keep));
        let kept = self.kept_from.replace(before).unwrap_or(keep);
        self.forget(kept, before);
    }

    /// Drops the windows that end before there is room.
    pub fn make_room(&mut self, no_room: NoRoom) {
        let Some(before) = no_room.roll_ups_before else { return };
        let before = self.window().number(before).index();
        self.forget(i64::MIN, before);
        self.no_room_before = self.no_room_before.max(Some(before));
    }

    /// Drops the windows `from .. before`.
    fn forget(&mut self, from: i64, before: i64) {
        if from >= before {
            return;
        }
        let (first, last) = (Minute::from_index(from), Minute::from_index(before - 1));
        let met: Vec<i64> = self.slots.range(hour_of(first)..=hour_of(last)).map(|(hour, _)| *hour).collect();
        for hour in met {
            let slots = Arc::make_mut(&mut self.slots);
            let Some(slot) = slots.get_mut(&hour) else { continue };
            let leaving: Vec<Minute> = slot.numbers(hour).filter(|number| (first..=last).contains(number)).collect();
            for number in &leaving {
                slot.cold.remove(*number);
                Arc::make_mut(&mut slot.fresh).remove(number);
            }
            if slot.cold.is_empty() && slot.fresh.is_empty() {
                slots.remove(&hour);
            }
        }
    }

    /// What came in for this save.
    pub fn unsaved(&self, save: u64) -> Vec<Arc<PartialRows>> {
        let fresh = self.slots.values().flat_map(|slot| slot.fresh.values().flatten());
        fresh.filter(|(of, _)| *of == save).map(|(_, rows)| Arc::clone(rows)).collect()
    }

    /// What was taken for this save, and for those before it, is on disk.
    pub fn saved(&mut self, saved: u64, cold: &Cold) {
        self.cold = Some(cold.clone());
        let is_saved = |slot: &Slot| slot.fresh.values().flatten().any(|(save, _)| *save <= saved);
        let hours: Vec<i64> = self.slots.iter().filter(|(_, slot)| is_saved(slot)).map(|(hour, _)| *hour).collect();
        for hour in hours {
            let Some(slot) = Arc::make_mut(&mut self.slots).get_mut(&hour) else { continue };
            let Slot { fresh, cold, version, .. } = slot;
            Arc::make_mut(fresh).retain(|number, rows| {
                let before = rows.len();
                rows.retain(|(save, _)| *save > saved);
                if rows.len() < before {
                    cold.insert(*number);
                }
                !rows.is_empty()
            });
            *version = version.wrapping_add(1);
        }
    }

    pub fn held(&self) -> Held {
        let numbers = self.slots.iter().flat_map(|(hour, slot)| slot.numbers(*hour));
        Held {
            hours: ranges(numbers.map(Minute::index)),
            kept_from: self.kept_from,
            no_room_before: self.no_room_before,
            window: self.window(),
        }
    }

    /// Of a new head: these windows are on disk.
    pub fn restore(&mut self, held: &Held) {
        (self.kept_from, self.no_room_before) = (held.kept_from, held.no_room_before);
        let mut slots: BTreeMap<i64, Slot> = BTreeMap::new();
        for number in held.hours.iter().flat_map(|(first, last)| *first..=*last).map(Minute::from_index) {
            slots.entry(hour_of(number)).or_default().cold.insert(number);
        }
        self.slots = Arc::new(slots);
    }

    /// Of a roll-up that is built anew from events: `oldest` is of the oldest minute that any are known of, and before `gone`
    /// there were more.
    pub fn begin(&mut self, oldest: Minute, gone: Option<Minute>) {
        let window = self.window();
        let is_whole = gone.is_none_or(|gone| gone <= window.start(oldest) || oldest < gone);
        let first = if is_whole { window.number(oldest) } else { window.number_from(oldest) };
        self.no_room_before = Some(first.index());
    }

    /// Of a roll-up that is new: adds up what the view has, in memory and on disk. A window is left out of which the view has lost minutes, by
    /// age, for want of room or by damage.
    pub fn build(&mut self, view: &ViewSnapshot, held: &Held, save: u64) -> Result<(), StoreError> {
        // What came in before is in the view as well.
        self.slots = Arc::default();
        let window = self.window();
        let minute_of = |hour: i64| Minute::from_index(hour.saturating_mul(60));
        let gone = [held.kept_from, held.no_room_before].into_iter().flatten().map(minute_of);
        self.no_room_before = gone.clone().map(|minute| window.number_from(minute).index()).max();
        let cut: BTreeSet<Minute> =
            gone.filter(|minute| window.start(*minute) != *minute).map(|minute| window.number(minute)).collect();
        let hours: Vec<i64> = view.slots.keys().copied().collect();
        for day in hours.chunk_by(|a, b| a.div_euclid(24) == b.div_euclid(24)) {
            let (Some(first), Some(last)) = (day.first(), day.last()) else { continue };
            let (minutes, damaged) = reading::minutes_held(view, minute_of(*first), minute_of(*last).plus(59))?;
            let damaged: BTreeSet<Minute> = damaged.into_iter().map(|minute| window.number(minute)).collect();
            let mut windows: BTreeMap<Minute, Vec<Arc<PartialRows>>> = BTreeMap::new();
            for rows in minutes {
                windows.entry(window.number(rows.minute())).or_default().push(rows);
            }
            for (number, rows) in windows {
                let rows = rows.iter().map(AsRef::as_ref);
                if let Some(sum) = PartialRows::summed(window.first(number), rows)
                    && !cut.contains(&number)
                    && !damaged.contains(&number)
                {
                    self.put(number, &Arc::new(sum), save);
                }
            }
        }
        Ok(())
    }

    /// `sealed_through` and `open` are of the view.
    pub fn snapshot(&self, sealed_through: Option<Minute>, open: Vec<Arc<PartialRows>>) -> ViewSnapshot {
        let snapshot =
            ViewSnapshot::new(Arc::clone(&self.parts), Arc::clone(&self.slots), self.cold.clone(), Vec::new());
        snapshot.with_minutes(OfMinutes { sealed_through, open })
    }
}
