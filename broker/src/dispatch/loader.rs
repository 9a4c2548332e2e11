//! Reads what deliveries and questions refer to: bodies, origins, the messages of a transaction. Outside the engine's
//! thread, for the engine never waits for a body.

use std::cell::Cell;
use std::sync::Arc;

use bytes::Bytes;
use escrow_storage::{OnDisk, Read, ReadError};

use super::outbox::{Parcel, QUESTION_BODY_BYTES_MAX, Ticket};
use super::readers::Readers;
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
    readers: Arc<Readers>,
}

impl Loader {
    /// A loader over this view.
    pub fn new(reader: Arc<dyn Read>) -> Self {
        Self { reader, readers: Arc::new(Readers::new()) }
    }

    /// What these parcels refer to, until about `bytes_max` were read: an engine knows of a message how large its body is,
    /// and not what else there is of it. What only the disk knows is read on a thread that may block, and all that comes
    /// behind it; for the rest, which is what was published a moment ago, no other thread is woken.
    ///
    /// `None`: a fault of the broker's own, which the log names; the session cannot go on, the broker can.
    pub async fn load(&self, parcels: Vec<Parcel>, bytes_max: usize) -> Option<Loaded> {
        let mut loading = Loading { loaded: Loaded::default(), bytes: 0, bytes_max };
        let rest = self.take_from_memory(&mut loading, parcels);
        if rest.is_empty() {
            return Some(loading.loaded);
        }
        let reader = self.reader.clone();
        let loading = self.readers.run(move || {
            let rest = loading.take(&|key| Ok(reader.get(key)?), rest);
            debug_assert!(rest.is_empty(), "there is nothing that the disk does not know");
            loading.loaded
        });
        loading.await
    }

    /// Loads what is in memory, as far as copying it takes no time; returns the parcels from the first on that is not.
    fn take_from_memory(&self, loading: &mut Loading, parcels: Vec<Parcel>) -> Vec<Parcel> {
        let copied = Cell::new(0);
        let lookup = |key: &[u8]| {
            if copied.get() >= COPIED_BYTES_MAX {
                return Err(Unloaded::OnlyOnDisk);
            }
            let found = self.reader.get_from_memory(key).map_err(|OnDisk| Unloaded::OnlyOnDisk)?;
            copied.set(copied.get() + found.as_ref().map_or(0, Bytes::len));
            Ok(found)
        };
        loading.take(&lookup, parcels)
    }
}

/// Bytes that are copied out of memory for one frame on the thread of its session, which others wait for: about 0.1 ms.
const COPIED_BYTES_MAX: usize = 512 * 1024;

/// Where records come from: what there is at a key.
type Lookup<'a> = &'a dyn Fn(&[u8]) -> Result<Option<Bytes>, Unloaded>;

/// What was loaded so far, and how much it takes.
struct Loading {
    loaded: Loaded,
    bytes: usize,
    bytes_max: usize,
}

impl Loading {
    /// Loads `parcels`, in order, and returns those from the first on that only the disk knows.
    fn take(&mut self, lookup: Lookup<'_>, parcels: Vec<Parcel>) -> Vec<Parcel> {
        let mut parcels = parcels.into_iter();
        while let Some(parcel) = parcels.next() {
            match parcel {
                Parcel::Answer(ticket, outcome) => self.loaded.answers.push((ticket, outcome)),
                waiting if self.bytes >= self.bytes_max => {
                    self.loaded.left = with_first(waiting, parcels);
                    break;
                }
                Parcel::Deliver(delivery) => match load_delivery(lookup, &delivery) {
                    Ok((message, dead_letter)) => {
                        self.bytes += bytes_of(&message);
                        self.loaded.deliveries.push(LoadedDelivery { delivery, message, dead_letter });
                    }
                    Err(Unloaded::OnlyOnDisk) => return with_first(Parcel::Deliver(delivery), parcels),
                    Err(Unloaded::Damaged(fault)) => self.loaded.undeliverable.push((delivery, fault)),
                    Err(Unloaded::Failed(error)) => {
                        self.loaded.failed = Some(error);
                        break;
                    }
                },
                Parcel::Ask(question) => match load_question(lookup, &question) {
                    Ok(loaded) => {
                        let messages = loaded.iter().flat_map(|loaded| &loaded.messages);
                        self.bytes += messages.map(bytes_of).sum::<usize>();
                        self.loaded.questions.extend(loaded);
                    }
                    Err(Unloaded::OnlyOnDisk) => return with_first(Parcel::Ask(question), parcels),
                    Err(Unloaded::Damaged(fault)) => {
                        let transaction_id = question.transaction;
                        tracing::error!(%transaction_id, fault, "transaction of a question unreadable");
                    }
                    Err(Unloaded::Failed(error)) => {
                        self.loaded.failed = Some(error);
                        break;
                    }
                },
            }
        }
        Vec::new()
    }
}

fn with_first(first: Parcel, others: impl Iterator<Item = Parcel>) -> Vec<Parcel> {
    std::iter::once(first).chain(others).collect()
}

