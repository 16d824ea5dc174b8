//! The `tidewatch` binary: reads the command line, runs one command, prints what went wrong, and
//! says by its exit code how it went. It decides nothing else.

use std::process::ExitCode;

use clap::Parser;
use tidewatch::cli;

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
