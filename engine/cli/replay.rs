//! `tidewatch replay`: sends a file to a running engine. It reads with `tidewatch-sources`, sends with
//! `sender`, and says what became of every row.

mod cutter;
mod faults;
mod progress;
mod sender;
mod wire;

use std::{
    hash::{BuildHasher, RandomState},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context, bail};
use chrono_tz::Tz;
use tidewatch_model::{Span, StreamSchema, transactions};
use tidewatch_serve::proto::tidewatch::v1::{
    EndSessionRequest, OpenSessionRequest, SessionSummary, ingest_client::IngestClient,
};
use tidewatch_sources::{FileSource, Format, MappingSpec, SourceOptions, Survey};
use tokio::sync::{mpsc, oneshot};
use xxhash_rust::xxh3::xxh3_128;

use self::{
    cutter::Cutter,
    faults::Faults,
    progress::Progress,
    sender::{Identity, Sender, Sent},
};
use super::server::ServerArgs;

/// Pieces read ahead of what is being sent: enough to keep the wire busy, and little memory.
const PIECES_AHEAD: usize = 4;

/// Send a CSV, JSON lines or Parquet file to a running engine.
///
/// History may be of any age: a replay has a watermark of its own. Repeating a replay that broke off
/// goes on where it stopped.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file; `-` reads from standard input.
    file: PathBuf,
    /// Which column fills which, as TARGET=COLUMN. Equal names map by themselves; `amount` is an amount
    /// in major units, such as 12.34.
    #[arg(long, value_name = "TARGET=COLUMN,…")]
    map: Vec<String>,
    /// The same value for every row, as TARGET=VALUE.
    #[arg(long, value_name = "TARGET=VALUE,…")]
    set: Vec<String>,
    /// Columns to keep as attributes, or `rest` for all that have no place of their own.
    #[arg(long, value_name = "COLUMN,…|rest")]
    attributes: Option<String>,
    /// The zone of times without an offset, for example Europe/Berlin. Of a time that occurred twice the
    /// first is meant; one that never was is a broken row.
    #[arg(long, value_name = "AREA/CITY", default_value = "UTC")]
    timezone: Tz,
    /// Default: as the file's name ends.
    #[arg(long, value_parser = format)]
    format: Option<Format>,
    /// Between the cells of a CSV file. Default: a comma, or a tab for .tsv.
    #[arg(long, value_parser = delimiter)]
    delimiter: Option<u8>,
    /// How far rows may be out of order. Default: what the file needs, which a first pass finds out.
    #[arg(long, value_name = "SPAN")]
    lateness: Option<Span>,
    /// Event time against wall time: `max`, 1, 60, …
    #[arg(long, default_value = "max", value_parser = speed)]
    speed: Speed,
    /// Rows of a request.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: u32,
    /// Requests on the way without acknowledgement.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=64))]
    in_flight: u32,
    /// The name by which a replay that broke off is known. Default: the hash of file and mapping.
    #[arg(long, value_name = "NAME")]
    session: Option<String>,
    /// Send the alerts of this history to their receivers too.
    #[arg(long, conflicts_with = "live")]
    notify: bool,
    /// Send as traffic of now, not as history.
    #[arg(long)]
    live: bool,
    /// Write every broken and every rejected row to this CSV file.
    #[arg(long, value_name = "FILE")]
    errors: Option<PathBuf>,
    /// Exit with 1 when any row was broken or rejected.
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Event time that passes in a second of wall time; `None`: as fast as it goes.
pub type Speed = Option<SpeedFactor>;

#[derive(Clone, Copy, Debug)]
pub struct SpeedFactor(f64);

fn speed(text: &str) -> Result<Speed, String> {
    match text.parse::<f64>() {
        _ if text == "max" => Ok(None),
        Ok(factor) if factor.is_finite() && factor > 0.0 => Ok(Some(SpeedFactor(factor))),
        _ => Err("write `max` or a number above 0, such as 60".to_owned()),
    }
}

fn format(text: &str) -> Result<Format, String> {
    Format::of(Path::new(&format!("-.{text}"))).ok_or_else(|| "write csv, jsonl or parquet".to_owned())
}

fn delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r') => Ok(*byte),
        _ if text == "tab" || text == "\\t" => Ok(b'\t'),
        _ => Err("write one character, such as `;`, or `tab`".to_owned()),
    }
}

