//! The engine's start, on one page, and its stop in the mirror order. It gives the parts threads and sockets and decides
//! nothing.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    net::SocketAddr,
    sync::{Arc, mpsc},
    time::Duration,
};

use anyhow::Context;
use tidewatch_log::{DataFolderLock, FileSystem, Log};
use tidewatch_model::{Clock, Span};
use tidewatch_serve::{Edge, serve_grpc, serve_http};
use tidewatch_sinks::{DispatcherTask, LogSink, Receiver, Secret, TokioTimer, Webhook, WebhookConfig};
use tidewatch_views::{ViewFile, compile_stream, compile_view, name_clashes};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use crate::{
    config::{self, Config, ReceiverKind},
    core::Plan,
    front::Front,
    id_secret::id_key,
    parts::{Parts, Seams, Turns},
    pipeline::{Event, Inbox, OnSeal, Pipeline},
    telemetry::{self, MonotonicTicks, Stage},
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
    for file in &files {
        if file.path.starts_with("views/") {
            match compile_view(&stream, &file.name, &file.text) {
                Ok(view) => views.push(ViewFile { file: &file.name, text: &file.text, view: Arc::new(view) }),
                Err(refusal) => refusals.push(refusal.to_string()),
            }
        } else if file.path.starts_with("rules/") {
            rules.push((file.name.clone(), file.text.clone()));
        }
    }
    refusals.extend(name_clashes(&views).iter().map(ToString::to_string));
    let views = views.into_iter().map(|file| file.view).collect();
    if refusals.is_empty() { Ok(Plan { stream, views, rules }) } else { Err(Refusals(refusals).into()) }
}

/// Any number will do for a new log's id; the standard library draws its hasher's keys at random.
pub fn random_id() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn receivers(
    config: &Config,
    alert_log: Option<Box<dyn std::io::Write + Send>>,
) -> anyhow::Result<Vec<Arc<dyn Receiver>>> {
    let mut alert_log = alert_log;
    let mut receivers: Vec<Arc<dyn Receiver>> = Vec::new();
    for receiver in &config.receivers {
        receivers.push(match &receiver.kind {
            ReceiverKind::Log => {
                let writer = alert_log.take().unwrap_or_else(|| Box::new(std::io::stdout()));
                Arc::new(LogSink::to_writer(&receiver.name, writer))
            }
            ReceiverKind::Webhook(webhook) => Arc::new(Webhook::new(WebhookConfig {
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
        lock.announce(&http.to_string(), &grpc.to_string())?;
        let id_key = id_key(&config.data_dir)?;

        let seams = Seams {
            clock: Arc::clone(&surroundings.clock),
            ticks: Arc::new(MonotonicTicks::new()),
            disk: surroundings.disk,
            timer: Arc::new(TokioTimer),
            receivers: receivers(config, surroundings.alert_log)?,
            log_id: random_id(),
            on_seal: surroundings.on_seal,
            turns: Turns::Threads,
            planted: None,
        };
        let parts = {
            let (config, plan) = (config.clone(), plan);
            tokio::task::spawn_blocking(move || Parts::assemble(&config, &plan, seams))
        };
        let Parts { front, log, pipeline, events, inbox, dispatcher } = parts.await.context("recovery broke off")??;
        let pipeline = spawn_pipeline(pipeline, events)?;
        let (shutdown, stopping) = watch::channel(false);
        let engine: Arc<dyn tidewatch_serve::Engine> = Arc::<Front>::clone(&front);
        let metrics = Arc::clone(&front.metrics);
        let edge = Edge::new(engine, surroundings.clock, id_key)
            .metrics(move || metrics.render())
            .converting(converting(&front.metrics))
            .adopt(Arc::new(|span, context| telemetry::set_parent(span, &context.parent.to_string())));
        let servers = vec![
            serve("gRPC", serve_grpc(grpc_listener, edge.clone(), stopped(stopping.clone()))),
            serve("HTTP", serve_http(http_listener, edge, stopped(stopping))),
        ];
        let ticker = tokio::spawn(tick(inbox.clone()));
        Ok(Self { grpc, http, front, shutdown, servers, ticker, dispatcher, pipeline, inbox, log, _lock: lock })
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
        if !self.front.admission.drain(DRAIN_GRACE).await {
            tracing::warn!("some batches were still on their way into the views at the stop; the log has them");
        }
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

fn converting(metrics: &Arc<telemetry::Metrics>) -> tidewatch_serve::Timed {
    let metrics = Arc::clone(metrics);
    Arc::new(move || Box::new(telemetry::OwnedTimer::start(&metrics, Stage::Convert)))
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
