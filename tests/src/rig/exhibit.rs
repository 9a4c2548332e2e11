//! A broker filled with every kind of record there is: undecided, parked and decided transactions, a backlog, retries,
//! dead letters, scheduled messages, large and small bodies. It also knows what was sent, and as of which commit it is there.
//!
//! Nothing in it changes by itself for hours: whoever looks later sees the same.

use bytes::Bytes;
use escrow::v1;
use escrow::v1::consumer_service_client::ConsumerServiceClient;
use escrow::v1::producer_service_client::ProducerServiceClient;
use escrow::{Admin, Client, MessageId};
use tonic::transport::Channel;

use super::readout::Content;

/// The topics that messages go to.
const TOPICS: [&str; 2] = ["orders", "audit"];
/// The groups that see all: one that finishes nothing, one that does all that can be done with a delivery.
pub const GROUPS: [&str; 2] = ["slow", "fast"];
/// Longer than any rig runs: what is due then stays as it is.
const LONG_MS: i64 = 20 * 60 * 60 * 1000;
/// Ten years: nobody sees the end of it.
const LIFE_MS: i64 = 10 * 365 * 24 * 60 * 60 * 1000;
/// The producers' group.
const SHOP: &str = "shop";

/// Settings under which an exhibit is made and looked at: several journal files, a table written many times.
pub fn exhibit_settings() -> [&'static str; 6] {
    [
        "store.overlay=32KiB",
        "store.journal_file=64KiB",
        "store.ballast=64KiB",
        "store.journal_ahead=16KiB",
        "store.open_limit=20s",
        "transactions.first_check_after=20h",
    ]
}

/// What shall have become of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Every group sees it, or has it in its dead letters.
    Visible,
    /// Nobody ever sees it: rolled back or cancelled.
    RolledBack,
    /// Nobody sees it yet.
    Undecided,
    /// Nobody sees it yet.
    Scheduled,
}

/// A message that was answered as stored.
#[derive(Debug, Clone)]
pub struct Sent {
    /// Its id.
    pub id: MessageId,
    /// What is in it.
    pub content: Content,
    /// See there.
    pub fate: Fate,
    /// The store's last commit when that was answered: it is there as of this one, or earlier.
    pub sequence: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Exhibit {
    /// Everything that was answered, in order.
    pub sent: Vec<Sent>,
}

/// One who makes an exhibit.
struct Maker {
    rng: fastrand::Rng,
    producer: ProducerServiceClient<Channel>,
    consumer: ConsumerServiceClient<Channel>,
    admin: Admin,
    sent: Vec<Sent>,
    number: u64,
}

impl Exhibit {
    /// Fills the broker at `url`, which must be new, with what comes of `rounds` sendings.
    ///
    /// # Panics
    /// If the broker refuses what it should not.
    pub async fn make(url: &str, rounds: u32, rng: fastrand::Rng) -> Self {
        let client = Client::connect(url).await.expect("the broker is up");
        let mut maker = Maker {
            rng,
            producer: ProducerServiceClient::new(client.channel()),
            consumer: ConsumerServiceClient::new(client.channel()),
            admin: client.admin(),
            sent: Vec::new(),
            number: 0,
        };
        maker.found().await;
        for round in 0..rounds {
            maker.send(round).await;
            if round % 16 == 15 {
                maker.consume().await;
            }
        }
        maker.contradict().await;
        maker.leave_to_policy(v1::InDoubtPolicy::Park).await;
        maker.leave_to_policy(v1::InDoubtPolicy::InDoubtRollback).await;
        maker.leave_to_a_person().await;
        maker.cancel().await;
        maker.resolve_dead_letters().await;
        Self { sent: maker.sent }
    }
}

impl Maker {
    async fn found(&mut self) {
        for name in TOPICS.into_iter().chain(["gone"]) {
            let settings = v1::TopicSettings {
                keep_finished_ms: LONG_MS * i64::from(name == "audit"),
                keep_finished_bytes: 0,
            };
            let request = v1::CreateTopicRequest {
                name: name.into(),
                settings: Some(settings),
                operator: Some(person()),
            };
            self.admin.create_topic(request).await.expect("the topic is made");
        }
        let gone = v1::DeleteTopicRequest { name: "gone".into(), force: true, operator: Some(person()) };
        self.admin.delete_topic(gone).await.expect("the topic is deleted");
        let ladder = v1::Ladder { delays_ms: vec![LONG_MS, 2 * LONG_MS] };
        let exponential =
            v1::Exponential { initial_ms: LONG_MS, multiplier_permille: 1500, max_ms: 2 * LONG_MS };
        let delays = [
            v1::retry_policy::Delays::FixedMs(LONG_MS),
            v1::retry_policy::Delays::Ladder(ladder),
            v1::retry_policy::Delays::Exponential(exponential),
        ];
        for ((name, delays), nth) in [GROUPS[0], GROUPS[1], "tagged"].into_iter().zip(delays).zip(0..) {
            let tags = if name == "tagged" { vec!["red".to_owned()] } else { Vec::new() };
            let topics =
                TOPICS.into_iter().map(|topic| v1::Subscription { topic: topic.into(), tags: tags.clone() });
            let retry = v1::RetryPolicy {
                delays: Some(delays),
                immediate_attempts: 0,
                jitter_percent: 5,
                max_attempts: 5,
            };
            let settings = v1::GroupSettings { retry: Some(retry), ordering: nth, lease_ms: 60_000 };
            let request = v1::CreateGroupRequest {
                name: name.into(),
                subscriptions: topics.collect(),
                settings: Some(settings),
                operator: Some(person()),
                ..Default::default()
            };
            self.admin.create_group(request).await.expect("the group is made");
        }
        let pause = v1::PauseGroupRequest { name: "tagged".into(), operator: Some(person()) };
        self.admin.pause_group(pause).await.expect("the group is paused");
    }

