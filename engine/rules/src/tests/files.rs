//! The form of rule files, and what their SQL may not do.

use tidewatch_model::{Severity, Span};

use super::tables::{catalog, rule, shipped};
use crate::{RuleFile, RuleSet};

#[test]
fn a_file_is_read() {
    let text = "/*\nname = \"x\"\nseverity = \"medium\"\nlookback = \"1 hour\"\nfor = \"3m\"\nlabels = { team = \"a\" }\n*/\n\n-- why\nSELECT 1\n";
    let file = RuleFile::parse("x.sql", text).unwrap();
    assert_eq!((file.header.name.as_str(), file.header.severity), ("x", Severity::Warning));
    assert_eq!((file.header.for_, file.header.warmup), (Span::from_minutes(3), None));
    assert_eq!((file.sql.as_str(), file.sql_line), ("-- why\nSELECT 1", 9));
}

#[test]
fn broken_files_say_where() {
    let good = "name = \"x\"\nseverity = \"low\"\nlookback = \"5m\"";
    for (text, expected) in [
        (String::new(), "r.sql:1: a rule begins with a comment"),
        ("SELECT 1".to_owned(), "r.sql:1: a rule begins with a comment"),
        (format!("/*\n{good}\nSELECT 1"), "r.sql:1: this comment never ends"),
        (format!("/*\n{good}\n*/\n\n"), "r.sql:5: there is no SELECT"),
        (
            format!("/*\n{good}\nseverty = \"low\"\n*/\nSELECT 1"),
            "r.sql:5: there is no key `severty`; did you mean `severity`?",
        ),
        (format!("/*\n{good}\nelephant = 1\n*/\nSELECT 1"), "r.sql:5: there is no key `elephant`; the keys are"),
        (format!("/*\n{good}\nfor = \n*/\nSELECT 1"), "r.sql:5: "),
        (format!("/*\n{good}\nfor = \"soon\"\n*/\nSELECT 1"), "r.sql:5: `soon` is not a length of time"),
        (format!("/*\n{good}\nenabled = \"yes\"\n*/\nSELECT 1"), "r.sql:5: invalid type"),
        ("/*\nname = \"x\"\nseverity = \"bad\"\nlookback = \"5m\"\n*/\nSELECT 1".to_owned(), "r.sql:3: "),
        ("/*\nname = \"x\"\nseverity = \"low\"\n*/\nSELECT 1".to_owned(), "missing field `lookback`"),
        (
            "/*\nname = \"a b\"\nseverity = \"low\"\nlookback = \"5m\"\n*/\nSELECT 1".to_owned(),
            "r.sql:2: `a b` is no name",
        ),
        (
            "/*\nname = \"x\"\nseverity = \"low\"\nlookback = \"30s\"\n*/\nSELECT 1".to_owned(),
            "r.sql:4: a lookback is whole minutes",
        ),
        (
            "/*\nname = \"x\"\nseverity = \"low\"\nlookback = \"60 days\"\n*/\nSELECT 1".to_owned(),
            "longer than the longest",
        ),
    ] {
        let error = RuleFile::parse("r.sql", &text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}\n{error}");
    }
}

#[test]
fn sql_that_a_rule_may_not_have() {
    for (sql, expected) in [
        ("SELECT minute FROM payments_by_status\nWHERE (", "r.sql:7: the SQL does not parse"),
        ("SELECT minute,\n  status status status\nFROM payments_by_status", "r.sql:8: the SQL does not parse"),
        ("SELECT minute, elephants FROM payments_by_status", "r.sql:7: no field named elephants"),
        ("SELECT minute FROM elephants", "there is no table `elephants`"),
        ("SELECT status FROM transactions", "a rule reads views and `alerts`, not the raw table `transactions`"),
        ("SELECT status FROM payments_by_status", "must return the column `minute`"),
        ("SELECT status AS minute FROM payments_by_status", "must be a timestamp"),
        ("SELECT minute, minute AS m FROM payments_by_status", "the column `m` is"),
        ("SELECT minute, 1 AS severity FROM payments_by_status", "the column `severity` must be text"),
        (
            "SELECT p.minute, p.status, r.status FROM payments_by_status p JOIN payments_by_status r ON p.minute = r.minute",
            "two columns named `status`",
        ),
        ("SELECT minute FROM payments_by_status WHERE minute > now() - interval '5 minutes'", "`now()` changes"),
        ("SELECT minute FROM payments_by_status WHERE minute > current_date", "changes from run to run"),
        ("SELECT minute, random() AS r FROM payments_by_status", "`random()` changes"),
        ("SELECT minute FROM payments_by_status WHERE transactions > (SELECT random())", "`random()` changes"),
        ("DELETE FROM payments_by_status", "queries only read"),
        ("EXPLAIN SELECT minute FROM payments_by_status", "not an EXPLAIN"),
        ("SELECT minute FROM payments_by_status; SELECT 1", "2 statements"),
        (
            "SELECT minute, trailing_mean(transactions, '61 minutes') AS t FROM payments_by_status",
            "lookback = \"61 minutes\"",
        ),
        (
            "SELECT minute, avg(transactions) OVER (ORDER BY minute ROWS BETWEEN 60 PRECEDING AND 1 PRECEDING) AS a FROM payments_by_status",
            "reaches 60 minutes back",
        ),
        (
            "SELECT minute, avg(transactions) OVER (ORDER BY minute RANGE BETWEEN INTERVAL '60 minutes' PRECEDING AND CURRENT ROW) AS a FROM payments_by_status",
            "reaches 60 minutes back",
        ),
        (
            "SELECT minute, lag(transactions, 70) OVER (ORDER BY minute) AS l FROM payments_by_status",
            "reaches 70 minutes back",
        ),
        (
            "SELECT p.minute, q.transactions AS before FROM payments_by_status p JOIN payments_by_status q ON p.minute = q.minute + interval '2 hours'",
            "reaches 120 minutes back",
        ),
    ] {
        let set = RuleSet::load(vec![rule("r", "", sql)], &catalog());
        assert_eq!((set.rules().len(), set.broken().len()), (0, 1), "{sql}");
        let error = set.broken()[0].to_string();
        assert!(error.contains(expected), "{sql}\n{error}");
    }
    for (header, expected) in
        [("summary = \"{{ valeu }}\"", "did you mean `{{ value }}`?"), ("labels = { status = \"x\" }", "choose one")]
    {
        let sql = "SELECT minute, status, transactions AS value FROM payments_by_status";
        let set = RuleSet::load(vec![rule("r", header, sql)], &catalog());
        assert!(set.broken()[0].to_string().contains(expected), "{:?}", set.broken());
    }
}

#[test]
fn one_broken_file_stops_no_other() {
    let good = "SELECT minute FROM payments_by_status";
    let mut files = shipped();
    let whole = files.len();
    files.push(rule("broken", "", "SELEC"));
    files.push(rule("twice", "", good));
    files.push(("other.sql".to_owned(), rule("twice", "", good).1));
    files.push(rule("off", "enabled = false", good));
    let set = RuleSet::load(files, &catalog());
    assert_eq!(set.rules().len(), whole + 1, "{:?}", set.broken());
    let broken: Vec<String> = set.broken().iter().map(ToString::to_string).collect();
    assert!(broken.iter().any(|error| error.starts_with("broken.sql:7: ")), "{broken:?}");
    assert!(
        broken.iter().any(|error| error.starts_with("other.sql:2: the rule `twice` stands in twice.sql")),
        "{broken:?}"
    );
    assert_eq!(broken.len(), 2);
}
