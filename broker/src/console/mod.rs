//! The web console: what a person on call opens at night. Pages are made here on the server and work without a script; each
//! is an address with its filters and costs a page, never a scan. What it shows and does goes through the service layer,
//! as with every other way in; it decides nothing.

mod assets;
mod chart;
mod confirm;
mod export;
mod pages;
mod parts;
mod rates;
mod shell;
mod show;
mod visit;
mod words;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{
    ConnectInfo, DefaultBodyLimit, FromRequest, FromRequestParts as _, Path, Query, Request, State,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Form, Router};
use bytes::Bytes;
use escrow_protocol::{Reason, limits, v1};
use maud::html;
use serde_json::Value as Json;

use crate::clock::Clock;
use crate::engine::Refusal;
use crate::http::Shared;
use crate::http::api::fault::status_of;
use crate::http::api::{Calls, call_json};
use crate::http::guard::same_origin;
use crate::service::{Operator, Service};
use confirm::Confirm;
pub(crate) use rates::{Rates, Sample};
use shell::{Place, Sheet};
use visit::{LANGUAGE_COOKIE, OPERATOR_COOKIE, Visit, encoded};

/// Nothing inline, nothing from elsewhere, in no frame, forms only to ourselves.
const CONTENT_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
     form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
/// What a form has, but for a body: headers, a filter, a page of selected ids.
const FORM_BYTES_MAX: usize = 1024 * 1024;
/// Fields of a form: a page of selected ids, and what stands around them. Of small ones a form could hold millions, each
/// many times as large when it is read.
const FIELDS_MAX: usize = limits::PAGE_MAX + 64;
/// How long a browser remembers language and name, seconds: a year.
const REMEMBERED_S: u32 = 365 * 24 * 3600;

/// What the console is made of. A clone is the same console.
#[derive(Clone)]
pub(crate) struct Console {
    shared: Shared,
    rates: Rates,
    clock: Clock,
    /// Known to pages of this process only: what a form must send back.
    token: Arc<str>,
}

/// What a page works with.
struct Desk {
    service: Service,
    calls: Calls,
    rates: Rates,
    from: SocketAddr,
}

impl Desk {
    /// A call of the services as every other way in makes it, with its checks.
    async fn call(&self, call: &'static str, request: &impl prost::Message) -> Result<Json, Refusal> {
        let answer = call_json(&self.calls, call, request, self.from).await;
        answer.map_err(|fault| Refusal::new(fault.reason.parse().unwrap_or(Reason::Internal), fault.message))
    }

    /// Orders what was confirmed, by such a call; then the way leads `to` where it is done, or back.
    async fn order<R: prost::Message>(
        &self,
        visit: &Visit,
        confirm: Confirm,
        call: &'static str,
        request: impl FnOnce(Option<v1::Operator>) -> Result<R, Refusal>,
        to: Option<String>,
    ) -> Outcome {
        let act = async |operator: Operator| {
            self.call(call, &request(Some(operator.into()))?).await?;
            Ok(to)
        };
        confirm.carry_out(visit, act).await
    }
}

impl From<Operator> for v1::Operator {
    fn from(operator: Operator) -> Self {
        Self { name: operator.name, reason: operator.reason }
    }
}

/// What a page answers.
enum Answer {
    /// A page.
    Page(Box<Sheet>),
    /// It was done: go there, and remember who did it.
    Done { to: String, by: String },
    /// Something else.
    Raw(Response),
}

/// A page, or why there is none.
type Outcome = Result<Answer, Refusal>;

impl From<Sheet> for Answer {
    fn from(sheet: Sheet) -> Self {
        Self::Page(Box::new(sheet))
    }
}

impl Console {
    /// A console that asks whoever `shared` leads to.
    pub(crate) fn new(shared: Shared, rates: Rates, clock: Clock, token: &str) -> Self {
        Self { shared, rates, clock, token: token.into() }
    }

    async fn answer<F: Future<Output = Outcome>>(
        &self,
        asked: Asked,
        page: impl FnOnce(Desk, Visit) -> F,
    ) -> Response {
        let Asked { uri, headers, from, parts, query, form, is_form } = asked;
        let unread = form.as_ref().err().copied();
        let form = form.unwrap_or_default();
        let request = visit::Request { uri: &uri, headers: &headers, parts, query, form };
        let visit = Visit::new(request, self.token.clone(), self.clock.now().unix_ms);
        let words = visit.words();
        let (service, calls) = match self.shared.ready() {
            Ok(ready) => ready,
            Err(not_ready) => {
                let content = html! { p.note.warn { (visit.told(&not_ready.0)) } };
                let sheet = Sheet::new(Place::Nowhere, words.not_ready, content);
                return whole(&visit, &sheet.live().with_status(StatusCode::SERVICE_UNAVAILABLE));
            }
        };
        let is_ours = || same_origin(&headers) && visit.field("token") == Some(visit.token());
        if is_form && unread.is_none() && !is_ours() {
            let content = html! { p.note.bad { (words.token_stale) } };
            let sheet = Sheet::new(Place::Nowhere, words.problem, content).with_status(StatusCode::FORBIDDEN);
            return whole(&visit, &sheet);
        }
        if let Some(status) = unread {
            return whole(&visit, &unreadable(&visit, status));
        }
        let desk = Desk { service, calls, rates: self.rates.clone(), from };
        let mut response = match page(desk, visit.clone()).await {
            Ok(Answer::Page(sheet)) => whole(&visit, &sheet),
            Ok(Answer::Done { to, by }) => return done(&to, &by),
            Ok(Answer::Raw(response)) => response,
            Err(refusal) => whole(&visit, &refused(&visit, &refusal)),
        };
        // A form of ours: an address could be anybody's, and would have people act under another name.
        if let Some(by) = visit.field("operator").filter(|_| response.status().is_success()) {
            remember(&mut response, OPERATOR_COOKIE, &encoded(by));
        }
        response
    }
}

