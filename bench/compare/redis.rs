//! Redis streams: `XADD` to one stream, append-only file with `appendfsync always`, so that each answer is behind a
//! sync.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::Command;

use crate::Run;
use crate::pipeline::{self, Load, Protocol};
use crate::server::{Server, free_port, is_on_path};

pub(crate) const NAME: &str = "Redis streams";
const PROGRAM: &str = "redis-server";

pub(crate) fn is_installed() -> bool {
    is_on_path(PROGRAM)
}

/// One run in a new directory.
pub(crate) fn run(directory: &Path, load: Load, round: usize) -> Result<Run, String> {
    let directory = tempfile::tempdir_in(directory).map_err(|error| error.to_string())?;
    let port = free_port()?;
    let mut command = Command::new(PROGRAM);
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"]);
    command.args(["--appendfsync", "always", "--auto-aof-rewrite-percentage", "0", "--daemonize", "no"]);
    command.arg("--dir").arg(directory.path());
    let mut server = Server::start(command, directory.path(), "redis")?;
    let mut stream = server.connect(port)?;
    let mut protocol = Redis { command: xadd(load.body_bytes) };
    let mut before = server.readings();
    let found = pipeline::run(&mut stream, &mut protocol, load, || before = server.readings())?;
    let after = server.readings();
    stream.write_all(b"*2\r\n$4\r\nXLEN\r\n$5\r\nbench\r\n").map_err(|error| error.to_string())?;
    let mut answer = [0; 64];
    let count = stream.read(&mut answer).map_err(|error| error.to_string())?;
    let length = String::from_utf8_lossy(&answer[..count]).trim().trim_start_matches(':').to_owned();
    Ok(Run {
        system: NAME,
        round,
        per_second: found.per_second,
        latency_us: found.latency_us,
        cpu_us_per_message: (after.0 - before.0).as_secs_f64() * 1e6 / found.measured.max(1) as f64,
        device_flushes: after.1 - before.1,
        verified: length == found.answered.to_string(),
    })
}

struct Redis {
    command: Vec<u8>,
}

fn xadd(body_bytes: usize) -> Vec<u8> {
    let mut command =
        format!("*5\r\n$4\r\nXADD\r\n$5\r\nbench\r\n$1\r\n*\r\n$1\r\nb\r\n${body_bytes}\r\n").into_bytes();
    command.extend(escrow_bench::comparison::random_body(body_bytes));
    command.extend_from_slice(b"\r\n");
    command
}

impl Protocol for Redis {
    fn publish(&mut self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.command);
    }

    /// Each answer is an id: `$15\r\n1700000000000-0\r\n`.
    fn answered(&mut self, bytes: &mut Vec<u8>) -> Result<usize, String> {
        let (mut answers, mut at) = (0, 0);
        while let Some(line) = line_at(bytes, at) {
            let text = std::str::from_utf8(&bytes[at..line]).map_err(|error| error.to_string())?;
            let length: usize = text
                .strip_prefix('$')
                .and_then(|length| length.parse().ok())
                .ok_or_else(|| format!("redis answered {text:?}"))?;
            let end = line + 2 + length + 2;
            if bytes.len() < end {
                break;
            }
            answers += 1;
            at = end;
        }
        bytes.drain(..at);
        Ok(answers)
    }
}

/// Where the line that begins there ends.
fn line_at(bytes: &[u8], from: usize) -> Option<usize> {
    bytes[from..].windows(2).position(|pair| pair == b"\r\n").map(|length| from + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_answers_are_counted_and_the_rest_waits() {
        let mut redis = Redis { command: Vec::new() };
        let mut bytes = b"$3\r\n1-0\r\n$3\r\n2-0\r\n$3\r\n3".to_vec();
        assert_eq!(redis.answered(&mut bytes), Ok(2));
        bytes.extend_from_slice(b"-0\r\n");
        assert_eq!(redis.answered(&mut bytes), Ok(1));
        assert!(redis.answered(&mut b"-ERR full\r\n".to_vec()).expect_err("refused").contains("full"));
    }
}
