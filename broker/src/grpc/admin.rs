//! The admin service: one arm for each call, thin: check, ask the service, word the answer.

use std::pin::Pin;

use escrow_protocol::v1;
use escrow_protocol::v1::admin_service_server::AdminService;
use escrow_protocol::{GroupName, Offset};
use futures::{Stream, StreamExt as _};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::status::status_of;
use super::wire::admin as wire;
use super::wire::alarm::{alarm_to_wire, rules_to_wire};
use super::wire::consumer::{group_name, start, subscriptions};
use super::wire::fields::{Checked, key, name, name_option};
use super::wire::group::{group_settings, group_to_wire, topic_settings, topic_to_wire};
use super::wire::message::{message_id, stored_to_wire, traced_to_wire};
use super::wire::transaction::{decision, transaction_id, transaction_to_wire, which};
use super::{Edge, answer};
use crate::engine::{Command, GroupView, JobOrder, Refusal};
use crate::records::JobKind;
use crate::service::{DeadLetterFilter, Operator, RetryMatching, ScheduledMatching, Service, Whose};

/// See the module.
pub(super) struct Admin {
    pub(super) edge: Edge,
    pub(super) service: Service,
}

type Answer<T> = Result<Response<T>, Status>;
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Admin {
    fn group(&self, group: GroupView) -> v1::Group {
        group_to_wire(group, self.edge.clock.now().unix_ms)
    }

    async fn set_paused(
        &self,
        name: &str,
        paused: bool,
        operator: Option<v1::Operator>,
    ) -> Answer<v1::Group> {
        let name = self.edge.checked(group_name("name", name))?;
        let operator = self.edge.checked(wire::operator(operator))?;
        let command = Command::SetPaused { name, paused };
        answer(self.service.change_group(command, operator).await.map(|group| self.group(group)))
    }

    async fn start_job(
        &self,
        filter: Option<v1::DeadLetterFilter>,
        kind: JobKind,
        rate: u32,
        dry_run: bool,
        operator: Operator,
    ) -> Answer<v1::Job> {
        let (filter, group) = self.edge.checked(wire::dead_letter_filter(filter).and_then(of_one_group))?;
        let letters = self.service.filter_of_job(filter).await.map_err(status_of)?;
        let job = self.service.start_job((group, kind, letters), rate, dry_run, operator).await;
        answer(job.map(wire::job_to_wire))
    }

    async fn order_job(
        &self,
        number: u64,
        order: JobOrder,
        operator: Option<v1::Operator>,
    ) -> Answer<v1::Job> {
        let operator = self.edge.checked(wire::operator(operator))?;
        answer(self.service.order_job(number, order, operator).await.map(wire::job_to_wire))
    }
}

fn of_one_group(filter: DeadLetterFilter) -> Checked<(DeadLetterFilter, GroupName)> {
    match filter.group.clone() {
        Some(group) => Ok((filter, group)),
        None => Err(Refusal::invalid("filter.group", "it is missing; say whose dead letters")),
    }
}

/// What cannot be undone asks for a name and a reason, unless it is only tried.
fn accountable_unless(dry_run: bool, operator: Option<v1::Operator>) -> Checked<Operator> {
    if dry_run { wire::anybody(operator) } else { wire::accountable(operator) }
}

/// What can be undone asks for a name, unless it is only tried.
fn named_unless(dry_run: bool, operator: Option<v1::Operator>) -> Checked<Operator> {
    if dry_run { wire::anybody(operator) } else { wire::operator(operator) }
}

/// A page, worded.
fn paged<T, U>(paged: crate::service::Paged<T>, each: impl FnMut(T) -> U) -> (Vec<U>, String) {
    let paged = paged.map(each);
    (paged.items, paged.next.unwrap_or_default())
}

#[tonic::async_trait]
impl AdminService for Admin {
    type BackupStoreStream = Answers<v1::BackupChunk>;
    type ExportDeadLettersStream = Answers<v1::DeadLetter>;
    type ExportAuditStream = Answers<v1::AuditEntry>;

