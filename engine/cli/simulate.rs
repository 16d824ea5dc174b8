//! `tidewatch simulate`: writes simulated traffic to a file, in the order of arrival, with the truth about
//! its incidents beside it. It draws the seed where none is given; everything else follows from it.

use std::{
    fs,
    hash::{BuildHasher, RandomState},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
use tidewatch_model::{EventTime, Minute, Span};
use tidewatch_traffic::{ARRIVAL_DELAY_MAX, ExportFormat, Exporter, Incident, Profile, Schedule, Signal, Traffic};

/// The longest span that is written at once: ten years.
const SPAN_MAX: Span = Span::from_minutes(10 * 366 * 24 * 60);

/// Write realistic payment traffic with incidents whose truth is known.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A file (its ending names the format) or a directory, in which transactions.FORMAT is written.
    /// truth.json is put beside it.
    #[arg(long, value_name = "FILE_OR_DIRECTORY")]
    out: PathBuf,
    /// parquet, csv or jsonl. Default: as the file's name ends, else parquet.
    #[arg(long)]
    format: Option<ExportFormat>,
    /// The first minute, as RFC 3339 or `YYYY-MM-DD HH:MM` (UTC). The default is a Monday.
    #[arg(long, value_name = "TIME", default_value = "2025-01-06T00:00:00Z", value_parser = time)]
    from: EventTime,
    /// How much event time to write, for example `90m`, `6 hours` or `7 days`.
    #[arg(long = "for", value_name = "SPAN", default_value = "6 hours", conflicts_with = "hours")]
    span: Span,
    /// The same in hours.
    #[arg(long)]
    hours: Option<u32>,
    /// The same seed gives the same events. Default: a fresh one, which is printed.
    #[arg(long)]
    seed: Option<u64>,
    /// Events a minute as the mean of a week.
    #[arg(long, value_name = "EVENTS_PER_MINUTE", default_value_t = Profile::default().events_per_minute())]
    rate: f64,
    /// How long nothing goes wrong at first, so that baselines see calm.
    #[arg(long, value_name = "SPAN", default_value = "1 hour")]
    calm: Span,
    /// Calm all the way.
    #[arg(long)]
    no_incidents: bool,
    /// Replace files that exist.
    #[arg(long)]
    force: bool,
}

/// What `truth.json` says.
#[derive(serde::Serialize)]
struct Truth<'a> {
    file: String,
    seed: u64,
    events_per_minute: f64,
    from: String,
    to: String,
    /// Rows of the file, in which a duplicate is a row.
    events: usize,
    incidents: Vec<TrueIncident<'a>>,
}

#[derive(serde::Serialize)]
struct TrueIncident<'a> {
    #[serde(flatten)]
    incident: &'a Incident,
    summary: String,
    signals: Vec<Signal>,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let (from, to) = minutes(&args)?;
    let (file, format) = target(&args.out, args.format)?;
    let truth_file = file.with_file_name("truth.json");
    if !args.force {
        for path in [&file, &truth_file] {
            ensure!(!path.exists(), "{} exists already; give --force to replace it", path.display());
        }
    }
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).with_context(|| format!("cannot create the directory {}", folder.display()))?;
    }
    let seed = args.seed.unwrap_or_else(fresh_seed);
    let schedule = match args.no_incidents {
        true => Schedule::calm(),
        false => Schedule::from_seed(seed, from.plus(args.calm.minutes_ceil())),
    };
    let mut traffic = Traffic::new(Profile::with_rate(args.rate)?, seed)?.with_incidents(schedule).within(from, to);
    println!("seed {seed}");
    let mut events = 0;
    in_whole(&file, |into| write_events(&mut traffic, (from, to), format, into, &mut events))?;
    let incidents = clipped(traffic.incidents(from, to), to);
    let truth = Truth {
        file: file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        seed,
        events_per_minute: args.rate,
        from: from.start().to_string(),
        to: to.start().to_string(),
        events,
        incidents: incidents.iter().map(TrueIncident::of).collect(),
    };
    in_whole(&truth_file, |mut into| {
        serde_json::to_writer_pretty(&mut into, &truth)?;
        writeln!(into)?;
        Ok(into)
    })?;
    println!("{}: {events} events from {} to {}", file.display(), truth.from, truth.to);
    println!("{}: {} incidents", truth_file.display(), incidents.len());
    for incident in &incidents {
        println!("  {} {incident}", incident.from);
    }
    Ok(())
}

