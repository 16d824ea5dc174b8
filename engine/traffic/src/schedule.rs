//! When which incident happens: a plan drawn from a seed, or given by the caller.
//! What an incident does is the business of `effect`.

use rand::{Rng, rngs::SmallRng, seq::SliceRandom};
use tidewatch_model::{Minute, limits};

use crate::{
    incident::{Incident, IncidentKind, Labels},
    seed::{self, Purpose},
};

/// Incidents in order of time, at most one at once, planned as far ahead as anybody has asked.
#[derive(Clone, Debug, Default)]
pub struct Schedule {
    planned: Vec<Incident>,
    planner: Option<Planner>,
}

#[derive(Clone, Debug)]
struct Planner {
    rng: SmallRng,
    next: Minute,
    bag: Vec<IncidentKind>,
    last: Option<IncidentKind>,
}

impl Schedule {
    /// Nothing ever goes wrong.
    pub fn calm() -> Self {
        Self::default()
    }

    /// The first incident begins 5 to 19 minutes after `start`, the others 45 to 90 minutes after the end of the one
    /// before. Every kind happens before any happens again, and none twice in a row.
    pub fn from_seed(seed: u64, start: Minute) -> Self {
        let mut rng = seed::generator(seed, Purpose::Schedule, start);
        let next = start.plus(rng.random_range(5..20));
        Self { planned: Vec::new(), planner: Some(Planner { rng, next, bag: Vec::new(), last: None }) }
    }

    /// One incident and no other.
    pub fn only(incident: Incident) -> Self {
        Self { planned: vec![incident], planner: None }
    }

    /// The incident in which the minute lies.
    pub fn at(&mut self, minute: Minute) -> Option<&Incident> {
        self.plan_through(minute);
        let after = self.planned.partition_point(|incident| incident.from <= minute);
        self.planned.get(after.checked_sub(1)?).filter(|incident| incident.covers(minute))
    }

    /// The incidents that touch [from, to), whole even where they begin before or end after it.
    pub fn between(&mut self, from: Minute, to: Minute) -> &[Incident] {
        self.plan_through(to);
        let first = self.planned.partition_point(|incident| incident.to <= from);
        let after = self.planned.partition_point(|incident| incident.from < to).max(first);
        self.planned.get(first..after).unwrap_or_default()
    }

    fn plan_through(&mut self, minute: Minute) {
        let Some(planner) = &mut self.planner else { return };
        while planner.next <= minute && self.planned.len() < limits::SIMULATED_INCIDENTS_MAX {
            self.planned.push(planner.plan());
        }
    }
}

impl Planner {
    fn plan(&mut self) -> Incident {
        let kind = self.draw_kind();
        let rng = &mut self.rng;
        let label = |name: &str, value: &str| Labels::from([(name.to_owned(), value.to_owned())]);
        let (minutes, factor, scope) = match kind {
            // Cards alone or everything: four times the few denials of a small kind would drown at night.
            IncidentKind::DenialSurge => {
                let scope = if rng.random_bool(0.5) { label("kind", "card") } else { Labels::new() };
                (rng.random_range(8..=20), rng.random_range(4.0..8.0), scope)
            }
            IncidentKind::BackendFailure => (rng.random_range(5..=15), 5.0, Labels::new()),
            IncidentKind::Outage => (rng.random_range(5..=15), 0.0, Labels::new()),
            // Twenty to forty minutes of growth and five of recovery.
            IncidentKind::LatencyCreep => (rng.random_range(25..=45), rng.random_range(4.0..6.0), Labels::new()),
            IncidentKind::RegionGone => {
                let region = ["us-east", "us-west", "eu"][rng.random_range(0..3)];
                (rng.random_range(10..=20), 0.0, label("region", region))
            }
        };
        let (from, to) = (self.next, self.next.plus(minutes));
        self.next = to.plus(rng.random_range(45..=90));
        // One decimal is enough, and prints as it is.
        Incident { kind, from, to, scope, factor: f64::round(factor * 10.0) / 10.0 }
    }

    fn draw_kind(&mut self) -> IncidentKind {
        if self.bag.is_empty() {
            self.bag.extend(IncidentKind::ALL);
            self.bag.shuffle(&mut self.rng);
            if self.bag.last().copied() == self.last {
                self.bag.reverse();
            }
        }
        // The bag has just been filled where it was empty; any kind would do if it were not so.
        let kind = self.bag.pop().unwrap_or(IncidentKind::Outage);
        self.last = Some(kind);
        kind
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Minute = Minute::from_index(29_000_000);

    #[test]
    fn a_plan_keeps_its_promises() {
        for seed in 0..200 {
            let mut schedule = Schedule::from_seed(seed, START);
            let incidents = schedule.between(START, START.plus(3 * 1_440)).to_vec();
            assert!(incidents.len() > 30, "seed {seed}: {}", incidents.len());
            let first = incidents[0].from.index() - START.index();
            assert!((5..20).contains(&first), "seed {seed}: {first}");
            for pair in incidents.windows(2) {
                let gap = pair[1].from.index() - pair[0].to.index();
                assert!((45..=90).contains(&gap), "seed {seed}: {pair:?}");
                assert_ne!(pair[0].kind, pair[1].kind, "seed {seed}");
            }
            for round in incidents.chunks_exact(5) {
                let mut kinds: Vec<_> = round.iter().map(|incident| incident.kind).collect();
                kinds.sort();
                assert_eq!(kinds, IncidentKind::ALL, "seed {seed}");
            }
            for incident in &incidents {
                let length = incident.to.index() - incident.from.index();
                let (shortest, longest) = match incident.kind {
                    IncidentKind::DenialSurge => (8, 20),
                    IncidentKind::BackendFailure | IncidentKind::Outage => (5, 15),
                    IncidentKind::LatencyCreep => (25, 45),
                    IncidentKind::RegionGone => (10, 20),
                };
                assert!((shortest..=longest).contains(&length), "seed {seed}: {incident}");
            }
        }
    }

    #[test]
    fn a_plan_is_the_same_however_it_is_asked_for() {
        let mut whole = Schedule::from_seed(7, START);
        let all = whole.between(START, START.plus(1_440)).to_vec();
        let mut stepwise = Schedule::from_seed(7, START);
        for minute in 0..1_440 {
            let minute = START.plus(minute);
            let wanted = all.iter().find(|incident| incident.covers(minute));
            assert_eq!(stepwise.at(minute), wanted, "{minute}");
        }
        assert_eq!(stepwise.at(START), None);
        assert!(stepwise.between(START.plus(-10_000), START).is_empty());
    }

    #[test]
    fn a_far_future_does_not_fill_memory() {
        let mut schedule = Schedule::from_seed(7, START);
        assert_eq!(schedule.at(Minute::from_index(i64::MAX / 120_000_000)), None);
        assert_eq!(schedule.planned.len(), limits::SIMULATED_INCIDENTS_MAX);
    }
}
