//! SQL questions over gRPC. The answer leaves as pieces of one Arrow IPC stream.

use std::time::Duration;

use arrow::{error::ArrowError, ipc::writer::StreamWriter};
use bytes::Bytes;
use futures::{StreamExt, stream, stream::BoxStream};
use tonic::{Request, Response, Status};
use tracing::Instrument;

use super::{Service, status::unanswered};
use crate::{
    engine::{Answer, Question},
    proto::tidewatch::v1::{QueryRequest, QueryResponse, query_server::Query},
    trace::request_span,
};

/// Bytes of one piece: below the size that clients accept by default.
const PIECE_BYTES_MAX: usize = 1 << 20;

#[tonic::async_trait]
impl Query for Service {
    type ExecuteStream = BoxStream<'static, Result<QueryResponse, Status>>;

    async fn execute(&self, request: Request<QueryRequest>) -> Result<Response<Self::ExecuteStream>, Status> {
        let span = request_span(&self.edge, "Execute", request.metadata().as_ref());
        let QueryRequest { sql, timeout_ms } = request.into_inner();
        let timeout = (timeout_ms > 0).then(|| Duration::from_millis(u64::from(timeout_ms)));
        let question = Question { sql, parameters: Vec::new(), timeout };
        let answer = self.edge.engine().query(question).instrument(span).await;
        Ok(Response::new(ipc(answer.map_err(|error| unanswered(&error))?)?))
    }
}

/// The answer as an IPC stream: schema, batches as they come, end mark.
fn ipc(answer: Answer) -> Result<BoxStream<'static, Result<QueryResponse, Status>>, Status> {
    let writer = StreamWriter::try_new(Vec::new(), &answer.schema).map_err(|error| unwritten(&error))?;
    let written = stream::unfold(Some((writer, answer.batches)), |state| async move {
        let (mut writer, mut batches) = state?;
        match batches.next().await {
            Some(Ok(batch)) => match writer.write(&batch) {
                Ok(()) => Some((Ok(std::mem::take(writer.get_mut())), Some((writer, batches)))),
                Err(error) => Some((Err(unwritten(&error)), None)),
            },
            Some(Err(error)) => Some((Err(unanswered(&error)), None)),
            None => match writer.finish() {
                Ok(()) => Some((Ok(std::mem::take(writer.get_mut())), None)),
                Err(error) => Some((Err(unwritten(&error)), None)),
            },
        }
    });
    Ok(written.flat_map(|written| stream::iter(pieces(written))).boxed())
}

fn pieces(written: Result<Vec<u8>, Status>) -> Vec<Result<QueryResponse, Status>> {
    let mut bytes = match written {
        Ok(bytes) => Bytes::from(bytes),
        Err(status) => return vec![Err(status)],
    };
    let mut pieces = Vec::with_capacity(bytes.len() / PIECE_BYTES_MAX + 1);
    while !bytes.is_empty() {
        let piece = bytes.split_to(bytes.len().min(PIECE_BYTES_MAX));
        pieces.push(Ok(QueryResponse { arrow_ipc: piece }));
    }
    pieces
}

fn unwritten(error: &ArrowError) -> Status {
    Status::internal(format!("the answer cannot be written as Arrow IPC: {error}"))
}
