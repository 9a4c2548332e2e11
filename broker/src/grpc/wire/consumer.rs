//! Consumers: hellos, credit and settlements from the wire, checked; deliveries to the wire.

use escrow_protocol::limits::{
    CREDIT_BYTES_MAX, CREDIT_MESSAGES_MAX, LEASE_MS_MAX, LEASE_MS_MIN, RETRY_DELAY_MS_MAX, SUBSCRIPTIONS_MAX,
    TAGS_MAX,
};
use escrow_protocol::{ClientId, GroupName, LeaseToken, Tag, v1};

use super::fields::{Checked, known, ms, name, reason, time, within};
use super::message::message_to_wire;
use crate::dispatch::LoadedDelivery;
use crate::engine::{ConsumerConnected, Credit, Refusal, SessionId, Start, Verb, Wanted};
use crate::records::DeadLetter;

/// Who a consumer says it is.
///
/// # Errors
/// `InvalidField`.
pub(crate) fn consumer_hello(
    session: SessionId,
    address: String,
    hello: v1::ConsumerHello,
) -> Checked<ConsumerConnected> {
    let group: GroupName = group_name("group", &hello.group)?;
    let client: ClientId = name("client_id", &hello.client_id)?;
    if hello.broadcast {
        // The client's own group must have a legal name too.
        group_name("client_id", &format!("{group}.{client}"))?;
    }
    Ok(ConsumerConnected {
        session,
        client,
        group,
        subscriptions: subscriptions("subscriptions", hello.subscriptions)?,
        broadcast: hello.broadcast,
        start: start(hello.start, hello.start_time_ms)?,
        detached: false,
        address,
    })
}

/// Who takes deliveries by a unary call.
///
/// # Errors
/// `InvalidField`.
pub(crate) fn receiver(
    session: SessionId,
    address: String,
    request: v1::ReceiveRequest,
) -> Checked<ConsumerConnected> {
    Ok(ConsumerConnected {
        session,
        client: name("client_id", &request.client_id)?,
        group: group_name("group", &request.group)?,
        subscriptions: subscriptions("subscriptions", request.subscriptions)?,
        broadcast: false,
        start: Start::default(),
        detached: true,
        address,
    })
}

/// A group's name, with room for that of its dead-letter topic.
///
/// # Errors
/// If it is illegal or too long.
pub(crate) fn group_name(field: &'static str, text: &str) -> Checked<GroupName> {
    let group: GroupName = name(field, text)?;
    match group.dead_letter_topic() {
        Ok(_) => Ok(group),
        Err(error) => Err(Refusal::invalid(
            field,
            format!("its dead-letter topic would have an illegal name ({error}); shorten it"),
        )),
    }
}

/// Subscriptions: sorted, each topic and each tag once.
///
/// # Errors
/// `InvalidField`.
pub(crate) fn subscriptions(field: &'static str, wire: Vec<v1::Subscription>) -> Checked<Vec<Wanted>> {
    if wire.len() > SUBSCRIPTIONS_MAX {
        let fault = format!("there are {}, at most {SUBSCRIPTIONS_MAX} are allowed", wire.len());
        return Err(Refusal::invalid(field, fault).with("limit", SUBSCRIPTIONS_MAX));
    }
    let mut wanted: Vec<Wanted> = wire
        .into_iter()
        .map(|subscription| {
            if subscription.tags.len() > TAGS_MAX {
                let fault =
                    format!("{} tags of one topic, at most {TAGS_MAX} are allowed", subscription.tags.len());
                return Err(Refusal::invalid(field, fault).with("limit", TAGS_MAX));
            }
            let mut tags: Vec<Tag> =
                subscription.tags.iter().map(|tag| name(field, tag)).collect::<Checked<_>>()?;
            tags.sort();
            tags.dedup();
            Ok(Wanted { topic: name(field, &subscription.topic)?, tags })
        })
        .collect::<Checked<_>>()?;
    wanted.sort_by(|one, other| one.topic.cmp(&other.topic));
    match wanted.windows(2).find(|pair| pair[0].topic == pair[1].topic) {
        Some(pair) => {
            let fault = format!("{} comes twice; name each topic once, with all its tags", pair[0].topic);
            Err(Refusal::invalid(field, fault))
        }
        None => Ok(wanted),
    }
}

/// Where a new subscription starts.
///
/// # Errors
/// `InvalidField`.
pub(crate) fn start(position: i32, time_ms: i64) -> Checked<Start> {
    Ok(match known("start", position)? {
        v1::StartPosition::Oldest => Start::Oldest,
        v1::StartPosition::Newest => Start::Newest,
        v1::StartPosition::FromTime => Start::Time(time("start_time_ms", time_ms)?),
    })
}

/// More credit, never more than may be held.
pub(crate) fn credit(session: SessionId, credit: v1::Credit) -> Credit {
    Credit {
        session,
        messages: credit.messages.min(CREDIT_MESSAGES_MAX),
        bytes: credit.bytes.min(CREDIT_BYTES_MAX),
    }
}

/// What became of a delivery.
///
/// # Errors
/// `InvalidField`.
pub(crate) fn settlement(settlement: v1::Settlement) -> Checked<(LeaseToken, Verb)> {
    use v1::settlement::Verb as Wire;
    let verb = match settlement.verb {
        Some(Wire::Ack(_)) => Verb::Ack,
        Some(Wire::Nack(nack)) => Verb::Nack {
            delay_ms: match nack.delay_ms {
                None => None,
                Some(delay) => Some(within("nack.delay_ms", delay, 0, RETRY_DELAY_MS_MAX)?),
            },
            reason: reason(nack.reason),
        },
        Some(Wire::Reject(reject)) => Verb::Reject { reason: reason(reject.reason) },
        Some(Wire::Extend(extend)) => Verb::Extend {
            lease_ms: match extend.lease_ms {
                0 => None,
                lease_ms => Some(within("extend.lease_ms", lease_ms, LEASE_MS_MIN, LEASE_MS_MAX)?),
            },
        },
        Some(Wire::Release(_)) => Verb::Release,
        None => {
            let fault = "it is missing, or newer than this broker; send ack, nack, reject, extend or release";
            return Err(Refusal::invalid("verb", fault));
        }
    };
    Ok((LeaseToken(settlement.lease_token), verb))
}

/// A delivery as the wire has it.
pub(crate) fn delivery_to_wire(loaded: LoadedDelivery) -> v1::Delivery {
    let delivery = loaded.delivery;
    // A topic that is gone lives on in its messages.
    let topic = delivery.topic_name.unwrap_or_else(|| loaded.message.topic.clone());
    v1::Delivery {
        message: Some(message_to_wire(loaded.message)),
        topic: topic.to_string(),
        offset: delivery.offset.0,
        attempt: delivery.attempt,
        lease_token: delivery.token.0,
        lease_ms: ms(delivery.lease_ms),
        committed_at_ms: ms(delivery.at_ms),
        transaction_id: delivery.transaction.map_or(0, |id| id.as_u64()),
        dead_letter: loaded.dead_letter.as_ref().map(origin_to_wire),
    }
}

/// Where a dead letter came from, as the wire has it.
pub(crate) fn origin_to_wire(dead: &DeadLetter) -> v1::DeadLetterOrigin {
    v1::DeadLetterOrigin {
        topic: dead.topic_name.to_string(),
        offset: dead.offset.0,
        group: dead.group.to_string(),
        reason: dead.reason.as_str().to_owned(),
        error: dead.error.clone(),
        at_ms: ms(dead.at_ms),
    }
}
