//! Reads `TIDEWATCH_…` variables into raw settings. A variable that sets nothing is a warning, not
//! an error: an environment is shared, and may be older or newer than the binary.

use std::{collections::BTreeMap, ffi::OsString, fmt};

use super::{
    error::Problem,
    file,
    keys::{CONFIG_VARIABLE, FOREIGN_VARIABLES, Form, KEYS, VARIABLE_PREFIX},
    nearest::nearest,
    raw::{Located, Origin, Raw, RawValue},
};

/// The variables of the process, as they stood when it started. Values are never shown.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Environment {
    /// Variables that are not UTF-8 are kept with the broken bytes replaced; where one of them is a
    /// setting, its value is then refused by that setting's own check.
    pub fn of_process() -> Self {
        let text = |value: OsString| value.to_string_lossy().into_owned();
        Self(std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect())
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// Adds what the variables set to `raw`; says which of the prefix set nothing.
pub fn read(environment: &Environment, raw: &mut Raw, problems: &mut Vec<Problem>) -> Vec<String> {
    let mut warnings = Vec::new();
    for (name, value) in environment.0.iter().filter(|(name, _)| name.starts_with(VARIABLE_PREFIX)) {
        let Some(key) = KEYS.iter().find(|key| key.variable() == *name) else {
            if name != CONFIG_VARIABLE && !FOREIGN_VARIABLES.contains(&name.as_str()) {
                warnings.push(unknown(name));
            }
            continue;
        };
        let origin = Origin::Variable(name.clone());
        let value = match key.form {
            Form::Tables => match file::read_value(value, &origin) {
                Ok(value) => value,
                Err(error) => {
                    problems.extend(error.problems);
                    continue;
                }
            },
            _ => RawValue::Text(value.clone()),
        };
        raw.set(key, Located { value, origin });
    }
    warnings
}

fn unknown(name: &str) -> String {
    let known: Vec<String> = KEYS.iter().map(|key| key.variable()).chain([CONFIG_VARIABLE.to_owned()]).collect();
    let nearest = nearest(name, known.iter().map(String::as_str)).unwrap_or_default();
    format!("the variable {name} sets nothing; the nearest known one is {nearest}")
}
