//! `histogram(value, weight)`: the exponential buckets of Prometheus native histograms at schema 4,
//! 16 buckets to each power of two (at most 2.2 % from a value to its bucket's geometric midpoint).
//! Bucket i holds (2^((i-1)/16), 2^(i/16)]. Buckets are sparse and never merged into coarser ones,
//! so any two histograms add exactly.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, Float64Array, Int32Array, Int64Array, ListArray, StructArray},
    buffer::OffsetBuffer,
    datatypes::{DataType, Field, Fields},
};

use super::{FloatSum, Merge};

/// The upper bounds of the 16 buckets of [0.5, 1): 2^(i/16) / 2.
#[allow(clippy::excessive_precision, reason = "the nearest doubles, written out in full")]
const BOUNDS: [f64; 16] = [
    0.5,
    0.5221368912137069,
    0.5452538663326288,
    0.5693943173783458,
    0.5946035575013605,
    0.620928906036742,
    0.6484197773255048,
    0.6771277734684463,
    std::f64::consts::FRAC_1_SQRT_2,
    0.7384130729697497,
    0.7711054127039704,
    0.8052451659746271,
    0.8408964152537145,
    0.8781260801866497,
    0.9170040432046712,
    0.9576032806985737,
];

/// The bucket of a positive, finite value.
pub fn bucket_of(value: f64) -> i32 {
    let (value, shift) = if value < f64::MIN_POSITIVE { (value * 2f64.powi(64), 64) } else { (value, 0) };
    let bits = value.to_bits();
    let exponent = (bits >> 52 & 0x7ff) as i32 - 1022 - shift;
    let fraction = f64::from_bits(bits & 0x000f_ffff_ffff_ffff | 0x3fe0_0000_0000_0000);
    let within = BOUNDS.partition_point(|bound| *bound < fraction) as i32;
    (exponent - 1) * 16 + within
}

/// The upper bound of a bucket.
pub fn upper_bound(bucket: i32) -> f64 {
    2f64.powf(f64::from(bucket) / 16.0)
}

pub(super) type Buckets = Vec<(i32, i64)>;

/// One histogram: total weight, weighted sum, and sparse buckets in order of index.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistogramState {
    pub count: i64,
    pub sum: FloatSum,
    pub zero: i64,
    pub positive: Buckets,
    pub negative: Buckets,
}

fn raise(buckets: &mut Buckets, bucket: i32, weight: i64) {
    let at = buckets.partition_point(|(index, _)| *index < bucket);
    match buckets.get_mut(at) {
        Some((index, count)) if *index == bucket => *count = count.saturating_add(weight),
        _ => buckets.insert(at, (bucket, weight)),
    }
}

impl HistogramState {
    /// Values that are not finite and weights below one count for nothing.
    pub fn add(&mut self, value: f64, weight: i64) {
        if !value.is_finite() || weight < 1 {
            return;
        }
        self.count = self.count.saturating_add(weight);
        self.sum.add(value * weight as f64);
        if value == 0.0 {
            self.zero = self.zero.saturating_add(weight);
        } else if value > 0.0 {
            raise(&mut self.positive, bucket_of(value), weight);
        } else {
            raise(&mut self.negative, bucket_of(-value), weight);
        }
    }

    /// The value below which the share `q` of the weight lies: the geometric midpoint of the bucket that holds it.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        if self.count == 0 || !(0.0..=1.0).contains(&q) {
            return None;
        }
        let rank = ((q * self.count as f64).ceil() as i64).clamp(1, self.count);
        let midpoint = |bucket: i32| 2f64.powf((f64::from(bucket) - 0.5) / 16.0);
        let mut below = 0i64;
        for (bucket, count) in self.negative.iter().rev() {
            below = below.saturating_add(*count);
            if below >= rank {
                return Some(-midpoint(*bucket));
            }
        }
        below = below.saturating_add(self.zero);
        if below >= rank {
            return Some(0.0);
        }
        for (bucket, count) in &self.positive {
            below = below.saturating_add(*count);
            if below >= rank {
                return Some(midpoint(*bucket));
            }
        }
        None
    }

    pub fn bytes(&self) -> usize {
        size_of::<Self>() + 16 * (self.positive.capacity() + self.negative.capacity())
    }
}

impl Merge for HistogramState {
    fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.sum.merge(&other.sum);
        self.zero = self.zero.saturating_add(other.zero);
        for (ours, theirs) in [(&mut self.positive, &other.positive), (&mut self.negative, &other.negative)] {
            if ours.is_empty() {
                ours.clone_from(theirs);
            } else {
                theirs.iter().for_each(|(bucket, count)| raise(ours, *bucket, *count));
            }
        }
    }
}

/// The fields of a histogram as a column.
pub fn histogram_fields() -> Fields {
    let list = |name: &str, item: DataType| Field::new(name, DataType::List(item_field(item)), false);
    Fields::from(vec![
        Field::new("count", DataType::Int64, false),
        Field::new("sum", DataType::Float64, false),
        Field::new("zero", DataType::Int64, false),
        list("index", DataType::Int32),
        list("bucket", DataType::Int64),
        list("negative_index", DataType::Int32),
        list("negative_bucket", DataType::Int64),
    ])
}

