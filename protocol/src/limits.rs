//! Every bound of the protocol, with its name and its reason. What can be configured has its default here.

/// Longest name, bytes: fits a DNS label and a metric label comfortably.
pub const NAME_BYTES_MAX: usize = 127;
/// Longest business key, ordering key or transaction key, bytes.
pub const KEY_BYTES_MAX: usize = 256;
/// Most headers of a message.
pub const HEADERS_MAX: usize = 64;
/// Most bytes of all header names and values of a message together.
pub const HEADER_BYTES_MAX: usize = 16 * 1024;
/// Default bound of a body, bytes.
pub const BODY_BYTES_MAX_DEFAULT: usize = 4 * 1024 * 1024;
/// Upper bound of that setting: a message must fit a gRPC frame.
pub const BODY_BYTES_MAX_CEILING: usize = 32 * 1024 * 1024;
/// Most messages of one transaction: they become visible in one batch.
pub const TRANSACTION_MESSAGES_MAX: usize = 100;
/// Most bytes of all bodies of one transaction: it is one batch on disk.
pub const TRANSACTION_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Furthest `deliver_at`, milliseconds ahead: one year.
pub const DELIVER_AHEAD_MS_MAX: u64 = 366 * 24 * 3600 * 1000;
/// Most tags of a subscription.
pub const TAGS_MAX: usize = 64;
/// Most topics of a group.
pub const SUBSCRIPTIONS_MAX: usize = 256;
/// Most kinds one producer answers for.
pub const CHECK_KINDS_MAX: usize = 64;
/// Longest reason or error text kept, bytes; longer ones are cut.
pub const REASON_BYTES_MAX: usize = 1024;
/// Failed attempts whose details stay with a message; older ones are only counted.
pub const ATTEMPTS_KEPT: usize = 16;
/// Most entries in one frame of a session.
pub const FRAME_ENTRIES_MAX: usize = 1024;
/// Soft bound of a frame the sender fills by coalescing, bytes.
pub const FRAME_BYTES_SOFT: usize = 1024 * 1024;
/// Hard bound of a gRPC message, bytes: the largest transaction with its headers.
pub const GRPC_MESSAGE_BYTES_MAX: usize = 48 * 1024 * 1024;
/// Most items of one page.
pub const PAGE_MAX: usize = 1000;
/// Items of a page when the caller does not say.
pub const PAGE_DEFAULT: usize = 50;
/// Longest wait of a unary `Receive`, milliseconds.
pub const RECEIVE_WAIT_MS_MAX: u64 = 60_000;
/// Most messages of a unary `Receive`.
pub const RECEIVE_MESSAGES_MAX: u32 = 1024;
/// Shortest lease, milliseconds.
pub const LEASE_MS_MIN: u64 = 1_000;
/// Longest lease, milliseconds: 12 hours.
pub const LEASE_MS_MAX: u64 = 12 * 3600 * 1000;
/// Most credit a consumer may hold, messages.
pub const CREDIT_MESSAGES_MAX: u32 = 100_000;
/// Most credit a consumer may hold, bytes.
pub const CREDIT_BYTES_MAX: u64 = 1 << 30;
/// Most steps of a retry ladder.
pub const LADDER_STEPS_MAX: usize = 64;
/// Most attempts a retry policy may allow.
pub const ATTEMPTS_MAX: u32 = 1000;
/// Longest delay of a nack or a retry step, milliseconds: 30 days.
pub const RETRY_DELAY_MS_MAX: u64 = 30 * 24 * 3600 * 1000;
/// Message ids remembered at most for deduplication (default).
pub const REMEMBERED_IDS_DEFAULT: usize = 1_000_000;