    async fn get_status(&self, _: Request<v1::GetStatusRequest>) -> Answer<v1::GetStatusResponse> {
        answer(self.service.status().await.map(wire::status_to_wire))
    }

    async fn create_topic(&self, request: Request<v1::CreateTopicRequest>) -> Answer<v1::Topic> {
        let request = request.into_inner();
        let name = self.edge.checked(name("name", &request.name))?;
        let settings = self.edge.checked(topic_settings(request.settings))?;
        let operator = self.edge.checked(wire::operator(request.operator))?;
        answer(self.service.create_topic(name, settings, operator).await.map(topic_to_wire))
    }

    async fn update_topic(&self, request: Request<v1::UpdateTopicRequest>) -> Answer<v1::Topic> {
        let request = request.into_inner();
        let name = self.edge.checked(name("name", &request.name))?;
        // Absent settings are not given, and so not replaced.
        let Some(settings) = request.settings else {
            return answer(self.service.topic(name).await.map(topic_to_wire));
        };
        let operator = self.edge.checked(wire::operator(request.operator))?;
        let settings = self.edge.checked(topic_settings(Some(settings)))?;
        answer(self.service.update_topic(name, settings, operator).await.map(topic_to_wire))
    }

    async fn delete_topic(
        &self,
        request: Request<v1::DeleteTopicRequest>,
    ) -> Answer<v1::DeleteTopicResponse> {
        let request = request.into_inner();
        let name = self.edge.checked(name("name", &request.name))?;
        let operator = self.edge.checked(wire::accountable(request.operator))?;
        let deleted = self.service.delete_topic(name, request.force, operator).await;
        answer(deleted.map(|messages| v1::DeleteTopicResponse { messages }))
    }

    async fn get_topic(&self, request: Request<v1::GetTopicRequest>) -> Answer<v1::Topic> {
        let name = self.edge.checked(name("name", &request.into_inner().name))?;
        answer(self.service.topic(name).await.map(topic_to_wire))
    }

    async fn list_topics(&self, request: Request<v1::ListTopicsRequest>) -> Answer<v1::ListTopicsResponse> {
        let request = request.into_inner();
        let page = wire::page(request.page);
        let topics = self.service.topics(page, request.prefix, request.dead_letter_topics).await;
        answer(topics.map(|page| {
            let (topics, next_cursor) = paged(page, topic_to_wire);
            v1::ListTopicsResponse { topics, next_cursor }
        }))
    }

    async fn create_group(&self, request: Request<v1::CreateGroupRequest>) -> Answer<v1::Group> {
        let request = request.into_inner();
        let checked = || {
            Ok(Command::CreateGroup {
                name: group_name("name", &request.name)?,
                subscriptions: subscriptions("subscriptions", request.subscriptions)?,
                settings: group_settings(request.settings)?,
                start: start(request.start, request.start_time_ms)?,
            })
        };
        let command = self.edge.checked(checked())?;
        let operator = self.edge.checked(wire::operator(request.operator))?;
        let group = self.service.change_group(command, operator).await;
        answer(group.map(|group| self.group(group)))
    }

    async fn update_group(&self, request: Request<v1::UpdateGroupRequest>) -> Answer<v1::Group> {
        let request = request.into_inner();
        let checked = || {
            let unsubscribe = request.unsubscribe.iter().map(|topic| name("unsubscribe", topic));
            Ok(Command::UpdateGroup {
                name: group_name("name", &request.name)?,
                settings: group_settings(request.settings)?,
                subscriptions: subscriptions("subscriptions", request.subscriptions)?,
                unsubscribe: unsubscribe.collect::<Checked<_>>()?,
                start: start(request.start, request.start_time_ms)?,
            })
        };
        let command = self.edge.checked(checked())?;
        let operator = self.edge.checked(wire::operator(request.operator))?;
        answer(self.service.change_group(command, operator).await.map(|group| self.group(group)))
    }

