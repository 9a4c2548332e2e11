//! A broker as a process of its own: `escrow server`, this same binary, which can be killed the hard way.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use escrow::Client;
use tempfile::TempDir;
use tokio::time::{interval, timeout};

use super::ports::{loopback, two_free};
use super::site::StoryError;

/// How long a broker may take to answer after it was started.
const READY_WITHIN: Duration = Duration::from_secs(10);
/// How often it is asked meanwhile.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// Ports that were free may be taken by somebody else before the broker has them.
const START_ATTEMPTS: usize = 3;

/// What makes the stories short. Everything else is as it comes.
const SHORT_DELAYS: &[&str] = &[
    "transactions.first_check_after=200ms",
    "transactions.check_delays=200ms",
    "transactions.check_timeout=1s",
    "transactions.max_checks=2",
    "retry.strategy=fixed",
    "retry.fixed_delay=100ms",
    "retry.max_attempts=3",
    "delivery.lease=5s",
    "topics.create_on_use=true",
    "log.level=warn",
];

/// A broker in a process and a directory of its own. Dropped, it is killed and its directory removed.
pub(super) struct BrokerProcess {
    binary: PathBuf,
    directory: TempDir,
    grpc: SocketAddr,
    http: SocketAddr,
    child: Option<Child>,
}

impl BrokerProcess {
    /// Starts one, and waits until it answers.
    pub(super) async fn start() -> Result<Self, StoryError> {
        let mut last = None;
        for _ in 0..START_ATTEMPTS {
            let (grpc, http) = two_free()?;
            let mut broker = Self {
                binary: std::env::current_exe()?,
                directory: tempfile::Builder::new().prefix("escrow-check-").tempdir()?,
                grpc: loopback(grpc),
                http: loopback(http),
                child: None,
            };
            match broker.start_again().await {
                Ok(()) => return Ok(broker),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| StoryError::new("no broker was started")))
    }

    /// Its gRPC address, as a URL.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.grpc)
    }

    /// Starts it on its directory, and waits until it answers.
    pub(super) async fn start_again(&mut self) -> Result<(), StoryError> {
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut command = Command::new(&self.binary);
        command.arg("server").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        // The settings of whoever calls are theirs, not this broker's.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ESCROW_") {
                command.env_remove(name);
            }
        }
        let data_dir = format!("data_dir={}", self.directory.path().join("data").display());
        let (grpc, http) = (format!("grpc.listen={}", self.grpc), format!("http.listen={}", self.http));
        for setting in
            [&data_dir, &grpc, &http].into_iter().map(String::as_str).chain(SHORT_DELAYS.iter().copied())
        {
            command.args(["--set", setting]);
        }
        self.child = Some(command.spawn()?);
        self.answers().await
    }

    /// `kill -9`, and waits until it is gone.
    pub(super) fn kill(&mut self) -> Result<(), StoryError> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("broker.log")
    }

    /// Waits until it answers.
    async fn answers(&mut self) -> Result<(), StoryError> {
        let url = self.url();
        let asking = async {
            let mut ticks = interval(ASK_EVERY);
            loop {
                ticks.tick().await;
                if let Some(status) = self.ended()? {
                    return Err(StoryError::new(format!("the broker ended at once ({status})")));
                }
                if Client::connect(&url).await.is_ok() {
                    return Ok(());
                }
            }
        };
        let outcome = timeout(READY_WITHIN, asking).await;
        let fault = match outcome {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(_elapsed) => format!("the broker does not answer at {url} within {READY_WITHIN:?}"),
        };
        Err(StoryError::new(format!("{fault}: {}", last_line(&self.log()))))
    }

    fn ended(&mut self) -> std::io::Result<Option<ExitStatus>> {
        self.child.as_mut().map_or(Ok(None), Child::try_wait)
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        // There is nobody left to tell.
        let _ = self.kill();
    }
}

fn last_line(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().last().unwrap_or("it has said nothing").to_owned()
}
