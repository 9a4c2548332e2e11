//! Messages of the wire to JSON. Every field is there, also with its default, so that a reader needs no schema to know
//! what could be; only the alternatives that were not taken are left out.

use escrow_protocol::{MessageId, TransactionId};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage as _, Value as Wire};
use serde_json::{Map, Value as Json};

use super::dialect::{BODY_HEX, Form, form_of, name_of};
use super::fault::code_name;

/// A message.
pub(super) fn message(message: &DynamicMessage) -> Json {
    let mut object = Map::new();
    for field in message.descriptor().fields() {
        if message.has_field(&field) || !field.supports_presence() {
            put(&mut object, &field, &message.get_field(&field));
        } else if !in_alternative(&field) {
            object.insert(name_of(&field).into_owned(), Json::Null);
        }
    }
    Json::Object(object)
}

/// A time as text; `None` for none.
pub(crate) fn time_text(unix_ms: i64) -> Option<String> {
    let time = jiff::Timestamp::from_millisecond(unix_ms).ok().filter(|_| unix_ms > 0)?;
    Some(format!("{time:.3}"))
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One of several of which at most one is set.
pub(super) fn in_alternative(field: &FieldDescriptor) -> bool {
    field.containing_oneof().is_some_and(|oneof| !oneof.is_synthetic())
}

fn put(object: &mut Map<String, Json>, field: &FieldDescriptor, value: &Wire) {
    let name = name_of(field).into_owned();
    let (name, value) = match (form_of(field), value) {
        (Form::Body, Wire::Bytes(body)) => match std::str::from_utf8(body) {
            Ok(text) => (name, text.into()),
            Err(_) => (BODY_HEX.to_owned(), hex(body).into()),
        },
        _ => (name, any(field, value)),
    };
    object.insert(name, value);
}

fn any(field: &FieldDescriptor, value: &Wire) -> Json {
    match value {
        Wire::List(items) => items.iter().map(|item| any(field, item)).collect(),
        Wire::Map(entries) => {
            let entries = entries.iter().map(|(key, value)| (key_text(key), any(field, value)));
            Json::Object(entries.collect())
        }
        Wire::Message(inner) => message(inner),
        Wire::EnumNumber(number) => match field.kind() {
            Kind::Enum(values) => values.get_value(*number).map(|value| value.name().to_owned()).into(),
            _ => (*number).into(),
        },
        scalar => one(form_of(field), scalar),
    }
}

fn one(form: Form, value: &Wire) -> Json {
    match (form, value) {
        (Form::Time, Wire::I64(unix_ms)) => time_text(*unix_ms).into(),
        (Form::MessageId, Wire::Bytes(bytes)) => {
            MessageId::from_slice(bytes).ok().map(|id| id.to_string()).into()
        }
        (Form::TransactionId, Wire::U64(id)) => {
            (*id != 0).then(|| TransactionId::from_u64(*id).to_string()).into()
        }
        (Form::LeaseToken, Wire::U64(token)) => token.to_string().into(),
        (Form::Code, Wire::I32(code)) => code_name((*code).into()).into(),
        (_, Wire::Bool(value)) => (*value).into(),
        (_, Wire::I32(value)) => (*value).into(),
        (_, Wire::I64(value)) => (*value).into(),
        (_, Wire::U32(value)) => (*value).into(),
        (_, Wire::U64(value)) => (*value).into(),
        (_, Wire::F32(value)) => (*value).into(),
        (_, Wire::F64(value)) => (*value).into(),
        (_, Wire::String(text)) => text.as_str().into(),
        (_, Wire::Bytes(bytes)) => hex(bytes).into(),
        // Lists, maps, messages and enumerations do not come here.
        _ => Json::Null,
    }
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::String(text) => text.clone(),
        other => format!("{other:?}"),
    }
}
