//! What every verb has at hand: the broker's address, the output, and who is asking.

use std::time::Duration;

use escrow::{Admin, Client};
use escrow_protocol::v1;

use super::contexts::{CONTEXT_VARIABLE, ContextFile, Said, Target, URL_VARIABLE};
use super::error::CliError;
use super::output::{Format, Printer};

/// A command line answers soon or says why not.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// … also when the broker goes away in the middle: a person can try again, and sees what happens.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(10);

/// What can be said with every verb.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The broker's gRPC address [env: ESCROW_URL] [default: the current context, or http://127.0.0.1:7800]
    #[arg(long, global = true, display_order = 900)]
    pub(crate) url: Option<String>,
    /// The broker by its name: `escrow context ls` lists them. [env: ESCROW_CONTEXT]
    #[arg(long, global = true, value_name = "NAME", display_order = 900)]
    pub(crate) context: Option<String>,
    /// table, json (one document) or jsonl (an object per line). A table in a pipe is columns separated by tabs.
    #[arg(
        long,
        short,
        global = true,
        value_enum,
        default_value_t = Format::Table,
        hide_possible_values = true,
        value_name = "FORMAT",
        display_order = 901
    )]
    pub(crate) output: Format,
    /// Who is asking, for the records of what was done by hand. Default: as the context says, or the name of the user.
    #[arg(
        long = "as",
        global = true,
        env = "ESCROW_OPERATOR",
        value_name = "NAME",
        hide_env_values = true,
        display_order = 902
    )]
    pub(crate) operator: Option<String>,
}

impl Global {
    /// The broker this command means.
    ///
    /// # Errors
    /// See [`Said::target`].
    pub(crate) fn target(&self) -> Result<Target, CliError> {
        let said = Said {
            url: self.url.clone(),
            url_variable: variable(URL_VARIABLE),
            context: self.context.clone(),
            context_variable: variable(CONTEXT_VARIABLE),
        };
        said.target(|| Ok(ContextFile::read()?.contexts().clone()))
    }

    /// Connects to the broker.
    pub(crate) async fn client(&self) -> Result<Client, CliError> {
        let builder = Client::builder(self.target()?.url);
        Ok(builder.connect_timeout(CONNECT_TIMEOUT).operation_timeout(OPERATION_TIMEOUT).connect().await?)
    }

    /// Connects to the broker's administration.
    pub(crate) async fn admin(&self) -> Result<Admin, CliError> {
        Ok(self.client().await?.admin())
    }

    /// Prints the way that was asked for.
    pub(crate) fn printer(&self) -> Printer {
        Printer::stdout(self.output)
    }

    /// Who is asking, and why.
    pub(crate) fn operator(&self, reason: Option<&str>) -> Option<v1::Operator> {
        Some(v1::Operator { name: self.operator_name(), reason: reason.unwrap_or_default().to_owned() })
    }

    /// Who is asking: as the command says, the context, or the system; its number for who has no name there.
    pub(crate) fn operator_name(&self) -> String {
        // Whoever asks has been told which broker that is: an error was said before.
        let of_context = || self.target().ok()?.operator;
        let user = || variable("USER").or_else(|| variable("LOGNAME"));
        let number = || format!("uid-{}", rustix::process::getuid().as_raw());
        self.operator.clone().or_else(of_context).or_else(user).unwrap_or_else(number)
    }
}

/// A variable of the environment; one that is empty says nothing.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}
