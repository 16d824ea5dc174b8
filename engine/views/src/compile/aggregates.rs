//! Which of our accumulators keeps a SQL aggregate, and which cannot be kept.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::{
    common::DFSchema,
    logical_expr::{Expr, ExprSchemable, expr::AggregateFunction},
};

use crate::states::{Kind, Spread};

/// The accumulator for a call, or the reason why there is none.
pub fn kind_of(call: &AggregateFunction, input: &DFSchema) -> Result<Kind, String> {
    let name = call.func.name();
    let params = &call.params;
    if params.distinct {
        return Err(format!("{name}(DISTINCT …) cannot be kept incrementally; use approx_distinct(…)"));
    }
    if !params.order_by.is_empty() {
        return Err(format!("{name}(… ORDER BY …) cannot be kept incrementally"));
    }
    let argument = match params.args.first() {
        Some(arg) => arg.get_type(input).map_err(|error| error.strip_backtrace())?,
        None => DataType::Null,
    };
    let unsupported = || Err(format!("{name} of {argument} is not supported in a view; cast it to BIGINT or DOUBLE"));
    let time = |zone: &DataType| matches!(zone, DataType::Timestamp(TimeUnit::Microsecond, _));
    Ok(match (name, &argument) {
        ("count", _) => Kind::Count,
        ("sum", DataType::Int64) => Kind::SumInt,
        ("sum", DataType::Float64) => Kind::SumFloat,
        ("avg", DataType::Float64) => Kind::Mean,
        ("min", DataType::Int64) => Kind::MinInt { output: DataType::Int64 },
        ("max", DataType::Int64) => Kind::MaxInt { output: DataType::Int64 },
        ("min", kind) if time(kind) => Kind::MinInt { output: kind.clone() },
        ("max", kind) if time(kind) => Kind::MaxInt { output: kind.clone() },
        ("min", DataType::Float64) => Kind::MinFloat,
        ("max", DataType::Float64) => Kind::MaxFloat,
        ("min", DataType::Utf8) => Kind::MinText,
        ("max", DataType::Utf8) => Kind::MaxText,
        ("var" | "var_samp", DataType::Float64) => Kind::Spread(Spread::VarianceSample),
        ("var_pop", DataType::Float64) => Kind::Spread(Spread::VariancePopulation),
        ("stddev" | "stddev_samp", DataType::Float64) => Kind::Spread(Spread::DeviationSample),
        ("stddev_pop", DataType::Float64) => Kind::Spread(Spread::DeviationPopulation),
        ("approx_distinct", _) => Kind::Distinct,
        ("histogram", _) => Kind::Histogram,
        (
            "sum" | "avg" | "min" | "max" | "var" | "var_samp" | "var_pop" | "stddev" | "stddev_samp" | "stddev_pop",
            _,
        ) => {
            return unsupported();
        }
        ("approx_percentile_cont" | "approx_median" | "median" | "percentile_cont" | "quantile_cont", _) => {
            return Err(format!(
                "{name} cannot be merged exactly; use histogram_quantile(0.95, histogram(x)) AS …, or keep histogram(x)"
            ));
        }
        _ => {
            return Err(format!(
                "{name} cannot be kept incrementally; a view has count, sum, min, max, avg, stddev, stddev_pop, var, \
                 var_pop, approx_distinct and histogram"
            ));
        }
    })
}

/// The call under an expression of the aggregate's list.
pub fn call_of(expr: &Expr) -> Option<&AggregateFunction> {
    match expr {
        Expr::AggregateFunction(call) => Some(call),
        Expr::Alias(alias) => call_of(&alias.expr),
        _ => None,
    }
}
