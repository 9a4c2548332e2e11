//! What the admin service says: pages, operators and filters from the wire, checked; everything else to the wire.

use escrow_protocol::limits::{KEY_BYTES_MAX, PAGE_DEFAULT, PAGE_MAX};
use escrow_protocol::{GroupName, MessageId, Offset, Reason, v1};

use super::consumer::{group_name, origin_to_wire};
use super::fields::{Checked, key, ms, name_option, reason, time};
use super::message::{id_to_wire, message_id, message_to_wire, traced_to_wire};
use super::transaction::transaction_to_wire;
use crate::engine::{Cancelled, ClientFilter, ClientView, JobView, Moved, Refusal, SeekTo};
use crate::grpc::status::fault_of;
use crate::metrics::{Activity, Timed};
use crate::records::{Attempt, AuditVerb, DeadReason, Facets, JobKind, JobState, LetterFilter};
use crate::service::{
    AuditFilter, AuditView, DeadLetterFilter, DeadLetterView, JobResult, Operator, Page, RetryView,
    ScheduledView, Status, StoreNumbers, Trace, TraceEvent,
};

/// Which page.
pub(crate) fn page(page: Option<v1::Page>) -> Page {
    let page = page.unwrap_or_default();
    Page {
        limit: if page.limit == 0 { PAGE_DEFAULT } else { (page.limit as usize).min(PAGE_MAX) },
        cursor: Some(page.cursor).filter(|cursor| !cursor.is_empty()),
    }
}

/// Who orders something: the audit has it under a name.
///
/// # Errors
/// If the name is missing or too long.
pub(crate) fn operator(operator: Option<v1::Operator>) -> Checked<Operator> {
    let operator = operator.unwrap_or_default();
    let name = key("operator.name", operator.name)?.filter(|name| !name.trim().is_empty());
    let missing = || Refusal::invalid("operator.name", "it is missing; say who does this");
    Ok(Operator { name: name.ok_or_else(missing)?, reason: reason(operator.reason) })
}

/// Who only asks what would happen: nobody needs to know.
///
/// # Errors
/// If the name is too long.
pub(crate) fn anybody(operator: Option<v1::Operator>) -> Checked<Operator> {
    let operator = operator.unwrap_or_default();
    let name = key("operator.name", operator.name)?.unwrap_or_default();
    Ok(Operator { name, reason: reason(operator.reason) })
}

/// Who orders something that cannot be undone: says who and why.
///
/// # Errors
/// If name or reason is missing.
pub(crate) fn accountable(given: Option<v1::Operator>) -> Checked<Operator> {
    let operator = operator(given)?;
    if operator.reason.trim().is_empty() {
        return Err(Refusal::invalid("operator.reason", "it is missing; this cannot be undone: say why"));
    }
    Ok(operator)
}

/// Where a group shall be moved.
///
/// # Errors
/// If it is not said, or said in a way that means nothing.
pub(crate) fn seek_to(to: Option<v1::seek_group_request::To>) -> Checked<SeekTo> {
    use v1::seek_group_request::To;
    match to {
        Some(To::Oldest(true)) => Ok(SeekTo::Oldest),
        Some(To::Newest(true)) => Ok(SeekTo::Newest),
        Some(To::Offset(offset)) => Ok(SeekTo::Offset(Offset(offset))),
        Some(To::TimeMs(time_ms)) => time("time_ms", time_ms).map(SeekTo::Time),
        Some(To::Oldest(false) | To::Newest(false)) | None => {
            Err(Refusal::invalid("to", "it is missing; say oldest, newest, an offset or a time"))
        }
    }
}

