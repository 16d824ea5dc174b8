//! The real process is killed with SIGKILL at random moments, over the real disk and over a layer that forgets what was
//! not synced: what was acknowledged is kept; what was sent twice counts once; each rule judges each sealed minute once.
//! And a process that acknowledges too early is found out.
//!
//! `TIDEWATCH_ROUNDS` sets how often each test kills, `TIDEWATCH_SEED` repeats a run's choices (not the process's own
//! timing).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::Value;
use tidewatch_model::EventTime;
use tidewatch_serve::proto::tidewatch::v1::{SubmitRequest, Transaction, ingest_client::IngestClient};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::support::{Engine, Setup, now, seed, soon};

/// Kills in each of the two tests.
const KILLS: u32 = 100;

/// Kills between two looks at everything that is kept.
const LOOK_EVERY: u32 = 10;

/// What is not synced is in the process's memory alone.
const FORGETFUL: (&str, &str) = ("TIDEWATCH_TEST_DISK", "forgetful");

/// Event time that all rounds of a test share.
const SPAN_MICROS: i64 = 50 * 60_000_000;

/// Checkpoints as often as can be, and a log in small segments, of which those that a checkpoint contains go.
pub const OFTEN: &str = "[log]\nsegment_bytes = \"1MiB\"\n[store]\ncheckpoint_interval = \"100ms\"\n";

/// The number of the oldest record in the log.
fn log_begins_with(setup: &Setup) -> u64 {
    let names = std::fs::read_dir(setup.data().join("log")).unwrap().map(|file| file.unwrap().file_name());
    let numbers = names.filter_map(|name| name.to_str()?.strip_suffix(".log")?.parse().ok());
    numbers.min().unwrap()
}

const BATCH: usize = 10;

pub fn rounds(unless_told: u32) -> u32 {
    std::env::var("TIDEWATCH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(unless_told)
}

/// Everything that can be read of what the engine keeps. Two readings of the same state are equal.
pub async fn everything(engine: &Engine) -> BTreeMap<&'static str, Vec<String>> {
    let mut tables = BTreeMap::new();
    for (table, sql) in [
        (
            "payments",
            "SELECT minute, status, kind, channel, region, currency, transactions, amount_minor, sealed FROM payments",
        ),
        ("payments_by_status", "SELECT * FROM payments_by_status"),
        ("latency", "SELECT minute, transactions, latency_p50_us, latency_p99_us FROM payments_latency"),
        ("accounts", "SELECT * FROM accounts"),
        ("transactions", "SELECT event_id, occurred_at, status, account_id, count FROM transactions"),
        ("rejected_events", "SELECT * FROM rejected_events"),
        ("late_events", "SELECT event_id, reason FROM late_events"),
        ("corrections", "SELECT * FROM corrections"),
        ("verdicts", "SELECT * FROM verdicts"),
        ("alerts", "SELECT * FROM alerts"),
    ] {
        let mut rows: Vec<String> = engine.query(sql).await.iter().map(Value::to_string).collect();
        rows.sort();
        tables.insert(table, rows);
    }
    tables
}

/// Each rule has judged each sealed minute once: a rule's rows of one minute differ in their labels.
async fn assert_judged_once(engine: &Engine) {
    // What a correction would have changed is told beside the verdict and is none.
    let twice = "SELECT rule, minute, labels, count(*) AS n FROM verdicts WHERE outcome NOT LIKE 'would%' \
                 GROUP BY ALL HAVING count(*) > 1";
    assert_eq!(engine.query(twice).await, Vec::<Value>::new());
    let judged = engine.query("SELECT rule, count(DISTINCT minute) AS n FROM verdicts GROUP BY ALL").await;
    let minutes = "SELECT count(DISTINCT minute) AS n FROM payments_by_status WHERE sealed";
    let sealed = engine.number(minutes).await;
    for rule in judged {
        assert_eq!(rule["n"].as_i64(), Some(sealed), "minutes that {} judged", rule["rule"]);
    }
}

/// One client's numbered batches. Batches that were not acknowledged are sent again, as a client does.
#[derive(Debug)]
pub struct Client {
    name: String,
    /// Streams, or sends one batch after the other.
    streams: bool,
    sent: Vec<SubmitRequest>,
    pub acknowledged: BTreeSet<u64>,
    /// Event time from one batch to the next.
    step: i64,
}

impl Client {
    pub fn new(name: &str, streams: bool) -> Self {
        let (sent, acknowledged) = (Vec::new(), BTreeSet::new());
        // A quarter of a second.
        Self { name: name.to_owned(), streams, sent, acknowledged, step: 250_000 }
    }

