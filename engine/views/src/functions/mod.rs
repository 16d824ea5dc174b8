//! The SQL functions that views add to DataFusion: the aggregates `histogram` and `approx_distinct`
//! over our own states, and scalar readers of histograms. A batch engine with these registered
//! computes the same rows as a view.

mod aggregate;
mod scalar;

use datafusion::{
    logical_expr::{AggregateUDF, ScalarUDF},
    prelude::{SessionConfig, SessionContext},
};

/// Registers every function of the views in a session.
pub fn register(session: &SessionContext) {
    session.register_udaf(AggregateUDF::from(aggregate::OurAggregate::histogram()));
    session.register_udaf(AggregateUDF::from(aggregate::OurAggregate::approx_distinct()));
    session.register_udaf(AggregateUDF::from(aggregate::OurAggregate::histogram_merge()));
    session.register_udf(ScalarUDF::from(scalar::HistogramQuantile::new()));
}

/// The settings under which all SQL of the engine is planned: text is `Utf8`, UTC is the time zone.
pub fn session_config() -> SessionConfig {
    SessionConfig::new()
        .set_bool("datafusion.sql_parser.map_string_types_to_utf8view", false)
        .set_bool("datafusion.sql_parser.collect_spans", true)
        .set_str("datafusion.execution.time_zone", "UTC")
}
