//! A throw-away broker in this process, a sample flow through the real client, and what to try next.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use escrow::{Deliveries, Delivery, Message, TransactionId, TransactionState, Verdict, v1};

use super::ports::{is_free, loopback};
use super::site::{Site, StoryError, body, decider, eventually, next};
use crate::broker::Broker;
use crate::cli::{CliError, interrupted, serve};
use crate::config::{Config, DurationText, RetryStrategy};

/// The sample flow is over long before.
const SAMPLE_WITHIN: Duration = Duration::from_secs(30);

/// Attempts before the dead letters.
const ATTEMPTS: u32 = 3;

/// Runs it until Ctrl-C.
pub(super) async fn run(data_dir: Option<PathBuf>) -> Result<(), CliError> {
    let temporary = tempfile::Builder::new().prefix("escrow-dev-").tempdir()?;
    let is_kept = data_dir.is_some();
    let config = config(data_dir.unwrap_or_else(|| temporary.path().join("data")))?;
    let mut broker = serve::start(&config).await?;
    say(&welcome(&broker, &config))?;
    let flow = async { tokio::time::timeout(SAMPLE_WITHIN, sample(&url(&broker))).await };
    let left = match flow.await {
        Ok(Ok(left)) => left,
        Ok(Err(error)) => return Err(CliError::failed(format!("the sample flow failed: {error}"))),
        Err(_elapsed) => return Err(CliError::failed("the sample flow did not end in time")),
    };
    say(&to_try(&broker, &left, is_kept))?;
    tokio::select! {
        error = broker.wait() => return Err(CliError::failed(error.to_string())),
        () = interrupted() => {}
    }
    say("stopping\n")?;
    broker.shutdown().await.map_err(|error| CliError::failed(error.to_string()))
}

fn say(words: &str) -> Result<(), CliError> {
    let mut out = io::stdout();
    out.write_all(words.as_bytes())?;
    Ok(out.flush()?)
}

/// Short delays, so that something is to be seen; topics are made by using them.
fn config(data_dir: PathBuf) -> Result<Config, CliError> {
    let mut config = Config { data_dir, ..Config::default() };
    config.topics.create_on_use = true;
    config.transactions.first_check_after_ms = 1_000;
    config.transactions.check_delays_ms = vec![2_000, 5_000, 10_000];
    config.retry.strategy = RetryStrategy::Fixed;
    config.retry.fixed_delay_ms = 500;
    config.retry.max_attempts = ATTEMPTS;
    for (listen, what) in [(&mut config.grpc.listen, "gRPC"), (&mut config.http.listen, "HTTP")] {
        if !is_free(*listen) {
            say(&format!("port {} is taken, so {what} gets a free one\n", listen.port()))?;
            *listen = loopback(0);
        }
    }
    Ok(config)
}

fn url(broker: &Broker) -> String {
    format!("http://{}", broker.grpc_addr())
}

fn welcome(broker: &Broker, config: &Config) -> String {
    format!(
        "\nEscrow {}: a broker to play with. Its delays are short: first check after {}, {} attempts {} apart.\n\n\
         \x20 gRPC   {}\n\
         \x20 HTTP   http://{}  the console; /api/v1, /metrics\n\
         \x20 data   {}\n\n\
         A sample flow through the client:\n\n",
        env!("CARGO_PKG_VERSION"),
        DurationText(config.transactions.first_check_after_ms),
        config.retry.max_attempts,
        DurationText(config.retry.fixed_delay_ms),
        url(broker),
        broker.http_addr(),
        config.data_dir.display()
    )
}

/// Commands that work as they stand here, with the data the sample flow left.
fn to_try(broker: &Broker, left: &Left, is_kept: bool) -> String {
    let default = format!("http://{}", Config::default().grpc.listen);
    let export = match url(broker) {
        url if url == default => String::new(),
        url => format!("  export ESCROW_URL={url}\n"),
    };
    format!(
        "\nTo try in another terminal (`cargo run --release --` stands for `escrow` in a checkout):\n\n\
         {export}\
         \x20 escrow status\n\
         \x20 escrow dlq ls billing\n\
         \x20 escrow dlq redrive billing {} --yes\n\
         \x20 escrow sub billing --topic order-paid --count 1\n\
         \x20 escrow pub order-paid '{{\"order\": 5}}' --key o-5 --half\n\
         \x20 escrow tx ls\n\
         \x20 escrow tx commit {} --reason 'paid in cash' --yes\n\
         \x20 escrow msg find --key o-5\n\n\
         Ctrl-C ends it{}.\n",
        left.dead_offset,
        TransactionId::new(left.last.shard(), left.last.number() + 1),
        if is_kept { "; what it stored is kept" } else { " and removes what it stored" }
    )
}

