//! `escrow group`: make, see, change, move, pause and delete groups.

use std::time::Duration;

use escrow_protocol::v1;

use super::subscription::{StartAt, TopicAndTags};
use crate::cli::clock::{duration, past_ms};
use crate::cli::confirm::{Caution, Resolve};
use crate::cli::context::Global;
use crate::cli::error::CliError;
use crate::cli::output::{Count, counted};
use crate::cli::paging::Paging;
use crate::cli::view::{GroupView, SeekView};
use crate::retry_spec::retry_delays;

/// What can be done with groups.
#[derive(Debug, Clone, clap::Subcommand)]
pub(crate) enum GroupVerb {
    /// Make a group.
    #[command(after_help = "Examples:
  escrow group create billing --topic order-paid
  escrow group create mail --topic order-paid=eu,us --lease 2m --retry fixed:30s --max-attempts 5 --from newest")]
    Create {
        /// Its name.
        name: String,
        /// A topic it listens to, if need be with the tags that count. May be repeated.
        #[arg(long, short, value_name = "TOPIC[=TAG,TAG]")]
        topic: Vec<TopicAndTags>,
        #[command(flatten)]
        changes: Changes,
        /// Where it starts: oldest, newest, a time, or a duration ago.
        #[arg(long, default_value = "oldest", value_name = "WHERE")]
        from: StartAt,
    },
    /// List groups.
    #[command(after_help = "Examples:
  escrow group ls
  escrow group ls --prefix mail -o jsonl | jq .lag")]
    Ls {
        /// Only names that begin so.
        #[arg(long, default_value = "", hide_default_value = true)]
        prefix: String,
        #[command(flatten)]
        paging: Paging,
    },
    /// Show a group, with its place in each topic.
    #[command(after_help = "Examples:
  escrow group show billing
  escrow group show billing -o json | jq '.positions[].lag'")]
    Show {
        /// Its name.
        name: String,
    },
    /// Change a group's settings and subscriptions. What is not given stays. Asks before a subscription ends.
    #[command(after_help = "Examples:
  escrow group update billing --lease 5m --max-attempts 8 --reason 'the bank is slow today'
  escrow group update billing --subscribe order-refunded --unsubscribe order-paid --yes")]
    Update {
        /// Its name.
        name: String,
        #[command(flatten)]
        changes: Changes,
        /// A topic to listen to from now on, or with other tags. May be repeated.
        #[arg(long, value_name = "TOPIC[=TAG,TAG]")]
        subscribe: Vec<TopicAndTags>,
        /// A topic not to listen to any more. May be repeated.
        #[arg(long, value_name = "TOPIC")]
        unsubscribe: Vec<String>,
        /// Where it starts in added topics: oldest, newest, a time, or a duration ago.
        #[arg(long, default_value = "oldest", value_name = "WHERE")]
        from: StartAt,
        #[command(flatten)]
        caution: Caution,
    },
    /// Delete a group. Refused while it has members or dead letters, unless forced.
    #[command(after_help = "Examples:
  escrow group delete billing --reason 'replaced by invoicing'
  escrow group delete billing --force --dry-run")]
    Delete {
        /// Its name.
        name: String,
        /// Although it has members or dead letters.
        #[arg(long)]
        force: bool,
        /// Why, for the records.
        #[arg(long, required_unless_present = "dry_run")]
        reason: Option<String>,
        #[command(flatten)]
        caution: Caution,
    },
    /// Move a group in a topic: replay what it has finished, or skip what it has not.
    #[command(after_help = "Examples:
  escrow group seek billing --topic order-paid --oldest --dry-run
  escrow group seek billing --topic order-paid --time 2h --yes")]
    Seek {
        /// The group.
        name: String,
        /// The topic.
        #[arg(long, short)]
        topic: String,
        #[command(flatten)]
        to: SeekTo,
        /// Why, for the records.
        #[arg(long)]
        reason: Option<String>,
        #[command(flatten)]
        caution: Caution,
    },
    /// Deliver nothing to a group until it is resumed.
    #[command(after_help = "Examples:
  escrow group pause billing
  escrow group pause billing --reason 'bank is down'")]
    Pause {
        /// Its name.
        name: String,
        /// Why, for the records.
        #[arg(long)]
        reason: Option<String>,
    },
    /// Deliver to a paused group again.
    #[command(after_help = "Examples:
  escrow group resume billing
  escrow group resume billing --reason 'bank is back'")]
    Resume {
        /// Its name.
        name: String,
        /// Why, for the records.
        #[arg(long)]
        reason: Option<String>,
    },
}

/// Where to move a group.
#[derive(Debug, Clone, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct SeekTo {
    /// To the oldest message kept.
    #[arg(long)]
    oldest: bool,
    /// Behind the newest message.
    #[arg(long)]
    newest: bool,
    /// To this offset.
    #[arg(long)]
    offset: Option<u64>,
    /// To the first message committed at this time or later; a duration means that long ago.
    #[arg(long, value_parser = past_ms)]
    time: Option<i64>,
}

