//! SQL over a snapshot: tables, statistics functions, plans that can be run again, and the limits of a
//! query. It never writes, never serves, and never keeps data between runs.

mod ask;
mod baselines;
mod bounds;
mod error;
mod give_way;
mod listed;
mod minutes;
mod named;
mod plan;
mod reading;
pub mod render;
mod scan;
mod statement;
mod statistics;
mod trailing;
mod view_table;

pub use ask::{Parameter, QueryLimits, ask, collect};
pub use baselines::{Baselines, Trailing};
pub use error::QueryError;
pub use listed::ListedView;
pub use minutes::MinuteTable;
pub use plan::{Catalog, Planner, Prepared, Workspace};
pub use reading::{Reading, Scope};
pub use statistics::Statistic;
pub use tidewatch_store::{Rows, StoreError, TableShape, TableSnapshot};
pub use view_table::ViewTable;

#[cfg(test)]
mod tests;
