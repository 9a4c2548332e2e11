//! RabbitMQ quorum queues: `basic.publish` with publisher confirms to one durable quorum queue, whose log is synced before
//! a confirm. As much of AMQP 0-9-1 as that needs, by hand.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use crate::Run;
use crate::pipeline::{self, Load, Protocol};
use crate::server::{Server, free_port, is_on_path};

pub(crate) const NAME: &str = "RabbitMQ quorum queue";
/// Debian's script without its wrapper, which would change the user.
const PROGRAM: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
const QUEUE: &str = "bench";

/// Frame types, and what each frame ends with.
const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;
const FRAME_END: u8 = 0xCE;
/// Type, channel, size.
const FRAME_HEAD_BYTES: usize = 7;

/// Methods, class and number.
const START: (u16, u16) = (10, 10);
const START_OK: (u16, u16) = (10, 11);
const TUNE: (u16, u16) = (10, 30);
const TUNE_OK: (u16, u16) = (10, 31);
const OPEN: (u16, u16) = (10, 40);
const OPEN_OK: (u16, u16) = (10, 41);
const CHANNEL_OPEN: (u16, u16) = (20, 10);
const CHANNEL_OPEN_OK: (u16, u16) = (20, 11);
const DECLARE: (u16, u16) = (50, 10);
const DECLARE_OK: (u16, u16) = (50, 11);
const PUBLISH: (u16, u16) = (60, 40);
const ACK: (u16, u16) = (60, 80);
const SELECT: (u16, u16) = (85, 10);
const SELECT_OK: (u16, u16) = (85, 11);

pub(crate) fn is_installed() -> bool {
    Path::new(PROGRAM).exists() && is_on_path("erl") && is_on_path("epmd")
}

/// One run in a new directory.
pub(crate) fn run(directory: &Path, load: Load, round: usize) -> Result<Run, String> {
    let directory = tempfile::tempdir_in(directory).map_err(|error| error.to_string())?;
    let (port, epmd_port) = (free_port()?, free_port()?);
    let mut epmd = Command::new("epmd");
    epmd.args(["-port", &epmd_port.to_string(), "-address", "127.0.0.1"]);
    let _epmd = Server::start(epmd, directory.path(), "epmd")?;
    let mut server =
        Server::start(command(directory.path(), port, epmd_port)?, directory.path(), "rabbitmq")?;
    let mut stream = server.connect(port)?;
    handshake(&mut stream)?;
    let mut protocol = Amqp { publish: publish(load.body_bytes), confirmed: 0 };
    let mut before = server.readings();
    let found = pipeline::run(&mut stream, &mut protocol, load, || before = server.readings())?;
    let after = server.readings();
    let stored = messages_in_queue(&mut stream)?;
    Ok(Run {
        system: NAME,
        round,
        per_second: found.per_second,
        latency_us: found.latency_us,
        cpu_us_per_message: (after.0 - before.0).as_secs_f64() * 1e6 / found.measured.max(1) as f64,
        device_flushes: after.1 - before.1,
        verified: u64::from(stored) == found.answered,
    })
}

