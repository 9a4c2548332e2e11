//! A committed batch, read back into records: what became durable in one turn.

use bytes::Bytes;
use escrow_broker::records::keys::{self, space};
use escrow_broker::records::{
    DeadLetter, DeadPlace, Group, GroupNumber, JobPlan, JobProgress, Place, Progress, QueueEntry, Record,
    Retry, Stub, Tail, Topic, TopicNumber, Transaction,
};
use escrow_protocol::{MessageId, Offset};
use escrow_storage::{Batch, Edit};

/// A place of a message in one group.
pub(crate) type Held = (TopicNumber, Offset, GroupNumber);

/// `None` stands for a record that is gone.
type List<K, R> = Vec<(K, Option<R>)>;

/// The edits of a batch by keyspace.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) topics: List<TopicNumber, Topic>,
    pub(crate) tails: List<TopicNumber, Tail>,
    pub(crate) groups: List<GroupNumber, Group>,
    pub(crate) progress: List<(GroupNumber, TopicNumber), Progress>,
    pub(crate) queue: List<(TopicNumber, Offset), QueueEntry>,
    pub(crate) messages: List<MessageId, Bytes>,
    pub(crate) places: List<MessageId, Place>,
    pub(crate) undecided: List<u64, Transaction>,
    pub(crate) decided: List<u64, Transaction>,
    pub(crate) retries: List<Held, Retry>,
    pub(crate) dead_places: List<Held, DeadPlace>,
    pub(crate) dead_letters: List<(TopicNumber, Offset), DeadLetter>,
    pub(crate) scheduled: List<(u64, MessageId), Stub>,
    pub(crate) jobs: List<u64, JobPlan>,
    pub(crate) job_progress: List<u64, JobProgress>,
}

impl Changes {
    /// What `batch` changes; an error names a record that does not read.
    pub(crate) fn of(batch: &Batch) -> Result<Self, String> {
        let mut changes = Self::default();
        for (key, edit) in batch.iter() {
            changes.take(key, edit).map_err(|fault| format!("an edit of key {key:02x?}: {fault}"))?;
        }
        Ok(changes)
    }

    fn take(&mut self, key: &[u8], edit: &Edit) -> Result<(), String> {
        match key[0] {
            space::TOPIC => self.topics.push((id(keys::topic_of(key))?, record(edit)?)),
            space::TAIL => self.tails.push((id(keys::topic_of(key))?, record(edit)?)),
            space::GROUP => self.groups.push((id(keys::group_of(key))?, record(edit)?)),
            space::PROGRESS => self.progress.push((id(keys::progress_of(key))?, record(edit)?)),
            space::QUEUE => self.queue.push((id(keys::queue_of(key))?, record(edit)?)),
            space::MESSAGE => self.messages.push((message_id(key)?, bytes(edit))),
            space::PLACE => self.places.push((message_id(key)?, record(edit)?)),
            space::UNDECIDED => self.undecided.push((id(keys::transaction_of(key))?, record(edit)?)),
            space::DECIDED => self.decided.push((id(keys::transaction_of(key))?, record(edit)?)),
            space::RETRY => self.retries.push((id(keys::held_of(key))?, record(edit)?)),
            space::DEAD_PLACE => self.dead_places.push((id(keys::held_of(key))?, record(edit)?)),
            space::DEAD_LETTER => self.dead_letters.push((id(keys::dead_letter_of(key))?, record(edit)?)),
            space::SCHEDULED => self.scheduled.push((id(keys::scheduled_of(key))?, record(edit)?)),
            space::JOB => self.jobs.push((id(keys::job_of(key))?, record(edit)?)),
            space::JOB_PROGRESS => self.job_progress.push((id(keys::job_of(key))?, record(edit)?)),
            _ => {}
        }
        Ok(())
    }

    pub(crate) fn retry(&self, held: Held) -> Option<&Option<Retry>> {
        self.retries.iter().find(|(key, _)| *key == held).map(|(_, record)| record)
    }

    pub(crate) fn dead_place(&self, held: Held) -> Option<&Option<DeadPlace>> {
        self.dead_places.iter().find(|(key, _)| *key == held).map(|(_, record)| record)
    }

    pub(crate) fn dead_letter(&self, topic: TopicNumber, offset: Offset) -> Option<&DeadLetter> {
        self.dead_letters.iter().find(|(key, _)| *key == (topic, offset)).and_then(|(_, it)| it.as_ref())
    }

    pub(crate) fn progress_of(&self, group: GroupNumber, topic: TopicNumber) -> Option<&Progress> {
        self.progress.iter().find(|(key, _)| *key == (group, topic)).and_then(|(_, it)| it.as_ref())
    }
}

fn id<T>(read: Option<T>) -> Result<T, String> {
    read.ok_or_else(|| "the key does not read".to_owned())
}

fn message_id(key: &[u8]) -> Result<MessageId, String> {
    MessageId::from_slice(&key[1..]).map_err(|error| error.to_string())
}

fn bytes(edit: &Edit) -> Option<Bytes> {
    edit.value().cloned()
}

fn record<R: Record>(edit: &Edit) -> Result<Option<R>, String> {
    bytes(edit).map(|value| R::decode(value).map_err(|error| error.to_string())).transpose()
}
