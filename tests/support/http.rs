//! Short forms of HTTP requests. Every answer is read whole.

use serde_json::Value;

fn client() -> reqwest::Client {
    // Whoever installed a provider before us meant it; then this changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // Plain HTTP needs no certificates, and a machine may have none.
    reqwest::Client::builder().no_proxy().tls_built_in_root_certs(false).build().unwrap()
}

pub async fn get(url: &str) -> (u16, String) {
    let response = client().get(url).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

pub async fn get_json(url: &str) -> Value {
    let (status, text) = get(url).await;
    assert_eq!(status, 200, "{url}: {text}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{url}: {error}: {text}"))
}

pub async fn post_json(url: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
    let request = client().post(url).header("content-type", "application/json").body(body);
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// Query parameters, encoded.
pub fn url_encoded(base: &str, parameters: &[(&str, &str)]) -> String {
    reqwest::Url::parse_with_params(base, parameters).unwrap().into()
}