/// Which dead letters.
///
/// # Errors
/// `InvalidField`.
pub(crate) fn dead_letter_filter(filter: Option<v1::DeadLetterFilter>) -> Checked<DeadLetterFilter> {
    let filter = filter.unwrap_or_default();
    let group = if filter.group.is_empty() { None } else { Some(group_name("filter.group", &filter.group)?) };
    if filter.offsets.len() > PAGE_MAX {
        let fault = format!("there are {}, at most {PAGE_MAX} are allowed at a time", filter.offsets.len());
        return Err(Refusal::invalid("filter.offsets", fault).with("limit", PAGE_MAX));
    }
    if group.is_none() && !filter.offsets.is_empty() {
        return Err(Refusal::invalid(
            "filter.group",
            "it is missing; offsets belong to the dead letters of a group",
        ));
    }
    let letters = LetterFilter {
        offsets: filter.offsets.into_iter().map(Offset).collect(),
        reason: match filter.reason.as_str() {
            "" => None,
            word => Some(DeadReason::of_word(word).ok_or_else(|| {
                let known: Vec<_> = DeadReason::ALL.iter().map(|reason| reason.as_str()).collect();
                Refusal::invalid("filter.reason", format!("{word:?} is not one of {}", known.join(", ")))
            })?),
        },
        key: key("filter.key", filter.key)?,
        topic: name_option("filter.topic", &filter.topic)?,
        from_ms: time("filter.from_ms", filter.from_ms)?,
        until_ms: time("filter.until_ms", filter.until_ms)?,
        error_contains: match filter.error_contains.len() {
            0 => None,
            bytes if bytes > KEY_BYTES_MAX => {
                let fault = format!("it has {bytes} bytes, at most {KEY_BYTES_MAX} are allowed");
                return Err(Refusal::invalid("filter.error_contains", fault).with("limit", KEY_BYTES_MAX));
            }
            _ => Some(filter.error_contains),
        },
    };
    let message = match filter.message_id.is_empty() {
        true => None,
        false => Some(message_id("filter.message_id", &filter.message_id)?),
    };
    Ok(DeadLetterFilter { group, message, letters })
}

fn filter_to_wire(group: &GroupName, filter: &LetterFilter) -> v1::DeadLetterFilter {
    v1::DeadLetterFilter {
        group: group.to_string(),
        offsets: filter.offsets.iter().map(|offset| offset.0).collect(),
        reason: filter.reason.map_or(String::new(), |reason| reason.as_str().to_owned()),
        key: filter.key.clone().unwrap_or_default(),
        topic: filter.topic.as_ref().map_or(String::new(), ToString::to_string),
        from_ms: ms(filter.from_ms),
        until_ms: ms(filter.until_ms),
        error_contains: filter.error_contains.clone().unwrap_or_default(),
        // A job has its message's dead letters listed instead.
        message_id: bytes::Bytes::new(),
    }
}

/// Dead letters counted, as the wire has them.
pub(crate) fn facets_to_wire(facets: Facets) -> v1::DeadLetterFacets {
    let facet = |value: &str, count| v1::DeadLetterFacet { value: value.to_owned(), count };
    v1::DeadLetterFacets {
        reasons: facets.reasons.iter().map(|(reason, count)| facet(reason.as_str(), *count)).collect(),
        topics: facets.topics.iter().map(|(topic, count)| facet(topic.as_str(), *count)).collect(),
    }
}

/// A job as the wire has it.
pub(crate) fn job_to_wire(job: JobView) -> v1::Job {
    let (plan, progress) = (&job.plan, &job.progress);
    let (kind, to_topic) = match &plan.kind {
        JobKind::Redrive => (v1::JobKind::Redrive, String::new()),
        JobKind::RedriveTo(topic) => (v1::JobKind::Redrive, topic.to_string()),
        JobKind::Discard => (v1::JobKind::Discard, String::new()),
    };
    let state = match progress.state {
        JobState::Running => v1::JobState::Running,
        JobState::Paused => v1::JobState::Paused,
        JobState::Done => v1::JobState::Done,
        JobState::Cancelled => v1::JobState::Cancelled,
        JobState::Failed => v1::JobState::Failed,
    };
    v1::Job {
        job_id: job.number,
        kind: kind.into(),
        filter: Some(filter_to_wire(&plan.group_name, &plan.filter)),
        to_topic,
        rate: plan.rate,
        dry_run: plan.dry_run,
        operator: Some(v1::Operator { name: plan.name.clone(), reason: plan.reason.clone() }),
        created_at_ms: ms(plan.at_ms),
        state: state.into(),
        total: plan.total,
        examined: progress.examined,
        done: progress.done,
        failed: progress.failed,
        left: job.left(),
        ended_at_ms: ms(progress.ended_at_ms),
        fault: progress.fault.clone(),
    }
}

