//! The broker at a glance.

use escrow_protocol::v1;

use crate::cli::output::{Bytes, Count, Ms, Time, view};

view! {
    /// The broker at a glance.
    StatusView {
        /// Its release.
        version: String = "VERSION",
        /// When it was started.
        started_at: Time = "STARTED AT",
        /// How long ago.
        uptime_ms: Ms = "UP",
        /// False while new messages are refused for lack of space.
        accepting: bool = "ACCEPTING",
        /// Topics.
        topics: Count = _,
        /// Groups.
        groups: Count = _,
        /// Producers connected.
        producers: Count = _,
        /// Consumers connected.
        consumers: Count = _,
        /// Undecided transactions.
        undecided: Count = "UNDECIDED",
        /// Of these: due for a check, and nobody can answer it.
        waiting_for_checker: Count = "WAITING",
        /// Transactions that wait for a person.
        parked: Count = "PARKED",
        /// When the oldest undecided one was made.
        oldest_undecided_at: Time = _,
        /// Messages that groups have yet to finish.
        lag: Count = "LAG",
        /// Of these: could be delivered at once.
        ready: Count = _,
        /// Deliveries under lease.
        leased: Count = _,
        /// Messages that wait for their next attempt.
        retrying: Count = "RETRYING",
        /// Messages that wait for their time.
        scheduled: Count = "SCHEDULED",
        /// Dead letters.
        dead_letters: Count = "DEAD",
        /// Alarms that are open.
        alarms_open: Count = "ALARMS",
        /// The shard.
        shard: u32 = _,
        /// How often its store was claimed.
        epoch: u64 = _,
        /// Where the store lives.
        data_dir: String = _,
        /// Free space of the disk.
        disk_free_bytes: Bytes = _,
    }
}

impl From<v1::GetStatusResponse> for StatusView {
    fn from(status: v1::GetStatusResponse) -> Self {
        let store = status.store.unwrap_or_default();
        Self {
            version: status.version,
            started_at: Time(status.started_at_ms),
            // Whole seconds: nobody reads the milliseconds of an uptime.
            uptime_ms: Ms::from_wire((status.now_ms - status.started_at_ms) / 1000 * 1000),
            accepting: status.accepting,
            topics: Count(status.topics),
            groups: Count(status.groups),
            producers: Count(status.producers),
            consumers: Count(status.consumers),
            undecided: Count(status.undecided),
            waiting_for_checker: Count(status.waiting_for_checker),
            parked: Count(status.parked),
            oldest_undecided_at: Time(status.oldest_undecided_at_ms),
            lag: Count(status.lag),
            ready: Count(status.ready),
            leased: Count(status.leased),
            retrying: Count(status.retrying),
            scheduled: Count(status.scheduled),
            dead_letters: Count(status.dead_letters),
            alarms_open: Count(status.alarms_open),
            shard: status.shard,
            epoch: status.epoch,
            data_dir: store.data_dir,
            disk_free_bytes: Bytes(store.disk_free_bytes),
        }
    }
}
