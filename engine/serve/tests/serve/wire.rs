//! Starts servers for a test, and speaks HTTP/1.1 by hand, so that what is malformed can be said as well.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use serde_json::Value;
use tidewatch_model::ManualClock;
use tidewatch_serve::{Edge, serve_grpc, serve_http};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};
use tonic::transport::Channel;

use crate::fake::{Fake, NOW, id_key};

pub struct Server {
    pub engine: Fake,
    pub address: SocketAddr,
    pub stop: oneshot::Sender<()>,
    pub ended: JoinHandle<()>,
}

pub fn edge(engine: &Fake) -> Edge {
    let clock = Arc::new(ManualClock::at(NOW));
    Edge::new(Arc::new(engine.clone()), clock, id_key()).metrics(|| "tidewatch_up 1\n".to_owned())
}

pub async fn start_grpc(engine: Fake, edge: Edge) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async move { drop(stopped.await) };
    let ended = tokio::spawn(async move { serve_grpc(listener, edge, shutdown).await.unwrap() });
    Server { engine, address, stop, ended }
}

pub async fn grpc() -> (Server, Channel) {
    let engine = Fake::new();
    let server = start_grpc(engine.clone(), edge(&engine)).await;
    let channel = connect(server.address).await;
    (server, channel)
}

pub async fn connect(address: SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

pub async fn http() -> Server {
    let engine = Fake::new();
    let edge = edge(&engine);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async move { drop(stopped.await) };
    let ended = tokio::spawn(async move { serve_http(listener, edge, shutdown).await.unwrap() });
    Server { engine, address, stop, ended }
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
    /// Whether the body came to its proper end.
    pub whole: bool,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Server {
    pub async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
        self.say(&[head.as_bytes(), body].concat()).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"").await
    }

    pub async fn post(&self, path: &str, body: &str) -> Answer {
        self.ask("POST", path, &[("content-type", "application/json")], body.as_bytes()).await
    }

    /// Sends these bytes and reads what comes back. The server may answer and close before it has read all.
    pub async fn say(&self, bytes: &[u8]) -> Answer {
        let (mut reader, mut writer) = TcpStream::connect(self.address).await.unwrap().into_split();
        let bytes = bytes.to_vec();
        let sent = tokio::spawn(async move {
            let sent = writer.write_all(&bytes).await;
            (writer, sent)
        });
        let mut received = Vec::new();
        let _ = reader.read_to_end(&mut received).await;
        drop(sent.await);
        parse(&received)
    }
}

fn parse(received: &[u8]) -> Answer {
    let end = received.windows(4).position(|at| at == b"\r\n\r\n").expect("an answer has a head");
    let head = String::from_utf8_lossy(&received[..end]).into_owned();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: HashMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let rest = &received[end + 4..];
    let (body, whole) = if headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
        unchunk(rest)
    } else {
        let length = headers.get("content-length").map_or(rest.len(), |length| length.parse().unwrap());
        (rest.to_vec(), rest.len() == length)
    };
    Answer { status, headers, body, whole }
}

fn unchunk(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|at| at == b"\r\n") {
        let length = usize::from_str_radix(str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        if length == 0 {
            return (body, true);
        }
        body.extend_from_slice(&rest[end + 2..end + 2 + length]);
        rest = &rest[end + 2 + length + 2..];
    }
    (body, false)
}
