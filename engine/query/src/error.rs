//! Why a question was not answered: few kinds, chosen by what the asker would do next.

use std::time::Duration;

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The SQL does not parse, plan or type, would write, or fails on the data (a division by zero, say).
    #[error("{0}")]
    BadQuery(String),
    #[error("the query needs more than its {limit} bytes of memory; read fewer minutes or group by fewer columns")]
    OverMemory { limit: usize },
    #[error("the query ran longer than its {}; read fewer minutes or ask for more time", seconds(*limit))]
    OverTime { limit: Duration },
    #[error("the query returns more than its {limit} rows; add a LIMIT or an aggregate")]
    OverRows { limit: usize },
    #[error("the query failed inside the engine: {0}")]
    Internal(String),
}

fn seconds(limit: Duration) -> String {
    format!("{} s", limit.as_secs_f64())
}

impl QueryError {
    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self::BadQuery(message.into())
    }

    /// Sorts an error of the SQL engine into a kind. `memory` is the limit that the query ran under.
    pub fn from_engine(error: &DataFusionError, memory: usize) -> Self {
        if let Some(own) = own_error(error) {
            return own.clone();
        }
        match error.find_root() {
            DataFusionError::External(_) => Self::Internal(clean(error)),
            DataFusionError::ResourcesExhausted(_) => Self::OverMemory { limit: memory },
            DataFusionError::ArrowError(inner, _) => match inner.as_ref() {
                ArrowError::MemoryError(_) => Self::OverMemory { limit: memory },
                ArrowError::ExternalError(_) | ArrowError::IoError(..) => Self::Internal(clean(error)),
                other => Self::BadQuery(lower_first(&strip_kind(&other.to_string()))),
            },
            DataFusionError::Internal(_) | DataFusionError::IoError(_) | DataFusionError::ExecutionJoin(_) => {
                Self::Internal(clean(error))
            }
            _ => Self::BadQuery(clean(error)),
        }
    }
}

/// Our own error, where one travelled through the SQL engine.
fn own_error(error: &DataFusionError) -> Option<&QueryError> {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = source {
        if let Some(own) = inner.downcast_ref::<QueryError>() {
            return Some(own);
        }
        source = inner.source();
    }
    None
}

impl From<QueryError> for DataFusionError {
    fn from(error: QueryError) -> Self {
        Self::External(Box::new(error))
    }
}

/// The engine's message without the names of its layers.
pub(crate) fn clean(error: &DataFusionError) -> String {
    let text = match error.find_root() {
        DataFusionError::SQL(parser, _) => strip_kind(&parser.to_string()),
        root => strip_kind(&root.strip_backtrace()),
    };
    let text = text.replace("datafusion.public.", "");
    let text = text.split("This issue was likely caused by a bug in DataFusion").next().unwrap_or(&text);
    lower_first(text.trim())
}

fn strip_kind(text: &str) -> String {
    const KINDS: [&str; 12] = [
        "Error during planning: ",
        "SQL error: ",
        "sql parser error: ",
        "Schema error: ",
        "Execution error: ",
        "Internal error: ",
        "Arrow error: ",
        "Optimizer rule ",
        "This feature is not implemented: ",
        "type_coercion\ncaused by\n",
        "Compute error: ",
        "Cast error: ",
    ];
    let mut rest = text.trim();
    while let Some(shorter) = KINDS.iter().find_map(|kind| rest.strip_prefix(kind)) {
        rest = shorter.trim_start();
    }
    rest.to_owned()
}

fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    match (letters.next(), letters.clone().next()) {
        // An acronym or a single capital letter keeps its case.
        (Some(first), Some(second)) if first.is_ascii_uppercase() && second.is_ascii_lowercase() => {
            first.to_ascii_lowercase().to_string() + letters.as_str()
        }
        _ => text.to_owned(),
    }
}
