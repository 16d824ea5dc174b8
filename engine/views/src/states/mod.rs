//! Partial states of aggregates: what a view keeps for each (minute, key). Every state merges with
//! another of its kind, in any order, so lanes, late events, restarts and roll-ups all just add.
//! States know nothing of SQL; `crate::compile` chooses them.

mod column;
mod distinct;
mod exact;
mod histogram;
mod histogram_column;
mod moments;
#[cfg(test)]
pub mod random;
mod update;

pub use column::{Damage, Unwritable};
pub use distinct::DistinctState;
pub use exact::{FloatSum, IntSum};
pub use histogram::{
    HistogramState, from_array as histogram_from_array, histogram_fields, histogram_type, upper_bound,
};
pub use moments::Moments;

use std::{mem, sync::Arc};

use arrow::{
    array::{ArrayRef, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray, UInt64Array},
    datatypes::DataType,
};

/// A state that another of its kind can be added to.
pub trait Merge: Default {
    fn merge(&mut self, other: &Self);
}

/// Which spread a `Moments` state is read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    VariancePopulation,
    VarianceSample,
    DeviationPopulation,
    DeviationSample,
}

/// The aggregates a view may keep, with all that their state's layout depends on.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Count,
    SumInt,
    SumFloat,
    Mean,
    Spread(Spread),
    MinInt { output: DataType },
    MaxInt { output: DataType },
    MinFloat,
    MaxFloat,
    MinText,
    MaxText,
    Distinct,
    Histogram,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Least<T>(pub Option<T>);

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Greatest<T>(pub Option<T>);

/// A float with a total order, so that NaN is an ordinary (greatest) value as it is in the batch engine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Total(pub f64);

impl PartialEq for Total {
    fn eq(&self, other: &Self) -> bool {
        self.0.total_cmp(&other.0).is_eq()
    }
}

impl PartialOrd for Total {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.0.total_cmp(&other.0))
    }
}

impl<T: PartialOrd + Clone> Least<T> {
    fn offer(&mut self, value: T) {
        if self.0.as_ref().is_none_or(|least| value < *least) {
            self.0 = Some(value);
        }
    }
}

impl<T: PartialOrd + Clone> Greatest<T> {
    fn offer(&mut self, value: T) {
        if self.0.as_ref().is_none_or(|greatest| value > *greatest) {
            self.0 = Some(value);
        }
    }
}

impl<T: PartialOrd + Clone + Default> Merge for Least<T> {
    fn merge(&mut self, other: &Self) {
        if let Some(value) = &other.0 {
            self.offer(value.clone());
        }
    }
}

impl<T: PartialOrd + Clone + Default> Merge for Greatest<T> {
    fn merge(&mut self, other: &Self) {
        if let Some(value) = &other.0 {
            self.offer(value.clone());
        }
    }
}

impl Merge for i64 {
    fn merge(&mut self, other: &Self) {
        *self = self.saturating_add(*other);
    }
}

/// One aggregate's states for many groups: a column, indexed by slot.
#[derive(Clone, Debug, PartialEq)]
pub enum States {
    Count(Vec<i64>),
    SumInt(Vec<IntSum>),
    SumFloat(Vec<FloatSum>),
    Mean(Vec<Moments>),
    Spread(Spread, Vec<Moments>),
    MinInt(DataType, Vec<Least<i64>>),
    MaxInt(DataType, Vec<Greatest<i64>>),
    MinFloat(Vec<Least<Total>>),
    MaxFloat(Vec<Greatest<Total>>),
    MinText(Vec<Least<Box<str>>>),
    MaxText(Vec<Greatest<Box<str>>>),
    Distinct(Vec<DistinctState>),
    Histogram(Vec<HistogramState>),
}

/// Runs one expression over the vector inside, whatever its kind.
macro_rules! each {
    ($states:expr, $column:ident => $body:expr) => {
        match $states {
            States::Count($column) => $body,
            States::SumInt($column) => $body,
            States::SumFloat($column) => $body,
            States::Mean($column) => $body,
            States::Spread(_, $column) => $body,
            States::MinInt(_, $column) => $body,
            States::MaxInt(_, $column) => $body,
            States::MinFloat($column) => $body,
            States::MaxFloat($column) => $body,
            States::MinText($column) => $body,
            States::MaxText($column) => $body,
            States::Distinct($column) => $body,
            States::Histogram($column) => $body,
        }
    };
}

