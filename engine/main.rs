//! The `tidewatch` binary: reads the command line, runs one command, prints what went wrong, and
//! says by its exit code how it went. It decides nothing else.

mod cli;
#[allow(dead_code, unused_imports, reason = "the commands that start the engine use all of it")]
mod clock;
#[allow(dead_code, unused_imports, reason = "the commands that start the engine use all of it")]
mod config;
#[allow(dead_code, unused_imports, reason = "the commands that start the engine use all of it")]
mod telemetry;

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let outcome = cli::Cli::parse().run();
    match outcome {
        Ok(code) => code,
        Err(error) if cli::reader_went_away(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", cli::describe(&error));
            cli::exit_code(&error)
        }
    }
}
