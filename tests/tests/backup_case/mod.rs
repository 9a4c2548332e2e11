//! A topic that is written to while a backup is taken, with what was answered when; and ways to spoil a backup.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use escrow::v1::consumer_service_client::ConsumerServiceClient;
use escrow::{CheckPolicy, CheckRequest, Checker, Client, Message, Verdict, v1};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// Writers at once.
const WRITERS: u64 = 4;

/// What is to become of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Visible,
    RolledBack,
    Undecided,
}

/// Messages by key, with their fate and their body.
pub(crate) type Entries = BTreeMap<String, (Fate, Vec<u8>)>;

#[derive(Default)]
struct Book {
    invoked: Mutex<Entries>,
    answered: Mutex<Entries>,
    count: AtomicU64,
    changed: Notify,
    stop: AtomicBool,
}

/// See the module. One for each backup, so that none grows without end.
pub(crate) struct Ledger {
    client: Client,
    topic: String,
    group: String,
    book: Arc<Book>,
}

/// Writers at work.
pub(crate) struct Writing {
    book: Arc<Book>,
    writers: JoinSet<()>,
}

impl Writing {
    pub(crate) async fn stop(mut self) {
        self.book.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = self.writers.join_next().await {
            ended.expect("a writer does not panic");
        }
    }
}

impl Ledger {
    /// A topic of its own, with a group that finishes nothing.
    pub(crate) async fn open(url: &str, trial: u64) -> Self {
        let client = Client::connect(url).await.expect("the broker is up");
        let (topic, group) = (format!("ledger-{trial}"), format!("watch-{trial}"));
        client.admin().ensure_topic(&topic).await.expect("the topic is made");
        let request = v1::CreateGroupRequest {
            name: group.clone(),
            subscriptions: vec![v1::Subscription { topic: topic.clone(), tags: Vec::new() }],
            operator: Some(v1::Operator { name: "judge".to_owned(), reason: String::new() }),
            ..Default::default()
        };
        client.admin().create_group(request).await.expect("the group is made");
        Self { client, topic, group, book: Arc::default() }
    }

