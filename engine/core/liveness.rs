//! `Liveness`: whether live traffic is flowing, and how far the clock lets a silent partition's watermark go on.
//! It follows from the arrival times in the records, so a replay of the log comes to the same state.

use std::collections::BTreeMap;

use tidewatch_log::{Advance, AdvanceCause};
use tidewatch_model::{EventTime, Partition, Span, StreamSchema};

/// An event this near to the clock when it arrived makes its stream a live one.
const NEAR: Span = Span::from_minutes(5);

#[derive(Debug, Clone, Copy)]
struct Heard {
    at: EventTime,
    /// How far behind the clock its newest event was.
    lag: Span,
    watermark: EventTime,
}

#[derive(Debug, Default)]
pub struct Liveness {
    partitions: BTreeMap<Partition, Heard>,
    /// When an event last arrived that was near the clock.
    live_at: Option<EventTime>,
}

impl Liveness {
    /// A live partition's events arrived; `newest` is the greatest event time among them.
    pub fn heard(&mut self, partition: Partition, arrived_at: EventTime, newest: EventTime, lateness: Span) {
        let lag = arrived_at.since(newest).max(Span::ZERO);
        let watermark = newest.minus(lateness);
        let before = self.partitions.get(&partition).map_or(watermark, |heard| heard.watermark);
        self.partitions.insert(partition, Heard { at: arrived_at, lag, watermark: watermark.max(before) });
        if lag <= NEAR {
            self.live_at = Some(self.live_at.map_or(arrived_at, |at| at.max(arrived_at)));
        }
    }

    pub fn advanced(&mut self, partition: Partition, watermark: EventTime) {
        if let Some(heard) = self.partitions.get_mut(&partition) {
            heard.watermark = heard.watermark.max(watermark);
        }
    }

    pub fn is_live(&self, now: EventTime, live_for: Span) -> bool {
        self.live_at.is_some_and(|at| now.since(at) <= live_for)
    }

    /// What the clock has to say at `now`: partitions that have been silent for `idle_after` go on, at most to where
    /// their events would be by now given how far behind they ran. One advance a minute is enough.
    pub fn advances(&self, stream: &StreamSchema, now: EventTime, idle_after: Span) -> Vec<Advance> {
        if !self.is_live(now, stream.live_for) {
            return Vec::new();
        }
        let silent = |heard: &&Heard| now.since(heard.at) >= idle_after;
        let all_silent = self.partitions.values().all(|heard| silent(&heard));
        let cause = if all_silent { AdvanceCause::Silent } else { AdvanceCause::Idle };
        let due = self.partitions.iter().filter(|(_, heard)| silent(heard)).filter_map(|(partition, heard)| {
            let watermark = now.minus(stream.lateness).minus(heard.lag.min(NEAR));
            (watermark.minute() > heard.watermark.minute()).then(|| Advance {
                stream: stream.name().to_owned(),
                partition: *partition,
                watermark,
                at: now,
                cause,
            })
        });
        due.collect()
    }
}

#[cfg(test)]
mod tests {
    use tidewatch_model::{Column, ColumnType};

    use super::*;

    fn stream() -> StreamSchema {
        let column = Column { name: "t".to_owned(), kind: ColumnType::Timestamp, required: true, default: None };
        StreamSchema::new("s", vec![column], "t", None).unwrap()
    }

    fn at(seconds: i64) -> EventTime {
        EventTime::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn silence_advances_a_live_stream_and_never_an_old_one() {
        let stream = stream();
        let idle = Span::from_seconds(10);
        for (arrived, newest, now, expected) in [
            (1_000, 995, 1_005, None),             // not silent for long enough
            (1_000, 995, 1_030, None),             // the same minute still
            (1_000, 995, 1_100, Some(1_100 - 35)), // lateness and lag
            (1_000, 100, 1_100, None),             // a file from the past is not live
            (1_000, 995, 1_000 + 90_000, None),    // live_for is over
        ] {
            let mut liveness = Liveness::default();
            liveness.heard(Partition::Live(0), at(arrived), at(newest), stream.lateness);
            let advances = liveness.advances(&stream, at(now), idle);
            assert_eq!(advances.first().map(|a| a.watermark), expected.map(at), "at {now}");
        }
    }

    #[test]
    fn an_idle_partition_does_not_hold_back_the_others() {
        let stream = stream();
        let mut liveness = Liveness::default();
        liveness.heard(Partition::Live(0), at(1_000), at(1_000), stream.lateness);
        liveness.heard(Partition::Live(1), at(1_090), at(1_090), stream.lateness);
        let advances = liveness.advances(&stream, at(1_095), Span::from_seconds(10));
        assert_eq!(advances.len(), 1);
        assert_eq!((advances[0].partition, advances[0].cause), (Partition::Live(0), AdvanceCause::Idle));
        liveness.advanced(Partition::Live(0), advances[0].watermark);
        assert!(liveness.advances(&stream, at(1_096), Span::from_seconds(10)).is_empty());
    }
}
