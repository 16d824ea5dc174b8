//! Where a transition goes. A seam: beside the webhook and the log, simulations bring receivers of their own.

use std::fmt::Debug;

use async_trait::async_trait;
use tidewatch_alerts::{Delivery, DeliveryError};

use crate::{LogSink, Webhook};

#[async_trait]
pub trait Receiver: Send + Sync + Debug {
    /// The name by which routes call it.
    fn name(&self) -> &str;

    /// One attempt. Ends within the receiver's own time limit.
    ///
    /// # Errors
    /// The receiver did not acknowledge; the error says whether another attempt can help.
    async fn deliver(&self, delivery: &Delivery) -> Result<(), DeliveryError>;
}

#[async_trait]
impl Receiver for Webhook {
    fn name(&self) -> &str {
        self.name()
    }

    async fn deliver(&self, delivery: &Delivery) -> Result<(), DeliveryError> {
        self.deliver(delivery).await
    }
}

#[async_trait]
impl Receiver for LogSink {
    fn name(&self) -> &str {
        self.name()
    }

    async fn deliver(&self, delivery: &Delivery) -> Result<(), DeliveryError> {
        self.deliver(delivery).await
    }
}