    async fn delete_group(
        &self,
        request: Request<v1::DeleteGroupRequest>,
    ) -> Answer<v1::DeleteGroupResponse> {
        let request = request.into_inner();
        let name = self.edge.checked(group_name("name", &request.name))?;
        let operator = self.edge.checked(wire::accountable(request.operator))?;
        let deleted = self.service.delete_group(name, request.force, operator).await;
        answer(deleted.map(|(retries, dead_letters)| v1::DeleteGroupResponse { retries, dead_letters }))
    }

    async fn get_group(&self, request: Request<v1::GetGroupRequest>) -> Answer<v1::Group> {
        let name = self.edge.checked(group_name("name", &request.into_inner().name))?;
        answer(self.service.group(name).await.map(|group| self.group(group)))
    }

    async fn list_groups(&self, request: Request<v1::ListGroupsRequest>) -> Answer<v1::ListGroupsResponse> {
        let request = request.into_inner();
        let groups = self.service.groups(wire::page(request.page), request.prefix).await;
        answer(groups.map(|page| {
            let (groups, next_cursor) = paged(page, |group| self.group(group));
            v1::ListGroupsResponse { groups, next_cursor }
        }))
    }

    async fn pause_group(&self, request: Request<v1::PauseGroupRequest>) -> Answer<v1::Group> {
        let request = request.into_inner();
        self.set_paused(&request.name, true, request.operator).await
    }

    async fn resume_group(&self, request: Request<v1::ResumeGroupRequest>) -> Answer<v1::Group> {
        let request = request.into_inner();
        self.set_paused(&request.name, false, request.operator).await
    }

    async fn seek_group(&self, request: Request<v1::SeekGroupRequest>) -> Answer<v1::SeekGroupResponse> {
        let request = request.into_inner();
        let group = self.edge.checked(group_name("group", &request.group))?;
        let topic = self.edge.checked(name("topic", &request.topic))?;
        let to = self.edge.checked(wire::seek_to(request.to))?;
        let operator = self.edge.checked(named_unless(request.dry_run, request.operator))?;
        let sought = self.service.seek(group, topic, to, request.dry_run, operator).await;
        answer(sought.map(|sought| v1::SeekGroupResponse {
            from_offset: sought.from.0,
            to_offset: sought.to.0,
            replayed: sought.replayed,
            skipped: sought.skipped,
            dry_run: request.dry_run,
        }))
    }

    async fn list_transactions(
        &self,
        request: Request<v1::ListTransactionsRequest>,
    ) -> Answer<v1::ListTransactionsResponse> {
        let request = request.into_inner();
        let which = self.edge.checked(which(request.filter))?;
        let checked = || {
            Ok(Whose {
                group: name_option("group", &request.group)?,
                kind: name_option("kind", &request.kind)?,
                key: key("key", request.key)?,
            })
        };
        let whose = self.edge.checked(checked())?;
        let transactions = self.service.transactions(which, whose, wire::page(request.page)).await;
        answer(transactions.map(|page| {
            let (transactions, next_cursor) = paged(page, transaction_to_wire);
            v1::ListTransactionsResponse { transactions, next_cursor }
        }))
    }

    async fn get_transaction(&self, request: Request<v1::GetTransactionRequest>) -> Answer<v1::Transaction> {
        let id = self.edge.checked(transaction_id(request.into_inner().transaction_id))?;
        let found = self.service.transaction(id).await.map_err(status_of)?;
        answer(self.service.transaction_events(&found).await.map(|events| {
            let events = events.into_iter().map(wire::event_to_wire).collect();
            v1::Transaction { events, ..transaction_to_wire(found) }
        }))
    }

    async fn check_transaction(
        &self,
        request: Request<v1::CheckTransactionRequest>,
    ) -> Answer<v1::Transaction> {
        let request = request.into_inner();
        let id = self.edge.checked(transaction_id(request.transaction_id))?;
        let operator = self.edge.checked(wire::operator(request.operator))?;
        answer(self.service.check_now(id, operator).await.map(transaction_to_wire))
    }

