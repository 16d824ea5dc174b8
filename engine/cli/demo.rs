//! `tidewatch demo`: the engine over realistic traffic, faster than real time, with incidents whose truth is known.
//! It shows what happens as it happens, and at the end whether each incident was caught.

mod line;
mod score;
mod traffic;

use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, bail};
use tidewatch_log::{DataFolderLock, StdFs};
use tidewatch_model::{Clock, EventTime, Minute, Span};
use tidewatch_traffic::{Incident, Profile, Schedule, Traffic};

use super::{ANSWER_IS_NO, SettingsArgs};
use crate::{
    app::{Running, Surroundings},
    clock::SystemClock,
    config::{Environment, Origin},
    pipeline::OnSeal,
    telemetry::Telemetry,
};
use line::Screen;
use score::Scoreboard;
use traffic::{DemoClock, Feed};

/// Shows the engine at work on simulated payments with incidents.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How long to run, in wall time (90s, 10m); until Ctrl-C where absent
    #[arg(long = "for", value_name = "SPAN")]
    wall: Option<Span>,
    /// How many times faster than real time
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    speed: u32,
    /// The seed of traffic and incidents; a fresh one is drawn and printed where absent
    #[arg(long)]
    seed: Option<u64>,
    /// Events a minute of event time, at the mean of the day
    #[arg(long, default_value_t = 6_000.0)]
    rate: f64,
    /// How much calm history to begin with
    #[arg(long, default_value = "3h", value_name = "SPAN")]
    history: Span,
    /// Fails (exit code 3) unless every incident that was over was caught, with at most one false alert a simulated day
    #[arg(long)]
    exit_code: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut loaded = args.settings.load(&Environment::of_process())?;
    let given = loaded.shown.iter().any(|shown| shown.key == "data_dir" && shown.origin != Origin::Default);
    let seed = args.seed.unwrap_or_else(crate::app::random_id);
    if !given {
        loaded.config.data_dir = fresh_folder(seed);
    }
    let data = loaded.config.data_dir.clone();
    if data.join("log").exists() {
        // Whoever uses the folder is named first.
        drop(DataFolderLock::acquire(&data)?);
        bail!(
            "the folder {} holds data already; a demo needs an empty one: name another with --data-dir",
            data.display()
        );
    }
    // The feed comes in slices of wall time; between two of them a fast clock must not take the stream for silent.
    let slices = Span::from_seconds(i64::from(args.speed).saturating_mul(2) / 5);
    loaded.config.ingest.idle_after = loaded.config.ingest.idle_after.max(slices);
    loaded.config.telemetry.log_level = "warn".to_owned();
    let telemetry = Telemetry::start(&loaded.config.telemetry)?;
    let outcome = show(&args, &loaded.config, seed).await;
    telemetry.stop().await;
    outcome
}

fn fresh_folder(seed: u64) -> PathBuf {
    std::env::temp_dir().join(format!("tidewatch-demo-{}-{seed:x}", std::process::id()))
}

