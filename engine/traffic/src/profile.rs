//! What ordinary traffic looks like: how much of it there is at which time, and in which shares.
//! Plain numbers; nothing is drawn here.

use std::f64::consts::TAU;

use tidewatch_model::{Minute, limits};

use crate::{
    TrafficError,
    event::{Currency, Kind, Region},
};

pub(crate) const ACCOUNTS: u32 = 500_000;
pub(crate) const COUNTERPARTIES: u32 = 5_000;

/// Exponents of the long tails. The busiest account makes about 0.2 % of all events, the busiest
/// counterparty about 7 %.
pub(crate) const ACCOUNTS_EXPONENT: f64 = 0.6;
pub(crate) const COUNTERPARTIES_EXPONENT: f64 = 0.9;

/// One event in a thousand is sent twice.
pub(crate) const DUPLICATE_SHARE: f64 = 0.001;

/// Shares of the kinds, in the order of `Kind::ALL`.
pub(crate) const KIND_SHARES: [f64; 4] = [0.60, 0.25, 0.10, 0.05];

/// Shares of the calm statuses within each kind, in the order of `Status::CALM`. Over all kinds they
/// come to 92.5 % approved, 4.5 % denied, 1.2 % failed, 0.9 % reversed and 0.9 % refunded.
pub(crate) const STATUS_SHARES: [[f64; 5]; 4] = [
    [0.908, 0.060, 0.012, 0.009, 0.011],
    [0.958, 0.016, 0.010, 0.010, 0.006],
    [0.932, 0.038, 0.014, 0.008, 0.008],
    [0.950, 0.024, 0.018, 0.006, 0.002],
];

/// Shares of the channels within each kind, in the order of `Channel::ALL`.
pub(crate) const CHANNEL_SHARES: [[f64; 5]; 4] = [
    [0.20, 0.25, 0.45, 0.10, 0.0],
    [0.10, 0.30, 0.0, 0.0, 0.60],
    [0.75, 0.15, 0.10, 0.0, 0.0],
    [0.35, 0.40, 0.0, 0.0, 0.25],
];

/// Shares of the regions within each kind, in the order of `Region::ALL`. ACH exists in the United
/// States only. Over all kinds: 30 %, 19 %, 28.5 %, 12 % and 10.5 %.
pub(crate) const REGION_SHARES: [[f64; 5]; 4] = [
    [0.20, 0.12, 0.38, 0.16, 0.14],
    [0.60, 0.40, 0.0, 0.0, 0.0],
    [0.20, 0.12, 0.38, 0.16, 0.14],
    [0.20, 0.12, 0.38, 0.16, 0.14],
];

/// Median (in US cents) and spread (of the logarithm) of the amounts, in the order of `Kind::ALL`.
pub(crate) const AMOUNTS: [(f64, f64); 4] = [(3_200.0, 1.0), (42_000.0, 1.3), (1_400.0, 0.9), (18_000.0, 1.6)];

/// Median (in microseconds) and spread of the latencies, in the order of `Channel::ALL`.
pub(crate) const LATENCIES: [(f64, f64); 5] =
    [(180_000.0, 0.35), (150_000.0, 0.35), (240_000.0, 0.40), (320_000.0, 0.40), (90_000.0, 0.30)];

/// What is paid with; `draw` in [0, 1) chooses where a region knows two currencies.
pub(crate) fn currency(kind: Kind, region: Region, draw: f64) -> Currency {
    match (kind, region) {
        (Kind::Crypto, _) if draw < 0.6 => Currency::Btc,
        (Kind::Crypto, _) => Currency::Eth,
        (_, Region::Eu) => Currency::Eur,
        (_, Region::Latam) if draw < 0.7 => Currency::Brl,
        (_, Region::Apac) if draw < 0.8 => Currency::Jpy,
        _ => Currency::Usd,
    }
}

/// How many minor units one US cent is, at rates that stand still. JPY has no decimals, crypto has eight.
pub(crate) const fn minor_units_per_cent(currency: Currency) -> f64 {
    match currency {
        Currency::Usd => 1.0,
        Currency::Eur => 0.92,
        Currency::Brl => 5.4,
        Currency::Jpy => 1.5,
        Currency::Btc => 16.7,
        Currency::Eth => 333.0,
    }
}

/// How much traffic there is, and how restless it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Profile {
    events_per_minute: f64,
    restlessness: f64,
}

