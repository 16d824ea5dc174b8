//! Serves the live page with figures that stand still, to look at it: `cargo run --example page -p tidewatch-serve`.

#[path = "../tests/serve/fake.rs"]
#[expect(dead_code, reason = "the tests use all of it")]
mod fake;

use std::{error::Error, sync::Arc};

use tidewatch_model::ManualClock;
use tidewatch_serve::{Edge, serve_http};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("http://{}/", listener.local_addr()?);
    let edge = Edge::new(Arc::new(fake::Fake::new()), Arc::new(ManualClock::at(fake::NOW)), fake::id_key());
    Ok(serve_http(listener, edge, std::future::pending()).await?)
}
