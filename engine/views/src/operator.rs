//! `Operator`: the window operator of one stream. Records go in, in the order of the log; accepted events,
//! late ones, corrections and sealed minutes come out. It is a deterministic function of its input.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use arrow::{
    array::{Array, AsArray, BooleanArray, RecordBatch},
    compute,
    datatypes::{Int64Type, TimestampMicrosecondType},
};
use datafusion::error::DataFusionError;
use tidewatch_model::{EventTime, IdHash, Minute, Partition, SessionId, Span, StreamSchema, hash_id, limits};

use crate::{
    domain::Domain,
    groups::{Absorbed, Groups},
    memory::Producers,
    partial::PartialRows,
    sealed::SealedMinutes,
    view::View,
};

/// A record's events, as the operator reads them.
#[derive(Debug, Clone, Copy)]
pub struct Events<'a> {
    pub partition: Partition,
    /// The producer and the sequence of each row; rows at or below what was heard are repeats.
    pub producer: Option<Sequenced<'a>>,
    /// Exactly the stream's schema.
    pub rows: &'a RecordBatch,
}

/// Sequences of a producer's events: row `i` has `first + offsets[i]`, or `first + i` where there are no offsets.
#[derive(Debug, Clone, Copy)]
pub struct Sequenced<'a> {
    pub producer: &'a str,
    pub first: u64,
    pub offsets: Option<&'a [u32]>,
    /// The greatest sequence that the submission covered, events refused at the door included.
    pub last: u64,
}

/// Why an event went to `late_events`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LateReason {
    /// Older than de-duplication can vouch for or corrections reach back to.
    BeyondHorizon,
    /// The session holds as many minutes open as it may.
    TooManyOpenMinutes,
    /// The session was ended before.
    SessionEnded,
}

impl LateReason {
    pub const fn text(self) -> &'static str {
        match self {
            Self::BeyondHorizon => "older than the correction horizon",
            Self::TooManyOpenMinutes => "too many open minutes",
            Self::SessionEnded => "its session has ended",
        }
    }
}

/// A minute that was sealed just now: partial rows of each view, in the order of the views.
#[derive(Debug)]
pub struct SealedMinute {
    pub minute: Minute,
    pub views: Vec<PartialRows>,
    /// The domain that sealed it.
    pub by: Sealer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sealer {
    Live,
    Session(SessionId),
}

/// Events for a minute that had been sealed before: partial rows to be added to it.
#[derive(Debug)]
pub struct Correction {
    pub minute: Minute,
    pub views: Vec<PartialRows>,
    pub by: Sealer,
}

/// What a record did.
#[derive(Debug, Default)]
pub struct Applied {
    /// The events that count, in their order; `None` where there are none.
    pub accepted: Option<RecordBatch>,
    pub duplicates: u64,
    pub late: Vec<(RecordBatch, LateReason)>,
    /// To be added before the sealed minutes are.
    pub corrections: Vec<Correction>,
    /// In order of time.
    pub sealed: Vec<SealedMinute>,
    /// What each view met while taking the events in.
    pub absorbed: Vec<Absorbed>,
}

/// The limits that the operator keeps.
#[derive(Debug, Clone, Copy)]
pub struct OperatorLimits {
    pub ids_max: usize,
}

#[derive(Debug)]
pub struct Operator {
    pub(crate) schema: Arc<StreamSchema>,
    pub(crate) views: Vec<Arc<View>>,
    pub(crate) limits: OperatorLimits,
    pub(crate) live: Domain,
    pub(crate) sessions: BTreeMap<SessionId, Domain>,
    /// Sessions opened so far, those opened again counted again.
    pub(crate) openings: u64,
    pub(crate) producers: Producers,
    pub(crate) session_sequences: Producers,
    pub(crate) sealed: SealedMinutes,
}

/// What becomes of one row.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Open,
    /// The session has left the event's minute and live traffic has not: it counts there.
    Live,
    Correction,
    Duplicate,
    Late(LateReason),
}

impl Fate {
    fn counts(self) -> bool {
        matches!(self, Self::Open | Self::Live | Self::Correction)
    }
}

