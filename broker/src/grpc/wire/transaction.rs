//! Transactions: half messages, decisions and answers from the wire, checked; records to the wire.

use escrow_protocol::limits::{ATTEMPTS_MAX, CHECK_KINDS_MAX, DELIVER_AHEAD_MS_MAX};
use escrow_protocol::{ClientId, GroupName, Kind, TransactionId, v1};

use super::fields::{Checked, key, known, ms, name, name_option, within};
use super::message::{MessageChecks, id_to_wire, message_to_wire};
use crate::dispatch::LoadedQuestion;
use crate::engine::{CheckAnswered, CheckOverrides, Decide, Refusal, SendHalf, SessionId, TransactionFilter};
use crate::records::{Decider, Decision, InDoubt, Role, TransactionState};
use crate::service::{TransactionView, Which};

/// Who a producer said it is.
#[derive(Debug, Clone)]
pub(crate) struct ProducerName {
    /// Its group.
    pub group: GroupName,
    /// Its instance.
    pub client: ClientId,
}

/// Who a producer says it is, in a unary call.
///
/// # Errors
/// If a name is illegal.
pub(crate) fn producer_name(group: &str, client: &str) -> Checked<ProducerName> {
    Ok(ProducerName { group: name("group", group)?, client: name("client_id", client)? })
}

/// The kinds a producer answers for.
///
/// # Errors
/// If one is illegal, or there are too many.
pub(crate) fn check_kinds(kinds: &[String]) -> Checked<Vec<Kind>> {
    if kinds.len() > CHECK_KINDS_MAX {
        let fault = format!("there are {}, at most {CHECK_KINDS_MAX} are allowed", kinds.len());
        return Err(Refusal::invalid("check_kinds", fault).with("limit", CHECK_KINDS_MAX));
    }
    let mut kinds: Vec<Kind> = kinds.iter().map(|kind| name("check_kinds", kind)).collect::<Checked<_>>()?;
    kinds.sort();
    kinds.dedup();
    Ok(kinds)
}

/// A half message of this producer.
///
/// # Errors
/// `InvalidField`.
pub(crate) fn send_half(
    checks: &MessageChecks,
    producer: ProducerName,
    request: v1::SendHalfRequest,
) -> Checked<SendHalf> {
    let kind = match name_option("kind", &request.kind)? {
        Some(kind) => kind,
        None => name("kind", producer.group.as_str())?,
    };
    Ok(SendHalf {
        kind,
        key: key("transaction_key", request.transaction_key)?,
        overrides: check_policy(request.check_policy)?,
        messages: checks.messages(request.messages)?,
        group: producer.group,
        client: producer.client,
    })
}

fn check_policy(policy: Option<v1::CheckPolicy>) -> Checked<CheckOverrides> {
    let Some(policy) = policy else { return Ok(CheckOverrides::default()) };
    let duration = |field, value: i64| {
        let checked = within(field, value, 0, DELIVER_AHEAD_MS_MAX)?;
        Ok(Some(checked).filter(|value| *value != 0))
    };
    if policy.max_checks > ATTEMPTS_MAX {
        let fault = format!("it is {}, at most {ATTEMPTS_MAX} are allowed", policy.max_checks);
        return Err(Refusal::invalid("check_policy.max_checks", fault).with("limit", ATTEMPTS_MAX));
    }
    Ok(CheckOverrides {
        first_check_after_ms: duration("check_policy.first_check_after_ms", policy.first_check_after_ms)?,
        max_checks: Some(policy.max_checks).filter(|checks| *checks != 0),
        max_undecided_age_ms: duration("check_policy.max_undecided_age_ms", policy.max_undecided_age_ms)?,
        in_doubt: match known("check_policy.in_doubt", policy.in_doubt)? {
            v1::InDoubtPolicy::InDoubtUnspecified => None,
            v1::InDoubtPolicy::Park => Some(InDoubt::Park),
            v1::InDoubtPolicy::InDoubtRollback => Some(InDoubt::Rollback),
            v1::InDoubtPolicy::InDoubtCommit => Some(InDoubt::Commit),
        },
    })
}

/// A decision of this producer.
///
/// # Errors
/// `InvalidField`.
pub(crate) fn decide(producer: ProducerName, request: &v1::DecideRequest) -> Checked<Decide> {
    Ok(Decide {
        transaction: transaction_id(request.transaction_id)?,
        decision: decision(request.decision)?,
        role: Role::Producer,
        name: producer.client.to_string(),
        group: Some(producer.group),
        reason: String::new(),
    })
}

/// A decision.
///
/// # Errors
/// If it is none.
pub(crate) fn decision(value: i32) -> Checked<Decision> {
    match known("decision", value)? {
        v1::Decision::Commit => Ok(Decision::Commit),
        v1::Decision::Rollback => Ok(Decision::Rollback),
        v1::Decision::Unspecified => {
            Err(Refusal::invalid("decision", "it is missing; say COMMIT or ROLLBACK"))
        }
    }
}