    fn message(&mut self, topic: &str) -> v1::Message {
        self.number += 1;
        let number = self.number;
        let mut random = [0; 10];
        self.rng.fill(&mut random);
        let bytes = match self.rng.u8(0..10) {
            0 => 0,
            1..7 => self.rng.usize(1..600),
            7..9 => self.rng.usize(600..5_000),
            _ => self.rng.usize(5_000..20_000),
        };
        let body: Vec<u8> = std::iter::repeat_with(|| self.rng.u8(..)).take(bytes).collect();
        let header = |name: &str, value: String| v1::Header { name: name.into(), value };
        v1::Message {
            id: Bytes::copy_from_slice(MessageId::new(1_700_000_000_000 + number, random).as_bytes()),
            topic: topic.into(),
            key: format!("key-{number}"),
            ordering_key: if number.is_multiple_of(7) { format!("order-{number}") } else { String::new() },
            tag: if number.is_multiple_of(5) { "red".into() } else { String::new() },
            headers: vec![header("number", number.to_string()), header("空", "für alle".into())],
            body: Bytes::from(body),
            time_to_live_ms: if number.is_multiple_of(11) { LIFE_MS } else { 0 },
            ..Default::default()
        }
    }

    fn scheduled(&mut self, topic: &str) -> v1::Message {
        let ahead = self.rng.i64(30..300) * 24 * 60 * 60 * 1000;
        v1::Message { deliver_at_ms: now_ms() + ahead, ..self.message(topic) }
    }

    /// Notes these as answered, as of now.
    async fn note(&mut self, messages: Vec<(v1::Message, Fate)>) {
        let stats = self.admin.get_store_stats(v1::GetStoreStatsRequest {}).await.expect("the broker is up");
        let sequence = stats.into_inner().last_sequence;
        self.sent.extend(messages.into_iter().map(|(message, fate)| Sent {
            id: MessageId::from_slice(&message.id).expect("made here"),
            content: Content::of(&message),
            fate,
            sequence,
        }));
    }

