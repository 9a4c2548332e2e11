//! `escrow pub`: publish messages, or put them in escrow, from a shell.

use std::io::{self, BufRead, IsTerminal, Read};
use std::time::Duration;

use escrow::{Client, Message, TransactionState};
use escrow_protocol::limits::GRPC_MESSAGE_BYTES_MAX;
use escrow_protocol::v1::producer_service_client::ProducerServiceClient;
use escrow_protocol::{MessageId, v1};
use futures::{StreamExt, TryStreamExt};
use tonic::transport::Channel;

use crate::cli::clock::{duration, now_ms, time_ms};
use crate::cli::context::Global;
use crate::cli::error::CliError;
use crate::cli::progress::Progress;
use crate::cli::view::PublishedView;

/// Publishes under way at once.
const UNDER_WAY_MAX: usize = 1024;

/// What `escrow pub` takes.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct PubArgs {
    /// The topic.
    topic: String,
    /// The body; `-`: read from stdin, as is what is piped in.
    body: Option<String>,
    /// Each line of stdin is a message.
    #[arg(long, conflicts_with = "count")]
    lines: bool,
    /// Business key, to find the message by.
    #[arg(long, short, default_value = "", hide_default_value = true)]
    key: String,
    /// What subscriptions filter by.
    #[arg(long, default_value = "", hide_default_value = true)]
    tag: String,
    /// Messages with the same ordering key are delivered one after another.
    #[arg(long, default_value = "", hide_default_value = true)]
    ordering_key: String,
    /// A header. May be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = header)]
    header: Vec<v1::Header>,
    /// Not delivered before this time (RFC 3339).
    #[arg(long, value_name = "TIME", value_parser = time_ms, conflicts_with = "delay")]
    deliver_at: Option<i64>,
    /// Not delivered before this much time has passed.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    delay: Option<Duration>,
    /// Not delivered later than this after it became visible; then it is a dead letter.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    time_to_live: Option<Duration>,
    /// So many times, each a message of its own.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// Put them in escrow: one transaction, invisible until decided.
    #[arg(long)]
    half: bool,
    /// … and commit it at once.
    #[arg(long, requires = "half", conflicts_with = "rollback")]
    commit: bool,
    /// … and roll it back at once.
    #[arg(long, requires = "half")]
    rollback: bool,
    /// The producer group.
    #[arg(long, default_value = "escrow-cli")]
    group: String,
    /// Who can answer for the transaction. Default: the producer group.
    #[arg(long, requires = "half", default_value = "", hide_default_value = true)]
    kind: String,
    /// The same key again returns the same transaction.
    #[arg(long, requires = "half", default_value = "", hide_default_value = true)]
    transaction_key: String,
}

/// Reads a header, for clap.
fn header(text: &str) -> Result<v1::Header, String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => {
            Ok(v1::Header { name: name.to_owned(), value: value.to_owned() })
        }
        _ => Err(format!("{text:?} is not a header; write name=value")),
    }
}

/// Does it.
pub(crate) async fn run(args: PubArgs, global: &Global) -> Result<(), CliError> {
    let bodies = bodies(&args)?;
    let client = global.client().await?;
    if args.half {
        send_half(&args, bodies, &client, global).await
    } else {
        publish(&args, bodies, &client, global).await
    }
}

/// What is to be sent: a body for each message.
fn bodies(args: &PubArgs) -> Result<Vec<Vec<u8>>, CliError> {
    let from_stdin = || !io::stdin().is_terminal();
    let body = match args.body.as_deref() {
        Some(text) if text != "-" && args.lines => {
            return Err(CliError::usage(format!("--lines reads stdin, but a body was given: {text:?}")));
        }
        _ if args.lines => {
            let lines = io::stdin().lock().split(b'\n').collect::<Result<Vec<_>, _>>()?;
            return Ok(lines);
        }
        Some("-") => whole_stdin()?,
        Some(text) => text.as_bytes().to_vec(),
        None if from_stdin() => whole_stdin()?,
        None => return Err(CliError::usage("there is no body; give it as an argument, or pipe it in")),
    };
    let count = usize::try_from(args.count).map_err(|_| CliError::usage("--count is too large"))?;
    Ok(vec![body; count])
}

fn whole_stdin() -> Result<Vec<u8>, CliError> {
    let mut body = Vec::new();
    io::stdin().lock().read_to_end(&mut body)?;
    Ok(body)
}

/// When it is delivered, Unix milliseconds; 0: at once.
fn deliver_at_ms(args: &PubArgs) -> i64 {
    let delay_ms = |delay: Duration| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
    match (args.deliver_at, args.delay) {
        (Some(at), _) => at,
        (None, Some(delay)) => now_ms().saturating_add_unsigned(delay_ms(delay)),
        (None, None) => 0,
    }
}

