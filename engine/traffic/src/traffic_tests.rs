//! Tests of the traffic as a whole. All statistical bounds are six standard deviations of the exact
//! distribution (one false alarm in 10^9), with seeds that are fixed.

use std::collections::{BTreeMap, HashMap, HashSet};

use arrow::{
    array::{Array, AsArray},
    datatypes::Int64Type,
};
use tidewatch_model::{EventTime, Minute, Span, limits};

use super::*;
use crate::{
    event::{Channel, Currency, Kind, Region, Status},
    incident::{IncidentKind, Labels},
    profile,
};

/// A Tuesday, 14:00 UTC.
const AFTERNOON: Minute = Minute::from_index(29_188_800 + 14 * 60);

fn traffic(seed: u64) -> Traffic {
    Traffic::new(Profile::default(), seed).unwrap()
}

/// What occurs in so many minutes from `from` on, in the order of arrival.
fn occurring(traffic: Traffic, from: Minute, minutes: i64) -> Vec<Event> {
    let to = from.plus(minutes);
    traffic.within(from, to).events(from.start(), to.end()).unwrap()
}

fn assert_near(what: &str, count: usize, expected: f64, variance: f64) {
    let deviations = (count as f64 - expected) / variance.max(1.0).sqrt();
    assert!(deviations.abs() < 6.0, "{what}: {count}, expected {expected:.0}: {deviations:.1} standard deviations");
}

#[test]
fn slices_tile_and_generators_can_start_anywhere() {
    let schedule = || Schedule::from_seed(3, AFTERNOON);
    let new = || traffic(3).with_incidents(schedule());
    let (from, to) = (AFTERNOON.start(), AFTERNOON.plus(30).start());
    let whole = new().arrivals(from, to).unwrap();
    assert!(whole.num_rows() > 100_000);
    for step in [997_001, 3_000_000, 60_000_000, 137_000_003, 1_000_000_000] {
        let mut one = new();
        let (mut time, mut row) = (from, 0);
        while time < to {
            let next = time.plus(Span::from_micros(step)).min(to);
            let slice = one.arrivals(time, next).unwrap();
            assert_eq!(slice, whole.slice(row, slice.num_rows()), "step {step} at {time}");
            // Another generator that has seen nothing else says the same; a few will do.
            if row < 20_000 {
                assert_eq!(new().arrivals(time, next).unwrap(), slice, "step {step} at {time}");
            }
            (time, row) = (next, row + slice.num_rows());
        }
        assert_eq!(row, whole.num_rows(), "step {step}");
    }
    let other = traffic(4).arrivals(from, to).unwrap();
    assert_ne!(other.slice(0, 100), whole.slice(0, 100));
}

#[test]
fn slices_without_events_are_empty_and_too_long_ones_refused() {
    let mut traffic = traffic(1);
    let (early, late) = (AFTERNOON.start(), AFTERNOON.end());
    for (from, to) in [(early, early), (late, early)] {
        let batch = traffic.arrivals(from, to).unwrap();
        assert_eq!((batch.num_rows(), batch.schema()), (0, traffic.schema().clone()));
    }
    for to in [AFTERNOON.plus(3_000).start(), EventTime::MAX] {
        assert!(matches!(traffic.arrivals(early, to), Err(TrafficError::SliceTooLong { .. })), "{to}");
    }
    assert!(traffic.arrivals(EventTime::MIN, EventTime::MAX).is_err());
}

#[test]
fn arrivals_are_out_of_order_but_never_late() {
    let events = occurring(traffic(5), AFTERNOON, 20);
    let (mut newest, mut overtaken, mut delays) = (i64::MIN, 0, 0.0);
    for pair in events.windows(2) {
        assert!(pair[0].arrives_at <= pair[1].arrives_at);
    }
    for event in &events {
        let delay = event.arrives_at - event.occurred_at;
        assert!((0..ARRIVAL_DELAY_MAX.micros()).contains(&delay), "{delay}");
        assert!(ARRIVAL_DELAY_MAX < Span::from_seconds(30));
        assert!(event.occurred_at > newest.saturating_sub(30_000_000));
        overtaken += usize::from(event.occurred_at < newest);
        newest = newest.max(event.occurred_at);
        delays += delay as f64;
    }
    assert!(overtaken > events.len() / 2, "{overtaken} of {}", events.len());
    // Mean 2 s, standard deviation 2 s; duplicates add 3 ms to the mean at most.
    let mean = delays / events.len() as f64;
    assert!((mean - 2e6).abs() < 6.0 * 2e6 / (events.len() as f64).sqrt() + 4e3, "{mean}");
}

