//! Sums: integers exact in 128 bits, floats with a running compensation.

use super::Merge;

/// A sum of integers. 128 bits hold 2^64 additions of any i64, so it cannot overflow inside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IntSum {
    pub(super) sum: i128,
    pub(super) seen: bool,
}

impl IntSum {
    pub fn add(&mut self, value: i64) {
        self.sum += i128::from(value);
        self.seen = true;
    }

    /// NULL where nothing was added or the sum does not fit.
    pub fn value(&self) -> Option<i64> {
        if self.seen { i64::try_from(self.sum).ok() } else { None }
    }

    pub fn overflows(&self) -> bool {
        self.seen && i64::try_from(self.sum).is_err()
    }
}

impl Merge for IntSum {
    fn merge(&mut self, other: &Self) {
        self.sum = self.sum.saturating_add(other.sum);
        self.seen |= other.seen;
    }
}

/// A sum of floats with Neumaier's compensation, so that the order of addition moves the result
/// by less than one part in 10^12.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FloatSum {
    pub(super) sum: f64,
    pub(super) compensation: f64,
    pub(super) seen: bool,
}

impl FloatSum {
    pub fn add(&mut self, value: f64) {
        let total = self.sum + value;
        if total.is_finite() {
            let lost =
                if self.sum.abs() >= value.abs() { (self.sum - total) + value } else { (value - total) + self.sum };
            self.compensation += lost;
        }
        self.sum = total;
        self.seen = true;
    }

    pub fn total(&self) -> f64 {
        self.sum + self.compensation
    }

    pub fn value(&self) -> Option<f64> {
        self.seen.then(|| self.total())
    }
}

impl Merge for FloatSum {
    fn merge(&mut self, other: &Self) {
        if other.seen {
            self.add(other.sum);
            self.compensation += other.compensation;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_beyond_64_bits_read_as_null_and_say_so() {
        let mut sum = IntSum::default();
        assert_eq!((sum.value(), sum.overflows()), (None, false));
        sum.add(i64::MAX);
        assert_eq!(sum.value(), Some(i64::MAX));
        sum.add(1);
        assert_eq!((sum.value(), sum.overflows()), (None, true));
        sum.add(-1);
        assert_eq!(sum.value(), Some(i64::MAX));
    }

    #[test]
    fn float_sums_survive_cancellation_in_any_grouping() {
        let values = [1e16, 1.0, -1e16, 3.0, 1e-3];
        for split in 0..=values.len() {
            let mut left = FloatSum::default();
            let mut right = FloatSum::default();
            values[..split].iter().for_each(|v| left.add(*v));
            values[split..].iter().for_each(|v| right.add(*v));
            left.merge(&right);
            assert!((left.total() - 4.001).abs() < 1e-12, "split at {split}: {}", left.total());
        }
    }
}
