//! `/api/v1`: every operation of the gRPC services as HTTP with JSON. It translates and nothing else: the request to the
//! bytes of the wire, the call to the services of this process, the answer back. A new call needs one line in
//! [`operations`].

mod call;
mod dialect;
pub(crate) mod fault;
mod openapi;
pub mod operations;
mod read;
mod refusals;
mod write;

use std::net::SocketAddr;
use std::sync::LazyLock;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, get, on};
use bytes::Bytes;
use escrow_protocol::limits::GRPC_MESSAGE_BYTES_MAX;
use escrow_protocol::v1;
use futures::{Stream, StreamExt as _};
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor};
use serde_json::{Map, Value as Json};

pub use call::Calls;
pub(crate) use fault::Fault;
use operations::{DOCUMENT, OPERATIONS, Operation, ROOT, Verb};
pub(crate) use write::{hex, time_text};

use super::Shared;

/// A request body in hexadecimal is twice as long as on the wire.
const REQUEST_BYTES_MAX: usize = 2 * GRPC_MESSAGE_BYTES_MAX;
/// The content type of one JSON text after another, each on a line of its own.
pub(crate) const JSON_LINES: &str = "application/jsonl";

/// What the operations are made of.
static DESCRIPTORS: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(v1::DESCRIPTORS).expect("compiled in, and a test reads them"));

/// The routes of all operations.
pub(super) fn routes() -> Router<Shared> {
    let mut router = Router::new();
    for operation in OPERATIONS {
        let handler = move |state, from, path, query, body| answer(operation, state, from, path, query, body);
        router = router.route(&format!("{ROOT}{}", operation.path), on(filter_of(operation.verb), handler));
    }
    router
        .route(&format!("{ROOT}{DOCUMENT}"), get(|| async { json(openapi::document()) }))
        .route(&format!("{ROOT}/{{*rest}}"), axum::routing::any(no_such_operation))
        .method_not_allowed_fallback(not_this_way)
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
}

/// A text of JSON as an answer.
pub(crate) fn json(text: impl Into<Body>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text.into()).into_response()
}

/// The answer of a unary call as JSON.
///
/// # Errors
/// The refusal of the service.
pub(crate) async fn call_json(
    calls: &Calls,
    call: &'static str,
    request: &impl prost::Message,
    from: SocketAddr,
) -> Result<Json, Fault> {
    let answer = calls.unary(call, request.encode_to_vec().into(), from).await?;
    read_back(&method_of(call), answer)
}

/// What a call that answers with a file says, for whoever has it under an address of their own.
pub(crate) async fn call_file(
    calls: &Calls,
    call: &'static str,
    request: &impl prost::Message,
    from: SocketAddr,
) -> Result<Response, Fault> {
    Ok(file(begun(calls.stream(call, request.encode_to_vec().into(), from).await?).await?))
}

/// What fails before it begins is refused like anything else; what fails later has its status behind it.
async fn begun(
    mut answers: tonic::Streaming<Bytes>,
) -> Result<impl Stream<Item = Result<Bytes, tonic::Status>> + Send + 'static, tonic::Status> {
    let first = answers.next().await.transpose()?;
    Ok(futures::stream::iter(first.map(Ok)).chain(answers))
}

fn filter_of(verb: Verb) -> MethodFilter {
    match verb {
        Verb::Get => MethodFilter::GET,
        Verb::Post => MethodFilter::POST,
        Verb::Patch => MethodFilter::PATCH,
        Verb::Delete => MethodFilter::DELETE,
    }
}

/// A call, with the types of what goes in and out.
fn method_of(call: &str) -> MethodDescriptor {
    let (service, method) =
        call.trim_start_matches('/').split_once('/').expect("the table joins the two with a slash");
    let service = DESCRIPTORS.get_service_by_name(service);
    let method = service.and_then(|service| service.methods().find(|found| found.name() == method));
    method.expect("a test holds the table to the services")
}

async fn no_such_operation() -> Fault {
    Fault::request(
        StatusCode::NOT_FOUND,
        "path",
        format!("no operation is here; {ROOT}{DOCUMENT} has all of them"),
    )
}

async fn not_this_way() -> Fault {
    let text = format!("no operation is asked for in this way here; {ROOT}{DOCUMENT} has all of them");
    Fault::request(StatusCode::METHOD_NOT_ALLOWED, "method", text)
}

async fn answer(
    operation: &'static Operation,
    State(shared): State<Shared>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    Path(path): Path<Vec<(String, String)>>,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Fault> {
    let calls = shared.calls()?;
    let Query(query) = query.map_err(|fault| Fault::invalid("query", fault.body_text()))?;
    let body = body.map_err(|fault| Fault::request(fault.status(), "body", fault.body_text()))?;
    let method = method_of(operation.call);
    let request = request(&method, path.iter().chain(&query), &body)?;
    if !method.is_server_streaming() {
        let answer = calls.unary(operation.call, request, from).await?;
        return Ok(json(read_back(&method, answer)?.to_string()));
    }
    let answers = begun(calls.stream(operation.call, request, from).await?).await?;
    let is_file = method.output().name() == "BackupChunk";
    Ok(if is_file { file(answers) } else { lines(method, answers) })
}

/// What is asked, as the wire has it: the object in the body, and what path and query add.
fn request<'a>(
    method: &MethodDescriptor,
    texts: impl Iterator<Item = &'a (String, String)>,
    body: &Bytes,
) -> Result<Bytes, Fault> {
    let mut object = match body.is_empty() {
        true => Map::new(),
        false => match serde_json::from_slice(body) {
            Ok(Json::Object(object)) => object,
            Ok(_) => return Err(Fault::invalid("body", "it is not an object; send {…}")),
            Err(error) => return Err(Fault::invalid("body", format!("it is not JSON: {error}"))),
        },
    };
    for (name, text) in texts {
        read::place(&method.input(), &mut object, name, text)?;
    }
    let request = read::message(&method.input(), Json::Object(object), "")?;
    Ok(request.encode_to_vec().into())
}

fn read_back(method: &MethodDescriptor, answer: Bytes) -> Result<Json, Fault> {
    let answer = DynamicMessage::decode(method.output(), answer);
    let answer = answer.map_err(|error| Fault::from(tonic::Status::internal(error.to_string())))?;
    Ok(write::message(&answer))
}

/// One line of JSON for each answer. A call that fails after it began says so in its last line: the status is sent by
/// then.
fn lines(
    method: MethodDescriptor,
    answers: impl Stream<Item = Result<Bytes, tonic::Status>> + Send + 'static,
) -> Response {
    let lines = answers.map(move |answer| {
        let line = match answer.map_err(Fault::from).and_then(|answer| read_back(&method, answer)) {
            Ok(line) => line,
            Err(fault) => serde_json::json!({ "error": fault }),
        };
        Ok::<_, std::convert::Infallible>(format!("{line}\n"))
    });
    ([(header::CONTENT_TYPE, JSON_LINES)], Body::from_stream(lines)).into_response()
}

/// The pieces of a file. One that cannot be finished breaks off, so that nobody takes it for whole.
fn file(answers: impl Stream<Item = Result<Bytes, tonic::Status>> + Send + 'static) -> Response {
    let pieces = answers.map(|piece| {
        let chunk =
            v1::BackupChunk::decode(piece?).map_err(|error| tonic::Status::internal(error.to_string()))?;
        Ok::<_, tonic::Status>(chunk.data)
    });
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"escrow.backup\""),
    ];
    (headers, Body::from_stream(pieces)).into_response()
}
