//! What an incident does to an event. Each event's fate is decided by its own id, so that events which the
//! incident does not touch are bit for bit those of the calm minute.

use crate::{
    event::{AuthCode, Event, Kind, Region, Status},
    incident::{Incident, IncidentKind},
    profile,
    seed::{self, Purpose},
};

/// The share of approvals that a failing backend takes back.
const BACKEND_REVERSED_SHARE: f64 = 0.02;

/// How long latency takes to recover at the end of a creep.
const RECOVERY_US: f64 = 300e6;

/// An incident, made ready for millions of events.
#[derive(Clone, Debug)]
pub(crate) struct Effect {
    what: IncidentKind,
    factor: f64,
    from: i64,
    to: i64,
    kind: Option<Kind>,
    region: Option<Region>,
    /// A scope that names what this traffic does not have touches nothing.
    vain: bool,
    key: u64,
}

impl Effect {
    pub(crate) fn of(incident: &Incident, seed: u64) -> Self {
        let mut effect = Self {
            what: incident.kind,
            factor: incident.factor,
            from: incident.from.start().micros(),
            to: incident.to.start().micros(),
            kind: None,
            region: None,
            vain: false,
            key: seed::key(seed, Purpose::Effects),
        };
        for (name, value) in &incident.scope {
            match name.as_str() {
                "kind" => effect.kind = Kind::ALL.into_iter().find(|kind| kind.name() == value),
                "region" => effect.region = Region::ALL.into_iter().find(|region| region.name() == value),
                _ => {}
            }
            let known = match name.as_str() {
                "kind" => effect.kind.is_some(),
                "region" => effect.region.is_some(),
                _ => false,
            };
            effect.vain |= !known;
        }
        effect
    }

    /// Changes the event as the incident would; false where the incident keeps it from happening at all.
    pub(crate) fn apply(&self, event: &mut Event) -> bool {
        let touched = !self.vain
            && (self.from..self.to).contains(&event.occurred_at)
            && self.kind.is_none_or(|kind| kind == event.kind)
            && self.region.is_none_or(|region| region == event.region);
        if !touched {
            return true;
        }
        // Both arrivals of a duplicate have one id and so one fate.
        let bits = seed::scramble(event.id ^ self.key);
        match self.what {
            IncidentKind::Outage | IncidentKind::RegionGone => return false,
            IncidentKind::LatencyCreep => {
                event.latency_us = (event.latency_us as f64 * self.slowness(event.occurred_at)).round() as i64;
            }
            IncidentKind::DenialSurge => {
                self.turn(event, bits, &[(Status::Denied, (self.factor - 1.0) * share(event.kind, Status::Denied))]);
            }
            IncidentKind::BackendFailure => {
                let failed = (self.factor - 1.0) * share(event.kind, Status::Failed);
                let reversed = BACKEND_REVERSED_SHARE * share(event.kind, Status::Approved);
                self.turn(event, bits, &[(Status::Failed, failed), (Status::BackendReversed, reversed)]);
            }
        }
        true
    }

    /// Turns an approved event into one of the outcomes, whose shares are of all events of its kind.
    fn turn(&self, event: &mut Event, bits: u64, outcomes: &[(Status, f64)]) {
        if event.status != Status::Approved {
            return;
        }
        let mut draw = seed::unit(bits) * share(event.kind, Status::Approved);
        for (status, extra) in outcomes {
            if draw < *extra {
                event.status = *status;
                event.auth_code = AuthCode::of(event.kind, *status, seed::unit(seed::scramble(bits)));
                return;
            }
            draw -= extra;
        }
    }

    /// How many times as slow as in calm: straight up until five minutes before the end, then straight down.
    fn slowness(&self, time: i64) -> f64 {
        let (since, length) = ((time - self.from) as f64, (self.to - self.from) as f64);
        let recovery = RECOVERY_US.min(length / 2.0);
        let rise = length - recovery;
        let height = if since < rise { since / rise } else { (length - since) / recovery };
        1.0 + (self.factor - 1.0) * height
    }
}

/// The share of a status among the calm events of a kind.
fn share(kind: Kind, status: Status) -> f64 {
    let at = Status::CALM.iter().position(|calm| *calm == status);
    // A kind's number is its row, as `Kind::ALL` and the table have one order and length.
    at.and_then(|at| profile::STATUS_SHARES[kind as usize].get(at)).copied().unwrap_or(0.0)
}
