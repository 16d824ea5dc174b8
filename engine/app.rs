//! The engine's start, on one page, and its stop in the mirror order. It wires parts together and decides nothing.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    net::SocketAddr,
    sync::{Arc, mpsc},
    time::Duration,
};

use anyhow::Context;
use tidewatch_alerts::{RetryPolicy, Route, Routing, SeverityMatch};
use tidewatch_log::{Commit, DataFolderLock, FileSystem, Log, LogConfig, LogError, Observer, Writer};
use tidewatch_model::{Clock, Span};
use tidewatch_query::QueryLimits;
use tidewatch_rules::RuleLimits;
use tidewatch_serve::{Edge, serve_grpc, serve_http};
use tidewatch_sinks::{Dispatcher, DispatcherTask, LogSink, Receiver, Secret, TokioTimer, Webhook, WebhookConfig};
use tidewatch_store::Folder;
use tidewatch_views::{compile_stream, compile_view};
use tokio::{net::TcpListener, sync::Semaphore, sync::watch, task::JoinHandle};

use crate::{
    checkpoint::{CheckpointThread, Checkpoints},
    condition::Condition,
    config::{self, Config, ReceiverKind, Severities},
    core::{CoreLimits, Plan},
    front::Front,
    id_secret::id_key,
    pipeline::{Event, Inbox, OnSeal, Pipeline, inbox},
    published::{Board, Published},
    recovery,
    telemetry::{self, Metrics, MonotonicTicks, Stage, Ticks},
};

/// How often the clock is looked at for silent partitions.
const TICK: Duration = Duration::from_millis(250);

/// How long a stop lets deliveries in flight end.
const DELIVERY_GRACE: Span = Span::from_seconds(5);

/// How long a stop waits for admitted batches to reach the views.
const DRAIN_GRACE: Duration = Duration::from_secs(30);

/// What the caller of the engine brings.
pub struct Surroundings {
    pub clock: Arc<dyn Clock>,
    /// Under the log and the store.
    pub disk: Arc<dyn FileSystem>,
    pub on_seal: Option<OnSeal>,
    /// Where the built-in receiver `log` writes; standard output where none is given.
    pub alert_log: Option<Box<dyn std::io::Write + Send>>,
}

/// The running engine.
pub struct Running {
    pub grpc: SocketAddr,
    pub http: SocketAddr,
    pub front: Arc<Front>,
    shutdown: watch::Sender<bool>,
    servers: Vec<JoinHandle<()>>,
    ticker: JoinHandle<()>,
    dispatcher: DispatcherTask,
    pipeline: std::thread::JoinHandle<()>,
    inbox: Inbox,
    log: Arc<Log>,
    _lock: DataFolderLock,
}

/// Streams and views that cannot be used: `file:line: reason`, one each. They are wrong input, like a wrong setting.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Refusals(pub Vec<String>);

/// Compiles the configured files. Every refusal is listed; rules that are broken are reported and left out later.
pub fn plan(config: &Config) -> anyhow::Result<Plan> {
    let files = config::queries::load(&config.queries)?;
    let mut streams = Vec::new();
    let mut views = Vec::new();
    let mut rules = Vec::new();
    let mut refusals = Vec::new();
    for file in &files {
        if file.path.starts_with("streams/") {
            match compile_stream(&file.name, &file.text) {
                Ok(stream) => streams.push(stream),
                Err(refusal) => refusals.push(refusal.to_string()),
            }
        }
    }
    let stream = match (streams.as_slice(), refusals.is_empty()) {
        ([stream], true) if stream.schema.name() == "transactions" => stream.clone(),
        (_, false) => return Err(Refusals(refusals).into()),
        _ => {
            let reason =
                "the folder `streams` must hold exactly one stream, `transactions`; this version takes in no other";
            return Err(Refusals(vec![reason.to_owned()]).into());
        }
    };
    for file in files {
        if file.path.starts_with("views/") {
            match compile_view(&stream, &file.name, &file.text) {
                Ok(view) => views.push(Arc::new(view)),
                Err(refusal) => refusals.push(refusal.to_string()),
            }
        } else if file.path.starts_with("rules/") {
            rules.push((file.name, file.text));
        }
    }
    for (at, view) in views.iter().enumerate() {
        if views.iter().skip(at + 1).any(|other| other.meta.name == view.meta.name) {
            refusals.push(format!("two files define the view `{}`", view.meta.name));
        }
    }
    if refusals.is_empty() { Ok(Plan { stream, views, rules }) } else { Err(Refusals(refusals).into()) }
}

