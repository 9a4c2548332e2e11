//! `escrow server`: the broker itself, and what belongs to its configuration.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::cli::error::{CliError, with_causes};
use crate::cli::serve::serve;
use crate::config::{Config, Sources, print_defaults};

/// How long a health check waits for an answer.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(3);

/// What `escrow server` takes.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ServerArgs {
    #[command(flatten)]
    configuration: Configuration,
    #[command(subcommand)]
    verb: Option<ServerVerb>,
}

/// Where the configuration comes from.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Configuration {
    /// The configuration file, in TOML. Without it: defaults, the environment (ESCROW_SECTION__KEY) and --set.
    #[arg(
        short = 'c',
        long = "config",
        global = true,
        value_name = "FILE",
        env = "ESCROW_CONFIG",
        hide_env_values = true
    )]
    file: Option<PathBuf>,
    /// One key, e.g. delivery.lease=1m; wins over the environment and the file. May be repeated.
    #[arg(long = "set", global = true, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
    /// Listen beyond this machine although there is no authentication: whoever reaches the ports can do everything.
    #[arg(long, global = true)]
    insecure: bool,
}

/// What can be done with a server's configuration.
#[derive(Debug, Clone, Copy, clap::Subcommand)]
pub(crate) enum ServerVerb {
    /// Check the configuration: print `ok`, or all faults with their places. Status 1 if there are any.
    #[command(after_help = "Examples:
  escrow server check-config -c escrow.toml
  escrow server check-config --set delivery.lease=1m")]
    CheckConfig,
    /// Print every key with its default and what it does: a file to start from.
    #[command(after_help = "Examples:
  escrow server print-defaults
  escrow server print-defaults > escrow.toml")]
    PrintDefaults,
    /// Ask the broker at the configured address whether it serves. Status 0: yes, 1: no, 3: not reachable.
    #[command(after_help = "Examples:
  escrow server health
  escrow server health -c escrow.toml")]
    Health,
}

impl Configuration {
    fn load(&self) -> Result<Config, CliError> {
        let sources = Sources {
            file: self.file.clone(),
            environment: std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .collect(),
            flags: self.set.clone(),
            insecure: self.insecure,
        };
        sources.load().map_err(|faults| CliError::failed(faults.to_string()))
    }
}

/// Does it.
pub(crate) async fn run(args: ServerArgs) -> Result<(), CliError> {
    match args.verb {
        Some(ServerVerb::PrintDefaults) => Ok(io::stdout().write_all(print_defaults().as_bytes())?),
        Some(ServerVerb::CheckConfig) => {
            for hint in args.configuration.load()?.hints() {
                writeln!(io::stderr(), "hint: {hint}")?;
            }
            Ok(writeln!(io::stdout(), "ok")?)
        }
        // Whoever only asks listens nowhere.
        Some(ServerVerb::Health) => {
            health(&Configuration { insecure: true, ..args.configuration }.load()?).await
        }
        None => serve(args.configuration.load()?).await,
    }
}

async fn health(config: &Config) -> Result<(), CliError> {
    let address = as_target(config.grpc.listen);
    let unreachable = |why: String| {
        CliError::Unreachable(format!("no broker answers at {address}: {why}; is it running there?"))
    };
    let channel = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| unreachable(error.to_string()))?
        .connect_timeout(HEALTH_TIMEOUT)
        .timeout(HEALTH_TIMEOUT)
        .connect()
        .await
        .map_err(|error| unreachable(with_causes(&error)))?;
    let request = HealthCheckRequest { service: String::new() };
    let answer = HealthClient::new(channel)
        .check(request)
        .await
        .map_err(|status| unreachable(status.message().to_owned()))?;
    match answer.into_inner().status() {
        ServingStatus::Serving => Ok(writeln!(io::stdout(), "serving")?),
        other => {
            Err(CliError::failed(format!("the broker at {address} does not serve: {}", other.as_str_name())))
        }
    }
}

/// What listens everywhere is asked on this machine.
fn as_target(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_everywhere_is_asked_here() {
        for (listen, target) in [
            ("0.0.0.0:7800", "127.0.0.1:7800"),
            ("[::]:7800", "[::1]:7800"),
            ("10.0.0.7:7800", "10.0.0.7:7800"),
        ] {
            let listen: SocketAddr = listen.parse().expect("an address");
            assert_eq!(as_target(listen).to_string(), target);
        }
    }
}
