//! How many events a second go from a Parquet file to sealed minutes: the window operator and the store, without the
//! log, the network and the rules.
//!
//!     cargo bench --bench aggregate -- FILE.parquet [--dedup] [--runs N]
//!
//! The file has the columns of the stream below; strings may be dictionaries. Without `--dedup` ids are not looked at.
#![allow(clippy::disallowed_methods, reason = "a bench measures wall time")]
#![allow(clippy::unwrap_used, reason = "a bench may stop at what it cannot use")]

use std::{fs::File, path::PathBuf, sync::Arc, sync::mpsc::sync_channel, time::Instant};

use arrow::{array::RecordBatch, compute::cast, datatypes::DataType};
use parquet::arrow::{ProjectionMask, arrow_reader::ParquetRecordBatchReaderBuilder};
use tidewatch_model::{Minute, Partition, SessionId, StreamSchema};
use tidewatch_store::Head;
use tidewatch_views::{Events, Operator, OperatorLimits, View, compile_stream, compile_view};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const STREAM: &str = "CREATE TABLE transactions (
    event_id BIGINT, occurred_at TIMESTAMP NOT NULL, status TEXT NOT NULL, kind TEXT, channel TEXT, region TEXT,
    amount_minor BIGINT, latency_us BIGINT
) WITH (event_time = 'occurred_at', lateness = '30 seconds', correction_horizon = '1 day' ID);";

const VIEW: &str = "CREATE MATERIALIZED VIEW w1 AS
SELECT date_trunc('minute', occurred_at) AS minute, status, kind, channel, region,
       count(*) AS events, sum(amount_minor) AS amount, min(amount_minor) AS least, max(amount_minor) AS greatest,
       avg(latency_us) AS mean_latency, histogram_quantile(0.95, histogram(latency_us)) AS p95
FROM transactions GROUP BY ALL";

struct Job {
    file: PathBuf,
    schema: Arc<StreamSchema>,
    view: Arc<View>,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let Some(file) = args.iter().find(|arg| !arg.starts_with("--")) else {
        println!("skipped: name a Parquet file of transactions (see the head of this file)");
        return;
    };
    let dedup = args.iter().any(|arg| arg == "--dedup");
    let runs = args.iter().position(|arg| arg == "--runs").and_then(|at| args.get(at + 1)?.parse().ok()).unwrap_or(5);
    let stream =
        compile_stream("stream.sql", &STREAM.replace(" ID", if dedup { ", id = 'event_id'" } else { "" })).unwrap();
    let view = Arc::new(compile_view(&stream, "view.sql", VIEW).unwrap());
    let job = Job { file: file.into(), schema: stream.schema, view };
    let mut rates = Vec::new();
    for _ in 0..runs {
        rates.push(run(&job));
    }
    rates.sort_by(f64::total_cmp);
    println!(
        "median {:.2} M events/s (least {:.2}, greatest {:.2}) of {runs} runs",
        rates[rates.len() / 2],
        rates[0],
        rates[rates.len() - 1]
    );
}

/// One run; returns million events a second.
fn run(job: &Job) -> f64 {
    let began = Instant::now();
    let (sender, receiver) = sync_channel::<RecordBatch>(4);
    let schema = Arc::clone(&job.schema);
    let file = job.file.clone();
    let reader = std::thread::spawn(move || {
        for batch in read(&file, &schema) {
            sender.send(batch).unwrap();
        }
    });
    let views = vec![Arc::clone(&job.view)];
    let limits = OperatorLimits { ids_max: 100_000_000 };
    let mut operator = Operator::new(Arc::clone(&job.schema), views.clone(), limits).unwrap();
    let mut head = Head::new(&views, usize::MAX).unwrap();
    let session = SessionId(1);
    operator.open_session(session, job.schema.lateness).unwrap();
    let (mut events, mut counted) = (0, 0);
    let mut store = |applied: tidewatch_views::Applied| {
        let rows = applied.corrections.into_iter().flat_map(|c| c.views);
        rows.chain(applied.sealed.into_iter().flat_map(|s| s.views)).for_each(|rows| {
            head.add(0, rows).unwrap();
        });
    };
    for rows in receiver {
        events += rows.num_rows();
        let applied =
            operator.events(Events { partition: Partition::Session(session), producer: None, rows: &rows }).unwrap();
        counted += applied.accepted.as_ref().map_or(0, RecordBatch::num_rows);
        store(applied);
    }
    store(operator.end_session(session));
    reader.join().unwrap();
    let snapshot = head.snapshot();
    let rows =
        snapshot.views()[0].sealed_rows(Minute::from_index(i64::MIN), Minute::from_index(i64::MAX)).unwrap().batch;
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{events} events, {counted} counted, {} rows of minutes, {seconds:.2} s, {:.2} M events/s",
        rows.num_rows(),
        events as f64 / seconds / 1e6
    );
    events as f64 / seconds / 1e6
}

/// The file's batches in the stream's own columns; columns that the view does not read are NULL.
fn read(file: &PathBuf, schema: &StreamSchema) -> impl Iterator<Item = RecordBatch> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(file).unwrap()).unwrap();
    let names: Vec<&str> = schema.columns().iter().map(|column| column.name.as_str()).collect();
    let skipped = if schema.id().is_some() { "" } else { "event_id" };
    let wanted: Vec<&str> = names.into_iter().filter(|name| *name != skipped).collect();
    let mask = ProjectionMask::columns(builder.parquet_schema(), wanted);
    let arrow = Arc::clone(schema.arrow());
    builder.with_projection(mask).with_batch_size(65_536).build().unwrap().map(move |batch| {
        let batch = batch.unwrap();
        let columns = arrow.fields().iter().map(|field| match batch.column_by_name(field.name()) {
            Some(column) if matches!(column.data_type(), DataType::UInt64) => {
                // The bench's ids are below 2^63.
                cast(column, &DataType::Int64).unwrap()
            }
            Some(column) => cast(column, field.data_type()).unwrap(),
            None => arrow::array::new_null_array(field.data_type(), batch.num_rows()),
        });
        RecordBatch::try_new(Arc::clone(&arrow), columns.collect()).unwrap()
    })
}
