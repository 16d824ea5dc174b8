//! `tidewatch serve`: runs the engine until it is told to stop.

use std::{process::ExitCode, sync::Arc};

use tokio::signal::unix::{SignalKind, signal};

use super::SettingsArgs;
use crate::{
    app::{Running, Surroundings},
    clock::SystemClock,
    config::Environment,
    disk,
    telemetry::Telemetry,
};

/// Runs the engine until SIGTERM or Ctrl-C.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    settings: SettingsArgs,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let environment = Environment::of_process();
    let loaded = args.settings.load(&environment)?;
    let telemetry = Telemetry::start(&loaded.config.telemetry)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let surroundings = Surroundings {
        clock: Arc::new(SystemClock),
        disk: disk::of_environment(&environment)?,
        on_seal: None,
        alert_log: None,
    };
    let served = serve(&loaded.config, surroundings).await;
    telemetry.stop().await;
    served.map(|()| ExitCode::SUCCESS)
}

async fn serve(config: &crate::config::Config, surroundings: Surroundings) -> anyhow::Result<()> {
    // Before the start, so that a signal during recovery is not lost.
    let mut terminate = signal(SignalKind::terminate())?;
    let running = Running::start(config, surroundings).await?;
    if config.insecure {
        tracing::warn!("insecure = true: whoever reaches these addresses can read and write everything");
    }
    tracing::info!(grpc = %running.grpc, http = %format_args!("http://{}/", running.http),
        data = %config.data_dir.display(), "tidewatch is ready");
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            tracing::info!("interrupted: stopping");
        }
    }
    running.stop().await?;
    tracing::info!("stopped; everything acknowledged is in the log");
    Ok(())
}