/// About what a message takes, bytes.
fn bytes_of(message: &Message) -> usize {
    let headers = message.headers.iter().map(|(name, value)| name.len() + value.len());
    message.body.len() + headers.sum::<usize>()
}

/// Why something was not loaded.
enum Unloaded {
    /// It was to be looked up in memory, and is not there.
    OnlyOnDisk,
    /// It is damaged or missing. Only this, which is known of the message itself, may bury it.
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

fn load_delivery(lookup: Lookup<'_>, delivery: &Delivery) -> Result<(Message, Option<DeadLetter>), Unloaded> {
    let Some(message) = looked_up::<Message>(lookup, &keys::message(delivery.id))? else {
        return Err(Unloaded::Damaged("the message is missing from the store".to_owned()));
    };
    if !delivery.dead_letter {
        return Ok((message, None));
    }
    let dead_letter = looked_up::<DeadLetter>(lookup, &keys::dead_letter(delivery.topic, delivery.offset))?;
    Ok((message, dead_letter))
}

/// `None` if it was decided meanwhile. A damaged message is left out: the checker knows the transaction by its key, and
/// its answer is wanted all the more.
fn load_question(lookup: Lookup<'_>, question: &CheckQuestion) -> Result<Option<LoadedQuestion>, Unloaded> {
    let undecided = keys::undecided(question.transaction.number());
    let Some(transaction) = looked_up::<Transaction>(lookup, &undecided)? else { return Ok(None) };
    let mut messages = Vec::with_capacity(transaction.messages.len());
    for message in &transaction.messages {
        match looked_up::<Message>(lookup, &keys::message(message.stub.id)) {
            Ok(message) => messages.extend(message),
            Err(Unloaded::Damaged(fault)) => {
                tracing::error!(transaction_id = %question.transaction, fault, "message of a question unreadable");
            }
            Err(unloaded) => return Err(unloaded),
        }
    }
    let body_bytes: usize = messages.iter().map(|message| message.body.len()).sum();
    let incomplete = messages.len() < transaction.messages.len();
    let bodies_omitted = body_bytes > QUESTION_BODY_BYTES_MAX || incomplete;
    if bodies_omitted {
        messages.iter_mut().for_each(|message| message.body = Bytes::new());
    }
    Ok(Some(LoadedQuestion { question: question.clone(), transaction, messages, bodies_omitted }))
}

fn looked_up<R: Record>(lookup: Lookup<'_>, key: &[u8]) -> Result<Option<R>, Unloaded> {
    let Some(bytes) = lookup(key)? else { return Ok(None) };
    Ok(Some(decode(key, bytes)?))
}

/// The record at `key`; one that does not read is damaged.
pub fn record<R: Record>(view: &dyn Read, key: &[u8]) -> Result<Option<R>, ReadError> {
    let Some(bytes) = view.get(key)? else { return Ok(None) };
    decode(key, bytes).map(Some)
}

/// The record these bytes at `key` are.
pub fn decode<R: Record>(key: &[u8], bytes: Bytes) -> Result<R, ReadError> {
    R::decode(bytes).map_err(|error| ReadError::Corrupt {
        key: key.iter().map(|byte| format!("{byte:02x}")).collect(),
        fault: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::thread::{self, ThreadId};

    use escrow_protocol::{LeaseToken, MessageId, Offset, ShardId, TransactionId};
    use escrow_storage::{Batch, Entry, KeyRange, MemDisk, MemReader, MemStore, Store};

    use super::*;
    use crate::engine::{Reply, SessionId};
    use crate::records::TopicNumber;

    /// Has the messages of even numbers in memory, and notes which threads ask the disk.
    struct Half {
        reader: MemReader,
        asked: Mutex<Vec<(MessageId, ThreadId)>>,
    }

    impl Read for Half {
        fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
            let id = MessageId::from_slice(&key[1..]).unwrap();
            self.asked.lock().unwrap().push((id, thread::current().id()));
            self.reader.get(key)
        }

        fn get_from_memory(&self, key: &[u8]) -> Result<Option<Bytes>, OnDisk> {
            let number = key[key.len() - 1];
            if number.is_multiple_of(2) { self.reader.get_from_memory(key) } else { Err(OnDisk) }
        }

        fn scan(&self, _: &KeyRange, _: usize) -> Result<Vec<Entry>, ReadError> {
            unreachable!("a loader asks for what it knows the key of")
        }

        fn scan_back(&self, _: &KeyRange, _: usize) -> Result<Vec<Entry>, ReadError> {
            unreachable!("a loader asks for what it knows the key of")
        }
    }

    fn id(number: u8) -> MessageId {
        MessageId::new(1, [number; 10])
    }

    fn delivery(number: u8) -> Parcel {
        Parcel::Deliver(Delivery {
            session: SessionId(1),
            group: "billing".parse().unwrap(),
            id: id(number),
            topic: TopicNumber(1),
            topic_name: None,
            offset: Offset(u64::from(number)),
            attempt: 1,
            token: LeaseToken(u64::from(number)),
            lease_ms: 1_000,
            at_ms: 1,
            transaction: None,
            body_bytes: 10,
            dead_letter: false,
        })
    }

    /// A store with the messages 0 to 9, each of 10 bytes.
    fn half() -> Arc<Half> {
        let mut store = MemStore::claim(&MemDisk::new());
        let mut batch = Batch::new();
        for number in 0..10 {
            let message = Message {
                id: id(number),
                topic: "orders".parse().unwrap(),
                key: None,
                ordering_key: None,
                tag: None,
                headers: vec![],
                deliver_at_ms: 0,
                time_to_live_ms: 0,
                body: Bytes::from(vec![number; 10]),
            };
            batch.put(keys::message(message.id), message.encode());
        }
        store.commit(batch).unwrap();
        Arc::new(Half { reader: store.reader(), asked: Mutex::default() })
    }

    async fn loaded(numbers: &[u8], bytes_max: usize) -> (Loaded, Vec<(MessageId, ThreadId)>) {
        let half = half();
        let parcels = numbers.iter().map(|number| delivery(*number)).collect();
        let loaded = Loader::new(half.clone()).load(parcels, bytes_max).await.unwrap();
        let asked = std::mem::take(&mut *half.asked.lock().unwrap());
        (loaded, asked)
    }

    fn bodies(loaded: &Loaded) -> Vec<u8> {
        loaded.deliveries.iter().map(|loaded| loaded.message.body[0]).collect()
    }

    #[tokio::test]
    async fn what_is_in_memory_is_not_read_on_another_thread_and_the_disk_is_not_asked_on_this_one() {
        let (loaded, asked) = loaded(&[0, 2, 4], 1_000).await;
        assert_eq!((bodies(&loaded), asked), (vec![0, 2, 4], vec![]));

        let (loaded, asked) = self::loaded(&[0, 2, 5, 4, 7], 1_000).await;
        assert_eq!(bodies(&loaded), [0, 2, 5, 4, 7], "in the order in which they were to be delivered");
        assert_eq!(asked.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [id(5), id(4), id(7)]);
        assert!(asked.iter().all(|(_, thread)| *thread != thread::current().id()), "the disk is waited for");
    }

    #[tokio::test]
    async fn what_is_beyond_the_bytes_is_left_wherever_it_would_come_from() {
        for numbers in [[0, 2, 4, 6], [1, 3, 5, 7], [0, 2, 5, 7], [0, 1, 4, 6]] {
            let (loaded, _) = loaded(&numbers, 20).await;
            assert_eq!(bodies(&loaded), numbers[..2]);
            let left = loaded.left.iter().map(|parcel| match parcel {
                Parcel::Deliver(delivery) => delivery.id,
                other => panic!("{other:?}"),
            });
            assert_eq!(left.collect::<Vec<_>>(), [id(numbers[2]), id(numbers[3])]);
        }
    }

    #[tokio::test]
    async fn a_read_that_panics_ends_the_session_that_asked_and_no_other() {
        let loader = Loader::new(half());
        // The key of a question's transaction is no message's, which this store does not expect.
        let question =
            CheckQuestion { session: SessionId(1), transaction: TransactionId::new(ShardId(0), 1), check: 1 };
        let answer = Parcel::Answer(Ticket::Publish(1, id(0)), Ok(Reply::Done));
        assert!(loader.load(vec![answer, Parcel::Ask(question)], 1_000).await.is_none());
        let loaded = loader.load(vec![delivery(1)], 1_000).await.unwrap();
        assert_eq!(bodies(&loaded), [1]);
    }

    #[tokio::test]
    async fn answers_behind_what_only_the_disk_knows_are_not_lost() {
        let answer = |number| Parcel::Answer(Ticket::Publish(number, id(0)), Ok(Reply::Done));
        let parcels =
            vec![answer(1), delivery(0), delivery(1), answer(2), delivery(3), delivery(5), answer(3)];
        let loaded = Loader::new(half()).load(parcels, 20).await.unwrap();
        assert_eq!(bodies(&loaded), [0, 1]);
        let told = loaded.answers.iter().map(|(ticket, _)| *ticket).collect::<Vec<_>>();
        assert_eq!(told, [Ticket::Publish(1, id(0)), Ticket::Publish(2, id(0))]);
        assert_eq!(loaded.left.len(), 3, "the third answer goes out with what comes before it");
    }

    #[tokio::test]
    async fn a_message_that_is_missing_is_told_and_does_not_stop_the_others() {
        let (loaded, _) = loaded(&[0, 20, 21, 4], 1_000).await;
        assert_eq!(bodies(&loaded), [0, 4]);
        let missing: Vec<MessageId> = loaded.undeliverable.iter().map(|(delivery, _)| delivery.id).collect();
        assert_eq!(missing, [id(20), id(21)]);
    }
}
