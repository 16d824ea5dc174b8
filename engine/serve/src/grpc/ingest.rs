//! Events in over gRPC. Each batch is converted, admitted in the order sent, and acknowledged in that order.

use futures::{
    Stream, StreamExt, future,
    stream::{self, BoxStream},
};
use tidewatch_model::{Partition, SessionId, Span, limits};
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument;

use super::{
    Service,
    status::{refused, stopping},
};
use crate::{
    batch::answered,
    door::Arrival,
    engine::{Acknowledgement, Producer, SessionRequest, Submission},
    proto::tidewatch::v1::{
        EndSessionRequest, EndSessionResponse, OpenSessionRequest, OpenSessionResponse, SessionSummary, SubmitRequest,
        SubmitResponse, ingest_server::Ingest,
    },
    trace::request_span,
};

/// A batch that has its place in the log and waits for it to be durable.
struct Admitted {
    answer: SubmitResponse,
    /// None where there was nothing to keep.
    acknowledgement: Option<Acknowledgement>,
}

impl Admitted {
    async fn durable(mut self) -> Result<SubmitResponse, Status> {
        if let Some(acknowledgement) = self.acknowledgement {
            let receipt = acknowledgement.await.map_err(|refusal| refused(&refusal))?;
            self.answer.accepted = receipt.accepted;
            self.answer.lsn = receipt.lsn.0;
        }
        Ok(self.answer)
    }
}

impl Service {
    async fn admit(&self, request: SubmitRequest) -> Result<Admitted, Status> {
        let session = request.session_id.map(SessionId);
        let producer = producer(&request, session)?;
        let arrived_at = self.edge.now();
        let arrival = Arrival { at: arrived_at, session };
        let batch = self.edge.converted(|| self.door.transactions(&request.transactions, &arrival));
        let answer = SubmitResponse {
            batch_id: request.batch_id,
            rejections: answered(&batch.rejected),
            rejected: batch.rejected.len() as u64,
            ..SubmitResponse::default()
        };
        if batch.rows.num_rows() == 0 && batch.rejected.is_empty() {
            return Ok(Admitted { answer, acknowledgement: None });
        }
        let submission = Submission {
            session,
            producer,
            rows: batch.rows,
            offsets: batch.offsets,
            rejected: batch.rejected,
            arrived_at,
        };
        let acknowledgement = self.edge.engine().submit(submission).await.map_err(|refusal| refused(&refusal))?;
        Ok(Admitted { answer, acknowledgement: Some(acknowledgement) })
    }
}

/// Who numbers the events of a request, where anybody does; and what makes no sense about it.
fn producer(request: &SubmitRequest, session: Option<SessionId>) -> Result<Option<Producer>, Status> {
    let events = request.transactions.len();
    if events > limits::BATCH_EVENTS_MAX {
        let max = limits::BATCH_EVENTS_MAX;
        return Err(Status::invalid_argument(format!("the batch has {events} events; at most {max} are allowed")));
    }
    let bytes = request.producer_id.len();
    if bytes > limits::CLIENT_NAME_BYTES_MAX {
        let max = limits::CLIENT_NAME_BYTES_MAX;
        return Err(Status::invalid_argument(format!("`producer_id` has {bytes} bytes; at most {max} are allowed")));
    }
    let Some(first_sequence) = request.first_sequence else {
        if request.producer_id.is_empty() {
            return Ok(None);
        }
        return Err(Status::invalid_argument("`producer_id` is given without `first_sequence`; give both or neither"));
    };
    if first_sequence.checked_add(events as u64).is_none() {
        return Err(Status::invalid_argument("`first_sequence` is so great that the batch's sequences overflow"));
    }
    let id = match session {
        Some(session) if request.producer_id.is_empty() => Partition::Session(session).to_string(),
        None if request.producer_id.is_empty() => {
            let reason = "`first_sequence` is given without `producer_id`; outside a session, give both or neither";
            return Err(Status::invalid_argument(reason));
        }
        _ => request.producer_id.clone(),
    };
    Ok(Some(Producer { id, first_sequence }))
}

#[tonic::async_trait]
impl Ingest for Service {
    async fn submit(&self, request: Request<SubmitRequest>) -> Result<Response<SubmitResponse>, Status> {
        let span = request_span(&self.edge, "Submit", request.metadata().as_ref());
        let submit = async { self.admit(request.into_inner()).await?.durable().await };
        submit.instrument(span).await.map(Response::new)
    }

