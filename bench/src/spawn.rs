//! The broker of a run: one that runs already, or a process of its own in a directory of its own. It owns both, and
//! they are gone when it is dropped.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::error::Error;
use crate::options::{Options, Scenario, Source, Spawn};

/// How long a broker may need to recover before it serves.
const START_MAX: Duration = Duration::from_secs(300);

/// The broker of a run.
#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) url: String,
    /// Its process, if it is known.
    pub(crate) pid: Option<u32>,
    /// It stores nothing and knows no administration.
    pub(crate) is_null: bool,
    own: Option<Own>,
}

#[derive(Debug)]
struct Own {
    child: Child,
    arguments: Vec<String>,
    spawn: Spawn,
    /// Removed with it.
    _directory: TempDir,
}

/// What a null server does.
#[derive(Debug, Clone, Copy)]
struct Null {
    keep: bool,
    append: bool,
}

impl Null {
    fn arguments(self, directory: &Path) -> Vec<String> {
        let keep = self.keep.then(|| "--keep".to_owned());
        let append = self.append.then(|| format!("--append-to={}", directory.display()));
        ["bench".to_owned(), "null-server".to_owned()].into_iter().chain(keep).chain(append).collect()
    }
}

impl Broker {
    /// The one that the options mean, started if need be.
    pub(crate) async fn of(options: &Options) -> Result<Self, Error> {
        match &options.source {
            Source::Running => {
                Ok(Self { url: options.url.clone(), pid: options.broker_pid, is_null: false, own: None })
            }
            Source::Spawn(spawn) => Self::start(spawn, None).await,
            Source::Null(spawn) => {
                // What is not received needs not be kept.
                let keep = options.verify || !matches!(options.scenario, Scenario::Publish | Scenario::Tx);
                Self::start(spawn, Some(Null { keep, append: options.null_appends })).await
            }
        }
    }

    async fn start(spawn: &Spawn, null: Option<Null>) -> Result<Self, Error> {
        let directory = TempDir::with_prefix_in("escrow-bench-", &spawn.directory).map_err(|error| {
            Error::Spawn(format!("no directory in {}: {error}", spawn.directory.display()))
        })?;
        let arguments = match null {
            Some(null) => null.arguments(directory.path()),
            None => {
                let data = directory.path().join("data");
                let settings = [
                    format!("data_dir={}", data.display()),
                    "grpc.listen=127.0.0.1:0".to_owned(),
                    "http.listen=127.0.0.1:0".to_owned(),
                ];
                let settings = settings.into_iter().chain(spawn.set.iter().cloned());
                let settings = settings.flat_map(|setting| ["--set".to_owned(), setting]);
                std::iter::once("server".to_owned()).chain(settings).collect()
            }
        };
        let (child, url) = launch(spawn, &arguments).await?;
        let pid = Some(child.id());
        let own = Own { child, arguments, spawn: spawn.clone(), _directory: directory };
        Ok(Self { url, pid, is_null: null.is_some(), own: Some(own) })
    }

    /// A null server that runs already.
    #[cfg(test)]
    pub(crate) fn null_at(url: String) -> Self {
        Self { url, pid: None, is_null: true, own: None }
    }

    /// Whether nobody else uses it.
    pub(crate) fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// Kills it without a warning (`kill -9`).
    pub(crate) fn kill(&mut self) -> Result<(), Error> {
        let own = self.own.as_mut().ok_or_else(|| Error::Spawn("the broker is not the run's own".into()))?;
        own.child
            .kill()
            .and_then(|()| own.child.wait())
            .map(drop)
            .map_err(|error| Error::Spawn(error.to_string()))
    }

    /// Starts it again on the same data, and waits until it serves, at a new address.
    pub(crate) async fn start_again(&mut self) -> Result<(), Error> {
        let own = self.own.as_mut().ok_or_else(|| Error::Spawn("the broker is not the run's own".into()))?;
        let (child, url) = launch(&own.spawn, &own.arguments).await?;
        self.pid = Some(child.id());
        own.child = child;
        self.url = url;
        Ok(())
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A child that is killed unless it is handed over.
struct Guard(Option<Child>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The process, and the URL it serves at.
async fn launch(spawn: &Spawn, arguments: &[String]) -> Result<(Child, String), Error> {
    let mut command = Command::new(&spawn.program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let child =
        command.spawn().map_err(|error| Error::Spawn(format!("{}: {error}", spawn.program.display())))?;
    let mut guard = Guard(Some(child));
    let stderr = guard.0.as_mut().and_then(|child| child.stderr.take()).expect("stderr is piped");
    let (sender, ready) = oneshot::channel();
    std::thread::Builder::new()
        .name("bench-broker-log".into())
        .spawn(move || follow(stderr, sender))
        .map_err(|error| Error::Generator(format!("no thread for the broker's log: {error}")))?;
    match timeout(START_MAX, ready).await {
        Ok(Ok(Ok(address))) => {
            let child = guard.0.take().expect("nobody took it before");
            Ok((child, format!("http://{address}")))
        }
        Ok(Ok(Err(log))) => Err(Error::Spawn(format!("it ended before it served:\n{log}"))),
        Ok(Err(_)) | Err(_) => {
            Err(Error::Spawn(format!("it did not serve within {} s", START_MAX.as_secs())))
        }
    }
}

/// Reads the log to its end, so that the process is never held up; says the address once, or what was said instead.
fn follow(stderr: ChildStderr, ready: oneshot::Sender<Result<String, String>>) {
    let mut ready = Some(ready);
    let mut log = String::new();
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        let Some(waiting) = ready.take() else { continue };
        match address_in(&line) {
            Some(address) => drop(waiting.send(Ok(address.to_owned()))),
            None => {
                log.push_str(&line);
                log.push('\n');
                ready = Some(waiting);
            }
        }
    }
    if let Some(ready) = ready {
        let _ = ready.send(Err(log));
    }
}

/// The address in the line that says that it serves.
fn address_in(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("ready")?;
    let (_, address) = rest.split_once("grpc=")?;
    address.split_ascii_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_from_the_line_that_says_ready() {
        let line = "2026-01-01T00:00:00Z  INFO escrow: broker ready grpc=127.0.0.1:4711 http=127.0.0.1:4712";
        assert_eq!(address_in(line), Some("127.0.0.1:4711"));
        assert_eq!(address_in("INFO listening grpc=127.0.0.1:4711"), None);
    }

    #[tokio::test]
    async fn a_program_that_ends_at_once_is_told_with_its_words() {
        let directory = std::env::temp_dir();
        let spawn = Spawn { program: "ls".into(), directory, set: vec![] };
        let error = Broker::start(&spawn, None).await.expect_err("ls is no broker").to_string();
        assert!(error.contains("ended before it served") && error.contains("ls"), "{error}");
    }
}