    pub(crate) fn write(&self, seed: u64) -> Writing {
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let (client, topic, book) = (self.client.clone(), self.topic.clone(), self.book.clone());
            let rng = fastrand::Rng::with_seed(seed ^ writer);
            writers.spawn(write(client, topic, book, writer, rng));
        }
        Writing { book: self.book.clone(), writers }
    }

    /// Waits until `more` messages were answered.
    pub(crate) async fn progress(&self, more: u64) {
        loop {
            let changed = self.book.changed.notified();
            if self.book.count.load(Ordering::SeqCst) >= more {
                return;
            }
            changed.await;
        }
    }

    /// What was answered so far.
    pub(crate) fn answered(&self) -> Entries {
        self.book.answered.lock().expect("nobody panics holding it").clone()
    }

    /// What was tried so far.
    pub(crate) fn invoked(&self) -> Entries {
        self.book.invoked.lock().expect("nobody panics holding it").clone()
    }

    /// Reads the restored broker: everything in `before` is there, nothing beyond `after`, nothing against its fate.
    pub(crate) async fn judge(&self, url: &str, before: &Entries, after: &Entries) -> Result<(), String> {
        let client = Client::connect(url).await.map_err(|error| error.to_string())?;
        let mut seen = self.delivered(&client).await?;
        for (key, body) in &seen {
            match after.get(key) {
                None => return Err(format!("{key} was never sent")),
                Some((Fate::Visible, sent)) if sent == body => {}
                Some((Fate::Visible, _)) => return Err(format!("{key} has another body")),
                Some((fate, _)) => return Err(format!("{key} is visible, and is {fate:?}")),
            }
        }
        for key in self.undecided(&client).await? {
            seen.insert(key, Vec::new());
        }
        let expected = before.iter().filter(|(_, (fate, _))| *fate != Fate::RolledBack);
        let missing: Vec<_> = expected.filter(|(key, _)| !seen.contains_key(*key)).collect();
        match missing.first() {
            None => Ok(()),
            Some((key, (fate, _))) => Err(format!("{} are missing, such as {key} ({fate:?})", missing.len())),
        }
    }

    async fn delivered(&self, client: &Client) -> Result<BTreeMap<String, Vec<u8>>, String> {
        let mut consumer = ConsumerServiceClient::new(client.channel())
            .max_decoding_message_size(escrow_protocol::limits::GRPC_MESSAGE_BYTES_MAX);
        let mut seen = BTreeMap::new();
        loop {
            let request = v1::GetGroupRequest { name: self.group.clone() };
            let group =
                client.admin().get_group(request).await.map_err(|error| error.to_string())?.into_inner();
            if group.positions.iter().all(|position| position.lag <= seen.len() as u64) {
                return Ok(seen);
            }
            let request = v1::ReceiveRequest {
                group: self.group.clone(),
                client_id: "judge".into(),
                max_messages: 1_000,
                max_bytes: 16 << 20,
                wait_ms: 1_000,
                ..Default::default()
            };
            let received = consumer.receive(request).await.map_err(|error| error.to_string())?.into_inner();
            let messages = received.deliveries.into_iter().filter_map(|delivery| delivery.message);
            seen.extend(messages.map(|message| (message.key, message.body.to_vec())));
        }
    }

    async fn undecided(&self, client: &Client) -> Result<Vec<String>, String> {
        let (mut keys, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = Some(v1::Page { limit: 1_000, cursor });
            let filter = v1::TransactionFilter::Undecided.into();
            let request = v1::ListTransactionsRequest { page, filter, ..Default::default() };
            let found = client
                .admin()
                .list_transactions(request)
                .await
                .map_err(|error| error.to_string())?
                .into_inner();
            let messages = found.transactions.into_iter().flat_map(|transaction| transaction.messages);
            keys.extend(messages.filter(|message| message.topic == self.topic).map(|message| message.key));
            cursor = found.next_cursor;
            if cursor.is_empty() {
                return Ok(keys);
            }
        }
    }

    /// Removes topic and group, and decides what is open, so that the load can come to rest.
    pub(crate) async fn close(&self) {
        let operator = Some(v1::Operator { name: "rig".into(), reason: "the next backup".into() });
        let mut cursor = String::new();
        loop {
            let page = Some(v1::Page { limit: 1_000, cursor });
            let filter = v1::TransactionFilter::Undecided.into();
            let request = v1::ListTransactionsRequest { page, filter, ..Default::default() };
            let open = self.client.admin().list_transactions(request).await.expect("it lists").into_inner();
            for transaction in open.transactions {
                if transaction.messages.iter().any(|message| message.topic == self.topic) {
                    let request = v1::DecideTransactionRequest {
                        transaction_id: transaction.transaction_id,
                        decision: v1::Decision::Rollback.into(),
                        operator: operator.clone(),
                    };
                    self.client.admin().decide_transaction(request).await.expect("it is decided");
                }
            }
            cursor = open.next_cursor;
            if cursor.is_empty() {
                break;
            }
        }
        let request =
            v1::DeleteGroupRequest { name: self.group.clone(), force: true, operator: operator.clone() };
        self.client.admin().delete_group(request).await.expect("it is deleted");
        let request = v1::DeleteTopicRequest { name: self.topic.clone(), force: true, operator };
        self.client.admin().delete_topic(request).await.expect("it is deleted");
    }
}

/// What is left undecided stays so.
struct Silent;

impl Checker for Silent {
    async fn check(&self, _: CheckRequest) -> Verdict {
        Verdict::Unknown
    }
}