impl Operator {
    pub fn new(
        schema: Arc<StreamSchema>,
        views: Vec<Arc<View>>,
        limits: OperatorLimits,
    ) -> Result<Self, DataFusionError> {
        let live = Domain::new(&views, schema.lateness, schema.dedup_span, limits.ids_max)?;
        Ok(Self {
            schema,
            views,
            limits,
            live,
            sessions: BTreeMap::new(),
            openings: 0,
            producers: Producers::default(),
            session_sequences: Producers::default(),
            sealed: SealedMinutes::default(),
        })
    }

    pub fn views(&self) -> &[Arc<View>] {
        &self.views
    }

    /// The live watermark; `None` before the first live event.
    pub fn watermark(&self) -> Option<EventTime> {
        self.live.watermark()
    }

    pub fn live_partitions(&self) -> impl Iterator<Item = (Partition, EventTime)> {
        self.live.partitions()
    }

    pub fn sealed(&self) -> &SealedMinutes {
        &self.sealed
    }

    /// Ids held in memory, and the span that they cover for live traffic now.
    pub fn ids(&self) -> (usize, Option<Span>) {
        let held = self.live.ids.len() + self.sessions.values().map(|session| session.ids.len()).sum::<usize>();
        (held, self.live.watermark().map(|watermark| self.live.ids.effective_span(watermark)))
    }

    /// Forgets which events were counted: a bug, for whoever tests that it is found.
    pub fn forget_ids(&mut self) {
        self.live.ids.forget_all();
        self.sessions.values_mut().for_each(|session| session.ids.forget_all());
    }

    /// Groups that are open now, over all views and domains.
    pub fn open_groups(&self) -> usize {
        let groups = |domain: &Domain| domain.open.iter().map(Groups::len).sum::<usize>();
        groups(&self.live) + self.sessions.values().map(groups).sum::<usize>()
    }

    /// The greatest sequence heard of a producer, for a client that resumes.
    pub fn last_sequence(&self, partition: Partition, producer: &str) -> Option<u64> {
        match partition {
            Partition::Live(_) => self.producers.last(producer),
            Partition::Session(session) => self.session_sequences.last(&session_key(session)),
        }
    }

    /// Opens a session, or opens it again after its end with its sequences remembered.
    pub fn open_session(&mut self, session: SessionId, lateness: Span) -> Result<(), DataFusionError> {
        if let Some(open) = self.sessions.get_mut(&session) {
            open.lateness = open.lateness.max(lateness);
            return Ok(());
        }
        // Ids must be vouched for as far back as the session's own disorder reaches.
        let span = self.schema.dedup_span.plus(lateness);
        let mut domain = Domain::new(&self.views, lateness.max(self.schema.lateness), span, self.limits.ids_max)?;
        self.openings += 1;
        domain.opening = self.openings;
        self.sessions.insert(session, domain);
        Ok(())
    }

    /// Ends a session: all that it holds open is sealed.
    pub fn end_session(&mut self, session: SessionId) -> Applied {
        let mut applied = Applied::default();
        if let Some(mut domain) = self.sessions.remove(&session) {
            let minutes = domain.drain(self.schema.live_for);
            self.seal_session(session, minutes, &mut applied);
        }
        applied
    }

    /// The clock's say: a live partition's watermark goes on without events.
    pub fn advance(&mut self, partition: Partition, watermark: EventTime) -> Applied {
        let mut applied = Applied::default();
        if matches!(partition, Partition::Live(_)) && self.live.next().is_some() {
            self.live.raise(partition, watermark);
            self.seal_live(&mut applied);
        }
        applied
    }

    /// Takes a record's events in. Lateness is judged by the watermark before the record, which advances after it.
    pub fn events(&mut self, events: Events<'_>) -> Result<Applied, DataFusionError> {
        let mut applied = Applied::default();
        if events.rows.num_rows() == 0 {
            self.remember_sequence(&events);
            return Ok(applied);
        }
        let times = events.rows.column(self.schema.event_time());
        let times = times.as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(|| {
            DataFusionError::Internal("the event-time column of a record is not a timestamp".to_owned())
        })?;
        let minutes: Vec<i64> = times.values().iter().map(|t| EventTime::from_micros(*t).minute().index()).collect();
        let fates = self.fates(&events, times.values(), &minutes);
        self.remember_sequence(&events);
        self.apply_fates(&events, &minutes, &fates, &mut applied)?;
        let greatest =
            times.values().iter().zip(&fates).filter(|(_, fate)| matches!(fate, Fate::Open | Fate::Correction));
        if let Some(greatest) = greatest.map(|(time, _)| *time).max() {
            self.raise(events.partition, EventTime::from_micros(greatest), &mut applied);
        }
        Ok(applied)
    }

