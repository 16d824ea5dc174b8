//! The command line: one file per command. A command returns its exit code or one error; here that
//! error becomes the text that a person reads.

mod backup;
mod config;
mod demo;
mod doctor;
mod moving;
mod query;
mod replay;
mod restore;
mod rules;
mod serve;
mod server;
mod settings;
mod simulate;
mod simulate_faults;
mod upgrade;

use std::{io, process::ExitCode};

use anyhow::Context;
use clap::{Parser, Subcommand};

pub use settings::SettingsArgs;

use crate::{app::Refusals, config::ConfigError};

/// What `tidewatch --help` says of exit codes; `exit_code` keeps to it.
const EXIT_CODES: &str = "\
Exit codes:
  0  it was done
  1  it failed; the reason is on standard error
  2  the command line or the configuration is wrong, and nothing was started
  3  it was done, and the answer is no: a check found faults, or a demo missed an incident";

/// The answer is no, as distinct from a failure to answer.
pub const ANSWER_IS_NO: u8 = 3;

const FAILED: u8 = 1;
const WRONG_INPUT: u8 = 2;

/// Watches a bank's or a payment company's transactions as they happen: SQL views, SQL rules, alerts.
#[derive(Debug, Parser)]
#[command(name = "tidewatch", version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Args),
    Demo(demo::Args),
    Backup(backup::Args),
    Restore(restore::Args),
    Rules(rules::Args),
    /// Checks the configuration and shows each setting with the place that it comes from.
    Config(config::Args),
    Simulate(simulate::Args),
    SimulateFaults(simulate_faults::Args),
    Replay(replay::Args),
    Query(query::Args),
    Doctor(doctor::Args),
    Upgrade(upgrade::Args),
    /// Prints the version.
    Version,
}

impl Cli {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Serve(args) => return runtime()?.block_on(serve::run(args)),
            Command::Demo(args) => return runtime()?.block_on(demo::run(args)),
            Command::Backup(args) => return runtime()?.block_on(backup::run(args)),
            Command::Restore(args) => return runtime()?.block_on(restore::run(args)),
            Command::Rules(args) => return rules::run(&args, &mut io::stdout().lock()),
            Command::Config(args) => config::run(&args, &mut io::stdout().lock())?,
            Command::Simulate(args) => simulate::run(args)?,
            Command::SimulateFaults(args) => return simulate_faults::run(&args, &mut io::stdout().lock()),
            Command::Replay(args) => return runtime()?.block_on(replay::run(args)),
            Command::Query(args) => return runtime()?.block_on(query::run(args)),
            Command::Doctor(args) => return doctor::run(&args, &mut io::stdout().lock()),
            Command::Upgrade(args) => return upgrade::run(&args, &mut io::stdout().lock()),
            Command::Version => version(&mut io::stdout().lock())?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// For the commands that talk to an engine.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the threads that the command needs cannot be started")
}

fn version(out: &mut dyn io::Write) -> io::Result<()> {
    writeln!(out, "tidewatch {}", env!("CARGO_PKG_VERSION"))
}

/// The whole chain of causes, each once: what was tried, and under it why it did not work.
pub fn describe(error: &anyhow::Error) -> String {
    let mut text = String::from("tidewatch: ");
    let mut said = String::new();
    for cause in error.chain() {
        let message = cause.to_string();
        // Many errors repeat their cause in their own text.
        if said.contains(&message) {
            continue;
        }
        if !said.is_empty() {
            text.push_str("\n  because: ");
        }
        text.push_str(&message);
        said.push_str(&message);
        said.push('\n');
    }
    text
}

pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    let wrong_input = error.chain().any(|cause| cause.is::<ConfigError>() || cause.is::<Refusals>());
    ExitCode::from(if wrong_input { WRONG_INPUT } else { FAILED })
}

/// True where the reader of our output has stopped reading, as `head` does: nothing is wrong.
pub fn reader_went_away(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn errors_read_as_one_chain() {
        let refused = || io::Error::new(io::ErrorKind::ConnectionRefused, "connection refused");
        for (error, expected) in [
            (anyhow!("the port is taken"), "tidewatch: the port is taken"),
            (
                Err::<(), _>(refused()).context("no engine answers at 127.0.0.1:4700").unwrap_err(),
                "tidewatch: no engine answers at 127.0.0.1:4700\n  because: connection refused",
            ),
            (
                Err::<(), _>(refused()).context("submit failed: connection refused").unwrap_err(),
                "tidewatch: submit failed: connection refused",
            ),
        ] {
            assert_eq!(describe(&error), expected);
        }
    }

    #[test]
    fn exit_codes_are_as_documented() {
        let wrong = ConfigError { problems: Vec::new() };
        let debug = |code: ExitCode| format!("{code:?}");
        assert_eq!(debug(exit_code(&anyhow::Error::new(wrong).context("start"))), debug(ExitCode::from(2)));
        let refused = Refusals(vec!["views/a.sql:1: no".to_owned()]);
        assert_eq!(debug(exit_code(&refused.into())), debug(ExitCode::from(2)));
        assert_eq!(debug(exit_code(&anyhow!("disk full"))), debug(ExitCode::from(1)));
        let pipe = io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(reader_went_away(&anyhow::Error::new(pipe).context("cannot print")));
        assert!(!reader_went_away(&anyhow!("broken pipe")));
    }
}
