//! `Parts`: the engine put together over its seams, before anything runs by itself. `app` gives the parts threads and
//! sockets; the simulation gives them their turns one at a time.

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use tidewatch_alerts::{OutboxEvent, RetryPolicy, Route, Routing, SeverityMatch};
use tidewatch_log::{Commit, Contained, FileSystem, Log, LogConfig, LogError, Observer, Writer};
use tidewatch_model::Clock;
use tidewatch_query::QueryLimits;
use tidewatch_rules::RuleLimits;
use tidewatch_sinks::{Dispatcher, DispatcherTask, Receiver, Timer};
use tidewatch_store::Folder;
use tokio::sync::Semaphore;

use crate::{
    admission::Admission,
    backups::Backups,
    checkpoint::{Checkpointer, Checkpoints, Worker},
    condition::Condition,
    config::{self, Config, Severities},
    core::{CoreLimits, Plan},
    front::Front,
    owed::Owed,
    pipeline::{Event, Inbox, OnSeal, Pipeline, inbox},
    planted::Planted,
    published::{Board, Published},
    quarantine::Quarantine,
    recovery,
    telemetry::{self, Metrics, Stage, Ticks},
};

/// What the engine reaches the world through.
pub struct Seams {
    pub clock: Arc<dyn Clock>,
    pub ticks: Arc<dyn Ticks>,
    /// Under the log and the store.
    pub disk: Arc<dyn FileSystem>,
    /// What the dispatcher waits by.
    pub timer: Arc<dyn Timer>,
    /// Those that the configuration names.
    pub receivers: Vec<Arc<dyn Receiver>>,
    /// The id of a log that is begun; one that is there keeps its own.
    pub log_id: u64,
    pub on_seal: Option<OnSeal>,
    pub turns: Turns,
    /// Only ever by the simulation.
    pub planted: Option<Planted>,
}

/// Who gives the log and the checkpoints their turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turns {
    /// A thread each.
    Threads,
    /// Whoever calls `Log::step` and `Checkpointer::step`.
    Steps,
}

pub struct Parts {
    pub front: Arc<Front>,
    pub log: Arc<Log>,
    /// Takes the `events`, one after the other, on whichever thread.
    pub pipeline: Pipeline,
    pub events: mpsc::Receiver<Event>,
    pub inbox: Inbox,
    pub dispatcher: DispatcherTask,
}

