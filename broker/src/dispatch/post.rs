//! Where answers and effects go once they are durable: grouped so that what one turn has for one session is posted in
//! one piece.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Outbox, Parcel, Sessions, Ticket};
use crate::engine::{Effect, Outcome, SessionId};

/// Who waits for the outcome of an input.
#[derive(Debug)]
pub enum ReplyTo {
    /// Nobody.
    Nobody,
    /// One caller.
    Caller(oneshot::Sender<Outcome>),
    /// A session: with its other answers, in one frame.
    Session(Arc<Outbox>, Ticket),
}

/// How long a client that is sent away should stay away, milliseconds.
const RETURN_AFTER_MS: u64 = 1_000;

/// Sends out the answers of one turn, then its effects. Call it only when the turn is durable.
pub fn post(sessions: &Sessions, answers: Vec<(ReplyTo, Outcome)>, effects: Vec<Effect>) {
    let mut heaps: HashMap<SessionId, (Arc<Outbox>, Vec<Parcel>)> = HashMap::new();
    // Most turns have answers for one session: it gets room for all of them, others as they come.
    let mut room = answers.len();
    for (reply_to, outcome) in answers {
        match reply_to {
            ReplyTo::Nobody => {}
            // A caller that went away wants no answer.
            ReplyTo::Caller(caller) => drop(caller.send(outcome)),
            ReplyTo::Session(outbox, ticket) => {
                let heap = heaps
                    .entry(outbox.id())
                    .or_insert_with(|| (outbox, Vec::with_capacity(std::mem::take(&mut room))));
                heap.1.push(Parcel::Answer(ticket, outcome));
            }
        }
    }
    let mut closing = Vec::new();
    for effect in effects {
        let (session, parcel) = match effect {
            Effect::AskCheck(question) => (question.session, Parcel::Ask(question)),
            Effect::Deliver(delivery) => (delivery.session, Parcel::Deliver(delivery)),
            Effect::Close(session, reason) => {
                closing.push((session, reason));
                continue;
            }
        };
        if let Some(heap) = heaps.get_mut(&session) {
            heap.1.push(parcel);
        } else if let Some(outbox) = sessions.outbox(session) {
            heaps.insert(session, (outbox, vec![parcel]));
        }
        // Else the session is gone, and the engine is about to hear of it.
    }
    for (outbox, parcels) in heaps.into_values() {
        outbox.post(parcels);
    }
    for (session, reason) in closing {
        if let Some(outbox) = sessions.outbox(session) {
            outbox.close(&reason, RETURN_AFTER_MS);
        }
    }
}