impl<'a> TrueIncident<'a> {
    fn of(incident: &'a Incident) -> Self {
        Self { incident, summary: incident.to_string(), signals: incident.signals() }
    }
}

fn time(text: &str) -> Result<EventTime, String> {
    EventTime::parse(text)
        .ok_or_else(|| format!("`{text}` is not a time; write for example 2025-01-06T00:00:00Z or `2025-01-06 00:00`"))
}

/// The first minute, and the first one after the last.
fn minutes(args: &Args) -> anyhow::Result<(Minute, Minute)> {
    let span = args.hours.map_or(args.span, |hours| Span::from_minutes(i64::from(hours) * 60));
    ensure!(span > Span::ZERO, "there is nothing to write: the span is {span}");
    ensure!(span <= SPAN_MAX, "{span} is too long a span; at most {SPAN_MAX} are written at once");
    let from = args.from.minute();
    ensure!(from.start() == args.from, "--from {} is not the start of a minute", args.from);
    Ok((from, from.plus(span.minutes_ceil())))
}

/// Which file is meant, and in which format.
fn target(out: &Path, wanted: Option<ExportFormat>) -> anyhow::Result<(PathBuf, ExportFormat)> {
    let Some(ending) = out.extension().filter(|_| !out.is_dir()) else {
        let format = wanted.unwrap_or(ExportFormat::Parquet);
        return Ok((out.join(format!("transactions.{format}")), format));
    };
    let named: Option<ExportFormat> = ending.to_str().and_then(|ending| ending.parse().ok());
    match (wanted, named) {
        (Some(wanted), Some(named)) if wanted != named => {
            bail!("{} ends like a {named} file, but --format says {wanted}", out.display())
        }
        (Some(format), _) | (None, Some(format)) => Ok((out.to_path_buf(), format)),
        (None, None) => {
            bail!("the ending of {} names no format; give --format parquet, csv or jsonl", out.display())
        }
    }
}

/// A seed that differs from run to run: the standard library keys its hashers from the system's randomness.
fn fresh_seed() -> u64 {
    // Short enough to be typed again.
    u64::from(RandomState::new().hash_one("seed") as u32)
}

/// Writes a file under another name and gives it its own only when it is whole, so that a run that breaks off
/// leaves nothing that looks finished, and what it would have replaced stays.
fn in_whole(
    path: &Path,
    write: impl FnOnce(BufWriter<fs::File>) -> anyhow::Result<BufWriter<fs::File>>,
) -> anyhow::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = path.with_file_name(name);
    let written = fs::File::create(&part).map_err(anyhow::Error::from).and_then(|file| {
        let mut file = write(BufWriter::new(file))?;
        file.flush()?;
        fs::rename(&part, path)?;
        Ok(())
    });
    if written.is_err() {
        // It may not exist; the error that is reported is the first one.
        let _ = fs::remove_file(&part);
    }
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// Writes all that occurs in the span, and counts it. A minute of arrivals at a time is in memory.
fn write_events(
    traffic: &mut Traffic,
    (from, to): (Minute, Minute),
    format: ExportFormat,
    into: BufWriter<fs::File>,
    events: &mut usize,
) -> anyhow::Result<BufWriter<fs::File>> {
    let mut exporter = Exporter::new(format, traffic.schema(), into)?;
    let (mut time, end) = (from.start(), to.start().plus(ARRIVAL_DELAY_MAX));
    // A second at a time where a minute holds more than a slice may.
    let step = if traffic.profile().events_per_minute() > 100_000.0 { 1 } else { 60 };
    while time < end {
        let next = time.plus(Span::from_seconds(step)).min(end);
        let batch = traffic.arrivals(time, next)?;
        exporter.write(&batch)?;
        *events += batch.num_rows();
        time = next;
    }
    Ok(exporter.finish()?)
}

/// The incidents as far as the span goes.
fn clipped(incidents: &[Incident], to: Minute) -> Vec<Incident> {
    incidents.iter().map(|incident| Incident { to: incident.to.min(to), ..incident.clone() }).collect()
}
