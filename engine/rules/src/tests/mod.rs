//! Rule files, what is refused, and verdicts against the plain SQL.

mod files;
mod judging;
mod policy;
mod supposing;
mod tables;
