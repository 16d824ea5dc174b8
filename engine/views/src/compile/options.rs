//! `WITH (name = 'value', …)` of our CREATE statements: every option known, every value checked.

use datafusion::sql::sqlparser::ast::{CreateTableOptions, Expr, SqlOption, Value};
use tidewatch_model::{Span, edit_distance};

use super::{Refusal, Source};

/// Options as written, each still to be taken by whoever knows it.
#[derive(Debug)]
pub struct Options<'a> {
    source: Source<'a>,
    given: Vec<(String, String)>,
    known: &'static [&'static str],
}

impl<'a> Options<'a> {
    pub fn read(
        source: Source<'a>,
        options: &CreateTableOptions,
        known: &'static [&'static str],
    ) -> Result<Self, Refusal> {
        let list: &[SqlOption] = match options {
            CreateTableOptions::None => &[],
            CreateTableOptions::With(list) => list,
            other => return Err(source.refuse(format!("write options as WITH (…), not `{other}`"))),
        };
        let mut given: Vec<(String, String)> = Vec::new();
        for option in list {
            let SqlOption::KeyValue { key, value } = option else {
                return Err(source.refuse(format!("`{option}` is not an option of the form name = 'value'")));
            };
            let name = key.value.to_lowercase();
            if !known.contains(&name.as_str()) {
                let nearest = nearest(&name, known);
                return Err(
                    source.refuse_at(&key.value, format!("there is no option `{name}`; did you mean `{nearest}`?"))
                );
            }
            if given.iter().any(|(other, _)| *other == name) {
                return Err(source.refuse_at(&key.value, format!("option `{name}` is given twice")));
            }
            given.push((name, literal(source, value)?));
        }
        Ok(Self { source, given, known })
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        debug_assert!(self.known.contains(&name), "an option that is read but not listed as known");
        self.given.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    pub fn span(&self, name: &str) -> Result<Option<Span>, Refusal> {
        let Some(text) = self.text(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|error| self.source.refuse_at(name, format!("option `{name}`: {error}")))
    }

    pub fn number(&self, name: &str) -> Result<Option<usize>, Refusal> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let wrong =
            || self.source.refuse_at(name, format!("option `{name}` must be a whole number above 0, not `{text}`"));
        let number: usize = text.replace('_', "").parse().map_err(|_| wrong())?;
        if number == 0 { Err(wrong()) } else { Ok(Some(number)) }
    }

    pub fn one_of(&self, name: &str, allowed: &[&str]) -> Result<Option<&str>, Refusal> {
        match self.text(name) {
            Some(text) if !allowed.contains(&text) => Err(self
                .source
                .refuse_at(name, format!("option `{name}` must be one of {}, not `{text}`", allowed.join(", ")))),
            other => Ok(other),
        }
    }
}

fn literal(source: Source<'_>, value: &Expr) -> Result<String, Refusal> {
    match value {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) => Ok(text.clone()),
            Value::Number(text, _) => Ok(text.clone()),
            other => Err(source.refuse(format!("an option's value must be text or a number, not `{other}`"))),
        },
        Expr::Identifier(ident) => Ok(ident.value.clone()),
        other => Err(source.refuse(format!("an option's value must be text or a number, not `{other}`"))),
    }
}

/// The candidate that takes the fewest edits to reach.
fn nearest<'c>(name: &str, candidates: &[&'c str]) -> &'c str {
    candidates.iter().min_by_key(|candidate| edit_distance(name, candidate)).copied().unwrap_or("")
}
