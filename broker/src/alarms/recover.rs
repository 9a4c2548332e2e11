//! Alarms and notices as they were when the broker stopped. What is damaged is named and left alone.

use std::collections::BTreeMap;

use escrow_storage::{Key, KeyRange, Read, ReadError};

use super::outbox::NoticeId;
use crate::engine::key_in;
use crate::records::keys::{self, space};
use crate::records::{Alarm, AlarmNotice, AlarmSinks, Record};

/// Records read at a time.
const PAGE: usize = 500;

/// What was written down.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    pub(super) alarms: BTreeMap<u64, Alarm>,
    pub(super) notices: BTreeMap<NoticeId, AlarmNotice>,
    /// Who knew of the open ones.
    pub(super) sinks: Vec<String>,
}

/// Reads all of it: there is a bound on how much there can be.
///
/// # Errors
/// If the disk fails.
pub(super) fn recover(view: &dyn Read) -> Result<Recovered, ReadError> {
    let mut recovered = Recovered::default();
    each(view, space::ALARM, |key, alarm: Alarm| {
        recovered.alarms.extend(keys::alarm_of(key).map(|number| (number, alarm)));
    })?;
    each(view, space::ALARM_NOTICE, |key, notice: AlarmNotice| {
        recovered.notices.extend(keys::alarm_notice_of(key).map(|id| (id, notice)));
    })?;
    each(view, space::ALARM_SINKS, |_, sinks: AlarmSinks| recovered.sinks = sinks.0)?;
    Ok(recovered)
}

fn each<R: Record>(view: &dyn Read, space: u8, mut take: impl FnMut(&[u8], R)) -> Result<(), ReadError> {
    let mut range = keys::all(space);
    loop {
        let (entries, damaged) = match view.scan(&range, PAGE) {
            Ok(entries) => (entries, None),
            Err(ReadError::Corrupt { key, fault }) => {
                let key = key_in(&range, &key)?;
                tracing::error!(
                    fault,
                    "damaged record of an alarm left where it is; `escrow store verify` lists all"
                );
                let before = KeyRange::new(range.start.clone(), key.clone());
                (view.scan(&before, usize::MAX)?, Some(key))
            }
            Err(error) => return Err(error),
        };
        let is_last = entries.len() < PAGE && damaged.is_none();
        let last = damaged.or_else(|| entries.last().map(|(key, _)| key.to_vec()));
        for (key, value) in entries {
            match R::decode(value) {
                Ok(record) => take(&key, record),
                Err(error) => tracing::error!(%error, "damaged record of an alarm left where it is"),
            }
        }
        let Some(last) = last.filter(|_| !is_last) else { return Ok(()) };
        range = KeyRange::new(Key::behind(&last), range.end);
    }
}
