//! `escrow tx`: see transactions, have them checked, and decide them by hand.

use escrow_protocol::{TransactionId, v1};

use crate::cli::confirm::{Caution, Resolve};
use crate::cli::context::Global;
use crate::cli::error::CliError;
use crate::cli::output::counted;
use crate::cli::paging::Paging;
use crate::cli::view::TransactionView;

/// What can be done with transactions.
#[derive(Debug, Clone, clap::Subcommand)]
pub(crate) enum TxVerb {
    /// List transactions: undecided ones, unless asked otherwise.
    #[command(after_help = "Examples:
  escrow tx ls
  escrow tx ls --state parked -o jsonl | jq -r .transaction_id")]
    Ls {
        /// Which ones.
        #[arg(long, value_enum, default_value_t = Which::Undecided)]
        state: Which,
        #[command(flatten)]
        paging: Paging,
    },
    /// Show a transaction with its messages, checks and decision.
    #[command(after_help = "Examples:
  escrow tx show tx-0-42
  escrow tx show tx-0-42 -o json")]
    Show {
        /// Its id.
        #[arg(value_name = "TRANSACTION")]
        id: TransactionId,
    },
    /// Ask a checker now. Its answer is judged like any other.
    #[command(after_help = "Examples:
  escrow tx check tx-0-42
  escrow tx check tx-0-42 --reason 'the bank answered'")]
    Check {
        /// Its id.
        #[arg(value_name = "TRANSACTION")]
        id: TransactionId,
        /// Why, for the records.
        #[arg(long)]
        reason: Option<String>,
    },
    /// Commit by hand: its messages become visible to every group. Final.
    #[command(after_help = "Examples:
  escrow tx commit tx-0-42 --reason 'paid, see ticket 7'
  escrow tx commit tx-0-42 --dry-run")]
    Commit(ByHand),
    /// Roll back by hand: its messages are removed, nobody ever sees them. Final.
    #[command(after_help = "Examples:
  escrow tx rollback tx-0-42 --reason 'never paid'
  escrow tx rollback tx-0-42 --reason 'never paid' --yes --as ann")]
    Rollback(ByHand),
    /// Have a parked transaction checked again, from the first check.
    #[command(after_help = "Examples:
  escrow tx resume tx-0-42
  escrow tx resume tx-0-42 --reason 'the checker is back'")]
    Resume {
        /// Its id.
        #[arg(value_name = "TRANSACTION")]
        id: TransactionId,
        /// Why, for the records.
        #[arg(long)]
        reason: Option<String>,
    },
}

/// A decision by hand.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ByHand {
    /// The transaction's id.
    #[arg(value_name = "TRANSACTION")]
    id: TransactionId,
    /// Why: it stays with the transaction.
    #[arg(long, required_unless_present = "dry_run")]
    reason: Option<String>,
    #[command(flatten)]
    caution: Caution,
}

/// Which transactions to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Which {
    /// Undecided, but for the parked ones.
    Undecided,
    /// Undecided, due for a check, and no checker of the kind is connected.
    Waiting,
    /// Undecided, and nobody is asked any more.
    Parked,
    /// Decided, newest first.
    Decided,
}

impl Which {
    fn to_wire(self) -> v1::TransactionFilter {
        match self {
            Self::Undecided => v1::TransactionFilter::Undecided,
            Self::Waiting => v1::TransactionFilter::WaitingForChecker,
            Self::Parked => v1::TransactionFilter::OnlyParked,
            Self::Decided => v1::TransactionFilter::Decided,
        }
    }

    fn empty(self) -> &'static str {
        match self {
            Self::Undecided => "no transaction is undecided",
            Self::Waiting => "no transaction waits for a checker",
            Self::Parked => "no transaction is parked",
            Self::Decided => "no decided transaction is remembered",
        }
    }
}

/// Does it.
pub(crate) async fn run(verb: TxVerb, global: &Global) -> Result<(), CliError> {
    match verb {
        TxVerb::Ls { state, paging } => ls(state, paging, global).await,
        TxVerb::Show { id } => show(get(id, global).await?, global),
        TxVerb::Check { id, reason } => {
            let operator = global.operator(reason.as_deref());
            let request = v1::CheckTransactionRequest { transaction_id: id.as_u64(), operator };
            show(global.admin().await?.check_transaction(request).await?.into_inner(), global)
        }
        TxVerb::Commit(by_hand) => decide(by_hand, v1::Decision::Commit, global).await,
        TxVerb::Rollback(by_hand) => decide(by_hand, v1::Decision::Rollback, global).await,
        TxVerb::Resume { id, reason } => {
            let operator = global.operator(reason.as_deref());
            let request = v1::ResumeTransactionRequest { transaction_id: id.as_u64(), operator };
            show(global.admin().await?.resume_transaction(request).await?.into_inner(), global)
        }
    }
}

async fn get(id: TransactionId, global: &Global) -> Result<v1::Transaction, CliError> {
    let request = v1::GetTransactionRequest { transaction_id: id.as_u64() };
    Ok(global.admin().await?.get_transaction(request).await?.into_inner())
}

fn show(transaction: v1::Transaction, global: &Global) -> Result<(), CliError> {
    Ok(global.printer().one(&TransactionView::from(transaction))?)
}

async fn ls(which: Which, paging: Paging, global: &Global) -> Result<(), CliError> {
    let mut admin = global.admin().await?;
    let fetch = async |page| {
        let request = v1::ListTransactionsRequest { page: Some(page), filter: which.to_wire().into() };
        let answer = admin.list_transactions(request).await?.into_inner();
        Ok((answer.transactions.into_iter().map(TransactionView::from).collect(), answer.next_cursor))
    };
    paging.print(&mut global.printer(), which.empty(), fetch).await
}

async fn decide(by_hand: ByHand, decision: v1::Decision, global: &Global) -> Result<(), CliError> {
    let ByHand { id, reason, caution } = by_hand;
    let transaction = get(id, global).await?;
    let what = what_it_means(id, &transaction, decision);
    if caution.resolve(&what)? == Resolve::Rehearse {
        return Ok(global.printer().done(&format!("this would {what}"))?);
    }
    let request = v1::DecideTransactionRequest {
        transaction_id: id.as_u64(),
        decision: decision.into(),
        operator: global.operator(reason.as_deref()),
    };
    show(global.admin().await?.decide_transaction(request).await?.into_inner(), global)
}

fn what_it_means(id: TransactionId, transaction: &v1::Transaction, decision: v1::Decision) -> String {
    let messages = counted(transaction.messages.len() as u64, "message");
    let state = transaction.state().as_str_name();
    match decision {
        v1::Decision::Rollback => {
            format!("roll back {id} (now {state}): {messages} removed for good")
        }
        _ => {
            let mut topics: Vec<_> =
                transaction.messages.iter().map(|message| message.topic.as_str()).collect();
            topics.sort_unstable();
            topics.dedup();
            format!("commit {id} (now {state}): {messages} to become visible in {}", topics.join(", "))
        }
    }
}
