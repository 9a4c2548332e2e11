//! The command line: what can be said, and who does it. Each verb asks the broker through its gRPC services, as any
//! other client; only `server`, `dev` and the offline forms of `store` work on this machine.

mod clock;
mod confirm;
mod context;
mod contexts;
mod error;
mod output;
mod paging;
mod progress;
pub(crate) mod serve;
mod signals;
mod verbs;
mod verdict;
mod view;

use clap::CommandFactory as _;
use clap_complete::Shell;

pub(crate) use clock::now_ms;

pub(crate) use context::Global;
pub use error::CliError;
pub(crate) use signals::interrupted;
use verbs::alarms::AlarmsVerb;
use verbs::audit::AuditVerb;
use verbs::bench::BenchVerb;
use verbs::check::CheckVerb;
use verbs::client::ClientVerb;
use verbs::context::ContextVerb;
use verbs::dlq::DlqVerb;
use verbs::group::GroupVerb;
use verbs::jobs::JobsVerb;
use verbs::man::ManArgs;
use verbs::msg::MsgVerb;
use verbs::publish::PubArgs;
use verbs::retry::RetryVerb;
use verbs::scheduled::ScheduledVerb;
use verbs::server::ServerArgs;
use verbs::store::StoreVerb;
use verbs::subscribe::SubArgs;
use verbs::top::TopArgs;
use verbs::topic::TopicVerb;
use verbs::tx::TxVerb;

use crate::dev::DevArgs;

/// Escrow, a transactional-message broker.
#[derive(Debug, Clone, clap::Parser)]
#[command(
    name = "escrow",
    version,
    max_term_width = 110,
    after_help = "Exit status: 0 done, 1 refused or failed, 2 the command makes no sense, 3 the broker is not reachable.

Examples:
  escrow dev
  escrow pub order-paid '{\"order\": 42}' --key o-42"
)]
pub struct Cli {
    /// What can be said with every verb.
    #[command(flatten)]
    global: Global,
    /// What to do.
    #[command(subcommand)]
    verb: Verb,
}

/// What to do.
#[derive(Debug, Clone, clap::Subcommand)]
pub(crate) enum Verb {
    /// Run a broker.
    #[command(
        args(unasked()),
        after_help = "Examples:
  escrow server
  escrow server -c escrow.toml --set log.format=json"
    )]
    Server(ServerArgs),
    /// A broker to play with, and a sample flow. With --check: every story of the product, told to its end.
    #[command(
        args(unasked()),
        after_help = "Examples:
  escrow dev
  escrow dev --check"
    )]
    Dev(DevArgs),
    /// Topics: create, ls, show, update, delete.
    #[command(
        subcommand,
        after_help = "Examples:
  escrow topic create order-paid
  escrow topic ls"
    )]
    Topic(TopicVerb),
    /// Groups: create, ls, show, update, delete, seek, pause, resume.
    #[command(
        subcommand,
        after_help = "Examples:
  escrow group create billing --topic order-paid
  escrow group ls"
    )]
    Group(GroupVerb),
    /// Publish messages, or put them in escrow.
    #[command(after_help = "Examples:
  escrow pub order-paid '{\"order\": 42}' --key o-42 --header source=shop
  escrow pub order-paid - --half --commit < order.json
  seq 1000 | escrow pub numbers --lines -o jsonl")]
    Pub(PubArgs),
    /// Read messages as a group, one line for each: id, topic, offset, attempt, key and body, or an object with -o json.
    #[command(after_help = "Examples:
  escrow sub billing --topic order-paid --count 1
  escrow sub billing --topic order-paid=eu,us --timeout 5s -o jsonl | jq -r .body")]
    Sub(SubArgs),
    /// Transactions: ls, show, check, commit, rollback, resume.
    #[command(
        subcommand,
        after_help = "Examples:
  escrow tx ls --state parked
  escrow tx commit tx-0-42 --reason 'paid, see ticket 7'"
    )]
    Tx(TxVerb),
    /// Dead letters: ls, facets, show, redrive, edit, export, discard.
    #[command(
        subcommand,
        after_help = "Examples:
  escrow dlq ls billing
  escrow dlq redrive billing --all --dry-run"
    )]
    Dlq(DlqVerb),
    /// Redrives and discards of many dead letters: ls, show, pause, resume, cancel.
    #[command(
        subcommand,
        after_help = "Examples:
  escrow jobs ls
  escrow jobs cancel 7"
    )]
    Jobs(JobsVerb),
    /// Messages that wait for their next attempt: ls, run, give-up.
    #[command(
        subcommand,
        after_help = "Examples:
  escrow retry ls billing
  escrow retry run billing 01939c5e-7d5a-7cc3-98a4-1f1d2a3b4c5d"
    )]
    Retry(RetryVerb),
    /// Messages that wait for their time: ls, cancel, move.
    #[command(
        subcommand,
        after_help = "Examples:
  escrow scheduled ls
  escrow scheduled cancel 01939c5e-7d5a-7cc3-98a4-1f1d2a3b4c5d --yes"
    )]
    Scheduled(ScheduledVerb),
    /// Single messages: get, find, trace.
    #[command(
        subcommand,
        after_help = "Examples:
  escrow msg find --key o-42
  escrow msg trace --key o-42"
    )]
    Msg(MsgVerb),
    /// What a person should look at, and who is told: ls, show, ack, test, rules, sinks.
    #[command(
        subcommand,
        after_help = "Examples:
  escrow alarms ls
  escrow alarms ack 7 --reason 'restarting the mail consumer'"
    )]
    Alarms(AlarmsVerb),
    /// What was done by hand: ls, export.
    #[command(
        subcommand,
        after_help = "Examples:
  escrow audit ls --since 1h
  escrow audit export --format csv --to audit.csv"
    )]
    Audit(AuditVerb),
    /// Producers and consumers that are connected.
    #[command(
        subcommand,
        after_help = "Examples:
  escrow client ls
  escrow client ls -o json"
    )]
    Client(ClientVerb),
    /// Brokers by name: ls, show, add, use, rm.
    #[command(
        subcommand,
        after_help = "Examples:
  escrow context add prod http://10.0.0.7:7800 --use
  escrow context ls"
    )]
    Context(ContextVerb),
    /// The store: stats, verify, backup, restore, repair.
    #[command(
        subcommand,
        after_help = "Examples:
  escrow store backup --to escrow.backup
  escrow store restore escrow.backup --data-dir ./escrow-data"
    )]
    Store(StoreVerb),
    /// The broker at a glance.
    #[command(after_help = "Examples:
  escrow status
  escrow status -o json | jq .undecided")]
    Status,
    /// The broker, live: rates, latencies, what waits, and how far behind each group is. Keys: q ends it.
    #[command(after_help = "Examples:
  escrow top
  escrow top --once --sort dead
  escrow top --once -o json | jq .rates")]
    Top(TopArgs),
    /// How the broker stands, for monitoring systems: health, tx, lag, dlq.
    #[command(
        subcommand,
        after_help = "One line with numbers behind a bar, as Nagios and its kin read it. Exit status: 0 ok, 1 warning, 2 critical,
