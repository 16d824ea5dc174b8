//! Sends pieces over one stream with a bounded number of them unacknowledged. Where the engine is busy
//! or gone for a while, it waits and sends again from the first piece that was not acknowledged; the
//! rows' numbers see to it that nothing counts twice.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use anyhow::{bail, ensure};
use tidewatch_serve::proto::tidewatch::v1::{
    OpenSessionRequest, SubmitRequest, SubmitResponse, ingest_client::IngestClient,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, transport::Channel};
use tonic_types::StatusExt;

use super::{Speed, SpeedFactor, cutter::Piece, faults::Faults, progress::Progress};

const DELAY_FIRST: Duration = Duration::from_millis(100);
const DELAY_MAX: Duration = Duration::from_secs(5);
/// Attempts without one acknowledgement between them: about two minutes. A busy engine is waited for
/// for as long as it answers; one that is gone is not.
const ATTEMPTS_MAX: u32 = 30;
/// How long an interrupted replay waits for what is on its way.
const DRAIN_WITHIN: Duration = Duration::from_secs(10);

/// By whom the rows are numbered.
#[derive(Clone)]
pub enum Identity {
    Session { id: u64, request: OpenSessionRequest },
    Producer(String),
}

/// What became of the pieces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    pub events: u64,
    pub accepted: u64,
    /// The last row that was acknowledged.
    pub last_row: u64,
    pub interrupted: bool,
}

pub struct Sender {
    pub client: IngestClient<Channel>,
    pub identity: Identity,
    pub in_flight: usize,
    pub speed: Speed,
    pub faults: Arc<Faults>,
    pub progress: Progress,
}

/// The rest of the file and what is on its way.
struct Work {
    inflow: Inflow,
    /// Sent or to be sent again, oldest first.
    unacknowledged: VecDeque<Piece>,
    /// How many of them were sent over the stream that is open.
    sent_here: usize,
    ended: bool,
    sent: Sent,
    attempts: u32,
}

/// The rest of the file, each piece when it is due.
struct Inflow {
    pieces: mpsc::Receiver<Piece>,
    /// A piece that is not due yet. It stays here while other things happen.
    held: Option<Piece>,
    /// When the first event was due, and its time.
    origin: Option<(Instant, i64)>,
    speed: Speed,
}

impl Inflow {
    /// May be dropped at any moment: a piece is handed out or kept.
    async fn next(&mut self) -> Option<Piece> {
        if self.held.is_none() {
            self.held = Some(self.pieces.recv().await?);
        }
        let first = self.held.as_ref().and_then(|piece| piece.events.first());
        if let (Some(SpeedFactor(factor)), Some(event)) = (self.speed, first) {
            let (start, time) = *self.origin.get_or_insert_with(|| (Instant::now(), event.occurred_at));
            let seconds = event.occurred_at.saturating_sub(time).max(0) as f64 / 1_000_000.0 / factor;
            // A due time that the clock cannot express is one that nobody waits for.
            let due = Duration::try_from_secs_f64(seconds).ok().and_then(|after| start.checked_add(after));
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        }
        self.held.take()
    }
}

impl Sender {
    pub async fn run(mut self, pieces: mpsc::Receiver<Piece>) -> anyhow::Result<Sent> {
        let mut work = Work {
            inflow: Inflow { pieces, held: None, origin: None, speed: self.speed },
            unacknowledged: VecDeque::new(),
            sent_here: 0,
            ended: false,
            sent: Sent::default(),
            attempts: 0,
        };
        let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
        loop {
            let outcome = tokio::select! {
                outcome = self.stream(&mut work) => outcome,
                _ = &mut interrupt => {
                    self.drain(&mut work).await;
                    work.sent.interrupted = true;
                    return Ok(work.sent);
                }
            };
            match outcome {
                Ok(()) => return Ok(work.sent),
                Err(status) => tokio::select! {
                    retried = self.wait(&mut work, &status) => retried?,
                    _ = &mut interrupt => {
                        work.sent.interrupted = true;
                        return Ok(work.sent);
                    }
                },
            }
        }
    }