    fn batch(&self, number: u64, time: EventTime, rng: &mut StdRng) -> SubmitRequest {
        let transaction = |at: usize| Transaction {
            event_id: Some(format!("{}-{number}-{at}", self.name)),
            occurred_at: time.micros() - rng.random_range(0..20_000_000),
            status: ["approved", "denied", "failed"][rng.random_range(0..3)].to_owned(),
            account_id: Some(format!("{}-{number}", self.name)),
            amount_minor: Some(rng.random_range(1..10_000)),
            currency: Some("EUR".to_owned()),
            latency_us: Some(rng.random_range(100..1_000_000)),
            ..Transaction::default()
        };
        SubmitRequest {
            batch_id: number,
            transactions: (0..BATCH).map(transaction).collect(),
            // One of them is told apart by its event ids alone.
            producer_id: if self.streams { self.name.clone() } else { String::new() },
            first_sequence: self.streams.then_some(number * BATCH as u64 + 1),
            ..SubmitRequest::default()
        }
    }

    /// Sends again what was not acknowledged, then more, until the engine is gone.
    /// Between two batches it waits for up to `pace`.
    pub async fn run(mut self, channel: Channel, start: EventTime, seed: u64, pace: Duration) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let client = IngestClient::new(channel);
        if self.streams {
            self.stream(client, start, &mut rng, pace).await
        } else {
            self.one_by_one(client, start, &mut rng, pace).await
        }
        self
    }

    fn pending(&self) -> Vec<SubmitRequest> {
        self.sent.iter().filter(|batch| !self.acknowledged.contains(&batch.batch_id)).cloned().collect()
    }

    fn next(&mut self, start: EventTime, before: usize, rng: &mut StdRng) -> SubmitRequest {
        let number = self.sent.len() as u64;
        let time = EventTime::from_micros(start.micros() + (self.sent.len() - before) as i64 * self.step);
        let batch = self.batch(number, time, rng);
        self.sent.push(batch.clone());
        batch
    }

    async fn one_by_one(
        &mut self,
        mut client: IngestClient<Channel>,
        start: EventTime,
        rng: &mut StdRng,
        pace: Duration,
    ) {
        let (mut again, before) = (self.pending().into_iter(), self.sent.len());
        loop {
            let batch = again.next().unwrap_or_else(|| self.next(start, before, rng));
            tokio::time::sleep(pace.mul_f64(rng.random())).await;
            match client.submit(batch).await {
                Ok(answer) => self.acknowledged.insert(answer.into_inner().batch_id),
                Err(_) => return,
            };
        }
    }

    async fn stream(&mut self, mut client: IngestClient<Channel>, start: EventTime, rng: &mut StdRng, pace: Duration) {
        let (mut again, before) = (self.pending().into_iter(), self.sent.len());
        let (batches, outgoing) = mpsc::channel(8);
        let Ok(answers) = client.submit_stream(ReceiverStream::new(outgoing)).await else { return };
        let mut answers = answers.into_inner();
        let mut held = None;
        loop {
            let batch = held.take().unwrap_or_else(|| again.next().unwrap_or_else(|| self.next(start, before, rng)));
            tokio::select! {
                biased;
                answer = answers.message() => match answer {
                    Ok(Some(answer)) => { self.acknowledged.insert(answer.batch_id); held = Some(batch); }
                    Ok(None) | Err(_) => return,
                },
                room = batches.reserve() => match room {
                    Ok(room) => {
                        room.send(batch);
                        tokio::time::sleep(pace.mul_f64(rng.random())).await;
                    }
                    // The stream is over; the acknowledgements that it still holds are read above.
                    Err(_) => held = Some(batch),
                },
            }
        }
    }

    fn sent_before_crash(&self) -> u64 {
        self.sent.len() as u64
    }
}

/// How many distinct and how many events of each batch the engine holds.
pub async fn held(engine: &Engine) -> BTreeMap<String, (u64, u64)> {
    let sql = "SELECT account_id, count(*) AS n, count(DISTINCT event_id) AS ids FROM transactions GROUP BY 1";
    let rows = engine.query(sql).await.into_iter();
    let row = |row: Value| {
        (row["account_id"].as_str().unwrap().to_owned(), (row["n"].as_u64().unwrap(), row["ids"].as_u64().unwrap()))
    };
    rows.map(row).collect()
}

