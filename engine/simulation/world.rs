//! `World`: the engine over a simulated disk, time and network, all of it in the calling thread. It starts, takes turns,
//! and ends in whatever way; it checks nothing.

use std::sync::Arc;

use anyhow::Context;
use rand::{Rng, rngs::StdRng, seq::IndexedRandom};
use tidewatch_model::{EventTime, Span};
use tokio::runtime::Runtime;

use super::{
    disk::SimDisk,
    network::{Mood, Network},
    queries,
    timer::SimTime,
};
use crate::{
    config::{self, Config, Environment, Size},
    core::Plan,
    parts::{Parts, Seams, Turns},
    pipeline::Event,
    planted::Planted,
};

/// A Monday.
pub const START: EventTime = EventTime::from_micros(1_736_121_600_000_000);

const LOG_ID: u64 = 7;

const RECEIVERS: [&str; 2] = ["pager", "audit"];

/// Without routes everything goes to the log, and what is critical to the pager as well.
const CONFIG: &str = "\
data_dir = '/data'
ingest.idle_after = '15 seconds'
rules.timeout = '60 seconds'
alerts.retry_longest = '10 seconds'
receivers = [{ name = 'pager', type = 'webhook', url = 'http://pager.test/' }, { name = 'audit', type = 'log' }]
";

pub struct World {
    pub disk: SimDisk,
    pub time: SimTime,
    pub network: Arc<Network>,
    plan: Plan,
    config: Config,
    planted: Option<Planted>,
    engine: Option<Engine>,
}

/// A running engine. What runs by itself in the real one runs here when it is given a turn.
pub struct Engine {
    pub parts: Parts,
    pub runtime: Runtime,
}

impl World {
    pub fn new(rng: &mut StdRng, planted: Option<Planted>) -> anyhow::Result<Self> {
        let mut config = config::combine(Some(("simulation", CONFIG)), &Environment::default(), &[])?.config;
        let pick = |rng: &mut StdRng, sizes: &[u64]| sizes.choose(rng).copied().unwrap_or_default();
        config.log.segment_bytes = pick(rng, &[2_048, 16_384, 1 << 20]);
        config.log.partitions = *[1, 3].choose(rng).unwrap_or(&1);
        config.store.head_bytes_max = Size::from_bytes(pick(rng, &[0, 20_000, 1 << 30]));
        config.store.cache_bytes_max = Size::from_bytes(pick(rng, &[0, 100_000, 1 << 30]));
        config.store.checkpoint_events = pick(rng, &[20, 500_000]);
        config.store.checkpoint_interval = Span::from_seconds(rng.random_range(2..90));
        Ok(Self {
            disk: SimDisk::new(planted, rng.random_range(5..60)),
            time: SimTime::at(START),
            network: Arc::default(),
            plan: queries::plan()?,
            config,
            planted,
            engine: None,
        })
    }

    /// # Errors
    /// The engine does not start.
    pub fn start(&mut self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let seams = Seams {
            clock: self.time.wall(),
            ticks: self.time.ticks(),
            disk: Arc::new(self.disk.clone()),
            timer: Arc::new(self.time.clone()),
            receivers: RECEIVERS.iter().map(|name| self.network.receiver(name, &self.time)).collect(),
            log_id: LOG_ID,
            on_seal: None,
            turns: Turns::Steps,
            planted: self.planted,
        };
        let parts = {
            let _runtime = runtime.enter();
            Parts::assemble(&self.config, &self.plan, seams)?
        };
        self.engine = Some(Engine { parts, runtime });
        Ok(())
    }

    /// # Errors
    /// It is not running, which is a fault of the simulation.
    pub fn engine(&mut self) -> anyhow::Result<&mut Engine> {
        self.engine.as_mut().context("the engine does not run")
    }

    /// The process is gone; the machine is not.
    pub fn kill(&mut self) {
        // Nothing that is dropped may still write: the log would finish what is queued.
        self.disk.halt();
        self.engine = None;
        self.disk.kill();
    }

    /// The power fails.
    pub fn crash(&mut self, rng: &mut StdRng) {
        self.kill();
        self.disk.crash(rng);
    }

    /// Stops as an operator stops it.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.pump()?;
        let Some(Engine { parts, runtime }) = self.engine.take() else { return Ok(()) };
        let Parts { mut pipeline, events, inbox, dispatcher, log, front } = parts;
        runtime.block_on(dispatcher.stop(Span::ZERO));
        inbox.put(Event::Stop);
        while let Ok(event) = events.try_recv()
            && pipeline.handle(event)
        {}
        pipeline.finish();
        drop((front, inbox));
        log.close()?;
        Ok(())
    }

    /// Lets everything run that can without time passing.
    pub fn pump(&mut self) -> anyhow::Result<()> {
        let engine = self.engine()?;
        // Each round may cause the next: a record its journals, a delivery its news.
        for _ in 0..64 {
            let mut moved = engine.parts.log.step();
            while let Ok(event) = engine.parts.events.try_recv() {
                engine.parts.pipeline.handle(event);
                moved = true;
            }
            engine.run_tasks();
            if !moved {
                break;
            }
        }
        Ok(())
    }

    pub fn all_receivers_take(&self) {
        RECEIVERS.iter().for_each(|receiver| self.network.set(receiver, Mood::Takes));
    }

    pub fn change_mood(&self, rng: &mut StdRng) -> String {
        let receiver = RECEIVERS.choose(rng).copied().unwrap_or_default();
        let span = Span::from_seconds(rng.random_range(1..20));
        let mood = match rng.random_range(0..20) {
            0..8 => Mood::Takes,
            8..11 => Mood::TakesSlowly(span),
            11..14 => Mood::AnswerLost,
            14..17 => Mood::Dead,
            17..19 => Mood::Busy(span),
            _ => Mood::Refuses,
        };
        self.network.set(receiver, mood);
        format!("{receiver} is {mood:?}")
    }
}

impl Engine {
    /// A turn for the tasks: the dispatcher and its attempts.
    pub fn run_tasks(&self) {
        self.runtime.block_on(async {
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
        });
    }
}