impl SeekTo {
    fn to_wire(&self) -> v1::seek_group_request::To {
        use v1::seek_group_request::To;
        match (self.oldest, self.offset, self.time) {
            (true, _, _) => To::Oldest(true),
            (_, Some(offset), _) => To::Offset(offset),
            (_, _, Some(time)) => To::TimeMs(time),
            // One of the four is given: clap sees to it.
            _ => To::Newest(true),
        }
    }
}

/// Settings of a group; what is not given stays, or is the broker's default.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Changes {
    /// How long a delivery may take, 1s to 12h.
    #[arg(long, value_parser = duration)]
    lease: Option<Duration>,
    /// What happens to the messages of an ordering key while an earlier one is retrying.
    #[arg(long, value_enum)]
    ordering: Option<Ordering>,
    /// The delays between attempts: ladder:10s,1m,5m or exponential:1s,2,10m (first, factor, longest) or fixed:30s.
    #[arg(long, value_name = "POLICY", value_parser = retry_delays)]
    retry: Option<v1::retry_policy::Delays>,
    /// Attempts in all, before the dead letters.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    max_attempts: Option<u32>,
    /// So many retries come at once, before the delays begin.
    #[arg(long)]
    immediate_attempts: Option<u32>,
    /// Lengthen each delay by up to this many percent.
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=50))]
    jitter_percent: Option<u32>,
    /// Why, for the records.
    #[arg(long)]
    reason: Option<String>,
}

/// What a failure means for its ordering key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Ordering {
    /// They wait.
    Block,
    /// They are delivered.
    Skip,
    /// They go to the dead letters.
    DeadLetter,
}

impl Changes {
    fn is_empty(&self) -> bool {
        let Self { lease, ordering, retry, max_attempts, immediate_attempts, jitter_percent, reason: _ } =
            self;
        lease.is_none()
            && ordering.is_none()
            && retry.is_none()
            && max_attempts.is_none()
            && immediate_attempts.is_none()
            && jitter_percent.is_none()
    }

    /// The settings, where `before` stands for what is not given; `None` if nothing is.
    fn settings(self, before: v1::GroupSettings) -> Option<v1::GroupSettings> {
        if self.is_empty() {
            return None;
        }
        let retry = before.retry.clone().unwrap_or_default();
        let ordering = self.ordering.map(|ordering| match ordering {
            Ordering::Block => v1::OrderingPolicy::Block,
            Ordering::Skip => v1::OrderingPolicy::Skip,
            Ordering::DeadLetter => v1::OrderingPolicy::DeadLetter,
        });
        let lease = self.lease.map(|lease| i64::try_from(lease.as_millis()).unwrap_or(i64::MAX));
        Some(v1::GroupSettings {
            lease_ms: lease.unwrap_or(before.lease_ms),
            ordering: ordering.map_or(before.ordering, Into::into),
            retry: Some(v1::RetryPolicy {
                delays: self.retry.or(retry.delays),
                immediate_attempts: self.immediate_attempts.unwrap_or(retry.immediate_attempts),
                jitter_percent: self.jitter_percent.unwrap_or(retry.jitter_percent),
                max_attempts: self.max_attempts.unwrap_or(retry.max_attempts),
            }),
        })
    }
}

/// Does it.
pub(crate) async fn run(verb: GroupVerb, global: &Global) -> Result<(), CliError> {
    match verb {
        GroupVerb::Create { name, topic, changes, from } => create(name, topic, changes, from, global).await,
        GroupVerb::Ls { prefix, paging } => ls(prefix, paging, global).await,
        GroupVerb::Show { name } => show(get(name, global).await?, global),
        GroupVerb::Update { name, changes, subscribe, unsubscribe, from, caution } => {
            update(name, changes, (subscribe, from), unsubscribe, caution, global).await
        }
        GroupVerb::Delete { name, force, reason, caution } => {
            delete(name, force, reason.as_deref(), caution, global).await
        }
        GroupVerb::Seek { name, topic, to, reason, caution } => {
            seek(name, topic, &to, reason.as_deref(), caution, global).await
        }
        GroupVerb::Pause { name, reason } => {
            let request = v1::PauseGroupRequest { name, operator: global.operator(reason.as_deref()) };
            show(global.admin().await?.pause_group(request).await?.into_inner(), global)
        }
        GroupVerb::Resume { name, reason } => {
            let request = v1::ResumeGroupRequest { name, operator: global.operator(reason.as_deref()) };
            show(global.admin().await?.resume_group(request).await?.into_inner(), global)
        }
    }
}

async fn get(name: String, global: &Global) -> Result<v1::Group, CliError> {
    Ok(global.admin().await?.get_group(v1::GetGroupRequest { name }).await?.into_inner())
}

