//! A producer's session: commands up, results and questions down.

use std::sync::Arc;

use escrow_protocol::v1;
use escrow_protocol::v1::producer_command::Command;
use escrow_protocol::v1::producer_request::Kind as Up;
use escrow_protocol::v1::producer_response::Kind as Down;
use tonic::Streaming;

use crate::dispatch::{Loaded, Outbox, Parcel, Ticket};
use crate::engine::{Input, ProducerConnected, Refusal, SessionId};
use crate::grpc::frames::{FrameSender, HELLO_WAIT, broken, check_entries};
use crate::grpc::session::{Ending, ReadEnd, Wording, conduct, leave};
use crate::grpc::wire::message::MessageChecks;
use crate::grpc::wire::transaction::{self, ProducerName};
use crate::grpc::wire::{fields, results};
use crate::grpc::{Edge, hello_expected, protocol_version};

/// Most bytes of bodies in a frame of more than one command.
const FRAME_BODY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Runs a session from its hello to its end.
pub(super) async fn run(
    edge: Edge,
    address: String,
    mut requests: Streaming<v1::ProducerRequest>,
    frames: FrameSender<v1::ProducerResponse>,
) {
    let hello = tokio::select! {
        // Nothing was promised yet: what the losing arm had read is not missed.
        () = edge.stopping.cancelled() => return frames.fail(crate::driver::stopping()).await,
        hello = first_frame(&mut requests) => hello,
    };
    let outbox = edge.sessions.open();
    let connected = hello.and_then(|hello| {
        let version = protocol_version(hello.protocol_version, hello.protocol_version_min)?;
        Ok((version, connected(outbox.id(), address, hello)?))
    });
    match edge.counted(connected) {
        Ok((version, connected)) => welcome(&edge, &outbox, version, connected, requests, &frames).await,
        Err(refusal) => {
            edge.sessions.forget(outbox.id());
            frames.fail(refusal).await;
        }
    }
}

async fn first_frame(requests: &mut Streaming<v1::ProducerRequest>) -> Result<v1::ProducerHello, Refusal> {
    match tokio::time::timeout(HELLO_WAIT, requests.message()).await {
        Ok(Ok(Some(v1::ProducerRequest { kind: Some(Up::Hello(hello)) }))) => Ok(hello),
        Ok(Ok(Some(_))) => Err(hello_expected("the first frame was something else")),
        Ok(Ok(None) | Err(_)) => Err(hello_expected("the stream ended without one")),
        Err(_) => Err(hello_expected("none came in time")),
    }
}

/// Who a producer says it is.
pub(in crate::grpc) fn connected(
    session: SessionId,
    address: String,
    hello: v1::ProducerHello,
) -> Result<ProducerConnected, Refusal> {
    let producer = transaction::producer_name(&hello.group, &hello.client_id)?;
    let kinds = transaction::check_kinds(&hello.check_kinds)?;
    let ProducerName { group, client } = producer;
    Ok(ProducerConnected { session, client, group, kinds, address })
}

async fn welcome(
    edge: &Edge,
    outbox: &Arc<Outbox>,
    version: u32,
    connected: ProducerConnected,
    requests: Streaming<v1::ProducerRequest>,
    frames: &FrameSender<v1::ProducerResponse>,
) {
    let producer = ProducerName { group: connected.group.clone(), client: connected.client.clone() };
    tracing::debug!(client_id = %producer.client, group = %producer.group, "producer connected");
    let mut ending = Ending::Lost;
    match edge.engine.ask(Input::ProducerConnected(connected)).await {
        Ok(_) => {
            let welcome = v1::ProducerWelcome {
                protocol_version: version,
                broker_version: env!("CARGO_PKG_VERSION").to_owned(),
                body_bytes_max: edge.checks.body_bytes_max as u64,
            };
            if frames.send(down(Down::Welcome(welcome)), None).await.is_ok() {
                let wording =
                    Wording { frame: results_frame, goodbye: |goodbye| down(Down::Goodbye(goodbye)) };
                ending =
                    conduct(edge, outbox, frames, wording, read(edge, outbox, &producer, requests)).await;
            }
        }
        Err(refusal) => frames.fail(refusal).await,
    }
    leave(edge, outbox, ending).await;
}

fn down(kind: Down) -> v1::ProducerResponse {
    v1::ProducerResponse { kind: Some(kind) }
}

fn results_frame(loaded: Loaded) -> Option<v1::ProducerResponse> {
    let answers = loaded.answers.into_iter();
    let results: Vec<_> =
        answers.filter_map(|(ticket, outcome)| results::producer_result(ticket, outcome)).collect();
    let questions: Vec<_> = loaded.questions.into_iter().map(transaction::question_to_wire).collect();
    let empty = results.is_empty() && questions.is_empty();
    (!empty).then(|| down(Down::Frame(v1::ProducerResults { results, questions })))
}

