//! JSON to messages of the wire. What does not fit is refused with the field, the fault and the remedy, and so is a name
//! that nobody knows: a misspelt filter must not silently match everything.

use bytes::Bytes;
use escrow_protocol::{MessageId, TransactionId};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value as Wire};
use serde_json::{Map, Value as Json};

use super::dialect::{BODY_HEX, Form, field_of, form_of, names_of};
use super::fault::Fault;

/// A message from an object; `at` is where that stands, for faults.
pub(super) fn message(descriptor: &MessageDescriptor, json: Json, at: &str) -> Result<DynamicMessage, Fault> {
    let Json::Object(object) = json else {
        return Err(Fault::invalid(if at.is_empty() { "body" } else { at }, "it is not an object; send {…}"));
    };
    let mut read = DynamicMessage::new(descriptor.clone());
    for (name, value) in object {
        let place = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
        if value.is_null() {
            continue;
        }
        let (field, value) = match (field_of(descriptor, &name), descriptor.get_field_by_name("body")) {
            (Some(field), _) => (field.clone(), any(&field, value, &place)?),
            (None, Some(field)) if name == BODY_HEX => (field, body(&value, &place)?),
            _ => return Err(unknown(descriptor, &place)),
        };
        read.try_set_field(&field, value).map_err(|error| Fault::invalid(&place, error.to_string()))?;
    }
    Ok(read)
}

/// Puts a text of a path or a query where the request has it: at the top, in its page or filter, or, under `operator.name` and
/// `operator.reason`, with who asks.
pub(super) fn place(
    descriptor: &MessageDescriptor,
    object: &mut Map<String, Json>,
    name: &str,
    text: &str,
) -> Result<(), Fault> {
    if let Some(field) = field_of(descriptor, name) {
        return put_text(object, &field, name, text);
    }
    let (inners, name) = match name.strip_prefix("operator.") {
        Some(name) => (&["operator"][..], name),
        None => (&["page", "filter"][..], name),
    };
    for inner in inners.iter().copied() {
        let Some(Kind::Message(of)) = descriptor.get_field_by_name(inner).map(|field| field.kind()) else {
            continue;
        };
        if let Some(field) = field_of(&of, name) {
            let object = object.entry(inner).or_insert_with(|| Json::Object(Map::new()));
            let Json::Object(object) = object else {
                return Err(Fault::invalid(inner, "it is not an object; send {…}"));
            };
            return put_text(object, &field, name, text);
        }
    }
    Err(unknown(descriptor, name))
}

fn put_text(
    object: &mut Map<String, Json>,
    field: &FieldDescriptor,
    name: &str,
    text: &str,
) -> Result<(), Fault> {
    let value = match field.kind() {
        Kind::Bool => match text {
            "true" | "1" | "" => true.into(),
            "false" | "0" => false.into(),
            _ => return Err(Fault::invalid(name, format!("{text:?} is not true or false"))),
        },
        _ => Json::from(text),
    };
    if field.is_list() {
        let list = object.entry(name).or_insert_with(|| Json::Array(Vec::new()));
        if let Json::Array(list) = list {
            list.push(value);
        }
    } else {
        object.insert(name.to_owned(), value);
    }
    Ok(())
}

fn unknown(descriptor: &MessageDescriptor, name: &str) -> Fault {
    let known = names_of(descriptor);
    let known = if known.is_empty() { "nothing".to_owned() } else { known.join(", ") };
    Fault::invalid(name, format!("nothing has this name here; known are {known}"))
}

fn any(field: &FieldDescriptor, json: Json, at: &str) -> Result<Wire, Fault> {
    if field.is_map() {
        return Err(Fault::invalid(at, "it is only in answers; leave it out"));
    }
    if !field.is_list() {
        return one(field, json, at);
    }
    let Json::Array(items) = json else {
        return Err(Fault::invalid(at, "it is not a list; send […]"));
    };
    let items = items.into_iter().enumerate().map(|(nth, item)| one(field, item, &format!("{at}[{nth}]")));
    Ok(Wire::List(items.collect::<Result<_, _>>()?))
}

fn one(field: &FieldDescriptor, json: Json, at: &str) -> Result<Wire, Fault> {
    let text = json.as_str();
    Ok(match (form_of(field), field.kind()) {
        (Form::Time, _) => Wire::I64(time(text, at)?),
        (Form::MessageId, _) => {
            let id: MessageId = parsed(text, "a UUID", at)?;
            Wire::Bytes(Bytes::copy_from_slice(id.as_bytes()))
        }
        (Form::TransactionId, _) => {
            let id: TransactionId = parsed(text, "a transaction id like tx-0-42", at)?;
            Wire::U64(id.as_u64())
        }
        (Form::Body, _) => match json {
            Json::String(text) => Wire::Bytes(text.into()),
            _ => return Err(Fault::invalid(at, "it is not text; send text, or body_hex")),
        },
        (_, Kind::Message(descriptor)) => Wire::Message(message(&descriptor, json, at)?),
        (_, Kind::Enum(values)) => {
            let found =
                text.and_then(|text| values.values().find(|value| value.name().eq_ignore_ascii_case(text)));
            let Some(found) = found else {
                let known: Vec<_> = values.values().map(|value| value.name().to_owned()).collect();
                return Err(Fault::invalid(at, format!("it is not one of {}", known.join(", "))));
            };
            Wire::EnumNumber(found.number())
        }
        (_, Kind::String) => match json {
            Json::String(text) => Wire::String(text),
            _ => return Err(Fault::invalid(at, "it is not text")),
        },
        (_, Kind::Bool) => match json {
            Json::Bool(value) => Wire::Bool(value),
            _ => return Err(Fault::invalid(at, "it is not true or false")),
        },
        (_, Kind::Int32) => Wire::I32(number(&json, at)?),
        (_, Kind::Int64) => Wire::I64(number(&json, at)?),
        (_, Kind::Uint32) => Wire::U32(number(&json, at)?),
        (_, Kind::Uint64) => Wire::U64(number(&json, at)?),
        (_, kind) => return Err(Fault::invalid(at, format!("{kind:?} cannot be written in JSON"))),
    })
}

/// A whole number, also as text: a path and a query have nothing else.
fn number<T: TryFrom<i128>>(json: &Json, at: &str) -> Result<T, Fault> {
    let wide: Option<i128> = match json {
        Json::Number(number) => number.as_u64().map(i128::from).or_else(|| number.as_i64().map(i128::from)),
        Json::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    let fault = || Fault::invalid(at, "it is not a whole number within bounds");
    T::try_from(wide.ok_or_else(fault)?).map_err(|_| fault())
}

fn time(text: Option<&str>, at: &str) -> Result<i64, Fault> {
    let time: jiff::Timestamp = parsed(text, "a time like 2026-01-31T12:00:00Z", at)?;
    Ok(time.as_millisecond())
}

fn parsed<T: std::str::FromStr>(text: Option<&str>, what: &str, at: &str) -> Result<T, Fault> {
    text.and_then(|text| text.parse().ok()).ok_or_else(|| Fault::invalid(at, format!("it is not {what}")))
}

/// A body in hexadecimal digits.
fn body(json: &Json, at: &str) -> Result<Wire, Fault> {
    let bytes = json.as_str().and_then(bytes);
    let fault = || Fault::invalid(at, "it is not hexadecimal digits, two for each byte");
    Ok(Wire::Bytes(bytes.ok_or_else(fault)?.into()))
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    (digits.len().is_multiple_of(2) && digits.is_ascii())
        .then(|| {
            (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).ok()).collect()
        })
        .flatten()
}
