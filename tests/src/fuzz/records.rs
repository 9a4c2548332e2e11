//! Stored records: the first byte chooses which, the rest is the record.

use bytes::Bytes;
use escrow_broker::records::{
    Alarm, AlarmNotice, AlarmSinks, AuditEntry, Chapter, Counters, DeadLetter, DeadPlace, DecidedLog, Facets,
    Group, JobDeeds, JobFailure, JobPlan, JobProgress, Message, Place, Progress, QueueEntry, Record,
    Remembered, Retry, Story, Stub, Tail, Topic, Transaction, TransactionKey,
};

/// Every kind of record there is; a new one at the end, for the number is in the corpus.
const KINDS: [fn(Bytes); 27] = [
    one::<Counters>,
    one::<Topic>,
    one::<Tail>,
    one::<Group>,
    one::<Message>,
    one::<Stub>,
    one::<Place>,
    one::<Remembered>,
    one::<QueueEntry>,
    one::<Progress>,
    one::<Retry>,
    one::<DeadLetter>,
    one::<DeadPlace>,
    one::<Transaction>,
    one::<TransactionKey>,
    one::<DecidedLog>,
    one::<Story>,
    one::<Chapter>,
    one::<Facets>,
    one::<AuditEntry>,
    one::<JobPlan>,
    one::<JobProgress>,
    one::<JobFailure>,
    one::<Alarm>,
    one::<AlarmNotice>,
    one::<JobDeeds>,
    one::<AlarmSinks>,
];

/// Decodes `bytes` as a record of the table, and as one of the broker's.
pub(super) fn run(bytes: &[u8]) {
    escrow_storage::fuzzing::stored(bytes);
    let Some((kind, record)) = bytes.split_first() else { return };
    KINDS[usize::from(*kind) % KINDS.len()](Bytes::copy_from_slice(record));
}

/// What decodes is written, and that decodes to the same: it is written no other way.
fn one<R: Record>(bytes: Bytes) {
    let Ok(record) = R::decode(bytes) else { return };
    let written = record.encode();
    match R::decode(written.clone()) {
        Ok(again) => assert_eq!(again.encode(), written, "a {} has two written forms", R::NAME),
        Err(error) => panic!("a {} that was read is not read again: {error}", R::NAME),
    }
}
