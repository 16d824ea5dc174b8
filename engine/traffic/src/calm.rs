//! The events of one minute in which nothing is wrong, drawn from (seed, profile, minute) alone.
//! Incidents are laid over them by `effect` and never change what is drawn here.

use rand::{Rng, rngs::SmallRng};
use rand_distr::{Distribution, LogNormal, Poisson, Zipf};
use tidewatch_model::Minute;

use crate::{
    event::{AuthCode, Channel, Event, Kind, Region, Status},
    profile::{self, Profile},
    seed::{self, Purpose},
};

/// The mean of the delay between an event and its arrival, and the bound at which it is cut.
const DELAY_MEAN_US: f64 = 2_000_000.0;
const DELAY_CUT_US: f64 = 25_000_000.0;

/// A duplicate follows the first arrival after one to five seconds, so that all arrivals lie
/// within the stream's lateness of 30 seconds.
const DUPLICATE_AFTER_US: std::ops::Range<i64> = 1_000_000..4_900_000;

/// The longest that any arrival lies after its event, in microseconds.
pub(crate) const ARRIVAL_DELAY_MAX_US: i64 = DELAY_CUT_US as i64 + DUPLICATE_AFTER_US.end;

/// Numbers of the first bits of an id that count the events within a minute.
const ORDINAL_BITS: u32 = 24;
const _: () = assert!(tidewatch_model::limits::SIMULATED_RATE_MAX * 1.6 * 1.01 < (1u64 << ORDINAL_BITS) as f64);

/// The sums of shares up to each entry, so that one draw chooses.
#[derive(Clone, Copy, Debug)]
struct Choice<const N: usize>([f64; N]);

impl<const N: usize> Choice<N> {
    fn of(shares: [f64; N]) -> Self {
        let total: f64 = shares.iter().sum();
        let mut sum = 0.0;
        Self(shares.map(|share| {
            sum += share / total;
            sum
        }))
    }

    /// Chooses among `values`; what rounding leaves beyond the last sum falls to the first value.
    fn pick<T: Copy>(&self, values: &[T; N], draw: f64) -> T {
        let at = self.0.iter().position(|sum| draw < *sum).unwrap_or(0);
        // `at` comes from an array of the same length N.
        values[at]
    }
}

/// Everything that is the same for every minute.
#[derive(Clone, Debug)]
pub(crate) struct Calm {
    seed: u64,
    profile: Profile,
    /// The share of each calm status.
    statuses: [f64; 5],
    /// The kinds within each calm status.
    kinds: [Choice<4>; 5],
    channels: [Choice<5>; 4],
    regions: [Choice<5>; 4],
    amounts: [LogNormal<f64>; 4],
    latencies: [LogNormal<f64>; 5],
    accounts: Zipf<f64>,
    counterparties: Zipf<f64>,
}

impl Calm {
    pub(crate) fn new(profile: Profile, seed: u64) -> Self {
        let joint = |status: usize, kind: usize| profile::KIND_SHARES[kind] * profile::STATUS_SHARES[kind][status];
        let log_normal = |(median, spread): (f64, f64)| {
            // The tables hold positive medians and finite spreads, which is all that it asks for.
            LogNormal::new(f64::ln(median), spread).expect("the spreads of the profile are finite")
        };
        // Zipf asks for at least one element and an exponent that is not negative; both are constants.
        let zipf = |n: u32, exponent| Zipf::new(f64::from(n), exponent).expect("the tails of the profile are valid");
        Self {
            seed,
            profile,
            statuses: std::array::from_fn(|status| (0..4).map(|kind| joint(status, kind)).sum()),
            kinds: std::array::from_fn(|status| Choice::of(std::array::from_fn(|kind| joint(status, kind)))),
            channels: profile::CHANNEL_SHARES.map(Choice::of),
            regions: profile::REGION_SHARES.map(Choice::of),
            amounts: profile::AMOUNTS.map(log_normal),
            latencies: profile::LATENCIES.map(log_normal),
            accounts: zipf(profile::ACCOUNTS, profile::ACCOUNTS_EXPONENT),
            counterparties: zipf(profile::COUNTERPARTIES, profile::COUNTERPARTIES_EXPONENT),
        }
    }

