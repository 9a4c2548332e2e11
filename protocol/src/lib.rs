//! The words both sides of Escrow share: the wire (`escrow.v1`), ids and names that validate themselves, limits, and
//! the list of reasons for which a request is refused. No I/O, no clock, no chance.

mod ids;
pub mod limits;
mod names;
mod reason;

/// The wire: generated from `proto/escrow/v1/*.proto`, whose comments document every message and field.
///
/// The code is committed and held to the .proto files by `tests/generated.rs`.
#[allow(missing_docs, clippy::all, unreachable_pub, rustdoc::all)]
#[rustfmt::skip]
pub mod v1 {
    include!("generated/escrow.v1.rs");

    /// The encoded `FileDescriptorSet` of the package, for gRPC reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!("generated/escrow.v1.descriptors");
}

pub use ids::{IdError, LeaseToken, MessageId, Offset, ShardId, TransactionId};
pub use names::{ClientId, GroupName, Kind, NameError, Tag, TopicName};
pub use reason::Reason;

/// The newest version of the protocol that this release speaks.
pub const PROTOCOL_VERSION: u32 = 1;
/// The oldest version of the protocol that this release still speaks.
pub const PROTOCOL_VERSION_MIN: u32 = 1;