impl Parts {
    /// Recovers what is on disk and wires everything up. Reads much and waits for the disk; must be called within a
    /// tokio runtime, which runs the dispatcher.
    pub fn assemble(config: &Config, plan: &Plan, seams: Seams) -> anyhow::Result<Self> {
        let Seams { clock, ticks, disk, timer, receivers, log_id, on_seal, turns, planted } = seams;
        let started_at = clock.now();
        let metrics = Arc::new(Metrics::new(started_at, Arc::clone(&ticks)));
        let condition = Arc::new(Condition::new(Arc::clone(&metrics)));
        let log_dir = config.data_dir.join("log");
        let (folder, _) = Folder::open(Arc::clone(&disk), &config.data_dir.join("store"))?;
        let manifest = folder.manifest();
        folder.is_written_here(manifest.version)?;
        recovery::report(folder.findings());
        let in_checkpoint = manifest.applied;
        let pins = folder.pins().clone();
        let log_config = LogConfig {
            durability: durability(config.log.durability),
            segment_bytes: config.log.segment_bytes,
            contained: Contained {
                log_id: (!manifest.is_blank()).then_some(manifest.log_id),
                before: in_checkpoint.next(),
            },
            ..LogConfig::new(log_id)
        };
        let (writer, found) = Writer::open(Arc::clone(&disk), &log_dir, &log_config)?;
        if let Some(cut) = &found.cut {
            tracing::warn!(file = %cut.file.display(), bytes = cut.bytes, reason = cut.reason,
                "the end of the log was torn by a crash and was cut; nothing acknowledged was in it");
        }
        let quarantine = Quarantine::new(Arc::clone(&disk), &config.data_dir, Arc::clone(&clock));
        let (id, first, last, lost) = (found.log_id, found.first, found.last(), found.lost);
        let found = recovery::Found { disk, dir: log_dir, id, first, last, lost };
        let mut recovered = recovery::recover(plan, core_limits(config), retry(config), &folder, &found, &quarantine)?;
        if planted == Some(Planted::ForgetOwed) {
            recovered.owed = Owed::default();
        }
        planted.into_iter().for_each(|bug| recovered.core.plant(bug));
        for broken in recovered.core.rules().broken() {
            tracing::error!(%broken, "a rule does not run; the others do");
        }
        let checkpoints = Checkpoints::new(folder, found.id, &plan.views, recovered.cold.clone())?
            .with_disk_bytes_max(config.store.disk_bytes_max.bytes());

        let watch = LogWatch { metrics: Arc::clone(&metrics), condition: Arc::clone(&condition), ticks };
        let log = Arc::new(match turns {
            Turns::Threads => Log::start(writer, Arc::new(watch))?,
            Turns::Steps => Log::stepped(writer, Arc::new(watch)),
        });
        let (its_log, its_metrics, its_condition) = (Arc::clone(&log), Arc::clone(&metrics), Arc::clone(&condition));
        let worker = Worker::new(checkpoints, its_log, its_metrics, its_condition, quarantine);
        let checkpoints = match turns {
            Turns::Threads => Checkpointer::start(worker)?,
            Turns::Steps => Checkpointer::stepped(worker),
        };
        recovered.core.measure(Arc::clone(&metrics));
        let (inbox, events) = inbox();
        let (deliveries, delivered) = (inbox.clone(), Arc::clone(&metrics));
        let (dispatcher, dispatcher_task) = Dispatcher::start(
            recovered.deliveries.clone(),
            receivers,
            Arc::clone(&clock),
            timer,
            Arc::new(move |news| {
                count_deliveries(&delivered, &news);
                if !deliveries.offer(Event::Deliveries(news)) {
                    tracing::warn!(
                        "news of deliveries could not be journalled; after a restart they may be made again"
                    );
                }
            }),
            delivering(&metrics),
        )?;
        let board = Arc::new(Board::new(Published::of(&recovered.core)));
        let rules = Arc::clone(recovered.core.rules());
        let mut pipeline = Pipeline {
            condition: Arc::clone(&condition),
            checkpoints,
            checkpoint_interval: config.store.checkpoint_interval,
            checkpoint_events: config.store.checkpoint_events,
            checkpointed: (started_at, in_checkpoint),
            unsaved_events: 0,
            core: recovered.core,
            log: Arc::clone(&log),
            inbox: inbox.clone(),
            board: Arc::clone(&board),
            metrics: Arc::clone(&metrics),
            clock: Arc::clone(&clock),
            idle_after: config.ingest.idle_after,
            routing: routing(config)?,
            dispatcher,
            owed: recovered.owed,
            journals: Arc::default(),
            deliveries: recovered.deliveries,
            on_seal,
            advancing: 0,
        };
        pipeline.resume();

        let backups = Backups {
            disk: found.disk,
            data_dir: config.data_dir.clone(),
            pins,
            log: Arc::clone(&log),
            log_id: found.id,
            clock: Arc::clone(&clock),
            at_once: Arc::new(Semaphore::new(1)),
        };
        let front = Arc::new(Front {
            schema: Arc::clone(&plan.stream.schema),
            log: Arc::clone(&log),
            inbox: inbox.clone(),
            board,
            metrics,
            condition,
            clock,
            rules,
            rule_limits: rule_limits(config),
            query_limits: QueryLimits {
                memory_bytes: usize::try_from(config.query.memory.bytes()).unwrap_or(usize::MAX),
                time: config.query.timeout.to_std(),
                rows: config.query.rows_max,
            },
            admission: Admission::new(config.ingest.max_in_flight_events, config.ingest.admission_wait.to_std()),
            queries: Arc::new(Semaphore::new(config.query.concurrency)),
            questions: Front::questions(),
            partitions: config.log.partitions,
            sessions: std::sync::Mutex::default(),
            started_at,
            backups,
        });
        Ok(Self { front, log, pipeline, events, inbox, dispatcher: dispatcher_task })
    }
}

