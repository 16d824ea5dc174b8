//! Immutable views of the store for readers: rules, queries, PromQL, remote read. A snapshot is cheap to take
//! and to clone, and never changes.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{ArrayRef, RecordBatch},
    datatypes::SchemaRef,
};
use tidewatch_model::{Minute, ViewMeta};

use crate::{hour::Hour, reading};

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
        self.views.iter().filter_map(|view| view.sealed_through()).min()
    }
}

/// A minute that is still open, as it stood.
#[derive(Clone, Debug)]
pub struct OpenMinute {
    pub minute: Minute,
    /// Keys not seen in any sealed minute have numbers of their own beyond the known ones.
    pub series: Vec<u32>,
    pub keys: Vec<ArrayRef>,
    pub measures: Vec<ArrayRef>,
}

/// One view at one moment.
#[derive(Debug)]
pub struct ViewSnapshot {
    meta: Arc<ViewMeta>,
    pub(crate) keys: Arc<Vec<ArrayRef>>,
    pub(crate) series: usize,
    pub(crate) hours: Arc<BTreeMap<i64, Arc<Hour>>>,
    pub(crate) open: Vec<OpenMinute>,
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
        meta: Arc<ViewMeta>,
        keys: Arc<Vec<ArrayRef>>,
        series: usize,
        hours: Arc<BTreeMap<i64, Arc<Hour>>>,
        open: Vec<OpenMinute>,
    ) -> Self {
        Self { meta, keys, series, hours, open }
    }

    pub fn meta(&self) -> &Arc<ViewMeta> {
        &self.meta
    }

    pub fn schema(&self) -> &SchemaRef {
        self.meta.schema()
    }

    /// The number of series: every series number of sealed rows is below it.
    pub fn series(&self) -> usize {
        self.series
    }

    /// The key columns of all series, one row a series in order of number.
    pub fn keys(&self) -> &[ArrayRef] {
        &self.keys
    }

    /// The newest sealed minute.
    pub fn sealed_through(&self) -> Option<Minute> {
        self.hours.values().next_back()?.minutes.keys().next_back().copied()
    }

    /// The oldest sealed minute held.
    pub fn oldest_sealed(&self) -> Option<Minute> {
        self.hours.values().next()?.minutes.keys().next().copied()
    }

    /// The oldest minute held, sealed or open.
    pub fn oldest(&self) -> Option<Minute> {
        let open = self.open.first().map(|open| open.minute);
        self.oldest_sealed().into_iter().chain(open).min()
    }

    /// Sealed rows of the minutes `from ..= to`, gaps filled as the view says.
    pub fn sealed_rows(&self, from: Minute, to: Minute) -> Rows {
        reading::sealed(self, from, to)
    }

    /// Rows of the minutes `from ..= to` that are still open, `sealed = false`.
    pub fn open_rows(&self, from: Minute, to: Minute) -> Rows {
        reading::open(self, from, to)
    }
}