    fn remember_sequence(&mut self, events: &Events<'_>) {
        let Some(sequenced) = events.producer else { return };
        match events.partition {
            Partition::Live(_) => self.producers.hear(sequenced.producer, sequenced.last),
            Partition::Session(session) => self.session_sequences.hear(&session_key(session), sequenced.last),
        }
    }

    fn fates(&mut self, events: &Events<'_>, times: &[i64], minutes: &[i64]) -> Vec<Fate> {
        let heard = events.producer.and_then(|s| self.last_sequence(events.partition, s.producer));
        let ids = self.schema.id().map(|at| events.rows.column(at)).map(Ids::of);
        let is_live = matches!(events.partition, Partition::Live(_));
        let live_from = if is_live { None } else { self.live.next() };
        let domain = match events.partition {
            Partition::Live(_) => &mut self.live,
            Partition::Session(session) => match self.sessions.get_mut(&session) {
                Some(domain) => domain,
                None => return vec![Fate::Late(LateReason::SessionEnded); times.len()],
            },
        };
        let watermark = domain.watermark();
        let horizon = watermark.map(|w| w.minus(self.schema.correction_horizon.plus(domain.lateness)).minute().start());
        let open_from = watermark.map(EventTime::minute);
        let mut open_minutes = None;
        let mut fates = Vec::with_capacity(times.len());
        for (row, (time, minute)) in times.iter().zip(minutes).enumerate() {
            let (time, minute) = (EventTime::from_micros(*time), Minute::from_index(*minute));
            let repeated = || {
                let sequenced = events.producer?;
                let offset =
                    sequenced.offsets.map_or(row as u64, |offsets| offsets.get(row).map_or(0, |o| u64::from(*o)));
                Some(sequenced.first.saturating_add(offset) <= heard?)
            };
            let id = ids.as_ref().and_then(|ids| ids.hash(row));
            // Asked for each row: a full memory forgets its oldest minute in the middle of a batch.
            let unvouched = || watermark.is_some_and(|watermark| time < domain.ids.vouches_from(watermark));
            let beyond = horizon.is_some_and(|horizon| time < horizon) || (id.is_some() && unvouched());
            fates.push(if repeated() == Some(true) {
                Fate::Duplicate
            } else if beyond {
                Fate::Late(LateReason::BeyondHorizon)
            } else if id.is_some_and(|id| !domain.ids.insert(id, minute)) {
                Fate::Duplicate
            } else if open_from.is_some_and(|open_from| minute < open_from) || (is_live && self.sealed.contains(minute))
            {
                let live_has_it = live_from.is_some_and(|from| minute >= from) && !self.sealed.contains(minute);
                if live_has_it { Fate::Live } else { Fate::Correction }
            } else {
                let open: &mut BTreeSet<Minute> = open_minutes.get_or_insert_with(|| domain.open_minutes());
                if open.len() >= limits::OPEN_MINUTES_MAX && !open.contains(&minute) {
                    Fate::Late(LateReason::TooManyOpenMinutes)
                } else {
                    open.insert(minute);
                    Fate::Open
                }
            });
        }
        fates
    }