pub fn core_limits(config: &Config) -> CoreLimits {
    CoreLimits {
        ids_max: config.dedup_ids_max,
        head_bytes_max: usize::try_from(config.store.head_bytes_max.bytes()).unwrap_or(usize::MAX),
        cache_bytes_max: usize::try_from(config.store.cache_bytes_max.bytes()).unwrap_or(usize::MAX),
        raw_bytes_max: usize::try_from(config.store.raw_bytes_max.bytes()).unwrap_or(usize::MAX),
        raw_retention: config.store.raw_retention,
        ledger_retention: config.store.ledger_retention,
        rules: rule_limits(config),
    }
}

fn rule_limits(config: &Config) -> RuleLimits {
    RuleLimits {
        memory_bytes: usize::try_from(config.rules.memory.bytes()).unwrap_or(usize::MAX),
        time: config.rules.timeout.to_std(),
    }
}

fn retry(config: &Config) -> RetryPolicy {
    RetryPolicy {
        first: config.retry.first,
        longest: config.retry.longest,
        max_attempts: config.retry.attempts_max,
        max_age: config.retry.retry_for,
    }
}

struct LogWatch {
    metrics: Arc<Metrics>,
    condition: Arc<Condition>,
    ticks: Arc<dyn Ticks>,
}

impl Observer for LogWatch {
    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.ticks.nanos())
    }

    fn committed(&self, commit: &Commit) {
        self.condition.log_wrote();
        self.metrics.logged(commit.bytes as u64);
        self.metrics.took(Stage::LogAppend, commit.write);
        if commit.synced {
            self.metrics.fsynced();
            self.metrics.took(Stage::Fsync, commit.sync);
        }
    }

    fn failed(&self, error: &LogError) {
        self.condition.log_failed(error);
    }
}

fn durability(durability: config::Durability) -> tidewatch_log::Durability {
    match durability {
        config::Durability::Fsync => tidewatch_log::Durability::Fsync,
        config::Durability::Os => tidewatch_log::Durability::Os,
        config::Durability::Memory => tidewatch_log::Durability::Memory,
    }
}

fn routing(config: &Config) -> anyhow::Result<Routing> {
    let routes = config.routes.iter().map(|route| Route {
        severity: match &route.severities {
            Severities::AtLeast(severity) => SeverityMatch::AtLeast(*severity),
            Severities::Exactly(severities) => SeverityMatch::Exactly(severities.clone()),
        },
        labels: route.labels.clone(),
        receivers: route.receivers.clone(),
    });
    let names = config.receivers.iter().map(|receiver| receiver.name.clone()).collect();
    Ok(Routing::new(routes.collect(), &names)?)
}

fn delivering(metrics: &Arc<Metrics>) -> tidewatch_sinks::Timed {
    let metrics = Arc::clone(metrics);
    Arc::new(move || Box::new(telemetry::OwnedTimer::start(&metrics, Stage::Deliver)))
}

fn count_deliveries(metrics: &Metrics, news: &[OutboxEvent]) {
    for event in news {
        match event {
            OutboxEvent::Delivered { id, .. } => metrics.delivery(&id.receiver, telemetry::Delivery::Delivered),
            OutboxEvent::Failed { id, .. } => metrics.delivery(&id.receiver, telemetry::Delivery::Retried),
            OutboxEvent::Dead { id, .. } => metrics.delivery(&id.receiver, telemetry::Delivery::Dead),
            OutboxEvent::Enqueued { .. } | OutboxEvent::Resent { .. } => {}
        }
    }
}