fn show(group: v1::Group, global: &Global) -> Result<(), CliError> {
    Ok(global.printer().one(&GroupView::from(group))?)
}

async fn create(
    name: String,
    topics: Vec<TopicAndTags>,
    changes: Changes,
    from: StartAt,
    global: &Global,
) -> Result<(), CliError> {
    let (start, start_time_ms) = from.to_wire();
    let operator = global.operator(changes.reason.as_deref());
    let request = v1::CreateGroupRequest {
        name,
        subscriptions: topics.into_iter().map(Into::into).collect(),
        settings: changes.settings(v1::GroupSettings::default()),
        start,
        start_time_ms,
        operator,
    };
    show(global.admin().await?.create_group(request).await?.into_inner(), global)
}

async fn ls(prefix: String, paging: Paging, global: &Global) -> Result<(), CliError> {
    let mut admin = global.admin().await?;
    let empty = "there are no groups; a consumer makes its own, or `escrow group create NAME`";
    let fetch = async |page| {
        let request = v1::ListGroupsRequest { page: Some(page), prefix: prefix.clone() };
        let answer = admin.list_groups(request).await?.into_inner();
        Ok((answer.groups.into_iter().map(GroupView::from).collect(), answer.next_cursor))
    };
    paging.print(&mut global.printer(), empty, fetch).await
}

async fn update(
    name: String,
    changes: Changes,
    (subscribe, from): (Vec<TopicAndTags>, StartAt),
    unsubscribe: Vec<String>,
    caution: Caution,
    global: &Global,
) -> Result<(), CliError> {
    let before = get(name.clone(), global).await?;
    let what = match unsubscribe.is_empty() {
        true => format!("change group {name}"),
        false => format!(
            "end the subscription of group {name} to {}: its place there and what is retrying from there are forgotten",
            unsubscribe.join(", ")
        ),
    };
    // Only what cannot be undone is asked about.
    let caution = Caution { yes: caution.yes || unsubscribe.is_empty(), ..caution };
    if caution.resolve(&what)? == Resolve::Rehearse {
        return Ok(global.printer().done(&format!("this would {what}"))?);
    }
    let (start, start_time_ms) = from.to_wire();
    let operator = global.operator(changes.reason.as_deref());
    let request = v1::UpdateGroupRequest {
        name,
        settings: changes.settings(before.settings.unwrap_or_default()),
        subscriptions: subscribe.into_iter().map(Into::into).collect(),
        unsubscribe,
        start,
        start_time_ms,
        operator,
    };
    show(global.admin().await?.update_group(request).await?.into_inner(), global)
}

async fn delete(
    name: String,
    force: bool,
    reason: Option<&str>,
    caution: Caution,
    global: &Global,
) -> Result<(), CliError> {
    let group = GroupView::from(get(name.clone(), global).await?);
    let what = format!(
        "delete group {name} with {}, {} and {} connected",
        counted(group.retrying.0, "retrying message"),
        counted(group.dead_letters.0, "dead letter"),
        counted(group.consumers.0, "consumer")
    );
    if caution.resolve(&what)? == Resolve::Rehearse {
        return Ok(global.printer().done(&format!("this would {what}"))?);
    }
    let request = v1::DeleteGroupRequest { name: name.clone(), force, operator: global.operator(reason) };
    let answer = global.admin().await?.delete_group(request).await?.into_inner();
    Ok(global.printer().done(&format!(
        "deleted group {name} with {} and {}",
        counted(answer.retries, "retrying message"),
        counted(answer.dead_letters, "dead letter")
    ))?)
}

async fn seek(
    group: String,
    topic: String,
    to: &SeekTo,
    reason: Option<&str>,
    caution: Caution,
    global: &Global,
) -> Result<(), CliError> {
    let mut admin = global.admin().await?;
    let request = |dry_run| v1::SeekGroupRequest {
        group: group.clone(),
        topic: topic.clone(),
        to: Some(to.to_wire()),
        dry_run,
        operator: global.operator(reason),
    };
    let preview = admin.seek_group(request(true)).await?.into_inner();
    let what = format!(
        "move group {group} in topic {topic} from offset {} to {}: {} to be delivered again, {} to be skipped",
        preview.from_offset,
        preview.to_offset,
        counted(preview.replayed, "message"),
        preview.skipped
    );
    let answer = match caution.resolve(&what)? {
        Resolve::Rehearse => preview,
        Resolve::Act => admin.seek_group(request(false)).await?.into_inner(),
    };
    Ok(global.printer().one(&SeekView {
        group: group.clone(),
        topic: topic.clone(),
        from_offset: answer.from_offset,
        to_offset: answer.to_offset,
        replayed: Count(answer.replayed),
        skipped: Count(answer.skipped),
        dry_run: answer.dry_run,
    })?)
}