    fn apply_fates(
        &mut self,
        events: &Events<'_>,
        minutes: &[i64],
        fates: &[Fate],
        applied: &mut Applied,
    ) -> Result<(), DataFusionError> {
        applied.duplicates = fates.iter().filter(|fate| **fate == Fate::Duplicate).count() as u64;
        for reason in [LateReason::BeyondHorizon, LateReason::TooManyOpenMinutes, LateReason::SessionEnded] {
            if let Some((rows, _)) = picked(events.rows, minutes, fates, |fate| fate == Fate::Late(reason))? {
                applied.late.push((rows, reason));
            }
        }
        applied.accepted = picked(events.rows, minutes, fates, Fate::counts)?.map(|(rows, _)| rows);
        applied.absorbed = vec![Absorbed::default(); self.views.len()];
        if let Some((rows, minutes)) = picked(events.rows, minutes, fates, |fate| fate == Fate::Correction)? {
            self.correct(events.partition, &rows, &minutes, applied)?;
        }
        if let Some((rows, minutes)) = picked(events.rows, minutes, fates, |fate| fate == Fate::Open)? {
            let domain = match events.partition {
                Partition::Live(_) => &mut self.live,
                Partition::Session(session) => match self.sessions.get_mut(&session) {
                    Some(domain) => domain,
                    None => return Ok(()),
                },
            };
            if let (Some(first), Some(last)) = (minutes.iter().min(), minutes.iter().max()) {
                domain.saw(Minute::from_index(*first));
                domain.saw(Minute::from_index(*last));
            }
            absorb(&mut domain.open, &rows, &minutes, applied);
        }
        if let Some((rows, minutes)) = picked(events.rows, minutes, fates, |fate| fate == Fate::Live)? {
            absorb(&mut self.live.open, &rows, &minutes, applied);
        }
        Ok(())
    }

    /// Events for sealed minutes: partial rows of their own, to be merged with what the store has.
    fn correct(
        &mut self,
        partition: Partition,
        rows: &RecordBatch,
        minutes: &[i64],
        applied: &mut Applied,
    ) -> Result<(), DataFusionError> {
        let mut scratch = self.views.iter().map(|view| Groups::new(Arc::clone(view))).collect::<Result<Vec<_>, _>>()?;
        absorb(&mut scratch, rows, minutes, applied);
        let touched: BTreeSet<i64> = minutes.iter().copied().collect();
        for minute in touched.into_iter().map(Minute::from_index) {
            self.sealed.insert(minute);
            let views = scratch.iter_mut().map(|groups| groups.seal(minute)).collect();
            applied.corrections.push(Correction { minute, views, by: sealer(partition) });
        }
        Ok(())
    }

    fn raise(&mut self, partition: Partition, greatest: EventTime, applied: &mut Applied) {
        match partition {
            Partition::Live(_) => {
                self.live.raise(partition, greatest.minus(self.live.lateness));
                self.seal_live(applied);
            }
            Partition::Session(session) => {
                let Some(domain) = self.sessions.get_mut(&session) else { return };
                domain.raise(partition, greatest.minus(domain.lateness));
                let minutes = domain.due(self.schema.live_for);
                self.seal_session(session, minutes, applied);
            }
        }
    }

    fn seal_live(&mut self, applied: &mut Applied) {
        for views in self.live.due(self.schema.live_for) {
            let Some(minute) = views.first().map(PartialRows::minute) else { continue };
            if self.sealed.contains(minute) {
                // A session sealed it while live traffic had not begun.
                push_correction(applied, minute, views, Sealer::Live);
            } else {
                self.sealed.insert(minute);
                applied.sealed.push(SealedMinute { minute, views, by: Sealer::Live });
            }
        }
    }

    /// A session's minute is a correction where the minute is sealed, joins live traffic where that is still at it,
    /// and is sealed in its own right otherwise.
    fn seal_session(&mut self, session: SessionId, minutes: Vec<Vec<PartialRows>>, applied: &mut Applied) {
        for views in minutes {
            let Some(minute) = views.first().map(PartialRows::minute) else { continue };
            if self.sealed.contains(minute) {
                push_correction(applied, minute, views, Sealer::Session(session));
            } else if self.live.next().is_some_and(|next| minute >= next) {
                for (groups, partial) in self.live.open.iter_mut().zip(&views) {
                    groups.absorb_partial(partial);
                }
            } else {
                self.sealed.insert(minute);
                applied.sealed.push(SealedMinute { minute, views, by: Sealer::Session(session) });
            }
        }
    }