    async fn send(&mut self, round: u32) {
        let topic = TOPICS[usize::from(self.rng.u8(0..8) == 0)];
        match self.rng.u8(0..10) {
            0..4 => {
                let message = self.message(topic);
                self.publish(message.clone()).await;
                self.note(vec![(message, Fate::Visible)]).await;
            }
            4..6 => {
                let message = self.message(topic);
                let transaction = self.half(vec![message.clone()], "").await;
                self.decide(transaction, v1::Decision::Commit).await;
                self.note(vec![(message, Fate::Visible)]).await;
            }
            6 => {
                let message = self.message(topic);
                let transaction = self.half(vec![message.clone()], "").await;
                self.decide(transaction, v1::Decision::Rollback).await;
                self.note(vec![(message, Fate::RolledBack)]).await;
            }
            7 => {
                let messages = vec![self.message(topic), self.message(TOPICS[1])];
                self.half(messages.clone(), &format!("undecided-{round}")).await;
                self.note(messages.into_iter().map(|message| (message, Fate::Undecided)).collect()).await;
            }
            8 => {
                let message = self.scheduled(topic);
                self.publish(message.clone()).await;
                self.note(vec![(message, Fate::Scheduled)]).await;
            }
            _ => {
                let messages = vec![self.message(topic), self.message(TOPICS[1]), self.scheduled(topic)];
                let transaction = self.half(messages.clone(), &format!("decided-{round}")).await;
                self.decide(transaction, v1::Decision::Commit).await;
                let fates = [Fate::Visible, Fate::Visible, Fate::Scheduled];
                self.note(messages.into_iter().zip(fates).collect()).await;
            }
        }
    }

    async fn publish(&mut self, message: v1::Message) {
        let request = v1::PublishRequest { message: Some(message) };
        self.producer.publish(request).await.expect("it is published");
    }

    async fn half(&mut self, messages: Vec<v1::Message>, key: &str) -> u64 {
        self.half_under(messages, key, v1::CheckPolicy::default()).await
    }

    async fn half_under(&mut self, messages: Vec<v1::Message>, key: &str, policy: v1::CheckPolicy) -> u64 {
        let request = v1::SendHalfRequest {
            messages,
            kind: "order.create".into(),
            transaction_key: key.into(),
            check_policy: Some(policy),
            group: SHOP.into(),
            client_id: "shop-1".into(),
        };
        self.producer.send_half(request).await.expect("it is stored").into_inner().transaction_id
    }

    async fn decide(&mut self, transaction_id: u64, decision: v1::Decision) {
        let decision = decision.into();
        let request =
            v1::DecideRequest { transaction_id, decision, group: SHOP.into(), client_id: "shop-1".into() };
        self.producer.decide(request).await.expect("it is decided");
    }

    /// The fast group takes what there is: most is acked, some tried again in many hours, some rejected.
    async fn consume(&mut self) {
        let request = v1::ReceiveRequest {
            group: GROUPS[1].into(),
            client_id: "fast-1".into(),
            max_messages: 12,
            max_bytes: 8 << 20,
            ..Default::default()
        };
        let received = self.consumer.receive(request).await.expect("it receives").into_inner();
        for delivery in received.deliveries {
            let verb = match self.rng.u8(0..6) {
                0 => v1::settlement::Verb::Nack(v1::Nack { reason: "later".into(), ..Default::default() }),
                1 => v1::settlement::Verb::Reject(v1::Reject { reason: "cannot be used".into() }),
                _ => v1::settlement::Verb::Ack(v1::Ack {}),
            };
            let settlement =
                v1::Settlement { correlation: 1, lease_token: delivery.lease_token, verb: Some(verb) };
            let request = v1::SettleRequest { group: GROUPS[1].into(), settlements: vec![settlement] };
            self.consumer.settle(request).await.expect("it is settled");
        }
    }

    /// A late, contradicting decision is refused, and counted with the transaction.
    async fn contradict(&mut self) {
        let message = self.message(TOPICS[0]);
        let transaction_id = self.half(vec![message.clone()], "contradicted").await;
        self.decide(transaction_id, v1::Decision::Commit).await;
        let request = v1::DecideRequest {
            transaction_id,
            decision: v1::Decision::Rollback.into(),
            group: SHOP.into(),
            client_id: "shop-1".into(),
        };
        self.producer.decide(request).await.expect_err("it is decided");
        self.note(vec![(message, Fate::Visible)]).await;
    }