/// What became of a dead letter in a job, as the wire has it.
pub(crate) fn result_to_wire(result: JobResult) -> v1::JobResult {
    let fault = result.failure.map(|failure| {
        let reason: Reason = failure.reason.parse().unwrap_or(Reason::Internal);
        fault_of(Refusal::new(reason, failure.text))
    });
    v1::JobResult {
        offset: result.offset.0,
        message_id: result.message.map(id_to_wire).unwrap_or_default(),
        fault,
        new_message_id: result.copy.map(id_to_wire).unwrap_or_default(),
    }
}

/// Which operations by hand.
///
/// # Errors
/// `InvalidField`.
pub(crate) fn audit_filter(filter: Option<v1::AuditFilter>) -> Checked<AuditFilter> {
    let filter = filter.unwrap_or_default();
    let verb = match filter.verb.as_str() {
        "" => None,
        word => Some(AuditVerb::of_word(word).ok_or_else(|| {
            let known: Vec<_> = AuditVerb::ALL.iter().map(|verb| verb.as_str()).collect();
            Refusal::invalid("filter.verb", format!("{word:?} is not one of {}", known.join(", ")))
        })?),
    };
    Ok(AuditFilter {
        name: key("filter.name", filter.name)?,
        verb,
        target: key("filter.target", filter.target)?,
        from_ms: time("filter.from_ms", filter.from_ms)?,
        until_ms: time("filter.until_ms", filter.until_ms)?,
    })
}

/// An operation by hand as the wire has it.
pub(crate) fn audit_to_wire(view: AuditView) -> v1::AuditEntry {
    let entry = view.entry;
    v1::AuditEntry {
        number: view.number,
        at_ms: ms(entry.at_ms),
        name: entry.name,
        verb: entry.verb.as_str().to_owned(),
        target: entry.target,
        reason: entry.reason,
        before: entry.before,
        after: entry.after,
    }
}

/// The broker at a glance, as the wire has it.
pub(crate) fn status_to_wire(status: Status) -> v1::GetStatusResponse {
    let engine = status.engine;
    v1::GetStatusResponse {
        ready: engine.ready(),
        version: status.version.to_owned(),
        started_at_ms: ms(status.started_at_ms),
        now_ms: ms(status.now_ms),
        shard: status.shard.0.into(),
        epoch: status.epoch.0,
        topics: engine.topics,
        groups: engine.groups,
        undecided: engine.undecided,
        waiting_for_checker: engine.waiting_for_checker,
        parked: engine.parked,
        oldest_undecided_at_ms: ms(engine.oldest_undecided_at_ms.unwrap_or(0)),
        retrying: engine.retrying,
        scheduled: engine.scheduled,
        leased: engine.leased,
        dead_letters: engine.dead_letters,
        lag: engine.lag,
        producers: engine.producers,
        consumers: engine.consumers,
        accepting: engine.accepting,
        store: Some(store_to_wire(status.store)),
        alarms_open: status.alarms.open(),
        activity: Some(activity_to_wire(status.activity)),
    }
}