    async fn decide_transaction(
        &self,
        request: Request<v1::DecideTransactionRequest>,
    ) -> Answer<v1::Transaction> {
        let request = request.into_inner();
        let id = self.edge.checked(transaction_id(request.transaction_id))?;
        let decision = self.edge.checked(decision(request.decision))?;
        let operator = self.edge.checked(wire::accountable(request.operator))?;
        answer(self.service.decide_by_hand(id, decision, operator).await.map(transaction_to_wire))
    }

    async fn resume_transaction(
        &self,
        request: Request<v1::ResumeTransactionRequest>,
    ) -> Answer<v1::Transaction> {
        let request = request.into_inner();
        let id = self.edge.checked(transaction_id(request.transaction_id))?;
        let operator = self.edge.checked(wire::operator(request.operator))?;
        answer(self.service.resume_transaction(id, operator).await.map(transaction_to_wire))
    }

    async fn list_retries(
        &self,
        request: Request<v1::ListRetriesRequest>,
    ) -> Answer<v1::ListRetriesResponse> {
        let request = request.into_inner();
        let checked = || {
            let matching = RetryMatching {
                topic: name_option("topic", &request.topic)?,
                attempt_min: request.attempt_min,
                key: key("key", request.key)?,
            };
            Ok((group_name("group", &request.group)?, matching))
        };
        let (group, matching) = self.edge.checked(checked())?;
        answer(self.service.retries(group, matching, wire::page(request.page)).await.map(|page| {
            let (retries, next_cursor) = paged(page, wire::retry_to_wire);
            v1::ListRetriesResponse { retries, next_cursor }
        }))
    }

    async fn run_retries(&self, request: Request<v1::RunRetriesRequest>) -> Answer<v1::RunRetriesResponse> {
        let request = request.into_inner();
        let group = self.edge.checked(group_name("group", &request.group))?;
        let ids = self.edge.checked(wire::message_ids(&request.message_ids))?;
        let operator = self.edge.checked(wire::operator(request.operator))?;
        answer(self.service.run_retries(group, ids, operator).await.map(|results| {
            let (results, done) = wire::retry_results(results);
            v1::RunRetriesResponse { results, done }
        }))
    }

    async fn give_up_retries(
        &self,
        request: Request<v1::GiveUpRetriesRequest>,
    ) -> Answer<v1::GiveUpRetriesResponse> {
        let request = request.into_inner();
        let group = self.edge.checked(group_name("group", &request.group))?;
        let ids = self.edge.checked(wire::message_ids(&request.message_ids))?;
        let operator = self.edge.checked(wire::accountable(request.operator))?;
        answer(self.service.give_up_retries(group, ids, operator).await.map(|results| {
            let (results, done) = wire::retry_results(results);
            v1::GiveUpRetriesResponse { results, done }
        }))
    }

    async fn list_scheduled(
        &self,
        request: Request<v1::ListScheduledRequest>,
    ) -> Answer<v1::ListScheduledResponse> {
        let request = request.into_inner();
        let checked = || {
            Ok(ScheduledMatching {
                topic: name_option("topic", &request.topic)?,
                key: key("key", request.key)?,
            })
        };
        let matching = self.edge.checked(checked())?;
        answer(self.service.scheduled(matching, wire::page(request.page)).await.map(|page| {
            let (scheduled, next_cursor) = paged(page, wire::scheduled_to_wire);
            v1::ListScheduledResponse { scheduled, next_cursor }
        }))
    }

    async fn cancel_scheduled(
        &self,
        request: Request<v1::CancelScheduledRequest>,
    ) -> Answer<v1::CancelScheduledResponse> {
        let request = request.into_inner();
        let id = self.edge.checked(message_id("message_id", &request.message_id))?;
        let operator = self.edge.checked(wire::operator(request.operator))?;
        answer(self.service.cancel_scheduled(id, operator).await.map(wire::cancelled_to_wire))
    }

