//! The deterministic simulation: the whole engine (log, views, store, rules, alerts, outbox) in one thread, over a disk,
//! clock and receivers that fail as the seed says, with a model of what clients were told beside it. The same seed does
//! the same; a failure is replayed by its seed.

mod checker;
mod clients;
mod coverage;
mod disk;
mod many;
mod network;
mod queries;
mod timer;
mod world;

use std::{fmt, sync::Arc};

use anyhow::{Context, bail, ensure};
use futures::{FutureExt, future::BoxFuture};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tidewatch_log::Fault;
use tidewatch_model::{SessionId, Span};
use tidewatch_serve::{
    Engine as _,
    engine::{Refusal, SessionRequest},
};

pub use coverage::Coverage;
pub use many::run_many;

use crate::{pipeline::Event, planted::Planted};
use checker::{Checker, check_damaged};
use clients::{Clients, Kind, Session, Wish};
use world::World;

/// Lines of the trace that a failure shows.
const TRACE_SHOWN: usize = 25;

/// Rounds within which everything must come to rest once nothing fails any more.
const ROUNDS_TO_REST: usize = 600;

/// What a case met, and what it did.
#[derive(Debug)]
pub struct Report {
    pub met: Coverage,
    pub trace: Vec<String>,
}

/// What is wrong, and how to see it again.
#[derive(Debug)]
pub struct Failure {
    pub seed: u64,
    pub reason: String,
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {} fails: {}", self.seed, self.reason)?;
        let from = self.trace.len().saturating_sub(TRACE_SHOWN);
        if from > 0 {
            writeln!(f, "  … {from} actions before")?;
        }
        self.trace.iter().skip(from).try_for_each(|line| writeln!(f, "  {line}"))
    }
}

impl std::error::Error for Failure {}

/// Runs the case of a seed.
///
/// # Errors
/// The engine broke a promise; or it does not do the same for the same seed, which is as bad.
pub fn run(seed: u64, planted: Option<Planted>) -> Result<Report, Failure> {
    let failure = |error: anyhow::Error, trace| Failure { seed, reason: format!("{error:#}"), trace };
    let mut case = Case::new(seed, planted).map_err(|error| failure(error, Vec::new()))?;
    match case.run() {
        Ok(()) => Ok(Report { met: case.met, trace: case.trace }),
        Err(error) => Err(failure(error, case.trace)),
    }
}

/// A request that was not answered yet.
struct Request {
    client: usize,
    answer: BoxFuture<'static, Answer>,
}

enum Answer {
    /// These events are in the log.
    Taken(Vec<usize>),
    Refused(Vec<usize>, Refusal),
    Opened(Result<SessionId, Refusal>),
    Ended(Result<(), Refusal>),
}

struct Case {
    rng: StdRng,
    world: World,
    clients: Clients,
    checker: Checker,
    requests: Vec<Request>,
    actions: usize,
    /// Whether a bit of the disk is flipped at the end.
    flips: bool,
    met: Coverage,
    trace: Vec<String>,
}

impl Case {
    fn new(seed: u64, planted: Option<Planted>) -> anyhow::Result<Self> {
        let mut rng = StdRng::seed_from_u64(seed);
        let world = World::new(&mut rng, planted)?;
        let clients = Clients::random(&mut rng, world.time.now());
        let actions = rng.random_range(100..500);
        let flips = rng.random_bool(0.1);
        let met = Coverage { cases: 1, ..Coverage::default() };
        Ok(Self {
            rng,
            world,
            clients,
            checker: Checker::default(),
            requests: Vec::new(),
            actions,
            flips,
            met,
            trace: Vec::new(),
        })
    }

