//! Random states for tests, with every corner that their numbers have, and an exact picture of states to compare.

use rand::{Rng, rngs::StdRng, seq::IndexedRandom};
use tidewatch_model::hash64;

use super::{
    DistinctState, FloatSum, Greatest, HistogramState, IntSum, Kind, Least, Moments, States, Total,
    histogram::{Buckets, bucket_of},
};
use crate::partial::PartialRows;

fn float(rng: &mut StdRng) -> f64 {
    match rng.random_range(0..10) {
        // Any bits at all: numbers of every size, and NaNs with what they carry.
        0..4 => f64::from_bits(rng.random()),
        4 => *[0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE, 5e-324, f64::MAX].choose(rng).unwrap(),
        5 => f64::from_bits(f64::NAN.to_bits() | rng.random_range(0..1 << 51)),
        _ => rng.random_range(-1e6..1e6),
    }
}

fn whole(rng: &mut StdRng) -> i64 {
    *[0, 1, -1, i64::MIN, i64::MAX, rng.random(), rng.random_range(-1_000..1_000)].choose(rng).unwrap()
}

fn positive(rng: &mut StdRng) -> i64 {
    *[1, 2, i64::MAX, rng.random_range(1..i64::MAX), rng.random_range(1..1_000)].choose(rng).unwrap()
}

fn int_sum(rng: &mut StdRng) -> IntSum {
    let wide = [i128::MIN, i128::MAX, i128::from(i64::MAX) + 1, i128::from(i64::MIN) - 1, rng.random()];
    match rng.random_range(0..4) {
        0 => IntSum::default(),
        1 => IntSum { sum: *wide.choose(rng).unwrap(), seen: true },
        _ => IntSum { sum: whole(rng).into(), seen: true },
    }
}

fn float_sum(rng: &mut StdRng) -> FloatSum {
    if rng.random_bool(0.2) {
        FloatSum::default()
    } else {
        FloatSum { sum: float(rng), compensation: float(rng), seen: true }
    }
}

fn moments(rng: &mut StdRng) -> Moments {
    if rng.random_bool(0.2) {
        return Moments::default();
    }
    let sum = FloatSum { sum: float(rng), compensation: float(rng), seen: true };
    Moments { count: positive(rng), sum, mean: float(rng), squares: float(rng) }
}

fn text(rng: &mut StdRng) -> Box<str> {
    let length = *[0, 1, 3, 40].choose(rng).unwrap();
    (0..length).map(|_| *['a', 'Z', ' ', '\0', 'é', '☃', '𝄞'].choose(rng).unwrap()).collect::<String>().into()
}

fn distinct(rng: &mut StdRng) -> DistinctState {
    let mut state = DistinctState::default();
    // The form changes at 1,024 entries.
    let size = *[0, 1, 7, 300, 1_024, 1_100, 5_000].choose(rng).unwrap();
    (0..size).for_each(|_| state.add_hash(hash64(&rng.random::<u64>().to_le_bytes())));
    if rng.random_bool(0.1) {
        state.add_hash(u64::MAX << 50);
    }
    state
}

fn buckets(rng: &mut StdRng) -> Buckets {
    let mut buckets = std::collections::BTreeMap::new();
    for _ in 0..*[0, 1, 3, 30].choose(rng).unwrap() {
        let index = match rng.random_range(0..10) {
            0 => bucket_of(f64::from_bits(1)),
            1 => bucket_of(f64::MAX),
            _ => rng.random_range(-300..300),
        };
        buckets.insert(index, positive(rng));
    }
    buckets.into_iter().collect()
}

fn histogram(rng: &mut StdRng) -> HistogramState {
    let (positive, negative) = (buckets(rng), buckets(rng));
    let zero = *[0, 0, 5, i64::MAX].choose(rng).unwrap();
    let count = positive.iter().chain(&negative).fold(zero, |count, (_, bucket)| bucket.saturating_add(count));
    HistogramState { count, sum: float_sum(rng), zero, positive, negative }
}

/// One state a row.
pub fn states(kind: &Kind, rows: usize, rng: &mut StdRng) -> States {
    fn some<T>(rng: &mut StdRng, value: impl Fn(&mut StdRng) -> T) -> Option<T> {
        rng.random_bool(0.8).then(|| value(rng))
    }
    macro_rules! each_row {
        ($state:expr) => {
            (0..rows).map(|_| $state).collect()
        };
    }
    match kind {
        Kind::Count => States::Count(each_row!(positive(rng) - i64::from(rng.random_bool(0.5)))),
        Kind::SumInt => States::SumInt(each_row!(int_sum(rng))),
        Kind::SumFloat => States::SumFloat(each_row!(float_sum(rng))),
        Kind::Mean => States::Mean(each_row!(moments(rng))),
        Kind::Spread(spread) => States::Spread(*spread, each_row!(moments(rng))),
        Kind::MinInt { output } => States::MinInt(output.clone(), each_row!(Least(some(rng, whole)))),
        Kind::MaxInt { output } => States::MaxInt(output.clone(), each_row!(Greatest(some(rng, whole)))),
        Kind::MinFloat => States::MinFloat(each_row!(Least(some(rng, float).map(Total)))),
        Kind::MaxFloat => States::MaxFloat(each_row!(Greatest(some(rng, float).map(Total)))),
        Kind::MinText => States::MinText(each_row!(Least(some(rng, text)))),
        Kind::MaxText => States::MaxText(each_row!(Greatest(some(rng, text)))),
        Kind::Distinct => States::Distinct(each_row!(distinct(rng))),
        Kind::Histogram => States::Histogram(each_row!(histogram(rng))),
    }
}

/// States as text in which every bit shows: NaNs and the two zeros are told apart.
pub fn picture(states: &States) -> String {
    let sum = |sum: &FloatSum| format!("{:x} {:x} {}", sum.sum.to_bits(), sum.compensation.to_bits(), sum.seen);
    let moments = |column: &[Moments]| {
        let one = |m: &Moments| format!("{} {} {:x} {:x}", m.count, sum(&m.sum), m.mean.to_bits(), m.squares.to_bits());
        column.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    let floats =
        |values: Vec<Option<f64>>| format!("{:?}", values.iter().map(|v| v.map(f64::to_bits)).collect::<Vec<_>>());
    match states {
        States::SumFloat(column) => column.iter().map(sum).collect::<Vec<_>>().join(", "),
        States::Mean(column) => moments(column),
        States::Spread(spread, column) => format!("{spread:?} {}", moments(column)),
        States::MinFloat(column) => floats(column.iter().map(|least| least.0.map(|total| total.0)).collect()),
        States::MaxFloat(column) => floats(column.iter().map(|most| most.0.map(|total| total.0)).collect()),
        States::Histogram(column) => {
            let one = |h: &HistogramState| {
                format!("{} {} {} {:?} {:?}", h.count, sum(&h.sum), h.zero, h.positive, h.negative)
            };
            column.iter().map(one).collect::<Vec<_>>().join(", ")
        }
        // Nothing here is a float, so the derived form tells all.
        other => format!("{other:?}"),
    }
}

/// Partial rows with every bit showing; minutes without rows are left out, as frames do.
pub fn pictures(rows: &[PartialRows]) -> Vec<String> {
    let one = |rows: &PartialRows| {
        let states: Vec<String> = rows.states().iter().map(picture).collect();
        format!("{} {:?} {states:#?}", rows.minute(), rows.keys())
    };
    rows.iter().filter(|rows| !rows.is_empty()).map(one).collect()
}
