//! A system's process: in a directory and a process group of its own, both gone when it is dropped.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use escrow_bench::comparison::{device_flushes, process_group_cpu};

/// How long a system may need until it listens.
const START_MAX: Duration = Duration::from_secs(60);
/// How often it is tried.
const TRY_EVERY: Duration = Duration::from_millis(50);

/// A process at work.
pub(crate) struct Server {
    child: Child,
}

impl Server {
    /// Starts it. What it says goes into a file in its directory.
    pub(crate) fn start(mut command: Command, directory: &Path, name: &str) -> Result<Self, String> {
        let fault = |error: std::io::Error| format!("{name}: {error}");
        let log = fs::File::create(directory.join(format!("{name}.log"))).map_err(fault)?;
        let errors = log.try_clone().map_err(fault)?;
        command.stdin(Stdio::null()).stdout(log).stderr(errors).process_group(0);
        Ok(Self { child: command.spawn().map_err(fault)? })
    }

    /// A connection, as soon as it listens there.
    pub(crate) fn connect(&mut self, port: u16) -> Result<TcpStream, String> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let tries = START_MAX.as_millis() / TRY_EVERY.as_millis();
        for _ in 0..tries {
            if let Ok(stream) = TcpStream::connect(address) {
                stream.set_nodelay(true).map_err(|error| error.to_string())?;
                return Ok(stream);
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("the process ended with {status} before it listened"));
            }
            std::thread::park_timeout(TRY_EVERY);
        }
        Err(format!("nothing listens on port {port} after {} s", START_MAX.as_secs()))
    }

    /// CPU time of all its processes, and flushes of all disks so far.
    pub(crate) fn readings(&self) -> (Duration, u64) {
        (process_group_cpu(self.child.id()), device_flushes())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The group is the process's own: nobody else is in it.
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.child.wait();
    }
}

/// A port that nobody listens on at the moment.
pub(crate) fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| error.to_string())?;
    Ok(listener.local_addr().map_err(|error| error.to_string())?.port())
}

/// Whether a program of that name can be run.
pub(crate) fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}