/// Acknowledged batches are there, whole and once; of the others none is there twice or in part. Else what is wrong.
pub fn check(clients: &[Client], held: &BTreeMap<String, (u64, u64)>) -> Result<(), String> {
    let whole = (BATCH as u64, BATCH as u64);
    let mut expected = BTreeSet::new();
    for client in clients {
        for batch in &client.sent {
            let account = format!("{}-{}", client.name, batch.batch_id);
            match held.get(&account) {
                Some(found) if *found != whole => return Err(format!("{account} has {found:?} events and ids")),
                None if client.acknowledged.contains(&batch.batch_id) => {
                    return Err(format!("{account} was acknowledged and is lost"));
                }
                _ => {}
            }
            expected.insert(account);
        }
    }
    match held.keys().find(|account| !expected.contains(*account)) {
        Some(account) => Err(format!("there are events of {account}, which nobody sent")),
        None => Ok(()),
    }
}

/// When the process ends.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// After so many milliseconds of traffic.
    Sending(u64),
    /// So many milliseconds after its start, ready or not.
    Starting(u64),
    /// When the store has got so many new files: in a checkpoint or in a merge.
    Files(usize),
    /// When it is told to, in good order.
    Told(u64),
}

impl Moment {
    fn random(rng: &mut StdRng) -> Self {
        match rng.random_range(0..10) {
            0..4 => Self::Sending(rng.random_range(0..300)),
            4..6 => Self::Starting(rng.random_range(0..150)),
            6..9 => Self::Files(rng.random_range(1..25)),
            _ => Self::Told(rng.random_range(0..300)),
        }
    }
}

/// The numbers of the store's newest file, named or not.
fn newest_files(setup: &Setup) -> BTreeSet<String> {
    let store = setup.data().join("store");
    let names = [store.join(".nameless"), store].into_iter().filter_map(|dir| std::fs::read_dir(dir).ok());
    let names = names.flatten().flatten().filter_map(|file| file.file_name().into_string().ok());
    names.filter(|name| !name.starts_with("MANIFEST")).collect()
}

/// An engine that is killed again and again, its clients, and every verdict that it ever gave.
struct Harness {
    setup: Setup,
    rng: StdRng,
    clients: Vec<Client>,
    verdicts: BTreeMap<String, Value>,
    begin: i64,
    /// Event time from one round to the next.
    step: i64,
}

impl Harness {
    /// `variables` are set for every engine.
    fn new(seed: u64, rounds: u32, variables: &[(&str, &str)]) -> Self {
        // Nothing is forgotten of the raw events, so that each can be asked for.
        let settings =
            format!("{OFTEN}raw_bytes_max = \"2GiB\"\n[query]\nrows_max = 10000000\nmemory_bytes = \"4GiB\"\n");
        let setup =
            variables.iter().fold(Setup::configured(&settings), |setup, (name, value)| setup.variable(name, value));
        let step = SPAN_MICROS / i64::from(rounds + 1);
        let mut clients: Vec<Client> = [("ids", false), ("more-ids", false), ("sequences", true)]
            .map(|(name, streams)| Client::new(name, streams))
            .into();
        // Some sixty batches a round.
        clients.iter_mut().for_each(|client| client.step = (step / 60).min(250_000));
        Self {
            setup,
            rng: StdRng::seed_from_u64(seed),
            clients,
            verdicts: BTreeMap::new(),
            begin: now().micros() - SPAN_MICROS,
            step,
        }
    }

    /// Kills the process as often as told. After some of the kills, and after the last, everything is looked at.
    async fn rounds(&mut self, kills: u32) -> Result<(), String> {
        let (mut killed, mut round, mut moments) = (0, 0, [0; 4]);
        while killed < kills {
            let moment = Moment::random(&mut self.rng);
            let (at, counts) = match moment {
                Moment::Sending(_) => (0, true),
                Moment::Starting(_) => (1, true),
                Moment::Files(_) => (2, true),
                Moment::Told(_) => (3, false),
            };
            moments[at] += 1;
            self.round(moment, killed).await;
            killed += u32::from(counts);
            round += 1;
            if round % LOOK_EVERY == 0 {
                let engine = self.setup.start().await;
                self.look(&engine).await.map_err(|lost| format!("after {killed} kills: {lost}"))?;
                engine.kill();
                killed += 1;
            }
        }
        println!("{killed} kills; ends while sending, starting, at new files, in good order: {moments:?}");
        Ok(())
    }

