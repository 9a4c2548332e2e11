//! `escrow topic`: make, see, change and delete topics.

use escrow_protocol::v1;

use crate::cli::clock::duration;
use crate::cli::confirm::{Caution, Resolve};
use crate::cli::context::Global;
use crate::cli::error::CliError;
use crate::cli::output::{Bytes, Cell as _, counted};
use crate::cli::paging::Paging;
use crate::cli::view::TopicView;
use crate::config::{DurationText, parse_size};

/// What can be done with topics.
#[derive(Debug, Clone, clap::Subcommand)]
pub(crate) enum TopicVerb {
    /// Make a topic.
    #[command(after_help = "Examples:
  escrow topic create order-paid
  escrow topic create order-paid --keep-finished 24h --keep-finished-size 1GiB")]
    Create {
        /// Its name.
        name: String,
        #[command(flatten)]
        keep: Keep,
    },
    /// List topics.
    #[command(after_help = "Examples:
  escrow topic ls
  escrow topic ls --prefix order- --dead-letters -o json")]
    Ls {
        /// Only names that begin so.
        #[arg(long, default_value = "", hide_default_value = true)]
        prefix: String,
        /// The dead-letter topics too.
        #[arg(long)]
        dead_letters: bool,
        #[command(flatten)]
        paging: Paging,
    },
    /// Show a topic.
    #[command(after_help = "Examples:
  escrow topic show order-paid
  escrow topic show billing.dlq -o json")]
    Show {
        /// Its name.
        name: String,
    },
    /// Change how a topic keeps what is finished. What is not given stays.
    #[command(after_help = "Examples:
  escrow topic update order-paid --keep-finished 7d --reason 'the auditors ask for a week'
  escrow topic update order-paid --keep-finished 0s --dry-run")]
    Update {
        /// Its name.
        name: String,
        #[command(flatten)]
        keep: Keep,
        #[command(flatten)]
        caution: Caution,
    },
    /// Delete a topic and its messages. Refused while a group is subscribed, unless forced.
    #[command(after_help = "Examples:
  escrow topic delete order-paid --reason 'renamed to order-settled'
  escrow topic delete order-paid --force --dry-run")]
    Delete {
        /// Its name.
        name: String,
        /// Although groups are subscribed.
        #[arg(long)]
        force: bool,
        /// Why, for the records.
        #[arg(long, required_unless_present = "dry_run")]
        reason: Option<String>,
        #[command(flatten)]
        caution: Caution,
    },
}

/// How finished messages are kept for replay.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Keep {
    /// Keep finished messages this long, for replay. Default: not at all.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    keep_finished: Option<std::time::Duration>,
    /// … and at most this much of them. Default: no bound but the time.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    keep_finished_size: Option<u64>,
    /// Why, for the records.
    #[arg(long)]
    reason: Option<String>,
}

impl Keep {
    /// The settings, where `before` stands for what is not given.
    fn settings(&self, before: v1::TopicSettings) -> v1::TopicSettings {
        let ms = |time: std::time::Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        v1::TopicSettings {
            keep_finished_ms: self.keep_finished.map_or(before.keep_finished_ms, ms),
            keep_finished_bytes: self.keep_finished_size.unwrap_or(before.keep_finished_bytes),
        }
    }
}

/// Does it.
pub(crate) async fn run(verb: TopicVerb, global: &Global) -> Result<(), CliError> {
    match verb {
        TopicVerb::Create { name, keep } => create(name, &keep, global).await,
        TopicVerb::Ls { prefix, dead_letters, paging } => ls(prefix, dead_letters, paging, global).await,
        TopicVerb::Show { name } => {
            let topic = get(name, global).await?;
            Ok(global.printer().one(&TopicView::from(topic))?)
        }
        TopicVerb::Update { name, keep, caution } => update(name, &keep, caution, global).await,
        TopicVerb::Delete { name, force, reason, caution } => {
            delete(name, force, reason.as_deref(), caution, global).await
        }
    }
}

async fn get(name: String, global: &Global) -> Result<v1::Topic, CliError> {
    Ok(global.admin().await?.get_topic(v1::GetTopicRequest { name }).await?.into_inner())
}

