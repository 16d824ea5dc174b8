//! Alerts as HTTP requests: one POST of the JSON body for each transition. 2xx is an acknowledgement. 408, 425, 429,
//! 5xx, timeouts and broken connections are worth another attempt (after `Retry-After` seconds where given); any
//! other answer is final. Redirects are not followed and proxies of the environment are not used, so an alert goes to
//! the configured address or nowhere.
//!
//! What is secret (header values, the path and password of the address) is never logged, printed, or kept in the
//! reason of a failure, not even where the receiver repeats it in its answer.

use std::{collections::BTreeMap, error::Error as _, fmt};

use reqwest::{
    Client, Response, StatusCode, Url,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use serde::Deserialize;
use tidewatch_alerts::{Delivery, DeliveryError, Retry};
use tidewatch_model::{Span, limits};

use crate::{Body, Secret};

/// Headers that every request sets itself.
const OWN_HEADERS: [&str; 6] =
    ["content-type", "content-length", "host", "idempotency-key", "traceparent", "transfer-encoding"];

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    pub name: String,
    /// http or https. Secret, because many services put the token into the path.
    pub url: Secret,
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// For the whole exchange, from connecting to the end of the answer.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
    /// Sent along, for the person who reads the alert.
    #[serde(default)]
    pub generator_url: Option<String>,
}

fn default_timeout() -> Span {
    Span::from_seconds(10)
}

#[derive(Clone)]
pub struct Webhook {
    name: String,
    url: Url,
    headers: HeaderMap,
    generator_url: Option<String>,
    client: Client,
    /// What is struck from the reasons of failures.
    secrets: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    #[error("webhook `{0}`: its url is not an address of the form https://host/path")]
    Url(String),
    #[error("webhook `{0}`: `{1}` is not a header's name, or its value has characters that a header cannot carry")]
    Header(String, String),
    #[error("webhook `{0}`: the header `{1}` is set by every request itself; remove it from the configuration")]
    OwnHeader(String, String),
    #[error("webhook `{0}`: its timeout must be longer than zero")]
    Timeout(String),
    #[error("webhook `{0}`: no HTTP client could be made; for https the system's CA certificates are needed")]
    Client(String, #[source] reqwest::Error),
}

impl Webhook {
    /// # Errors
    /// The configuration cannot work; the message never repeats a secret.
    pub fn new(config: WebhookConfig) -> Result<Self, WebhookError> {
        let name = config.name;
        let url = Url::parse(config.url.reveal())
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| WebhookError::Url(name.clone()))?;
        if config.timeout <= Span::ZERO {
            return Err(WebhookError::Timeout(name));
        }
        let mut headers = HeaderMap::new();
        for (header, value) in &config.headers {
            let wrong = || WebhookError::Header(name.clone(), header.clone());
            let parsed = HeaderName::from_bytes(header.as_bytes()).map_err(|_| wrong())?;
            if OWN_HEADERS.contains(&parsed.as_str()) {
                return Err(WebhookError::OwnHeader(name, header.clone()));
            }
            let mut value = HeaderValue::from_str(value.reveal()).map_err(|_| wrong())?;
            value.set_sensitive(true);
            headers.insert(parsed, value);
        }
        let client = client(&url, config.timeout).map_err(|error| WebhookError::Client(name.clone(), error))?;
        let secrets = secrets(&url, config.headers.values());
        Ok(Self { name, url, headers, generator_url: config.generator_url, client, secrets })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// # Errors
    /// Anything but a 2xx; see the top of this file for what is worth another attempt.
    pub async fn deliver(&self, delivery: &Delivery) -> Result<(), DeliveryError> {
        let transition = &delivery.transition;
        let body = serde_json::to_vec(&Body::new(transition, self.generator_url.as_deref())).map_err(|error| {
            let reason = format!("the alert cannot be written as JSON: {error}");
            DeliveryError { reason, retry: Retry::Never }
        })?;
        let mut request = self
            .client
            .post(self.url.clone())
            .headers(self.headers.clone())
            .header("content-type", "application/json")
            .header("idempotency-key", transition.key.to_string())
            .body(body);
        // A trace context that no header can carry is left out rather than keeping the alert back.
        if let Some(context) = delivery.traceparent.as_deref().and_then(|text| HeaderValue::from_str(text).ok()) {
            request = request.header("traceparent", context);
        }
        match request.send().await {
            Ok(response) => self.judge(response).await,
            Err(error) => Err(self.not_sent(error)),
        }
    }

