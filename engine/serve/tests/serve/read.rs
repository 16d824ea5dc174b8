//! Remote read as Prometheus speaks it.

use prost::Message;
use tidewatch_serve::proto::prometheus::{LabelMatcher, Query, ReadRequest, ReadResponse};

use crate::wire::{Answer, Server, http};

fn pack(request: &ReadRequest) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(&request.encode_to_vec()).unwrap()
}

fn query(matchers: &[(i32, &str, &str)], start: i64, end: i64) -> Query {
    let matchers = matchers
        .iter()
        .map(|(kind, name, value)| LabelMatcher { r#type: *kind, name: (*name).to_owned(), value: (*value).to_owned() })
        .collect();
    Query { start_timestamp_ms: start, end_timestamp_ms: end, matchers }
}

async fn send(server: &Server, body: &[u8]) -> Answer {
    let headers = [
        ("content-type", "application/x-protobuf"),
        ("content-encoding", "snappy"),
        ("x-prometheus-remote-read-version", "0.1.0"),
    ];
    server.ask("POST", "/api/v1/read", &headers, body).await
}

async fn read(server: &Server, queries: Vec<Query>) -> ReadResponse {
    let request = ReadRequest { queries, accepted_response_types: vec![1, 0] };
    let answer = send(server, &pack(&request)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.headers["content-type"], "application/x-protobuf");
    assert_eq!(answer.headers["content-encoding"], "snappy");
    let bytes = snap::raw::Decoder::new().decompress_vec(&answer.body).unwrap();
    ReadResponse::decode(bytes.as_slice()).unwrap()
}

#[tokio::test]
async fn matchers_choose_series_and_both_ends_count() {
    let server = http().await;
    const NAME: (i32, &str, &str) = (0, "__name__", "payments_transactions");
    for (matchers, statuses) in [
        (vec![NAME], vec!["approved", "denied", "failed"]),
        (vec![NAME, (0, "status", "denied")], vec!["denied"]),
        (vec![NAME, (1, "status", "denied")], vec!["approved", "failed"]),
        (vec![NAME, (2, "status", "den|fail.*")], vec!["failed"]),
        (vec![NAME, (3, "status", "den|fail.*")], vec!["approved", "denied"]),
        (vec![NAME, (0, "region", "")], vec!["approved", "denied", "failed"]),
        (vec![(0, "__name__", "other")], vec![]),
    ] {
        let response = read(&server, vec![query(&matchers, 60_000, 180_000)]).await;
        let series = &response.results[0].timeseries;
        let found: Vec<_> = series.iter().map(|series| series.labels[1].value.as_str()).collect();
        assert_eq!(found, statuses, "{matchers:?}");
        for series in series {
            let samples: Vec<_> = series.samples.iter().map(|sample| (sample.timestamp, sample.value)).collect();
            assert_eq!(samples, [(60_000, 1.5), (120_000, 2.5), (180_000, 3.5)]);
        }
    }
    let two = read(&server, vec![query(&[NAME], 0, 0), query(&[(0, "status", "denied")], 0, 60_000)]).await;
    let sizes: Vec<_> = two.results.iter().map(|result| result.timeseries.len()).collect();
    assert_eq!(sizes, [3, 1]);
}

#[tokio::test]
async fn what_cannot_be_read_is_refused() {
    let server = http().await;
    let one = |matcher| pack(&ReadRequest { queries: vec![query(&[matcher], 0, 1)], accepted_response_types: vec![] });
    let long = "a".repeat(1_000_000);
    // A header that announces four gigabytes, with nothing behind it.
    let bomb = vec![0xff, 0xff, 0xff, 0xff, 0x0f];
    let large = snap::raw::Encoder::new().compress_vec(&vec![0; 10 << 20]).unwrap();
    let good = one((0, "a", "b"));
    for (body, status, reason) in [
        (b"".to_vec(), 400, "snappy"),
        (b"not snappy at all".to_vec(), 400, "snappy"),
        (good[..good.len() - 3].to_vec(), 400, "snappy"),
        (snap::raw::Encoder::new().compress_vec(b"\xff\xff\xff").unwrap(), 400, "ReadRequest"),
        (bomb, 413, "unpacks to"),
        (large, 413, "unpacks to"),
        (one((2, "status", "(")), 400, "does not compile"),
        (one((2, "status", "a)|(b")), 400, "does not compile"),
        (one((2, "status", &long)), 400, "1000000 bytes"),
        (one((2, "status", "(a{1000}){1000}")), 400, "does not compile"),
        (one((9, "status", "x")), 400, "type of matcher"),
        (one((0, "", "x")), 400, "label name"),
        (pack(&ReadRequest { queries: vec![], accepted_response_types: vec![1] }), 400, "SAMPLES"),
        (
            pack(&ReadRequest { queries: vec![query(&[], 0, 1); 65], accepted_response_types: vec![] }),
            400,
            "65 queries",
        ),
    ] {
        let answer = send(&server, &body).await;
        assert_eq!(answer.status, status, "{reason}: {}", answer.text());
        assert!(answer.json()["message"].as_str().unwrap().contains(reason), "{}", answer.text());
    }
    assert_eq!(send(&server, &good).await.status, 200);
}

/// Requests that a real Prometheus sent.
#[test]
fn recorded_requests_decode() {
    let folder = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/remote_read"));
    let required = std::env::var("TIDEWATCH_REQUIRE").is_ok_and(|list| list.split(',').any(|name| name == "shared"));
    if !folder.exists() {
        assert!(!required, "the shared data is required and absent");
        println!("skipped: there is no shared data");
        return;
    }
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "snappy") {
            continue;
        }
        let bytes = snap::raw::Decoder::new().decompress_vec(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(bytes, std::fs::read(path.with_extension("pb")).unwrap());
        let request = ReadRequest::decode(bytes.as_slice()).unwrap();
        assert!(request.queries.iter().all(|query| !query.matchers.is_empty()), "{}", path.display());
        assert!(request.queries.iter().all(|query| query.start_timestamp_ms <= query.end_timestamp_ms));
        count += 1;
    }
    assert!(count >= 8, "{count}");
}
