//! Raw settings: what was written, where it was written, not yet what it means. The file, the
//! environment and the flags all become this one form; `validate` gives it meaning.

use std::{collections::BTreeMap, fmt, sync::Arc};

use super::keys::Key;

/// Where a value was written. Its text begins every message about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Default,
    File { name: Arc<str>, line: usize },
    Variable(String),
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { name, line } => write!(f, "{name}:{line}"),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// A value as it was written. Variables and flags are always `Text`.
#[derive(Clone, PartialEq)]
pub enum RawValue {
    Text(String),
    Integer(i64),
    Boolean(bool),
    Array(Vec<Located>),
    Table(Vec<(String, Located)>),
    /// A form that no setting has, by its name: a float, a date, a number beyond 64 bits.
    Other(&'static str),
}

/// A value together with the place where it was written.
#[derive(Clone, PartialEq)]
pub struct Located {
    pub value: RawValue,
    pub origin: Origin,
}

impl RawValue {
    /// How the value's form is called in a message. Never the value itself: it may be a secret.
    pub fn form(&self) -> &'static str {
        match self {
            Self::Text(_) => "a text",
            Self::Integer(_) => "a whole number",
            Self::Boolean(_) => "true or false",
            Self::Array(_) => "a list",
            Self::Table(_) => "a table",
            Self::Other(name) => name,
        }
    }
}

/// Every setting that was given, by its key; the stronger source has already won.
#[derive(Clone, Default)]
pub struct Raw {
    values: BTreeMap<&'static str, Located>,
}

impl Raw {
    /// Sets a key. Sources are read from the weakest to the strongest, so that the last one stays.
    pub fn set(&mut self, key: &Key, value: Located) {
        self.values.insert(key.path, value);
    }

    pub fn get(&self, key: &Key) -> Option<&Located> {
        self.values.get(key.path)
    }
}
