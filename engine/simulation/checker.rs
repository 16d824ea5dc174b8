//! The checker: what must be true of the engine's numbers, verdicts and alerts, given what the clients were told.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use anyhow::{Context, bail, ensure};
use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{Int64Type, TimestampMicrosecondType},
};
use tidewatch_model::{EventTime, Minute, Span, Window};
use tidewatch_query::{QueryLimits, ask, collect};

use super::{
    clients::{Clients, account},
    coverage::Coverage,
    network::Network,
    queries::{BY_EVENT, BY_STATUS, RULES},
    world::{Engine, START},
};

/// So long before the start everything is the sessions'.
const HISTORY_ENDS: Span = Span::from_minutes(100);

const FIRST: Minute = Minute::from_index(0);
const LAST: Minute = Minute::from_index(100_000_000);

const LIMITS: QueryLimits =
    QueryLimits { memory_bytes: 1 << 30, time: std::time::Duration::from_secs(3_600), rows: 10_000_000 };

/// The rows of a rule's verdict on a minute.
type Verdict = BTreeSet<String>;

/// What was seen and must never be otherwise again.
#[derive(Debug, Default)]
pub struct Checker {
    verdicts: HashMap<(i64, String), Verdict>,
    /// Minutes that were sealed.
    sealed: BTreeSet<i64>,
}

/// Events and their amount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    events: i64,
    amount: i64,
}

impl Checker {
    /// Everything that must hold at any moment at which nothing is on its way.
    pub fn check(
        &mut self,
        engine: &Engine,
        clients: &Clients,
        now: EventTime,
        met: &mut Coverage,
    ) -> anyhow::Result<()> {
        met.checks += 1;
        check_counts(engine, clients)?;
        self.check_verdicts(engine, now, met)
    }

    /// Each sealed minute is judged once by each rule, and what was said stays said.
    fn check_verdicts(&mut self, engine: &Engine, now: EventTime, met: &mut Coverage) -> anyhow::Result<()> {
        let found = verdicts(engine, now)?;
        let sealed: BTreeSet<i64> = engine
            .parts
            .pipeline
            .core
            .operator()
            .sealed()
            .ranges()
            .flat_map(|(first, last)| first.index()..=last.index())
            .collect();
        if let Some(minute) = self.sealed.difference(&sealed).next() {
            bail!("minute {} was sealed and is not any more", Minute::from_index(*minute));
        }
        // Late events may go into minutes from before the first that was ever open: nobody judges those.
        let began = START.minus(HISTORY_ENDS).minute().index();
        let first = found.keys().map(|(minute, _)| *minute).filter(|minute| *minute >= began).min();
        let judged = |minute: &&i64| **minute < began || first.is_some_and(|first| **minute >= first);
        for minute in sealed.iter().filter(judged) {
            for (rule, _) in RULES {
                let verdict = found.get(&(*minute, rule.to_owned()));
                ensure!(
                    verdict.is_some(),
                    "the journal has a gap: {rule} did not judge {}",
                    Minute::from_index(*minute)
                );
            }
        }
        for ((minute, rule), verdict) in &found {
            ensure!(sealed.contains(minute), "{rule} judged {}, which is not sealed", Minute::from_index(*minute));
            met.verdicts += 1;
            // A failure (rows on disk that could not be read) may turn into a verdict.
            let failed = |verdict: &Verdict| verdict.iter().any(|row| row.starts_with("failed"));
            match self.verdicts.get(&(*minute, rule.clone())) {
                Some(before) if before != verdict && !failed(before) && !failed(verdict) => {
                    bail!("{rule} said of {} {before:?}, and now {verdict:?}", Minute::from_index(*minute))
                }
                _ => {}
            }
        }
        self.verdicts.extend(found);
        self.sealed = sealed;
        Ok(())
    }

