//! `escrow sub`: read messages as a group, one line for each, from a shell.

use std::time::{Duration, UNIX_EPOCH};

use escrow::{Deliveries, Delivery, Start};
use escrow_protocol::v1;

use super::peek::peek;
use super::subscription::{StartAt, TopicAndTags};
use crate::cli::clock::duration;
use crate::cli::context::Global;
use crate::cli::error::CliError;
use crate::cli::output::Printer;
use crate::cli::signals::interrupted;
use crate::cli::view::DeliveryView;

/// Messages on their way ahead of what is printed, at most. What is prefetched is kept from other consumers.
const PREFETCH_MAX: u64 = 256;

/// What `escrow sub` takes.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct SubArgs {
    /// The group. Made if it does not exist.
    pub(super) group: String,
    /// A topic to listen to, if need be with the tags that count. May be repeated. Default: those of the group.
    #[arg(long, short, value_name = "TOPIC[=TAG,TAG]")]
    topic: Vec<TopicAndTags>,
    /// Only messages with this tag, in all topics given. May be repeated.
    #[arg(long, requires = "topic")]
    tag: Vec<String>,
    /// Where a new group starts: oldest, newest, a time, or a duration ago.
    #[arg(long, default_value = "oldest", value_name = "WHERE", conflicts_with = "no_ack")]
    from: StartAt,
    /// Stop after so many messages.
    #[arg(long, short = 'n', value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) count: Option<u64>,
    /// Stop when nothing came for so long. With --count: fewer messages are then a failure, status 1.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(super) timeout: Option<Duration>,
    #[command(flatten)]
    verb: SettleArgs,
    /// When it comes again, with --nack. Default: as the group's retry policy says.
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "nack")]
    after: Option<Duration>,
    /// Kept with the message, with --nack or --reject.
    #[arg(long, default_value = "by hand, with escrow sub")]
    reason: String,
}

/// What to do with each message. One at most.
#[derive(Debug, Clone, clap::Args)]
#[group(multiple = false)]
struct SettleArgs {
    /// Done: never delivered to this group again. The default.
    #[arg(long)]
    ack: bool,
    /// Failed: it comes again.
    #[arg(long)]
    nack: bool,
    /// Cannot succeed: to the dead letters of the group.
    #[arg(long)]
    reject: bool,
    /// Only look at what is ready: it all goes back in the end, and no attempt is counted. Stops when nothing came for
    /// 1s, unless --timeout says otherwise.
    #[arg(long)]
    no_ack: bool,
}

impl SubArgs {
    /// What the group listens to.
    pub(super) fn subscriptions(&self) -> Vec<v1::Subscription> {
        let with_tags = |wanted: &TopicAndTags| {
            let tags = wanted.tags.iter().chain(&self.tag).cloned().collect();
            v1::Subscription { topic: wanted.topic.clone(), tags }
        };
        self.topic.iter().map(with_tags).collect()
    }
}

/// Does it.
pub(crate) async fn run(args: SubArgs, global: &Global) -> Result<(), CliError> {
    let seen = if args.verb.no_ack { peek(&args, global).await? } else { consume(&args, global).await? };
    finish(&args, seen)
}

/// Prints and settles. How many there were.
async fn consume(args: &SubArgs, global: &Global) -> Result<u64, CliError> {
    let client = global.client().await?;
    let prefetch = args.count.unwrap_or(PREFETCH_MAX).min(PREFETCH_MAX) as u32;
    let mut builder = client.subscribe(&args.group).start(start(args.from)).prefetch(prefetch);
    for subscription in args.subscriptions() {
        builder = builder.topic_with_tags(subscription.topic, subscription.tags);
    }
    let mut deliveries = builder.open().await?;
    let mut held = Vec::new();
    let outcome = read(args, &mut deliveries, &mut held, &mut global.printer()).await;
    deliveries.close().await;
    for delivery in held {
        settle(args, delivery).await?;
    }
    outcome
}

fn start(from: StartAt) -> Start {
    match from {
        StartAt::Oldest => Start::Oldest,
        StartAt::Newest => Start::Newest,
        StartAt::Time(ms) => Start::At(UNIX_EPOCH + Duration::from_millis(u64::try_from(ms).unwrap_or(0))),
    }
}

/// Prints and settles until there is enough, nothing comes any more, or somebody interrupts. How many there were.
async fn read(
    args: &SubArgs,
    deliveries: &mut Deliveries,
    held: &mut Vec<Delivery>,
    printer: &mut Printer,
) -> Result<u64, CliError> {
    let mut seen = 0;
    let mut stop = std::pin::pin!(interrupted());
    while args.count.is_none_or(|count| seen < count) {
        let delivery = tokio::select! {
            biased;
            () = &mut stop => return Ok(seen),
            next = next_within(deliveries, args.timeout) => match next? {
                Some(delivery) => delivery,
                None => return Ok(seen),
            },
        };
        // Printed before it is settled: what nobody saw comes again.
        printer.line(&DeliveryView::from(&*delivery))?;
        seen += 1;
        // Settling makes room for more, and what comes behind the last one wanted would be taken for nothing: its lease
        // ends with the session, and counts as an attempt. So a count that fits is settled when nothing more can come.
        if args.count.is_some_and(|count| count <= PREFETCH_MAX) {
            held.push(delivery);
        } else {
            settle(args, delivery).await?;
        }
    }
    Ok(seen)
}

/// `None` at the end, or when nothing came for so long. Cancel safe: nothing is taken.
async fn next_within(
    deliveries: &mut Deliveries,
    timeout: Option<Duration>,
) -> Result<Option<Delivery>, CliError> {
    let next = match timeout {
        None => deliveries.next().await,
        Some(time) => match tokio::time::timeout(time, deliveries.next()).await {
            Ok(next) => next,
            Err(_elapsed) => return Ok(None),
        },
    };
    Ok(next.transpose()?)
}

async fn settle(args: &SubArgs, delivery: Delivery) -> Result<(), CliError> {
    let verb = &args.verb;
    if verb.reject {
        delivery.reject(&args.reason).await?;
    } else if verb.nack {
        let nack = delivery.nack().reason(&args.reason);
        match args.after {
            Some(delay) => nack.after(delay).await?,
            None => nack.await?,
        }
    } else {
        delivery.ack().await?;
    }
    Ok(())
}

fn finish(args: &SubArgs, seen: u64) -> Result<(), CliError> {
    match (args.count, args.timeout) {
        (Some(count), Some(time)) if seen < count => Err(CliError::failed(format!(
            "{seen} of {count} messages came, then none for {}",
            crate::config::DurationText(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
        ))),
        _ => Ok(()),
    }
}
