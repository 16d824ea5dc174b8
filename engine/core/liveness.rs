//! `Liveness`: whether live traffic is flowing, and how far the clock lets a silent partition's watermark go on.
//! It follows from the arrival times in the records, so a replay of the log comes to the same state; a checkpoint holds
//! what the records before it came to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
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

/// What a checkpoint holds of it. Version 1; a field that is added later has a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LivenessState {
    partitions: Vec<HeardState>,
    live_at: Option<EventTime>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct HeardState {
    partition: Partition,
    at: EventTime,
    /// Spans are written as text for people, which is not exact to the microsecond.
    lag_us: i64,
    watermark: EventTime,
}

impl Liveness {
    pub fn save(&self) -> LivenessState {
        let heard = |(partition, heard): (&Partition, &Heard)| HeardState {
            partition: *partition,
            at: heard.at,
            lag_us: heard.lag.micros(),
            watermark: heard.watermark,
        };
        LivenessState { partitions: self.partitions.iter().map(heard).collect(), live_at: self.live_at }
    }

    pub fn restore(state: LivenessState) -> Self {
        let heard = |HeardState { partition, at, lag_us, watermark }| {
            (partition, Heard { at, lag: Span::from_micros(lag_us).max(Span::ZERO), watermark })
        };
        Self { partitions: state.partitions.into_iter().map(heard).collect(), live_at: state.live_at }
    }

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

    fn restored(liveness: &Liveness) -> Liveness {
        let text = serde_json::to_string(&liveness.save()).unwrap();
        let again = Liveness::restore(serde_json::from_str(&text).unwrap());
        assert_eq!(serde_json::to_string(&again.save()).unwrap(), text);
        again
    }

    #[test]
    fn what_was_saved_lets_the_clock_say_the_same() {
        use rand::{Rng, SeedableRng, rngs::SmallRng};
        let stream = stream();
        for seed in 0..300 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let (mut whole, mut broken) = (Liveness::default(), Liveness::default());
            let mut now = at(1_760_000_000);
            for _ in 0..40 {
                now = now.plus(Span::from_micros(rng.random_range(0..60_000_000)));
                let partition = Partition::Live(rng.random_range(0..3));
                let lag = Span::from_micros(rng.random_range(-1_000_000..400_000_000));
                for liveness in [&mut whole, &mut broken] {
                    liveness.heard(partition, now, now.minus(lag), stream.lateness);
                }
                broken = restored(&broken);
                let later = now.plus(Span::from_seconds(rng.random_range(0..200)));
                let advances = whole.advances(&stream, later, Span::from_seconds(10));
                assert_eq!(broken.advances(&stream, later, Span::from_seconds(10)), advances, "seed {seed}");
                for advance in advances {
                    whole.advanced(advance.partition, advance.watermark);
                    broken.advanced(advance.partition, advance.watermark);
                }
                assert_eq!(broken.save(), whole.save(), "seed {seed}");
            }
        }
    }

    #[test]
    fn a_state_of_version_1_is_read_and_a_spoilt_one_is_no_panic() {
        let v1 = concat!(
            r#"{"partitions":[{"partition":{"live":0},"at":1000000000,"lag_us":5000001,"watermark":965000000},"#,
            r#"{"partition":{"session":18446744073709551615},"at":1,"lag_us":0,"watermark":-30000000}],"#,
            r#""live_at":1000000000}"#
        );
        let mut liveness = Liveness::default();
        liveness.heard(
            Partition::Live(0),
            at(1_000),
            EventTime::from_micros(994_999_999),
            Span::from_micros(29_999_999),
        );
        let session = Partition::Session(tidewatch_model::SessionId(u64::MAX));
        liveness.heard(session, EventTime::from_micros(1), EventTime::from_micros(1), Span::from_micros(30_000_001));
        assert_eq!(serde_json::to_string(&liveness.save()).unwrap(), v1);
        assert_eq!(serde_json::to_string(&restored(&liveness).save()).unwrap(), v1);
        let newer = v1.replace("\"at\"", "\"since_version_9\":{},\"at\"");
        assert_eq!(serde_json::from_str::<LivenessState>(&newer).unwrap(), liveness.save());
        for length in 0..v1.len() {
            assert!(serde_json::from_str::<LivenessState>(&v1[..length]).is_err(), "cut after {length} bytes");
        }
        for (what, strange) in
            [("5000001", "-1"), ("1000000000", "9223372036854775807"), ("965000000", "-9223372036854775808")]
        {
            let state = serde_json::from_str(&v1.replace(what, strange)).unwrap();
            let _ = Liveness::restore(state).advances(&stream(), at(2_000), Span::ZERO);
        }
        for wrong in
            [v1.replace("live\":0", "live\":65536"), v1.replace("5000001", "0.5"), v1.replace("partitions", "p")]
        {
            assert!(serde_json::from_str::<LivenessState>(&wrong).is_err(), "{wrong}");
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