impl Default for Profile {
    fn default() -> Self {
        Self { events_per_minute: 6_000.0, restlessness: 2.0 }
    }
}

impl Profile {
    /// Traffic of so many events a minute, as the mean of a week.
    pub fn with_rate(events_per_minute: f64) -> Result<Self, TrafficError> {
        if events_per_minute > 0.0 && events_per_minute <= limits::SIMULATED_RATE_MAX {
            Ok(Self { events_per_minute, ..Self::default() })
        } else {
            Err(TrafficError::Rate(events_per_minute))
        }
    }

    /// How many standard deviations a calm minute's count of one status may lie from what is
    /// expected of it; counts beyond are drawn again. The default, 2, keeps calm below the shipped
    /// policy's four sigma but for one minute in some weeks, so that what goes beyond is an incident;
    /// `f64::INFINITY` gives plain Poisson counts, of which two or three a day go beyond it by chance.
    #[must_use]
    pub fn with_restlessness(self, deviations: f64) -> Self {
        Self { restlessness: deviations.max(1.0), ..self }
    }

    /// Events a minute as the mean of a week.
    pub fn events_per_minute(self) -> f64 {
        self.events_per_minute
    }

    pub(crate) fn restlessness(self) -> f64 {
        self.restlessness
    }

    /// Events to be expected in a minute without incidents.
    pub fn expected(self, minute: Minute) -> f64 {
        self.events_per_minute * daily(minute) * weekly(minute)
    }

    /// No minute expects more than this.
    pub(crate) fn peak(self) -> f64 {
        self.events_per_minute * 1.45 * 1.08
    }
}

/// The day: 35 % of the mean at 04:30 UTC, a broad afternoon of up to 145 % around 16:30. Two harmonics, so
/// that the mean is exactly 1 and the slope at most 17 % of the mean an hour.
fn daily(minute: Minute) -> f64 {
    let angle = TAU * (minute.index().rem_euclid(1_440) as f64 - 990.0) / 1_440.0;
    1.0 + 0.55 * angle.cos() - 0.10 * (2.0 * angle).cos()
}

/// The week: 8 % above the mean on Friday, 8 % below between Monday and Tuesday.
fn weekly(minute: Minute) -> f64 {
    // Minute 0 was a Thursday; the crest lies at Friday noon.
    let angle = TAU * (minute.index().rem_euclid(10_080) as f64 - 2_160.0) / 10_080.0;
    1.0 + 0.08 * angle.cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(name: &str, is: f64, wanted: f64) {
        assert!((is - wanted).abs() < 1e-9, "{name}: {is} is not {wanted}");
    }

    #[test]
    fn shares_are_shares() {
        close("kinds", KIND_SHARES.iter().sum(), 1.0);
        for table in [STATUS_SHARES, CHANNEL_SHARES, REGION_SHARES] {
            for row in table {
                close("a row", row.iter().sum(), 1.0);
            }
        }
        for (at, wanted) in [0.925, 0.045, 0.012, 0.009, 0.009].into_iter().enumerate() {
            let share: f64 = KIND_SHARES.iter().zip(STATUS_SHARES).map(|(kind, row)| kind * row[at]).sum();
            assert!((share - wanted).abs() < 1e-3, "status {at}: {share}");
        }
    }

    #[test]
    fn a_week_has_the_mean_that_was_asked_for_and_is_smooth() {
        let profile = Profile::default();
        let week: Vec<f64> = (0..10_080).map(|m| profile.expected(Minute::from_index(m))).collect();
        assert!((week.iter().sum::<f64>() / 10_080.0 - 6_000.0).abs() < 1e-6);
        let (least, most) = week.iter().fold((f64::MAX, 0f64), |(a, b), x| (a.min(*x), b.max(*x)));
        assert!(least > 0.32 * 6_000.0 && least < 0.36 * 6_000.0, "{least}");
        assert!(most > 1.4 * 6_000.0 && most <= profile.peak(), "{most}");
        for pair in week.windows(2) {
            assert!((pair[1] - pair[0]).abs() < 0.004 * 6_000.0, "{pair:?}");
        }
    }

    #[test]
    fn senseless_rates_are_refused() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY, limits::SIMULATED_RATE_MAX * 2.0] {
            assert!(Profile::with_rate(rate).is_err(), "{rate}");
        }
        assert!(Profile::with_rate(0.5).is_ok());
    }
}