    async fn round(&mut self, moment: Moment, killed: u32) {
        if let Moment::Starting(millis) = moment {
            let engine = Engine::begun(self.setup.serve(&[]));
            // Not to wait for anything: when the process dies is what the test varies.
            tokio::time::sleep(Duration::from_millis(millis)).await;
            return engine.kill();
        }
        let engine = self.setup.start().await;
        // Time goes on between the rounds, so that minutes are sealed; it ends before the clock.
        let start = EventTime::from_micros(self.begin + i64::from(killed) * self.step);
        let mut sending = JoinSet::new();
        for client in std::mem::take(&mut self.clients) {
            let pace = Duration::from_millis(10);
            sending.spawn(client.run(engine.channel().await, start, self.rng.random(), pace));
        }
        match moment {
            Moment::Sending(millis) | Moment::Told(millis) => tokio::time::sleep(Duration::from_millis(millis)).await,
            Moment::Starting(_) => {}
            Moment::Files(count) => {
                let before = newest_files(&self.setup);
                // Where so many do not come within a second, it dies then.
                for _ in 0..1_000 {
                    if newest_files(&self.setup).difference(&before).count() >= count {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        }
        if matches!(moment, Moment::Told(_)) {
            let ended = engine.terminate().await;
            assert!(ended.success(), "{ended}");
        } else {
            engine.kill();
        }
        self.clients = soon("the clients to notice", sending.join_all()).await;
        self.clients.sort_by(|a, b| a.name.cmp(&b.name));
    }

    async fn look(&mut self, engine: &Engine) -> Result<(), String> {
        check(&self.clients, &held(engine).await)?;
        assert_judged_once(engine).await;
        let given = engine.query("SELECT * FROM verdicts WHERE outcome NOT LIKE 'would%'").await;
        let given: BTreeMap<String, Value> = given
            .into_iter()
            .map(|row| (format!("{} {} {}", row["rule"], row["minute"], row["labels"]), row))
            .collect();
        for (key, before) in &self.verdicts {
            assert_eq!(given.get(key), Some(before), "a verdict is kept, and never given anew");
        }
        self.verdicts = given;
        Ok(())
    }

    /// The tables are the same after one more restart, and what was never acknowledged is sent once more.
    async fn conclude(mut self) {
        let engine = self.setup.start().await;
        self.look(&engine).await.unwrap();
        let before = everything(&engine).await;
        assert!(!before["verdicts"].is_empty() && self.clients.iter().all(|client| client.acknowledged.len() > 1));
        engine.kill();
        let engine = self.setup.start().await;
        let after = everything(&engine).await;
        for (table, rows) in &before {
            assert!(after[table] == *rows, "`{table}` is not what it was before the restart");
        }
        assert!(log_begins_with(&self.setup) > 1, "checkpoints let go of what they contain");
        finish(&engine, self.clients).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_outlives_a_kill_at_any_moment() {
    let kills = rounds(KILLS);
    let mut harness = Harness::new(seed("kill at any moment"), kills, &[]);
    harness.rounds(kills).await.unwrap();
    harness.conclude().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_outlives_a_power_cut_as_well() {
    let kills = rounds(KILLS);
    let mut harness = Harness::new(seed("power cut"), kills, &[FORGETFUL]);
    harness.rounds(kills).await.unwrap();
    harness.conclude().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledging_before_the_disk_has_it_is_found_out() {
    let seed = seed("acknowledged too early");
    for durability in ["os", "memory"] {
        let mut harness = Harness::new(seed, KILLS, &[FORGETFUL, ("TIDEWATCH_LOG_DURABILITY", durability)]);
        let found = harness.rounds(KILLS).await.unwrap_err();
        println!("durability `{durability}`: {found}");
        assert!(found.contains("was acknowledged and is lost"), "{found}");
    }
}

/// What was never acknowledged is sent once more; then every event counts exactly once, in every view.
pub async fn finish(engine: &Engine, mut clients: Vec<Client>) {
    let mut ingest = engine.ingest().await;
    for client in &mut clients {
        for batch in client.pending() {
            let answer = ingest.submit(batch).await.unwrap().into_inner();
            client.acknowledged.insert(answer.batch_id);
        }
        assert_eq!(client.acknowledged.len() as u64, client.sent_before_crash());
    }
    check(&clients, &held(engine).await).unwrap();
    let sent: usize = clients.iter().map(|client| client.sent.len() * BATCH).sum();
    let sent = i64::try_from(sent).unwrap();
    println!("{sent} events of {} batches", sent / BATCH as i64);
    assert_eq!(engine.number("SELECT count(*) AS n FROM late_events").await, 0);
    for view in ["payments", "payments_by_status", "payments_latency"] {
        assert_eq!(engine.number(&format!("SELECT sum(transactions) AS n FROM {view}")).await, sent, "{view}");
    }
    let amounts = clients.iter().flat_map(|client| &client.sent).flat_map(|batch| &batch.transactions);
    let amounts: i64 = amounts.filter_map(|transaction| transaction.amount_minor).sum();
    assert_eq!(engine.number("SELECT sum(amount_minor) AS n FROM payments").await, amounts);
}
