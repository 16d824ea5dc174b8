//! Label matchers as Prometheus has them. A label that a series lacks has the empty value.

use regex::{Regex, RegexBuilder};

/// Bytes of a regular expression in a request, and bytes of the program it is compiled into.
/// At the limit: the request is refused.
const PATTERN_BYTES_MAX: usize = 4_096;
const PROGRAM_BYTES_MAX: usize = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    Equal,
    NotEqual,
    Matches,
    MatchesNot,
}

#[derive(Clone, Debug)]
pub struct Matcher {
    pub label: String,
    pub operator: Operator,
    pub value: String,
    /// Present for the operators on regular expressions; anchored at both ends.
    pattern: Option<Regex>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MatcherError {
    #[error("a matcher has no label name")]
    NoLabel,
    #[error("the regular expression for label `{label}` has {bytes} bytes; at most {PATTERN_BYTES_MAX} are allowed")]
    TooLong { label: String, bytes: usize },
    #[error("the regular expression for label `{label}` does not compile: {reason}")]
    Pattern { label: String, reason: String },
}

impl Matcher {
    pub fn new(label: &str, operator: Operator, value: &str) -> Result<Self, MatcherError> {
        if label.is_empty() {
            return Err(MatcherError::NoLabel);
        }
        let pattern = match operator {
            Operator::Equal | Operator::NotEqual => None,
            Operator::Matches | Operator::MatchesNot => Some(compile(label, value)?),
        };
        Ok(Self { label: label.to_owned(), operator, value: value.to_owned(), pattern })
    }

    pub fn matches(&self, value: &str) -> bool {
        let found = || self.pattern.as_ref().is_some_and(|pattern| pattern.is_match(value));
        match self.operator {
            Operator::Equal => value == self.value,
            Operator::NotEqual => value != self.value,
            Operator::Matches => found(),
            Operator::MatchesNot => !found(),
        }
    }
}

/// Whether a series with these labels is wanted.
pub fn select(matchers: &[Matcher], labels: &[(String, String)]) -> bool {
    matchers.iter().all(|matcher| {
        let value = labels.iter().find(|(name, _)| *name == matcher.label).map_or("", |(_, value)| value);
        matcher.matches(value)
    })
}

fn compile(label: &str, value: &str) -> Result<Regex, MatcherError> {
    if value.len() > PATTERN_BYTES_MAX {
        return Err(MatcherError::TooLong { label: label.to_owned(), bytes: value.len() });
    }
    let build = |pattern: &str| {
        RegexBuilder::new(pattern)
            .size_limit(PROGRAM_BYTES_MAX)
            .build()
            .map_err(|error| MatcherError::Pattern { label: label.to_owned(), reason: error.to_string() })
    };
    // Compiled alone first: `a)|(b` would slip out of the group that anchors it.
    build(value)?;
    build(&format!("^(?s:{value})$"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matchers_compare_whole_values_and_absent_labels_are_empty() {
        let labels = [("__name__".to_owned(), "payments".to_owned()), ("status".to_owned(), "denied".to_owned())];
        for (label, operator, value, expected) in [
            ("status", Operator::Equal, "denied", true),
            ("status", Operator::Equal, "den", false),
            ("status", Operator::NotEqual, "denied", false),
            ("status", Operator::Matches, "den", false),
            ("status", Operator::Matches, "den.*", true),
            ("status", Operator::Matches, "approved|denied", true),
            ("status", Operator::MatchesNot, "den", true),
            ("region", Operator::Equal, "", true),
            ("region", Operator::NotEqual, "eu", true),
            ("region", Operator::Matches, ".*", true),
            ("region", Operator::Matches, ".+", false),
        ] {
            let matcher = Matcher::new(label, operator, value).unwrap();
            assert_eq!(select(&[matcher], &labels), expected, "{label} {operator:?} {value}");
        }
    }

    #[test]
    fn hostile_patterns_are_refused() {
        let long = "a".repeat(1_000_000);
        for value in ["(", "a)|(b", "(a{1000}){1000}", long.as_str()] {
            assert!(Matcher::new("status", Operator::Matches, value).is_err());
        }
        assert!(Matcher::new("", Operator::Equal, "x").is_err());
    }
}