    /// Sends over one stream until everything is acknowledged or the stream fails.
    async fn stream(&mut self, work: &mut Work) -> Result<(), Status> {
        let (requests, outgoing) = mpsc::channel(self.in_flight);
        work.sent_here = 0;
        let opening = self.client.submit_stream(ReceiverStream::new(outgoing));
        let mut answers = opening.await?.into_inner();
        loop {
            while let Some(piece) = work.unacknowledged.get(work.sent_here) {
                // The channel holds as many as may be unacknowledged, so this never waits for an answer.
                let request = self.request(piece);
                if requests.send(request).await.is_err() {
                    return self.failure(&mut answers).await;
                }
                work.sent_here += 1;
            }
            if work.ended && work.unacknowledged.is_empty() {
                return Ok(());
            }
            let room = work.unacknowledged.len() < self.in_flight && !work.ended;
            tokio::select! {
                piece = work.inflow.next(), if room => match piece {
                    Some(piece) => work.unacknowledged.push_back(piece),
                    None => work.ended = true,
                },
                answer = answers.message(), if work.sent_here > 0 => match answer? {
                    Some(answer) => self.acknowledge(work, &answer)?,
                    None => return Err(Status::unavailable("the engine ended the stream")),
                },
            }
        }
    }

    /// Why the engine stopped reading.
    async fn failure(&self, answers: &mut Streaming<SubmitResponse>) -> Result<(), Status> {
        loop {
            if answers.message().await?.is_none() {
                return Err(Status::unavailable("the engine ended the stream"));
            }
        }
    }

    fn request(&self, piece: &Piece) -> SubmitRequest {
        let (session_id, producer_id) = match &self.identity {
            Identity::Session { id, .. } => (Some(*id), String::new()),
            Identity::Producer(name) => (None, name.clone()),
        };
        SubmitRequest {
            batch_id: piece.first_row,
            transactions: piece.events.clone(),
            producer_id,
            first_sequence: Some(piece.first_row),
            session_id,
        }
    }

    fn acknowledge(&self, work: &mut Work, answer: &SubmitResponse) -> Result<(), Status> {
        let expected = work.unacknowledged.front().map(|piece| piece.first_row);
        if expected != Some(answer.batch_id) {
            let id = answer.batch_id;
            return Err(Status::internal(format!("the engine acknowledged batch {id} where {expected:?} was next")));
        }
        let Some(piece) = work.unacknowledged.pop_front() else { return Ok(()) };
        work.sent_here = work.sent_here.saturating_sub(1);
        work.attempts = 0;
        for rejection in &answer.rejections {
            let index = rejection.index as usize;
            let line = piece.lines.get(index).copied().unwrap_or(0);
            self.faults.reject(line, piece.first_row + index as u64, &rejection.reason);
        }
        // The engine lists only the first refusals of a batch, and counts them all.
        self.faults.reject_unlisted(answer.rejected.saturating_sub(answer.rejections.len() as u64));
        work.sent.events += piece.events.len() as u64;
        work.sent.accepted += answer.accepted;
        work.sent.last_row = piece.first_row + piece.events.len() as u64 - 1;
        self.progress.acknowledged(work.sent.last_row);
        Ok(())
    }

    /// Waits before the next attempt, or gives up.
    async fn wait(&mut self, work: &mut Work, status: &Status) -> anyhow::Result<()> {
        let busy = status.code() == Code::ResourceExhausted;
        let gone = matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled);
        if !busy && !gone {
            bail!("the engine refused the rows from {}: {}", next_row(work), status.message());
        }
        work.attempts += 1;
        ensure!(busy || work.attempts < ATTEMPTS_MAX, "the engine does not answer: {}", status.message());
        let asked = status.get_details_retry_info().and_then(|info| info.retry_delay);
        let doubled = DELAY_FIRST.saturating_mul(1 << work.attempts.min(10)).min(DELAY_MAX);
        sleep(asked.unwrap_or(doubled).clamp(DELAY_FIRST, DELAY_MAX)).await;
        if let Identity::Session { request, .. } = &self.identity
            && gone
        {
            // After a restart the engine must hear of the session again; a failure shows at the next attempt.
            if let Ok(opened) = self.client.open_session(request.clone()).await {
                let session = opened.into_inner().session_id;
                let Identity::Session { id, .. } = &mut self.identity else { return Ok(()) };
                *id = session;
            }
        }
        Ok(())
    }

    /// Rows on their way are given a moment to be acknowledged, so that resuming need not send them again.
    async fn drain(&mut self, work: &mut Work) {
        self.progress.say("interrupted: waiting for what is on its way");
        work.ended = true;
        work.inflow.pieces.close();
        if timeout(DRAIN_WITHIN, self.stream(work)).await.is_err() {
            self.progress.say("the engine did not acknowledge it in time");
        }
    }
}

fn next_row(work: &Work) -> u64 {
    work.unacknowledged.front().map_or(work.sent.last_row + 1, |piece| piece.first_row)
}

#[cfg(test)]
#[path = "sender_tests.rs"]
mod tests;
