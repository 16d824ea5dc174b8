//! Transactions of each status in the sealed minutes, as the live page draws them, and how unusual the newest minute is
//! for each status. It reads the view `payments_by_status`; where an installation has none, there is nothing to show.

use std::collections::BTreeMap;

use arrow::{
    array::{Array, AsArray},
    datatypes::{Int64Type, TimestampMicrosecondType},
};
use tidewatch_model::{EventTime, Minute};
use tidewatch_query::Statistic;
use tidewatch_serve::report::{StatusScore, StatusVolume, Volume};
use tidewatch_store::{Snapshot, ViewSnapshot};

const VIEW: &str = "payments_by_status";

/// The window of the shipped rule `status-surge`, by which the scores are measured too.
const USUAL_MINUTES: usize = 60;

/// The newest minutes, at most so many.
pub fn volume(snapshot: &Snapshot, minutes: i64) -> Volume {
    let Some(view) = snapshot.view(VIEW) else { return Volume::default() };
    let Some(newest) = view.sealed_through() else { return Volume::default() };
    let oldest = view.oldest_sealed().unwrap_or(newest);
    let first = newest.plus(1 - minutes).max(oldest);
    let statuses = counts(view, first, newest);
    let approval_rate = approval_rate(&statuses, (newest.index() - first.index() + 1).max(0) as usize);
    let statuses = statuses.into_iter().map(|(status, transactions)| StatusVolume { status, transactions }).collect();
    Volume { first_minute: Some(first), statuses, approval_rate }
}

/// The newest minute of every status against the hour before, whether or not a rule finds it worth a row.
pub fn status_scores(snapshot: &Snapshot) -> Vec<StatusScore> {
    let volume = volume(snapshot, USUAL_MINUTES as i64 + 1);
    let Some(first) = volume.first_minute else { return Vec::new() };
    let score = |volume: StatusVolume| {
        let (newest, before) = volume.transactions.split_last()?;
        let minute = first.plus(before.len() as i64);
        let before: Vec<f64> = before.iter().map(|count| *count as f64).collect();
        Some(scored(volume.status, minute, *newest as f64, &before))
    };
    volume.statuses.into_iter().filter_map(score).collect()
}

/// As `status-surge` has it: where the hour before shows no spread, that of a Poisson count stands in for it.
fn scored(status: String, minute: Minute, value: f64, before: &[f64]) -> StatusScore {
    let mut scratch = Vec::new();
    let usual = Statistic::Mean.of(before, &mut scratch);
    let measured = Statistic::Stddev.of(before, &mut scratch).filter(|spread| *spread > 0.0);
    let spread = measured.or_else(|| usual.map(f64::sqrt)).filter(|spread| *spread > 0.0);
    let score = usual.zip(spread).map(|(usual, spread)| (value - usual) / spread);
    StatusScore { status, minute, value, usual, score }
}

/// One count for each minute, zero where there are none.
fn counts(view: &ViewSnapshot, first: Minute, newest: Minute) -> BTreeMap<String, Vec<u64>> {
    let minutes = (newest.index() - first.index() + 1).max(0) as usize;
    let mut statuses: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let rows = match view.sealed_rows(first, newest) {
        Ok(rows) => rows.batch,
        Err(error) => {
            tracing::error!(%error, "the volume of the last hours cannot be shown");
            return statuses;
        }
    };
    let columns = (
        rows.column(0).as_primitive_opt::<TimestampMicrosecondType>(),
        rows.column_by_name("status").and_then(|column| column.as_string_opt::<i32>()),
        rows.column_by_name("transactions").and_then(|column| column.as_primitive_opt::<Int64Type>()),
    );
    let (Some(times), Some(status), Some(transactions)) = columns else { return statuses };
    for row in 0..rows.num_rows() {
        let minute = EventTime::from_micros(times.value(row)).minute();
        let at = (minute.index() - first.index()) as usize;
        let name = if status.is_null(row) { "(none)" } else { status.value(row) };
        let counts = statuses.entry(name.to_owned()).or_insert_with(|| vec![0; minutes]);
        if let (Some(count), false) = (counts.get_mut(at), transactions.is_null(row)) {
            *count = u64::try_from(transactions.value(row)).unwrap_or(0);
        }
    }
    statuses
}

fn approval_rate(statuses: &BTreeMap<String, Vec<u64>>, minutes: usize) -> Vec<Option<f64>> {
    let rate = |at: usize| {
        let total: u64 = statuses.values().filter_map(|counts| counts.get(at)).sum();
        let approved = statuses.get("approved").and_then(|counts| counts.get(at)).copied().unwrap_or(0);
        (total > 0).then(|| approved as f64 / total as f64)
    };
    (0..minutes).map(rate).collect()
}
