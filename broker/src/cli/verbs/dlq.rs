//! `escrow dlq`: see dead letters, send them again, or discard them.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use escrow_protocol::{MessageId, v1};

use crate::cli::clock::past_ms;
use crate::cli::confirm::{Caution, Resolve};
use crate::cli::context::Global;
use crate::cli::error::CliError;
use crate::cli::output::counted;
use crate::cli::paging::Paging;
use crate::cli::view::{DeadLetterView, FacetView, JobView};

use super::audit::{FileForm, Lines};
use super::jobs;

/// Headers that only the broker writes.
const RESERVED_HEADER_PREFIX: &str = "escrow-";

/// What can be done with dead letters.
#[derive(Debug, Clone, clap::Subcommand)]
pub(crate) enum DlqVerb {
    /// List the dead letters of a group, or of all groups.
    #[command(
        visible_alias = "search",
        after_help = "Examples:
  escrow dlq ls --key order-42
  escrow dlq ls billing --cause REJECTED --since 1h --error timeout"
    )]
    Ls {
        /// The group. Default: all of them.
        #[arg(default_value = "", hide_default_value = true)]
        group: String,
        #[command(flatten)]
        matching: Matching,
        #[command(flatten)]
        paging: Paging,
    },
    /// How many dead letters of a group died of what, and came from which topic. Counted as they die: costs no scan.
    #[command(after_help = "Examples:
  escrow dlq facets billing
  escrow dlq facets billing -o json | jq -r '.[] | select(.of == \"cause\") | \"\\(.value) \\(.dead_letters)\"'")]
    Facets {
        /// The group.
        group: String,
    },
    /// Show a dead letter with its body and its attempts.
    #[command(after_help = "Examples:
  escrow dlq show billing 3
  escrow dlq show billing 3 -o json | jq -r .message.body")]
    Show {
        /// The group.
        group: String,
        /// Its offset in the group's dead letters.
        offset: u64,
    },
    /// Send dead letters again, to the group that failed.
    #[command(after_help = "Examples:
  escrow dlq redrive billing 3 4 7
  escrow dlq redrive billing --all --cause ATTEMPTS_EXHAUSTED --rate 100 --dry-run")]
    Redrive {
        #[command(flatten)]
        which: Which,
        /// Not to the group that failed, but as a new arrival in this topic, for all its groups.
        #[arg(long, default_value = "", hide_default_value = true, value_name = "TOPIC")]
        to_topic: String,
        /// At most so many per second. Default: as fast as it goes.
        #[arg(long, default_value_t = 0, hide_default_value = true)]
        rate: u32,
        /// Why, for the records.
        #[arg(long)]
        reason: Option<String>,
        /// Start the job and do not wait for it; `escrow jobs show` looks at it.
        #[arg(long)]
        detach: bool,
        #[command(flatten)]
        caution: Caution,
    },
    /// Send a dead letter again as a new message with another body, headers or topic. It names the old one in its header
    /// escrow-redriven-from.
    #[command(after_help = "Examples:
  escrow dlq edit billing 3 --body-file fixed.json --reason 'the amount was text'
  escrow dlq edit billing 3 --header currency=EUR --to-topic order-paid-v2 --reason 'ticket 7' --dry-run")]
    Edit {
        /// The group.
        group: String,
        /// Its offset in the group's dead letters.
        offset: u64,
        #[command(flatten)]
        changes: Changes,
        /// Why, for the records.
        #[arg(long, required_unless_present = "dry_run")]
        reason: Option<String>,
        #[command(flatten)]
        caution: Caution,
    },
    /// Write all dead letters that match into a file, with bodies and attempts, oldest first.
    #[command(after_help = "Examples:
  escrow dlq export billing --to dead.jsonl
  escrow dlq export billing --format csv --cause REJECTED --to - > dead.csv")]
    Export {
        /// The group. Default: all of them.
        #[arg(default_value = "", hide_default_value = true)]
        group: String,
        #[command(flatten)]
        matching: Matching,
        /// An object per line, or a table for a spreadsheet.
        #[arg(long, value_enum, default_value_t = FileForm::Jsonl)]
        format: FileForm,
        /// The file; must not exist. `-`: stdout.
        #[arg(long = "to", value_name = "FILE", default_value = "-")]
        file: PathBuf,
    },
    /// Remove dead letters for good.
    #[command(after_help = "Examples:
  escrow dlq discard billing 3 --reason 'test order'
  escrow dlq discard billing --all --key o-42 --dry-run")]
    Discard {
        #[command(flatten)]
        which: Which,
        /// Why, for the records.
        #[arg(long, required_unless_present = "dry_run")]
        reason: Option<String>,
        /// Start the job and do not wait for it; `escrow jobs show` looks at it.
        #[arg(long)]
        detach: bool,
        #[command(flatten)]
        caution: Caution,
    },
}