/// What the sample flow left behind, to go on with.
struct Left {
    /// The last transaction; nobody else makes any.
    last: TransactionId,
    /// The dead letter of billing.
    dead_offset: u64,
}

/// One half message committed, one rolled back, one settled by check-back, one retried to its dead letter.
async fn sample(url: &str) -> Result<Left, StoryError> {
    let site = Site::connect(url).await?;
    let order = |number: u32| {
        Message::new("order-paid").key(format!("o-{number}")).text(format!("{{\"order\": {number}}}"))
    };
    let mut billing = site.subscribe("billing", &["order-paid"]).await?;
    let shop = site.producer("shop", Verdict::Commit).await?;

    let (half, key) = (shop.send_half(order(1)).await?, "o-1");
    step(1, &format!("half message o-1 is in escrow as {}: stored, invisible", half.transaction_id()))?;
    let decided = half.commit().await?;
    let delivery = delivery_of(&mut billing, key).await?;
    let seen = format!("{} at offset {}", body(&delivery), delivery.offset());
    delivery.ack().await?;
    more(&format!("{} by the producer; billing got {seen} and acked it", decided.state.as_str_name()))?;

    let half = shop.send_half(order(2)).await?;
    step(2, &format!("half message o-2 is in escrow as {}", half.transaction_id()))?;
    let decided = half.rollback().await?;
    more(&format!("{} by the producer; nobody ever sees it", decided.state.as_str_name()))?;

    let (half, key) = (shop.send_half(order(3)).await?, "o-3");
    let id = half.transaction_id();
    step(3, &format!("half message o-3 is in escrow as {id}; the producer says nothing more"))?;
    drop(half);
    let delivery = delivery_of(&mut billing, key).await?;
    let seen = body(&delivery);
    delivery.ack().await?;
    let transaction = site.transaction_in(id, TransactionState::Committed).await?;
    let who = decider(&transaction);
    more(&format!("the broker asked the producer's checker: COMMITTED by {who}; billing got {seen}"))?;

    shop.publish(order(4)).await?;
    step(4, "o-4 is published; billing cannot process it")?;
    let dead_offset = dead_letter(&site, &mut billing).await?;
    Ok(Left { last: id, dead_offset })
}

/// The next delivery of this message. What an earlier run left in a directory that was kept is acked.
async fn delivery_of(billing: &mut Deliveries, key: &str) -> Result<Delivery, StoryError> {
    loop {
        let delivery = next(billing).await?;
        if delivery.key() == key {
            return Ok(delivery);
        }
        delivery.ack().await?;
    }
}

async fn dead_letter(site: &Site, billing: &mut Deliveries) -> Result<u64, StoryError> {
    let (group, key) = ("billing".to_owned(), "o-4".to_owned());
    let filter = v1::DeadLetterFilter { group, key, ..Default::default() };
    let (mut attempts, mut offset) = (Vec::new(), 0);
    for _ in 0..ATTEMPTS {
        let delivery = delivery_of(billing, "o-4").await?;
        attempts.push(delivery.attempt().to_string());
        offset = delivery.offset();
        delivery.nack().reason("the account is closed").await?;
    }
    let dead = eventually("o-4 did not become a dead letter", async || {
        let request = v1::ListDeadLettersRequest { page: None, filter: Some(filter.clone()) };
        let dead = site.admin().list_dead_letters(request).await?.into_inner().dead_letters;
        let is_mine =
            |dead: &v1::DeadLetter| dead.origin.as_ref().is_some_and(|origin| origin.offset == offset);
        Ok(dead.into_iter().find(is_mine))
    })
    .await?;
    let origin = dead.origin.unwrap_or_default();
    more(&format!(
        "attempts {} failed; it is now dead letter {} of billing: {}, \"{}\"",
        attempts.join(", "),
        dead.offset,
        origin.reason,
        origin.error
    ))?;
    Ok(dead.offset)
}

fn step(number: u32, words: &str) -> Result<(), StoryError> {
    Ok(writeln!(io::stdout(), "  {number}. {words}")?)
}

fn more(words: &str) -> Result<(), StoryError> {
    Ok(writeln!(io::stdout(), "     {words}")?)
}
