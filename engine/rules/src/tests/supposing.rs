//! "What if": the verdicts on a minute that has not been.

use std::collections::BTreeMap;

use super::tables::{Row, both, by_status, fresh, listed, load, reading, row, rule, shipped};
use crate::{Evaluation, Outcome, Premise, PremiseError, RuleLimits};

fn premise(keys: &[(&str, &str)], values: &[(&str, f64)]) -> Premise {
    Premise {
        keys: keys.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        values: values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
    }
}

async fn suppose(premise: &Premise) -> Result<Evaluation, PremiseError> {
    let statuses = [("approved", 100), ("denied", 10), ("failed", 2)];
    let mut by: Vec<Row> = Vec::new();
    let mut pairs: Vec<Row> = Vec::new();
    for minute in 0..100 {
        for (status, count) in statuses {
            by.push(row(minute, &[status], count + minute % 2));
            for region in ["eu", "apac"] {
                pairs.push(row(minute, &[status, region], count));
            }
        }
    }
    let mut files = shipped();
    let sum = "SELECT minute, status, transactions AS value, trailing_mean(transactions, '60 minutes') AS usual FROM payments \
               WHERE transactions > 1.5 * trailing_mean(transactions, '60 minutes')";
    files.push(rule("pairs", "", sum));
    let tables = reading(vec![listed(&by_status(), &by, 99), listed(&both(), &pairs, 99)]);
    load(files).evaluate(premise, &fresh(&tables), RuleLimits::default()).await
}

/// Each rule with rows, and the values of its rows.
fn said(evaluation: &Evaluation) -> Vec<(String, BTreeMap<String, f64>)> {
    let mut said = Vec::new();
    for verdict in &evaluation.verdicts {
        let Outcome::Rows(rows) = &verdict.outcome else { panic!("{verdict:?}") };
        said.extend(rows.iter().map(|row| (verdict.rule.clone(), row.values.clone())));
    }
    said
}

#[tokio::test]
async fn supposed_minutes_are_judged() {
    let calm = suppose(&premise(&[("status", "failed")], &[("transactions", 3.0)])).await.unwrap();
    assert_eq!((calm.minute.index(), said(&calm)), (100, vec![]));

    // `payments` has a key more: its history is added up to 2 × 2 = 4 failed a minute.
    let failed = suppose(&premise(&[("status", "failed")], &[("count", 100.0)])).await.unwrap();
    let rows = said(&failed);
    assert_eq!(
        rows.iter().map(|(rule, _)| rule.as_str()).collect::<Vec<_>>(),
        ["approval-rate", "pairs", "status-surge"]
    );
    assert_eq!(rows[0].1["attempts"], 212.0);
    assert_eq!((rows[1].1["value"], rows[1].1["usual"]), (100.0, 4.0));
    assert_eq!((rows[2].1["value"], rows[2].1["usual"]), (100.0, 2.5));

    let new = suppose(&premise(&[("status", "backend_reversed")], &[("count", 1.0)])).await.unwrap();
    assert_eq!(said(&new).iter().map(|(rule, _)| rule.as_str()).collect::<Vec<_>>(), ["status-surge"]);

    let precise = suppose(&premise(&[("status", "failed"), ("region", "eu")], &[("count", 9.0)])).await.unwrap();
    let rows = said(&precise);
    assert_eq!(rows.iter().map(|(rule, _)| rule.as_str()).collect::<Vec<_>>(), ["pairs"]);
    assert_eq!(rows[0].1["usual"], 2.0);
}

#[tokio::test]
async fn unknown_names_are_told() {
    for (premise, expected) in [
        (premise(&[("statsu", "x")], &[("count", 1.0)]), "no key `statsu`; the views' keys are `region`, `status`"),
        (premise(&[("status", "x")], &[("weight", 1.0)]), "no measure `weight`; the views' measures are"),
        (premise(&[("status", "x")], &[]), "at least one measure"),
        (premise(&[("status", "x")], &[("latency_p95_us", 1.0)]), "no view has all of `status`"),
        (premise(&[], &[("count", 1.0), ("transactions", 1.0)]), "the same measure"),
    ] {
        match suppose(&premise).await {
            Err(PremiseError::Unknown(message)) => assert!(message.contains(expected), "{message}"),
            other => panic!("{premise:?}: {other:?}"),
        }
    }
    let none = load(vec![])
        .evaluate(
            &premise(&[], &[]),
            &tidewatch_query::Reading::new(
                [],
                [],
                tidewatch_query::Scope::EVERYTHING,
                tidewatch_query::Baselines::none(),
            ),
            RuleLimits::default(),
        )
        .await;
    assert_eq!(none, Err(PremiseError::NoHistory));
}
