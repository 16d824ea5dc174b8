//! The traffic as it arrives: calm minutes with incidents laid over them, sorted by arrival and cut into
//! slices of time. Slices tile: however a range is partitioned, the same events come in the same order.

use std::collections::VecDeque;

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use tidewatch_model::{EventTime, Minute, SchemaError, Span, limits, transactions};

use crate::{
    Profile, Schedule, TrafficError,
    calm::{ARRIVAL_DELAY_MAX_US, Calm},
    columns,
    effect::Effect,
    event::Event,
    incident::Incident,
};

/// The longest that any arrival lies after its event: just under the stream's lateness, so none is late.
pub const ARRIVAL_DELAY_MAX: Span = Span::from_micros(ARRIVAL_DELAY_MAX_US);

/// A slice that moves forward needs the minute it is in and the one before; a third spares a caller who
/// steps back a little.
const MINUTES_KEPT: usize = 3;

/// A source of simulated arrivals.
#[derive(Debug)]
pub struct Traffic {
    seed: u64,
    calm: Calm,
    schedule: Schedule,
    schema: SchemaRef,
    span: Option<(Minute, Minute)>,
    /// The minutes used last, each sorted by arrival.
    minutes: VecDeque<(Minute, Vec<Event>)>,
}

impl Traffic {
    /// Endless calm traffic, before 1970 and for ever.
    pub fn new(profile: Profile, seed: u64) -> Result<Self, TrafficError> {
        let schema = transactions().map_err(|e: SchemaError| arrow::error::ArrowError::SchemaError(e.to_string()))?;
        Ok(Self {
            seed,
            calm: Calm::new(profile, seed),
            schedule: Schedule::calm(),
            schema: schema.arrow().clone(),
            span: None,
            minutes: VecDeque::with_capacity(MINUTES_KEPT + 1),
        })
    }

    /// The same traffic with these incidents laid over it. Events that no incident touches stay as they were.
    #[must_use]
    pub fn with_incidents(self, schedule: Schedule) -> Self {
        Self { schedule, minutes: VecDeque::new(), ..self }
    }

    /// The same traffic, of which only what occurs in [from, to) happens. Its last arrival lies before
    /// `to` + `ARRIVAL_DELAY_MAX`.
    #[must_use]
    pub fn within(self, from: Minute, to: Minute) -> Self {
        Self { span: Some((from, to)), minutes: VecDeque::new(), ..self }
    }

    pub fn seed(&self) -> u64 {
        self.seed
    }

    pub fn profile(&self) -> Profile {
        self.calm.profile()
    }

    /// The columns of every batch: those of the built-in stream.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The incidents that touch [from, to).
    pub fn incidents(&mut self, from: Minute, to: Minute) -> &[Incident] {
        self.schedule.between(from, to)
    }

    /// What arrives in [from, to), in the order of arrival; empty where `to` is not after `from`.
    /// The whole slice is in memory: ask for long ranges piece by piece.
    pub fn arrivals(&mut self, from: EventTime, to: EventTime) -> Result<RecordBatch, TrafficError> {
        let events = self.events(from, to)?;
        Ok(columns::batch(&self.schema, &events)?)
    }

    pub(crate) fn events(&mut self, from: EventTime, to: EventTime) -> Result<Vec<Event>, TrafficError> {
        if to <= from {
            return Ok(Vec::new());
        }
        let expected = to.since(from).micros() as f64 / 60e6 * self.profile().peak();
        if expected > limits::SIMULATED_SLICE_EVENTS_MAX as f64 {
            return Err(TrafficError::SliceTooLong { from, to, events: expected as u64 });
        }
        let mut slice = Vec::with_capacity(expected as usize + 16);
        let mut minute = from.minus(ARRIVAL_DELAY_MAX).minute();
        while minute.start() < to {
            let events = self.minute(minute);
            let first = events.partition_point(|event| event.arrives_at < from.micros());
            let after = events.partition_point(|event| event.arrives_at < to.micros());
            slice.extend_from_slice(events.get(first..after).unwrap_or_default());
            minute = minute.next();
        }
        // Each minute is a sorted run, which a stable sort merges in linear time.
        slice.sort_by_key(order);
        Ok(slice)
    }

    fn minute(&mut self, minute: Minute) -> &[Event] {
        let kept = self.minutes.iter().position(|(at, _)| *at == minute);
        let at = kept.unwrap_or_else(|| {
            let events = self.make(minute);
            self.minutes.truncate(MINUTES_KEPT - 1);
            self.minutes.push_front((minute, events));
            0
        });
        self.minutes.get(at).map(|(_, events)| events.as_slice()).unwrap_or_default()
    }

    fn make(&mut self, minute: Minute) -> Vec<Event> {
        if self.span.is_some_and(|(from, to)| minute < from || to <= minute) {
            return Vec::new();
        }
        let mut events = self.calm.events(minute);
        if let Some(incident) = self.schedule.at(minute) {
            let effect = Effect::of(incident, self.seed);
            events.retain_mut(|event| effect.apply(event));
        }
        events.sort_unstable_by_key(order);
        events
    }
}

/// Arrivals in the same microsecond are ordered by time and id, so that the order has no room for chance.
fn order(event: &Event) -> (i64, i64, u64) {
    (event.arrives_at, event.occurred_at, event.id)
}

#[cfg(test)]
#[path = "traffic_tests.rs"]
mod tests;