    async fn move_scheduled(
        &self,
        request: Request<v1::MoveScheduledRequest>,
    ) -> Answer<v1::MoveScheduledResponse> {
        let request = request.into_inner();
        let id = self.edge.checked(message_id("message_id", &request.message_id))?;
        let deliver_at_ms = self.edge.checked(wire::new_time(request.deliver_at_ms))?;
        let operator = self.edge.checked(wire::operator(request.operator))?;
        answer(self.service.move_scheduled(id, deliver_at_ms, operator).await.map(wire::moved_to_wire))
    }

    async fn list_dead_letters(
        &self,
        request: Request<v1::ListDeadLettersRequest>,
    ) -> Answer<v1::ListDeadLettersResponse> {
        let request = request.into_inner();
        let filter = self.edge.checked(wire::dead_letter_filter(request.filter))?;
        answer(self.service.dead_letters(filter, wire::page(request.page)).await.map(|page| {
            let (dead_letters, next_cursor) = paged(page, wire::dead_letter_to_wire);
            v1::ListDeadLettersResponse { dead_letters, next_cursor }
        }))
    }

    async fn get_dead_letter(&self, request: Request<v1::GetDeadLetterRequest>) -> Answer<v1::DeadLetter> {
        let request = request.into_inner();
        let group = self.edge.checked(group_name("group", &request.group))?;
        answer(self.service.dead_letter(group, Offset(request.offset)).await.map(wire::dead_letter_to_wire))
    }

    async fn get_dead_letter_facets(
        &self,
        request: Request<v1::GetDeadLetterFacetsRequest>,
    ) -> Answer<v1::DeadLetterFacets> {
        let group = self.edge.checked(group_name("group", &request.into_inner().group))?;
        answer(self.service.dead_letter_facets(group).await.map(wire::facets_to_wire))
    }

    async fn redrive_dead_letters(&self, request: Request<v1::RedriveDeadLettersRequest>) -> Answer<v1::Job> {
        let request = request.into_inner();
        let to = self.edge.checked(super::wire::fields::name_option("to_topic", &request.to_topic))?;
        let operator = self.edge.checked(named_unless(request.dry_run, request.operator))?;
        let kind = to.map_or(JobKind::Redrive, JobKind::RedriveTo);
        self.start_job(request.filter, kind, request.rate, request.dry_run, operator).await
    }

    async fn discard_dead_letters(&self, request: Request<v1::DiscardDeadLettersRequest>) -> Answer<v1::Job> {
        let request = request.into_inner();
        let operator = self.edge.checked(accountable_unless(request.dry_run, request.operator))?;
        self.start_job(request.filter, JobKind::Discard, 0, request.dry_run, operator).await
    }

    async fn edit_dead_letter(
        &self,
        request: Request<v1::EditDeadLetterRequest>,
    ) -> Answer<v1::EditDeadLetterResponse> {
        let request = request.into_inner();
        let group = self.edge.checked(group_name("group", &request.group))?;
        let to = self.edge.checked(super::wire::fields::name_option("to_topic", &request.to_topic))?;
        let replaced = request.replace_headers.then_some(request.headers);
        let edit = self.edge.checked(self.edge.checks.edit(request.body, replaced))?;
        let operator = self.edge.checked(accountable_unless(request.dry_run, request.operator))?;
        let edited = self.service.edit_dead_letter(
            (group, Offset(request.offset)),
            to,
            edit,
            request.dry_run,
            operator,
        );
        answer(edited.await.map(|(copy, topic)| v1::EditDeadLetterResponse {
            message_id: super::wire::message::id_to_wire(copy),
            topic: topic.to_string(),
        }))
    }