async fn write(client: Client, topic: String, book: Arc<Book>, writer: u64, mut rng: fastrand::Rng) {
    let producer = client.producer("ledger").checker(Silent).build().await.expect("a producer connects");
    let long = std::time::Duration::from_secs(20 * 60 * 60);
    let mut number = 0;
    while !book.stop.load(Ordering::SeqCst) {
        number += 1;
        let key = format!("{writer}-{number}");
        let fate = match rng.u8(0..8) {
            0..2 => Fate::RolledBack,
            2 => Fate::Undecided,
            _ => Fate::Visible,
        };
        let size = rng.usize(0..6_000);
        let body: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(size).collect();
        let entry = (key.clone(), (fate, body.clone()));
        book.invoked.lock().expect("nobody panics holding it").extend([entry.clone()]);
        let message = Message::new(&topic).key(key).bytes(body);
        let is_published = fate == Fate::Visible && rng.bool();
        if is_published {
            producer.publish(message).await.expect("it is published");
        } else {
            let policy = CheckPolicy::new().first_check_after(long);
            let half =
                producer.half().message(message).check_policy(policy).send().await.expect("it is stored");
            match fate {
                Fate::Visible => drop(half.commit().await.expect("it is committed")),
                Fate::RolledBack => drop(half.rollback().await.expect("it is rolled back")),
                Fate::Undecided => drop(half),
            }
        }
        book.answered.lock().expect("nobody panics holding it").extend([entry]);
        book.count.fetch_add(1, Ordering::SeqCst);
        book.changed.notify_waiters();
    }
    producer.close().await;
}

/// Ways to spoil a backup.
pub(crate) struct Altered;

impl Altered {
    /// How many ways there are.
    pub(crate) const KINDS: u32 = 6;
    /// Length, checksum, records, digest: see docs/format.md.
    const TRAILER_BYTES: usize = 32;

    /// The `nth` way, and its name.
    pub(crate) fn of(whole: &[u8], nth: u32, rng: &mut fastrand::Rng) -> (Vec<u8>, String) {
        let mut bytes = whole.to_vec();
        let at = rng.usize(0..bytes.len());
        let how = match nth % Self::KINDS {
            0 => {
                bytes.truncate(at);
                format!("cut at {at}")
            }
            1 | 2 => {
                let bit = rng.u8(0..8);
                bytes[at] ^= 1 << bit;
                format!("bit {bit} flipped at {at}")
            }
            3 => {
                bytes.truncate(bytes.len() - Self::TRAILER_BYTES);
                "without its end".to_owned()
            }
            4 => {
                bytes.push(0);
                "with a byte too much".to_owned()
            }
            _ => Self::swap(&mut bytes, rng),
        };
        (bytes, how)
    }

    /// Two pieces of the same size change places: whole blocks if there are two, for these would fit.
    fn swap(bytes: &mut Vec<u8>, rng: &mut fastrand::Rng) -> String {
        let blocks = blocks_in(bytes);
        if blocks.len() > 2 && rng.bool() {
            let first = rng.usize(0..blocks.len() - 1);
            let (one, two) = (blocks[first].clone(), blocks[first + 1].clone());
            let swapped = [&bytes[..one.start], &bytes[two.clone()], &bytes[one], &bytes[two.end..]].concat();
            *bytes = swapped;
            return format!("with the blocks {first} and {} in each other's place", first + 1);
        }
        let size = rng.usize(16..bytes.len() / 4);
        let one = rng.usize(0..bytes.len() / 2 - size);
        let two = rng.usize(bytes.len() / 2..bytes.len() - size);
        let (left, right) = bytes.split_at_mut(two);
        left[one..one + size].swap_with_slice(&mut right[..size]);
        format!("with the {size} bytes at {one} and {two} in each other's place")
    }
}

/// Where the blocks lie, behind the header of 32 bytes.
fn blocks_in(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut blocks = Vec::new();
    let mut at = 32;
    while let Some(length) = bytes.get(at..at + 4) {
        let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
        if length == 0 {
            break;
        }
        blocks.push(at..at + 8 + length);
        at += 8 + length;
    }
    blocks
}