/// Loopback only, and nothing outside the directory.
fn command(directory: &Path, port: u16, epmd_port: u16) -> Result<Command, String> {
    let plugins = directory.join("enabled_plugins");
    std::fs::write(&plugins, "[].\n").map_err(|error| error.to_string())?;
    let mut command = Command::new(PROGRAM);
    command
        .env("HOME", directory)
        .env("RABBITMQ_NODENAME", format!("bench{port}@localhost"))
        .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODE_PORT", port.to_string())
        .env("RABBITMQ_DIST_PORT", free_port()?.to_string())
        .env("RABBITMQ_CONF_ENV_FILE", directory.join("none"))
        .env("RABBITMQ_CONFIG_FILE", directory.join("none"))
        .env("RABBITMQ_MNESIA_BASE", directory.join("mnesia"))
        .env("RABBITMQ_LOG_BASE", directory.join("log"))
        .env("RABBITMQ_PID_FILE", directory.join("pid"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", plugins)
        .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}")
        .env("ERL_EPMD_PORT", epmd_port.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1");
    Ok(command)
}

/// Up to a channel that confirms, and the queue.
fn handshake(stream: &mut TcpStream) -> Result<(), String> {
    send(stream, b"AMQP\0\0\x09\x01".to_vec())?;
    expect(stream, START)?;
    let mut start_ok = Arguments::default();
    start_ok.table(&[]);
    start_ok.short("PLAIN");
    start_ok.long(b"\0guest\0guest");
    start_ok.short("en_US");
    send(stream, method(0, START_OK, &start_ok.0))?;
    expect(stream, TUNE)?;
    // Channels, bytes of a frame, no heartbeat.
    send(stream, method(0, TUNE_OK, &[0, 16, 0, 2, 0, 0, 0, 0]))?;
    let mut open = Arguments::default();
    open.short("/");
    open.short("");
    open.0.push(0);
    send(stream, method(0, OPEN, &open.0))?;
    expect(stream, OPEN_OK)?;
    send(stream, method(1, CHANNEL_OPEN, &[0]))?;
    expect(stream, CHANNEL_OPEN_OK)?;
    send(stream, method(1, SELECT, &[0]))?;
    expect(stream, SELECT_OK)?;
    // Durable.
    send(stream, declare(0b0000_0010, &[("x-queue-type", "quorum")]))?;
    expect(stream, DECLARE_OK).map(drop)
}

fn declare(flags: u8, table: &[(&str, &str)]) -> Vec<u8> {
    let mut arguments = Arguments::default();
    arguments.0.extend([0, 0]);
    arguments.short(QUEUE);
    arguments.0.push(flags);
    arguments.table(table);
    method(1, DECLARE, &arguments.0)
}

/// Asks for the queue once more, passively: the answer counts what is ready. A quorum queue counts what it has applied, a
/// moment behind its confirms.
fn messages_in_queue(stream: &mut TcpStream) -> Result<u32, String> {
    let mut last = None;
    loop {
        send(stream, declare(0b0000_0011, &[("x-queue-type", "quorum")]))?;
        let answer = expect(stream, DECLARE_OK)?;
        // The name, then messages, then consumers.
        let name_bytes = 1 + usize::from(*answer.first().ok_or("an empty answer")?);
        let count = answer.get(name_bytes..name_bytes + 4).ok_or("a short answer")?;
        let count = u32::from_be_bytes(count.try_into().map_err(|_| "four bytes")?);
        if last == Some(count) {
            return Ok(count);
        }
        last = Some(count);
        std::thread::park_timeout(SETTLES_WITHIN);
    }
}

/// The count is published so often.
const SETTLES_WITHIN: std::time::Duration = std::time::Duration::from_millis(1500);

fn publish(body_bytes: usize) -> Vec<u8> {
    let mut arguments = Arguments::default();
    arguments.0.extend([0, 0]);
    arguments.short("");
    arguments.short(QUEUE);
    arguments.0.push(0);
    let mut bytes = method(1, PUBLISH, &arguments.0);
    let mut header = Vec::new();
    header.extend(60_u16.to_be_bytes());
    header.extend(0_u16.to_be_bytes());
    header.extend((body_bytes as u64).to_be_bytes());
    // One property: delivery mode 2, persistent.
    header.extend(0x1000_u16.to_be_bytes());
    header.push(2);
    bytes.extend(frame(HEADER, 1, &header));
    bytes.extend(frame(BODY, 1, &escrow_bench::comparison::random_body(body_bytes)));
    bytes
}

struct Amqp {
    publish: Vec<u8>,
    confirmed: u64,
}

impl Protocol for Amqp {
    fn publish(&mut self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.publish);
    }

    fn answered(&mut self, bytes: &mut Vec<u8>) -> Result<usize, String> {
        let (before, mut at) = (self.confirmed, 0);
        while let Some((kind, payload, length)) = whole_frame(&bytes[at..])? {
            if kind == METHOD {
                self.confirm(payload)?;
            }
            at += length;
        }
        bytes.drain(..at);
        Ok((self.confirmed - before) as usize)
    }
}

impl Amqp {
    /// A confirm of one, or of all up to it. Out of order ones are only counted: each publish is confirmed once.
    fn confirm(&mut self, payload: &[u8]) -> Result<(), String> {
        if method_of(payload) != Some(ACK) {
            return Err(format!("rabbitmq said {:?} instead of a confirm", method_of(payload)));
        }
        let tag = payload.get(4..12).and_then(|tag| tag.try_into().ok()).map(u64::from_be_bytes);
        let tag = tag.ok_or("a short confirm")?;
        let multiple = payload.get(12).is_some_and(|bits| bits & 1 == 1);
        self.confirmed = match multiple {
            true => self.confirmed.max(tag),
            false => self.confirmed + 1,
        };
        Ok(())
    }
}

/// Arguments of a method.
#[derive(Default)]
struct Arguments(Vec<u8>);

impl Arguments {
    fn short(&mut self, text: &str) {
        self.0.push(text.len() as u8);
        self.0.extend_from_slice(text.as_bytes());
    }

    fn long(&mut self, bytes: &[u8]) {
        self.0.extend((bytes.len() as u32).to_be_bytes());
        self.0.extend_from_slice(bytes);
    }

    fn table(&mut self, entries: &[(&str, &str)]) {
        let mut table = Self::default();
        for (name, text) in entries {
            table.short(name);
            table.0.push(b'S');
            table.long(text.as_bytes());
        }
        self.long(&table.0);
    }
}

fn method(channel: u16, (class, number): (u16, u16), arguments: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(4 + arguments.len());
    payload.extend(class.to_be_bytes());
    payload.extend(number.to_be_bytes());
    payload.extend_from_slice(arguments);
    frame(METHOD, channel, &payload)
}

fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![kind];
    frame.extend(channel.to_be_bytes());
    frame.extend((payload.len() as u32).to_be_bytes());
    frame.extend_from_slice(payload);
    frame.push(FRAME_END);
    frame
}

