//! Every decoder that meets bytes from outside over its corpus, and over thousands of mutations of it: none panics, and
//! what is read is what is written. The fuzzer (`fuzz/README.md`) calls the same functions.
//!
//! `TIDEWATCH_SEED` repeats a run; `TIDEWATCH_CASES` sets how many mutations each decoder meets.

#[path = "fuzz/src/compiled.rs"]
mod compiled;
#[path = "fuzz/src/decoders.rs"]
mod decoders_without_sql;
#[path = "fuzz/src/stored.rs"]
mod stored;

use std::path::PathBuf;

use decoders_without_sql::Decoder;
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::support::{number, seed};

const CASES: u64 = 3_000;

fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&dir).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// A few bytes changed, put in, taken out, doubled, or those of another input.
fn mutated(good: &[u8], other: &[u8], rng: &mut StdRng) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for _ in 0..rng.random_range(1..5) {
        let at = rng.random_range(0..bytes.len() + 1);
        let end = (at + rng.random_range(0..9)).min(bytes.len());
        match rng.random_range(0..7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
            1 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'\n', b'-'][rng.random_range(0..8)],
            2 => drop(bytes.drain(at..end)),
            3 => bytes.insert(at, rng.random()),
            4 => {
                let doubled = bytes[at..end].to_vec();
                bytes.splice(at..at, doubled);
            }
            5 => bytes.truncate(at),
            _ => {
                let from = rng.random_range(0..other.len() + 1);
                let until = (from + rng.random_range(0..64)).min(other.len());
                bytes.splice(at..end, other[from..until].iter().copied());
            }
        }
    }
    bytes
}

fn check((name, decode): Decoder) {
    let seed = seed(name);
    let mut rng = StdRng::seed_from_u64(seed);
    let corpus = corpus(name);
    assert!(!corpus.is_empty(), "no corpus for {name}");
    corpus.iter().for_each(|(_, bytes)| decode(bytes));
    let cases = number("TIDEWATCH_CASES").unwrap_or(CASES);
    for case in 0..cases {
        let (good, other) = (&corpus[rng.random_range(0..corpus.len())], &corpus[rng.random_range(0..corpus.len())]);
        let bytes = mutated(&good.1, &other.1, &mut rng);
        if std::panic::catch_unwind(|| decode(&bytes)).is_err() {
            panic!(
                "{name}, case {case} of seed {seed}, from {}: {:?}",
                good.0.display(),
                String::from_utf8_lossy(&bytes)
            );
        }
    }
}

#[test]
fn decoders_meet_thousands_of_mutations_without_a_panic() {
    if std::env::var_os("TIDEWATCH_WRITE_FIXTURES").is_some() {
        write_corpus();
    }
    decoders_without_sql::DECODERS.into_iter().chain(stored::DECODERS).for_each(check);
}

#[test]
fn decoders_of_files_and_state_meet_thousands_of_mutations_without_a_panic() {
    compiled::DECODERS.into_iter().for_each(check);
}

/// The inputs from which the fuzzer begins; what it finds is added by hand.
fn write_corpus() {
    let seeds = decoders_without_sql::seeds().into_iter().chain(stored::seeds()).chain(compiled::seeds());
    for (number, (name, bytes)) in seeds.enumerate() {
        let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join(format!("seed-{number:02}")), bytes).unwrap();
    }
}
