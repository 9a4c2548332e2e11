//! Publishes durably to Escrow, to Redis streams and to RabbitMQ quorum queues, in turns on the same disk, with the same
//! load: one connection, so many outstanding, bodies of the same size, each answered when it is on disk. Prints the
//! ratios, writes JSON.
//!
//! Needs `escrow` (built in release), `redis-server` and `rabbitmq-server` from Debian's packages; one that is not there
//! is left out and named. All listen on loopback only, in private directories, and are gone at the end.

mod amqp;
mod pipeline;
mod redis;
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use escrow_bench::{Latency, Options, Scenario, Source, Spawn};
use serde::Serialize;

use pipeline::Load;

/// Compare durable publishing of Escrow, Redis streams and RabbitMQ quorum queues on this machine.
#[derive(Debug, Clone, Parser)]
struct Arguments {
    /// The program `escrow` [default: the one beside this program]
    #[arg(long)]
    escrow: Option<PathBuf>,
    /// Where data directories are made: on the disk to be measured
    #[arg(long, default_value = ".")]
    directory: PathBuf,
    /// Messages under way at once
    #[arg(long, short = 'n', default_value_t = 64)]
    outstanding: usize,
    /// Bytes of each body
    #[arg(long, default_value_t = 1024)]
    body_bytes: usize,
    /// Seconds measured each time
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Seconds before that, unmeasured
    #[arg(long, default_value_t = 1.0)]
    warm_up_seconds: f64,
    /// How often each is measured, in turns
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// What Escrow is, for the file [default: unknown]
    #[arg(long, env = "ESCROW_BENCH_COMMIT", default_value = "unknown")]
    commit: String,
    /// Write the JSON here too
    #[arg(long)]
    out: Option<PathBuf>,
}

/// One system in one round.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Run {
    system: &'static str,
    round: usize,
    per_second: f64,
    latency_us: Latency,
    /// CPU time of the system's process for each message.
    cpu_us_per_message: f64,
    /// Flushes of all disks meanwhile: without any, the result is not durable, and void.
    device_flushes: u64,
    /// As many as were acknowledged are there.
    verified: bool,
}

/// One system over all rounds.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Summary {
    system: &'static str,
    /// Medians.
    per_second: f64,
    p50_us: u64,
    p99_us: u64,
    cpu_us_per_message: f64,
    /// How often Escrow does it while this one does it once.
    escrow_ratio: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Comparison {
    commit: String,
    machine: String,
    outstanding: usize,
    body_bytes: usize,
    seconds: f64,
    /// Not installed here.
    left_out: Vec<&'static str>,
    summary: Vec<Summary>,
    runs: Vec<Run>,
}

fn main() -> ExitCode {
    match compare(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("error: {fault}");
            ExitCode::FAILURE
        }
    }
}

fn compare(arguments: &Arguments) -> Result<(), String> {
    let load = Load {
        outstanding: arguments.outstanding,
        body_bytes: arguments.body_bytes,
        warm_up: seconds(arguments.warm_up_seconds)?,
        duration: seconds(arguments.seconds)?,
    };
    let (mut runs, mut left_out) = (Vec::new(), Vec::new());
    if !redis::is_installed() {
        left_out.push(redis::NAME);
    }
    if !amqp::is_installed() {
        left_out.push(amqp::NAME);
    }
    for round in 1..=arguments.rounds {
        runs.push(escrow(arguments, load, round)?);
        if redis::is_installed() {
            runs.push(redis::run(&arguments.directory, load, round)?);
        }
        if amqp::is_installed() {
            runs.push(amqp::run(&arguments.directory, load, round)?);
        }
        eprintln!("round {round} of {}", arguments.rounds);
    }
    let comparison = Comparison {
        commit: arguments.commit.clone(),
        machine: machine(),
        outstanding: load.outstanding,
        body_bytes: load.body_bytes,
        seconds: arguments.seconds,
        left_out,
        summary: summary(&runs),
        runs,
    };
    print(&comparison);
    let json = serde_json::to_string_pretty(&comparison).map_err(|error| error.to_string())?;
    if let Some(out) = &arguments.out {
        fs::write(out, json + "\n").map_err(|error| format!("{}: {error}", out.display()))?;
    }
    let void = comparison.runs.iter().find(|run| !run.verified || run.device_flushes == 0);
    match void {
        Some(run) => {
            Err(format!("{} in round {} is void: not verified, or not durable", run.system, run.round))
        }
        None => Ok(()),
    }
}

