//! The real binary as a child process on ports that the system chose. It is killed when the test is over.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
};

use serde_json::Value;
use tidewatch_serve::proto::tidewatch::v1::{
    alerts_client::AlertsClient, ingest_client::IngestClient, rules_client::RulesClient,
};
use tonic::transport::{Channel, Endpoint};

use super::{Folder, soon, until};

/// The binary with nothing of this process's environment but the way to programs: a variable set for the tests must
/// not reach the engine.
pub fn tidewatch(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidewatch"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a command to its end without holding up the test's own servers.
pub async fn output(mut command: Command) -> Output {
    let running = tokio::task::spawn_blocking(move || command.output().unwrap());
    soon("a command's end", running).await.unwrap()
}

/// How an engine is started; it may be started again, over the same data.
#[derive(Debug)]
pub struct Setup {
    pub folder: Folder,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
}

impl Setup {
    pub fn new() -> Self {
        Self { folder: Folder::new(), arguments: Vec::new(), variables: Vec::new() }
    }

    /// With these settings, as they would stand in a file.
    pub fn configured(toml: &str) -> Self {
        let mut setup = Self::new();
        let path = setup.folder.write("tidewatch.toml", toml);
        setup.arguments = vec!["--config".to_owned(), path.display().to_string()];
        setup
    }

    /// With the shipped stream and these views and rules instead of the shipped ones; names as `views/payments.sql`.
    pub fn queries(mut self, files: &[(&str, &str)]) -> Self {
        let stream = include_str!("../../queries/streams/transactions.sql");
        for (name, text) in files.iter().chain(&[("streams/transactions.sql", stream)]) {
            self.folder.write(&format!("queries/{name}"), text);
        }
        self.arguments.extend(["--queries-dir".to_owned(), self.folder.path().join("queries").display().to_string()]);
        self
    }

    /// With a variable in the engine's environment.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// `tidewatch serve` with further arguments; a later one beats an earlier one.
    pub fn serve(&self, more: &[&str]) -> Command {
        let data = self.data();
        let mut command = tidewatch(["serve", "--grpc-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0"]);
        if !more.contains(&"--data-dir") {
            command.arg("--data-dir").arg(data);
        }
        // Nothing of the working folder may be taken for ours, such as `queries`.
        command.envs(self.variables.iter().cloned()).args(&self.arguments).args(more).current_dir(self.folder.path());
        command
    }

    /// Starts the engine and waits until it is ready.
    pub async fn start(&self) -> Engine {
        Engine::of(self.serve(&[])).await
    }

    /// The engine must not start: its exit code and what it says.
    pub async fn refused(&self, more: &[&str]) -> (i32, String) {
        Engine::refused(self.serve(more)).await
    }
}

#[derive(Debug)]
pub struct Engine {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    pub grpc: SocketAddr,
    pub http: SocketAddr,
}

impl Engine {
    pub async fn of(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        // Alerts go to standard output: somebody must read it.
        let stdout = child.stdout.take().unwrap();
        std::thread::spawn(move || BufReader::new(stdout).lines().map_while(Result::ok).for_each(drop));
        let stderr = child.stderr.take().unwrap();
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        let lines = Arc::clone(&log);
        std::thread::spawn(move || {
            BufReader::new(stderr).lines().map_while(Result::ok).for_each(|line| lines.lock().unwrap().push(line));
        });
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut engine = Self { child, log, grpc: nowhere, http: nowhere };
        let ready = until("the engine to be ready", async || engine.readiness()).await;
        (engine.grpc, engine.http) = ready;
        engine
    }

    fn readiness(&mut self) -> Option<(SocketAddr, SocketAddr)> {
        let ready = self.log_lines().into_iter().find(|line| line["message"] == "tidewatch is ready");
        if let Some(ready) = ready {
            let http = ready["http"].as_str()?.trim_start_matches("http://").trim_end_matches('/');
            return Some((ready["grpc"].as_str()?.parse().unwrap(), http.parse().unwrap()));
        }
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("the engine ended with {status} instead of being ready:\n{}", self.log_text());
        }
        None
    }

    /// Runs a command that must end by itself with a failure.
    pub async fn refused(command: Command) -> (i32, String) {
        let mut engine = Self::begun(command);
        let ended = until("the engine to refuse its start", async || {
            let ready = engine.log_text().contains("tidewatch is ready");
            assert!(!ready, "the engine started where it should not:\n{}", engine.log_text());
            engine.child.try_wait().unwrap()
        });
        let code = ended.await.code().unwrap();
        // The reader of standard error may be a moment behind the end of the process.
        let said = until("the refusal's words", async || Some(engine.log_text()).filter(|text| !text.is_empty())).await;
        (code, said)
    }

    /// Starts it and waits for nothing.
    pub fn begun(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        let lines = Arc::clone(&log);
        std::thread::spawn(move || {
            BufReader::new(stderr).lines().map_while(Result::ok).for_each(|line| lines.lock().unwrap().push(line));
        });
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        Self { child, log, grpc: nowhere, http: nowhere }
    }

    pub fn log_text(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// The lines of the log that are JSON objects.
    pub fn log_lines(&self) -> Vec<Value> {
        self.log.lock().unwrap().iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }

    pub async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.grpc)).unwrap();
        soon("a connection", endpoint.connect()).await.unwrap()
    }

    pub async fn ingest(&self) -> IngestClient<Channel> {
        IngestClient::new(self.channel().await)
    }

    pub async fn rules(&self) -> RulesClient<Channel> {
        RulesClient::new(self.channel().await)
    }

    pub async fn alerts(&self) -> AlertsClient<Channel> {
        AlertsClient::new(self.channel().await)
    }

    /// A client command of the binary against this engine.
    pub fn client(&self, arguments: &[&str]) -> Command {
        tidewatch(arguments.iter().copied().chain(["--server", &self.grpc.to_string()]))
    }

    /// `tidewatch query`: the rows, each as a JSON object.
    pub async fn query(&self, sql: &str) -> Vec<Value> {
        let answer = output(self.client(&["query", sql, "--format", "json"])).await;
        assert!(answer.status.success(), "{sql}\n{}\n{}", String::from_utf8_lossy(&answer.stderr), self.log_text());
        let text = String::from_utf8(answer.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The one number that a question asks for.
    pub async fn number(&self, sql: &str) -> i64 {
        let rows = self.query(sql).await;
        let value = rows.first().and_then(|row| row.as_object()?.values().next()?.as_i64());
        value.unwrap_or_else(|| panic!("{sql} gave no number: {rows:?}"))
    }

    /// `tidewatch replay` to its end, which must be a good one: what it printed.
    pub async fn replay(&self, file: &Path, arguments: &[&str]) -> String {
        let file = file.display().to_string();
        let mut all = vec!["replay", file.as_str()];
        all.extend(arguments);
        let answer = output(self.client(&all)).await;
        let said = String::from_utf8_lossy(&answer.stdout).into_owned() + &String::from_utf8_lossy(&answer.stderr);
        assert!(answer.status.success(), "{}: {said}\n{}", answer.status, self.log_text());
        said
    }

    /// SIGKILL: no chance to write anything.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and the end that follows.
    pub async fn terminate(mut self) -> ExitStatus {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        until("the end after SIGTERM", async || self.child.try_wait().unwrap()).await
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // It may have ended before.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("the engine's log:\n{}", self.log_text());
        }
    }
}
