//! What strangers send. Each gets a clear error, and the next request is served.

use tidewatch_serve::proto::tidewatch::v1::{SubmitRequest, Transaction, ingest_client::IngestClient};
use tonic::{
    Code, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};

use crate::{grpc::event, wire::grpc, wire::http};

/// Sends bytes as they are.
#[derive(Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, bytes: &mut EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put_slice(bytes, &item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let length = bytes::Buf::remaining(bytes);
        Ok(Some(bytes::Buf::copy_to_bytes(bytes, length).to_vec()))
    }
}

async fn send_raw(channel: &Channel, bytes: Vec<u8>) -> Status {
    let mut client = Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let path = http_path("/tidewatch.v1.Ingest/Submit");
    client.unary(tonic::Request::new(bytes), path, Raw).await.unwrap_err()
}

fn http_path(path: &'static str) -> ::http::uri::PathAndQuery {
    ::http::uri::PathAndQuery::from_static(path)
}

#[tokio::test]
async fn broken_and_oversized_messages_leave_the_server_serving() {
    let (server, channel) = grpc().await;
    let mut client = IngestClient::new(channel.clone());
    // A length that runs past the end; a field of a wrong wire type; text that is not UTF-8; a group; nonsense.
    for bytes in [
        vec![0x12, 0xff, 0xff, 0xff, 0x7f],
        vec![0x08],
        vec![0x12, 0x04, 0x1a, 0x02, 0xff, 0xfe],
        vec![0x13, 0x13, 0x13],
        vec![0xff; 64],
    ] {
        let status = send_raw(&channel, bytes.clone()).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{bytes:?}: {status:?}");
        assert!(status.message().contains("not the message"), "{}", status.message());
    }
    let status = send_raw(&channel, vec![0; 100 << 20]).await;
    assert!(
        matches!(status.code(), Code::OutOfRange | Code::Unavailable | Code::Cancelled | Code::Unknown),
        "{status:?}"
    );
    let oversized = Transaction { region: Some("x".repeat((16 << 20) + 1)), ..event() };
    let request = SubmitRequest { transactions: vec![oversized], ..SubmitRequest::default() };
    let status = client.submit(request).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    let good = SubmitRequest { transactions: vec![event()], ..SubmitRequest::default() };
    assert_eq!(client.submit(good).await.unwrap().into_inner().accepted, 1);
    assert_eq!(server.engine.rows(), 1);
}

#[tokio::test]
async fn impossible_events_are_refused_one_by_one() {
    let (server, channel) = grpc().await;
    let mut client = IngestClient::new(channel);
    let transactions = vec![
        Transaction { occurred_at: 253_370_764_800_000_000, ..event() },
        Transaction { occurred_at: 86_400_000_000, ..event() },
        Transaction { count: Some(-3), ..event() },
        Transaction { account_id: Some("x".repeat(10 << 20)), ..event() },
        event(),
    ];
    let request = SubmitRequest { transactions, ..SubmitRequest::default() };
    let answer = client.submit(request).await.unwrap().into_inner();
    let fields: Vec<_> = answer.rejections.iter().map(|rejection| rejection.field.as_str()).collect();
    assert_eq!(fields, ["occurred_at", "occurred_at", "count", "account_id"]);
    assert_eq!((answer.accepted, server.engine.rows()), (1, 1));
    assert!(server.engine.submitted()[0].rejected.iter().all(|rejected| rejected.event.len() <= 1_024));
}

#[tokio::test]
async fn a_batch_of_nothing_but_faults_has_a_bounded_answer_and_record() {
    let (server, channel) = grpc().await;
    let mut client = IngestClient::new(channel);
    let bad = Transaction { count: Some(-3), region: Some("é".repeat(50)), ..event() };
    let request = SubmitRequest { transactions: vec![bad; 65_536], ..SubmitRequest::default() };
    let answer = client.submit(request).await.unwrap().into_inner();
    assert_eq!((answer.accepted, answer.rejected, answer.rejections.len()), (0, 65_536, 1_024));
    let rejected = &server.engine.submitted()[0].rejected;
    let bytes: usize = rejected.iter().map(|rejected| rejected.event.len()).sum();
    assert_eq!(rejected.len(), 65_536);
    assert!(bytes <= 9 << 20, "{bytes}");
}

#[tokio::test]
async fn http_survives_what_is_not_http_and_what_is_too_much() {
    let server = http().await;
    let huge = vec![b' '; 17 << 20];
    assert_eq!(server.ask("POST", "/api/v1/events", &[], &huge).await.status, 413);
    // The same without announcing its length.
    let mut chunked = b"POST /api/v1/events HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..17 {
        chunked.extend_from_slice(b"100000\r\n");
        chunked.extend_from_slice(&huge[..1 << 20]);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    assert_eq!(server.say(&chunked).await.status, 413);
    assert_eq!(server.say(b"\x16\x03\x01\x02\x00 not http\r\n\r\n").await.status, 400);
    let long = format!("/{}", "x".repeat(100_000));
    assert!(server.get(&long).await.status >= 400);
    for path in ["/../../etc/passwd", "/%00", "/api/v1/events/..", "//", "/transactions?%ff=%fe&&&="] {
        let status = server.get(path).await.status;
        assert!((400..500).contains(&status), "{path}: {status}");
    }
    assert_eq!(server.get("/-/healthy").await.status, 200);
    assert!(server.engine.submitted().is_empty());
}
