//! The life of an alert, from a rule's verdict to a delivery that was acknowledged: the state machine
//! (`Alerts`), who is to be told (`Routing`), and what is still to be delivered (`Outbox`).
//!
//! Everything here is pure and synchronous. Time comes in as minutes of verdicts or as a moment that the
//! caller names; nothing reads a clock, a disk or a network. Each state is a fold of serialisable facts
//! (`Transition`, `OutboxEvent`), so recovery from a journal and live operation run the same code; `AlertsState` and
//! `OutboxState` are what such a fold came to, as a checkpoint holds it.

mod alert;
mod alerts;
mod backoff;
mod book;
mod cooldowns;
mod dead_letters;
mod decide;
mod delivery;
mod done;
mod history;
mod key;
mod outbox;
mod readings;
mod routing;
mod transition;
mod verdict;

pub use alert::{Alert, Phase, Reached, Running};
pub use alerts::{Alerts, AlertsError, AlertsState};
pub use backoff::RetryPolicy;
pub use dead_letters::DeadLetter;
pub use delivery::{Delivery, DeliveryError, DeliveryId, OutboxEvent, Retry};
pub use history::History;
pub use key::{AlertId, TransitionKey};
pub use outbox::{Outbox, OutboxCounts, OutboxState};
pub use readings::Reading;
pub use routing::{Route, Routing, RoutingError, SeverityMatch};
pub use transition::{Kind, Notice, Transition, Withheld};
pub use verdict::{Judged, Labels, Outcome, RuleAlerting, Values, VerdictRow};