    fn run(&mut self) -> anyhow::Result<()> {
        self.start()?;
        for _ in 0..self.actions {
            self.act()?;
            self.met.actions += 1;
            self.hear();
            if self.world.disk.is_halted() {
                self.met.crashes_amid += 1;
                self.crash("the power fails in the middle of it")?;
            } else if let Err(reason) = self.world.engine()?.parts.front.ready() {
                // An operator restarts what says that it must be restarted.
                self.met.stopped_for_good += 1;
                self.kill(&format!("restarted, because {reason}"))?;
            }
        }
        self.rest()?;
        self.stop()?;
        self.check("after a stop")?;
        self.crash("the power fails at rest")?;
        self.rest()?;
        let (attempts, again, refused) = self.world.network.counts();
        self.met.deliveries += attempts;
        self.met.delivered_again += again;
        self.met.refused_alerts += refused;
        self.met.events += self.clients.events.len() as u64;
        self.met.counted += self.clients.events.iter().filter(|event| !event.ancient).count() as u64;
        self.met.late += self.clients.events.iter().filter(|event| event.ancient).count() as u64;
        self.met.operations += self.world.disk.operations();
        if self.flips { self.flip() } else { Ok(()) }
    }

    fn note(&mut self, what: impl fmt::Display) {
        let line = format!("{} op {:>5}: {what}", self.world.time.now(), self.world.disk.operations());
        self.trace.push(line);
    }

    /// One thing happens.
    fn act(&mut self) -> anyhow::Result<()> {
        match self.rng.random_range(0..1_000) {
            0..300 => self.client()?,
            300..480 => {
                self.world.engine()?.parts.log.step();
                self.note("the log commits");
            }
            480..640 => self.handle()?,
            640..780 => self.pass()?,
            780..860 => {
                let wrote = self.world.engine()?.parts.pipeline.checkpoints.step();
                self.met.checkpoints += u64::from(wrote);
                self.note(format_args!("a turn for the checkpoints: {wrote}"));
            }
            860..940 => {
                self.world.engine()?.run_tasks();
                self.note("a turn for the deliveries");
            }
            940..955 => {
                let mood = self.world.change_mood(&mut self.rng);
                self.note(mood);
            }
            955..962 => {
                let full = self.rng.random_bool(0.5);
                self.met.full += u64::from(full);
                self.world.disk.set_full(full);
                self.note(format_args!("the disk is full: {full}"));
            }
            962..968 => {
                let nth = self.rng.random_range(1..20);
                self.met.errors += 1;
                self.world.disk.fail(nth, Fault::Device);
                self.note(format_args!("operation {nth} from now will fail"));
            }
            968..976 => {
                let nth = self.rng.random_range(1..40);
                self.world.disk.fail(nth, Fault::Halt);
                self.note(format_args!("the power will fail at operation {nth} from now"));
            }
            976..980 => self.crash("the power fails")?,
            980..984 => self.kill("killed")?,
            984..986 => self.stop()?,
            986..990 => {
                let seconds = *[-600, -30, 30, 300, 900].get(self.rng.random_range(0..5)).unwrap_or(&0);
                self.met.jumps += 1;
                self.world.time.jump(self.world.time.now().plus(Span::from_seconds(seconds)));
                self.note(format_args!("the clock was set by {seconds} s"));
            }
            _ => self.check("at random")?,
        }
        Ok(())
    }

    fn pass(&mut self) -> anyhow::Result<()> {
        let span = Span::from_micros(self.rng.random_range(100_000..12_000_000));
        self.world.time.pass(span);
        self.world.engine()?.parts.inbox.offer(Event::Tick);
        self.note("time passes");
        Ok(())
    }

    fn handle(&mut self) -> anyhow::Result<()> {
        let most = self.rng.random_range(1..6);
        let engine = self.world.engine()?;
        let mut handled = 0;
        while handled < most
            && let Ok(event) = engine.parts.events.try_recv()
        {
            engine.parts.pipeline.handle(event);
            handled += 1;
        }
        self.note(format_args!("the pipeline handles {handled}"));
        Ok(())
    }

    fn client(&mut self) -> anyhow::Result<()> {
        let at = self.rng.random_range(0..self.clients.all.len());
        self.ask_client(at, true)
    }