pub fn core_limits(config: &Config) -> CoreLimits {
    CoreLimits {
        ids_max: config.dedup_ids_max,
        head_bytes_max: usize::try_from(config.store.head_bytes_max.bytes()).unwrap_or(usize::MAX),
        cache_bytes_max: usize::try_from(config.store.cache_bytes_max.bytes()).unwrap_or(usize::MAX),
        raw_bytes_max: usize::try_from(config.store.raw_bytes_max.bytes()).unwrap_or(usize::MAX),
        rules: rule_limits(config),
    }
}

fn rule_limits(config: &Config) -> RuleLimits {
    RuleLimits {
        memory_bytes: usize::try_from(config.rules.memory.bytes()).unwrap_or(usize::MAX),
        time: config.rules.timeout.to_std(),
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

/// Any number will do for a new log's id; the standard library draws its hasher's keys at random.
pub fn random_id() -> u64 {
    RandomState::new().build_hasher().finish()
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

fn receivers(config: &Config, alert_log: Option<Box<dyn std::io::Write + Send>>) -> anyhow::Result<Vec<Receiver>> {
    let mut alert_log = alert_log;
    let mut receivers = Vec::new();
    for receiver in &config.receivers {
        receivers.push(match &receiver.kind {
            ReceiverKind::Log => {
                let writer = alert_log.take().unwrap_or_else(|| Box::new(std::io::stdout()));
                Receiver::Log(LogSink::to_writer(&receiver.name, writer))
            }
            ReceiverKind::Webhook(webhook) => Receiver::Webhook(Webhook::new(WebhookConfig {
                name: receiver.name.clone(),
                url: Secret::new(webhook.url.expose()),
                headers: webhook
                    .headers
                    .iter()
                    .map(|(name, value)| (name.clone(), Secret::new(value.expose())))
                    .collect(),
                timeout: webhook.timeout,
                generator_url: Some(format!("http://{}/", config.http_address)),
            })?),
        });
    }
    Ok(receivers)
}

async fn listen(address: SocketAddr, key: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen at {address}; stop what is using it, or set `{key}` to another address")
    })
}

impl Running {
    /// Starts everything; when this returns, requests are served.
    pub async fn start(config: &Config, surroundings: Surroundings) -> anyhow::Result<Self> {
        let plan = plan(config)?;
        let mut lock = DataFolderLock::acquire(&config.data_dir)?;
        let grpc_listener = listen(config.grpc_address, "grpc.address").await?;
        let http_listener = listen(config.http_address, "http.address").await?;
        let (grpc, http) = (grpc_listener.local_addr()?, http_listener.local_addr()?);
        lock.announce(&http.to_string())?;
        let id_key = id_key(&config.data_dir)?;

        let ticks: Arc<dyn Ticks> = Arc::new(MonotonicTicks::new());
        let started_at = surroundings.clock.now();
        let metrics = Arc::new(Metrics::new(started_at, Arc::clone(&ticks)));
        let condition = Arc::new(Condition::new(Arc::clone(&metrics)));
        let disk = surroundings.disk;
        let log_dir = config.data_dir.join("log");
        let (folder, _) = Folder::open(Arc::clone(&disk), &config.data_dir.join("store"))?;
        recovery::report(folder.findings());
        let in_checkpoint = folder.manifest().applied;
        let log_config = LogConfig {
            durability: durability(config.log.durability),
            segment_bytes: config.log.segment_bytes,
            verify_from: folder.manifest().applied.next(),
            ..LogConfig::new(random_id())
        };
        let (writer, found) = Writer::open(Arc::clone(&disk), &log_dir, &log_config)?;
        if let Some(cut) = &found.cut {
            tracing::warn!(file = %cut.file.display(), bytes = cut.bytes, reason = cut.reason,
                "the end of the log was torn by a crash and was cut; nothing acknowledged was in it");
        }
        let retry = RetryPolicy {
            first: config.retry.first,
            longest: config.retry.longest,
            max_attempts: config.retry.attempts_max,
            max_age: config.retry.retry_for,
        };
        let recovering = {
            let (plan, limits) = (plan.clone(), core_limits(config));
            let log = recovery::Found { disk, dir: log_dir, id: found.log_id, first: found.first, last: found.last() };
            tokio::task::spawn_blocking(move || {
                let recovered = recovery::recover(&plan, limits, retry, &folder, &log)?;
                let checkpoints = Checkpoints::new(folder, log.id, &plan.views, recovered.cold.clone())?;
                anyhow::Ok((recovered, checkpoints))
            })
        };
        let (mut recovered, checkpoints) = recovering.await.context("recovery broke off")??;
        for broken in recovered.core.rules().broken() {
            tracing::error!(%broken, "a rule does not run; the others do");
        }

        let watch = LogWatch { metrics: Arc::clone(&metrics), condition: Arc::clone(&condition), ticks };
        let log = Arc::new(Log::start(writer, Arc::new(watch))?);
        let checkpoints =
            CheckpointThread::start(checkpoints, Arc::clone(&log), Arc::clone(&metrics), Arc::clone(&condition))?;
        recovered.core.measure(Arc::clone(&metrics));
        let (inbox, events) = inbox(config.ingest.max_in_flight_batches);
        let deliveries = inbox.clone();
        let delivered = Arc::clone(&metrics);
        let (dispatcher, dispatcher_task) = Dispatcher::start(
            recovered.deliveries.clone(),
            receivers(config, surroundings.alert_log)?,
            Arc::clone(&surroundings.clock),
            Arc::new(TokioTimer),
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
            checkpointed: (started_at, in_checkpoint),
            core: recovered.core,
            log: Arc::clone(&log),
            inbox: inbox.clone(),
            board: Arc::clone(&board),
            metrics: Arc::clone(&metrics),
            clock: Arc::clone(&surroundings.clock),
            idle_after: config.ingest.idle_after,
            routing: routing(config)?,
            dispatcher,
            owed: recovered.owed,
            journals: Arc::default(),
            deliveries: recovered.deliveries,
            on_seal: surroundings.on_seal,
            advancing: 0,
        };
        pipeline.resume();
        let pipeline = spawn_pipeline(pipeline, events)?;

        let front = Arc::new(Front {
            schema: Arc::clone(&plan.stream.schema),
            log: Arc::clone(&log),
            inbox: inbox.clone(),
            board,
            metrics: Arc::clone(&metrics),
            condition,
            clock: Arc::clone(&surroundings.clock),
            rules,
            rule_limits: rule_limits(config),
            query_limits: QueryLimits {
                memory_bytes: usize::try_from(config.query.memory.bytes()).unwrap_or(usize::MAX),
                time: config.query.timeout.to_std(),
                rows: config.query.rows_max,
            },
            admission: Arc::new(Semaphore::new(config.ingest.max_in_flight_batches)),
            admitted_max: config.ingest.max_in_flight_batches,
            admission_wait: config.ingest.admission_wait.to_std(),
            queries: Arc::new(Semaphore::new(config.query.concurrency)),
            questions: Front::questions(),
            partitions: config.log.partitions,
            sessions: std::sync::Mutex::default(),
            started_at,
        });
        let (shutdown, stopping) = watch::channel(false);
        let engine: Arc<dyn tidewatch_serve::Engine> = Arc::<Front>::clone(&front);
        let edge = Edge::new(engine, surroundings.clock, id_key)
            .metrics(move || metrics.render())
            .converting(converting(&front.metrics))
            .adopt(Arc::new(|span, context| telemetry::set_parent(span, &context.parent.to_string())));
        let servers = vec![
            serve("gRPC", serve_grpc(grpc_listener, edge.clone(), stopped(stopping.clone()))),
            serve("HTTP", serve_http(http_listener, edge, stopped(stopping))),
        ];
        let ticker = tokio::spawn(tick(inbox.clone()));
        Ok(Self {
            grpc,
            http,
            front,
            shutdown,
            servers,
            ticker,
            dispatcher: dispatcher_task,
            pipeline,
            inbox,
            log,
            _lock: lock,
        })
    }

    /// Stops in the mirror order of the start. What was acknowledged is in the log and in the journals.
    pub async fn stop(self) -> anyhow::Result<()> {
        // Servers that ended by themselves need no telling.
        let _ = self.shutdown.send(true);
        for server in self.servers {
            if let Err(error) = server.await {
                tracing::error!(%error, "a server ended abnormally");
            }
        }
        self.ticker.abort();
        drain(&self.front.admission, self.front.admitted_max).await;
        self.front.admission.close();
        self.dispatcher.stop(DELIVERY_GRACE).await;
        self.inbox.put(Event::Stop);
        let pipeline = self.pipeline;
        if tokio::task::spawn_blocking(move || pipeline.join()).await.is_err() {
            tracing::error!("the pipeline ended abnormally");
        }
        let log = self.log;
        tokio::task::spawn_blocking(move || log.close()).await??;
        Ok(())
    }
}

/// Waits until every admitted batch is in the views: then all permits are back.
async fn drain(admission: &Semaphore, admitted_max: usize) {
    let all = u32::try_from(admitted_max).unwrap_or(u32::MAX);
    if !matches!(tokio::time::timeout(DRAIN_GRACE, admission.acquire_many(all)).await, Ok(Ok(_))) {
        tracing::warn!("some batches were still on their way into the views at the stop; the log has them");
    }
}

fn spawn_pipeline(pipeline: Pipeline, events: mpsc::Receiver<Event>) -> std::io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new().name("pipeline".to_owned()).spawn(move || pipeline.run(&events))
}

