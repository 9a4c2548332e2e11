//! How the fields of the wire are written in JSON. One rule for each form, so that every message of the protocol has one
//! spelling, whichever operation it comes in: ids as text, times as RFC 3339, durations as milliseconds.

use std::borrow::Cow;

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

/// Times whose name does not end in `_at_ms`.
const TIMES: [&str; 5] = ["now_ms", "time_ms", "start_time_ms", "from_ms", "until_ms"];
/// Beside `body`, which is text: a body of other bytes.
pub(super) const BODY_HEX: &str = "body_hex";

/// What a field is, beyond its type on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// What its type says.
    Plain,
    /// A time: RFC 3339 in UTC; null for none.
    Time,
    /// A message id: a UUID.
    MessageId,
    /// A transaction id: `tx-0-42`; null for none.
    TransactionId,
    /// A lease token: more digits than a JSON number keeps, so text.
    LeaseToken,
    /// A body: text, or hexadecimal under [`BODY_HEX`].
    Body,
    /// A gRPC code: its name.
    Code,
}

/// The form of a field.
pub(super) fn form_of(field: &FieldDescriptor) -> Form {
    match (field.kind(), field.name()) {
        (Kind::Int64, _) if is_time(field) => Form::Time,
        (Kind::Bytes, "body") => Form::Body,
        (Kind::Bytes, _) => Form::MessageId,
        (Kind::Uint64, "transaction_id") => Form::TransactionId,
        (Kind::Uint64, "lease_token") => Form::LeaseToken,
        (Kind::Int32, "code") => Form::Code,
        _ => Form::Plain,
    }
}

/// The name of a field in JSON: a time does not say its unit.
pub(super) fn name_of(field: &FieldDescriptor) -> Cow<'static, str> {
    let name = field.name();
    let name = if is_time(field) { name.strip_suffix("_ms").unwrap_or(name) } else { name };
    Cow::Owned(name.to_owned())
}

/// The field with this name in JSON.
pub(super) fn field_of(message: &MessageDescriptor, name: &str) -> Option<FieldDescriptor> {
    message.fields().find(|field| name_of(field) == name)
}

/// The names that a message has in JSON.
pub(super) fn names_of(message: &MessageDescriptor) -> Vec<String> {
    message.fields().map(|field| name_of(&field).into_owned()).collect()
}

fn is_time(field: &FieldDescriptor) -> bool {
    let name = field.name();
    field.kind() == Kind::Int64 && (name == "at_ms" || name.ends_with("_at_ms") || TIMES.contains(&name))
}