async fn read(
    edge: &Edge,
    outbox: &Arc<Outbox>,
    producer: &ProducerName,
    mut requests: Streaming<v1::ProducerRequest>,
) -> ReadEnd {
    loop {
        // Cancel-safe: a frame is read whole or stays in the stream.
        let request = tokio::select! {
            () = edge.stopping.cancelled() => return ReadEnd::Stopping,
            request = requests.message() => request,
        };
        let taken = match request {
            Ok(Some(v1::ProducerRequest { kind: Some(Up::Frame(frame)) })) => {
                take_frame(edge, outbox, producer, frame).await
            }
            Ok(Some(v1::ProducerRequest { kind: Some(Up::Hello(_)) })) => {
                Err(hello_expected("a second one came"))
            }
            Ok(Some(v1::ProducerRequest { kind: None })) => Err(Refusal::invalid(
                "kind",
                "the frame is neither a hello nor commands, or newer than this broker",
            )),
            Ok(None) => return ReadEnd::Finished,
            Err(status) => return broken(&status),
        };
        let had_room = match edge.counted(taken) {
            Ok(had_room) => had_room,
            Err(refusal) => return ReadEnd::Refused(refusal),
        };
        // Whoever was told to come back later is not read before there is room again: to read, check and refuse what
        // somebody goes on to send would take the time from what is done. HTTP/2 holds that meanwhile, with its sender.
        let room = async {
            outbox.room().await;
            if !had_room {
                edge.engine.relieved().await;
            }
        };
        // Cancel-safe: nothing is under way while waiting for room.
        tokio::select! {
            () = edge.stopping.cancelled() => return ReadEnd::Stopping,
            () = room => {}
        }
    }
}

/// Hands a frame's commands to the engine, in order; whether there was room for all of them. A command that does not pass is
/// answered; the stream goes on.
async fn take_frame(
    edge: &Edge,
    outbox: &Arc<Outbox>,
    producer: &ProducerName,
    frame: v1::ProducerFrame,
) -> Result<bool, Refusal> {
    check_entries("commands", frame.commands.len())?;
    check_bytes(&frame)?;
    let mut had_room = true;
    let mut commands = Vec::with_capacity(frame.commands.len());
    for command in frame.commands {
        if let Some(Command::CheckAnswer(answer)) = &command.command {
            had_room &= submit(edge, outbox, std::mem::take(&mut commands));
            let answered = transaction::check_answer(outbox.id(), answer);
            edge.engine.tell(Input::CheckAnswered(answered)).await;
            continue;
        }
        let correlation = command.correlation;
        match edge.counted(input_of(&edge.checks, producer, command)) {
            Ok(pair) => commands.push(pair),
            Err(refusal) => {
                outbox.owe(1);
                // Any ticket with the correlation words a refusal alike.
                outbox.post([Parcel::Answer(Ticket::SendHalf(correlation), Err(refusal))]);
            }
        }
    }
    Ok(submit(edge, outbox, commands) && had_room)
}

fn submit(edge: &Edge, outbox: &Arc<Outbox>, commands: Vec<(Input, Ticket)>) -> bool {
    if commands.is_empty() {
        return true;
    }
    outbox.owe(commands.len());
    edge.engine.submit(outbox, commands)
}

/// A command, checked.
pub(in crate::grpc) fn input_of(
    checks: &MessageChecks,
    producer: &ProducerName,
    command: v1::ProducerCommand,
) -> fields::Checked<(Input, Ticket)> {
    let correlation = command.correlation;
    match command.command {
        Some(Command::Publish(publish)) => {
            let message = checks.message(publish.message)?;
            let ticket = Ticket::Publish(correlation, message.id);
            Ok((Input::Publish(message), ticket))
        }
        Some(Command::SendHalf(half)) => {
            let half = transaction::send_half(checks, producer.clone(), half)?;
            Ok((Input::SendHalf(half), Ticket::SendHalf(correlation)))
        }
        Some(Command::Decide(decide)) => {
            let decide = transaction::decide(producer.clone(), &decide)?;
            let ticket = Ticket::Decide(correlation, decide.transaction);
            Ok((Input::Decide(decide), ticket))
        }
        // Answers are told to the engine before this is called.
        Some(Command::CheckAnswer(_)) | None => {
            let fault =
                "it is missing, or newer than this broker; send publish, send_half, decide or check_answer";
            Err(Refusal::invalid("command", fault))
        }
    }
}

/// One command may be as large as a transaction; several together are bounded.
pub(in crate::grpc) fn check_bytes(frame: &v1::ProducerFrame) -> Result<(), Refusal> {
    let bytes: usize = frame.commands.iter().map(body_bytes).sum();
    if frame.commands.len() <= 1 || bytes <= FRAME_BODY_BYTES_MAX {
        return Ok(());
    }
    let fault = format!(
        "their bodies have {bytes} bytes together, a frame of several has at most {FRAME_BODY_BYTES_MAX}; send more frames"
    );
    Err(Refusal::invalid("commands", fault).with("limit", FRAME_BODY_BYTES_MAX))
}

fn body_bytes(command: &v1::ProducerCommand) -> usize {
    match &command.command {
        Some(Command::Publish(publish)) => publish.message.as_ref().map_or(0, |message| message.body.len()),
        Some(Command::SendHalf(half)) => half.messages.iter().map(|message| message.body.len()).sum(),
        _ => 0,
    }
}
