//! The two hashes that name things for good: an alert's, and a transition's (the idempotency key that every
//! delivery of it carries). Both are XXH3-128 over length-prefixed fields, so no two field lists spell the same.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tidewatch_model::{Minute, Severity, hash_id};

use crate::{Kind, Labels};

/// An alert's name: the hash of (rule, labels).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AlertId(u128);

/// A transition's name: the hash of (rule, labels, first minute, kind). Kinds that may come more than once in
/// the life of one alert add their minute and severity. The same verdicts give the same key, whether live,
/// after a restart, or replayed, so a receiver can drop what it has seen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransitionKey(u128);

/// The text is not the name of an alert or of a transition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a key; a key is 32 hexadecimal digits")]
pub struct KeyError(String);

#[derive(Default)]
struct Fields(Vec<u8>);

impl Fields {
    fn text(&mut self, text: &str) -> &mut Self {
        self.0.extend_from_slice(&(text.len() as u64).to_le_bytes());
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    fn number(&mut self, number: i64) -> &mut Self {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    fn labels(&mut self, labels: &Labels) -> &mut Self {
        self.number(labels.len() as i64);
        for (name, value) in labels {
            self.text(name).text(value);
        }
        self
    }
}

impl AlertId {
    pub fn of(rule: &str, labels: &Labels) -> Self {
        let mut fields = Fields::default();
        fields.text(rule).labels(labels);
        Self(hash_id(&fields.0))
    }
}

impl TransitionKey {
    pub(crate) fn of(
        rule: &str,
        labels: &Labels,
        first_minute: Minute,
        kind: Kind,
        (minute, severity): (Minute, Severity),
    ) -> Self {
        let mut fields = Fields::default();
        fields.text(rule).labels(labels).number(first_minute.index()).text(kind.name());
        if kind.repeats() {
            fields.number(minute.index()).text(severity.name());
        }
        Self(hash_id(&fields.0))
    }

    /// The key as a number, for jitter that is the same each time.
    pub(crate) fn number(self) -> u128 {
        self.0
    }
}

impl fmt::Display for TransitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for AlertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for TransitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Exactly 32 hexadecimal digits: `from_str_radix` alone would take a sign and fewer digits, too.
fn read_hash(text: &str) -> Result<u128, KeyError> {
    let wrong = || KeyError(text.chars().take(40).collect());
    if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    u128::from_str_radix(text, 16).map_err(|_| wrong())
}

impl FromStr for TransitionKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        read_hash(text).map(Self)
    }
}

impl FromStr for AlertId {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        read_hash(text).map(Self)
    }
}

impl Serialize for TransitionKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for AlertId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TransitionKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for AlertId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn fields_do_not_run_into_each_other() {
        assert_ne!(AlertId::of("a", &labels(&[("b", "c")])), AlertId::of("ab", &labels(&[("", "c")])));
        assert_ne!(AlertId::of("r", &labels(&[("a", "bc")])), AlertId::of("r", &labels(&[("ab", "c")])));
    }

    /// The bytes that are hashed are a promise to receivers: a change here would deliver every alert anew.
    #[test]
    fn the_key_of_a_firing_never_changes() {
        let key = |kind, minute| {
            let at = (Minute::from_index(minute), Severity::Critical);
            TransitionKey::of("denied-surge", &labels(&[("status", "denied")]), Minute::from_index(7), kind, at)
        };
        assert_eq!(key(Kind::Fired, 9).to_string(), "74d21e3920e21369157fa69636eaccf6");
        assert_eq!(key(Kind::Fired, 9), key(Kind::Fired, 10), "one firing, one key");
        assert_ne!(key(Kind::Raised, 9), key(Kind::Raised, 10), "an alert may be raised more than once");
        assert_ne!(key(Kind::Fired, 9), key(Kind::Resolved, 9));
    }

    #[test]
    fn keys_read_back() {
        let key = TransitionKey(0xfeed);
        assert_eq!(key.to_string().parse::<TransitionKey>(), Ok(key));
        let alert = AlertId(0xbeef);
        assert_eq!(alert.to_string().parse::<AlertId>(), Ok(alert));
        for wrong in ["", "feed", "+0000000000000000000000000000001", "zz"] {
            assert!(wrong.parse::<TransitionKey>().is_err(), "{wrong}");
        }
    }
}
