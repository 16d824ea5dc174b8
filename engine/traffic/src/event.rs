//! One simulated event in 56 bytes, and the small vocabularies that its fields point into.
//! How it becomes columns is the business of `columns`; how often each value occurs that of `profile`.

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Status {
    Approved,
    Denied,
    Failed,
    Reversed,
    Refunded,
    BackendReversed,
}

impl Status {
    /// The statuses that occur in calm, in the order in which their shares are listed.
    pub(crate) const CALM: [Self; 5] = [Self::Approved, Self::Denied, Self::Failed, Self::Reversed, Self::Refunded];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Failed => "failed",
            Self::Reversed => "reversed",
            Self::Refunded => "refunded",
            Self::BackendReversed => "backend_reversed",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Card,
    Ach,
    Wallet,
    Crypto,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Card, Self::Ach, Self::Wallet, Self::Crypto];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Card => "card",
            Self::Ach => "ach",
            Self::Wallet => "wallet",
            Self::Crypto => "crypto",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Channel {
    Mobile,
    Web,
    Pos,
    Atm,
    Api,
}

impl Channel {
    pub(crate) const ALL: [Self; 5] = [Self::Mobile, Self::Web, Self::Pos, Self::Atm, Self::Api];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Mobile => "mobile",
            Self::Web => "web",
            Self::Pos => "pos",
            Self::Atm => "atm",
            Self::Api => "api",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Region {
    UsEast,
    UsWest,
    Eu,
    Latam,
    Apac,
}

impl Region {
    pub(crate) const ALL: [Self; 5] = [Self::UsEast, Self::UsWest, Self::Eu, Self::Latam, Self::Apac];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::UsEast => "us-east",
            Self::UsWest => "us-west",
            Self::Eu => "eu",
            Self::Latam => "latam",
            Self::Apac => "apac",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Currency {
    Usd,
    Eur,
    Brl,
    Jpy,
    Btc,
    Eth,
}

impl Currency {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Usd => "USD",
            Self::Eur => "EUR",
            Self::Brl => "BRL",
            Self::Jpy => "JPY",
            Self::Btc => "BTC",
            Self::Eth => "ETH",
        }
    }
}

/// The answer codes of ISO 8583 that occur here, as an issuer would send them: text, with their zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AuthCode {
    Approved,
    DoNotHonour,
    InvalidNumber,
    InsufficientFunds,
    Expired,
    NotPermitted,
    OverLimit,
    LateAnswer,
    IssuerUnavailable,
    Malfunction,
}

impl AuthCode {
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Approved => "00",
            Self::DoNotHonour => "05",
            Self::InvalidNumber => "14",
            Self::InsufficientFunds => "51",
            Self::Expired => "54",
            Self::NotPermitted => "57",
            Self::OverLimit => "61",
            Self::LateAnswer => "68",
            Self::IssuerUnavailable => "91",
            Self::Malfunction => "96",
        }
    }

    /// The code of an event with this status; `draw` in [0, 1) chooses among the reasons for a refusal.
    /// Only cards have one.
    pub(crate) fn of(kind: Kind, status: Status, draw: f64) -> Option<Self> {
        if kind != Kind::Card {
            return None;
        }
        Some(match status {
            Status::Approved | Status::Reversed | Status::Refunded => Self::Approved,
            Status::BackendReversed => Self::LateAnswer,
            Status::Failed if draw < 0.6 => Self::IssuerUnavailable,
            Status::Failed => Self::Malfunction,
            Status::Denied => match draw {
                d if d < 0.45 => Self::InsufficientFunds,
                d if d < 0.70 => Self::DoNotHonour,
                d if d < 0.80 => Self::InvalidNumber,
                d if d < 0.90 => Self::Expired,
                d if d < 0.95 => Self::NotPermitted,
                _ => Self::OverLimit,
            },
        })
    }
}

/// One arrival of an event. A duplicate is a second arrival that is alike in everything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) id: u64,
    /// In microseconds since 1970, as are all times here.
    pub(crate) occurred_at: i64,
    pub(crate) arrives_at: i64,
    pub(crate) amount_minor: i64,
    pub(crate) latency_us: i64,
    pub(crate) account: u32,
    pub(crate) counterparty: u32,
    pub(crate) status: Status,
    pub(crate) kind: Kind,
    pub(crate) channel: Channel,
    pub(crate) region: Region,
    pub(crate) currency: Currency,
    pub(crate) auth_code: Option<AuthCode>,
    /// Which of the documentation networks, and the host in it.
    pub(crate) ip: (u8, u8),
}

const _: () = assert!(size_of::<Event>() == 56);
