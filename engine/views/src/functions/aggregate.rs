//! Our aggregates as DataFusion sees them, for planning views and for batch queries. The window
//! operator does not use these accumulators: it keeps the same states in columns.

use arrow::{
    array::{Array, ArrayRef, AsArray, BinaryArray, StructArray},
    datatypes::{DataType, Field, FieldRef},
};
use datafusion::{
    common::{Result, ScalarValue, exec_err, plan_err},
    logical_expr::{
        Accumulator, AggregateUDFImpl, Signature, TypeSignature, Volatility,
        function::{AccumulatorArgs, StateFieldsArgs},
    },
};

use crate::states::{HistogramState, Kind, Merge, States, histogram_from_array, histogram_type};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Which {
    Histogram,
    HistogramMerge,
    ApproxDistinct,
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub struct OurAggregate {
    which: Which,
    signature: Signature,
}

impl OurAggregate {
    /// `histogram(value)` or `histogram(value, weight)`.
    pub fn histogram() -> Self {
        let forms = vec![
            TypeSignature::Exact(vec![DataType::Float64]),
            TypeSignature::Exact(vec![DataType::Float64, DataType::Int64]),
        ];
        Self { which: Which::Histogram, signature: Signature::one_of(forms, Volatility::Immutable) }
    }

    /// `approx_distinct(value)`.
    pub fn approx_distinct() -> Self {
        let forms = [DataType::Utf8, DataType::Int64, DataType::Float64, DataType::Boolean];
        let forms = forms.into_iter().map(|form| TypeSignature::Exact(vec![form])).collect();
        Self { which: Which::ApproxDistinct, signature: Signature::one_of(forms, Volatility::Immutable) }
    }

    /// `histogram_merge(histogram)`: the histogram of several rows of a view together.
    pub fn histogram_merge() -> Self {
        Self {
            which: Which::HistogramMerge,
            signature: Signature::exact(vec![histogram_type()], Volatility::Immutable),
        }
    }
}

impl AggregateUDFImpl for OurAggregate {
    fn name(&self) -> &str {
        match self.which {
            Which::Histogram => "histogram",
            Which::HistogramMerge => "histogram_merge",
            Which::ApproxDistinct => "approx_distinct",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _args: &[DataType]) -> Result<DataType> {
        Ok(match self.which {
            Which::Histogram | Which::HistogramMerge => histogram_type(),
            Which::ApproxDistinct => DataType::UInt64,
        })
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            return plan_err!("{}(DISTINCT …) has no meaning", self.name());
        }
        let kind = match self.which {
            Which::Histogram => Kind::Histogram,
            Which::HistogramMerge => return Ok(Box::new(MergeAccumulator::default())),
            Which::ApproxDistinct => Kind::Distinct,
        };
        Ok(Box::new(OneGroup::new(kind)))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let kind = match self.which {
            Which::ApproxDistinct => DataType::Binary,
            Which::Histogram | Which::HistogramMerge => histogram_type(),
        };
        Ok(vec![Field::new(format!("{}[state]", args.name), kind, true).into()])
    }
}

/// One group's state, as the batch engine's accumulator.
#[derive(Debug)]
struct OneGroup {
    kind: Kind,
    states: States,
}

impl OneGroup {
    fn new(kind: Kind) -> Self {
        let mut states = States::new(&kind);
        states.grow(1);
        Self { kind, states }
    }
}

impl Accumulator for OneGroup {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let rows = values.first().map_or(0, |values| values.len());
        Ok(self.states.update(&vec![0; rows], values, None)?)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        ScalarValue::try_from_array(&self.states.finish(), 0)
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.states.bytes()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![match &self.states {
            States::Distinct(column) => ScalarValue::Binary(column.first().map(crate::states::DistinctState::to_bytes)),
            other => ScalarValue::try_from_array(&other.finish(), 0)?,
        }])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let Some(array) = states.first() else { return Ok(()) };
        let mut other = States::new(&self.kind);
        match &mut other {
            States::Distinct(column) => {
                let Some(array) = array.as_any().downcast_ref::<BinaryArray>() else {
                    return exec_err!("the partial state of approx_distinct is not binary");
                };
                for bytes in array.iter().flatten() {
                    match crate::states::DistinctState::from_bytes(bytes) {
                        Some(state) => column.push(state),
                        None => return exec_err!("a partial state of approx_distinct is damaged"),
                    }
                }
            }
            States::Histogram(column) => column.extend(histograms(array)?),
            _ => return exec_err!("no partial state of this aggregate can be merged here"),
        }
        self.states.merge(&vec![0; other.len()], &other);
        Ok(())
    }
}

#[derive(Debug, Default)]
struct MergeAccumulator(HistogramState);

impl Accumulator for MergeAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        if let Some(array) = values.first() {
            histograms(array)?.iter().for_each(|histogram| self.0.merge(histogram));
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        ScalarValue::try_from_array(&States::Histogram(vec![self.0.clone()]).finish(), 0)
    }

    fn size(&self) -> usize {
        self.0.bytes()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }
}

fn histograms(array: &ArrayRef) -> Result<Vec<HistogramState>> {
    let Some(array) = array.as_struct_opt() else {
        return exec_err!("a histogram was expected, not {}", array.data_type());
    };
    Ok((0..StructArray::len(array)).filter_map(|row| histogram_from_array(array, row)).collect())
}
