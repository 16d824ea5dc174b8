//! `histogram_quantile(q, histogram)`: reads a quantile out of a histogram column.

use std::sync::Arc;

use arrow::{
    array::{Array, AsArray, Float64Array},
    datatypes::{DataType, Float64Type},
};
use datafusion::{
    common::{Result, exec_err},
    logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility},
};

use crate::states::{histogram_from_array, histogram_type};

#[derive(Debug, PartialEq, Eq, Hash)]
pub struct HistogramQuantile {
    signature: Signature,
}

impl HistogramQuantile {
    pub fn new() -> Self {
        Self { signature: Signature::exact(vec![DataType::Float64, histogram_type()], Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for HistogramQuantile {
    fn name(&self) -> &str {
        "histogram_quantile"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _args: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [quantile, histogram] = ColumnarValue::values_to_arrays(&args.args)?.try_into().map_err(|_| {
            datafusion::error::DataFusionError::Execution("histogram_quantile takes (quantile, histogram)".to_owned())
        })?;
        let (Some(quantiles), Some(histograms)) =
            (quantile.as_primitive_opt::<Float64Type>(), histogram.as_struct_opt())
        else {
            return exec_err!("histogram_quantile takes (quantile, histogram)");
        };
        let values: Float64Array = (0..histograms.len())
            .map(|row| {
                if quantiles.is_null(row) {
                    return None;
                }
                histogram_from_array(histograms, row)?.quantile(quantiles.value(row))
            })
            .collect();
        Ok(ColumnarValue::Array(Arc::new(values)))
    }
}