/// Kind, payload, and how many bytes the frame takes.
type Framed<'a> = (u8, &'a [u8], usize);

/// Its kind, its payload and its length, if it is whole.
fn whole_frame(bytes: &[u8]) -> Result<Option<Framed<'_>>, String> {
    let Some((head, rest)) = bytes.split_first_chunk::<FRAME_HEAD_BYTES>() else { return Ok(None) };
    let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
    match rest.get(size) {
        None => Ok(None),
        Some(&FRAME_END) => Ok(Some((head[0], &rest[..size], FRAME_HEAD_BYTES + size + 1))),
        Some(_) => Err("what rabbitmq sent is no frame".to_owned()),
    }
}

fn method_of(payload: &[u8]) -> Option<(u16, u16)> {
    let head = payload.first_chunk::<4>()?;
    Some((u16::from_be_bytes([head[0], head[1]]), u16::from_be_bytes([head[2], head[3]])))
}

fn send(stream: &mut TcpStream, bytes: Vec<u8>) -> Result<(), String> {
    stream.write_all(&bytes).map_err(|error| format!("the connection failed: {error}"))
}

/// Reads until that method comes. What you get: its arguments.
fn expect(stream: &mut TcpStream, wanted: (u16, u16)) -> Result<Vec<u8>, String> {
    loop {
        let mut head = [0; FRAME_HEAD_BYTES];
        let fault = |error: std::io::Error| format!("the connection failed: {error}");
        stream.read_exact(&mut head).map_err(fault)?;
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        let mut payload = vec![0; size + 1];
        stream.read_exact(&mut payload).map_err(fault)?;
        payload.pop();
        match head[0] {
            HEARTBEAT => {}
            METHOD if method_of(&payload) == Some(wanted) => return Ok(payload.split_off(4)),
            _ => {
                let words = String::from_utf8_lossy(&payload);
                return Err(format!("rabbitmq answered {:?}: {words}", method_of(&payload)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(tag: u64, multiple: bool) -> Vec<u8> {
        let mut arguments = tag.to_be_bytes().to_vec();
        arguments.push(u8::from(multiple));
        method(1, ACK, &arguments)
    }

    #[test]
    fn confirms_of_one_and_of_many_are_counted_and_half_a_frame_waits() {
        let mut amqp = Amqp { publish: Vec::new(), confirmed: 0 };
        let mut bytes = [ack(1, false), ack(5, true), ack(6, false)].concat();
        let rest = bytes.split_off(bytes.len() - 3);
        assert_eq!(amqp.answered(&mut bytes), Ok(5));
        bytes.extend(rest);
        assert_eq!(amqp.answered(&mut bytes), Ok(1));
    }

    #[test]
    fn a_refusal_is_an_error() {
        let mut amqp = Amqp { publish: Vec::new(), confirmed: 0 };
        let mut close = method(1, (20, 40), b"why");
        assert!(amqp.answered(&mut close).expect_err("closed").contains("(20, 40)"));
    }
}
