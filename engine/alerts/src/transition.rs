//! A transition: the record of one change in the life of one alert, durable before anybody is told of it.
//! It carries the state that it leads to, so the newest transition of each alert is all that recovery needs.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};
use tidewatch_model::{Minute, Severity};

use crate::{AlertId, Labels, Phase, Reached, TransitionKey, Values};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A row appeared; `for` is running.
    Pending,
    /// The row went before `for` was over.
    Cancelled,
    Fired,
    /// It was firing already, and its severity rose.
    Raised,
    /// It goes on firing with a lower severity.
    Lowered,
    /// It was firing already; the reason for which its notice had been withheld is gone.
    Announced,
    /// Its row is gone; `keep_firing_for` is running.
    Held,
    /// Its row came back while it was held.
    Returned,
    Resolved,
    /// The rule has more label sets than may be tracked. Belongs to the rule: its labels are the rule's own.
    LimitReached,
}

/// Why nobody is told. Checked in this order; the first that applies is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Withheld {
    /// Not a change that people are told of (pending, lowered, held, …).
    NotNews,
    /// The minute was sealed by a replay session that notifies nobody.
    History,
    /// The rule had not yet seen the history it asks for.
    WarmUp,
    /// A notice of the same (rule, labels, severity) was given less than `cooldown` ago.
    Cooldown,
    /// It resolved before anybody was told that it fired.
    NeverAnnounced,
}

/// Whether people are told of a transition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Notice {
    /// `quiet_until`: the first minute in which the same (rule, labels, severity) may be announced again.
    Send {
        quiet_until: Option<Minute>,
    },
    Withheld(Withheld),
}

/// One change in the life of one alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transition {
    pub key: TransitionKey,
    pub kind: Kind,
    pub rule: String,
    pub labels: Labels,
    /// The row's values; where the row is gone, those of the transition before.
    #[serde(with = "values_as_text")]
    pub values: Values,
    pub severity: Severity,
    pub summary: String,
    pub from: Phase,
    pub to: Reached,
    /// The minute whose verdict brought it about.
    pub minute: Minute,
    /// The first minute of the alert.
    pub first_minute: Minute,
    pub notice: Notice,
    /// The severities by which receivers are chosen: its own, and for a resolution every one under which people
    /// had been told, so that whoever heard of the beginning hears of the end.
    pub audience: BTreeSet<Severity>,
}

impl Transition {
    pub fn notify(&self) -> bool {
        matches!(self.notice, Notice::Send { .. })
    }

    pub fn withheld(&self) -> Option<Withheld> {
        match self.notice {
            Notice::Send { .. } => None,
            Notice::Withheld(why) => Some(why),
        }
    }

    pub fn alert_id(&self) -> AlertId {
        AlertId::of(&self.rule, &self.labels)
    }
}

impl Kind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Cancelled => "cancelled",
            Self::Fired => "fired",
            Self::Raised => "raised",
            Self::Lowered => "lowered",
            Self::Announced => "announced",
            Self::Held => "held",
            Self::Returned => "returned",
            Self::Resolved => "resolved",
            Self::LimitReached => "limit_reached",
        }
    }

    /// Whether it may come more than once between an alert's first minute and its last.
    pub(crate) const fn repeats(self) -> bool {
        match self {
            Self::Pending | Self::Cancelled | Self::Fired | Self::Resolved => false,
            Self::Raised | Self::Lowered | Self::Announced | Self::Held | Self::Returned | Self::LimitReached => true,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Withheld {
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotNews => "not_news",
            Self::History => "history",
            Self::WarmUp => "warm_up",
            Self::Cooldown => "cooldown",
            Self::NeverAnnounced => "never_announced",
        }
    }
}

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// JSON has no NaN and no infinity, and a score may well be one (a rise over a flat hour). So in formats that
/// people read those three are text; what was written can be read back.
pub(crate) mod values_as_text {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    use crate::Values;

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Number {
        Finite(f64),
        Other(String),
    }

    pub fn serialize<S: Serializer>(values: &Values, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return values.serialize(serializer);
        }
        let number = |value: f64| match value {
            value if value.is_finite() => Number::Finite(value),
            value if value.is_nan() => Number::Other("NaN".to_owned()),
            value if value > 0.0 => Number::Other("Infinity".to_owned()),
            _ => Number::Other("-Infinity".to_owned()),
        };
        serializer.collect_map(values.iter().map(|(name, value)| (name, number(*value))))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Values, D::Error> {
        if !deserializer.is_human_readable() {
            return Values::deserialize(deserializer);
        }
        let read = BTreeMap::<String, Number>::deserialize(deserializer)?;
        let value = |number| match number {
            Number::Finite(value) => Ok(value),
            Number::Other(text) => match text.as_str() {
                "NaN" => Ok(f64::NAN),
                "Infinity" => Ok(f64::INFINITY),
                "-Infinity" => Ok(f64::NEG_INFINITY),
                _ => Err(D::Error::custom(format!("`{text}` is not a value; use a number, NaN or ±Infinity"))),
            },
        };
        read.into_iter().map(|(name, number)| Ok((name, value(number)?))).collect()
    }
}
