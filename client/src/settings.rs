//! What a client can be set to, with its defaults, and the bounds nobody can change.

use std::time::Duration;

/// Operations a producer has under way at most; more wait at the caller.
pub(crate) const OPERATIONS_UNDER_WAY_MAX: usize = 16 * 1024;
/// Operations handed to a session that it has not looked at yet.
pub(crate) const OPERATIONS_QUEUED_MAX: usize = 1024;
/// Frames written whose entries are not all answered. More are not written: what waits is gathered into larger frames.
/// An h2 peer that does not read gives up on a connection after some thousands of small DATA frames, so this stays well
/// below.
pub(crate) const FRAMES_UNANSWERED_MAX: usize = 256;
/// Frames waiting for the transport. One: whatever comes meanwhile joins the next frame.
pub(crate) const FRAMES_QUEUED_MAX: usize = 1;
/// Checks running at once in one producer.
pub(crate) const CHECKS_RUNNING_MAX: usize = 64;
/// Checks waiting to run; those beyond are answered "unknown" at once and asked again later.
pub(crate) const CHECKS_WAITING_MAX: usize = 1024;
/// `extend` calls waiting for the session.
pub(crate) const EXTENSIONS_QUEUED_MAX: usize = 64;
/// How long a session that said goodbye, or was told so, may still deliver answers.
pub(crate) const GOODBYE_TIME_MAX: Duration = Duration::from_secs(5);
/// A session that lasted this long makes the next reconnect begin with the shortest delay again.
pub(crate) const SESSION_COUNTS_AS_STABLE_AFTER: Duration = Duration::from_secs(5);

/// Settings of a client, shared by all that it opens.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) client_id: String,
    pub(crate) connect_timeout: Duration,
    pub(crate) operation_timeout: Duration,
    pub(crate) reconnect_shortest: Duration,
    pub(crate) reconnect_longest: Duration,
    pub(crate) keep_alive_interval: Duration,
    pub(crate) keep_alive_timeout: Duration,
    pub(crate) bytes_under_way_max: u32,
}

impl Settings {
    pub(crate) fn new(client_id: String) -> Self {
        Self {
            client_id,
            connect_timeout: Duration::from_secs(5),
            operation_timeout: Duration::from_secs(30),
            reconnect_shortest: Duration::from_millis(100),
            reconnect_longest: Duration::from_secs(30),
            keep_alive_interval: Duration::from_secs(20),
            keep_alive_timeout: Duration::from_secs(10),
            bytes_under_way_max: 64 * 1024 * 1024,
        }
    }
}