    async fn export_dead_letters(
        &self,
        request: Request<v1::ExportDeadLettersRequest>,
    ) -> Answer<Self::ExportDeadLettersStream> {
        let request = request.into_inner();
        let filter = self.edge.checked(wire::dead_letter_filter(request.filter))?;
        let operator = self.edge.checked(wire::operator(request.operator))?;
        let letters = self.service.export_dead_letters(filter, operator).await.map_err(status_of)?;
        let letters = letters.map(|dead| dead.map(wire::dead_letter_to_wire).map_err(status_of));
        Ok(Response::new(Box::pin(letters)))
    }

    async fn export_audit(
        &self,
        request: Request<v1::ExportAuditRequest>,
    ) -> Answer<Self::ExportAuditStream> {
        let request = request.into_inner();
        let filter = self.edge.checked(wire::audit_filter(request.filter))?;
        let operator = self.edge.checked(wire::operator(request.operator))?;
        let entries = self.service.export_audit(filter, operator).await.map_err(status_of)?;
        let entries = entries.map(|entry| entry.map(wire::audit_to_wire).map_err(status_of));
        Ok(Response::new(Box::pin(entries)))
    }

    async fn list_jobs(&self, request: Request<v1::ListJobsRequest>) -> Answer<v1::ListJobsResponse> {
        answer(self.service.jobs(wire::page(request.into_inner().page)).await.map(|page| {
            let (jobs, next_cursor) = paged(page, wire::job_to_wire);
            v1::ListJobsResponse { jobs, next_cursor }
        }))
    }

    async fn get_job(&self, request: Request<v1::GetJobRequest>) -> Answer<v1::GetJobResponse> {
        let request = request.into_inner();
        let job = self.service.job(request.job_id).await.map_err(status_of)?;
        answer(
            self.service
                .job_results(request.job_id, request.refused_only, wire::page(request.page))
                .await
                .map(|page| {
                    let (results, next_cursor) = paged(page, wire::result_to_wire);
                    v1::GetJobResponse { job: Some(wire::job_to_wire(job)), results, next_cursor }
                }),
        )
    }

    async fn pause_job(&self, request: Request<v1::PauseJobRequest>) -> Answer<v1::Job> {
        let request = request.into_inner();
        self.order_job(request.job_id, JobOrder::Pause, request.operator).await
    }

    async fn resume_job(&self, request: Request<v1::ResumeJobRequest>) -> Answer<v1::Job> {
        let request = request.into_inner();
        self.order_job(request.job_id, JobOrder::Resume, request.operator).await
    }

    async fn cancel_job(&self, request: Request<v1::CancelJobRequest>) -> Answer<v1::Job> {
        let request = request.into_inner();
        self.order_job(request.job_id, JobOrder::Cancel, request.operator).await
    }

    async fn list_audit(&self, request: Request<v1::ListAuditRequest>) -> Answer<v1::ListAuditResponse> {
        let request = request.into_inner();
        let filter = self.edge.checked(wire::audit_filter(request.filter))?;
        answer(self.service.audit(filter, wire::page(request.page)).await.map(|page| {
            let (entries, next_cursor) = paged(page, wire::audit_to_wire);
            v1::ListAuditResponse { entries, next_cursor }
        }))
    }

    async fn list_alarms(&self, request: Request<v1::ListAlarmsRequest>) -> Answer<v1::ListAlarmsResponse> {
        let request = request.into_inner();
        answer(self.service.list_alarms(!request.all, wire::page(request.page)).await.map(|page| {
            let (alarms, next_cursor) = paged(page, alarm_to_wire);
            v1::ListAlarmsResponse { alarms, next_cursor }
        }))
    }

    async fn get_alarm(&self, request: Request<v1::GetAlarmRequest>) -> Answer<v1::Alarm> {
        answer(self.service.alarm(request.into_inner().alarm_id).await.map(alarm_to_wire))
    }

