//! `Domain`: a set of partitions that share one watermark: all live traffic, or one replay session.
//! It holds the open minutes of every view and what de-duplication remembers.

use std::{collections::BTreeMap, sync::Arc};

use datafusion::error::DataFusionError;
use serde::{Deserialize, Serialize};
use tidewatch_model::{EventTime, Minute, Partition, Span};

use crate::{
    groups::Groups,
    memory::{IdMemory, IdsState},
    partial::PartialRows,
    view::View,
};

#[derive(Debug)]
pub struct Domain {
    /// Which of all openings of sessions this is, from 1; 0 for live traffic. A session that is opened again after its
    /// end has another memory of ids, and this tells the two apart.
    pub opening: u64,
    pub lateness: Span,
    partitions: BTreeMap<Partition, EventTime>,
    watermark: Option<EventTime>,
    /// The first minute that this domain has not sealed; `None` before its first event.
    next: Option<Minute>,
    /// The minute of the newest event.
    newest: Option<Minute>,
    pub ids: IdMemory,
    pub open: Vec<Groups>,
}

/// All of a domain but the open rows and the ids themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainState {
    pub opening: u64,
    /// As a number: the text of a `Span` is not exact to the microsecond.
    lateness_us: i64,
    partitions: Vec<(Partition, EventTime)>,
    watermark: Option<EventTime>,
    pub next: Option<Minute>,
    pub newest: Option<Minute>,
    pub ids: IdsState,
}

/// What of a domain follows the stream's settings, which may be others than when it was saved.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub lateness: Span,
    pub dedup_span: Span,
}

impl Domain {
    pub fn new(views: &[Arc<View>], lateness: Span, dedup_span: Span, ids_max: usize) -> Result<Self, DataFusionError> {
        Ok(Self {
            opening: 0,
            lateness,
            partitions: BTreeMap::new(),
            watermark: None,
            next: None,
            newest: None,
            ids: IdMemory::new(dedup_span, ids_max),
            open: views.iter().map(|view| Groups::new(Arc::clone(view))).collect::<Result<_, _>>()?,
        })
    }

    pub fn state(&self) -> DomainState {
        DomainState {
            opening: self.opening,
            lateness_us: self.lateness.micros(),
            partitions: self.partitions().collect(),
            watermark: self.watermark,
            next: self.next,
            newest: self.newest,
            ids: self.ids.state(),
        }
    }

    /// A domain as it was saved, as yet without open rows and ids. Settings replace those that were saved.
    pub fn resume(
        views: &[Arc<View>],
        state: &DomainState,
        settings: Option<Settings>,
        ids_max: usize,
    ) -> Result<Self, DataFusionError> {
        Ok(Self {
            opening: state.opening,
            lateness: settings.map_or(Span::from_micros(state.lateness_us), |settings| settings.lateness),
            partitions: state.partitions.iter().copied().collect(),
            watermark: state.watermark,
            next: state.next,
            newest: state.newest,
            ids: IdMemory::resume(&state.ids, settings.map(|settings| settings.dedup_span), ids_max, state.watermark),
            open: views.iter().map(|view| Groups::new(Arc::clone(view))).collect::<Result<_, _>>()?,
        })
    }

    /// Events at or after it may still come; `None` before the first.
    pub fn watermark(&self) -> Option<EventTime> {
        self.watermark
    }

    /// The first minute not sealed yet.
    pub fn next(&self) -> Option<Minute> {
        self.next
    }

    pub fn partitions(&self) -> impl Iterator<Item = (Partition, EventTime)> {
        self.partitions.iter().map(|(partition, watermark)| (*partition, *watermark))
    }

    /// An event of this minute was taken in.
    pub fn saw(&mut self, minute: Minute) {
        self.next = Some(self.next.map_or(minute, |next| next.min(minute)));
        self.newest = Some(self.newest.map_or(minute, |newest| newest.max(minute)));
    }

    /// Raises one partition's watermark. The domain's is the least of them and never falls.
    pub fn raise(&mut self, partition: Partition, watermark: EventTime) {
        let entry = self.partitions.entry(partition).or_insert(watermark);
        *entry = watermark.max(*entry);
        if let Some(least) = self.partitions.values().min() {
            self.watermark = Some(self.watermark.map_or(*least, |current| current.max(*least)));
        }
        if let Some(watermark) = self.watermark {
            self.ids.expire(watermark);
        }
    }

    /// Takes out every minute that ends at or before the watermark, oldest first. Minutes without events are among
    /// them (an outage is judged, too), save in a gap longer than `gap_max`: then nothing was live to be judged.
    pub fn due(&mut self, gap_max: Span) -> Vec<Vec<PartialRows>> {
        let (Some(watermark), Some(next)) = (self.watermark, self.next) else { return Vec::new() };
        self.take_through(next, watermark.minute(), gap_max)
    }

    /// Takes out everything that is open: the end of a session.
    pub fn drain(&mut self, gap_max: Span) -> Vec<Vec<PartialRows>> {
        let (Some(next), Some(newest)) = (self.next, self.newest) else { return Vec::new() };
        self.take_through(next, newest.next(), gap_max)
    }

    fn take_through(&mut self, next: Minute, end: Minute, gap_max: Span) -> Vec<Vec<PartialRows>> {
        let gap_max = gap_max.minutes_ceil();
        let mut taken = Vec::new();
        let mut minute = next;
        while minute < end {
            let oldest = self.open.iter().filter_map(Groups::oldest).min().filter(|oldest| *oldest < end);
            // The next minute that has anything in it, or the end: what lies between is a gap.
            let stop = oldest.unwrap_or(end);
            if stop.index() - minute.index() > gap_max {
                minute = stop;
                continue;
            }
            taken.push(self.open.iter_mut().map(|groups| groups.seal(minute)).collect());
            minute = minute.next();
        }
        self.next = Some(minute.max(next));
        taken
    }

    /// Open minutes over all views.
    pub fn open_minutes(&self) -> std::collections::BTreeSet<Minute> {
        self.open.iter().flat_map(Groups::minutes).collect()
    }
}