fn activity_to_wire(activity: Activity) -> v1::Activity {
    let counts = activity.counts;
    v1::Activity {
        messages_published: counts.messages_published,
        transactions_prepared: counts.transactions_prepared,
        transactions_committed: counts.transactions_committed,
        transactions_rolled_back: counts.transactions_rolled_back,
        deliveries: counts.deliveries,
        redeliveries: counts.redeliveries,
        acks: counts.acks,
        nacks: counts.nacks,
        rejects: counts.rejects,
        dead_letters: counts.dead_letters,
        publish: Some(timed_to_wire(activity.publish)),
        decision: Some(timed_to_wire(activity.decision)),
        delivery: Some(timed_to_wire(activity.delivery)),
        commit: Some(timed_to_wire(activity.commit)),
    }
}

fn timed_to_wire(timed: Timed) -> v1::Timing {
    v1::Timing { bounds_us: timed.bounds, counts: timed.counts, sum_us: timed.sum }
}

/// The store's numbers as the wire has them.
pub(crate) fn store_to_wire(store: StoreNumbers) -> v1::StoreStats {
    v1::StoreStats {
        last_sequence: store.last_sequence,
        spilled_sequence: store.spilled_sequence,
        journal_files: store.journal_files,
        journal_bytes: store.journal_bytes,
        overlay_bytes: store.overlay_bytes,
        table_bytes: store.table_bytes,
        appended_bytes: store.appended_bytes,
        syncs: store.syncs,
        last_sync_us: store.last_sync_us,
        sync_p50_us: store.sync_p50_us,
        sync_p99_us: store.sync_p99_us,
        last_spill_us: store.last_spill_us,
        corrupt_records: store.corrupt_records,
        disk_free_bytes: store.disk_free_bytes,
        data_dir: store.data_dir,
        format: store.format,
    }
}

fn attempt_to_wire(attempt: Attempt) -> v1::Attempt {
    v1::Attempt {
        number: attempt.number,
        at_ms: ms(attempt.at_ms),
        kind: attempt.kind.as_str().to_owned(),
        error: attempt.error,
        client_id: attempt.client.map_or(String::new(), |client| client.to_string()),
    }
}

/// A retry as the wire has it.
pub(crate) fn retry_to_wire(retry: RetryView) -> v1::Retry {
    v1::Retry {
        group: retry.group.to_string(),
        topic: retry.topic.map_or(String::new(), |topic| topic.to_string()),
        offset: retry.offset.0,
        message_id: id_to_wire(retry.record.entry.id),
        next_attempt: retry.record.attempts_made + 1,
        max_attempts: retry.max_attempts,
        due_at_ms: ms(retry.record.due_at_ms),
        attempts: retry.record.attempts.into_iter().map(attempt_to_wire).collect(),
        key: retry.key.unwrap_or_default(),
    }
}

/// A scheduled message as the wire has it.
pub(crate) fn scheduled_to_wire(scheduled: ScheduledView) -> v1::Scheduled {
    v1::Scheduled {
        message_id: id_to_wire(scheduled.id),
        topic: scheduled.topic.map_or(String::new(), |topic| topic.to_string()),
        key: scheduled.key.unwrap_or_default(),
        deliver_at_ms: ms(scheduled.due_ms),
    }
}

/// Messages whose retries a person means.
///
/// # Errors
/// If there are none, or too many, or one is no id.
pub(crate) fn message_ids(ids: &[bytes::Bytes]) -> Checked<Vec<MessageId>> {
    const FIELD: &str = "message_ids";
    match ids.len() {
        0 => Err(Refusal::invalid(FIELD, "it is empty; say which messages")),
        count if count > PAGE_MAX => {
            let fault = format!("there are {count}, at most {PAGE_MAX} are allowed at a time");
            Err(Refusal::invalid(FIELD, fault).with("limit", PAGE_MAX))
        }
        _ => ids.iter().map(|id| message_id(FIELD, id)).collect(),
    }
}

/// The time that a scheduled message is to get.
///
/// # Errors
/// If it is missing, or is none.
pub(crate) fn new_time(deliver_at_ms: i64) -> Checked<u64> {
    const FIELD: &str = "deliver_at_ms";
    if deliver_at_ms == 0 {
        return Err(Refusal::invalid(FIELD, "it is missing; say when the message is to come"));
    }
    time(FIELD, deliver_at_ms)
}