    fn not_sent(&self, error: reqwest::Error) -> DeliveryError {
        let retry = if error.is_builder() { Retry::Never } else { Retry::Backoff };
        let what = if error.is_timeout() { "no answer in time" } else { "the request failed" };
        let error = error.without_url();
        let mut reason = format!("{what}: {error}");
        let mut source = error.source();
        while let Some(cause) = source {
            reason.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        DeliveryError { reason: self.without_secrets(reason), retry }
    }

    async fn judge(&self, mut response: Response) -> Result<(), DeliveryError> {
        let status = response.status();
        let retry_after = retry_after(response.headers());
        let answer = read_bounded(&mut response).await;
        if status.is_success() {
            return Ok(());
        }
        let again =
            matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS);
        let retry = match retry_after {
            _ if !again && !status.is_server_error() => Retry::Never,
            Some(span) => Retry::After(span),
            None => Retry::Backoff,
        };
        let moved =
            if status.is_redirection() { " (redirects are not followed: configure the final address)" } else { "" };
        let mut reason = format!("answered {}{moved}", status.as_u16());
        if !answer.is_empty() {
            reason.push_str(&format!(": {answer}"));
        }
        Err(DeliveryError { reason: self.without_secrets(reason), retry })
    }

    fn without_secrets(&self, mut text: String) -> String {
        for secret in &self.secrets {
            if text.contains(secret) {
                text = text.replace(secret, "***");
            }
        }
        text
    }
}

fn client(url: &Url, timeout: Span) -> Result<Client, reqwest::Error> {
    // Whoever installed a provider before us meant it; then this changes nothing.
    let _already_installed = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .timeout(timeout.to_std())
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .user_agent(concat!("tidewatch/", env!("CARGO_PKG_VERSION")))
        .pool_max_idle_per_host(limits::DELIVERIES_IN_FLIGHT_PER_RECEIVER_MAX);
    if url.scheme() == "http" {
        // Without this, a machine that has no CA certificates could not even talk plain HTTP.
        builder = builder.tls_built_in_root_certs(false);
    }
    builder.build()
}

/// Longest first, so that no part of a longer secret stays when a shorter one is struck. Very short values would
/// strike ordinary text and tell nobody anything.
fn secrets<'a>(url: &Url, headers: impl Iterator<Item = &'a Secret>) -> Vec<String> {
    const SHORTEST: usize = 4;
    let mut secrets: Vec<String> = headers.map(|value| value.reveal().to_owned()).collect();
    // `Bearer <token>`: the token alone is as secret.
    let parts: Vec<String> =
        secrets.iter().flat_map(|value| value.split_whitespace().skip(1)).map(str::to_owned).collect();
    secrets.extend(parts);
    secrets.extend(url.password().map(str::to_owned));
    secrets.extend(url.query().map(str::to_owned));
    secrets.extend(url.path().split('/').map(str::to_owned));
    secrets.push(url.path().to_owned());
    secrets.retain(|secret| secret.len() >= SHORTEST);
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets.dedup();
    secrets
}

/// `Retry-After` in seconds. Its other form, a date, would need a clock; back-off serves as well.
fn retry_after(headers: &HeaderMap) -> Option<Span> {
    headers
        .get("retry-after")?
        .to_str()
        .ok()?
        .trim()
        .parse::<u32>()
        .ok()
        .map(|seconds| Span::from_seconds(seconds.into()))
}

/// The beginning of an answer as one line of text. An answer that breaks off is as good as its beginning.
async fn read_bounded(response: &mut Response) -> String {
    const SHOWN: usize = 200;
    let mut bytes = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = limits::WEBHOOK_ANSWER_BYTES_MAX.saturating_sub(bytes.len());
        bytes.extend(chunk.iter().take(room));
        if bytes.len() >= limits::WEBHOOK_ANSWER_BYTES_MAX {
            break;
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN).collect::<String>().trim().to_owned()
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook")
            .field("name", &self.name)
            .field("origin", &self.url.origin().ascii_serialization())
            .field("headers", &self.headers.keys().map(HeaderName::as_str).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
