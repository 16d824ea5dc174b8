//! Where events come from besides the wire: files today. Reads CSV, JSON lines and Parquet into batches
//! of a stream's columns, with the person's mapping between the two. It sends nothing, and it judges
//! nothing that the engine's door judges again: a row is broken here only where it cannot be read.

mod amount;
mod attributes;
mod cells;
mod convert;
mod csv;
mod error;
mod file;
mod frame;
mod json;
mod mapping;
mod object;
mod parquet;
mod raw;
mod survey;
#[cfg(test)]
mod tests;
mod time;

pub use amount::{AmountFault, exponent, minor_units};
pub use error::{BrokenRow, SourceError};
pub use file::{FileSource, Format, SourceBatch, SourceOptions};
pub use mapping::{Attributes, MappingSpec};
pub use survey::Survey;
pub use time::{TimeFault, TimeReader};