/// What dead letters have in common.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Matching {
    /// Why they died: ATTEMPTS_EXHAUSTED, REJECTED, EXPIRED, ORDERING_KEY_FAILED, DAMAGED or GIVEN_UP.
    #[arg(long)]
    cause: Option<String>,
    /// Their business key.
    #[arg(long)]
    key: Option<String>,
    /// The message.
    #[arg(long, value_name = "MESSAGE")]
    message: Option<MessageId>,
    /// The topic they came from.
    #[arg(long)]
    topic: Option<String>,
    /// Died at this time or later; a duration means that long ago.
    #[arg(long, value_parser = past_ms, value_name = "TIME")]
    since: Option<i64>,
    /// Died before this time; a duration means that long ago.
    #[arg(long, value_parser = past_ms, value_name = "TIME")]
    until: Option<i64>,
    /// A part of their last error.
    #[arg(long, value_name = "TEXT")]
    error: Option<String>,
}

/// What the new message has otherwise.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Changes {
    /// Its body. `-`: stdin.
    #[arg(long, value_name = "FILE")]
    body_file: Option<PathBuf>,
    /// Its body, in words.
    #[arg(long, conflicts_with = "body_file")]
    body: Option<String>,
    /// A header that is added, or replaced.
    #[arg(long = "header", value_parser = header, value_name = "NAME=VALUE")]
    headers: Vec<(String, String)>,
    /// A header that is left out.
    #[arg(long = "without-header", value_name = "NAME")]
    without: Vec<String>,
    /// The topic. Default: the one it came from.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TOPIC")]
    to_topic: String,
}

