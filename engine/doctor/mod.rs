//! The doctor: examines a data folder that no engine uses, says in sentences what is wrong and what can be done, and does
//! it when told to. Examining changes nothing; what is repaired is copied into the quarantine first.

mod examine;
mod finding;
mod repair;

pub use examine::{Examination, examine};
pub use finding::{Action, Finding, Remedy};
pub use repair::repair;
