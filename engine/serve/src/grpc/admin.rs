//! Looking after the engine's data over gRPC, for callers on its own machine.

use futures::{
    StreamExt, future,
    stream::{self, BoxStream},
};
use tonic::{Request, Response, Status};
use tracing::Instrument;

use super::{
    Service,
    status::{refused, stopping},
};
use crate::{
    engine,
    proto::tidewatch::v1::{BackupDone, BackupProgress, BackupRequest, admin_server::Admin},
    trace::request_span,
};

#[tonic::async_trait]
impl Admin for Service {
    type BackupStream = BoxStream<'static, Result<BackupProgress, Status>>;

    async fn backup(&self, request: Request<BackupRequest>) -> Result<Response<Self::BackupStream>, Status> {
        from_here(&request)?;
        let span = request_span(&self.edge, "Backup", request.metadata().as_ref());
        let news = self.edge.engine().back_up(request.into_inner().to).instrument(span).await;
        let news = news.map_err(|refusal| refused(&refusal))?;
        let news = news.map(|news| news.map(progress).map_err(|refusal| refused(&refusal)));
        let (mut stop, stopped) = (self.stopping.clone(), self.stopping.clone());
        let stop = async move {
            // An error means that the server is gone, which is a stop as well.
            let _ = stop.wait_for(|stop| *stop).await;
        };
        let last_word = stream::once(future::lazy(move |_| *stopped.borrow()))
            .filter_map(|stopped| future::ready(stopped.then(|| Err(stopping()))));
        // A backup is given up at a stop: it must not hold up the engine for as long as an upload takes.
        Ok(Response::new(news.take_until(Box::pin(stop)).chain(last_word).boxed()))
    }
}

/// There is no access control, and a backup writes where its caller says: so only who is on this machine may ask.
fn from_here(request: &Request<BackupRequest>) -> Result<(), Status> {
    let Some(peer) = request.remote_addr().map(|peer| peer.ip()) else {
        return Err(Status::permission_denied("nobody knows from where this was asked"));
    };
    let own = request.local_addr().is_some_and(|own| own.ip() == peer);
    if own || peer.to_canonical().is_loopback() {
        return Ok(());
    }
    Err(Status::permission_denied("a backup is asked for on the engine's own machine: run `tidewatch backup` there"))
}

fn progress(progress: engine::BackupProgress) -> BackupProgress {
    BackupProgress {
        objects: progress.objects,
        bytes: progress.bytes,
        objects_done: progress.objects_done,
        bytes_done: progress.bytes_done,
        bytes_sent: progress.bytes_sent,
        done: progress.done.map(|done| BackupDone { id: done.id, last_lsn: done.last.0 }),
    }
}