#[test]
fn one_event_in_a_thousand_comes_twice_and_is_the_same_event() {
    let events = occurring(traffic(6), AFTERNOON, 60);
    let mut seen: HashMap<u64, Event> = HashMap::new();
    let mut twice = 0;
    for event in &events {
        if let Some(first) = seen.insert(event.id, *event) {
            twice += 1;
            assert!((1_000_000..5_000_000).contains(&(event.arrives_at - first.arrives_at)));
            assert_eq!(Event { arrives_at: first.arrives_at, ..*event }, first);
        }
    }
    let expected = seen.len() as f64 * profile::DUPLICATE_SHARE;
    assert_near("duplicates", twice, expected, expected);
}

#[test]
fn counts_are_those_that_the_profile_expects() {
    for (seed, rate) in [(1, 6_000.0), (2, 600.0), (3, 30_000.0), (4, 1.0)] {
        let profile = Profile::with_rate(rate).unwrap();
        let calm = Calm::new(profile, seed);
        let day: Vec<Minute> = (0..1_440).map(|minute| AFTERNOON.plus(minute)).collect();
        let expected: f64 = day.iter().map(|minute| profile.expected(*minute)).sum();
        for (status, share) in [0.925, 0.045, 0.012, 0.009, 0.009].into_iter().enumerate() {
            let count: u32 = day.iter().map(|minute| calm.counts(*minute)[status]).sum();
            // Cutting a Poisson's tails lowers its variance, so the bound is on the safe side; it lowers the mean of
            // small counts too, by less than a tenth of a standard deviation a minute.
            let bias = if rate < 100.0 { 0.1 * (expected * share * 1_440.0).sqrt() } else { 0.0 };
            let expected = expected * share;
            let slack = bias + expected * 2e-3;
            let deviation = (f64::from(count) - expected).abs() - slack;
            assert!(deviation < 6.0 * expected.max(1.0).sqrt(), "rate {rate} status {status}: {count}, {expected}");
        }
    }
}

#[test]
fn shares_are_those_that_the_profile_says() {
    let calm = Calm::new(Profile::default(), 8);
    let events: Vec<Event> = (0..30).flat_map(|minute| calm.events(AFTERNOON.plus(minute))).collect();
    let total = events.len() as f64;
    let check = |what: &str, share: f64, is: &dyn Fn(&Event) -> bool| {
        let count = events.iter().filter(|event| is(event)).count();
        assert_near(what, count, total * share, total * share * (1.0 - share));
    };
    let over_kinds = |table: [[f64; 5]; 4], at: usize| -> f64 {
        profile::KIND_SHARES.iter().zip(table).map(|(share, row)| share * row[at]).sum()
    };
    for (at, kind) in Kind::ALL.into_iter().enumerate() {
        check(kind.name(), profile::KIND_SHARES[at], &|e| e.kind == kind);
    }
    for (at, channel) in Channel::ALL.into_iter().enumerate() {
        check(channel.name(), over_kinds(profile::CHANNEL_SHARES, at), &|e| e.channel == channel);
    }
    for (at, region) in Region::ALL.into_iter().enumerate() {
        check(region.name(), over_kinds(profile::REGION_SHARES, at), &|e| e.region == region);
    }
    check("denied cards", 0.036, &|e| e.kind == Kind::Card && e.status == Status::Denied);
    check("backend_reversed", 0.0, &|e| e.status == Status::BackendReversed);
    // The share of the busiest of n under a Zipf law with exponent s is 1 / sum over k of k^-s.
    for (n, exponent, of) in [
        (profile::ACCOUNTS, profile::ACCOUNTS_EXPONENT, (|e| e.account) as fn(&Event) -> u32),
        (profile::COUNTERPARTIES, profile::COUNTERPARTIES_EXPONENT, |e| e.counterparty),
    ] {
        let share = 1.0 / (1..=n).map(|k| f64::from(k).powf(-exponent)).sum::<f64>();
        let mut counts: HashMap<u32, usize> = HashMap::new();
        events.iter().for_each(|event| *counts.entry(of(event)).or_default() += 1);
        let busiest = counts.values().copied().max().unwrap();
        assert_near("the busiest", busiest, total * share, total * share);
        assert!(counts.keys().all(|number| *number < n));
    }
    for (kind, (median, _)) in Kind::ALL.into_iter().zip(profile::AMOUNTS) {
        let dollars = |e: &&Event| e.kind == kind && matches!(e.currency, Currency::Usd | Currency::Btc);
        let below = |e: &&Event| (e.amount_minor as f64) < median * profile::minor_units_per_cent(e.currency);
        let of_kind = events.iter().filter(dollars).count() as f64;
        // Whole minor units blur the median by less than a thousandth.
        let count = events.iter().filter(dollars).filter(below).count();
        assert_near(kind.name(), count, of_kind / 2.0, of_kind / 4.0 + (of_kind * 1e-3).powi(2));
    }
}