    /// Once all is quiet: everybody was told of every alert, and of nothing else.
    pub fn check_alerts(
        &self,
        engine: &Engine,
        network: &Network,
        now: EventTime,
        met: &mut Coverage,
    ) -> anyhow::Result<()> {
        if let Some(wrong) = network.wrong() {
            bail!(wrong);
        }
        let batches = query(engine, "SELECT key, severity, rule FROM alerts WHERE withheld IS NULL", now)?;
        let mut keys = BTreeSet::new();
        for batch in &batches {
            let [key, rule] = [text(batch, "key")?, text(batch, "rule")?];
            for (key, rule) in key.into_iter().zip(rule) {
                // The route by severity: what is critical goes to the pager as well.
                let receivers = if rule == "failures" { &["audit", "pager"][..] } else { &["audit"] };
                for receiver in receivers {
                    ensure!(network.knows(receiver, &key), "{receiver} was never told of {rule}, key {key}");
                }
                keys.insert(key);
            }
        }
        met.transitions += keys.len() as u64;
        met.sealed += self.sealed.len() as u64;
        let corrected = query(engine, "SELECT DISTINCT minute, lsn FROM corrections", now)?;
        met.corrections += corrected.iter().map(|batch| batch.num_rows() as u64).sum::<u64>();
        let told = network.keys();
        let unknown: Vec<&String> = told.difference(&keys).collect();
        ensure!(unknown.is_empty(), "people were told of alerts that the engine does not know: {unknown:?}");
        Ok(())
    }
}

/// Every acknowledged event is counted once, in its minute; every other at most once; and the views agree.
fn check_counts(engine: &Engine, clients: &Clients) -> anyhow::Result<()> {
    let mut found: HashMap<String, (i64, Sum)> = HashMap::new();
    for (minute, keys) in rows(engine, BY_EVENT)? {
        for (key, sum) in keys {
            ensure!(found.insert(key.clone(), (minute, sum)).is_none(), "{key} is in two minutes");
        }
    }
    let mut truth = Rows::new();
    for (number, event) in clients.events.iter().enumerate() {
        let at = event.at;
        let Some((minute, sum)) = found.remove(&account(number)) else {
            let counts = event.acknowledged && !event.ancient;
            ensure!(!counts, "event {number} of {at} was acknowledged and is not counted");
            continue;
        };
        ensure!(!event.ancient, "event {number} of {at} is too late and was counted");
        let once = Sum { events: 1, amount: event.amount };
        ensure!(sum == once, "event {number} of {at} was counted as {sum:?} and not as {once:?}");
        ensure!(minute == at.minute().index(), "event {number} of {at} was counted in {}", Minute::from_index(minute));
        truth.entry(minute).or_default().entry(event.status.to_owned()).or_default().add(sum);
    }
    ensure!(found.is_empty(), "nobody ever sent {:?}", found.keys());
    let mut by_status = rows(engine, BY_STATUS)?;
    // Zeros stand for minutes without events.
    by_status.values_mut().for_each(|keys| keys.retain(|_, sum| sum.events > 0));
    by_status.retain(|_, keys| !keys.is_empty());
    ensure!(by_status == truth, "the views do not agree:\n{truth:?}\n{by_status:?}");
    check_roll_ups(engine, &truth)
}

/// Each window has what its minutes have together.
fn check_roll_ups(engine: &Engine, minutes: &Rows) -> anyhow::Result<()> {
    for window in Window::ROLL_UPS {
        let mut truth = Rows::new();
        for (minute, keys) in minutes {
            let start = window.start(Minute::from_index(*minute)).index();
            for (key, sum) in keys {
                truth.entry(start).or_default().entry(key.clone()).or_default().add(*sum);
            }
        }
        let name = format!("{BY_STATUS}{}", window.suffix());
        let found = rows(engine, &name)?;
        ensure!(found == truth, "{name} is not what its minutes add up to:\n{truth:?}\n{found:?}");
    }
    Ok(())
}

/// What must be true where bits of the disk are wrong: each minute of a view is right or not there at all, unless the table
/// of damages says that records of the log are lost. Everything that was sent counts, because all was at rest.
pub fn check_damaged(engine: &Engine, clients: &Clients, now: EventTime) -> anyhow::Result<()> {
    let lost = query(engine, "SELECT file FROM damages WHERE kind = 'log' AND records IS DISTINCT FROM 0", now)?;
    let lost = lost.iter().any(|batch| batch.num_rows() > 0);
    for view in [BY_EVENT, BY_STATUS] {
        let mut truth = Rows::new();
        for (number, event) in clients.events.iter().enumerate().filter(|(_, event)| !event.ancient) {
            let key = if view == BY_EVENT { account(number) } else { event.status.to_owned() };
            let sum = Sum { events: 1, amount: event.amount };
            truth.entry(event.at.minute().index()).or_default().entry(key).or_default().add(sum);
        }
        for (minute, mut keys) in rows(engine, view)? {
            keys.retain(|_, sum| sum.events > 0);
            let right = truth.remove(&minute).unwrap_or_default();
            let part =
                lost && keys.iter().all(|(key, sum)| right.get(key).is_some_and(|right| sum.events <= right.events));
            ensure!(
                keys == right || part,
                "{view} has {keys:?} at {} and should have {right:?}",
                Minute::from_index(minute)
            );
        }
    }
    Ok(())
}

