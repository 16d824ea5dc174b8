//! The pages for people: one file each, with everything in it. A page may run its own script and nothing else, which
//! its Content-Security-Policy says with hashes; that is what makes a hostile label harmless even if the script slips.

use std::sync::Arc;

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use ring::digest;

use super::Site;

/// A page and the policy under which it is shown.
pub(super) struct Page {
    html: &'static str,
    policy: String,
}

impl Page {
    pub(super) fn new(html: &'static str) -> Self {
        let scripts = hashes(html, "<script>", "</script>");
        let styles = hashes(html, "<style>", "</style>");
        let policy = format!(
            "default-src 'none'; script-src {scripts}; style-src {styles}; connect-src 'self'; img-src data:; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        );
        Self { html, policy }
    }

    fn response(&self) -> Response {
        let headers = [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (header::CONTENT_SECURITY_POLICY, self.policy.as_str()),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::CACHE_CONTROL, "no-cache"),
        ];
        (headers, self.html).into_response()
    }
}

/// The hashes of everything between the two marks.
fn hashes(html: &str, open: &str, close: &str) -> String {
    let blocks = html.split(open).skip(1).filter_map(|rest| rest.split(close).next());
    let hashes: Vec<String> = blocks
        .map(|block| format!("'sha256-{}'", BASE64_STANDARD.encode(digest::digest(&digest::SHA256, block.as_bytes()))))
        .collect();
    if hashes.is_empty() { "'none'".to_owned() } else { hashes.join(" ") }
}

pub(super) async fn live(State(site): State<Arc<Site>>) -> Response {
    site.live.response()
}

pub(super) async fn reference(State(site): State<Arc<Site>>) -> Response {
    site.reference.response()
}

pub(super) async fn openapi() -> Response {
    let document = include_str!("../../page/openapi.json");
    ([(header::CONTENT_TYPE, "application/json")], document).into_response()
}