/// The same kind of states with another vector inside.
macro_rules! rebuilt {
    ($states:expr, $column:ident => $body:expr) => {
        match $states {
            States::Count($column) => States::Count($body),
            States::SumInt($column) => States::SumInt($body),
            States::SumFloat($column) => States::SumFloat($body),
            States::Mean($column) => States::Mean($body),
            States::Spread(spread, $column) => States::Spread(*spread, $body),
            States::MinInt(output, $column) => States::MinInt(output.clone(), $body),
            States::MaxInt(output, $column) => States::MaxInt(output.clone(), $body),
            States::MinFloat($column) => States::MinFloat($body),
            States::MaxFloat($column) => States::MaxFloat($body),
            States::MinText($column) => States::MinText($body),
            States::MaxText($column) => States::MaxText($body),
            States::Distinct($column) => States::Distinct($body),
            States::Histogram($column) => States::Histogram($body),
        }
    };
}

/// As `each!` over two of the same kind; `None` where the kinds differ.
macro_rules! pair {
    ($left:expr, $right:expr, $a:ident, $b:ident => $body:expr) => {
        match ($left, $right) {
            (States::Count($a), States::Count($b)) => Some($body),
            (States::SumInt($a), States::SumInt($b)) => Some($body),
            (States::SumFloat($a), States::SumFloat($b)) => Some($body),
            (States::Mean($a), States::Mean($b)) => Some($body),
            (States::Spread(_, $a), States::Spread(_, $b)) => Some($body),
            (States::MinInt(_, $a), States::MinInt(_, $b)) => Some($body),
            (States::MaxInt(_, $a), States::MaxInt(_, $b)) => Some($body),
            (States::MinFloat($a), States::MinFloat($b)) => Some($body),
            (States::MaxFloat($a), States::MaxFloat($b)) => Some($body),
            (States::MinText($a), States::MinText($b)) => Some($body),
            (States::MaxText($a), States::MaxText($b)) => Some($body),
            (States::Distinct($a), States::Distinct($b)) => Some($body),
            (States::Histogram($a), States::Histogram($b)) => Some($body),
            _ => None,
        }
    };
}

impl States {
    pub fn new(kind: &Kind) -> Self {
        match kind {
            Kind::Count => Self::Count(Vec::new()),
            Kind::SumInt => Self::SumInt(Vec::new()),
            Kind::SumFloat => Self::SumFloat(Vec::new()),
            Kind::Mean => Self::Mean(Vec::new()),
            Kind::Spread(spread) => Self::Spread(*spread, Vec::new()),
            Kind::MinInt { output } => Self::MinInt(output.clone(), Vec::new()),
            Kind::MaxInt { output } => Self::MaxInt(output.clone(), Vec::new()),
            Kind::MinFloat => Self::MinFloat(Vec::new()),
            Kind::MaxFloat => Self::MaxFloat(Vec::new()),
            Kind::MinText => Self::MinText(Vec::new()),
            Kind::MaxText => Self::MaxText(Vec::new()),
            Kind::Distinct => Self::Distinct(Vec::new()),
            Kind::Histogram => Self::Histogram(Vec::new()),
        }
    }