    type SubmitStreamStream = BoxStream<'static, Result<SubmitResponse, Status>>;

    async fn submit_stream(
        &self,
        request: Request<Streaming<SubmitRequest>>,
    ) -> Result<Response<Self::SubmitStreamStream>, Status> {
        let span = request_span(&self.edge, "SubmitStream", request.metadata().as_ref());
        Ok(Response::new(acknowledgements(self.clone(), request.into_inner(), span).boxed()))
    }

    async fn open_session(
        &self,
        request: Request<OpenSessionRequest>,
    ) -> Result<Response<OpenSessionResponse>, Status> {
        let span = request_span(&self.edge, "OpenSession", request.metadata().as_ref());
        let OpenSessionRequest { name, lateness_us, notify } = request.into_inner();
        if name.is_empty() || name.len() > limits::CLIENT_NAME_BYTES_MAX {
            let (bytes, max) = (name.len(), limits::CLIENT_NAME_BYTES_MAX);
            return Err(Status::invalid_argument(format!("`name` has {bytes} bytes; 1 to {max} are allowed")));
        }
        if lateness_us < 0 {
            return Err(Status::invalid_argument(format!("`lateness_us` is {lateness_us}; it must not be negative")));
        }
        let lateness = (lateness_us > 0).then(|| Span::from_micros(lateness_us));
        let opened = self.edge.engine().open_session(SessionRequest { name, lateness, notify }).instrument(span).await;
        let opened = opened.map_err(|refusal| refused(&refusal))?;
        Ok(Response::new(OpenSessionResponse { session_id: opened.session.0, last_sequence: opened.last_sequence }))
    }

    async fn end_session(&self, request: Request<EndSessionRequest>) -> Result<Response<EndSessionResponse>, Status> {
        let span = request_span(&self.edge, "EndSession", request.metadata().as_ref());
        let session = SessionId(request.into_inner().session_id);
        let summary = self.edge.engine().end_session(session).instrument(span).await;
        let summary = summary.map_err(|refusal| refused(&refusal))?;
        Ok(Response::new(EndSessionResponse {
            summary: Some(SessionSummary {
                accepted: summary.accepted,
                duplicate: summary.duplicate,
                late: summary.late,
                rejected: summary.rejected,
            }),
        }))
    }
}

/// Batches in, acknowledgements out, both in the order sent.
///
/// `buffered` asks for a batch only while fewer than its number wait to be durable: that is the flow control. It also
/// polls nothing while the client does not read, so a client that never reads acknowledgements is not read either.
fn acknowledgements(
    service: Service,
    batches: Streaming<SubmitRequest>,
    span: tracing::Span,
) -> impl Stream<Item = Result<SubmitResponse, Status>> + Send + 'static {
    let mut stop = service.stopping.clone();
    let stopped = async move {
        // An error means that the server is gone, which is a stop as well.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    // `None` marks the stop: it turns into the stream's last word.
    let batches = batches.map(Some).take_until(Box::pin(stopped)).chain(stop_word(&service));
    let admitted = batches.then(move |batch| {
        let (service, span) = (service.clone(), span.clone());
        async move {
            match batch {
                Some(Ok(batch)) => service.admit(batch).await,
                Some(Err(status)) => Err(status),
                None => Err(stopping()),
            }
        }
        .instrument(span)
    });
    let durable = until_error(admitted.boxed())
        .map(|admitted| async move { admitted?.durable().await })
        .buffered(limits::STREAM_UNACKNOWLEDGED_MAX);
    until_error(durable.boxed())
}

/// One `None` where the server is stopping by the time the batches end.
fn stop_word(service: &Service) -> impl Stream<Item = Option<Result<SubmitRequest, Status>>> + Send + use<> {
    let stopping = service.stopping.clone();
    stream::once(future::lazy(move |_| *stopping.borrow())).filter_map(|stop| future::ready(stop.then_some(None)))
}

/// The items up to and with the first error. Nothing after it is asked for: a batch that follows one that was not
/// admitted must not be admitted.
fn until_error<T: Send + 'static>(
    items: BoxStream<'static, Result<T, Status>>,
) -> impl Stream<Item = Result<T, Status>> + Send + 'static {
    stream::unfold(Some(items), |items| async move {
        let mut items = items?;
        let item = items.next().await?;
        let rest = item.is_ok().then_some(items);
        Some((item, rest))
    })
}
