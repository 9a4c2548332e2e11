//! Everything that a broker shows and delivers, as lines that can be compared: what it says of its topics, groups and
//! transactions, and each message as each group gets it. Changes nothing but leases.

use std::collections::BTreeMap;
use std::time::Duration;

use escrow::v1;
use escrow::v1::TransactionFilter as Filter;
use escrow::v1::consumer_service_client::ConsumerServiceClient;
use escrow::{Admin, Client};
use tonic::Status;
use tonic::transport::Channel;

use super::exhibit::GROUPS;

/// An answer that takes longer than this is a hang.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// How often an empty answer is asked again while messages are outstanding: the broker buries what it cannot read.
const LOOKS_MAX: u32 = 50;
/// How long each of these looks waits, milliseconds.
const LOOK_MS: i64 = 20;
/// Only for a page of a list.
const PAGE: u32 = 1_000;

/// What a message says, in one line, without where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The business key: how messages are told apart here.
    pub key: String,
    /// Everything else.
    pub text: String,
}

impl Content {
    /// Of a message.
    pub fn of(message: &v1::Message) -> Self {
        let headers: Vec<_> =
            message.headers.iter().map(|header| format!("{}={}", header.name, header.value)).collect();
        let text = format!(
            "id {} topic {} ordering key {:?} tag {:?} headers {:?} due {} lives {} body {} bytes {:016x}",
            hex(&message.id),
            message.topic,
            message.ordering_key,
            message.tag,
            headers,
            message.deliver_at_ms,
            message.time_to_live_ms,
            message.body.len(),
            hash(&message.body)
        );
        Self { key: message.key.clone(), text }
    }
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Readout {
    /// What was seen, by where it was.
    pub lines: BTreeMap<String, String>,
    /// Every message that was delivered, or shown as a whole.
    pub messages: Vec<(String, Content)>,
    /// What the broker said it cannot read.
    pub reports: Vec<String>,
}

impl Readout {
    /// Reads the broker at `url`.
    ///
    /// # Errors
    /// If it does not answer in time, or the connection is lost.
    pub async fn take(url: &str) -> Result<Self, String> {
        let reading = async {
            let client = Client::connect(url).await.map_err(|error| format!("no connection: {error}"))?;
            let mut reader = Reader {
                admin: client.admin(),
                consumer: ConsumerServiceClient::new(client.channel())
                    .max_decoding_message_size(escrow_protocol::limits::GRPC_MESSAGE_BYTES_MAX),
                out: Self::default(),
            };
            reader.read().await?;
            Ok(reader.out)
        };
        match tokio::time::timeout(ANSWER_LIMIT, reading).await {
            Ok(read) => read,
            Err(_) => Err(format!("not read within {} s", ANSWER_LIMIT.as_secs())),
        }
    }
}

struct Reader {
    admin: Admin,
    consumer: ConsumerServiceClient<Channel>,
    out: Readout,
}

/// A read that was refused is a report; one that got no answer ends everything.
fn reported<T>(
    answer: Result<tonic::Response<T>, Status>,
    what: &str,
    out: &mut Readout,
) -> Result<Option<T>, String> {
    match answer {
        Ok(answer) => Ok(Some(answer.into_inner())),
        Err(status) if matches!(status.code(), tonic::Code::DataLoss) => {
            out.reports.push(format!("{what}: {}", status.message()));
            Ok(None)
        }
        // What is gone is missing from the lines.
        Err(status) if status.code() == tonic::Code::NotFound => Ok(None),
        Err(status) => Err(format!("{what}: {:?} {}", status.code(), status.message())),
    }
}

fn page(cursor: &str) -> Option<v1::Page> {
    Some(v1::Page { limit: PAGE, cursor: cursor.to_owned() })
}

impl Reader {
    async fn read(&mut self) -> Result<(), String> {
        for group in GROUPS {
            self.deliveries(group).await?;
        }
        self.topics().await?;
        self.groups().await?;
        for filter in [Filter::Undecided, Filter::OnlyParked, Filter::Decided] {
            self.transactions(filter).await?;
        }
        self.scheduled().await?;
        for group in GROUPS {
            self.retries(group).await?;
            self.dead_letters(group).await?;
        }
        Ok(())
    }

    fn line(&mut self, place: String, what: String) {
        self.out.lines.insert(place, what);
    }

    /// Everything that this group gets. Nothing is settled: it goes back when the broker stops.
    async fn deliveries(&mut self, group: &str) -> Result<(), String> {
        let mut empty = 0;
        let mut held = 0;
        while empty < LOOKS_MAX {
            let request = v1::ReceiveRequest {
                group: group.into(),
                client_id: "readout".into(),
                max_messages: 1_000,
                max_bytes: 16 << 20,
                wait_ms: if empty == 0 { 0 } else { LOOK_MS },
                ..Default::default()
            };
            let answer = self.consumer.receive(request).await;
            let what = format!("deliveries to {group}");
            let Some(received) = reported(answer, &what, &mut self.out)? else { return Ok(()) };
            if received.deliveries.is_empty() {
                let request = v1::GetGroupRequest { name: group.into() };
                let answer = self.admin.get_group(request).await;
                let Some(seen) = reported(answer, &what, &mut self.out)? else { return Ok(()) };
                if seen.positions.iter().map(|position| position.lag).sum::<u64>() <= held {
                    return Ok(());
                }
                empty += 1;
            } else {
                empty = 1;
            }
            held += received.deliveries.len() as u64;
            for delivery in received.deliveries {
                self.delivery(group, &delivery);
            }
        }
        Ok(())
    }

