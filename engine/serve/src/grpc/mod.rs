//! The gRPC server: which services there are, and how they start and stop.

mod admin;
mod ingest;
mod query;
mod rules;
mod status;

use std::{future::Future, io, sync::Arc, time::Duration};

use futures::{Stream, stream};
use tidewatch_model::limits;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tonic::transport::Server;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{
    door::Door,
    edge::{Edge, ServeError},
    proto::{
        DESCRIPTORS,
        tidewatch::v1::{
            admin_server::AdminServer, alerts_server::AlertsServer, ingest_server::IngestServer,
            query_server::QueryServer, rules_server::RulesServer,
        },
    },
};

/// How long calls in flight may go on after the end of serving was asked for.
const GRACE: Duration = Duration::from_secs(10);

/// How often the health service asks the engine whether it is ready.
const HEALTH_EVERY: Duration = Duration::from_secs(1);

/// The pause after an accept that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
const FRAME_BYTES: u32 = 256 << 10;

/// What every service holds.
#[derive(Clone)]
struct Service {
    edge: Edge,
    door: Arc<Door>,
    /// True once the server is to stop: streams then end instead of waiting for their clients.
    stopping: watch::Receiver<bool>,
}

/// Serves until `shutdown` ends, then lets calls in flight end, for at most ten seconds.
pub async fn serve_grpc(
    listener: TcpListener,
    edge: Edge,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let door = Arc::new(edge.door()?);
    let (stop, stopping) = watch::channel(false);
    let service = Service { edge: edge.clone(), door, stopping: stopping.clone() };
    let (reporter, health) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(|error| ServeError::Reflection(error.to_string()))?;
    let router = Server::builder()
        .max_concurrent_streams(limits::GRPC_STREAMS_PER_CONNECTION_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
        .add_service(health)
        .add_service(reflection)
        .add_service(IngestServer::new(service.clone()).max_decoding_message_size(limits::REQUEST_BYTES_MAX))
        .add_service(QueryServer::new(service.clone()))
        .add_service(RulesServer::new(service.clone()))
        .add_service(AlertsServer::new(service.clone()))
        .add_service(AdminServer::new(service));
    let signal = async move {
        shutdown.await;
        // Nobody listens only when the server has ended already.
        let _ = stop.send(true);
    };
    tokio::select! {
        ended = router.serve_with_incoming_shutdown(accepted(listener), signal) => Ok(ended?),
        () = watch_health(edge, reporter, stopping) => {
            tracing::warn!("gRPC calls were still in flight {GRACE:?} after the stop; they are cut off");
            Ok(())
        }
    }
}

/// Keeps the health service true until the grace after a stop has passed. The engine as a whole, and `Ingest`, serve
/// while it is ready; the other services for as long as it answers.
async fn watch_health(edge: Edge, reporter: HealthReporter, mut stopping: watch::Receiver<bool>) {
    const TAKING: [&str; 2] = ["", "tidewatch.v1.Ingest"];
    const ANSWERING: [&str; 4] =
        ["tidewatch.v1.Query", "tidewatch.v1.Rules", "tidewatch.v1.Alerts", "tidewatch.v1.Admin"];
    loop {
        let stop = *stopping.borrow_and_update();
        let status = |serving: bool| if serving && !stop { ServingStatus::Serving } else { ServingStatus::NotServing };
        let (takes, answers) = (status(edge.engine().ready().is_ok()), status(edge.engine().answers()));
        for (services, status) in [(&TAKING[..], takes), (&ANSWERING[..], answers)] {
            for service in services {
                reporter.set_service_status(*service, status).await;
            }
        }
        if stop {
            return tokio::time::sleep(GRACE).await;
        }
        tokio::select! {
            () = tokio::time::sleep(HEALTH_EVERY) => {}
            _ = stopping.changed() => {}
        }
    }
}

/// Connections as they come. Where the process has no file descriptors left it waits instead of asking again at once.
fn accepted(listener: TcpListener) -> impl Stream<Item = io::Result<TcpStream>> {
    stream::unfold(listener, |listener| async {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let stream = stream.set_nodelay(true).map(|()| stream);
                    return Some((stream, listener));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    })
}
