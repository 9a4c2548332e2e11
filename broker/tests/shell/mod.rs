//! The real binary: a server as its own process on free ports, and the command line against it.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The binary, with nothing of the caller's environment that concerns it.
pub(crate) fn escrow() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_escrow"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ESCROW_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// A broker as its own process. Dropped, it is killed.
pub(crate) struct Server {
    child: Child,
    log: BufReader<ChildStderr>,
    pub(crate) url: String,
    pub(crate) grpc: String,
}

impl Server {
    pub(crate) fn start(data_dir: &Path) -> Self {
        Self::start_with(data_dir, &[])
    }

    pub(crate) fn start_with(data_dir: &Path, settings: &[&str]) -> Self {
        let mut child = escrow()
            .arg("server")
            .args(settings.iter().flat_map(|setting| ["--set", setting]))
            .args(["--set", &format!("data_dir={}", data_dir.display())])
            .args(["--set", "grpc.listen=127.0.0.1:0", "--set", "http.listen=127.0.0.1:0"])
            .args(["--set", "log.format=json"])
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut log = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let ready = ready_line(&mut log);
        let grpc = ready["grpc"].as_str().expect("the ready line has the address").to_owned();
        Self { child, log, url: format!("http://{grpc}"), grpc }
    }

    /// Runs a command against it; its words are separated by blanks.
    pub(crate) fn run(&self, words: &str) -> Output {
        let words = words.split(' ');
        escrow().env("ESCROW_URL", &self.url).args(words).output().expect("the binary runs")
    }

    /// Runs a command that must succeed, and reads what it prints as JSON.
    pub(crate) fn json(&self, words: &str) -> Value {
        let output = self.run(&format!("{words} -o json"));
        assert!(output.status.success(), "escrow {words}: {}", stderr(&output));
        serde_json::from_slice(&output.stdout).expect("the output is JSON")
    }

    /// SIGTERM; then the exit status, and the rest of the log.
    pub(crate) fn terminate(self) -> (Option<i32>, String) {
        let pid = self.child.id().to_string();
        let sent = Command::new("sh").args(["-c", &format!("kill -TERM {pid}")]).status();
        assert!(sent.is_ok_and(|status| status.success()), "the signal is sent");
        self.ended()
    }

    /// Waits for it to end; then the exit status, and the rest of the log.
    pub(crate) fn ended(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).expect("the log is text");
        (self.child.wait().expect("the server ends").code(), rest)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads the log up to the line that says that the broker is ready.
pub(crate) fn ready_line(log: &mut BufReader<ChildStderr>) -> Value {
    let mut seen = String::new();
    loop {
        let mut line = String::new();
        let length = log.read_line(&mut line).expect("the log is text");
        assert!(length > 0, "the server ended before it was ready:\n{seen}");
        let event: Value = serde_json::from_str(&line).expect("with log.format=json every line is JSON");
        if event["message"] == "broker ready" {
            return event;
        }
        seen.push_str(&line);
    }
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}
