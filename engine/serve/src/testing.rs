//! The stream that this crate's tests convert into: `transactions` as it is shipped.

use std::sync::Arc;

use tidewatch_model::{EventTime, StreamSchema, transactions};

use crate::{
    door::{Arrival, Door},
    id_key::IdKey,
};

pub(crate) const NOW: EventTime = EventTime::from_micros(1_752_321_600_000_000);
pub(crate) const LIVE: Arrival = Arrival { at: NOW, session: None };

pub(crate) fn schema() -> Arc<StreamSchema> {
    Arc::new(transactions().unwrap())
}

pub(crate) fn id_key() -> IdKey {
    IdKey::new(&[7; IdKey::SECRET_BYTES])
}

pub(crate) fn door() -> Door {
    Door::new(schema(), id_key()).unwrap()
}
