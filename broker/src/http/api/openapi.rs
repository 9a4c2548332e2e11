//! The OpenAPI document: made from the table of operations and from the descriptors of the protocol, comments included, so
//! that it says what the code does and cannot say anything else.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::iter;
use std::sync::LazyLock;

use escrow_protocol::Reason;
use prost_reflect::{FieldDescriptor, FileDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value as Json, json};

use super::dialect::{BODY_HEX, Form, form_of, name_of};
use super::fault::status_of;
use super::operations::{OPERATIONS, Operation, ROOT, Verb};
use super::refusals::refusals_of;
use super::write::in_alternative;
use super::{JSON_LINES, method_of};

/// The document as text.
pub(super) fn document() -> &'static str {
    static DOCUMENT: LazyLock<String> = LazyLock::new(|| whole().to_string());
    &DOCUMENT
}

fn whole() -> Json {
    let mut document = Document::default();
    let mut paths: BTreeMap<String, Map<String, Json>> = BTreeMap::new();
    for operation in OPERATIONS {
        let described = document.operation(operation);
        let path = paths.entry(operation.path.to_owned()).or_default();
        path.insert(operation.verb.as_str().to_lowercase(), described);
    }
    document.add_missing_schemas();
    let mut schemas = document.schemas;
    schemas.insert("Error".to_owned(), error_schema());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Escrow",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            "description": "The operations of the gRPC services as HTTP with JSON. Ids are text (UUID, tx-0-42), times \
                RFC 3339, durations milliseconds. Lists are paged: pass next_cursor as cursor. What changes something \
                needs Content-Type: application/json, also without a body.",
        },
        "servers": [{ "url": ROOT }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": { "Error": {
                "description": "Refused; nothing was changed.",
                "content": { "application/json": { "schema": reference("Error") } },
            } },
        },
    })
}