    fn delivery(&mut self, group: &str, delivery: &v1::Delivery) {
        let message = delivery.message.clone().unwrap_or_default();
        let content = Content::of(&message);
        let place = format!("delivered to {group}: {}@{}", delivery.topic, delivery.offset);
        let line = format!(
            "{} {} attempt {} committed {} transaction {}",
            content.key, content.text, delivery.attempt, delivery.committed_at_ms, delivery.transaction_id
        );
        self.line(place.clone(), line);
        self.out.messages.push((place, content));
    }

    async fn topics(&mut self) -> Result<(), String> {
        let request =
            v1::ListTopicsRequest { page: page(""), prefix: String::new(), dead_letter_topics: true };
        let answer = self.admin.list_topics(request).await;
        let Some(found) = reported(answer, "topics", &mut self.out)? else { return Ok(()) };
        for topic in found.topics {
            self.line(format!("topic {}", topic.name), format!("{topic:?}"));
        }
        Ok(())
    }

    async fn groups(&mut self) -> Result<(), String> {
        let request = v1::ListGroupsRequest { page: page(""), prefix: String::new() };
        let answer = self.admin.list_groups(request).await;
        let Some(found) = reported(answer, "groups", &mut self.out)? else { return Ok(()) };
        for mut group in found.groups {
            // What is of this moment, or of those who look.
            group.positions.iter_mut().for_each(|position| position.lag_ms = 0);
            (group.leased, group.acked, group.nacked, group.expired_leases) = (0, 0, 0, 0);
            group.members.clear();
            self.line(format!("group {}", group.name), format!("{group:?}"));
        }
        Ok(())
    }

    async fn transactions(&mut self, filter: Filter) -> Result<(), String> {
        let mut cursor = String::new();
        loop {
            let request = v1::ListTransactionsRequest {
                page: page(&cursor),
                filter: filter.into(),
                ..Default::default()
            };
            let answer = self.admin.list_transactions(request).await;
            let Some(found) = reported(answer, "transactions", &mut self.out)? else { return Ok(()) };
            for transaction in found.transactions {
                let ids: Vec<_> =
                    transaction.messages.iter().map(|message| message.message_id.clone()).collect();
                self.line(format!("transaction {}", transaction.transaction_id), format!("{transaction:?}"));
                if filter != Filter::Decided {
                    for id in ids {
                        self.message("undecided", id).await?;
                    }
                }
            }
            cursor = found.next_cursor;
            if cursor.is_empty() {
                return Ok(());
            }
        }
    }

    async fn scheduled(&mut self) -> Result<(), String> {
        let mut cursor = String::new();
        loop {
            let answer = self
                .admin
                .list_scheduled(v1::ListScheduledRequest { page: page(&cursor), ..Default::default() })
                .await;
            let Some(found) = reported(answer, "scheduled", &mut self.out)? else { return Ok(()) };
            for scheduled in found.scheduled {
                self.line(format!("scheduled {}", scheduled.key), format!("{scheduled:?}"));
                self.message("scheduled", scheduled.message_id).await?;
            }
            cursor = found.next_cursor;
            if cursor.is_empty() {
                return Ok(());
            }
        }
    }

    /// A message that no group sees yet.
    async fn message(&mut self, what: &str, message_id: bytes::Bytes) -> Result<(), String> {
        let place = format!("{what} message {}", hex(&message_id));
        let answer = self.admin.get_message(v1::GetMessageRequest { message_id }).await;
        let Some(found) = reported(answer, &place, &mut self.out)? else { return Ok(()) };
        let Some(message) = &found.message else {
            self.out.reports.push(format!("{place}: it is missing"));
            return Ok(());
        };
        let content = Content::of(message);
        self.line(place.clone(), format!("{} {} {}", content.key, content.text, found.state));
        self.out.messages.push((place, content));
        Ok(())
    }

    async fn retries(&mut self, group: &str) -> Result<(), String> {
        let request = v1::ListRetriesRequest { page: page(""), group: group.into(), ..Default::default() };
        let answer = self.admin.list_retries(request).await;
        let Some(found) = reported(answer, "retries", &mut self.out)? else { return Ok(()) };
        for retry in found.retries {
            let place = format!("retry of {group}: {}@{}", retry.topic, retry.offset);
            self.line(place, format!("{retry:?}"));
        }
        Ok(())
    }

    async fn dead_letters(&mut self, group: &str) -> Result<(), String> {
        let filter = v1::DeadLetterFilter { group: group.into(), ..Default::default() };
        let request = v1::ListDeadLettersRequest { page: page(""), filter: Some(filter) };
        let answer = self.admin.list_dead_letters(request).await;
        let Some(found) = reported(answer, "dead letters", &mut self.out)? else { return Ok(()) };
        for letter in found.dead_letters {
            let place = format!("dead letter of {group}: @{}", letter.offset);
            if letter.origin.as_ref().is_some_and(|origin| origin.reason == "DAMAGED") {
                self.out.reports.push(format!("{place}: {letter:?}"));
                continue;
            }
            let request = v1::GetDeadLetterRequest { group: group.into(), offset: letter.offset };
            let answer = self.admin.get_dead_letter(request).await;
            let Some(whole) = reported(answer, &place, &mut self.out)? else { continue };
            let Some(message) = &whole.message else {
                self.out.reports.push(format!("{place}: its message is missing"));
                continue;
            };
            let content = Content::of(message);
            let origin = whole.origin.clone().unwrap_or_default();
            let line = format!("{} {} {origin:?} {:?}", content.key, content.text, whole.attempts);
            self.line(place.clone(), line);
            self.out.messages.push((place, content));
        }
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// FNV-1a.
fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}