/// What became of retries, as the wire has it.
pub(crate) fn retry_results(results: Vec<(MessageId, Result<(), Refusal>)>) -> (Vec<v1::RetryResult>, u64) {
    let done = results.iter().filter(|(_, result)| result.is_ok()).count() as u64;
    let results = results.into_iter().map(|(id, result)| v1::RetryResult {
        message_id: id_to_wire(id),
        fault: result.err().map(fault_of),
    });
    (results.collect(), done)
}

/// What became of a move, as the wire has it.
pub(crate) fn moved_to_wire(outcome: Moved) -> v1::MoveScheduledResponse {
    use v1::move_scheduled_response::Outcome;
    let outcome = match outcome {
        Moved::Moved => Outcome::Moved,
        Moved::TooLate => Outcome::TooLate,
        Moved::NotKnown => Outcome::NotKnown,
    };
    v1::MoveScheduledResponse { outcome: outcome.into() }
}

/// What became of a cancel, as the wire has it.
pub(crate) fn cancelled_to_wire(outcome: Cancelled) -> v1::CancelScheduledResponse {
    use v1::cancel_scheduled_response::Outcome;
    let outcome = match outcome {
        Cancelled::Cancelled => Outcome::Cancelled,
        Cancelled::TooLate => Outcome::TooLate,
        Cancelled::NotKnown => Outcome::NotKnown,
    };
    v1::CancelScheduledResponse { outcome: outcome.into() }
}

/// A dead letter as the wire has it.
pub(crate) fn dead_letter_to_wire(dead: DeadLetterView) -> v1::DeadLetter {
    let origin = origin_to_wire(&dead.record);
    v1::DeadLetter {
        group: dead.record.group.to_string(),
        offset: dead.offset.0,
        origin: Some(origin),
        message: dead.message.map(message_to_wire),
        redrives: dead.record.redrives,
        attempts_made: dead.record.attempts_made,
        body_bytes: dead.body_bytes,
        attempts: dead.record.attempts.into_iter().map(attempt_to_wire).collect(),
    }
}

/// The life of a message as the wire has it.
pub(crate) fn trace_to_wire(trace: Trace) -> v1::TraceMessageResponse {
    v1::TraceMessageResponse {
        message: Some(traced_to_wire(trace.message)),
        transaction: trace.transaction.map(transaction_to_wire),
        events: trace.events.into_iter().map(event_to_wire).collect(),
    }
}

/// What happened, as the wire has it.
pub(crate) fn event_to_wire(event: TraceEvent) -> v1::TraceEvent {
    v1::TraceEvent {
        at_ms: ms(event.at_ms),
        event: event.event.to_owned(),
        group: event.group.map_or(String::new(), |group| group.to_string()),
        text: event.text,
        attempt: event.attempt,
        who: event.who,
        detail: event.detail,
    }
}

/// Which clients.
///
/// # Errors
/// `InvalidField`.
pub(crate) fn client_filter(request: v1::ListClientsRequest) -> Checked<ClientFilter> {
    Ok(ClientFilter {
        consumer: match request.role.as_str() {
            "" => None,
            "consumer" => Some(true),
            "producer" => Some(false),
            other => {
                return Err(Refusal::invalid("role", format!("{other:?} is not one of producer, consumer")));
            }
        },
        group: name_option("group", &request.group)?,
        name: key("client_id", request.client_id)?,
    })
}

/// A client as the wire has it.
pub(crate) fn client_to_wire(client: ClientView) -> v1::ClientConnection {
    v1::ClientConnection {
        client_id: client.client.to_string(),
        role: if client.consumer { "consumer" } else { "producer" }.to_owned(),
        group: client.group.to_string(),
        check_kinds: client.kinds.iter().map(ToString::to_string).collect(),
        connected_at_ms: ms(client.connected_at_ms),
        address: client.address,
        leased: client.leased,
        credit_messages: client.credit_messages,
    }
}
