//! What every session does, whoever its peer: reads and writes side by side, ends in good order. A session is one task;
//! its stream down is fed by this task alone.

use std::sync::Arc;

use escrow_protocol::limits::{FRAME_BYTES_SOFT, FRAME_ENTRIES_MAX};
use escrow_protocol::{Reason, v1};
use prost::Message;

use super::Edge;
use super::frames::{FLUSH, FrameSender, Gone};
use crate::dispatch::{Closing, Loaded, Outbox, Parcel, Share};
use crate::engine::{Input, Refusal, Settle, Verb};

/// When the clients of a stopping broker should come back, milliseconds.
const RETURN_AFTER_STOP_MS: u64 = 1_000;

/// Why a session's reader ended.
#[derive(Debug)]
pub(super) enum ReadEnd {
    /// The client has said all it wanted.
    Finished,
    /// The broker stops.
    Stopping,
    /// A frame broke the rules of the stream.
    Refused(Refusal),
    /// The connection is gone.
    Gone,
}

/// The two forms a peer's frames take.
pub(super) struct Wording<T> {
    /// The frame for what was loaded; `None` if there is nothing to say.
    pub frame: fn(Loaded) -> Option<T>,
    /// The frame that says goodbye.
    pub goodbye: fn(v1::Goodbye) -> T,
}

/// How a session ended, as its engine wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The client ended it in order, behind everything it had to say.
    Finished,
    /// It broke off, or was broken off.
    Lost,
}

/// Carries a session from its welcome to its end: `reading` runs beside the writer; when it ends, what is still owed goes
/// out first.
pub(super) async fn conduct<T: Message>(
    edge: &Edge,
    outbox: &Arc<Outbox>,
    frames: &FrameSender<T>,
    wording: Wording<T>,
    reading: impl Future<Output = ReadEnd>,
) -> Ending {
    let mut ending = Ending::Lost;
    let writing = write(edge, outbox, frames, wording.frame);
    tokio::pin!(writing);
    // Whichever arm wins ends the session: nothing that the others lose is wanted afterwards, except the writer, which
    // is not dropped while answers are owed.
    let last_word = tokio::select! {
        written = &mut writing => match written {
            Ok(Closing::Ordered(reason, retry_after_ms)) => LastWord::Goodbye(reason, retry_after_ms),
            Ok(Closing::Overrun) => LastWord::Refusal(overrun()),
            Ok(Closing::Settled) | Err(Gone) => LastWord::Nothing,
        },
        end = reading => {
            outbox.finish();
            // A peer that does not take its answers now loses them: it resends after it came back.
            let _ = tokio::time::timeout(FLUSH, &mut writing).await;
            match end {
                ReadEnd::Finished => {
                    ending = Ending::Finished;
                    LastWord::Nothing
                }
                ReadEnd::Gone => LastWord::Nothing,
                ReadEnd::Stopping => LastWord::Goodbye("the broker is stopping".to_owned(), RETURN_AFTER_STOP_MS),
                ReadEnd::Refused(refusal) => LastWord::Refusal(refusal),
            }
        },
        () = frames.gone() => LastWord::Nothing,
        () = frames.stalled() => LastWord::Nothing,
    };
    match last_word {
        LastWord::Nothing => {}
        LastWord::Goodbye(reason, retry_after_ms) => {
            let goodbye = v1::Goodbye { reason, retry_after_ms: retry_after_ms as i64 };
            // The session ends either way.
            let _ = tokio::time::timeout(FLUSH, frames.send((wording.goodbye)(goodbye), None)).await;
        }
        LastWord::Refusal(refusal) => frames.fail(refusal).await,
    }
    ending
}

enum LastWord {
    Nothing,
    Goodbye(String, u64),
    Refusal(Refusal),
}

fn overrun() -> Refusal {
    let text =
        "more waits for this session than the broker keeps: its client reads too slowly; ask for less credit";
    Refusal::new(Reason::Overloaded, text).retry_after(RETURN_AFTER_STOP_MS)
}

/// Turns what waits into frames until nothing more will come. Nothing is read for a peer before there is room for it;
/// answers do not wait for that.
async fn write<T: Message>(
    edge: &Edge,
    outbox: &Outbox,
    frames: &FrameSender<T>,
    frame: fn(Loaded) -> Option<T>,
) -> Result<Closing, Gone> {
    loop {
        let bytes_max = frames.ahead().room().min(FRAME_BYTES_SOFT);
        let bytes = match outbox.weigh(FRAME_ENTRIES_MAX, bytes_max).await {
            Ok(bytes) => bytes,
            Err(closing) => return Ok(closing),
        };
        let share = match bytes {
            0 => None,
            bytes => Some(share(edge, outbox, frames, (frame, bytes)).await?),
        };
        send(edge, outbox, frames, (frame, share)).await?;
    }
}

/// A share for `bytes`; the answers that come meanwhile go out.
async fn share<T: Message>(
    edge: &Edge,
    outbox: &Outbox,
    frames: &FrameSender<T>,
    (frame, bytes): (fn(Loaded) -> Option<T>, usize),
) -> Result<Share, Gone> {
    let waiting = frames.ahead().share(bytes);
    tokio::pin!(waiting);
    loop {
        // Cancel-safe: the wait for a share goes on where it was, and nothing is taken from the outbox before its arm wins.
        tokio::select! {
            biased;
            share = &mut waiting => return Ok(share),
            () = outbox.answered() => send(edge, outbox, frames, (frame, None)).await?,
        }
    }
}

/// What makes a frame of what was loaded, and the share of memory that it takes.
type Framing<T> = (fn(Loaded) -> Option<T>, Option<Share>);

/// Sends a frame of what waits: without a share, of answers only.
async fn send<T: Message>(
    edge: &Edge,
    outbox: &Outbox,
    frames: &FrameSender<T>,
    (frame, share): Framing<T>,
) -> Result<(), Gone> {
    let bytes_max = share.as_ref().map_or(0, Share::bytes);
    let parcels = outbox.take(FRAME_ENTRIES_MAX, bytes_max);
    // What it would say now is void: the store failed, and the broker stops, or a fault of its own lost it.
    let mut loaded = edge.load(parcels, bytes_max).await.ok_or(Gone)?;
    outbox.put_back(std::mem::take(&mut loaded.left));
    match frame(loaded) {
        Some(frame) => frames.send(frame, share).await,
        None => Ok(()),
    }
}

/// The session is over: what was never sent goes back without counting, and the engine hears of the end. A broker that
/// stops says nothing: its leases end with its memory, and no attempt is counted for that.
pub(super) async fn leave(edge: &Edge, outbox: &Outbox, ending: Ending) {
    if !edge.stopping.is_cancelled() {
        for parcel in outbox.take_all() {
            if let Parcel::Deliver(delivery) = parcel {
                let settle = Settle { group: delivery.group, token: delivery.token, verb: Verb::Release };
                edge.engine.tell(Input::Settle(settle)).await;
            }
        }
        let end = match ending {
            Ending::Finished => Input::SessionFinished(outbox.id()),
            Ending::Lost => Input::SessionClosed(outbox.id()),
        };
        edge.engine.tell(end).await;
    }
    edge.sessions.forget(outbox.id());
}
