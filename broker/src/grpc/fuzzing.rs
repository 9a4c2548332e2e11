//! A door for fuzzers: frames as they come off the wire, turned into what the engine is told, without a connection.
//!
//! Everything a session or a unary call does with bytes before the engine sees them happens here too, by the same
//! functions. Not for any other use.

use escrow_protocol::GroupName;
use escrow_protocol::limits::BODY_BYTES_MAX_DEFAULT;
use escrow_protocol::v1;
use escrow_protocol::v1::consumer_request::Kind as ConsumerUp;
use escrow_protocol::v1::producer_command::Command as ProducerCommand;
use escrow_protocol::v1::producer_request::Kind as ProducerUp;
use prost::Message;

use super::frames::check_entries;
use super::producer::{check_bytes, input_of};
use super::wire::fields::{Checked, name};
use super::wire::message::MessageChecks;
use super::wire::transaction::ProducerName;
use super::wire::{admin, consumer, group, transaction};
use super::{consumer_connected, producer_connected, protocol_version};
use crate::clock::{Chance, Clock};
use crate::engine::{Command, Input, Refusal, SessionId, Settle};

/// Where peers call from.
const ADDRESS: &str = "fuzzer";

/// One connection's two sessions, as far as what they say is concerned.
pub struct Wire {
    checks: MessageChecks,
    producer: Option<ProducerName>,
    consumer: Option<GroupName>,
}

/// The session of the producer.
pub const PRODUCER: SessionId = SessionId(1);
/// The session of the consumer.
pub const CONSUMER: SessionId = SessionId(2);

impl Default for Wire {
    fn default() -> Self {
        let checks = MessageChecks {
            body_bytes_max: BODY_BYTES_MAX_DEFAULT,
            clock: Clock::start(),
            chance: Chance::new(),
        };
        Self { checks, producer: None, consumer: None }
    }
}

impl Wire {
    /// What the engine is told of `message`, which is one of the kinds of message a peer may send.
    ///
    /// # Errors
    /// The refusal that the peer hears, or `None` where these bytes are no such message.
    pub fn take(&mut self, kind: u8, message: &[u8]) -> Result<Vec<Input>, Option<Refusal>> {
        let inputs = match kind % 9 {
            0 => self.producer(read(message)?),
            1 => self.consumer(read(message)?),
            2 => self.checks.message(read::<v1::PublishRequest>(message)?.message).map(one(Input::Publish)),
            3 => {
                let request: v1::SendHalfRequest = read(message)?;
                transaction::producer_name(&request.group, &request.client_id)
                    .and_then(|producer| transaction::send_half(&self.checks, producer, request))
                    .map(one(Input::SendHalf))
            }
            4 => {
                let request: v1::DecideRequest = read(message)?;
                transaction::producer_name(&request.group, &request.client_id)
                    .and_then(|producer| transaction::decide(producer, &request))
                    .map(one(Input::Decide))
            }
            5 => consumer::receiver(CONSUMER, ADDRESS.to_owned(), read(message)?)
                .map(one(Input::ConsumerConnected)),
            6 => create_topic(read(message)?).and_then(ordered),
            7 => create_group(read(message)?).and_then(ordered),
            _ => seek(read(message)?).and_then(ordered),
        };
        inputs.map_err(Some)
    }

    fn producer(&mut self, request: v1::ProducerRequest) -> Checked<Vec<Input>> {
        match (request.kind, &self.producer) {
            (Some(ProducerUp::Hello(hello)), None) => {
                let _ = protocol_version(hello.protocol_version, hello.protocol_version_min)?;
                let connected = producer_connected(PRODUCER, ADDRESS.to_owned(), hello)?;
                let (group, client) = (connected.group.clone(), connected.client.clone());
                self.producer = Some(ProducerName { group, client });
                Ok(vec![Input::ProducerConnected(connected)])
            }
            (Some(ProducerUp::Frame(frame)), Some(producer)) => {
                check_entries("commands", frame.commands.len())?;
                check_bytes(&frame)?;
                let inputs = frame.commands.into_iter().filter_map(|command| match &command.command {
                    Some(ProducerCommand::CheckAnswer(answer)) => {
                        Some(Input::CheckAnswered(transaction::check_answer(PRODUCER, answer)))
                    }
                    _ => input_of(&self.checks, producer, command).ok().map(|(input, _)| input),
                });
                Ok(inputs.collect())
            }
            _ => Err(super::hello_expected("something else came")),
        }
    }

    fn consumer(&mut self, request: v1::ConsumerRequest) -> Checked<Vec<Input>> {
        match (request.kind, &self.consumer) {
            (Some(ConsumerUp::Hello(hello)), None) => {
                let (_, connected) = consumer_connected(CONSUMER, ADDRESS.to_owned(), hello)?;
                self.consumer = Some(connected.group.clone());
                Ok(vec![Input::ConsumerConnected(connected)])
            }
            (Some(ConsumerUp::Frame(frame)), Some(group)) => {
                check_entries("settlements", frame.settlements.len())?;
                let settlements = frame.settlements.into_iter().filter_map(|settlement| {
                    let (token, verb) = consumer::settlement(settlement).ok()?;
                    Some(Input::Settle(Settle { group: group.clone(), token, verb }))
                });
                let credit = frame.credit.map(|credit| Input::Credit(consumer::credit(CONSUMER, credit)));
                Ok(settlements.chain(credit).collect())
            }
            _ => Err(super::hello_expected("something else came")),
        }
    }
}

fn read<M: Message + Default>(message: &[u8]) -> Result<M, Option<Refusal>> {
    M::decode(message).map_err(|_| None)
}

fn one<T>(input: fn(T) -> Input) -> impl FnOnce(T) -> Vec<Input> {
    move |of| vec![input(of)]
}

/// An order by somebody who does not say who.
fn ordered(command: Command) -> Checked<Vec<Input>> {
    Ok(vec![Input::Command(admin::operator(None)?, command)])
}

fn create_topic(request: v1::CreateTopicRequest) -> Checked<Command> {
    let name = name("name", &request.name)?;
    Ok(Command::CreateTopic { name, settings: group::topic_settings(request.settings)? })
}

fn create_group(request: v1::CreateGroupRequest) -> Checked<Command> {
    Ok(Command::CreateGroup {
        name: consumer::group_name("name", &request.name)?,
        subscriptions: consumer::subscriptions("subscriptions", request.subscriptions)?,
        settings: group::group_settings(request.settings)?,
        start: consumer::start(request.start, request.start_time_ms)?,
    })
}

fn seek(request: v1::SeekGroupRequest) -> Checked<Command> {
    let _ = admin::operator(request.operator)?;
    Ok(Command::Seek {
        group: consumer::group_name("group", &request.group)?,
        topic: name("topic", &request.topic)?,
        to: admin::seek_to(request.to)?,
        dry_run: request.dry_run,
    })
}
