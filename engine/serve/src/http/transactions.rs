//! `GET /transactions`: accepted events by time and by what they say. A filter's value is always a parameter of the
//! SQL, never a part of it.

use std::sync::Arc;

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    http::HeaderMap,
    response::Response,
};
use tidewatch_model::limits;

use super::{Site, problem::Problem, table};
use crate::{
    engine::{Parameter, Question},
    excerpt::quoted,
    json::time_from_text,
    mask::mask,
};

const LIMIT_DEFAULT: u32 = 100;

/// Parameters of the request that compare a column with a text.
const FILTERS: [(&str, &str); 9] = [
    ("account", "account_id"),
    ("counterparty", "counterparty_id"),
    ("status", "status"),
    ("kind", "kind"),
    ("channel", "channel"),
    ("region", "region"),
    ("currency", "currency"),
    ("event_id", "event_id"),
    ("auth_code", "auth_code"),
];

pub(super) async fn get_transactions(
    State(site): State<Arc<Site>>,
    headers: HeaderMap,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(given) = query.map_err(|error| Problem::bad(format!("the query string cannot be read: {error}")))?;
    table::respond(&headers, site.edge.engine().query(question(&given)?).await?).await
}

fn question(given: &[(String, String)]) -> Result<Question, Problem> {
    let (mut conditions, mut parameters, mut limit) = (Vec::new(), Vec::new(), LIMIT_DEFAULT);
    for (name, value) in given {
        let compared = match name.as_str() {
            "limit" => {
                limit = rows(value)?;
                continue;
            }
            "from" | "to" => {
                parameters.push(Parameter::Time(time(name, value)?));
                if name == "from" { "occurred_at >=" } else { "occurred_at <" }.to_owned()
            }
            _ => {
                // Stored texts are masked, so what they are compared with is.
                parameters.push(Parameter::Text(mask(value).into_owned()));
                format!("{} =", column(name)?)
            }
        };
        if parameters.len() > FILTERS.len() + 2 {
            return Err(Problem::bad("there are more filters than can be told apart; give each at most once"));
        }
        conditions.push(format!("{compared} ${}", parameters.len()));
    }
    let filter = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    let sql = format!("SELECT * FROM transactions{filter} ORDER BY occurred_at DESC LIMIT {limit}");
    Ok(Question { sql, parameters, timeout: None })
}

fn column(name: &str) -> Result<&'static str, Problem> {
    FILTERS.iter().find(|(filter, _)| *filter == name).map(|(_, column)| *column).ok_or_else(|| {
        let known = FILTERS.iter().map(|(filter, _)| *filter).chain(["from", "to", "limit"]);
        Problem::bad(format!("there is no filter {}{}", quoted(name), tidewatch_model::did_you_mean(name, known)))
    })
}

fn time(name: &str, value: &str) -> Result<tidewatch_model::EventTime, Problem> {
    // In a query string a plus sign is a space; in a time it is the sign of the offset.
    time_from_text(&value.replace(' ', "+")).or_else(|| time_from_text(value)).ok_or_else(|| {
        let message = "must be an RFC 3339 time or a number of seconds, milliseconds or microseconds since 1970, not";
        Problem::bad(format!("`{name}` {message} {}", quoted(value)))
    })
}

fn rows(value: &str) -> Result<u32, Problem> {
    let max = limits::TRANSACTIONS_LISTED_MAX;
    match value.parse() {
        Ok(rows) if (1..=max).contains(&rows) => Ok(rows),
        _ => Err(Problem::bad(format!("`limit` must be a whole number from 1 to {max}, not {}", quoted(value)))),
    }
}

#[cfg(test)]
mod tests {
    use tidewatch_model::EventTime;

    use super::*;

    fn ask(given: &[(&str, &str)]) -> Result<Question, Problem> {
        let given: Vec<_> = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        question(&given)
    }

    #[test]
    fn values_are_parameters_and_never_sql() {
        let hostile = "x' OR '1'='1; DROP TABLE transactions --";
        let asked = ask(&[("account", hostile), ("from", "2025-07-12T12:00:00Z"), ("limit", "5")]).unwrap();
        assert_eq!(
            asked.sql,
            "SELECT * FROM transactions WHERE account_id = $1 AND occurred_at >= $2 ORDER BY occurred_at DESC LIMIT 5"
        );
        let noon = EventTime::from_micros(1_752_321_600_000_000);
        assert_eq!(asked.parameters, [Parameter::Text(hostile.to_owned()), Parameter::Time(noon)]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for given in [("limit", "0"), ("limit", "10001"), ("limit", "1; --"), ("from", "noon"), ("acount", "a")] {
            assert!(ask(&[given]).is_err(), "{given:?}");
        }
        let many: Vec<_> = (0..20).map(|_| ("status", "denied")).collect();
        assert!(ask(&many).is_err());
        assert!(ask(&[("from", "2025-07-12T14:00:00 02:00"), ("to", "2025-07-12 12:00:00")]).is_ok());
    }
}
