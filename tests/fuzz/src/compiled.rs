//! The decoders that need the engine's SQL: rule, view and stream files, the configuration, the state of a checkpoint.

use tidewatch::{
    checkpoint::state_file,
    config::{self, Environment},
};
use tidewatch_rules::RuleFile;
use tidewatch_views::{Stream, compile_stream, compile_view};

use std::sync::LazyLock;

pub const DECODERS: [super::decoders_without_sql::Decoder; 6] = [
    ("rule_file", rule_file),
    ("view_file", view_file),
    ("stream_file", stream_file),
    ("config", config_file),
    ("state", state),
    ("ids", ids),
];

static STREAM: LazyLock<Stream> = LazyLock::new(|| {
    compile_stream("transactions.sql", include_str!("../../../queries/streams/transactions.sql")).unwrap()
});

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

pub fn rule_file(bytes: &[u8]) {
    if let Err(refusal) = RuleFile::parse("rules/rule.sql", &text(bytes)) {
        assert!(!refusal.to_string().is_empty());
    }
}

pub fn view_file(bytes: &[u8]) {
    if let Err(refusal) = compile_view(&STREAM, "views/view.sql", &text(bytes)) {
        assert!(!refusal.to_string().is_empty());
    }
}

pub fn stream_file(bytes: &[u8]) {
    if let Err(refusal) = compile_stream("streams/transactions.sql", &text(bytes)) {
        assert!(!refusal.to_string().is_empty());
    }
}

pub fn config_file(bytes: &[u8]) {
    if let Err(refusal) = config::combine(Some(("tidewatch.toml", &text(bytes))), &Environment::default(), &[]) {
        assert!(!refusal.to_string().is_empty());
    }
}

pub fn state(bytes: &[u8]) {
    let Ok((descriptions, frames)) = state_file::decode_state(bytes) else { return };
    let again = state_file::encode_state(descriptions, &frames).unwrap();
    let (told, rows) = state_file::decode_state(&again).unwrap();
    assert_eq!((told, rows), (descriptions, frames));
}

pub fn ids(bytes: &[u8]) {
    let Ok(runs) = state_file::decode_ids(bytes) else { return };
    assert_eq!(state_file::encode_ids(&runs), bytes);
}

/// A good input for each, from which the corpus is made.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    let column: ArrayRef = std::sync::Arc::new(Int64Array::from(vec![Some(1), None]));
    let frame = RecordBatch::try_from_iter([("n", column)]).unwrap();
    let minute = tidewatch_model::Minute::from_index(29_000_000);
    vec![
        ("rule_file", include_bytes!("../../../queries/rules/status-surge.sql").to_vec()),
        ("view_file", include_bytes!("../../../queries/views/payments.sql").to_vec()),
        ("stream_file", include_bytes!("../../../queries/streams/transactions.sql").to_vec()),
        ("config", include_bytes!("../../../deploy/tidewatch.toml").to_vec()),
        ("state", state_file::encode_state([b"{}", b"[]", b"{}", b"[]"], &[frame]).unwrap()),
        ("ids", state_file::encode_ids(&[(minute, vec![1, u128::MAX])])),
    ]
}