impl Sum {
    fn add(&mut self, other: Self) {
        self.events += other.events;
        self.amount += other.amount;
    }
}

/// The keys of each minute of a view that has rows in it, with their sums.
type Rows = BTreeMap<i64, BTreeMap<String, Sum>>;

/// All rows of a view, open ones among them.
fn rows(engine: &Engine, view: &str) -> anyhow::Result<Rows> {
    let core = &engine.parts.pipeline.core;
    let snapshot = core.head().snapshot_with_open(core.operator().open_rows())?;
    let rows = snapshot.view(view).with_context(|| format!("there is no view {view}"))?;
    let mut found = Rows::new();
    for batch in [rows.sealed_rows(FIRST, LAST)?.batch, rows.open_rows(FIRST, LAST)?.batch] {
        let key = text(&batch, if view == BY_EVENT { "account_id" } else { "status" })?;
        let minutes = minutes(&batch)?;
        let (events, amounts) = (integers(&batch, "transactions")?, integers(&batch, "amount")?);
        for ((minute, key), (events, amount)) in minutes.into_iter().zip(key).zip(events.into_iter().zip(amounts)) {
            found.entry(minute).or_default().entry(key).or_default().add(Sum { events, amount });
        }
    }
    Ok(found)
}

fn minutes(batch: &RecordBatch) -> anyhow::Result<Vec<i64>> {
    let column = column(batch, "minute")?;
    let times = column.as_primitive_opt::<TimestampMicrosecondType>().context("`minute` is no time")?;
    Ok(times.iter().map(|time| EventTime::from_micros(time.unwrap_or_default()).minute().index()).collect())
}

/// NULL is 0.
fn integers(batch: &RecordBatch, name: &str) -> anyhow::Result<Vec<i64>> {
    let column = column(batch, name)?;
    let numbers = column.as_primitive_opt::<Int64Type>().with_context(|| format!("`{name}` is no integer"))?;
    Ok(numbers.iter().map(Option::unwrap_or_default).collect())
}

fn column(batch: &RecordBatch, name: &str) -> anyhow::Result<Arc<dyn Array>> {
    batch.column_by_name(name).cloned().with_context(|| format!("there is no column `{name}`"))
}

/// A column as text; NULL is empty.
fn text(batch: &RecordBatch, name: &str) -> anyhow::Result<Vec<String>> {
    let column = arrow::compute::cast(&column(batch, name)?, &arrow::datatypes::DataType::Utf8)?;
    let texts = column.as_string_opt::<i32>().context("a cast to text gives text")?;
    Ok(texts.iter().map(|text| text.unwrap_or_default().to_owned()).collect())
}

fn verdicts(engine: &Engine, now: EventTime) -> anyhow::Result<HashMap<(i64, String), Verdict>> {
    let sql = "SELECT minute, rule, outcome, severity, labels, measures, summary FROM verdicts \
               WHERE outcome NOT LIKE 'would%'";
    let mut found: HashMap<(i64, String), Verdict> = HashMap::new();
    for batch in query(engine, sql, now)? {
        let minutes = minutes(&batch)?;
        let mut columns = Vec::new();
        for name in ["rule", "outcome", "severity", "labels", "measures", "summary"] {
            columns.push(text(&batch, name)?);
        }
        for (row, minute) in minutes.into_iter().enumerate() {
            let cells: Vec<&str> = columns.iter().filter_map(|column| column.get(row)).map(String::as_str).collect();
            let Some((rule, rest)) = cells.split_first() else { continue };
            let verdict = found.entry((minute, (*rule).to_owned())).or_default();
            ensure!(verdict.insert(rest.join(" ")), "{rule} judged {} twice", Minute::from_index(minute));
        }
    }
    Ok(found)
}

fn query(engine: &Engine, sql: &str, now: EventTime) -> anyhow::Result<Vec<RecordBatch>> {
    let reading = engine.parts.pipeline.core.reading()?;
    let answer = engine.runtime.block_on(async { collect(ask(sql, Vec::new(), reading, now, LIMITS).await?).await });
    Ok(answer?)
}
