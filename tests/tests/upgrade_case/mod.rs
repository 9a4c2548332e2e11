//! The records of a data directory: read, put into words, and written again.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use escrow_broker::records::keys::space;
use escrow_broker::records::{
    Alarm, AlarmNotice, AlarmSinks, AuditEntry, Chapter, Counters, DeadLetter, DeadPlace, DecidedLog, Facets,
    Group, JobDeeds, JobFailure, JobPlan, JobProgress, Message, Place, Progress, QueueEntry, Record,
    Remembered, Retry, Story, Stub, Tail, Topic, Transaction, TransactionKey,
};
use escrow_storage::{DiskStore, Key, KeyRange, Options, Read as _, Store as _};

pub(crate) type Records = BTreeMap<Key, Bytes>;

/// Every record of a store.
pub(crate) fn records_of(dir: &Path) -> Records {
    let options = Options { ballast_bytes: 0, ..Options::default() };
    let (store, _) = DiskStore::open(dir, options).unwrap_or_else(|error| panic!("{error}"));
    let everything = KeyRange::new(Bytes::new(), Bytes::from(vec![0xff; 400]));
    let records = store.reader().scan(&everything, usize::MAX).expect("it can be read");
    store.close().expect("it closes");
    records.into_iter().collect()
}

/// A longer line is cut, and ends with the FNV-1a of all of it: nobody reads a body.
const LINE_MAX: usize = 500;

/// A line for each record: its key, and what it says.
pub(crate) fn described(records: &Records) -> String {
    let mut text = String::new();
    for (key, value) in records {
        let said = with_record(key, value, &Describe);
        let hash = said.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        let line = match said.char_indices().nth(LINE_MAX) {
            Some((end, _)) => format!("{}… {hash:016x}", &said[..end]),
            None => said,
        };
        writeln!(text, "{} {line}", hex(key)).expect("a string takes all");
    }
    text
}

/// The record at `key`, read and written.
pub(crate) fn written_again(key: &[u8], value: &Bytes) -> Bytes {
    with_record(key, value, &WriteAgain)
}

/// What is done with a record, whichever it is.
trait Use {
    type Out;
    fn record<R: Record + Debug>(&self, record: &R) -> Self::Out;
    /// A record whose value says nothing.
    fn nothing(&self, value: &Bytes) -> Self::Out;
}

struct Describe;

impl Use for Describe {
    type Out = String;

    fn record<R: Record + Debug>(&self, record: &R) -> String {
        format!("{record:?}")
    }

    fn nothing(&self, value: &Bytes) -> String {
        assert!(value.is_empty());
        String::new()
    }
}

struct WriteAgain;

impl Use for WriteAgain {
    type Out = Bytes;

    fn record<R: Record + Debug>(&self, record: &R) -> Bytes {
        record.encode()
    }

    fn nothing(&self, value: &Bytes) -> Bytes {
        value.clone()
    }
}

fn with_record<U: Use>(key: &[u8], value: &Bytes, what: &U) -> U::Out {
    fn of<R: Record + Debug, U: Use>(key: &[u8], value: &Bytes, what: &U) -> U::Out {
        let record = R::decode(value.clone());
        what.record(&record.unwrap_or_else(|error| panic!("record {}: {error}", hex(key))))
    }
    match key[0] {
        space::COUNTERS => of::<Counters, U>(key, value, what),
        space::TOPIC => of::<Topic, U>(key, value, what),
        space::TAIL => of::<Tail, U>(key, value, what),
        space::GROUP => of::<Group, U>(key, value, what),
        space::PROGRESS => of::<Progress, U>(key, value, what),
        space::QUEUE => of::<QueueEntry, U>(key, value, what),
        space::MESSAGE => of::<Message, U>(key, value, what),
        space::PLACE => of::<Place, U>(key, value, what),
        space::BUSINESS_KEY => what.nothing(value),
        space::UNDECIDED | space::DECIDED => of::<Transaction, U>(key, value, what),
        space::TRANSACTION_KEY => of::<TransactionKey, U>(key, value, what),
        space::DECIDED_LOG => of::<DecidedLog, U>(key, value, what),
        space::REMEMBERED => of::<Remembered, U>(key, value, what),
        space::RETRY => of::<Retry, U>(key, value, what),
        space::DEAD_PLACE => of::<DeadPlace, U>(key, value, what),
        space::DEAD_LETTER => of::<DeadLetter, U>(key, value, what),
        space::SCHEDULED => of::<Stub, U>(key, value, what),
        space::AUDIT => of::<AuditEntry, U>(key, value, what),
        space::JOB => of::<JobPlan, U>(key, value, what),
        space::JOB_PROGRESS => of::<JobProgress, U>(key, value, what),
        space::JOB_FAILURE => of::<JobFailure, U>(key, value, what),
        space::ALARM => of::<Alarm, U>(key, value, what),
        space::ALARM_NOTICE => of::<AlarmNotice, U>(key, value, what),
        space::STORY => of::<Story, U>(key, value, what),
        space::CHAPTER => of::<Chapter, U>(key, value, what),
        space::ALARM_SINKS => of::<AlarmSinks, U>(key, value, what),
        space::JOB_DEEDS => of::<JobDeeds, U>(key, value, what),
        space::FACETS => of::<Facets, U>(key, value, what),
        other => panic!("no record is known under {other:02x}"),
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Copies a directory into one that is new.
pub(crate) fn copy(from: &Path, to: &Path) {
    for path in files_in(from) {
        let target = to.join(path.strip_prefix(from).expect("it lies there"));
        std::fs::create_dir_all(target.parent().expect("it has one")).expect("a directory can be made");
        std::fs::copy(&path, &target).expect("a file can be copied");
    }
}

/// The files below a directory, in order.
pub(crate) fn files_in(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).expect("it can be listed") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(files_in(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}
