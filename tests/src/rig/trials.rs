//! How often a rig tries, and what it says of it in the end: one line of JSON for each run, which docs/reliability.md
//! is made from.

use std::fs::File;
use std::io::Write as _;
use std::time::{Duration, Instant, SystemTime};

/// One run of a rig.
///
/// `ESCROW_TRIALS` sets how many trials, `ESCROW_SEED` what is chosen by chance (1 unless told), `ESCROW_RECORD` the
/// file that the result is appended to, if it shall be kept; `./test.sh --rig <name> [trials]` sets all of them.
#[derive(Debug)]
pub struct Trials {
    rig: &'static str,
    /// What one trial is, in the plural: `kills`.
    unit: &'static str,
    /// How many.
    pub count: u64,
    /// For what is chosen by chance.
    pub seed: u64,
    started: Instant,
}

impl Trials {
    /// A run of `rig` with `short_form` trials, unless the environment says otherwise. Prints both numbers: they are all
    /// that a repetition needs.
    ///
    /// # Panics
    /// If a variable is set and not a number.
    pub fn of(rig: &'static str, unit: &'static str, short_form: u64) -> Self {
        let count = number_from("ESCROW_TRIALS").unwrap_or(short_form);
        let seed = number_from("ESCROW_SEED").unwrap_or(1);
        println!("{rig}: {count} {unit} with ESCROW_SEED={seed}");
        Self { rig, unit, count, seed, started: now() }
    }

    /// Whether this run is kept for the record: then it is held to the times that are promised, too. A timing never decides
    /// an everyday test.
    pub fn is_recorded() -> bool {
        std::env::var_os("ESCROW_RECORD").is_some()
    }

    /// The generator of what one trial chooses by chance: a trial can be repeated without those before it.
    pub fn rng(&self, trial: u64) -> fastrand::Rng {
        // An odd multiplier (2^64 divided by the golden ratio) keeps neighbouring seeds and trials apart.
        fastrand::Rng::with_seed(
            self.seed
                .wrapping_mul(0x9E37_79B9_7F4A_7C15)
                .wrapping_add(trial)
                .wrapping_mul(0x9E37_79B9_7F4A_7C15),
        )
    }

    /// The command that repeats this run.
    pub fn command(&self) -> String {
        format!("ESCROW_SEED={} ./test.sh --rig {} {}", self.seed, self.rig, self.count)
    }

    /// Writes the result down, then fails if anything did. `done` is how many trials ran; `seen`, in a few words, what
    /// they came across, so that a reader knows that something was tried.
    ///
    /// # Panics
    /// With all of `failures` and the command that repeats them, if there are any.
    pub fn finish(self, done: u64, seen: &str, failures: &[String]) {
        let line = serde_json::json!({
            "rig": self.rig,
            "unit": self.unit,
            "trials": done,
            "failures": failures.len(),
            "seen": seen,
            "seconds": self.started.elapsed().as_secs(),
            "seed": self.seed,
            "at": seconds_since_1970(),
            "commit": std::env::var("ESCROW_COMMIT").unwrap_or_else(|_| "unknown".into()),
            "machine": machine(),
            // What was proved of another format is told apart.
            "format": escrow_storage::FORMAT,
        });
        println!("{line}");
        if let Ok(path) = std::env::var("ESCROW_RECORD") {
            let file = File::options().create(true).append(true).open(&path);
            let mut file = file.unwrap_or_else(|error| panic!("ESCROW_RECORD is {path:?}: {error}"));
            writeln!(file, "{line}").unwrap_or_else(|error| panic!("ESCROW_RECORD is {path:?}: {error}"));
        }
        assert!(
            failures.is_empty(),
            "{} of {done} {} failed; again: {}\n{}",
            failures.len(),
            self.unit,
            self.command(),
            failures.join("\n")
        );
    }

    /// Says loudly that nothing was tried, because this machine lacks what the rig needs. Nothing is counted.
    pub fn not_run(self, reason: &str) {
        // Not by println!, which a test that passes keeps to itself.
        let line = format!("\n!!! {}: NOT RUN, nothing counted: {reason}\n", self.rig);
        let _ = std::io::stdout().lock().write_all(line.as_bytes());
    }

    /// How long it has been running: for runs that are bounded by time as well.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

/// The number in an environment variable.
///
/// # Panics
/// If it is set and not a number.
pub fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?}, which is not a number")))
}

#[allow(clippy::disallowed_methods, reason = "a rig says when it ran and how long; nothing is decided by it")]
fn now() -> Instant {
    Instant::now()
}

#[allow(clippy::disallowed_methods, reason = "a rig says when it ran and how long; nothing is decided by it")]
fn seconds_since_1970() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What it ran on, as far as it matters: `Linux 6.1.0, 2 × <processor>`.
fn machine() -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut models = processors.lines().filter_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = models.next().map_or("unknown processor", |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("Linux {}, {cores} × {model}", kernel.trim())
}