fn reference(name: &str) -> Json {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn error_schema() -> Json {
    json!({
        "type": "object",
        "required": ["code", "reason", "message", "details", "retry_after_ms"],
        "properties": {
            "code": { "type": "string", "description": "The gRPC code, e.g. FAILED_PRECONDITION" },
            "reason": {
                "type": "string",
                "enum": escrow_protocol::Reason::ALL.iter().map(|reason| reason.as_str()).collect::<Vec<_>>(),
            },
            "message": { "type": "string", "description": "For people: what is wrong and what to do" },
            "details": { "type": "object", "additionalProperties": { "type": "string" } },
            "retry_after_ms": { "type": ["integer", "null"], "description": "When waiting helps: how long" },
        },
    })
}

/// What an operation answers: when it is done, for each status why it is refused, and what any operation may meet.
fn responses(operation: &Operation, done: Json) -> Map<String, Json> {
    let mut reasons: BTreeMap<u16, Vec<Reason>> = BTreeMap::new();
    let own = refusals_of(operation.call).unwrap_or_default().iter();
    for reason in iter::once(&Reason::InvalidField).chain(own) {
        reasons.entry(status_of(*reason).as_u16()).or_default().push(*reason);
    }
    let mut responses = Map::new();
    responses.insert("200".to_owned(), json!({ "description": "Done.", "content": done }));
    for (status, reasons) in reasons {
        let reasons: Vec<_> = reasons.iter().map(|reason| reason.as_str()).collect();
        let refused = json!({
            "description": reasons.join(", "),
            "content": { "application/json": { "schema": { "allOf": [
                reference("Error"),
                { "properties": { "reason": { "enum": reasons } } },
            ] } } },
        });
        responses.insert(status.to_string(), refused);
    }
    responses.insert("default".to_owned(), json!({ "$ref": "#/components/responses/Error" }));
    responses
}

/// A document in the making.
#[derive(Default)]
struct Document {
    schemas: BTreeMap<String, Json>,
    /// Messages that something refers to and that have no schema yet.
    missing: Vec<MessageDescriptor>,
    comments: HashMap<String, HashMap<Vec<i32>, String>>,
}

impl Document {
    fn operation(&mut self, operation: &Operation) -> Json {
        let method = method_of(operation.call);
        let in_path: BTreeSet<_> = names_in_braces(operation.path).collect();
        let mut parameters: Vec<_> = method
            .input()
            .fields()
            .filter(|field| in_path.contains(name_of(field).as_ref()))
            .map(|field| self.parameter(&field, "path"))
            .collect();
        let mut described = Map::new();
        if operation.verb == Verb::Get {
            parameters.extend(self.query(&method.input(), &in_path));
        } else {
            let schema = self.refer(&method.input());
            let body = json!({ "content": { "application/json": { "schema": schema } } });
            described.insert("requestBody".to_owned(), body);
        }
        let output = method.output();
        let (kind, schema) = match (method.is_server_streaming(), output.name()) {
            (true, "BackupChunk") => {
                ("application/octet-stream", json!({ "type": "string", "format": "binary" }))
            }
            (true, _) => (JSON_LINES, self.refer(&output)),
            (false, _) => ("application/json", self.refer(&output)),
        };
        described.insert("operationId".to_owned(), lower_first(method.name()).into());
        described.insert("summary".to_owned(), operation.summary.into());
        described.insert("tags".to_owned(), json!([operation.path.split('/').nth(1)]));
        described.insert("parameters".to_owned(), parameters.into());
        described.insert(
            "responses".to_owned(),
            Json::Object(responses(operation, json!({ kind: { "schema": schema } }))),
        );
        Json::Object(described)
    }

    /// The fields of a request as parameters; those of its page and its filter too.
    fn query(&mut self, request: &MessageDescriptor, in_path: &BTreeSet<&str>) -> Vec<Json> {
        let mut parameters = Vec::new();
        for field in request.fields().filter(|field| !in_path.contains(name_of(field).as_ref())) {
            match (field.name(), field.kind()) {
                ("page" | "filter", Kind::Message(inner)) => {
                    parameters.extend(inner.fields().map(|field| self.parameter(&field, "query")));
                }
                ("operator", Kind::Message(inner)) => {
                    parameters.extend(inner.fields().map(|field| {
                        let mut parameter = self.parameter(&field, "query");
                        parameter["name"] = format!("operator.{}", name_of(&field)).into();
                        parameter
                    }));
                }
                _ => parameters.push(self.parameter(&field, "query")),
            }
        }
        parameters
    }

    fn parameter(&mut self, field: &FieldDescriptor, place: &str) -> Json {
        let description = self.comment(&field.parent_message().parent_file(), field.path());
        let mut schema = self.field(field);
        // What is part of an address is there.
        if place == "path"
            && let Some(kinds) = schema["type"].as_array()
            && let Some(kind) = kinds.iter().find(|kind| *kind != "null").cloned()
        {
            schema["type"] = kind;
        }
        let parameter = json!({
            "name": name_of(field),
            "in": place,
            "required": place == "path",
            "schema": schema,
        });
        described(parameter, description)
    }

    fn refer(&mut self, message: &MessageDescriptor) -> Json {
        self.missing.push(message.clone());
        reference(&schema_name(message))
    }

    fn add_missing_schemas(&mut self) {
        while let Some(message) = self.missing.pop() {
            let name = schema_name(&message);
            if !self.schemas.contains_key(&name) {
                let schema = self.schema(&message);
                self.schemas.insert(name, schema);
            }
        }
    }

    fn schema(&mut self, message: &MessageDescriptor) -> Json {
        let file = message.parent_file();
        let mut properties = Map::new();
        for field in message.fields() {
            let mut property = self.field(&field);
            if form_of(&field) == Form::Body {
                let hex =
                    json!({ "type": "string", "description": "Instead of body, where that is not text" });
                properties.insert(BODY_HEX.to_owned(), hex);
            }
            if let (Json::Object(property), Some(text)) = (&mut property, self.comment(&file, field.path())) {
                property.insert("description".to_owned(), text.into());
            }
            properties.insert(name_of(&field).into_owned(), property);
        }
        let schema = json!({ "type": "object", "properties": properties });
        described(schema, self.comment(&file, message.path()))
    }

    fn field(&mut self, field: &FieldDescriptor) -> Json {
        if field.is_map() {
            return json!({ "type": "object", "additionalProperties": { "type": "string" } });
        }
        let one = self.one(field);
        if field.is_list() { json!({ "type": "array", "items": one }) } else { one }
    }

    fn one(&mut self, field: &FieldDescriptor) -> Json {
        match (form_of(field), field.kind()) {
            (Form::Time, _) => json!({ "type": ["string", "null"], "format": "date-time" }),
            (Form::MessageId, _) => json!({ "type": ["string", "null"], "format": "uuid" }),
            (Form::TransactionId, _) => {
                json!({ "type": ["string", "null"], "pattern": "^tx-[0-9]+-[0-9]+$" })
            }
            (Form::LeaseToken, _) => json!({ "type": "string", "pattern": "^[0-9]+$" }),
            (Form::Body | Form::Code, _) | (_, Kind::String) => json!({ "type": "string" }),
            (_, Kind::Message(message)) if in_alternative(field) => self.refer(&message),
            (_, Kind::Message(message)) => json!({ "anyOf": [self.refer(&message), { "type": "null" }] }),
            (_, Kind::Enum(values)) => {
                let names: Vec<_> = values.values().map(|value| value.name().to_owned()).collect();
                json!({ "type": "string", "enum": names })
            }
            (_, Kind::Bool) => json!({ "type": "boolean" }),
            _ if field.supports_presence() => json!({ "type": ["integer", "null"] }),
            _ => json!({ "type": "integer" }),
        }
    }

    /// What the .proto files say of a message or field.
    fn comment(&mut self, file: &FileDescriptor, path: &[i32]) -> Option<String> {
        let of_file = self.comments.entry(file.name().to_owned()).or_insert_with(|| comments_of(file));
        of_file.get(path).cloned()
    }
}

/// With its description, if there is one: a document has none that is null.
fn described(mut object: Json, description: Option<String>) -> Json {
    if let Some(description) = description {
        object["description"] = description.into();
    }
    object
}

fn comments_of(file: &FileDescriptor) -> HashMap<Vec<i32>, String> {
    let source = file.file_descriptor_proto().source_code_info.clone().unwrap_or_default();
    let commented = source.location.into_iter().filter_map(|location| {
        let text = location.leading_comments.as_deref()?.split_whitespace().collect::<Vec<_>>().join(" ");
        Some((location.path, text))
    });
    commented.collect()
}

fn names_in_braces(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

fn schema_name(message: &MessageDescriptor) -> String {
    let package = format!("{}.", message.package_name());
    message.full_name().strip_prefix(&package).unwrap_or(message.full_name()).to_owned()
}

fn lower_first(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or(String::new(), |first| first.to_ascii_lowercase().to_string() + letters.as_str())
}

#[cfg(test)]
mod tests {
    use super::super::DESCRIPTORS;
    use super::*;

    /// The sessions are streams in both directions: HTTP has no word for them.
    #[test]
    fn every_call_of_the_protocol_but_the_sessions_is_in_the_table_once() {
        let mut offered: Vec<_> = OPERATIONS.iter().map(|operation| operation.call.to_owned()).collect();
        let services = DESCRIPTORS.services().filter(|service| service.package_name() == "escrow.v1");
        let mut calls: Vec<_> = services
            .flat_map(|service| service.methods().collect::<Vec<_>>())
            .filter(|method| !method.is_client_streaming())
            .map(|method| format!("/{}/{}", method.parent_service().full_name(), method.name()))
            .collect();
        offered.sort();
        calls.sort();
        assert_eq!(offered, calls);
    }

    #[test]
    fn what_a_path_names_is_a_field_of_the_request() {
        for operation in OPERATIONS {
            let request = method_of(operation.call).input();
            for name in names_in_braces(operation.path) {
                assert!(
                    super::super::dialect::field_of(&request, name).is_some(),
                    "{}: {name}",
                    operation.path
                );
            }
        }
    }

    #[test]
    fn every_reference_has_its_schema() {
        let document = whole();
        let mut references = Vec::new();
        collect(&document, &mut references);
        assert!(references.len() > 50);
        for reference in references {
            let pointer = reference.trim_start_matches('#');
            assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
        }
    }

    fn collect(json: &Json, references: &mut Vec<String>) {
        match json {
            Json::Object(object) => {
                references.extend(object.get("$ref").and_then(Json::as_str).map(str::to_owned));
                object.values().for_each(|value| collect(value, references));
            }
            Json::Array(items) => items.iter().for_each(|item| collect(item, references)),
            _ => {}
        }
    }
}
