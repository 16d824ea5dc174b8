//! A small HTTP server on the loopback that answers each request as the test's script says.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, mpsc},
    thread,
};

#[derive(Clone, Debug)]
pub enum Answer {
    /// Status, further header lines, body.
    Status(u16, &'static str, String),
    /// Close without a word.
    Drop,
    /// Keep the connection and say nothing.
    Hang,
}

pub fn status(code: u16) -> Answer {
    Answer::Status(code, "", String::new())
}

#[derive(Clone, Debug)]
pub struct Request {
    /// Names in lower case.
    pub head: Vec<String>,
    pub body: String,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

pub struct Server {
    pub url: String,
    requests: mpsc::Receiver<Request>,
}

impl Server {
    /// Answers by the script, one entry a request; beyond its end with the last entry.
    pub fn start(script: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hook/t0ken-in-path", listener.local_addr().unwrap());
        let (sender, requests) = mpsc::channel();
        let script = Arc::new(Mutex::new(VecDeque::from(script)));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (script, sender) = (Arc::clone(&script), sender.clone());
                thread::spawn(move || serve(stream, &script, &sender));
            }
        });
        Self { url, requests }
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.try_iter().collect()
    }
}

fn serve(stream: TcpStream, script: &Mutex<VecDeque<Answer>>, sender: &mpsc::Sender<Request>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    while let Some(request) = read(&mut reader) {
        let answer = {
            let mut script = script.lock().unwrap();
            if script.len() > 1 { script.pop_front() } else { script.front().cloned() }
        };
        let _test_is_over = sender.send(request);
        match answer.expect("a script has at least one answer") {
            Answer::Drop => return,
            Answer::Hang => {
                // Ends when the client gives up and closes.
                let _closed = reader.read_to_end(&mut Vec::new());
                return;
            }
            Answer::Status(code, headers, body) => {
                let head = format!("HTTP/1.1 {code} Said\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
                if stream.write_all(format!("{head}{body}").as_bytes()).is_err() {
                    return;
                }
            }
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        match line.split_once(':') {
            Some((name, value)) => head.push(format!("{}: {}", name.to_lowercase(), value.trim())),
            None => head.push(line.to_owned()),
        }
    }
    let length = head.iter().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { head, body: String::from_utf8(body).ok()? })
}
