//! A receiver of webhooks that keeps all it was sent. It can be told to refuse the first attempts of each delivery.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use serde_json::Value;

/// One request that was accepted or refused.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub key: String,
    pub body: Value,
    pub accepted: bool,
}

impl Delivery {
    pub fn text(&self, field: &str) -> &str {
        self.body[field].as_str().unwrap_or_default()
    }

    pub fn label(&self, name: &str) -> &str {
        self.body["labels"][name].as_str().unwrap_or_default()
    }
}

#[derive(Debug, Default)]
struct Kept {
    refused_first: u32,
    deliveries: Vec<Delivery>,
    attempts: BTreeMap<String, u32>,
}

#[derive(Clone, Debug)]
pub struct WebhookReceiver {
    pub address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
}

impl WebhookReceiver {
    /// Runs until the test's runtime ends. The first `refused_first` attempts under each key are answered 503.
    pub async fn start(refused_first: u32) -> Self {
        let kept = Arc::new(Mutex::new(Kept { refused_first, ..Kept::default() }));
        let router = Router::new().route("/hook", post(take)).with_state(Arc::clone(&kept));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, kept }
    }

    /// The configuration of an engine that sends here.
    pub fn configuration(&self) -> String {
        format!("[[receivers]]\nname = \"test\"\ntype = \"webhook\"\nurl = \"http://{}/hook\"\n", self.address)
    }

    pub fn deliveries(&self) -> Vec<Delivery> {
        self.kept.lock().unwrap().deliveries.clone()
    }
}

async fn take(State(kept): State<Arc<Mutex<Kept>>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok()).unwrap_or_default().to_owned();
    let mut kept = kept.lock().unwrap();
    let refused_first = kept.refused_first;
    let attempts = kept.attempts.entry(key.clone()).or_default();
    *attempts += 1;
    let accepted = *attempts > refused_first;
    kept.deliveries.push(Delivery { key, body: serde_json::from_slice(&body).unwrap_or_default(), accepted });
    if accepted { StatusCode::NO_CONTENT } else { StatusCode::SERVICE_UNAVAILABLE }
}