    /// A transaction becomes too old at once, and what was agreed for that happens to it.
    async fn leave_to_policy(&mut self, in_doubt: v1::InDoubtPolicy) {
        let message = self.message(TOPICS[0]);
        let policy =
            v1::CheckPolicy { max_undecided_age_ms: 1, in_doubt: in_doubt.into(), ..Default::default() };
        let transaction_id = self.half_under(vec![message.clone()], in_doubt.as_str_name(), policy).await;
        let (state, fate) = match in_doubt {
            v1::InDoubtPolicy::Park => (v1::TransactionState::Parked, Fate::Undecided),
            _ => (v1::TransactionState::RolledBack, Fate::RolledBack),
        };
        loop {
            let request = v1::GetTransactionRequest { transaction_id };
            let seen = self.admin.get_transaction(request).await.expect("it is known").into_inner();
            if seen.state() == state {
                break;
            }
        }
        self.note(vec![(message, fate)]).await;
    }

    async fn leave_to_a_person(&mut self) {
        let message = self.message(TOPICS[0]);
        let transaction_id = self.half(vec![message.clone()], "by hand").await;
        let decision = v1::Decision::Commit.into();
        let request = v1::DecideTransactionRequest { transaction_id, decision, operator: Some(person()) };
        self.admin.decide_transaction(request).await.expect("it is decided");
        self.note(vec![(message, Fate::Visible)]).await;
    }

    async fn cancel(&mut self) {
        let message = self.scheduled(TOPICS[0]);
        self.publish(message.clone()).await;
        let request = v1::CancelScheduledRequest { message_id: message.id.clone(), operator: Some(person()) };
        self.admin.cancel_scheduled(request).await.expect("it is cancelled");
        self.note(vec![(message, Fate::RolledBack)]).await;
    }

    /// Of the dead letters one is sent again and one given up.
    async fn resolve_dead_letters(&mut self) {
        let list = v1::ListDeadLettersRequest { page: None, filter: Some(letters(Vec::new())) };
        let found = self.admin.list_dead_letters(list).await.expect("they are listed").into_inner();
        let offsets: Vec<_> = found.dead_letters.iter().map(|letter| letter.offset).collect();
        let [first, second, ..] = offsets[..] else { panic!("only {} dead letters", offsets.len()) };
        let redrive = v1::RedriveDeadLettersRequest {
            filter: Some(letters(vec![first])),
            operator: Some(person()),
            ..Default::default()
        };
        let job = self.admin.redrive_dead_letters(redrive).await.expect("it begins").into_inner();
        self.job_ends(job.job_id).await;
        let discard = v1::DiscardDeadLettersRequest {
            filter: Some(letters(vec![second])),
            operator: Some(person()),
            dry_run: false,
        };
        let job = self.admin.discard_dead_letters(discard).await.expect("it begins").into_inner();
        self.job_ends(job.job_id).await;
    }

    /// Each look waits for a turn of the broker, in which the job makes its steps.
    async fn job_ends(&mut self, job_id: u64) {
        loop {
            let request = v1::GetJobRequest { job_id, ..Default::default() };
            let answer = self.admin.get_job(request).await.expect("it is there").into_inner();
            let job = answer.job.expect("it is there");
            match job.state() {
                v1::JobState::Running | v1::JobState::Paused => {}
                v1::JobState::Done => return,
                other => panic!("the job ended as {other:?}"),
            }
        }
    }
}

fn letters(offsets: Vec<u64>) -> v1::DeadLetterFilter {
    v1::DeadLetterFilter { group: GROUPS[1].into(), offsets, ..Default::default() }
}

fn person() -> v1::Operator {
    v1::Operator { name: "ada".into(), reason: "an exhibit".into() }
}

#[allow(
    clippy::disallowed_methods,
    reason = "messages are scheduled by the broker's clock, which is this one"
)]
fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}