    /// Adds rows of one view to the minute that is open for live traffic, or else for a session: for a view that is made
    /// while events are under way. False where that minute is open for nobody.
    pub fn absorb_open(&mut self, view: usize, rows: &PartialRows) -> bool {
        let is_open = |domain: &&mut Domain| domain.next().is_some_and(|next| rows.minute() >= next);
        let domain = std::iter::once(&mut self.live).chain(self.sessions.values_mut()).find(is_open);
        let groups = domain.and_then(|domain| domain.open.get_mut(view));
        groups.map(|groups| groups.absorb_partial(rows)).is_some()
    }

    /// The open minutes of every view, as they stand: live traffic and sessions merged.
    pub fn open_rows(&self) -> Vec<Vec<PartialRows>> {
        let mut rows: Vec<BTreeMap<Minute, PartialRows>> = vec![BTreeMap::new(); self.views.len()];
        for domain in std::iter::once(&self.live).chain(self.sessions.values()) {
            for (groups, rows) in domain.open.iter().zip(&mut rows) {
                for minute in groups.minutes() {
                    let Some(partial) = groups.peek(minute) else { continue };
                    let merged = match rows.remove(&minute) {
                        Some(other) => other.merged(&partial),
                        None => partial,
                    };
                    rows.insert(minute, merged);
                }
            }
        }
        rows.into_iter().map(|minutes| minutes.into_values().collect()).collect()
    }
}

fn push_correction(applied: &mut Applied, minute: Minute, views: Vec<PartialRows>, by: Sealer) {
    if views.iter().any(|rows| !rows.is_empty()) {
        applied.corrections.push(Correction { minute, views, by });
    }
}

fn sealer(partition: Partition) -> Sealer {
    match partition {
        Partition::Live(_) => Sealer::Live,
        Partition::Session(session) => Sealer::Session(session),
    }
}

/// A session has one producer, the session itself.
fn session_key(session: SessionId) -> String {
    format!("{:016x}", session.0)
}

/// Adds rows to the groups of each view.
fn absorb(views: &mut [Groups], rows: &RecordBatch, minutes: &[i64], applied: &mut Applied) {
    for (groups, absorbed) in views.iter_mut().zip(&mut applied.absorbed) {
        add_absorbed(absorbed, groups.absorb(rows, minutes));
    }
}

fn add_absorbed(total: &mut Absorbed, more: Absorbed) {
    total.overflowed += more.overflowed;
    if let Some((count, reason)) = more.failed {
        let before = total.failed.as_ref().map_or(0, |(count, _)| *count);
        total.failed = Some((before + count, reason));
    }
}

/// The rows whose fate is wanted, with their minutes; `None` where there are none.
fn picked(
    rows: &RecordBatch,
    minutes: &[i64],
    fates: &[Fate],
    wanted: impl Fn(Fate) -> bool,
) -> Result<Option<(RecordBatch, Vec<i64>)>, DataFusionError> {
    let mask: Vec<bool> = fates.iter().map(|fate| wanted(*fate)).collect();
    let count = mask.iter().filter(|wanted| **wanted).count();
    if count == 0 {
        return Ok(None);
    }
    if count == mask.len() {
        return Ok(Some((rows.clone(), minutes.to_vec())));
    }
    let minutes = minutes.iter().zip(&mask).filter(|(_, wanted)| **wanted).map(|(minute, _)| *minute).collect();
    Ok(Some((compute::filter_record_batch(rows, &BooleanArray::from(mask))?, minutes)))
}

/// The id column of a batch.
enum Ids<'a> {
    Text(&'a arrow::array::StringArray),
    Number(&'a arrow::array::PrimitiveArray<Int64Type>),
    Missing,
}

impl<'a> Ids<'a> {
    fn of(column: &'a arrow::array::ArrayRef) -> Self {
        match (column.as_string_opt::<i32>(), column.as_primitive_opt::<Int64Type>()) {
            (Some(text), _) => Self::Text(text),
            (None, Some(numbers)) => Self::Number(numbers),
            (None, None) => Self::Missing,
        }
    }

    fn hash(&self, row: usize) -> Option<IdHash> {
        match self {
            Self::Text(ids) => ids.is_valid(row).then(|| hash_id(ids.value(row).as_bytes())),
            Self::Number(ids) => ids.is_valid(row).then(|| hash_id(&ids.value(row).to_le_bytes())),
            Self::Missing => None,
        }
    }
}