fn message(args: &PubArgs, deliver_at_ms: i64, body: Vec<u8>) -> Message {
    let mut message =
        Message::new(&args.topic).key(&args.key).tag(&args.tag).ordering_key(&args.ordering_key);
    for header in &args.header {
        message = message.header(&header.name, &header.value);
    }
    if let Ok(ms @ 1..) = u64::try_from(deliver_at_ms) {
        message = message.deliver_at(std::time::UNIX_EPOCH + Duration::from_millis(ms));
    }
    if let Some(time) = args.time_to_live {
        message = message.time_to_live(time);
    }
    message.bytes(body)
}

async fn publish(
    args: &PubArgs,
    bodies: Vec<Vec<u8>>,
    client: &Client,
    global: &Global,
) -> Result<(), CliError> {
    let producer = client.producer(&args.group).build().await?;
    let count = bodies.len();
    let deliver_at_ms = deliver_at_ms(args);
    let progress = Progress::beside_lines(count as u64, "messages");
    let mut printer = global.printer();
    let mut published = futures::stream::iter(bodies)
        .map(|body| producer.publish(message(args, deliver_at_ms, body)))
        .buffered(UNDER_WAY_MAX);
    while let Some(published) = published.try_next().await? {
        let view = PublishedView {
            message_id: published.message_id.to_string(),
            topic: args.topic.clone(),
            offset: published.offset,
            duplicate: published.duplicate,
            transaction_id: None,
            state: None,
        };
        if count == 1 {
            printer.one(&view)?;
        } else {
            printer.line(&view)?;
        }
        progress.advance(1);
    }
    progress.finish();
    drop(published);
    producer.close().await;
    Ok(())
}

/// Unary, for nobody stays to answer a check: a transaction that is not decided here waits for a checker of its kind, or
/// for `escrow tx commit`.
async fn send_half(
    args: &PubArgs,
    bodies: Vec<Vec<u8>>,
    client: &Client,
    global: &Global,
) -> Result<(), CliError> {
    let mut producers = ProducerServiceClient::new(client.channel())
        .max_encoding_message_size(GRPC_MESSAGE_BYTES_MAX)
        .max_decoding_message_size(GRPC_MESSAGE_BYTES_MAX);
    let deliver_at_ms = deliver_at_ms(args);
    let request = v1::SendHalfRequest {
        messages: bodies.into_iter().map(|body| wire_message(args, deliver_at_ms, body)).collect(),
        kind: args.kind.clone(),
        transaction_key: args.transaction_key.clone(),
        check_policy: None,
        group: args.group.clone(),
        client_id: client.client_id().to_owned(),
    };
    let half = producers.send_half(request).await?.into_inner();
    let state = decide(args, half.transaction_id, half.state(), client, &mut producers).await?;
    let views: Vec<_> = half
        .message_ids
        .iter()
        .filter_map(|id| MessageId::from_slice(id).ok())
        .map(|id| PublishedView {
            message_id: id.to_string(),
            topic: args.topic.clone(),
            offset: None,
            duplicate: half.duplicate,
            transaction_id: Some(escrow::TransactionId::from_u64(half.transaction_id).to_string()),
            state: Some(state.as_str_name().to_owned()),
        })
        .collect();
    let mut printer = global.printer();
    match views.as_slice() {
        [view] => Ok(printer.one(view)?),
        views => Ok(printer.list(views, "")?),
    }
}

async fn decide(
    args: &PubArgs,
    transaction_id: u64,
    state: TransactionState,
    client: &Client,
    producers: &mut ProducerServiceClient<Channel>,
) -> Result<TransactionState, CliError> {
    let decision = match (args.commit, args.rollback) {
        (true, _) => v1::Decision::Commit,
        (_, true) => v1::Decision::Rollback,
        (false, false) => return Ok(state),
    };
    let request = v1::DecideRequest {
        transaction_id,
        decision: decision.into(),
        group: args.group.clone(),
        client_id: client.client_id().to_owned(),
    };
    Ok(producers.decide(request).await?.into_inner().state())
}

fn wire_message(args: &PubArgs, deliver_at_ms: i64, body: Vec<u8>) -> v1::Message {
    v1::Message {
        // The broker makes the id: nothing is sent again here.
        id: Default::default(),
        topic: args.topic.clone(),
        key: args.key.clone(),
        ordering_key: args.ordering_key.clone(),
        tag: args.tag.clone(),
        headers: args.header.clone(),
        body: body.into(),
        deliver_at_ms,
        time_to_live_ms: args
            .time_to_live
            .map_or(0, |time| i64::try_from(time.as_millis()).unwrap_or(i64::MAX)),
    }
}
