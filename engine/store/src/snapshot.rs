//! Immutable views of the store for readers: rules, queries, PromQL, remote read. A snapshot is cheap to take
//! and to clone, and never changes.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{ArrayRef, RecordBatch},
    datatypes::SchemaRef,
};
use tidewatch_model::{Minute, ViewMeta};
use tidewatch_views::PartialRows;

use crate::{cold::Cold, error::StoreError, hour::Slot, parts::ViewParts, reading, windows};

/// All views at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    views: Arc<[Arc<ViewSnapshot>]>,
}

impl Snapshot {
    pub fn new(views: Vec<Arc<ViewSnapshot>>) -> Self {
        Self { views: views.into() }
    }

    pub fn views(&self) -> &[Arc<ViewSnapshot>] {
        &self.views
    }

    pub fn view(&self, name: &str) -> Option<&Arc<ViewSnapshot>> {
        self.views.iter().find(|view| view.meta().name == name)
    }

    /// The newest minute that is sealed in every view: they are sealed together.
    pub fn sealed_through(&self) -> Option<Minute> {
        self.views.iter().filter(|view| !view.meta().window.is_roll_up()).filter_map(|view| view.sealed_through()).min()
    }
}

/// A minute that is still open, as it stood.
#[derive(Clone, Debug)]
pub struct OpenMinute {
    pub minute: Minute,
    pub series: Vec<u32>,
    pub keys: Vec<ArrayRef>,
    pub measures: Vec<ArrayRef>,
}

/// One view at one moment: minutes in memory, and where the others are.
#[derive(Debug)]
pub struct ViewSnapshot {
    pub(crate) parts: Arc<ViewParts>,
    pub(crate) slots: Arc<BTreeMap<i64, Slot>>,
    pub(crate) cold: Option<Cold>,
    pub(crate) open: Vec<OpenMinute>,
    /// Of a roll-up.
    pub(crate) minutes: Option<OfMinutes>,
}

/// What a snapshot of a roll-up knows of the view's minutes.
#[derive(Debug)]
pub(crate) struct OfMinutes {
    /// The newest that is sealed.
    pub sealed_through: Option<Minute>,
    pub open: Vec<Arc<PartialRows>>,
}

/// Rows of a view in order of minute, then series; `series` holds each row's series number,
/// which is the same for the same key in every minute of this process.
#[derive(Clone, Debug)]
pub struct Rows {
    pub batch: RecordBatch,
    pub series: Vec<u32>,
}

impl ViewSnapshot {
    pub(crate) fn new(
        parts: Arc<ViewParts>,
        slots: Arc<BTreeMap<i64, Slot>>,
        cold: Option<Cold>,
        open: Vec<OpenMinute>,
    ) -> Self {
        Self { parts, slots, cold, open, minutes: None }
    }

    /// Of a roll-up: what is known of the view's minutes.
    pub(crate) fn with_minutes(self, minutes: OfMinutes) -> Self {
        Self { minutes: Some(minutes), ..self }
    }

    pub fn meta(&self) -> &Arc<ViewMeta> {
        &self.parts.view().meta
    }

    pub fn schema(&self) -> &SchemaRef {
        self.meta().schema()
    }

    /// The number of series known by now: every series number that was ever handed out is below it. Older minutes that nobody
    /// has read yet may have more.
    pub fn series(&self) -> usize {
        self.parts.series.len()
    }

    /// The key columns of all series known by now, one row a series in order of number.
    pub fn keys(&self) -> Arc<Vec<ArrayRef>> {
        self.parts.series.columns()
    }

    /// The newest sealed minute, or the start of the newest window that is.
    pub fn sealed_through(&self) -> Option<Minute> {
        if let Some(minutes) = &self.minutes {
            let window = self.parts.window();
            let mut newest_first = self.numbers().rev();
            return newest_first.find(|number| minutes.are_sealed(window, *number)).map(|number| window.first(number));
        }
        self.slots.iter().next_back().and_then(|(hour, slot)| {
            let cold = slot.cold.minutes(*hour).next_back();
            cold.max(slot.hot.minutes.keys().next_back().copied())
        })
    }

    /// The oldest sealed minute held, or the start of the oldest window.
    pub fn oldest_sealed(&self) -> Option<Minute> {
        if let Some(minutes) = &self.minutes {
            let window = self.parts.window();
            return self
                .numbers()
                .find(|number| minutes.are_sealed(window, *number))
                .map(|number| window.first(number));
        }
        let (hour, slot) = self.slots.first_key_value()?;
        let hot = slot.hot.minutes.keys().next().copied();
        slot.cold.minutes(*hour).next().into_iter().chain(hot).min()
    }

    /// The oldest minute held, sealed or open.
    pub fn oldest(&self) -> Option<Minute> {
        if let Some(minutes) = &self.minutes {
            let window = self.parts.window();
            let open = minutes.open.iter().map(|rows| window.start(rows.minute()));
            return self.numbers().next().map(|number| window.first(number)).into_iter().chain(open).min();
        }
        let open = self.open.first().map(|open| open.minute);
        self.oldest_sealed().into_iter().chain(open).min()
    }

    /// The windows of a roll-up that are held, by number.
    fn numbers(&self) -> impl DoubleEndedIterator<Item = Minute> {
        self.slots.iter().flat_map(|(hour, slot)| slot.numbers(*hour).collect::<Vec<_>>())
    }

    /// Sealed rows of the minutes `from ..= to`, gaps filled as the view says.
    pub fn sealed_rows(&self, from: Minute, to: Minute) -> Result<Rows, StoreError> {
        match &self.minutes {
            Some(minutes) => windows::rows(self, minutes, (from, to), true),
            None => reading::sealed(self, from, to),
        }
    }

    /// Rows of the minutes `from ..= to` that are still open, `sealed = false`; of windows that are not over, with the minutes that
    /// are open among theirs.
    pub fn open_rows(&self, from: Minute, to: Minute) -> Result<Rows, StoreError> {
        match &self.minutes {
            Some(minutes) => windows::rows(self, minutes, (from, to), false),
            None => Ok(reading::open(self, from, to)),
        }
    }
}