fn serve(
    name: &'static str,
    serving: impl Future<Output = Result<(), tidewatch_serve::ServeError>> + Send + 'static,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        if let Err(error) = serving.await {
            tracing::error!(%error, "the {name} server ended");
        }
    })
}

async fn stopped(mut stopping: watch::Receiver<bool>) {
    // The sender's end is the end of the engine, too.
    let _ = stopping.wait_for(|stop| *stop).await;
}

fn converting(metrics: &Arc<Metrics>) -> tidewatch_serve::Timed {
    let metrics = Arc::clone(metrics);
    Arc::new(move || Box::new(telemetry::OwnedTimer::start(&metrics, Stage::Convert)))
}

fn delivering(metrics: &Arc<Metrics>) -> tidewatch_sinks::Timed {
    let metrics = Arc::clone(metrics);
    Arc::new(move || Box::new(telemetry::OwnedTimer::start(&metrics, Stage::Deliver)))
}

async fn tick(inbox: Inbox) {
    let mut every = tokio::time::interval(TICK);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        every.tick().await;
        // A pipeline that is busy has no need of the clock.
        inbox.offer(Event::Tick);
    }
}

fn count_deliveries(metrics: &Metrics, news: &[tidewatch_alerts::OutboxEvent]) {
    use tidewatch_alerts::OutboxEvent;
    for event in news {
        match event {
            OutboxEvent::Delivered { id, .. } => metrics.delivery(&id.receiver, telemetry::Delivery::Delivered),
            OutboxEvent::Failed { id, .. } => metrics.delivery(&id.receiver, telemetry::Delivery::Retried),
            OutboxEvent::Dead { id, .. } => metrics.delivery(&id.receiver, telemetry::Delivery::Dead),
            OutboxEvent::Enqueued { .. } | OutboxEvent::Resent { .. } => {}
        }
    }
}