#[test]
fn columns_hold_what_their_names_say() {
    let batch = traffic(9).arrivals(AFTERNOON.start(), AFTERNOON.end()).unwrap();
    let text = |name: &str| batch.column_by_name(name).unwrap().as_string::<i32>().clone();
    let (ids, kinds, regions, currencies) = (text("event_id"), text("kind"), text("region"), text("currency"));
    let (codes, statuses, ips) = (text("auth_code"), text("status"), text("ip"));
    let amounts = batch.column_by_name("amount_minor").unwrap().as_primitive::<Int64Type>().clone();
    let counts = batch.column_by_name("count").unwrap().as_primitive::<Int64Type>();
    assert!(counts.values().iter().all(|count| *count == 1));
    assert!(amounts.values().iter().all(|amount| *amount > 0));
    for row in 0..batch.num_rows() {
        assert!(ids.value(row).len() == 16 && ids.value(row).bytes().all(|b| b.is_ascii_lowercase()));
        let documentation = ["192.0.2.", "198.51.100.", "203.0.113."];
        let host = documentation.iter().find_map(|network| ips.value(row).strip_prefix(network)).unwrap();
        assert!((1..=254).contains(&host.parse::<u8>().unwrap()));
        let allowed: &[&str] = match (kinds.value(row), regions.value(row)) {
            ("crypto", _) => &["BTC", "ETH"],
            (_, "eu") => &["EUR"],
            (_, "latam") => &["BRL", "USD"],
            (_, "apac") => &["JPY", "USD"],
            _ => &["USD"],
        };
        assert!(allowed.contains(&currencies.value(row)));
        let code = codes.is_valid(row).then(|| codes.value(row));
        assert_eq!(code.is_some(), kinds.value(row) == "card");
        let right = match (code, statuses.value(row)) {
            (None, _) => true,
            (Some(code), "approved" | "reversed" | "refunded") => code == "00",
            (Some(code), "denied") => ["05", "14", "51", "54", "57", "61"].contains(&code),
            (Some(code), "failed") => ["91", "96"].contains(&code),
            _ => false,
        };
        assert!(right, "{code:?} {}", statuses.value(row));
    }
    let distinct: HashSet<&str> = ids.iter().flatten().collect();
    assert!(distinct.len() + 40 > batch.num_rows());
    let attributes = batch.column_by_name("attributes").unwrap();
    assert!(attributes.null_count() > 0 && attributes.null_count() < batch.num_rows() / 2);
}

fn incident(kind: IncidentKind, scope: &[(&str, &str)], factor: f64) -> Incident {
    let scope: Labels = scope.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Incident { kind, from: AFTERNOON.plus(5), to: AFTERNOON.plus(35), scope, factor }
}

