//! Reads what deliveries and questions refer to: bodies, origins, the messages of a transaction. Outside the engine's
//! thread, for the engine never waits for a body.

use std::sync::Arc;

use escrow_protocol::TransactionId;
use escrow_storage::{Read, ReadError};

use super::outbox::{Parcel, QUESTION_BODY_BYTES_MAX, Ticket};
use crate::engine::{CheckQuestion, Delivery, Outcome};
use crate::records::{DeadLetter, Message, Record, Transaction, keys};

/// A delivery with all it needs.
#[derive(Debug)]
pub struct LoadedDelivery {
    /// What the engine said.
    pub delivery: Delivery,
    /// The message.
    pub message: Message,
    /// From a dead-letter topic: where it came from.
    pub dead_letter: Option<DeadLetter>,
}

/// A question with all it needs.
#[derive(Debug)]
pub struct LoadedQuestion {
    /// What the engine said.
    pub question: CheckQuestion,
    /// The transaction.
    pub transaction: Transaction,
    /// Its messages.
    pub messages: Vec<Message>,
    /// Their bodies were too large together and were left out.
    pub bodies_omitted: bool,
}

/// Parcels that are ready to be put into a frame.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Outcomes of commands.
    pub answers: Vec<(Ticket, Outcome)>,
    /// Deliveries.
    pub deliveries: Vec<LoadedDelivery>,
    /// Questions.
    pub questions: Vec<LoadedQuestion>,
    /// Deliveries whose message is damaged or missing, with the fault: for the engine.
    pub undeliverable: Vec<(Delivery, String)>,
    /// What was not read for lack of room: to be put back.
    pub left: Vec<Parcel>,
    /// The store failed: nothing of this may be sent, the broker must stop. It says nothing of any message.
    pub failed: Option<ReadError>,
}

/// See the module. A clone reads the same store.
#[derive(Clone)]
pub struct Loader {
    reader: Arc<dyn Read>,
}

impl Loader {
    /// A loader over this view.
    pub fn new(reader: Arc<dyn Read>) -> Self {
        Self { reader }
    }

    /// What these parcels refer to, until about `bytes_max` were read: an engine knows of a message how large its body is,
    /// and not what else there is of it. Reads on a thread that may block; parcels that need no reading are not sent there.
    pub async fn load(&self, parcels: Vec<Parcel>, bytes_max: usize) -> Loaded {
        if parcels.iter().all(|parcel| matches!(parcel, Parcel::Answer(..))) {
            return load(&*self.reader, parcels, bytes_max);
        }
        let reader = self.reader.clone();
        let loading = tokio::task::spawn_blocking(move || load(&*reader, parcels, bytes_max));
        // A runtime that shuts down drops the task; nobody takes the frame then.
        loading.await.unwrap_or_default()
    }
}

fn load(view: &dyn Read, parcels: Vec<Parcel>, bytes_max: usize) -> Loaded {
    let mut loaded = Loaded::default();
    let mut bytes = 0;
    let mut parcels = parcels.into_iter();
    while let Some(parcel) = parcels.next() {
        match parcel {
            Parcel::Answer(ticket, outcome) => loaded.answers.push((ticket, outcome)),
            waiting if bytes >= bytes_max => {
                loaded.left.push(waiting);
                loaded.left.extend(parcels);
                break;
            }
            Parcel::Deliver(delivery) => match load_delivery(view, &delivery) {
                Ok((message, dead_letter)) => {
                    bytes += bytes_of(&message);
                    loaded.deliveries.push(LoadedDelivery { delivery, message, dead_letter });
                }
                Err(Unloaded::Damaged(fault)) => loaded.undeliverable.push((delivery, fault)),
                Err(Unloaded::Failed(error)) => {
                    loaded.failed = Some(error);
                    return loaded;
                }
            },
            Parcel::Ask(question) => match load_question(view, question) {
                Ok(question) => {
                    let messages = question.iter().flat_map(|question| &question.messages);
                    bytes += messages.map(bytes_of).sum::<usize>();
                    loaded.questions.extend(question);
                }
                Err(error) => {
                    loaded.failed = Some(error);
                    return loaded;
                }
            },
        }
    }
    loaded
}

/// About what a message takes, bytes.
fn bytes_of(message: &Message) -> usize {
    let headers = message.headers.iter().map(|(name, value)| name.len() + value.len());
    message.body.len() + headers.sum::<usize>()
}

/// Why a delivery was not loaded. Only what is known of the message itself may bury it.
enum Unloaded {
    /// The message is damaged or missing.
    Damaged(String),
    /// The store failed; the message may be sound.
    Failed(ReadError),
}

impl From<ReadError> for Unloaded {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Corrupt { .. } => Self::Damaged(error.to_string()),
            ReadError::Failed(_) => Self::Failed(error),
        }
    }
}

fn load_delivery(view: &dyn Read, delivery: &Delivery) -> Result<(Message, Option<DeadLetter>), Unloaded> {
    let Some(message) = record::<Message>(view, &keys::message(delivery.id))? else {
        return Err(Unloaded::Damaged("the message is missing from the store".to_owned()));
    };
    if !delivery.dead_letter {
        return Ok((message, None));
    }
    let dead_letter = record::<DeadLetter>(view, &keys::dead_letter(delivery.topic, delivery.offset))?;
    Ok((message, dead_letter))
}

/// `None` if it was decided meanwhile. A damaged message is left out: the checker knows the transaction by its key, and
/// its answer is wanted all the more.
fn load_question(view: &dyn Read, question: CheckQuestion) -> Result<Option<LoadedQuestion>, ReadError> {
    let Some(transaction) = undecided(view, question.transaction)? else { return Ok(None) };
    let mut messages = Vec::with_capacity(transaction.messages.len());
    for message in &transaction.messages {
        match record::<Message>(view, &keys::message(message.stub.id)) {
            Ok(message) => messages.extend(message),
            Err(error @ ReadError::Failed(_)) => return Err(error),
            Err(error) => {
                tracing::error!(transaction_id = %question.transaction, %error, "message of a question unreadable");
            }
        }
    }
    let body_bytes: usize = messages.iter().map(|message| message.body.len()).sum();
    let incomplete = messages.len() < transaction.messages.len();
    let bodies_omitted = body_bytes > QUESTION_BODY_BYTES_MAX || incomplete;
    if bodies_omitted {
        messages.iter_mut().for_each(|message| message.body = bytes::Bytes::new());
    }
    Ok(Some(LoadedQuestion { question, transaction, messages, bodies_omitted }))
}

fn undecided(view: &dyn Read, id: TransactionId) -> Result<Option<Transaction>, ReadError> {
    match record::<Transaction>(view, &keys::undecided(id.number())) {
        Err(error @ ReadError::Corrupt { .. }) => {
            tracing::error!(transaction_id = %id, %error, "transaction of a question unreadable");
            Ok(None)
        }
        found_or_failed => found_or_failed,
    }
}

/// The record at `key`; one that does not read is damaged.
pub fn record<R: Record>(view: &dyn Read, key: &[u8]) -> Result<Option<R>, ReadError> {
    let Some(bytes) = view.get(key)? else { return Ok(None) };
    decode(key, bytes).map(Some)
}

/// The record these bytes at `key` are.
pub fn decode<R: Record>(key: &[u8], bytes: bytes::Bytes) -> Result<R, ReadError> {
    R::decode(bytes).map_err(|error| ReadError::Corrupt {
        key: key.iter().map(|byte| format!("{byte:02x}")).collect(),
        fault: error.to_string(),
    })
}
