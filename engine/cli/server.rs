//! The running engine that a command talks to: its address, and what to say when nobody answers there.

use std::time::Duration;

use anyhow::Context;
use tonic::transport::{Channel, Endpoint};

const DEFAULT: &str = "http://127.0.0.1:4700";
const VARIABLE: &str = "TIDEWATCH_SERVER";
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Which engine to talk to.
#[derive(Clone, Debug, clap::Args)]
pub struct ServerArgs {
    /// The gRPC address of a running engine. Default: TIDEWATCH_SERVER, else http://127.0.0.1:4700.
    #[arg(long, value_name = "URL")]
    server: Option<String>,
}

impl ServerArgs {
    pub async fn connect(&self) -> anyhow::Result<Channel> {
        let named = self.server.clone().or_else(|| std::env::var(VARIABLE).ok().filter(|server| !server.is_empty()));
        let server = named.unwrap_or_else(|| DEFAULT.to_owned());
        endpoint(&server)?.connect().await.with_context(|| {
            format!(
                "no engine answers at {server}; start one with `tidewatch serve --config FILE` or `tidewatch demo`, \
                 or name another with --server"
            )
        })
    }
}

/// A gRPC address that nobody has connected to yet.
pub fn endpoint(server: &str) -> anyhow::Result<Endpoint> {
    let url = if server.contains("://") { server.to_owned() } else { format!("http://{server}") };
    let endpoint = Endpoint::from_shared(url)
        .with_context(|| format!("`{server}` is not an address; write for example {DEFAULT}"))?;
    Ok(endpoint.connect_timeout(CONNECT_WITHIN).tcp_nodelay(true))
}
