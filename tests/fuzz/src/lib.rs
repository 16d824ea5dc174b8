//! What the fuzz targets call; the tests of the engine call the same functions.

#[cfg(feature = "compiled")]
pub mod compiled;
pub mod decoders;
#[cfg(feature = "compiled")]
pub mod stored;

#[cfg(feature = "compiled")]
use decoders as decoders_without_sql;