async fn create(name: String, keep: &Keep, global: &Global) -> Result<(), CliError> {
    let settings = Some(keep.settings(v1::TopicSettings::default()));
    let request =
        v1::CreateTopicRequest { name, settings, operator: global.operator(keep.reason.as_deref()) };
    let topic = global.admin().await?.create_topic(request).await?.into_inner();
    Ok(global.printer().one(&TopicView::from(topic))?)
}

async fn ls(prefix: String, dead_letters: bool, paging: Paging, global: &Global) -> Result<(), CliError> {
    let mut admin = global.admin().await?;
    let empty = "there are no topics; `escrow topic create NAME` makes one";
    let fetch = async |page| {
        let prefix = prefix.clone();
        let request = v1::ListTopicsRequest { page: Some(page), prefix, dead_letter_topics: dead_letters };
        let answer = admin.list_topics(request).await?.into_inner();
        Ok((answer.topics.into_iter().map(TopicView::from).collect(), answer.next_cursor))
    };
    paging.print(&mut global.printer(), empty, fetch).await
}

async fn update(name: String, keep: &Keep, caution: Caution, global: &Global) -> Result<(), CliError> {
    let before = get(name.clone(), global).await?.settings.unwrap_or_default();
    let settings = keep.settings(before);
    let what = format!("let topic {name} keep {}, instead of {}", kept(&settings), kept(&before));
    let resolve = match loses(&before, &settings) {
        true => caution.resolve(&format!("{what}; what it keeps beyond that can be replayed no more"))?,
        false if caution.dry_run => Resolve::Rehearse,
        false => Resolve::Act,
    };
    if resolve == Resolve::Rehearse {
        return Ok(global.printer().done(&format!("this would {what}"))?);
    }
    let settings = Some(settings);
    let request =
        v1::UpdateTopicRequest { name, settings, operator: global.operator(keep.reason.as_deref()) };
    let topic = global.admin().await?.update_topic(request).await?.into_inner();
    Ok(global.printer().one(&TopicView::from(topic))?)
}

/// What a topic keeps, in words.
fn kept(settings: &v1::TopicSettings) -> String {
    let time = DurationText(u64::try_from(settings.keep_finished_ms).unwrap_or(0));
    match (settings.keep_finished_ms, settings.keep_finished_bytes) {
        (0, _) => "no finished messages".to_owned(),
        (_, 0) => format!("finished messages for {time}"),
        (_, bytes) => format!("finished messages for {time}, at most {}", Bytes(bytes).shown().into_line()),
    }
}

/// Whether less is kept than before.
fn loses(before: &v1::TopicSettings, after: &v1::TopicSettings) -> bool {
    let bound = |bytes: u64| if bytes == 0 { u64::MAX } else { bytes };
    before.keep_finished_ms > 0
        && (after.keep_finished_ms < before.keep_finished_ms
            || bound(after.keep_finished_bytes) < bound(before.keep_finished_bytes))
}

async fn delete(
    name: String,
    force: bool,
    reason: Option<&str>,
    caution: Caution,
    global: &Global,
) -> Result<(), CliError> {
    let topic = TopicView::from(get(name.clone(), global).await?);
    let what = format!("delete topic {name} with {}", counted(topic.messages.0, "message"));
    let what = match (topic.groups.as_slice(), force) {
        ([], _) => what,
        (groups, true) => format!("{what}, although these groups are subscribed: {}", groups.join(", ")),
        (groups, false) => {
            let groups = groups.join(", ");
            return Err(CliError::failed(format!(
                "topic {name} is subscribed by {groups}; unsubscribe them with `escrow group update`, or say --force"
            )));
        }
    };
    if caution.resolve(&what)? == Resolve::Rehearse {
        return Ok(global.printer().done(&format!("this would {what}"))?);
    }
    let request = v1::DeleteTopicRequest { name: name.clone(), force, operator: global.operator(reason) };
    let answer = global.admin().await?.delete_topic(request).await?.into_inner();
    Ok(global
        .printer()
        .done(&format!("deleted topic {name} with {}", counted(answer.messages, "message")))?)
}