fn seconds(seconds: f64) -> Result<Duration, String> {
    Duration::try_from_secs_f64(seconds).map_err(|error| format!("{seconds} s: {error}"))
}

fn escrow(arguments: &Arguments, load: Load, round: usize) -> Result<Run, String> {
    let program = match &arguments.escrow {
        Some(program) => program.clone(),
        None => beside_this_program("escrow")?,
    };
    let spawn = Spawn { program, directory: arguments.directory.clone(), set: Vec::new() };
    let options = Options {
        source: Source::Spawn(spawn),
        outstanding: load.outstanding,
        body_bytes: load.body_bytes,
        duration: load.duration,
        warm_up: load.warm_up,
        ..Options::new(Scenario::Publish, "")
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let report =
        runtime.block_on(escrow_bench::run(options, |_progress| {})).map_err(|error| error.to_string())?;
    Ok(Run {
        system: "Escrow",
        round,
        per_second: report.per_second,
        latency_us: report.latency_us,
        cpu_us_per_message: report.cpu_us_per_operation.unwrap_or(0.0),
        device_flushes: report.device_flushes,
        verified: report.is_sound(),
    })
}

fn beside_this_program(name: &str) -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let program = own.with_file_name(name);
    match program.exists() {
        true => Ok(program),
        false => Err(format!("{} is missing: build it with `cargo build --release`", program.display())),
    }
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let read = |path: &str| fs::read_to_string(Path::new(path)).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let model = model.trim_start_matches([' ', '\t', ':']);
    format!("{cores} cores, {model}, Linux {}", read("/proc/sys/kernel/osrelease").trim())
}

fn summary(runs: &[Run]) -> Vec<Summary> {
    let of = |system: &str| runs.iter().filter(|run| run.system == system).cloned().collect::<Vec<_>>();
    let median_of = |system: &str, value: fn(&Run) -> f64| median(of(system).iter().map(value).collect());
    let escrow = median_of("Escrow", |run| run.per_second);
    let mut systems: Vec<&'static str> = Vec::new();
    for run in runs {
        if !systems.contains(&run.system) {
            systems.push(run.system);
        }
    }
    let summary = systems.into_iter().map(|system| {
        let per_second = median_of(system, |run| run.per_second);
        Summary {
            system,
            per_second,
            p50_us: median_of(system, |run| run.latency_us.p50 as f64) as u64,
            p99_us: median_of(system, |run| run.latency_us.p99 as f64) as u64,
            cpu_us_per_message: median_of(system, |run| run.cpu_us_per_message),
            escrow_ratio: escrow / per_second.max(f64::EPSILON),
        }
    });
    summary.collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

fn print(comparison: &Comparison) {
    println!(
        "{} outstanding, {} byte bodies, fsync before each answer; medians",
        comparison.outstanding, comparison.body_bytes
    );
    println!(
        "{:<24}{:>12}{:>10}{:>10}{:>14}{:>16}",
        "", "per second", "p50 µs", "p99 µs", "CPU µs each", "Escrow is ×"
    );
    for row in &comparison.summary {
        println!(
            "{:<24}{:>12.0}{:>10}{:>10}{:>14.1}{:>16.2}",
            row.system, row.per_second, row.p50_us, row.p99_us, row.cpu_us_per_message, row.escrow_ratio
        );
    }
    for system in &comparison.left_out {
        println!("{system}: left out, not installed (apt-get install redis-server rabbitmq-server)");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_those_of_medians() {
        let run = |system, per_second| Run {
            system,
            round: 1,
            per_second,
            latency_us: Latency::default(),
            cpu_us_per_message: 0.0,
            device_flushes: 1,
            verified: true,
        };
        let runs = [run("Escrow", 10.0), run("Escrow", 30.0), run("Escrow", 20.0), run("other", 5.0)];
        let summary = summary(&runs);
        assert_eq!(summary.len(), 2);
        assert_eq!((summary[0].escrow_ratio, summary[1].escrow_ratio), (1.0, 4.0));
    }
}
