//! Counters and the Prometheus text form (version 0.0.4). It knows no metric of the engine: those
//! are listed in `metrics`.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// Series of one family. At the limit a new one is counted under `OTHER` in every label, so that
/// totals stay right and memory stays bounded.
pub const SERIES_MAX: usize = 2_000;
pub const OTHER: &str = "__other__";

/// A number that only grows. Clones share it, so a hot path can keep its own.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counters of one name that differ in their labels' values.
#[derive(Debug)]
pub struct Family<const LABELS: usize> {
    labels: [&'static str; LABELS],
    series: RwLock<BTreeMap<[String; LABELS], Counter>>,
}

impl<const LABELS: usize> Family<LABELS> {
    pub fn new(labels: [&'static str; LABELS]) -> Self {
        Self { labels, series: RwLock::new(BTreeMap::new()) }
    }

    /// The counter of these values, in the order of the labels; made at 0 where it is new.
    pub fn with(&self, values: [&str; LABELS]) -> Counter {
        let key = values.map(str::to_owned);
        if let Some(counter) = self.series.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return counter.clone();
        }
        let mut series = self.series.write().unwrap_or_else(PoisonError::into_inner);
        let key = if series.len() < SERIES_MAX || series.contains_key(&key) {
            key
        } else {
            [OTHER; LABELS].map(str::to_owned)
        };
        series.entry(key).or_default().clone()
    }

    /// The series as they stand, in order of their labels' values.
    pub fn snapshot(&self) -> Vec<(Vec<(&'static str, String)>, u64)> {
        let series = self.series.read().unwrap_or_else(PoisonError::into_inner);
        series
            .iter()
            .map(|(values, counter)| (self.labels.into_iter().zip(values.iter().cloned()).collect(), counter.get()))
            .collect()
    }
}

/// What kind of metric a family is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Summary,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Summary => "summary",
        }
    }
}

/// Writes families one after the other: a head, then its samples.
#[derive(Debug, Default)]
pub struct Text(String);

impl Text {
    pub fn head(&mut self, name: &str, kind: Kind, help: &str) {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {}", kind.name()));
    }

    pub fn sample<L: AsRef<str>>(&mut self, name: &str, labels: &[(&str, L)], value: impl fmt::Display) {
        if labels.is_empty() {
            return self.line(format_args!("{name} {value}"));
        }
        let mut pairs = String::new();
        for (label, value) in labels {
            let value = value.as_ref().replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let comma = if pairs.is_empty() { "" } else { "," };
            let _ = write!(pairs, "{comma}{label}=\"{value}\"");
        }
        self.line(format_args!("{name}{{{pairs}}} {value}"));
    }

    pub fn finish(self) -> String {
        self.0
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_are_escaped() {
        let mut text = Text::default();
        text.head("a_total", Kind::Counter, "one\ntwo");
        text.sample("a_total", &[("x", "say \"hi\"\\\n"), ("y", "ü")], 3);
        assert_eq!(
            text.finish(),
            "# HELP a_total one\\ntwo\n# TYPE a_total counter\na_total{x=\"say \\\"hi\\\"\\\\\\n\",y=\"ü\"} 3\n"
        );
    }

    #[test]
    fn clones_share_a_counter() {
        let family = Family::new(["a"]);
        let kept = family.with(["x"]);
        family.with(["x"]).add(2);
        kept.add(1);
        assert_eq!(family.snapshot(), [(vec![("a", "x".to_owned())], 3)]);
    }

    #[test]
    fn a_family_is_bounded_and_its_total_stays_right() {
        let family = Family::new(["reason"]);
        for n in 0..SERIES_MAX + 50 {
            family.with([&n.to_string()]).add(1);
        }
        let series = family.snapshot();
        assert_eq!(series.len(), SERIES_MAX + 1);
        assert_eq!(series.iter().map(|(_, n)| n).sum::<u64>(), SERIES_MAX as u64 + 50);
        assert_eq!(family.with([OTHER]).get(), 50);
    }
}