/// The events with and without the incident, by id and arrival.
fn pairs(incident: &Incident) -> Vec<(Event, Option<Event>)> {
    let calm = occurring(traffic(11), AFTERNOON, 40);
    let troubled = occurring(traffic(11).with_incidents(Schedule::only(incident.clone())), AFTERNOON, 40);
    let by_arrival: BTreeMap<_, _> = troubled.iter().map(|event| ((event.arrives_at, event.id), *event)).collect();
    assert_eq!(by_arrival.len(), troubled.len());
    let pairs: Vec<_> = calm.iter().map(|e| (*e, by_arrival.get(&(e.arrives_at, e.id)).copied())).collect();
    assert_eq!(pairs.iter().filter(|(_, event)| event.is_some()).count(), troubled.len(), "nothing is added");
    pairs
}

fn during(incident: &Incident, event: &Event) -> bool {
    incident.covers(EventTime::from_micros(event.occurred_at).minute())
}

#[test]
fn incidents_take_away_exactly_what_they_say() {
    for (incident, region) in [
        (incident(IncidentKind::Outage, &[], 0.0), None),
        (incident(IncidentKind::RegionGone, &[("region", "eu")], 0.0), Some(Region::Eu)),
    ] {
        for (calm, troubled) in pairs(&incident) {
            let gone = during(&incident, &calm) && region.is_none_or(|region| region == calm.region);
            assert_eq!(troubled, (!gone).then_some(calm), "{incident}");
        }
    }
}

#[test]
fn incidents_change_statuses_by_the_factor_they_say_and_nothing_else() {
    let surge = incident(IncidentKind::DenialSurge, &[], 6.0);
    let card_surge = incident(IncidentKind::DenialSurge, &[("kind", "card")], 4.0);
    let backend = incident(IncidentKind::BackendFailure, &[], 5.0);
    for (incident, kind, raised) in
        [(surge, None, Status::Denied), (card_surge, Some(Kind::Card), Status::Denied), (backend, None, Status::Failed)]
    {
        let (mut before, mut after, mut reversed, mut approved) = (0, 0, 0, 0);
        for (calm, troubled) in pairs(&incident) {
            let troubled = troubled.unwrap();
            let touched = during(&incident, &calm) && kind.is_none_or(|kind| kind == calm.kind);
            if !touched || calm.status != Status::Approved {
                assert_eq!(troubled, calm, "{incident}");
            }
            // Only the outcome may differ, and its code with it.
            assert_eq!(Event { status: calm.status, auth_code: calm.auth_code, ..troubled }, calm, "{incident}");
            if touched {
                before += usize::from(calm.status == raised);
                after += usize::from(troubled.status == raised);
                approved += usize::from(calm.status == Status::Approved);
                reversed += usize::from(troubled.status == Status::BackendReversed);
            }
        }
        // What is added is binomial around (factor - 1) times the expected calm count, which itself is Poisson.
        let expected = before as f64 * incident.factor;
        assert_near(&incident.to_string(), after, expected, expected + before as f64 * incident.factor.powi(2));
        let wanted = if raised == Status::Failed { approved as f64 * 0.02 } else { 0.0 };
        assert_near("backend_reversed", reversed, wanted, wanted);
    }
}

#[test]
fn latency_creeps_up_and_recovers() {
    let incident = incident(IncidentKind::LatencyCreep, &[], 5.0);
    let mut ratios: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
    for (calm, troubled) in pairs(&incident) {
        let troubled = troubled.unwrap();
        assert_eq!(Event { latency_us: calm.latency_us, ..troubled }, calm);
        let minute = EventTime::from_micros(calm.occurred_at).minute().index() - AFTERNOON.index();
        ratios.entry(minute).or_default().push(troubled.latency_us as f64 / calm.latency_us as f64);
    }
    // Thirty minutes from minute 5 on: 25 up to fivefold, 5 down again.
    for (minute, ratios) in ratios {
        let (least, most) = match minute {
            5..30 => (1.0 + 4.0 * (minute - 5) as f64 / 25.0, 1.0 + 4.0 * (minute - 4) as f64 / 25.0),
            30..35 => (1.0 + 4.0 * (34 - minute) as f64 / 5.0, 1.0 + 4.0 * (35 - minute) as f64 / 5.0),
            _ => (1.0, 1.0),
        };
        for ratio in ratios {
            assert!(ratio > least - 1e-3 && ratio < most + 1e-3, "minute {minute}: {ratio}");
        }
    }
}

