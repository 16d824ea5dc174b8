//! Deliveries that need no further attempt: made, or given up. Remembered so that offering one again sends nothing.
//! At the limit the oldest are forgotten, which can only mean a delivery too many, with the same key.

use std::collections::{HashSet, VecDeque};

use tidewatch_model::limits;

use crate::DeliveryId;

#[derive(Clone, Debug, Default)]
pub(crate) struct Done {
    ids: HashSet<DeliveryId>,
    order: VecDeque<DeliveryId>,
}

impl Done {
    pub fn contains(&self, id: &DeliveryId) -> bool {
        self.ids.contains(id)
    }

    /// In the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = &DeliveryId> {
        self.order.iter()
    }

    /// Whether it is news. What is remembered already keeps its place.
    pub fn remember(&mut self, id: DeliveryId) -> bool {
        if !self.ids.insert(id.clone()) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > limits::DELIVERIES_DONE_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }

    /// Takes as long as there are ids: only a person's order to resend comes here.
    pub fn forget(&mut self, id: &DeliveryId) {
        if self.ids.remove(id) {
            self.order.retain(|done| done != id);
        }
    }
}
