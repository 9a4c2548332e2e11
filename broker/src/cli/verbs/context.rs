//! `escrow context`: brokers by name, so that nobody types an address at night.

use crate::cli::confirm::{Caution, Resolve};
use crate::cli::context::Global;
use crate::cli::contexts::{Context, ContextFile, context_name};
use crate::cli::error::CliError;
use crate::cli::view::{ContextView, TargetView};

/// What can be done with contexts.
#[derive(Debug, Clone, clap::Subcommand)]
pub(crate) enum ContextVerb {
    /// List the contexts.
    #[command(after_help = "Examples:
  escrow context ls
  escrow context ls -o jsonl | jq -r .name")]
    Ls,
    /// Show which broker a command would ask, and what chose it.
    #[command(after_help = "Examples:
  escrow context show
  escrow context show --context prod -o json | jq -r .url")]
    Show,
    /// Add a context.
    #[command(after_help = "Examples:
  escrow context add prod http://10.0.0.7:7800 --use
  escrow context add test http://10.0.0.8:7800 --as ann --replace")]
    Add {
        /// Its name.
        #[arg(value_parser = context_name)]
        name: String,
        /// The broker's gRPC address.
        #[arg(value_name = "URL")]
        address: String,
        /// Make it the current one.
        #[arg(long = "use")]
        make_current: bool,
        /// Although there is one of this name: it is replaced.
        #[arg(long)]
        replace: bool,
    },
    /// Make a context the one that counts when nothing else is said.
    #[command(after_help = "Examples:
  escrow context use prod
  escrow context use --none")]
    Use {
        /// Its name.
        #[arg(required_unless_present = "none")]
        name: Option<String>,
        /// None of them: the broker on this machine.
        #[arg(long, conflicts_with = "name")]
        none: bool,
    },
    /// Remove a context. The broker notices nothing.
    #[command(after_help = "Examples:
  escrow context rm test --yes
  escrow context rm test --dry-run")]
    Rm {
        /// Its name.
        name: String,
        #[command(flatten)]
        caution: Caution,
    },
}

/// Does it.
pub(crate) fn run(verb: ContextVerb, global: &Global) -> Result<(), CliError> {
    match verb {
        ContextVerb::Ls => ls(global),
        ContextVerb::Show => {
            Ok(global.printer().one(&TargetView::new(global.target()?, global.operator_name()))?)
        }
        ContextVerb::Add { name, address, make_current, replace } => {
            add(&name, address, make_current, replace, global)
        }
        ContextVerb::Use { name, none: _ } => set_current(name.as_deref(), global),
        ContextVerb::Rm { name, caution } => rm(&name, caution, global),
    }
}

fn ls(global: &Global) -> Result<(), CliError> {
    let file = ContextFile::read()?;
    let contexts = file.contexts();
    let views: Vec<_> = contexts
        .all
        .iter()
        .map(|(name, context)| ContextView {
            name: name.clone(),
            url: context.url.clone(),
            operator: context.operator.clone(),
            current: contexts.current.as_ref() == Some(name),
        })
        .collect();
    let empty = format!("no context in {}; `escrow context add NAME URL` makes one", file.path().display());
    Ok(global.printer().list(&views, &empty)?)
}

fn add(name: &str, url: String, make_current: bool, replace: bool, global: &Global) -> Result<(), CliError> {
    if !url.starts_with("http://") {
        return Err(CliError::usage(format!(
            "{url:?} is not a broker's address: write it as http://host:port"
        )));
    }
    let mut file = ContextFile::read()?;
    if let Some(there) = file.contexts().all.get(name).filter(|_| !replace) {
        return Err(CliError::failed(format!(
            "context {name} is there already ({}); --replace replaces it",
            there.url
        )));
    }
    file.add(name, &Context { url, operator: global.operator.clone() });
    if make_current {
        file.set_current(Some(name));
    }
    file.write()?;
    let what = if make_current { "added, and current" } else { "added" };
    Ok(global.printer().done(&format!("context {name} {what}, in {}", file.path().display()))?)
}

fn set_current(name: Option<&str>, global: &Global) -> Result<(), CliError> {
    let mut file = ContextFile::read()?;
    if let Some(name) = name {
        file.contexts().known(name, "the command")?;
    }
    file.set_current(name);
    file.write()?;
    Ok(global.printer().done(&match name {
        Some(name) => {
            format!("context {name} is current: {}", file.contexts().known(name, "the command")?.url)
        }
        None => "no context is current".to_owned(),
    })?)
}

fn rm(name: &str, caution: Caution, global: &Global) -> Result<(), CliError> {
    let mut file = ContextFile::read()?;
    let what = format!("remove context {name} ({})", file.contexts().known(name, "the command")?.url);
    if caution.resolve(&what)? == Resolve::Rehearse {
        return Ok(global.printer().done(&format!("this would {what}"))?);
    }
    file.remove(name);
    file.write()?;
    Ok(global.printer().done(&format!("context {name} removed"))?)
}
