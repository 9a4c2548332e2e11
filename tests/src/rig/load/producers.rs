//! Producers of the load, and the checker that answers for them.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use escrow::{
    CheckPolicy, CheckRequest, Checker, Client, Decided, ErrorKind, Message, Producer, Reason, TransactionId,
    TransactionState, Verdict, WithChecker,
};

use super::super::history::{Answer, Choice, Decision, Event, Operation};
use super::{PAST_TRANSACTIONS, PRODUCER_GROUP, Shared, TOPIC, body, number_of};

/// How soon a silent producer is asked.
const FIRST_CHECK: Duration = Duration::from_millis(200);
/// The longest delay of a scheduled message, milliseconds.
const DELAY_MS_MAX: u64 = 400;
/// Ordering keys in use.
const ORDERING_KEYS: u64 = 6;

/// Answers as the producer chose: the choice is part of the message. What it says is noted as a decision, for it is one.
pub(super) struct TruthfulChecker(Weak<Shared>);

impl TruthfulChecker {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self(Arc::downgrade(shared))
    }
}

impl Checker for TruthfulChecker {
    async fn check(&self, half: CheckRequest) -> Verdict {
        let choice = half.messages().next().and_then(|message| message.header("choice").map(str::to_owned));
        let choice = Choice::ALL.into_iter().find(|known| choice.as_deref() == Some(&format!("{known:?}")));
        let (Some(shared), Some(choice)) = (self.0.upgrade(), choice) else { return Verdict::Unknown };
        let (decision, verdict) = match choice.is_to_be_seen() {
            true => (Decision::Commit, Verdict::Commit),
            false => (Decision::Rollback, Verdict::Rollback),
        };
        shared.history.invoke(Operation::Decide(number_of(half.key()), decision));
        verdict
    }
}

/// What a failed operation says of its outcome.
pub(super) fn answer_of(error: &escrow::Error) -> Answer {
    if error.outcome_unknown() {
        return Answer::Unknown;
    }
    match (error.reason(), error.details().get("state").map(String::as_str)) {
        (Some(Reason::AlreadyDecided), Some("COMMITTED")) => Answer::Conflict(Decision::Commit),
        (Some(Reason::AlreadyDecided), _) => Answer::Conflict(Decision::Rollback),
        _ if error.kind() == ErrorKind::NotFound => Answer::Forgotten,
        _ => Answer::Failed,
    }
}

fn decided(told: &Decided) -> Answer {
    match told.state {
        TransactionState::Committed => Answer::Decided(Decision::Commit),
        _ => Answer::Decided(Decision::Rollback),
    }
}

pub(super) async fn produce(client: Client, shared: Arc<Shared>, mut rng: fastrand::Rng) {
    let producer = loop {
        let checker = TruthfulChecker::new(&shared);
        match client.producer(PRODUCER_GROUP).checker(checker).build().await {
            Ok(producer) => break producer,
            // The first connection is not kept trying by itself: the network may be bad already.
            Err(error) => assert!(error.is_retryable(), "a producer connects: {error:?}"),
        }
    };
    while shared.is_producing() {
        if shared.is_pausing() {
            shared.pause().await;
            continue;
        }
        match rng.u8(0..10) {
            0 => decide_something_past(&producer, &shared, &mut rng).await,
            _ => send_something(&producer, &shared, &mut rng).await,
        }
    }
    producer.close().await;
}

async fn send_something(producer: &Producer<WithChecker>, shared: &Shared, rng: &mut fastrand::Rng) {
    let number = shared.next_message.fetch_add(1, Ordering::SeqCst);
    let choice = match rng.u8(0..12) {
        0..4 => Choice::Publish,
        4..8 => Choice::Commit,
        8 => Choice::Rollback,
        9 => Choice::CheckCommit,
        10 => Choice::CheckRollback,
        _ => Choice::Contested,
    };
    let ordering_key = (rng.u8(0..4) == 0).then(|| rng.u64(0..ORDERING_KEYS));
    let delay_ms = if rng.u8(0..10) == 0 { rng.u64(1..DELAY_MS_MAX) } else { 0 };
    shared.history.note(Event::Made { message: number, choice, ordering_key, delay_ms });
    let mut message = Message::new(TOPIC)
        .key(number.to_string())
        .header("choice", format!("{choice:?}"))
        .bytes(body::of(number));
    if let Some(key) = ordering_key {
        message = message.ordering_key(key.to_string());
    }
    if delay_ms > 0 {
        message = message.deliver_after(Duration::from_millis(delay_ms));
    }
    match choice {
        Choice::Publish => {
            let call = producer.publish(message);
            let told = |published: &escrow::Published| published.offset.map_or(Answer::Ok, Answer::Queued);
            shared.perform(Operation::Publish(number), call, told).await;
        }
        _ => send_half(producer, shared, rng, number, choice, message).await,
    }
}

async fn send_half(
    producer: &Producer<WithChecker>,
    shared: &Shared,
    rng: &mut fastrand::Rng,
    number: u64,
    choice: Choice,
    message: Message,
) {
    let soon = CheckPolicy::new().first_check_after(FIRST_CHECK);
    let call = producer.half().message(message).check_policy(soon).send();
    let Some(half) = shared.perform(Operation::Half(number), call, |_| Answer::Ok).await else { return };
    let transaction = half.transaction_id();
    {
        let mut past = shared.past.lock().expect("nobody panics holding it");
        past.push_back((number, transaction));
        if past.len() > PAST_TRANSACTIONS {
            past.pop_front();
        }
    }
    let wish = match choice {
        Choice::Commit => Decision::Commit,
        Choice::Rollback => Decision::Rollback,
        Choice::Contested => {
            let (commit, rollback) = (Decision::Commit, Decision::Rollback);
            let (first, second) = if rng.bool() { (commit, rollback) } else { (rollback, commit) };
            tokio::join!(
                decide(producer, shared, number, transaction, first),
                decide(producer, shared, number, transaction, second),
            );
            return;
        }
        _ => return,
    };
    decide(producer, shared, number, transaction, wish).await;
}

/// Repeats a decision, contradicts one, or decides late what was left to the checker: whatever stands must go on standing.
async fn decide_something_past(producer: &Producer<WithChecker>, shared: &Shared, rng: &mut fastrand::Rng) {
    let found = {
        let past = shared.past.lock().expect("nobody panics holding it");
        if past.is_empty() { None } else { past.get(rng.usize(0..past.len())).copied() }
    };
    let Some((number, transaction)) = found else { return };
    let decision = if rng.bool() { Decision::Commit } else { Decision::Rollback };
    decide(producer, shared, number, transaction, decision).await;
}

async fn decide(
    producer: &Producer<WithChecker>,
    shared: &Shared,
    number: u64,
    transaction: TransactionId,
    decision: Decision,
) {
    let wire = match decision {
        Decision::Commit => escrow::Decision::Commit,
        Decision::Rollback => escrow::Decision::Rollback,
    };
    let call = producer.decide(transaction, wire);
    shared.perform(Operation::Decide(number, decision), call, decided).await;
}
