//! The numbers behind `trailing_*`: each is computed afresh from its window, in the order of minutes,
//! so that a value does not depend on where the evaluation began.

use std::{fmt, str::FromStr};

/// A statistic of the values in a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Statistic {
    Mean,
    /// Of a sample: the divisor is n − 1.
    Stddev,
    Median,
    /// The median of the distances from the median, not scaled.
    Mad,
    /// Interpolated linearly between the two nearest values; 0 is the least, 1 the greatest.
    Quantile(f64),
}

impl Statistic {
    /// The value over a window's values in the order of their minutes; none where there is none.
    /// `scratch` is only there to be used again.
    pub fn of(self, values: &[f64], scratch: &mut Vec<f64>) -> Option<f64> {
        match self {
            Self::Mean => mean(values),
            Self::Stddev => stddev(values),
            Self::Median => quantile(values, 0.5, scratch),
            Self::Mad => {
                let middle = quantile(values, 0.5, scratch)?;
                for value in scratch.iter_mut() {
                    *value = (*value - middle).abs();
                }
                quantile_in_place(scratch, 0.5)
            }
            Self::Quantile(q) => quantile(values, q, scratch),
        }
    }

    /// Whether two statistics are the same one, the quantile to the bit.
    pub(crate) fn key(self) -> (u8, u64) {
        match self {
            Self::Mean => (0, 0),
            Self::Stddev => (1, 0),
            Self::Median => (2, 0),
            Self::Mad => (3, 0),
            Self::Quantile(q) => (4, q.to_bits()),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoSuchStatistic;

impl FromStr for Statistic {
    type Err = NoSuchStatistic;

    /// By the name of the SQL function; the quantile's place is filled in by who read it.
    fn from_str(name: &str) -> Result<Self, NoSuchStatistic> {
        match name {
            "trailing_mean" => Ok(Self::Mean),
            "trailing_stddev" => Ok(Self::Stddev),
            "trailing_median" => Ok(Self::Median),
            "trailing_mad" => Ok(Self::Mad),
            "trailing_quantile" => Ok(Self::Quantile(f64::NAN)),
            _ => Err(NoSuchStatistic),
        }
    }
}

impl fmt::Display for Statistic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mean => f.write_str("trailing_mean"),
            Self::Stddev => f.write_str("trailing_stddev"),
            Self::Median => f.write_str("trailing_median"),
            Self::Mad => f.write_str("trailing_mad"),
            Self::Quantile(q) => write!(f, "trailing_quantile[{q}]"),
        }
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    Some(values.iter().sum::<f64>() / values.len() as f64)
}

fn stddev(values: &[f64]) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let mean = mean(values)?;
    // Equal values have exactly no spread: the rounding of their mean must not give them one,
    // or a rule that divides by it would see thousands of sigmas.
    if values.iter().all(|value| value == &values[0]) {
        return Some(0.0);
    }
    let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    Some((squares / (values.len() - 1) as f64).sqrt())
}

fn quantile(values: &[f64], q: f64, scratch: &mut Vec<f64>) -> Option<f64> {
    scratch.clear();
    scratch.extend_from_slice(values);
    quantile_in_place(scratch, q)
}

fn quantile_in_place(values: &mut [f64], q: f64) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    let place = q.clamp(0.0, 1.0) * (values.len() - 1) as f64;
    let below = place.floor() as usize;
    // `below` is at most the last index because `place` is at most len − 1.
    let (_, low, above) = values.select_nth_unstable_by(below, f64::total_cmp);
    let low = *low;
    let share = place - below as f64;
    if share == 0.0 {
        return Some(low);
    }
    let high = above.iter().copied().min_by(f64::total_cmp).unwrap_or(low);
    Some(low + (high - low) * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_of_small_windows() {
        let cases: [(Statistic, &[f64], Option<f64>); 14] = [
            (Statistic::Mean, &[], None),
            (Statistic::Mean, &[3.0], Some(3.0)),
            (Statistic::Mean, &[1.0, 2.0, 6.0], Some(3.0)),
            (Statistic::Stddev, &[], None),
            (Statistic::Stddev, &[3.0], None),
            (Statistic::Stddev, &[0.1, 0.1, 0.1], Some(0.0)),
            (Statistic::Stddev, &[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0], Some((32.0f64 / 7.0).sqrt())),
            (Statistic::Median, &[], None),
            (Statistic::Median, &[9.0, 1.0, 5.0], Some(5.0)),
            (Statistic::Median, &[9.0, 1.0, 5.0, 7.0], Some(6.0)),
            (Statistic::Mad, &[1.0, 1.0, 2.0, 2.0, 4.0, 6.0, 9.0], Some(1.0)),
            (Statistic::Quantile(0.0), &[4.0, 2.0, 8.0], Some(2.0)),
            (Statistic::Quantile(1.0), &[4.0, 2.0, 8.0], Some(8.0)),
            (Statistic::Quantile(0.25), &[4.0, 2.0, 8.0], Some(3.0)),
        ];
        for (statistic, values, expected) in cases {
            assert_eq!(statistic.of(values, &mut Vec::new()), expected, "{statistic} of {values:?}");
        }
    }
}
