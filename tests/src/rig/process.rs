//! A broker as its own process: the real binary, on loopback, with a directory that outlives it.

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::MemoryBound;

/// A start that takes longer than this has failed.
const START_LIMIT: Duration = Duration::from_secs(60);
/// A stop that takes longer than this has failed: twice what the broker promises.
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// What the broker logs once it serves.
const READY: &str = "broker ready";

/// Two ports that were free a moment ago. Chosen once, so that clients find the broker again after each kill.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    /// gRPC.
    pub grpc: u16,
    /// HTTP.
    pub http: u16,
}

impl Ports {
    /// Asks the system for them.
    pub fn free() -> Self {
        let sockets = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("loopback has free ports"));
        let [grpc, http] = sockets.map(|socket| socket.local_addr().expect("bound").port());
        Self { grpc, http }
    }

    /// Where clients connect.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.grpc)
    }
}

/// A running broker. Dropped, it is killed.
pub struct BrokerProcess {
    pid: Pid,
    /// Says once how the process ended; its waiter owns the child.
    ending: mpsc::Receiver<ExitStatus>,
    ended: Option<ExitStatus>,
    log: PathBuf,
}

impl BrokerProcess {
    /// Starts a broker on `dir` and waits until it serves.
    ///
    /// # Errors
    /// The end of its log, if it ends or does not serve in time.
    pub fn start(dir: &Path, ports: Ports, sets: &[&str], failpoint: Option<&str>) -> Result<Self, String> {
        let environment: Vec<_> = failpoint.iter().map(|point| ("ESCROW_FAILPOINT", *point)).collect();
        Self::start_in(dir, ports, sets, &environment)
    }

    /// As [`start`](Self::start), with variables added to its environment.
    ///
    /// # Errors
    /// The end of its log, if it ends or does not serve in time.
    pub fn start_in(
        dir: &Path,
        ports: Ports,
        sets: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<Self, String> {
        Self::start_with(Command::new(binary()), dir, ports, sets, environment)
    }

    /// As [`start`](Self::start), within `bound`.
    ///
    /// # Errors
    /// The end of its log, if it ends or does not serve in time.
    pub fn start_within(
        bound: &MemoryBound,
        dir: &Path,
        ports: Ports,
        sets: &[&str],
    ) -> Result<Self, String> {
        // A shell that enters the group and then becomes the broker: nothing of it runs outside.
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(bound.entrance()).arg(binary());
        Self::start_with(command, dir, ports, sets, &[])
    }

    fn start_with(
        mut command: Command,
        dir: &Path,
        ports: Ports,
        sets: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<Self, String> {
        let log = dir.with_extension("log");
        // The log is this process's own; that of the one before stays beside it.
        let _ = std::fs::rename(&log, dir.with_extension("log.before"));
        command
            .arg("server")
            .args(["--set", &format!("data_dir={}", dir.display())])
            .args(["--set", &format!("grpc.listen=127.0.0.1:{}", ports.grpc)])
            .args(["--set", &format!("http.listen=127.0.0.1:{}", ports.http)])
            .args(sets.iter().flat_map(|set| ["--set", set]))
            .env_remove("ESCROW_FAILPOINT")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child =
            command.spawn().map_err(|error| format!("{} does not start: {error}", binary().display()))?;
        let stderr = child.stderr.take().expect("stderr is piped");
        let (ready, followed) = follow(stderr, log.clone());
        let mut broker =
            Self { pid: Pid::from_child(&child), ending: watch(child, followed), ended: None, log };
        match ready.recv_timeout(START_LIMIT) {
            Ok(()) => Ok(broker),
            Err(_) => {
                broker.kill();
                Err(format!("the broker did not serve; its log ends:\n{}", broker.log_tail()))
            }
        }
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if self.ended.is_none() {
            // It may have ended by itself meanwhile: then there is nothing to kill.
            let _ = kill_process(self.pid, Signal::KILL);
            self.ended = self.ending.recv().ok();
        }
    }

    /// SIGSTOP: it stands still, and does not know it, until [`resume`](Self::resume).
    pub fn pause(&self) {
        kill_process(self.pid, Signal::STOP).expect("it runs");
    }

    /// SIGCONT.
    pub fn resume(&self) {
        kill_process(self.pid, Signal::CONT).expect("it is there");
    }

    /// SIGTERM, then waits for the end.
    ///
    /// # Errors
    /// If it does not end in time, or not well.
    pub fn stop(&mut self) -> Result<(), String> {
        kill_process(self.pid, Signal::TERM).map_err(|error| error.to_string())?;
        match self.wait(STOP_LIMIT) {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(format!("the broker ended with {status}:\n{}", self.log_tail())),
            None => Err(format!("the broker did not stop in time:\n{}", self.log_tail())),
        }
    }

    /// Waits for it to end by itself, as with a fail point.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.ending.recv_timeout(limit).ok();
        }
        self.ended
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// The last lines it logged.
    pub fn log_tail(&self) -> String {
        let mut text = String::new();
        if let Ok(mut file) = File::open(&self.log) {
            let length = file.metadata().map_or(0, |metadata| metadata.len());
            let _ = file.seek(SeekFrom::Start(length.saturating_sub(8 * 1024)));
            let _ = file.read_to_string(&mut text);
        }
        text
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Restores a backup into a fresh directory below `scratch` and says which, as a person would: by the command.
///
/// # Errors
/// What the command said.
pub fn restore(backup: &[u8], scratch: &Path) -> Result<PathBuf, String> {
    let (file, dir) = (scratch.join("backup"), scratch.join("restored"));
    std::fs::write(&file, backup).map_err(|error| error.to_string())?;
    let mut command = Command::new(binary());
    command.args(["store", "restore"]).arg(&file).arg("--data-dir").arg(&dir);
    let output =
        command.output().map_err(|error| format!("{} does not start: {error}", binary().display()))?;
    match output.status.success() {
        true => Ok(dir),
        false => Err(format!("the backup cannot be restored: {}", String::from_utf8_lossy(&output.stderr))),
    }
}

/// `escrow store verify` of a directory that no broker has open.
///
/// # Errors
/// What it found.
pub fn verify(dir: &Path) -> Result<(), String> {
    let output = Command::new(binary()).args(["store", "verify", "--data-dir"]).arg(dir).output();
    let output = output.map_err(|error| format!("{} does not start: {error}", binary().display()))?;
    let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("verify: {}\n{}", words(&output.stdout), words(&output.stderr))),
    }
}

/// Copies what the broker logs to `log`, and says when it serves.
fn follow(stderr: ChildStderr, log: PathBuf) -> (mpsc::Receiver<()>, JoinHandle<()>) {
    let (sender, ready) = mpsc::sync_channel(1);
    let followed = std::thread::spawn(move || {
        let mut copy = File::options().create(true).append(true).open(&log).expect("the log can be written");
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let _ = writeln!(copy, "{line}");
            if line.contains(READY) {
                let _ = sender.try_send(());
            }
        }
    });
    (ready, followed)
}

/// Waits for the end of the process, whenever that is, and until its last words are in the log.
fn watch(mut child: Child, followed: JoinHandle<()>) -> mpsc::Receiver<ExitStatus> {
    let (sender, ending) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        if let Ok(status) = child.wait() {
            let _ = followed.join();
            let _ = sender.send(status);
        }
    });
    ending
}

/// The binary of this build: it lies beside the test's own directory.
pub(super) fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows where it is");
    let profile = test.ancestors().nth(2).expect("tests lie in <profile>/deps");
    profile.join(format!("escrow{}", std::env::consts::EXE_SUFFIX))
}