    pub fn len(&self) -> usize {
        each!(self, column => column.len())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Grows to `slots` slots, new ones empty.
    pub fn grow(&mut self, slots: usize) {
        each!(self, column => {
            if column.len() < slots {
                column.resize_with(slots, Default::default);
            }
        });
    }

    /// Moves the states of `slots` out, in that order, and leaves empty ones behind.
    pub fn take(&mut self, slots: &[u32]) -> Self {
        fn moved<T: Default>(column: &mut [T], slots: &[u32]) -> Vec<T> {
            slots.iter().map(|slot| column.get_mut(*slot as usize).map(mem::take).unwrap_or_default()).collect()
        }
        rebuilt!(self, column => moved(column, slots))
    }

    /// The states of `slots`, copied.
    pub fn gather(&self, slots: &[u32]) -> Self {
        fn copied<T: Default + Clone>(column: &[T], slots: &[u32]) -> Vec<T> {
            slots.iter().map(|slot| column.get(*slot as usize).cloned().unwrap_or_default()).collect()
        }
        rebuilt!(self, column => copied(column, slots))
    }

    /// Adds state `i` of `other` to slot `slots[i]`. Both come from the same aggregate of the same view.
    pub fn merge(&mut self, slots: &[u32], other: &Self) {
        fn merged<T: Merge>(into: &mut [T], slots: &[u32], from: &[T]) {
            for (slot, state) in slots.iter().zip(from) {
                if let Some(target) = into.get_mut(*slot as usize) {
                    target.merge(state);
                }
            }
        }
        let same_kind = pair!(self, other, into, from => merged(into, slots, from));
        assert!(same_kind.is_some(), "partial states of two different aggregates were merged");
    }

    /// Moves state `i` of `other`, which is of the same aggregate, to slot `slots[i]`, whatever was there.
    pub fn put(&mut self, slots: &[u32], other: &mut Self) {
        fn moved<T: Default>(into: &mut [T], slots: &[u32], from: &mut [T]) {
            for (slot, state) in slots.iter().zip(from) {
                if let Some(target) = into.get_mut(*slot as usize) {
                    *target = mem::take(state);
                }
            }
        }
        let same_kind = pair!(self, other, into, from => moved(into, slots, from));
        assert!(same_kind.is_some(), "partial states of one aggregate were put in place of another's");
    }

    /// What the aggregate reads as, one value a slot.
    pub fn finish(&self) -> ArrayRef {
        match self {
            Self::Count(column) => Arc::new(Int64Array::from_iter_values(column.iter().copied())),
            Self::SumInt(column) => Arc::new(column.iter().map(IntSum::value).collect::<Int64Array>()),
            Self::SumFloat(column) => Arc::new(column.iter().map(FloatSum::value).collect::<Float64Array>()),
            Self::Mean(column) => Arc::new(column.iter().map(Moments::mean).collect::<Float64Array>()),
            Self::Spread(spread, column) => {
                Arc::new(column.iter().map(|state| state.spread(*spread)).collect::<Float64Array>())
            }
            Self::MinInt(output, column) => integers(output, column.iter().map(|least| least.0)),
            Self::MaxInt(output, column) => integers(output, column.iter().map(|greatest| greatest.0)),
            Self::MinFloat(column) => {
                Arc::new(column.iter().map(|least| least.0.map(|t| t.0)).collect::<Float64Array>())
            }
            Self::MaxFloat(column) => Arc::new(column.iter().map(|g| g.0.map(|t| t.0)).collect::<Float64Array>()),
            Self::MinText(column) => Arc::new(column.iter().map(|least| least.0.as_deref()).collect::<StringArray>()),
            Self::MaxText(column) => Arc::new(column.iter().map(|g| g.0.as_deref()).collect::<StringArray>()),
            Self::Distinct(column) => {
                Arc::new(UInt64Array::from_iter_values(column.iter().map(DistinctState::estimate)))
            }
            Self::Histogram(column) => Arc::new(histogram::to_array(column)),
        }
    }

    /// Sums that do not fit their output type read as NULL; this tells how many there are.
    pub fn overflowed(&self) -> usize {
        match self {
            Self::SumInt(column) => column.iter().filter(|sum| sum.overflows()).count(),
            _ => 0,
        }
    }

    /// An estimate of the bytes held, for memory limits.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Distinct(column) => column.iter().map(DistinctState::bytes).sum(),
            Self::Histogram(column) => column.iter().map(HistogramState::bytes).sum(),
            Self::MinText(column) => column.iter().map(|v| 16 + v.0.as_deref().map_or(0, str::len)).sum(),
            Self::MaxText(column) => column.iter().map(|v| 16 + v.0.as_deref().map_or(0, str::len)).sum(),
            Self::Count(column) => column.len() * 8,
            Self::SumInt(column) => column.len() * size_of::<IntSum>(),
            Self::SumFloat(column) => column.len() * size_of::<FloatSum>(),
            Self::Mean(column) | Self::Spread(_, column) => column.len() * size_of::<Moments>(),
            _ => self.len() * 16,
        }
    }
}

fn integers(output: &DataType, values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    match output {
        DataType::Timestamp(_, zone) => {
            let array: TimestampMicrosecondArray = values.collect();
            Arc::new(match zone {
                Some(zone) => array.with_timezone(zone.clone()),
                None => array,
            })
        }
        _ => Arc::new(values.collect::<Int64Array>()),
    }
}
