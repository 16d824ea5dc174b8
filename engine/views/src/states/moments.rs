//! Count, mean and sum of squared deviations (Welford; Chan, Golub and LeVeque for merging).

use super::{FloatSum, Merge, Spread};

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments {
    pub(super) count: i64,
    pub(super) sum: FloatSum,
    pub(super) mean: f64,
    pub(super) squares: f64,
}

impl Moments {
    pub fn add(&mut self, value: f64) {
        self.count = self.count.saturating_add(1);
        self.sum.add(value);
        let delta = value - self.mean;
        self.mean += delta / self.count as f64;
        self.squares += delta * (value - self.mean);
    }

    /// The mean is read from the compensated sum: it is the more exact of the two.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum.total() / self.count as f64)
    }

    /// NULL below one value (population) or two values (sample), as in the batch engine.
    pub fn spread(&self, spread: Spread) -> Option<f64> {
        let count = self.count as f64;
        let variance = match spread {
            Spread::VariancePopulation | Spread::DeviationPopulation => (self.count > 0).then(|| self.squares / count),
            Spread::VarianceSample | Spread::DeviationSample => (self.count > 1).then(|| self.squares / (count - 1.0)),
        }?;
        Some(match spread {
            Spread::VariancePopulation | Spread::VarianceSample => variance,
            Spread::DeviationPopulation | Spread::DeviationSample => variance.sqrt(),
        })
    }
}

impl Merge for Moments {
    fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = *other;
            return;
        }
        let (left, right) = (self.count as f64, other.count as f64);
        let delta = other.mean - self.mean;
        self.count = self.count.saturating_add(other.count);
        let count = self.count as f64;
        self.mean += delta * right / count;
        self.squares += other.squares + delta * delta * left * right / count;
        self.sum.merge(&other.sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_agrees_with_the_definition_however_the_values_are_split() {
        let values: Vec<f64> = (0..50).map(|i| 1e3 + f64::from(i * i % 17)).collect();
        let mean = values.iter().sum::<f64>() / 50.0;
        let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
        for split in [0, 1, 25, 49, 50] {
            let mut left = Moments::default();
            let mut right = Moments::default();
            values[..split].iter().for_each(|v| left.add(*v));
            values[split..].iter().for_each(|v| right.add(*v));
            left.merge(&right);
            let sample = left.spread(Spread::VarianceSample).unwrap();
            assert!((sample / (squares / 49.0) - 1.0).abs() < 1e-12, "split at {split}");
            assert!((left.mean().unwrap() / mean - 1.0).abs() < 1e-15);
        }
    }

    #[test]
    fn too_few_values_read_as_null() {
        let mut state = Moments::default();
        assert_eq!((state.mean(), state.spread(Spread::VariancePopulation)), (None, None));
        state.add(2.0);
        assert_eq!(state.spread(Spread::VariancePopulation), Some(0.0));
        assert_eq!(state.spread(Spread::DeviationSample), None);
    }
}
