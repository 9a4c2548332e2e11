//! Outcomes to the wire: each reply in the form its command asks for.

use escrow_protocol::{MessageId, TransactionId, v1};

use super::message::id_to_wire;
use super::transaction::{decider_to_wire, state_to_wire};
use crate::dispatch::Ticket;
use crate::engine::{Outcome, Refusal, Reply};
use crate::grpc::status::fault_of;

/// What a call that ought to have this reply gets for another one.
pub(crate) fn mismatch() -> Refusal {
    let text = "the engine's answer does not belong to the command; please report this";
    Refusal::new(escrow_protocol::Reason::Internal, text)
}

/// The answer to a publish.
///
/// # Errors
/// The refusal.
pub(crate) fn published(id: MessageId, outcome: Outcome) -> Result<v1::PublishResponse, Refusal> {
    match outcome? {
        Reply::Published { offset, duplicate } => Ok(v1::PublishResponse {
            message_id: id_to_wire(id),
            offset: offset.map(|offset| offset.0),
            duplicate,
        }),
        _ => Err(mismatch()),
    }
}

/// The answer to a half message.
///
/// # Errors
/// The refusal.
pub(crate) fn prepared(outcome: Outcome) -> Result<v1::SendHalfResponse, Refusal> {
    match outcome? {
        Reply::Prepared { transaction, messages, state, duplicate } => Ok(v1::SendHalfResponse {
            transaction_id: transaction.as_u64(),
            message_ids: messages.into_iter().map(id_to_wire).collect(),
            state: state_to_wire(state).into(),
            duplicate,
        }),
        _ => Err(mismatch()),
    }
}

/// The answer to a decision.
///
/// # Errors
/// The refusal.
pub(crate) fn decided(transaction: TransactionId, outcome: Outcome) -> Result<v1::DecideResponse, Refusal> {
    match outcome? {
        Reply::Decided { state, decider, duplicate } => Ok(v1::DecideResponse {
            transaction_id: transaction.as_u64(),
            state: state_to_wire(state).into(),
            decider: Some(decider_to_wire(decider)),
            duplicate,
        }),
        _ => Err(mismatch()),
    }
}

/// The outcome of a producer's command; `None` for a ticket of a consumer.
pub(crate) fn producer_result(ticket: Ticket, outcome: Outcome) -> Option<v1::ProducerResult> {
    use v1::producer_result::Result as Wire;
    let (correlation, result) = match ticket {
        Ticket::Publish(correlation, id) => (correlation, published(id, outcome).map(Wire::Published)),
        Ticket::SendHalf(correlation) => (correlation, prepared(outcome).map(Wire::Prepared)),
        Ticket::Decide(correlation, id) => (correlation, decided(id, outcome).map(Wire::Decided)),
        Ticket::Settle(..) => return None,
    };
    let result = result.unwrap_or_else(|refusal| Wire::Fault(fault_of(refusal)));
    Some(v1::ProducerResult { correlation, result: Some(result) })
}

/// The outcome of a settlement.
pub(crate) fn settle_result(correlation: u64, lease_token: u64, outcome: Outcome) -> v1::SettleResult {
    v1::SettleResult { correlation, lease_token, fault: outcome.err().map(fault_of) }
}
