//! Questions over small made-up views, and `trailing_*` against a naive model.

mod fake;
mod limits;
mod questions;
mod trailing;
