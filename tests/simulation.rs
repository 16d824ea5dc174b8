//! The deterministic simulation keeps its promises over many seeds, does the same for the same seed, and finds every bug
//! that is planted.
//!
//! `TIDEWATCH_CASES=100000` runs more seeds. A failure says its seed: `tidewatch simulate-faults --seed 17` shows it.

use clap::ValueEnum;
use tidewatch::{
    planted::Planted,
    simulation::{run, run_many},
};

use crate::support::number;

const CASES: u64 = 1_000;

/// Cases within which a planted bug must be found.
const CASES_TO_FIND: u64 = 300;

#[test]
fn no_promise_is_broken_whatever_fails() {
    let cases = number("TIDEWATCH_CASES").unwrap_or(CASES);
    let met = run_many(0..cases, None, threads(), &|_| {}).unwrap_or_else(|failure| panic!("{failure}"));
    println!("{met}");
    if cases >= CASES {
        for (what, times) in met.numbers() {
            assert!(times >= 5, "these cases met too few {what}: {times}\n{met}");
        }
    }
}

#[test]
fn the_same_seed_does_the_same() {
    for seed in 0..20 {
        let [first, second] = [(); 2].map(|()| run(seed, None).unwrap_or_else(|failure| panic!("{failure}")));
        for (at, (first, second)) in first.trace.iter().zip(&second.trace).enumerate() {
            assert_eq!(first, second, "seed {seed}, line {at}");
        }
        assert_eq!((first.trace.len(), first.met), (second.trace.len(), second.met), "seed {seed}");
    }
}

#[test]
fn every_planted_bug_is_found() {
    for bug in Planted::value_variants() {
        match run_many(0..CASES_TO_FIND, Some(*bug), threads(), &|_| {}) {
            Ok(met) => panic!("{bug:?} was not found in {CASES_TO_FIND} cases\n{met}"),
            Err(failure) => println!("{bug:?} is found at seed {}: {}", failure.seed, failure.reason),
        }
    }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |threads| threads.get().min(4))
}
