//! How many bytes a per-minute sample takes in a segment, by hand:
//! `cargo run --release -p tidewatch -p tidewatch-store --example bytes_a_sample -- series.prom` with a file of
//! `name{status="…",merchant="…"} value milliseconds` lines, sorted by series and then time.

use std::{
    collections::BTreeMap,
    error::Error,
    fs::File,
    io::{BufRead, BufReader},
    sync::Arc,
};

use arrow::{
    array::{Int64Builder, RecordBatch, StringBuilder, TimestampMicrosecondBuilder},
    datatypes::{DataType, Field, Schema, TimeUnit},
};
use tidewatch_model::{EventTime, Lsn};
use tidewatch_store::{Contents, EncodedSegment};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("name a file of series")?;
    let batch = samples(BufReader::new(File::open(path)?))?;
    let some = EventTime::from_micros(0).minute();
    for level in [0, 1] {
        let contents = Contents { minutes: (some, some), lsns: (Lsn(1), Lsn(1)), level };
        let segment = EncodedSegment::new(std::slice::from_ref(&batch), contents)?;
        let (bytes, rows) = (segment.bytes().len(), segment.rows());
        println!("level {level}: {rows} samples, {bytes} bytes, {:.4} a sample", bytes as f64 / rows as f64);
        if let Some(out) = std::env::args().nth(2) {
            std::fs::write(format!("{out}/level-{level}.parquet"), segment.bytes())?;
        }
    }
    Ok(())
}

/// The lines as a table of a view: keys, minute, measure.
fn samples(lines: impl BufRead) -> Result<RecordBatch, Box<dyn Error>> {
    let (mut status, mut merchant) = (StringBuilder::new(), StringBuilder::new());
    let (mut minutes, mut values) = (TimestampMicrosecondBuilder::new(), Int64Builder::new());
    for line in lines.lines() {
        let line = line?;
        let (series, sample) = line.rsplit_once("} ").ok_or("a line without labels")?;
        let labels: BTreeMap<&str, &str> = series
            .split_once('{')
            .map(|(_, labels)| labels.split(',').filter_map(|label| label.split_once('=')).collect())
            .unwrap_or_default();
        let label = |name| labels.get(name).map(|value| value.trim_matches('"')).unwrap_or_default();
        let (value, time) = sample.split_once(' ').ok_or("a line without a time")?;
        status.append_value(label("status"));
        merchant.append_value(label("merchant"));
        minutes.append_value(time.parse::<i64>()? * 1_000);
        values.append_value(value.parse()?);
    }
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let schema = Schema::new(vec![
        Field::new("status", DataType::Utf8, true),
        Field::new("merchant", DataType::Utf8, true),
        Field::new("minute", time, false),
        Field::new("transactions", DataType::Int64, true),
    ]);
    Ok(RecordBatch::try_new(
        Arc::new(schema),
        vec![
            Arc::new(status.finish()),
            Arc::new(merchant.finish()),
            Arc::new(minutes.finish().with_timezone("UTC")),
            Arc::new(values.finish()),
        ],
    )?)
}