/// The routes of all pages. `body_bytes_max`: the largest body of a message, which a form may hold.
pub(crate) fn routes(console: Console, body_bytes_max: usize) -> Router<Shared> {
    // In a form one byte may become three characters.
    let with_a_body = body_bytes_max.saturating_mul(3).saturating_add(FORM_BYTES_MAX);
    let mut router = pages::routes(with_a_body).fallback_service(show(not_found).with_state(console.clone()));
    for asset in assets::ALL {
        router = router.route(&asset.address(), get(move || async move { asset }));
    }
    router
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .layer(middleware::map_response(with_security_headers))
        .with_state(console)
}

/// A page that shows something.
fn show<P, F>(page: P) -> MethodRouter<Console>
where
    P: Fn(Desk, Visit) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Outcome> + Send,
{
    get(move |State(console): State<Console>, asked: Asked| async move { console.answer(asked, page).await })
}

/// What does something, when its form is sent.
fn act<P, F>(page: P) -> MethodRouter<Console>
where
    P: Fn(Desk, Visit) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Outcome> + Send,
{
    post(move |State(console): State<Console>, asked: Asked| async move { console.answer(asked, page).await })
}

/// A request as it came.
struct Asked {
    uri: Uri,
    headers: HeaderMap,
    from: SocketAddr,
    parts: Vec<(String, String)>,
    query: Vec<(String, String)>,
    /// Its fields in their order, each as often as it came; or why they could not be read.
    form: Result<Vec<(String, String)>, StatusCode>,
    /// It wants to do something.
    is_form: bool,
}

impl<S: Send + Sync> FromRequest<S> for Asked {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let is_form = request.method() == Method::POST;
        let (mut head, body) = request.into_parts();
        let refused = |rejection: &dyn std::fmt::Display| {
            (StatusCode::BAD_REQUEST, format!("{rejection}\n")).into_response()
        };
        let Path(parts) =
            Path::from_request_parts(&mut head, state).await.map_err(|error| refused(&error))?;
        let Query(query) =
            Query::from_request_parts(&mut head, state).await.map_err(|error| refused(&error))?;
        let ConnectInfo(from) =
            ConnectInfo::from_request_parts(&mut head, state).await.map_err(|error| refused(&error))?;
        let (uri, headers) = (head.uri.clone(), head.headers.clone());
        // What another page sends is not even read.
        let form = match is_form && same_origin(&headers) {
            true => fields(Request::from_parts(head, body), state).await,
            false => Ok(Vec::new()),
        };
        Ok(Self { uri, headers, from, parts, query, form, is_form })
    }
}

/// The fields of a form, or the status that says why they were not read.
async fn fields<S: Send + Sync>(request: Request, state: &S) -> Result<Vec<(String, String)>, StatusCode> {
    let (head, body) = request.into_parts();
    let sent = Bytes::from_request(Request::from_parts(head.clone(), body), state).await;
    let sent = sent.map_err(|rejection| rejection.into_response().status())?;
    if sent.iter().filter(|byte| **byte == b'&').count() >= FIELDS_MAX {
        return Err(StatusCode::PAYLOAD_TOO_LARGE);
    }
    let form = Form::from_request(Request::from_parts(head, Body::from(sent)), state).await;
    form.map(|Form(fields)| fields).map_err(|rejection| rejection.into_response().status())
}

fn whole(visit: &Visit, sheet: &Sheet) -> Response {
    let mut response =
        (sheet.status, axum::response::Html(shell::page(visit, sheet).into_string())).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if visit.language_chosen() {
        remember(&mut response, LANGUAGE_COOKIE, visit.language().tag());
    }
    response
}

fn done(to: &str, by: &str) -> Response {
    let mut response = Redirect::to(to).into_response();
    remember(&mut response, OPERATOR_COOKIE, &encoded(by));
    response
}

fn remember(response: &mut Response, name: &str, value: &str) {
    let cookie = format!("{name}={value}; Path=/; Max-Age={REMEMBERED_S}; SameSite=Strict; HttpOnly");
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
}

fn refused(visit: &Visit, refusal: &Refusal) -> Sheet {
    let words = visit.words();
    let content = html! {
        div.note.bad role="alert" { p { (visit.worded(refusal)) } p { code { (refusal.reason) } } }
        p { a href="/" { (words.overview) } }
    };
    Sheet::new(Place::Nowhere, words.refused_title, content).with_status(status_of(refusal.reason))
}

fn unreadable(visit: &Visit, status: StatusCode) -> Sheet {
    let words = visit.words();
    let wrong = match status {
        StatusCode::PAYLOAD_TOO_LARGE => words.form_too_large,
        _ => words.form_unreadable,
    };
    let content = html! { p.note.bad role="alert" { (wrong) } p { (words.not_done) } };
    Sheet::new(Place::Nowhere, words.problem, content).with_status(status)
}

async fn not_found(_: Desk, visit: Visit) -> Outcome {
    let words = visit.words();
    let content = html! { p { (words.not_found_help) } };
    Ok(Sheet::new(Place::Nowhere, words.not_found, content).with_status(StatusCode::NOT_FOUND).into())
}

async fn with_security_headers(mut response: Response) -> Response {
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        // Forms say where they come from, to us; nobody else learns which transaction was looked at.
        (header::REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