async fn show(args: &Args, config: &crate::config::Config, seed: u64) -> anyhow::Result<ExitCode> {
    std::fs::create_dir_all(&config.data_dir)
        .with_context(|| format!("the data folder {} cannot be made", config.data_dir.display()))?;
    let start = SystemClock.now().minute();
    let clock = Arc::new(DemoClock::new(start.start(), args.speed));
    let profile = Profile::with_rate(args.rate)?;
    let feed_from = start.plus(-args.history.minutes_ceil());
    let history = Traffic::new(profile, seed)?.within(feed_from, start);
    let schedule = Schedule::from_seed(seed, start);
    let traffic = Traffic::new(profile, seed)?
        .with_incidents(schedule)
        .within(start, Minute::from_index(i64::MAX / 60_000_000 - 1));
    let board = Arc::new(Mutex::new(Scoreboard::new(start)));
    let screen = Arc::new(Screen::new(std::io::stdout().is_terminal()));
    let surroundings = Surroundings {
        clock: Arc::<DemoClock>::clone(&clock),
        disk: Arc::new(StdFs),
        on_seal: Some(on_seal(start, Arc::clone(&board), Arc::clone(&screen))),
        alert_log: Some(Box::new(
            std::fs::File::create(config.data_dir.join("alerts.jsonl")).context("the alert log cannot be made")?,
        )),
    };
    let running = Running::start(config, surroundings).await?;
    announce(args, config, &running, seed);
    let mut feed = Feed::new(traffic, Arc::clone(&running.front), Arc::clone(&clock));
    print!("Filling in {} of history … ", args.history);
    std::io::stdout().flush()?;
    let filled = feed.fill(history, feed_from, start).await?;
    println!("{filled} events.\n");
    screen.head();
    clock.go();
    let ended = drive(args, &mut feed).await;
    let through = clock.now();
    let incidents = feed.incidents(start, through.minute());
    running.stop().await?;
    ended?;
    Ok(conclude(args, &board, &incidents, start, through))
}

fn announce(args: &Args, config: &crate::config::Config, running: &Running, seed: u64) {
    println!("Tidewatch demo: simulated payments at {} times real time, seed {seed}", args.speed);
    println!("  live page   http://{}/", running.http);
    println!("  API         http://{}/api", running.http);
    println!("  metrics     http://{}/metrics", running.http);
    println!("  gRPC        {}", running.grpc);
    println!("  alerts      {}", config.data_dir.join("alerts.jsonl").display());
    println!("  ask it      tidewatch query \"SELECT * FROM payments_by_status ORDER BY minute DESC LIMIT 6\"");
    println!("Ctrl-C ends it.\n");
}

fn on_seal(start: Minute, board: Arc<Mutex<Scoreboard>>, screen: Arc<Screen>) -> OnSeal {
    Arc::new(move |sealed, core, transitions| {
        if sealed.minute < start {
            return;
        }
        screen.minute(sealed.minute, &core.snapshot());
        let mut board = board.lock().unwrap_or_else(PoisonError::into_inner);
        board.sealed(sealed.minute);
        for transition in transitions {
            screen.transition(transition);
            board.heard(transition);
        }
    })
}

/// Feeds events until the time is up or Ctrl-C.
async fn drive(args: &Args, feed: &mut Feed) -> anyhow::Result<()> {
    let until = async {
        match args.wall {
            Some(wall) => tokio::time::sleep(wall.to_std()).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(until);
    let mut every = tokio::time::interval(Duration::from_millis(50));
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = &mut until => return Ok(()),
            interrupted = tokio::signal::ctrl_c() => return Ok(interrupted?),
            _ = every.tick() => feed.send_due().await?,
        }
    }
}

fn conclude(
    args: &Args,
    board: &Mutex<Scoreboard>,
    incidents: &[Incident],
    start: Minute,
    through: EventTime,
) -> ExitCode {
    let board = board.lock().unwrap_or_else(PoisonError::into_inner);
    let result = board.result(incidents);
    println!("\n{} of simulated time, {} minutes judged", hours(through.since(start.start())), board.minutes());
    for (incident, caught) in &result.incidents {
        match caught {
            Some(by) => println!("  caught   {incident}  by {by}"),
            None => println!("  MISSED   {incident}"),
        }
    }
    for incident in &result.unfinished {
        println!("  (ended too late to be judged: {incident})");
    }
    for alert in &result.false_alerts {
        println!("  FALSE    {alert}");
    }
    println!(
        "{} of {} incidents caught, {} false alerts (at most {} allowed)",
        result.caught(),
        result.incidents.len(),
        result.false_alerts.len(),
        result.false_allowed
    );
    if args.exit_code && !result.passes() { ExitCode::from(ANSWER_IS_NO) } else { ExitCode::SUCCESS }
}

fn hours(span: Span) -> String {
    let minutes = span.seconds() / 60;
    format!("{} h {:02} min", minutes / 60, minutes % 60)
}
