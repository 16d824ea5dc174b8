//! A snapshot's views as the tables that SQL reads.

use std::sync::Arc;

use tidewatch_query::MinuteTable;
use tidewatch_store::Snapshot;

pub fn tables(snapshot: &Snapshot) -> Vec<Arc<dyn MinuteTable>> {
    snapshot.views().iter().map(|view| Arc::clone(view) as Arc<dyn MinuteTable>).collect()
}
