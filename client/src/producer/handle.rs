//! The caller's end of a producer session: hands operations over and waits for their answers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use escrow_protocol::v1::ProducerWelcome;
use escrow_protocol::v1::producer_command::Command;
use escrow_protocol::v1::producer_result::Result as Outcome;
use prost::Message as _;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::error::{Error, ErrorKind};
use crate::producer::ledger::Operation;

/// What the session tells its handles.
#[derive(Debug, Default)]
pub(crate) struct SessionState {
    /// The broker's limit for a body.
    body_bytes_max: AtomicU64,
    /// Why the session ended for good.
    pub(crate) refused: OnceLock<Error>,
    /// Somebody asked it to end.
    pub(crate) closing: CancellationToken,
    /// It has ended.
    pub(crate) ended: CancellationToken,
}

impl SessionState {
    /// The broker said its limits.
    pub(crate) fn take_limits(&self, welcome: &ProducerWelcome) {
        self.body_bytes_max.store(welcome.body_bytes_max, Ordering::Relaxed);
    }

    fn end_error(&self) -> Error {
        self.refused.get().map_or_else(|| Error::closed("producer"), Error::copy)
    }
}

/// A way to the session's task. The session ends when the last one is dropped.
#[derive(Debug, Clone)]
pub(crate) struct ProducerHandle {
    operations: mpsc::Sender<Operation>,
    room: Arc<Semaphore>,
    room_max: u32,
    operation_timeout: Duration,
    state: Arc<SessionState>,
}

impl ProducerHandle {
    pub(crate) fn new(
        operations: mpsc::Sender<Operation>,
        room_max: u32,
        operation_timeout: Duration,
        state: Arc<SessionState>,
    ) -> Self {
        let room = Arc::new(Semaphore::new(room_max as usize));
        Self { operations, room, room_max, operation_timeout, state }
    }

    /// The broker's limit for a body, bytes.
    pub(crate) fn body_bytes_max(&self) -> u64 {
        self.state.body_bytes_max.load(Ordering::Relaxed)
    }

    /// Hands `command` over and waits for its answer, at most the operation timeout.
    ///
    /// Cancel safe in this sense: dropped before it was sent, nothing happens; dropped later, it may take effect.
    pub(crate) async fn perform(&self, command: Command) -> Result<Outcome, Error> {
        let deadline = clock::now() + self.operation_timeout;
        let bytes = size_of(&command);
        let _room = Some(self.room_for(bytes, deadline).await?);
        let (reply, answer) = oneshot::channel();
        self.hand_over(Operation { command, bytes, deadline, reply, _room }).await?;
        answer.await.unwrap_or_else(|_session_gone| Err(self.state.end_error().with_unknown_outcome(true)))
    }

    /// Asks the session to end once everything under way is answered, and waits until it has.
    pub(crate) async fn close(&self) {
        self.state.closing.cancel();
        self.state.ended.cancelled().await;
    }

    async fn room_for(&self, bytes: usize, deadline: Instant) -> Result<OwnedSemaphorePermit, Error> {
        let share = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.room_max);
        if let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(share) {
            return Ok(room);
        }
        match timeout_at(deadline, Arc::clone(&self.room).acquire_many_owned(share)).await {
            Ok(Ok(room)) => Ok(room),
            Ok(Err(_closed)) => Err(self.state.end_error()),
            Err(_elapsed) => Err(never_sent()),
        }
    }

    async fn hand_over(&self, operation: Operation) -> Result<(), Error> {
        let deadline = operation.deadline;
        let operation = match self.operations.try_send(operation) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Closed(_)) => return Err(self.state.end_error()),
            Err(TrySendError::Full(operation)) => operation,
        };
        match timeout_at(deadline, self.operations.send(operation)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_closed)) => Err(self.state.end_error()),
            Err(_elapsed) => Err(never_sent()),
        }
    }
}

fn never_sent() -> Error {
    Error::new(
        ErrorKind::Timeout,
        "too much is under way: the operation's time ended before it could be sent",
    )
}

/// About the bytes of `command` on the wire.
fn size_of(command: &Command) -> usize {
    match command {
        Command::Publish(request) => request.encoded_len(),
        Command::SendHalf(request) => request.encoded_len(),
        Command::Decide(request) => request.encoded_len(),
        Command::CheckAnswer(answer) => answer.encoded_len(),
    }
}