    /// Lets a client do what it wants to.
    fn ask_client(&mut self, at: usize, new: bool) -> anyhow::Result<()> {
        let now = self.world.time.now();
        let front = Arc::clone(&self.world.engine()?.parts.front);
        let schema = Arc::clone(front.schema.arrow());
        let Some(wish) = self.clients.wish(&mut self.rng, at, now, &schema, new)? else { return Ok(()) };
        let answer: BoxFuture<'static, Answer> = match wish {
            Wish::Open { name } => {
                self.note(format_args!("client {at} opens {name}"));
                let request = SessionRequest { name, lateness: None, notify: false };
                Box::pin(async move { Answer::Opened(front.open_session(request).await.map(|opened| opened.session)) })
            }
            Wish::End(session) => {
                self.note(format_args!("client {at} ends its session"));
                Box::pin(async move { Answer::Ended(front.end_session(session).await.map(|_| ())) })
            }
            Wish::Send(submission, events) => {
                self.note(format_args!("client {at} sends {events:?}"));
                Box::pin(async move {
                    let receipt = match front.submit(submission).await {
                        Ok(acknowledgement) => acknowledgement.await,
                        Err(refusal) => Err(refusal),
                    };
                    match receipt {
                        Ok(_) => Answer::Taken(events),
                        Err(refusal) => Answer::Refused(events, refusal),
                    }
                })
            }
        };
        if let Some(client) = self.clients.all.get_mut(at) {
            client.asking = !matches!(client.kind, Kind::Named | Kind::Numbered { .. });
        }
        self.requests.push(Request { client: at, answer });
        self.hear();
        Ok(())
    }

    /// Clients hear the answers that there are.
    fn hear(&mut self) {
        let Ok(engine) = self.world.engine() else { return };
        let mut heard = Vec::new();
        {
            let _runtime = engine.runtime.enter();
            self.requests.retain_mut(|request| match (&mut request.answer).now_or_never() {
                Some(answer) => {
                    heard.push((request.client, answer));
                    false
                }
                None => true,
            });
        }
        for (client, answer) in heard {
            self.answer(client, answer);
        }
    }

    fn answer(&mut self, at: usize, answer: Answer) {
        match answer {
            Answer::Taken(events) => {
                self.note(format_args!("client {at} hears that {events:?} are taken"));
                self.met.repeated += self.clients.acknowledged(at, &events);
            }
            Answer::Refused(events, refusal) => {
                self.met.refusals += 1;
                self.note(format_args!("client {at} hears that {events:?} are refused: {refusal}"));
                self.clients.refused(at, &events);
            }
            Answer::Opened(opened) => self.session(at, opened.map_or(Session::Closed, Session::Open)),
            Answer::Ended(Ok(())) => {
                self.met.sessions += 1;
                self.session(at, Session::Over);
            }
            // It asks again.
            Answer::Ended(Err(_)) => {}
        }
        if let Some(client) = self.clients.all.get_mut(at) {
            client.asking = false;
        }
    }

    fn session(&mut self, at: usize, is: Session) {
        if let Some(Kind::Session { state, .. }) = self.clients.all.get_mut(at).map(|client| &mut client.kind) {
            *state = is;
        }
    }

    /// What is on its way is lost to the clients.
    fn cut_off(&mut self) {
        // What was acknowledged in the last moment was heard.
        self.hear();
        self.requests.clear();
        self.clients.cut_off();
    }

    fn crash(&mut self, why: &str) -> anyhow::Result<()> {
        self.met.crashes += 1;
        self.cut_off();
        self.world.crash(&mut self.rng);
        self.note(why);
        self.start()
    }

    fn kill(&mut self, why: &str) -> anyhow::Result<()> {
        self.met.kills += 1;
        self.cut_off();
        self.world.kill();
        self.note(why);
        self.start()
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        self.met.stops += 1;
        self.world.disk.calm();
        self.world.pump()?;
        self.cut_off();
        self.note("stopped");
        self.world.stop().context("the engine does not stop")?;
        self.world.kill();
        self.start()
    }

    /// Starts the engine, perhaps with a power cut while it does.
    fn start(&mut self) -> anyhow::Result<()> {
        self.world.disk.calm();
        for _ in 0..2 {
            if !self.rng.random_bool(0.2) {
                break;
            }
            let nth = self.rng.random_range(1..12);
            self.world.disk.fail(nth, Fault::Halt);
            let started = self.world.start();
            if !self.world.disk.is_halted() {
                started.context("the engine does not start")?;
                return self.check("after a start");
            }
            self.met.crashes_at_start += 1;
            self.world.crash(&mut self.rng);
            self.note("the power failed while starting");
        }
        self.world.disk.calm();
        self.world.start().context("the engine does not start")?;
        self.note("started");
        self.check("after a start")
    }

    fn check(&mut self, when: &str) -> anyhow::Result<()> {
        if self.world.disk.is_halted() {
            return Ok(());
        }
        let now = self.world.time.now();
        let engine = self.world.engine()?;
        let context = || format!("checked {when}");
        // Records that are acknowledged and not applied yet are on their way.
        while let Ok(event) = engine.parts.events.try_recv() {
            engine.parts.pipeline.handle(event);
        }
        if engine.parts.front.ready().is_err() {
            return Ok(());
        }
        self.checker.check(engine, &self.clients, now, &mut self.met).with_context(context)?;
        self.note(format_args!("checked {when}"));
        Ok(())
    }

    /// Nothing fails any more: everything that is owed is done, and then all must be right.
    fn rest(&mut self) -> anyhow::Result<()> {
        self.world.disk.calm();
        self.world.all_receivers_take();
        self.note("from here on nothing fails");
        if self.world.engine()?.parts.front.ready().is_err() {
            self.kill("restarted to come to rest")?;
        }
        let mut quiet = 0;
        for round in 0..ROUNDS_TO_REST {
            for at in 0..self.clients.all.len() {
                // Where all that came was old when it came, the clock would seal nothing.
                self.ask_client(at, at == 0 && round < 5)?;
            }
            self.world.pump()?;
            self.hear();
            self.world.time.pass(Span::from_seconds(5));
            let engine = self.world.engine()?;
            engine.parts.inbox.offer(Event::Tick);
            self.world.pump()?;
            let engine = self.world.engine()?;
            self.met.checkpoints += u64::from(engine.parts.pipeline.checkpoints.step());
            self.world.pump()?;
            self.hear();
            if self.clients.are_done() && self.is_settled()? {
                quiet += 1;
                // The alerts of the last minutes end, too.
                if quiet > 20 {
                    return self.check_rest();
                }
            }
        }
        let waiting = self.world.engine()?.parts.pipeline.dispatcher.waiting();
        bail!(
            "it does not come to rest: {} requests open, clients done: {}, {waiting} deliveries waiting",
            self.requests.len(),
            self.clients.are_done()
        )
    }

    /// Whether every live minute is sealed and everybody was told.
    fn is_settled(&mut self) -> anyhow::Result<bool> {
        let newest = self.clients.events.iter().map(|event| event.at.minute()).max();
        let pipeline = &self.world.engine()?.parts.pipeline;
        let sealed = newest.is_none_or(|newest| pipeline.core.operator().sealed().contains(newest));
        Ok(sealed && pipeline.dispatcher.waiting() == 0)
    }

    fn check_rest(&mut self) -> anyhow::Result<()> {
        self.check("at rest")?;
        let now = self.world.time.now();
        let missing = self.clients.events.iter().position(|event| !event.acknowledged);
        ensure!(missing.is_none(), "event {missing:?} was never acknowledged");
        let network = Arc::clone(&self.world.network);
        self.checker.check_alerts(self.world.engine()?, &network, now, &mut self.met)
    }

    /// A bit of the disk flips while the engine is off: then it refuses to start, or leaves minutes out.
    fn flip(&mut self) -> anyhow::Result<()> {
        self.world.kill();
        let Some((file, at)) = self.world.disk.flip(&mut self.rng) else { return Ok(()) };
        self.met.flips += 1;
        self.note(format_args!("a bit flips in {} at {at}", file.display()));
        if let Err(error) = self.world.start() {
            self.met.flips_refused += 1;
            self.note(format_args!("it does not start: {error:#}"));
            return Ok(());
        }
        let now = self.world.time.now();
        check_damaged(self.world.engine()?, &self.clients, now)
    }
}