pub fn histogram_type() -> DataType {
    DataType::Struct(histogram_fields())
}

pub(super) fn item_field(item: DataType) -> Arc<Field> {
    Arc::new(Field::new("item", item, false))
}

pub fn to_array(states: &[HistogramState]) -> StructArray {
    let indexes = |side: fn(&HistogramState) -> &Buckets| -> ArrayRef {
        let values: Int32Array = states.iter().flat_map(|s| side(s).iter().map(|(index, _)| *index)).collect();
        let offsets = OffsetBuffer::from_lengths(states.iter().map(|s| side(s).len()));
        Arc::new(ListArray::new(item_field(DataType::Int32), offsets, Arc::new(values), None))
    };
    let counts = |side: fn(&HistogramState) -> &Buckets| -> ArrayRef {
        let values: Int64Array = states.iter().flat_map(|s| side(s).iter().map(|(_, count)| *count)).collect();
        let offsets = OffsetBuffer::from_lengths(states.iter().map(|s| side(s).len()));
        Arc::new(ListArray::new(item_field(DataType::Int64), offsets, Arc::new(values), None))
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(states.iter().map(|s| s.count))),
        Arc::new(Float64Array::from_iter_values(states.iter().map(|s| s.sum.total()))),
        Arc::new(Int64Array::from_iter_values(states.iter().map(|s| s.zero))),
        indexes(|s| &s.positive),
        counts(|s| &s.positive),
        indexes(|s| &s.negative),
        counts(|s| &s.negative),
    ];
    StructArray::new(histogram_fields(), columns, None)
}

/// Reads row `row` of a histogram column back; `None` where it is NULL or not a histogram.
pub fn from_array(array: &StructArray, row: usize) -> Option<HistogramState> {
    if array.is_null(row) || array.num_columns() != 7 {
        return None;
    }
    let int = |column: usize| -> Option<i64> {
        let values = array.column(column).as_any().downcast_ref::<Int64Array>()?;
        Some(values.value(row))
    };
    let buckets = |index: usize, count: usize| -> Option<Buckets> {
        let indexes = array.column(index).as_any().downcast_ref::<ListArray>()?.value(row);
        let counts = array.column(count).as_any().downcast_ref::<ListArray>()?.value(row);
        let indexes = indexes.as_any().downcast_ref::<Int32Array>()?.values().clone();
        let counts = counts.as_any().downcast_ref::<Int64Array>()?.values().clone();
        Some(indexes.iter().copied().zip(counts.iter().copied()).collect())
    };
    let mut sum = FloatSum::default();
    sum.add(array.column(1).as_any().downcast_ref::<Float64Array>()?.value(row));
    Some(HistogramState { count: int(0)?, sum, zero: int(2)?, positive: buckets(3, 4)?, negative: buckets(5, 6)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fall_into_the_bucket_whose_bounds_hold_them() {
        for (value, bucket) in [(1.0, 0), (2.0, 16), (4.0, 32), (0.5, -16), (1.04, 1), (1.05, 2), (3.0, 26)] {
            assert_eq!(bucket_of(value), bucket, "{value}");
        }
        // The least positive double is 2^-1074; among its neighbours bounds are too coarse to compare with.
        assert_eq!(bucket_of(f64::from_bits(1)), -17_184);
        let mut value = f64::MIN_POSITIVE * 4.0;
        while value < 1e300 {
            let bucket = bucket_of(value);
            assert!(value <= upper_bound(bucket) * (1.0 + 1e-15), "{value} above bucket {bucket}");
            assert!(value > upper_bound(bucket - 1) * (1.0 - 1e-15), "{value} below bucket {bucket}");
            value *= 1.37;
        }
    }

    #[test]
    fn quantiles_are_within_the_promised_error() {
        let mut state = HistogramState::default();
        (1..=10_000).for_each(|i| state.add(f64::from(i), 1));
        for q in [0.01, 0.5, 0.9, 0.95, 0.99, 1.0] {
            let read = state.quantile(q).unwrap();
            assert!((read / (q * 10_000.0) - 1.0).abs() < 0.0223, "q {q}: {read}");
        }
        assert_eq!(HistogramState::default().quantile(0.5), None);
    }

    #[test]
    fn columns_give_back_what_went_in() {
        let mut state = HistogramState::default();
        for (value, weight) in [(0.0, 2), (5.0, 3), (-7.5, 1), (1e9, 4), (f64::NAN, 9), (1.0, 0)] {
            state.add(value, weight);
        }
        assert_eq!(state.count, 10);
        let array = to_array(&[HistogramState::default(), state.clone()]);
        let read = from_array(&array, 1).unwrap();
        assert_eq!((read.count, read.zero, &read.positive, &read.negative), (10, 2, &state.positive, &state.negative));
        assert_eq!(read.sum.total(), state.sum.total());
        assert_eq!(from_array(&array, 0).unwrap().count, 0);
    }
}
