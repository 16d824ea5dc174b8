//! Real files, where they are at hand, against answers that were worked out apart from this project.

use std::collections::BTreeMap;

use arrow::{
    array::AsArray,
    datatypes::{Int64Type, TimestampMicrosecondType},
};

use super::*;
use crate::{Survey, TimeReader, minor_units};

/// The folder of shared data, or `None` after saying that the test is skipped.
fn shared(path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(path);
    if path.exists() {
        return Some(path);
    }
    let required = std::env::var("TIDEWATCH_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|name| name == "shared"), "{} is required and absent", path.display());
    println!("skipped: {} is absent", path.display());
    None
}

fn table(path: &Path) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().skip(1).map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

#[test]
fn per_minute_counts_add_up_to_their_totals() {
    let (Some(file), Some(oracle)) = (shared("cloudwalk/transactions.csv"), shared("cloudwalk/oracle_totals.csv"))
    else {
        return;
    };
    let whole = read(&file, &options("occurred_at=timestamp", "", None)).unwrap();
    assert_eq!((whole.events.num_rows(), whole.broken.len()), (25_920, 0));
    let mut totals: BTreeMap<String, i64> = BTreeMap::new();
    let counts = whole.events["count"].as_primitive::<Int64Type>();
    for (status, count) in whole.events["status"].as_string::<i32>().iter().zip(counts) {
        *totals.entry(status.unwrap().to_owned()).or_default() += count.unwrap();
    }
    let wanted = table(&oracle).into_iter().map(|row| (row[0].clone(), row[2].parse().unwrap())).collect();
    assert_eq!(totals, wanted);
}

#[test]
fn amounts_by_the_hour_are_exact() {
    let (Some(file), Some(oracle)) = (shared("events/handbook.csv"), shared("events/handbook_oracle_1h.csv")) else {
        return;
    };
    let map = "event_id=TRANSACTION_ID,occurred_at=TX_DATETIME,account_id=CUSTOMER_ID,counterparty_id=TERMINAL_ID,amount=TX_AMOUNT";
    let options = options(map, "status=approved,currency=EUR", None);
    let whole = read(&file, &options).unwrap();
    assert_eq!((whole.events.num_rows(), whole.broken.len()), (268_692, 0));
    let survey = Survey::of(&file, &stream(), &options, |_| ()).unwrap();
    assert_eq!((survey.rows, survey.disorder.micros()), (268_692, 0));
    let mut hours: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    let times = whole.events["occurred_at"].as_primitive::<TimestampMicrosecondType>();
    for (time, minor) in times.iter().zip(whole.events["amount_minor"].as_primitive::<Int64Type>()) {
        let hour = hours.entry(time.unwrap() / 3_600_000_000 * 3_600_000_000).or_default();
        hour.0 += 1;
        hour.1 += minor.unwrap();
    }
    let wanted: BTreeMap<i64, (i64, i64)> = table(&oracle)
        .into_iter()
        .map(|row| {
            let start = TimeReader::default().text(&row[0]).unwrap();
            (start, (row[1].parse().unwrap(), minor_units(&row[2], 2).unwrap()))
        })
        .filter(|(_, (count, _))| *count > 0)
        .collect();
    assert_eq!(hours, wanted);
}

#[test]
fn auth_codes_stay_text() {
    let Some(file) = shared("cloudwalk/transactions_auth_codes.csv") else { return };
    let whole = read(&file, &options("occurred_at=timestamp", "status=approved", None)).unwrap();
    assert_eq!(whole.broken, []);
    assert_eq!(whole.events["auth_code"].as_string::<i32>().value(0), "00");
}