/// What the first pass settles before the first row is sent.
struct Prepared {
    schema: Arc<StreamSchema>,
    options: SourceOptions,
    name: String,
    lateness: Span,
    rows: Option<u64>,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let channel = args.server.connect().await?;
    let progress = Progress::new();
    let prepared = prepare(&args, &progress)?;
    let mut client = IngestClient::new(channel);
    let mut resumed_after = None;
    let identity = if args.live {
        Identity::Producer(prepared.name.clone())
    } else {
        let request = open_request(&args, &prepared);
        let opened = client.open_session(request.clone()).await.map_err(|status| refused(&status))?.into_inner();
        resumed_after = opened.last_sequence.filter(|last| *last > 0);
        Identity::Session { id: opened.session_id, request }
    };
    if let Some(last) = resumed_after {
        progress.say(&format!("going on after row {last}, which the engine has"));
    }
    let faults = Arc::new(Faults::new(args.errors.as_deref(), progress.clone())?);
    progress.begin(prepared.rows, resumed_after.unwrap_or(0));
    let (pieces, received) = mpsc::channel(PIECES_AHEAD);
    let source = open(&args.file, &prepared)?;
    source.notices().iter().for_each(|notice| progress.say(notice));
    let cutter = Cutter::new(args.batch as usize, resumed_after, args.speed, Arc::clone(&faults), pieces);
    // A thread that the process does not wait for: reading a pipe may never end.
    let (read_through, reading) = oneshot::channel();
    std::thread::spawn(move || read_through.send(cutter.run(source)));
    let sender = Sender {
        client: client.clone(),
        identity: identity.clone(),
        in_flight: args.in_flight as usize,
        speed: args.speed,
        faults: Arc::clone(&faults),
        progress: progress.clone(),
    };
    let sent = sender.run(received).await.context("the replay broke off; the same command goes on where it stopped")?;
    if sent.interrupted {
        progress.end();
        bail!("interrupted after row {}; the same command goes on where it stopped", sent.last_row);
    }
    let read = reading.await.context("the reader stopped")??;
    let summary = match &identity {
        Identity::Session { id, .. } => {
            let request = EndSessionRequest { session_id: *id };
            client.end_session(request).await.map_err(|status| refused(&status))?.into_inner().summary
        }
        Identity::Producer(_) => None,
    };
    faults.finish()?;
    progress.end();
    print(read, &sent, summary, &faults, &progress);
    let failed = args.strict && (faults.broken() > 0 || faults.rejected() > 0);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn prepare(args: &Args, progress: &Progress) -> anyhow::Result<Prepared> {
    let schema = Arc::new(transactions()?);
    let mapping = MappingSpec::parse(&args.map, &args.set, args.attributes.as_deref())?;
    let identity = format!("{} {} {:?}", mapping.canonical(), args.timezone, args.delimiter);
    let options = SourceOptions {
        mapping,
        timezone: (args.timezone != Tz::UTC).then_some(args.timezone),
        format: args.format,
        delimiter: args.delimiter,
        batch_rows: 8_192,
        row_groups: None,
    };
    if is_pipe(&args.file) {
        // A pipe is read once: neither its disorder nor its hash is known beforehand.
        let name = args.session.clone().unwrap_or_else(|| format!("pipe-{:016x}", RandomState::new().hash_one(0)));
        let lateness = args.lateness.unwrap_or(Span::ZERO);
        return Ok(Prepared { schema, options, name, lateness, rows: None });
    }
    // What the mapping cannot mean is refused before the first pass, which may take a while.
    drop(FileSource::open(&args.file, &schema, &options)?);
    let survey = Survey::of(&args.file, &schema, &options, |rows| progress.surveyed(rows))?;
    let needed = match survey.disorder {
        Span::ZERO => Span::ZERO,
        disorder => disorder.plus(schema.lateness),
    };
    if let Some((first, last)) = survey.times {
        progress.say(&format!("{} rows from {first} to {last}", survey.rows));
    }
    if survey.disorder > Span::from_minutes(1) && args.lateness.is_none() && !args.live {
        let minutes = survey.disorder.minutes_ceil();
        progress.say(&format!("rows are out of order by up to {minutes} min: minutes are sealed that much later"));
    }
    let name = args.session.clone().unwrap_or_else(|| {
        format!("replay-{:032x}", xxh3_128(format!("{:032x} {identity}", survey.content).as_bytes()))
    });
    Ok(Prepared { schema, options, name, lateness: args.lateness.unwrap_or(needed), rows: Some(survey.rows) })
}

fn is_pipe(file: &Path) -> bool {
    file == Path::new("-")
}

fn open(file: &Path, prepared: &Prepared) -> anyhow::Result<FileSource> {
    Ok(match is_pipe(file) {
        true => {
            FileSource::from_input("standard input", Box::new(std::io::stdin()), &prepared.schema, &prepared.options)?
        }
        false => FileSource::open(file, &prepared.schema, &prepared.options)?,
    })
}

fn open_request(args: &Args, prepared: &Prepared) -> OpenSessionRequest {
    let name = prepared.name.clone();
    OpenSessionRequest { name, lateness_us: prepared.lateness.micros(), notify: args.notify }
}

fn refused(status: &tonic::Status) -> anyhow::Error {
    anyhow::anyhow!("the engine refused: {}", status.message())
}

/// What became of every row.
fn print(rows: u64, sent: &Sent, summary: Option<SessionSummary>, faults: &Faults, progress: &Progress) {
    let seconds = progress.seconds();
    let rate = sent.events as f64 / seconds.max(0.001);
    println!("rows read      {rows:>12}");
    println!("events sent    {:>12}  in {seconds:.1} s: {rate:.0} a second", sent.events);
    println!("acknowledged   {:>12}", sent.accepted);
    println!("rejected       {:>12}", faults.rejected());
    faults.reasons().iter().for_each(|(reason, count)| println!("  {count:>11}  {reason}"));
    println!("broken rows    {:>12}", faults.broken());
    if let Some(summary) = summary {
        println!(
            "the session as a whole: {} counted, {} duplicates, {} too late, {} rejected",
            summary.accepted, summary.duplicate, summary.late, summary.rejected
        );
    }
}
