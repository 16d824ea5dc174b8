//! How bad an alert is. The order of the variants is the order of urgency.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Low,
    #[serde(alias = "medium")]
    Warning,
    High,
    Critical,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a severity; use critical, high, warning (also written medium) or low")]
pub struct SeverityError(String);

impl Severity {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Warning => "warning",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

impl FromStr for Severity {
    type Err = SeverityError;

    fn from_str(text: &str) -> Result<Self, SeverityError> {
        match text {
            "low" => Ok(Self::Low),
            "warning" | "medium" => Ok(Self::Warning),
            "high" => Ok(Self::High),
            "critical" => Ok(Self::Critical),
            other => Err(SeverityError(other.to_owned())),
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