3 unknown.

Examples:
  escrow check health
  escrow check tx --age-critical 30m"
    )]
    Check(CheckVerb),
    /// Measure a broker under load.
    #[command(
        subcommand,
        after_help = "Examples:
  escrow bench tx
  escrow bench publish --seconds 5 -o json"
    )]
    Bench(BenchVerb),
    /// The manual: a page on stdout, or all of them into a directory.
    #[command(
        args(unasked()),
        after_help = "Examples:
  escrow man tx commit | man -l -
  escrow man --dir /usr/local/share/man/man1"
    )]
    Man(ManArgs),
    /// Print the completions of a shell.
    #[command(
        args(unasked()),
        after_help = "Examples:
  escrow completions bash > /etc/bash_completion.d/escrow
  escrow completions zsh > ~/.zfunc/_escrow"
    )]
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// What can be said with every verb and means nothing to this one, for it asks no broker: not shown in its help.
fn unasked() -> Vec<clap::Arg> {
    let global = <Global as clap::Args>::augment_args(clap::Command::new("global"));
    global.get_arguments().map(|argument| argument.clone().hide(true)).collect()
}

/// The exit status of words that make no sense: for a check of a monitoring system 3, for 2 would say that the broker is
/// in trouble.
pub fn senseless_status(words: impl IntoIterator<Item = std::ffi::OsString>) -> u8 {
    let verb = words.into_iter().skip(1).find(|word| Cli::command().find_subcommand(word).is_some());
    if verb.is_some_and(|verb| verb == "check") { 3 } else { 2 }
}

/// Does what was asked for.
///
/// # Errors
/// [`CliError`]: report it, it knows the exit status.
pub async fn run(cli: Cli) -> Result<(), CliError> {
    let global = &cli.global;
    match cli.verb {
        Verb::Server(args) => verbs::server::run(args).await,
        Verb::Dev(args) => crate::dev::run(args).await,
        Verb::Topic(verb) => verbs::topic::run(verb, global).await,
        Verb::Group(verb) => verbs::group::run(verb, global).await,
        Verb::Pub(args) => verbs::publish::run(args, global).await,
        Verb::Sub(args) => verbs::subscribe::run(args, global).await,
        Verb::Tx(verb) => verbs::tx::run(verb, global).await,
        Verb::Dlq(verb) => verbs::dlq::run(verb, global).await,
        Verb::Jobs(verb) => verbs::jobs::run(verb, global).await,
        Verb::Retry(verb) => verbs::retry::run(verb, global).await,
        Verb::Scheduled(verb) => verbs::scheduled::run(verb, global).await,
        Verb::Msg(verb) => verbs::msg::run(verb, global).await,
        Verb::Alarms(verb) => verbs::alarms::run(verb, global).await,
        Verb::Audit(verb) => verbs::audit::run(verb, global).await,
        Verb::Check(verb) => verbs::check::run(verb, global).await,
        Verb::Client(verb) => verbs::client::run(verb, global).await,
        Verb::Context(verb) => verbs::context::run(verb, global),
        Verb::Store(verb) => verbs::store::run(verb, global).await,
        Verb::Top(args) => verbs::top::run(args, global).await,
        Verb::Status => verbs::status::run(global).await,
        Verb::Bench(verb) => verbs::bench::run(verb, global).await,
        Verb::Man(args) => verbs::man::run(args),
        Verb::Completions { shell } => verbs::completions::run(shell),
    }
}

#[cfg(test)]
mod tests;
