//! `tidewatch simulate-faults`: the whole engine in one thread over a disk, clock and receivers that fail as a seed says,
//! case after case. It prints what the cases met, or the first that fails with what led to it.

use std::{io::Write, process::ExitCode};

use indicatif::{ProgressBar, ProgressStyle};

use super::ANSWER_IS_NO;
use crate::{
    planted::Planted,
    simulation::{self, run_many},
};

/// Search for lost, doubled or untold events under simulated crashes and faults.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many cases.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The seed of the first case.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Only this case, with everything that happens in it.
    #[arg(long, conflicts_with_all = ["seeds", "first"])]
    seed: Option<u64>,
    /// A bug to plant, to see that it is found.
    #[arg(long, value_name = "BUG")]
    plant: Option<Planted>,
}

pub fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    if let Some(seed) = args.seed {
        return one(seed, args.plant, out);
    }
    let style = "{bar:30} {pos}/{len} cases, {elapsed} so far, {eta} left";
    let bar = ProgressBar::new(args.seeds).with_style(ProgressStyle::with_template(style)?);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let seeds = args.first..args.first.saturating_add(args.seeds);
    let found = run_many(seeds, args.plant, threads, &|met| bar.set_position(met.cases));
    bar.finish_and_clear();
    match (found, args.plant) {
        (Ok(met), None) => writeln!(out, "{met}no promise was broken")?,
        (Ok(met), Some(bug)) => {
            writeln!(out, "{met}the planted bug {bug:?} was not found")?;
            return Ok(ExitCode::from(ANSWER_IS_NO));
        }
        (Err(failure), None) => {
            writeln!(out, "{failure}see it whole: tidewatch simulate-faults --seed {}", failure.seed)?;
            return Ok(ExitCode::from(ANSWER_IS_NO));
        }
        (Err(failure), Some(bug)) => writeln!(out, "{failure}so the planted bug {bug:?} is found")?,
    }
    Ok(ExitCode::SUCCESS)
}

fn one(seed: u64, planted: Option<Planted>, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    match simulation::run(seed, planted) {
        Ok(report) => {
            report.trace.iter().try_for_each(|line| writeln!(out, "{line}"))?;
            writeln!(out, "{}no promise was broken", report.met)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(failure) => {
            failure.trace.iter().try_for_each(|line| writeln!(out, "{line}"))?;
            writeln!(out, "seed {seed} fails: {}", failure.reason)?;
            Ok(ExitCode::from(ANSWER_IS_NO))
        }
    }
}
