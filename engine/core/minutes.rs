//! A snapshot's views as the tables that SQL reads.

use std::sync::Arc;

use tidewatch_query::MinuteTable;
use tidewatch_store::Snapshot;

/// What rules read: a minute is judged when it is sealed, and the windows of roll-ups are not over then.
pub fn judged(snapshot: &Snapshot) -> Vec<Arc<dyn MinuteTable>> {
    let views = snapshot.views().iter().filter(|view| !view.meta().window.is_roll_up());
    views.map(|view| Arc::clone(view) as Arc<dyn MinuteTable>).collect()
}

/// Everything.
pub fn tables(snapshot: &Snapshot) -> Vec<Arc<dyn MinuteTable>> {
    snapshot.views().iter().map(|view| Arc::clone(view) as Arc<dyn MinuteTable>).collect()
}