    pub(crate) fn profile(&self) -> Profile {
        self.profile
    }

    /// How many events of each calm status the minute has: Poisson, cut where the profile says.
    pub(crate) fn counts(&self, minute: Minute) -> [u32; 5] {
        let mut rng = seed::generator(self.seed, Purpose::Counts, minute);
        let total = self.profile.expected(minute);
        self.statuses.map(|share| {
            let expected = total * share;
            let Ok(distribution) = Poisson::new(expected) else { return 0 };
            // At least one either way, so that statuses stay possible where fewer than one is expected.
            let reach = (self.profile.restlessness() * expected.sqrt()).max(1.0);
            loop {
                let count: f64 = distribution.sample(&mut rng);
                if (count - expected).abs() <= reach {
                    return count as u32;
                }
            }
        })
    }

    /// The minute's arrivals, duplicates included, in no particular order.
    pub(crate) fn events(&self, minute: Minute) -> Vec<Event> {
        let counts = self.counts(minute);
        let total: u32 = counts.iter().sum();
        let mut events = Vec::with_capacity(total as usize + total as usize / 256 + 16);
        let mut rng = seed::generator(self.seed, Purpose::Events, minute);
        let ids = seed::key(self.seed, Purpose::Ids);
        let mut ordinal = 0u64;
        for ((status, count), kinds) in Status::CALM.into_iter().zip(counts).zip(&self.kinds) {
            for _ in 0..count {
                // The scrambling is one-to-one, so no two events of a seed share an id.
                let place = (minute.index().cast_unsigned() << ORDINAL_BITS) | ordinal;
                ordinal += 1;
                let kind = kinds.pick(&Kind::ALL, rng.random());
                let event = self.event(&mut rng, minute, status, kind, seed::scramble(place ^ ids));
                events.push(event);
                if rng.random::<f64>() < profile::DUPLICATE_SHARE {
                    let later = rng.random_range(DUPLICATE_AFTER_US);
                    events.push(Event { arrives_at: event.arrives_at + later, ..event });
                }
            }
        }
        events
    }

    fn event(&self, rng: &mut SmallRng, minute: Minute, status: Status, kind: Kind, id: u64) -> Event {
        // Enums without fields number their variants in the order of ALL, by which the tables are laid out.
        let channel = self.channels[kind as usize].pick(&Channel::ALL, rng.random());
        let region = self.regions[kind as usize].pick(&Region::ALL, rng.random());
        let currency = profile::currency(kind, region, rng.random());
        let cents = self.amounts[kind as usize].sample(rng);
        let occurred_at = minute.start().micros() + rng.random_range(0..60_000_000);
        let ip: u16 = rng.random();
        Event {
            id,
            occurred_at,
            arrives_at: occurred_at + delay(rng.random()),
            amount_minor: ((cents * profile::minor_units_per_cent(currency)).round() as i64).max(1),
            latency_us: self.latencies[channel as usize].sample(rng).round() as i64,
            account: spread(self.accounts.sample(rng), 314_159, profile::ACCOUNTS),
            counterparty: spread(self.counterparties.sample(rng), 1_999, profile::COUNTERPARTIES),
            status,
            kind,
            channel,
            region,
            currency,
            auth_code: AuthCode::of(kind, status, rng.random()),
            ip: ((ip >> 8) as u8 % 3, (ip as u8).clamp(1, 254)),
        }
    }
}

/// An exponential delay of which the part beyond the cut is left out, from a draw in [0, 1).
fn delay(draw: f64) -> i64 {
    let kept = -f64::exp_m1(-DELAY_CUT_US / DELAY_MEAN_US);
    (-DELAY_MEAN_US * f64::ln_1p(-draw * kept)) as i64
}

/// Turns a rank (1 for the busiest) into a number below `size`, so that the busy ones are not neighbours.
/// `step` has no divisor in common with `size`, hence every number belongs to one rank.
fn spread(rank: f64, step: u64, size: u32) -> u32 {
    ((rank as u64).wrapping_mul(step) % u64::from(size)) as u32
}