/// A transaction id.
///
/// # Errors
/// If it is zero.
pub(crate) fn transaction_id(value: u64) -> Checked<TransactionId> {
    let id = TransactionId::from_u64(value);
    if id.number() == 0 {
        return Err(Refusal::invalid("transaction_id", "it is missing; send the id that SendHalf gave"));
    }
    Ok(id)
}

/// A checker's answer. Whatever is not a clear word is "unknown".
pub(crate) fn check_answer(session: SessionId, answer: &v1::CheckAnswer) -> CheckAnswered {
    CheckAnswered {
        session,
        transaction: TransactionId::from_u64(answer.transaction_id),
        check: answer.check,
        verdict: match answer.verdict() {
            v1::CheckVerdict::VerdictCommit => Some(Decision::Commit),
            v1::CheckVerdict::VerdictRollback => Some(Decision::Rollback),
            v1::CheckVerdict::Unknown => None,
        },
    }
}

/// What of the transactions a list shall show.
///
/// # Errors
/// If the filter is not known.
pub(crate) fn which(filter: i32) -> Checked<Which> {
    Ok(match known("filter", filter)? {
        v1::TransactionFilter::Undecided => Which::Live(TransactionFilter::Undecided),
        v1::TransactionFilter::WaitingForChecker => Which::Live(TransactionFilter::WaitingForChecker),
        v1::TransactionFilter::OnlyParked => Which::Live(TransactionFilter::Parked),
        v1::TransactionFilter::Decided => Which::Decided,
    })
}

/// A state as the wire has it.
pub(crate) fn state_to_wire(state: TransactionState) -> v1::TransactionState {
    match state {
        TransactionState::Prepared => v1::TransactionState::Prepared,
        TransactionState::Parked => v1::TransactionState::Parked,
        TransactionState::Committed => v1::TransactionState::Committed,
        TransactionState::RolledBack => v1::TransactionState::RolledBack,
    }
}

/// Who decided, as the wire has it.
pub(crate) fn decider_to_wire(decider: Decider) -> v1::Decider {
    v1::Decider {
        role: decider.role.as_str().to_owned(),
        name: decider.name,
        reason: decider.reason,
        at_ms: ms(decider.at_ms),
    }
}

/// A question as the wire has it.
pub(crate) fn question_to_wire(loaded: LoadedQuestion) -> v1::CheckQuestion {
    let transaction = loaded.transaction;
    v1::CheckQuestion {
        transaction_id: loaded.question.transaction.as_u64(),
        check: loaded.question.check,
        kind: transaction.kind.to_string(),
        transaction_key: transaction.key.unwrap_or_default(),
        created_at_ms: ms(transaction.created_at_ms),
        checks_before: transaction.checks.delivered,
        messages: loaded.messages.into_iter().map(message_to_wire).collect(),
        bodies_omitted: loaded.bodies_omitted,
    }
}

/// A transaction as the wire has it.
pub(crate) fn transaction_to_wire(view: TransactionView) -> v1::Transaction {
    let TransactionView { id, record, live, labels } = view;
    let undecided = record.state == TransactionState::Prepared;
    let messages = record.messages.into_iter().zip(labels).map(|(message, label)| v1::TransactionMessage {
        message_id: id_to_wire(message.stub.id),
        topic: label.topic.map_or(String::new(), |topic| topic.to_string()),
        key: label.key.unwrap_or_default(),
        offset: message.offset.map(|offset| offset.0),
        deliver_at_ms: ms(message.stub.deliver_at_ms),
        body_bytes: message.stub.body_bytes.into(),
    });
    v1::Transaction {
        transaction_id: id.as_u64(),
        state: state_to_wire(record.state).into(),
        group: record.group.to_string(),
        kind: record.kind.to_string(),
        client_id: record.client.to_string(),
        transaction_key: record.key.unwrap_or_default(),
        created_at_ms: ms(record.created_at_ms),
        messages: messages.collect(),
        checks_delivered: record.checks.delivered,
        checks_unknown: record.checks.unknown,
        checks_timed_out: record.checks.timed_out,
        checks_without_checker: record.checks.no_checker,
        max_checks: record.policy.max_checks,
        next_check_at_ms: if undecided && !live.waiting_for_checker {
            ms(live.next_event_at_ms.unwrap_or(record.next_check_at_ms))
        } else {
            0
        },
        waiting_for_checker: live.waiting_for_checker,
        checkers_connected: live.checkers_connected,
        in_doubt: match record.policy.in_doubt {
            InDoubt::Park => v1::InDoubtPolicy::Park,
            InDoubt::Rollback => v1::InDoubtPolicy::InDoubtRollback,
            InDoubt::Commit => v1::InDoubtPolicy::InDoubtCommit,
        }
        .into(),
        in_doubt_at_ms: ms(record.resumed_at_ms.saturating_add(record.policy.max_undecided_age_ms)),
        decider: record.decider.map(decider_to_wire),
        conflicts: record.conflicts,
        events: Vec::new(),
    }
}
