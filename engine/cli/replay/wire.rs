//! A batch of the stream's columns as the wire's messages.

use std::collections::BTreeMap;

use anyhow::Context;
use arrow::{
    array::{Array, AsArray, Int64Array, MapArray, RecordBatch, StringArray},
    datatypes::{Int64Type, TimestampMicrosecondType},
};
use tidewatch_serve::proto::tidewatch::v1::Transaction;

pub fn transactions(events: &RecordBatch) -> anyhow::Result<Vec<Transaction>> {
    let column = |name: &str| events.column_by_name(name).with_context(|| format!("the batch has no column `{name}`"));
    let text = |name: &str| -> anyhow::Result<&StringArray> {
        column(name)?.as_string_opt().with_context(|| format!("the column `{name}` is not text"))
    };
    let number = |name: &str| -> anyhow::Result<&Int64Array> {
        column(name)?.as_primitive_opt::<Int64Type>().with_context(|| format!("the column `{name}` is not a number"))
    };
    let times = column("occurred_at")?;
    let times = times.as_primitive_opt::<TimestampMicrosecondType>().context("`occurred_at` is not a time")?;
    let (event_id, status, kind, channel) = (text("event_id")?, text("status")?, text("kind")?, text("channel")?);
    let (region, account, counterparty) = (text("region")?, text("account_id")?, text("counterparty_id")?);
    let (currency, auth_code, ip) = (text("currency")?, text("auth_code")?, text("ip")?);
    let (amount, latency, count) = (number("amount_minor")?, number("latency_us")?, number("count")?);
    let attributes = column("attributes")?.as_map_opt().context("`attributes` is not a map")?;
    let cell = |array: &StringArray, row: usize| array.is_valid(row).then(|| array.value(row).to_owned());
    let value = |array: &Int64Array, row: usize| array.is_valid(row).then(|| array.value(row));
    Ok((0..events.num_rows())
        .map(|row| Transaction {
            event_id: cell(event_id, row),
            occurred_at: times.value(row),
            status: status.value(row).to_owned(),
            kind: cell(kind, row),
            channel: cell(channel, row),
            region: cell(region, row),
            account_id: cell(account, row),
            counterparty_id: cell(counterparty, row),
            amount_minor: value(amount, row),
            currency: cell(currency, row),
            latency_us: value(latency, row),
            auth_code: cell(auth_code, row),
            ip: cell(ip, row),
            count: value(count, row),
            attributes: entries(attributes, row),
        })
        .collect())
}

fn entries(map: &MapArray, row: usize) -> BTreeMap<String, String> {
    if map.is_null(row) {
        return BTreeMap::new();
    }
    let entries = map.value(row);
    let (Some(keys), Some(values)) =
        (entries.column(0).as_string_opt::<i32>(), entries.column(1).as_string_opt::<i32>())
    else {
        return BTreeMap::new();
    };
    let pairs = keys.iter().zip(values.iter());
    pairs.filter_map(|(key, value)| Some((key?.to_owned(), value?.to_owned()))).collect()
}
