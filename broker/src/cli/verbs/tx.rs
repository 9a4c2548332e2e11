//! `escrow tx`: see transactions, have them checked, and decide them by hand.

use escrow::Admin;
use escrow_protocol::{TransactionId, v1};

use crate::cli::confirm::{Caution, Resolve};
use crate::cli::context::Global;
use crate::cli::error::CliError;
use crate::cli::output::{Time, counted};
use crate::cli::paging::Paging;
use crate::cli::view::TransactionView;

/// What can be done with transactions.
#[derive(Debug, Clone, clap::Subcommand)]
pub(crate) enum TxVerb {
    /// List transactions: all that are not decided, the parked ones first, unless asked otherwise.
    #[command(after_help = "Examples:
  escrow tx ls
  escrow tx ls --state parked --kind order.create -o jsonl | jq -r .transaction_id")]
    Ls {
        /// Which ones.
        #[arg(long, value_enum, default_value_t = Which::Open)]
        state: Which,
        #[command(flatten)]
        whose: Whose,
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

/// Whose transactions.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Whose {
    /// Only of this producer group.
    #[arg(long, default_value = "", hide_default_value = true)]
    group: String,
    /// Only of this kind.
    #[arg(long, default_value = "", hide_default_value = true)]
    kind: String,
    /// Only with a message that has this business key, or under this transaction key of the group.
    #[arg(long, default_value = "", hide_default_value = true)]
    key: String,
}

impl Whose {
    fn is_anybody(&self) -> bool {
        self.group.is_empty() && self.kind.is_empty() && self.key.is_empty()
    }
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
    /// Not decided: the parked ones, which need a person, then those that are still checked.
    Open,
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
    /// The lists of the broker that it is made of, each with the mark its cursors begin with.
    fn lists(self) -> &'static [(&'static str, v1::TransactionFilter)] {
        match self {
            Self::Open => {
                &[("p", v1::TransactionFilter::OnlyParked), ("u", v1::TransactionFilter::Undecided)]
            }
            Self::Undecided => &[("", v1::TransactionFilter::Undecided)],
            Self::Waiting => &[("", v1::TransactionFilter::WaitingForChecker)],
            Self::Parked => &[("", v1::TransactionFilter::OnlyParked)],
            Self::Decided => &[("", v1::TransactionFilter::Decided)],
        }
    }

    fn empty(self) -> &'static str {
        match self {
            Self::Open => "no transaction is undecided or parked",
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
        TxVerb::Ls { state, whose, paging } => ls(state, whose, paging, global).await,
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

async fn ls(which: Which, whose: Whose, paging: Paging, global: &Global) -> Result<(), CliError> {
    let mut admin = global.admin().await?;
    let fetch = async |page| page_of(&mut admin, which.lists(), &whose, page).await;
    let empty = match whose.is_anybody() {
        true => which.empty().to_owned(),
        // Of the others it knows nothing.
        false => which.empty().replacen("transaction", "transaction that matches", 1),
    };
    paging.print(&mut global.printer(), &empty, fetch).await
}

/// A page of these lists, one behind the other.
async fn page_of(
    admin: &mut Admin,
    lists: &[(&str, v1::TransactionFilter)],
    whose: &Whose,
    page: v1::Page,
) -> Result<(Vec<TransactionView>, String), CliError> {
    let begun = lists.iter().position(|(mark, _)| !page.cursor.is_empty() && page.cursor.starts_with(mark));
    let first = begun.unwrap_or(0);
    let mut cursor = begun.map_or(page.cursor.as_str(), |nth| &page.cursor[lists[nth].0.len()..]).to_owned();
    let mut views = Vec::new();
    for (mark, filter) in &lists[first..] {
        let limit = page.limit - views.len() as u32;
        if limit == 0 {
            // Its own beginning: an empty cursor would say that nothing follows.
            return Ok((views, (*mark).to_owned()));
        }
        let page = v1::Page { limit, cursor: std::mem::take(&mut cursor) };
        let Whose { group, kind, key } = whose.clone();
        let request =
            v1::ListTransactionsRequest { page: Some(page), filter: (*filter).into(), group, kind, key };
        let answer = admin.list_transactions(request).await?.into_inner();
        views.extend(answer.transactions.into_iter().map(TransactionView::from));
        if !answer.next_cursor.is_empty() {
            return Ok((views, format!("{mark}{}", answer.next_cursor)));
        }
    }
    Ok((views, String::new()))
}

async fn decide(by_hand: ByHand, decision: v1::Decision, global: &Global) -> Result<(), CliError> {
    let ByHand { id, reason, caution } = by_hand;
    let transaction = get(id, global).await?;
    if let Some(words) = already(id, &transaction, decision) {
        return Ok(global.printer().done(&words)?);
    }
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

/// Nothing is left to do: it was decided this way. The opposite is for the broker to refuse.
fn already(id: TransactionId, transaction: &v1::Transaction, decision: v1::Decision) -> Option<String> {
    let what = match (transaction.state(), decision) {
        (v1::TransactionState::Committed, v1::Decision::Commit) => "committed",
        (v1::TransactionState::RolledBack, v1::Decision::Rollback) => "rolled back",
        _ => return None,
    };
    let by = transaction.decider.as_ref().map(|decider| {
        let at = Time(decider.at_ms).text().unwrap_or_else(|| "an unknown time".to_owned());
        format!(" by {} ({}) at {at}", decider.name, decider.role)
    });
    Some(format!("{id} was {what} already{}; nothing was done", by.unwrap_or_default()))
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
