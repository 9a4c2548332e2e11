//! A closed loop over one connection: so many messages under way, a new one for each that is answered, answers in order.
//! The same for every system that is compared.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use escrow_bench::Latency;
use escrow_bench::comparison::Meter;

/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;
/// Without an answer for so long the system is taken to hang.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// What every system gets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) outstanding: usize,
    pub(crate) body_bytes: usize,
    pub(crate) warm_up: Duration,
    pub(crate) duration: Duration,
}

/// How a system is spoken to.
pub(crate) trait Protocol {
    /// Appends the bytes of one publish.
    fn publish(&mut self, to: &mut Vec<u8>);

    /// How many more publishes these bytes answer; consumes what is whole.
    fn answered(&mut self, bytes: &mut Vec<u8>) -> Result<usize, String>;
}

/// What the loop found.
pub(crate) struct Found {
    pub(crate) per_second: f64,
    pub(crate) latency_us: Latency,
    /// Published and answered, warm-up included.
    pub(crate) answered: u64,
    /// … in the measured time.
    pub(crate) measured: u64,
}

/// Runs the loop. `at_start` is called when the measured time begins.
pub(crate) fn run(
    stream: &mut TcpStream,
    protocol: &mut impl Protocol,
    load: Load,
    mut at_start: impl FnMut(),
) -> Result<Found, String> {
    let fault = |error: std::io::Error| format!("the connection failed: {error}");
    stream.set_read_timeout(Some(ANSWER_MAX)).map_err(fault)?;
    let mut meter = Meter::for_duration(load.warm_up, load.duration);
    let (mut begun, mut out): (VecDeque<Instant>, _) = (VecDeque::new(), Vec::new());
    let (mut incoming, mut chunk) = (Vec::new(), vec![0; READ_BYTES]);
    let (mut answered, mut started) = (0, false);
    send(stream, protocol, load.outstanding, &mut begun, &mut out, meter.now()).map_err(fault)?;
    while !begun.is_empty() {
        let count = stream.read(&mut chunk).map_err(fault)?;
        if count == 0 {
            return Err("the system closed the connection".to_owned());
        }
        incoming.extend_from_slice(&chunk[..count]);
        let now = meter.now();
        if !started && meter.has_begun(now) {
            started = true;
            at_start();
        }
        let done = protocol.answered(&mut incoming)?;
        for _ in 0..done {
            let began = begun.pop_front().ok_or("more was answered than was asked")?;
            meter.took(began, now);
            answered += 1;
        }
        if !meter.has_ended(now) {
            send(stream, protocol, done, &mut begun, &mut out, now).map_err(fault)?;
        }
    }
    let (measured, latency_us) = meter.into_latency();
    Ok(Found { per_second: measured as f64 / load.duration.as_secs_f64(), latency_us, answered, measured })
}

fn send(
    stream: &mut TcpStream,
    protocol: &mut impl Protocol,
    count: usize,
    begun: &mut VecDeque<Instant>,
    out: &mut Vec<u8>,
    now: Instant,
) -> std::io::Result<()> {
    out.clear();
    for _ in 0..count {
        protocol.publish(out);
        begun.push_back(now);
    }
    stream.write_all(out)
}