#[test]
fn a_scope_that_nothing_has_touches_nothing() {
    for scope in [[("region", "atlantis")], [("planet", "mars")]] {
        assert!(pairs(&incident(IncidentKind::Outage, &scope, 0.0)).iter().all(|(calm, is)| *is == Some(*calm)));
    }
}

#[test]
fn a_schedule_laid_over_traffic_begins_after_its_start() {
    let history = AFTERNOON.plus(-60);
    let events = |traffic: Traffic| occurring(traffic, history, 60);
    let with = traffic(12).with_incidents(Schedule::from_seed(12, AFTERNOON));
    assert_eq!(events(with), events(traffic(12)));
}

/// The z-scores of each status' counts against the 60 minutes before, as the shipped policy takes them.
fn z_scores(counts: &[f64]) -> impl Iterator<Item = f64> {
    counts.windows(61).filter_map(|window| {
        let (now, before) = window.split_last()?;
        let mean = before.iter().sum::<f64>() / 60.0;
        let variance = before.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 59.0;
        (variance > 0.0).then(|| (now - mean) / variance.sqrt())
    })
}

#[test]
fn calm_is_calm_to_a_rolling_z_score() {
    let mut figures = String::new();
    for (name, restlessness) in [("cut at 2", 2.0), ("cut at 2.5", 2.5), ("plain Poisson", f64::INFINITY)] {
        let (mut beyond_4, mut above_4, mut above_25, mut judged) = (0, 0, 0, 0);
        for seed in 0..8 {
            let calm = Calm::new(Profile::default().with_restlessness(restlessness), seed);
            let counts: Vec<[u32; 5]> = (-60..7 * 1_440).map(|minute| calm.counts(AFTERNOON.plus(minute))).collect();
            for status in 0..5 {
                let series: Vec<f64> = counts.iter().map(|counts| f64::from(counts[status])).collect();
                for z in z_scores(&series) {
                    judged += 1;
                    beyond_4 += usize::from(z.abs() > 4.0);
                    above_4 += usize::from(z > 4.0);
                    above_25 += usize::from(z > 2.5);
                }
            }
        }
        let days = 56.0;
        figures += &format!(
            "{name}: {judged} verdicts of 8 seeds over 7 days; a day: {:.2} |z| > 4, {:.2} z > 4, {:.1} z > 2.5\n",
            f64::from(beyond_4 as u32) / days,
            f64::from(above_4 as u32) / days,
            f64::from(above_25 as u32) / days,
        );
        // At most one in a week where tails are cut as by default. The other figures are for comparison.
        assert!(restlessness > Profile::default().restlessness() || beyond_4 <= 8, "{figures}");
    }
    println!("{figures}");
}

#[test]
fn events_are_as_many_as_the_counts_say() {
    let calm = Calm::new(Profile::default(), 13);
    for minute in (0..1_440).step_by(97) {
        let minute = AFTERNOON.plus(minute);
        let mut ids: HashMap<Status, HashSet<u64>> = HashMap::new();
        for event in calm.events(minute) {
            assert_eq!(EventTime::from_micros(event.occurred_at).minute(), minute);
            ids.entry(event.status).or_default().insert(event.id);
        }
        let counts = Status::CALM.map(|status| ids.get(&status).map_or(0, HashSet::len) as u32);
        assert_eq!(counts, calm.counts(minute), "{minute}");
    }
}

#[test]
fn the_highest_rate_still_numbers_its_events() {
    let most = Profile::with_rate(limits::SIMULATED_RATE_MAX).unwrap();
    let mut seen = HashSet::new();
    let events = Calm::new(most, 14).events(AFTERNOON.plus(150));
    let ids = events.iter().filter(|event| seen.insert(event.id)).count();
    assert!(ids as f64 > 1.25 * limits::SIMULATED_RATE_MAX && events.len() - ids < events.len() / 500);
}