    async fn acknowledge_alarm(&self, request: Request<v1::AcknowledgeAlarmRequest>) -> Answer<v1::Alarm> {
        let request = request.into_inner();
        let operator = self.edge.checked(wire::operator(request.operator))?;
        answer(self.service.acknowledge_alarm(request.alarm_id, operator).await.map(alarm_to_wire))
    }

    async fn list_alarm_rules(
        &self,
        _: Request<v1::ListAlarmRulesRequest>,
    ) -> Answer<v1::ListAlarmRulesResponse> {
        let rules = self.service.alarm_rules();
        let standing = self.service.alarms().standing();
        let sinks = self.service.alarm_sinks().await;
        answer(Ok(rules_to_wire(rules, &standing, sinks)))
    }

    async fn test_alarm_sink(
        &self,
        request: Request<v1::TestAlarmSinkRequest>,
    ) -> Answer<v1::TestAlarmSinkResponse> {
        let request = request.into_inner();
        let operator = self.edge.checked(wire::operator(request.operator))?;
        answer(self.service.test_alarm_sink(&request.name, operator).await.map(|fault| {
            v1::TestAlarmSinkResponse { taken: fault.is_none(), fault: fault.unwrap_or_default() }
        }))
    }

    async fn get_message(&self, request: Request<v1::GetMessageRequest>) -> Answer<v1::StoredMessage> {
        let id = self.edge.checked(message_id("message_id", &request.into_inner().message_id))?;
        answer(self.service.message(id).await.map(stored_to_wire))
    }

    async fn find_messages(
        &self,
        request: Request<v1::FindMessagesRequest>,
    ) -> Answer<v1::FindMessagesResponse> {
        let request = request.into_inner();
        let missing = || Refusal::invalid("key", "it is missing; say which business key");
        let key = self.edge.checked(key("key", request.key).and_then(|key| key.ok_or_else(missing)))?;
        answer(self.service.find_messages(key, wire::page(request.page)).await.map(|page| {
            let (messages, next_cursor) = paged(page, traced_to_wire);
            v1::FindMessagesResponse { messages, next_cursor }
        }))
    }

    async fn trace_message(
        &self,
        request: Request<v1::TraceMessageRequest>,
    ) -> Answer<v1::TraceMessageResponse> {
        let id = self.edge.checked(message_id("message_id", &request.into_inner().message_id))?;
        answer(self.service.trace(id).await.map(wire::trace_to_wire))
    }

    async fn list_clients(
        &self,
        request: Request<v1::ListClientsRequest>,
    ) -> Answer<v1::ListClientsResponse> {
        let request = request.into_inner();
        let page = wire::page(request.page.clone());
        let filter = self.edge.checked(wire::client_filter(request))?;
        answer(self.service.clients(filter, page).await.map(|page| {
            let (clients, next_cursor) = paged(page, wire::client_to_wire);
            v1::ListClientsResponse { clients, next_cursor }
        }))
    }

    async fn get_store_stats(&self, _: Request<v1::GetStoreStatsRequest>) -> Answer<v1::StoreStats> {
        answer(self.service.store_numbers().await.map(wire::store_to_wire))
    }

    async fn verify_store(
        &self,
        request: Request<v1::VerifyStoreRequest>,
    ) -> Answer<v1::VerifyStoreResponse> {
        let operator = self.edge.checked(wire::operator(request.into_inner().operator))?;
        answer(self.service.verify_store(operator).await.map(|found| v1::VerifyStoreResponse {
            sound: found.faults.is_empty(),
            records: found.records,
            faults: found.faults,
        }))
    }

    async fn backup_store(
        &self,
        request: Request<v1::BackupStoreRequest>,
    ) -> Answer<Self::BackupStoreStream> {
        let operator = self.edge.checked(wire::operator(request.into_inner().operator))?;
        let pieces = self.service.backup_store(operator).await.map_err(status_of)?;
        let pieces = ReceiverStream::new(pieces)
            .map(|piece| piece.map(|data| v1::BackupChunk { data }).map_err(status_of));
        Ok(Response::new(Box::pin(pieces)))
    }
}
