//! The configuration: a documented file (`deploy/tidewatch.toml`), `TIDEWATCH_…` variables and
//! flags become one validated `Config`. Flag beats variable beats file beats default.
//!
//! The way of a setting: `file` and `environment` read text into `raw`, each value with its place;
//! `keys` says which keys exist; `validate` gives meaning, or every problem at once. Nothing here
//! starts a component or prints.

mod environment;
mod error;
mod file;
mod keys;
mod nearest;
pub mod queries;
mod raw;
mod read;
mod receivers;
mod secret;
mod settings;
mod size;
#[cfg(test)]
mod tests;
mod validate;

use std::path::{Path, PathBuf};

pub use environment::Environment;
pub use error::{ConfigError, Problem};
pub use keys::CONFIG_VARIABLE;
pub use raw::Origin;
pub use secret::{Secret, SecretUrl};
pub use settings::{
    Config, Durability, IngestSettings, LogFormat, LogSettings, Queries, QuerySettings, Receiver, ReceiverKind,
    RetrySettings, Route, RulesSettings, Severities, StoreSettings, TelemetrySettings, Webhook,
};
pub use size::Size;

use raw::{Located, Raw, RawValue};

/// A setting given on the command line: the flag as the person wrote it, the key, the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    pub flag: String,
    pub key: String,
    pub value: String,
}

/// A setting as it stands after all sources: for the person who asks what the engine would use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    pub key: &'static str,
    /// `None` where the setting is absent. Lists are shown by their length: they may hold secrets.
    pub value: Option<String>,
    pub origin: Origin,
}

/// A usable configuration, and what was strange about its sources. The caller logs the warnings
/// once the log is up.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    pub warnings: Vec<String>,
    pub shown: Vec<Shown>,
}

/// Reads the file that `named` or else the variable `TIDEWATCH_CONFIG` names (none where neither
/// does), the variables and the flags.
pub fn load(named: Option<&Path>, environment: &Environment, flags: &[Flag]) -> Result<Loaded, ConfigError> {
    let path = named.map(Path::to_owned).or_else(|| environment.get(CONFIG_VARIABLE).map(PathBuf::from));
    let Some(path) = path else { return combine(None, environment, flags) };
    let name = path.display().to_string();
    let text = std::fs::read_to_string(&path).map_err(|error| {
        let origin = match named {
            Some(_) => Origin::Flag("--config".to_owned()),
            None => Origin::Variable(CONFIG_VARIABLE.to_owned()),
        };
        ConfigError::from(Problem { origin, message: format!("the file `{name}` cannot be read: {error}") })
    })?;
    combine(Some((&name, &text)), environment, flags)
}

/// The pure part of `load`: name and text of the file, if any, are handed in.
pub fn combine(file: Option<(&str, &str)>, environment: &Environment, flags: &[Flag]) -> Result<Loaded, ConfigError> {
    let mut raw = Raw::default();
    let mut problems = Vec::new();
    if let Some((name, text)) = file {
        file::read(name, text, &mut raw, &mut problems);
    }
    let warnings = environment::read(environment, &mut raw, &mut problems);
    for flag in flags {
        let origin = Origin::Flag(flag.flag.clone());
        match keys::find(&flag.key) {
            Some(key) if key.form == keys::Form::Tables => match file::read_value(&flag.value, &origin) {
                Ok(value) => raw.set(key, Located { value, origin }),
                Err(error) => problems.extend(error.problems),
            },
            Some(key) => raw.set(key, Located { value: RawValue::Text(flag.value.clone()), origin }),
            None => problems.push(Problem { origin, message: file::unknown_key(&flag.key) }),
        }
    }
    let config = validate::validate(&raw, environment, problems)?;
    Ok(Loaded { config, warnings, shown: shown(&raw) })
}

fn shown(raw: &Raw) -> Vec<Shown> {
    let text = |value: &RawValue| match value {
        RawValue::Text(text) => format!("{text:?}"),
        RawValue::Integer(integer) => integer.to_string(),
        RawValue::Boolean(flag) => flag.to_string(),
        RawValue::Array(values) => format!("[{} given]", values.len()),
        other => other.form().to_owned(),
    };
    let show = |key: &&'static keys::Key| match raw.get(key) {
        Some(located) => Shown { key: key.path, value: Some(text(&located.value)), origin: located.origin.clone() },
        None => Shown { key: key.path, value: key.default.map(|value| format!("{value:?}")), origin: Origin::Default },
    };
    keys::KEYS.iter().map(show).collect()
}
