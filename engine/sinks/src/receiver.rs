//! The receivers that there are: a closed set.

use tidewatch_alerts::{Delivery, DeliveryError};

use crate::{LogSink, Webhook};

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is a handful of receivers, each behind an Arc")]
pub enum Receiver {
    Webhook(Webhook),
    Log(LogSink),
}

impl Receiver {
    /// The name by which routes call it.
    pub fn name(&self) -> &str {
        match self {
            Self::Webhook(webhook) => webhook.name(),
            Self::Log(log) => log.name(),
        }
    }

    /// One attempt. Ends within the receiver's own time limit.
    ///
    /// # Errors
    /// The receiver did not acknowledge; the error says whether another attempt can help.
    pub async fn deliver(&self, delivery: &Delivery) -> Result<(), DeliveryError> {
        match self {
            Self::Webhook(webhook) => webhook.deliver(delivery).await,
            Self::Log(log) => log.deliver(delivery).await,
        }
    }
}