fn header(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = pair.ok_or_else(|| format!("{text:?} is not NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

impl Changes {
    fn read_body(&self) -> Result<Option<Vec<u8>>, CliError> {
        let Some(file) = &self.body_file else { return Ok(self.body.clone().map(String::into_bytes)) };
        let mut body = Vec::new();
        if file == Path::new("-") {
            std::io::stdin().read_to_end(&mut body)?;
        } else {
            let read = std::fs::read(file);
            body = read.map_err(|error| CliError::failed(format!("{}: {error}", file.display())))?;
        }
        Ok(Some(body))
    }

    /// Those of the dead letter with these changes. The broker's own are written by the broker.
    fn headers(&self, before: Vec<v1::Header>) -> Vec<v1::Header> {
        let replaced = |name: &str| {
            self.headers.iter().any(|(other, _)| other == name)
                || self.without.iter().any(|other| other == name)
        };
        let kept = before
            .into_iter()
            .filter(|header| !replaced(&header.name) && !header.name.starts_with(RESERVED_HEADER_PREFIX));
        let new = self.headers.iter().cloned().map(|(name, value)| v1::Header { name, value });
        kept.chain(new).collect()
    }
}

/// Which dead letters a verb is about: some offsets, or all that match.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Which {
    /// The group.
    group: String,
    /// Their offsets in the group's dead letters.
    #[arg(required_unless_present = "all")]
    offsets: Vec<u64>,
    /// All of the group that match.
    #[arg(long, conflicts_with = "offsets")]
    all: bool,
    #[command(flatten)]
    matching: Matching,
}

impl Matching {
    fn filter(self, group: String, offsets: Vec<u64>) -> v1::DeadLetterFilter {
        v1::DeadLetterFilter {
            group,
            offsets,
            reason: self.cause.unwrap_or_default(),
            key: self.key.unwrap_or_default(),
            topic: self.topic.unwrap_or_default(),
            from_ms: self.since.unwrap_or(0),
            until_ms: self.until.unwrap_or(0),
            error_contains: self.error.unwrap_or_default(),
            message_id: self.message.map(|id| id.as_bytes().to_vec().into()).unwrap_or_default(),
        }
    }
}

impl Which {
    fn filter(self) -> v1::DeadLetterFilter {
        self.matching.filter(self.group, self.offsets)
    }
}

/// Does it.
pub(crate) async fn run(verb: DlqVerb, global: &Global) -> Result<(), CliError> {
    match verb {
        DlqVerb::Ls { group, matching, paging } => {
            ls(matching.filter(group, Vec::new()), paging, global).await
        }
        DlqVerb::Facets { group } => {
            let request = v1::GetDeadLetterFacetsRequest { group: group.clone() };
            let facets = global.admin().await?.get_dead_letter_facets(request).await?.into_inner();
            let empty = format!("group {group} has no dead letters");
            Ok(global.printer().list(&FacetView::list(facets), &empty)?)
        }
        DlqVerb::Show { group, offset } => {
            let request = v1::GetDeadLetterRequest { group, offset };
            let dead = global.admin().await?.get_dead_letter(request).await?.into_inner();
            Ok(global.printer().one(&DeadLetterView::from(dead))?)
        }
        DlqVerb::Redrive { which, to_topic, rate, reason, detach, caution } => {
            let how = How { to_topic, rate, reason, detach };
            redrive(which.filter(), how, caution, global).await
        }
        DlqVerb::Edit { group, offset, changes, reason, caution } => {
            edit((group, offset), &changes, reason, caution, global).await
        }
        DlqVerb::Export { group, matching, format, file } => {
            export(matching.filter(group, Vec::new()), format, &file, global).await
        }
        DlqVerb::Discard { which, reason, detach, caution } => {
            discard(which.filter(), (reason, detach), caution, global).await
        }
    }
}

async fn ls(filter: v1::DeadLetterFilter, paging: Paging, global: &Global) -> Result<(), CliError> {
    let mut admin = global.admin().await?;
    let empty = match filter.group.as_str() {
        "" => "no group has dead letters that match".to_owned(),
        group => format!("group {group} has no dead letters that match"),
    };
    let fetch = async |page| {
        let request = v1::ListDeadLettersRequest { page: Some(page), filter: Some(filter.clone()) };
        let answer = admin.list_dead_letters(request).await?.into_inner();
        Ok((answer.dead_letters.into_iter().map(DeadLetterView::from).collect(), answer.next_cursor))
    };
    paging.print(&mut global.printer(), &empty, fetch).await
}

async fn edit(
    (group, offset): (String, u64),
    changes: &Changes,
    reason: Option<String>,
    caution: Caution,
    global: &Global,
) -> Result<(), CliError> {
    let mut admin = global.admin().await?;
    let request = v1::GetDeadLetterRequest { group: group.clone(), offset };
    let dead = admin.get_dead_letter(request).await?.into_inner();
    let headers = changes.headers(dead.message.unwrap_or_default().headers);
    let body = changes.read_body()?.map(Into::into);
    let origin = dead.origin.unwrap_or_default().topic;
    let topic = if changes.to_topic.is_empty() { &origin } else { &changes.to_topic };
    let what = format!(
        "send dead letter {offset} of group {group} as a new message to topic {topic}, for all its groups"
    );
    let resolve = caution.resolve(&what)?;
    let request = v1::EditDeadLetterRequest {
        group,
        offset,
        to_topic: changes.to_topic.clone(),
        body,
        replace_headers: true,
        headers,
        dry_run: resolve == Resolve::Rehearse,
        operator: global.operator(reason.as_deref()),
    };
    let edited = admin.edit_dead_letter(request).await?.into_inner();
    if resolve == Resolve::Rehearse {
        return Ok(global.printer().done(&format!("this would {what}"))?);
    }
    let id = MessageId::from_slice(&edited.message_id).map(|id| id.to_string()).unwrap_or_default();
    Ok(global.printer().done(&format!("sent as message {id} to topic {}", edited.topic))?)
}

async fn export(
    filter: v1::DeadLetterFilter,
    format: FileForm,
    file: &Path,
    global: &Global,
) -> Result<(), CliError> {
    let mut admin = global.admin().await?;
    let mut lines = Lines::begin::<DeadLetterView>(format, file)?;
    let request = v1::ExportDeadLettersRequest { filter: Some(filter), operator: global.operator(None) };
    let mut letters = admin.export_dead_letters(request).await?.into_inner();
    while let Some(letter) = letters.message().await? {
        lines.write(&DeadLetterView::from(letter))?;
    }
    lines.end()
}

/// How to send them again.
struct How {
    to_topic: String,
    rate: u32,
    reason: Option<String>,
    detach: bool,
}

async fn redrive(
    filter: v1::DeadLetterFilter,
    how: How,
    caution: Caution,
    global: &Global,
) -> Result<(), CliError> {
    let to = match how.to_topic.as_str() {
        "" => format!("group {}", filter.group),
        topic => format!("topic {topic}"),
    };
    let mut admin = global.admin().await?;
    let group = admin.get_group(v1::GetGroupRequest { name: filter.group.clone() }).await?.into_inner();
    let what = format!("send {} of group {} again, to {to}", extent(&filter, &group), filter.group);
    let waits = how.to_topic.is_empty().then(|| held_back(&group)).flatten();
    waits.iter().for_each(|waits| eprintln!("{waits}"));
    let resolve = caution.resolve(&what)?;
    let request = v1::RedriveDeadLettersRequest {
        filter: Some(filter),
        to_topic: how.to_topic,
        rate: how.rate,
        dry_run: resolve == Resolve::Rehearse,
        operator: global.operator(how.reason.as_deref()),
    };
    let job = admin.redrive_dead_letters(request).await?.into_inner();
    watch(job, how.detach, global).await
}

async fn discard(
    filter: v1::DeadLetterFilter,
    (reason, detach): (Option<String>, bool),
    caution: Caution,
    global: &Global,
) -> Result<(), CliError> {
    let mut admin = global.admin().await?;
    let group = admin.get_group(v1::GetGroupRequest { name: filter.group.clone() }).await?.into_inner();
    let what = format!("remove {} of group {} for good", extent(&filter, &group), filter.group);
    let resolve = caution.resolve(&what)?;
    let request = v1::DiscardDeadLettersRequest {
        filter: Some(filter),
        dry_run: resolve == Resolve::Rehearse,
        operator: global.operator(reason.as_deref()),
    };
    let job = admin.discard_dead_letters(request).await?.into_inner();
    watch(job, detach, global).await
}

async fn watch(job: v1::Job, detach: bool, global: &Global) -> Result<(), CliError> {
    if detach {
        return Ok(global.printer().one(&JobView::from(job))?);
    }
    eprintln!("job {} started; Ctrl-C stops watching it, not the job", job.job_id);
    jobs::follow(job, global).await
}

/// How many, as far as that is known before they are looked at.
fn extent(filter: &v1::DeadLetterFilter, group: &v1::Group) -> String {
    let is_everything = *filter == v1::DeadLetterFilter { group: filter.group.clone(), ..Default::default() };
    match filter.offsets.len() {
        0 if is_everything => format!("all {}", counted(group.dead_letters, "dead letter")),
        0 => format!("those that match of the {}", counted(group.dead_letters, "dead letter")),
        count => counted(count as u64, "dead letter"),
    }
}

/// Why what is sent again would lie.
fn held_back(group: &v1::Group) -> Option<String> {
    let name = &group.name;
    if group.paused {
        return Some(format!("group {name} is paused: they wait until `escrow group resume {name}`"));
    }
    group
        .members
        .is_empty()
        .then(|| format!("no consumer of group {name} is connected: they wait until one is"))
}
