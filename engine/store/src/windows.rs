//! Reading the windows of a roll-up out of a snapshot: what is on disk of each, added to what is not there yet, and of a window
//! that is not over the open minutes as well.

use std::{collections::BTreeMap, sync::Arc};

use tidewatch_model::{Minute, Window};
use tidewatch_views::PartialRows;

use crate::{
    cold::Wanted,
    error::StoreError,
    hour::{Hour, Slot, StoredMinute, hour_of},
    reading::{Plan, collect},
    snapshot::{OfMinutes, Rows, ViewSnapshot},
};

impl OfMinutes {
    /// Whether every minute of the window was sealed that will be.
    pub fn are_sealed(&self, window: Window, number: Minute) -> bool {
        let is_over = self.sealed_through.is_some_and(|sealed| window.last(number) <= sealed);
        is_over && !self.open_of(window, number).any(|_| true)
    }

    fn open_of(&self, window: Window, number: Minute) -> impl Iterator<Item = &PartialRows> {
        let open = self.open.iter().map(AsRef::as_ref);
        open.filter(move |rows: &&PartialRows| window.number(rows.minute()) == number)
    }
}

/// The windows of a view's snapshot by number, those that are sealed or those that are not.
struct Windows<'a> {
    view: &'a ViewSnapshot,
    minutes: &'a OfMinutes,
    window: Window,
    sealed: bool,
}

/// The rows of the windows that begin in `from ..= to`.
pub(crate) fn rows(
    view: &ViewSnapshot,
    minutes: &OfMinutes,
    (from, to): (Minute, Minute),
    sealed: bool,
) -> Result<Rows, StoreError> {
    let window = view.parts.window();
    let windows = Windows { view, minutes, window, sealed };
    let found = windows.between(window.number_from(from), window.number(to))?;
    let mut plan = Plan::default();
    found.iter().for_each(|(number, stored)| plan.add_present(window.first(*number), stored));
    Ok(collect(view, plan, sealed))
}

impl Windows<'_> {
    fn between(&self, from: Minute, to: Minute) -> Result<BTreeMap<Minute, Arc<StoredMinute>>, StoreError> {
        let mut found = BTreeMap::new();
        if to < from {
            return Ok(found);
        }
        let fits = |number: &Minute| {
            (from..=to).contains(number) && self.minutes.are_sealed(self.window, *number) == self.sealed
        };
        let slots = || self.view.slots.range(hour_of(from)..=hour_of(to)).map(|(hour, slot)| (*hour, slot));
        let read = self.read(slots().filter(|(hour, slot)| slot.cold.minutes(*hour).any(|number| fits(&number))))?;
        for (hour, slot) in slots() {
            for number in slot.numbers(hour).filter(fits) {
                if let Some(stored) = self.stored(number, slot, read.get(&hour))? {
                    found.insert(number, stored);
                }
            }
        }
        // Windows of which no minute is sealed yet.
        for rows in self.minutes.open.iter().filter(|_| !self.sealed) {
            let number = self.window.number(rows.minute());
            let is_held = self.view.slots.get(&hour_of(number)).is_some_and(|slot| slot.has(number));
            if fits(&number)
                && !is_held
                && !found.contains_key(&number)
                && let Some(stored) = self.stored(number, &Slot::default(), None)?
            {
                found.insert(number, stored);
            }
        }
        Ok(found)
    }

    fn read<'s>(&self, slots: impl Iterator<Item = (i64, &'s Slot)>) -> Result<BTreeMap<i64, Arc<Hour>>, StoreError> {
        let wanted: Vec<Wanted> =
            slots.map(|(hour, slot)| Wanted { hour, minutes: slot.cold, version: slot.version }).collect();
        match &self.view.cold {
            Some(cold) if !wanted.is_empty() => cold.hours(&self.view.parts, &wanted),
            _ => Ok(BTreeMap::new()),
        }
    }

    /// `None` where a part of the window is damaged.
    fn stored(
        &self,
        number: Minute,
        slot: &Slot,
        read: Option<&Arc<Hour>>,
    ) -> Result<Option<Arc<StoredMinute>>, StoreError> {
        let start = self.window.first(number);
        let on_disk = read.and_then(|hour| hour.minutes.get(&start)).filter(|_| slot.cold.contains(number));
        if slot.cold.contains(number) && on_disk.is_none() {
            return Ok(None);
        }
        let fresh = slot.fresh.get(&number).into_iter().flatten().map(|(_, rows)| rows.as_ref());
        let more: Vec<&PartialRows> = fresh.chain(self.minutes.open_of(self.window, number)).collect();
        if more.is_empty() {
            return Ok(on_disk.cloned());
        }
        let on_disk = on_disk.map(|stored| stored.partial.as_ref());
        let Some(sum) = PartialRows::summed(start, on_disk.into_iter().chain(more)) else { return Ok(None) };
        Ok(Some(Arc::new(self.view.parts.stored(sum)?.0)))
    }
}
