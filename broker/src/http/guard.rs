//! Who may talk to the console and the API from within a browser. Nobody is authenticated yet and the port is this
//! machine's own, so what must be kept out is other people's pages: those that call this port (cross-site requests), and
//! those whose name was made to lead here (DNS rebinding).

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::Shared;
use super::api::Fault;

/// The names under which this port may be addressed.
#[derive(Debug, Clone)]
pub(crate) enum Hosts {
    /// Any: `--insecure` said so in as many words.
    Any,
    /// Those of this machine to itself, and these.
    LoopbackAnd(Vec<String>),
}

impl Hosts {
    fn admit(&self, host: &str) -> bool {
        let Self::LoopbackAnd(names) = self else { return true };
        let name = without_port(host).to_ascii_lowercase();
        let address = name.trim_start_matches('[').trim_end_matches(']');
        let is_loopback = address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        is_loopback || name == "localhost" || name.ends_with(".localhost") || names.contains(&name)
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

/// Refuses requests under a name that is not this port's.
pub(super) async fn only_known_hosts(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    match host {
        Some(host) if shared.hosts.admit(host) => next.run(request).await,
        Some(host) => {
            let fault = format!(
                "{host:?} is not a name of this port: another site may have sent you here; open it as localhost, or as \
                 the address it listens on"
            );
            Fault::request(StatusCode::MISDIRECTED_REQUEST, "Host", fault).into_response()
        }
        None => {
            Fault::request(StatusCode::BAD_REQUEST, "Host", "it is missing or not text; say whom you call")
                .into_response()
        }
    }
}

/// Refuses calls of the API that another site's page could have made: a page can send forms and plain text anywhere, but
/// not JSON.
pub(super) async fn only_deliberate_calls(request: Request, next: Next) -> Response {
    let headers = request.headers();
    if said(headers, "sec-fetch-site") == Some("cross-site") {
        let fault = "this call comes from another site's page; the API is not for those";
        return Fault::request(StatusCode::FORBIDDEN, "Sec-Fetch-Site", fault).into_response();
    }
    let looks = matches!(*request.method(), Method::GET | Method::HEAD);
    if !looks && !is_json(headers) {
        let fault = "it is not application/json; what changes something needs it, also without a body";
        return Fault::request(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Content-Type", fault).into_response();
    }
    next.run(request).await
}

/// Whether a form was sent by a page of this port.
pub(crate) fn same_origin(headers: &HeaderMap) -> bool {
    match (said(headers, "sec-fetch-site"), said(headers, "origin")) {
        (Some(site), _) => site == "same-origin",
        (None, Some(origin)) => {
            let host = said(headers, "host");
            origin.split_once("://").is_some_and(|(_, of)| Some(of) == host)
        }
        // Neither: no browser. The token still has to be right.
        (None, None) => true,
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = said(headers, "content-type").unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

fn said<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_and_configured_names_are_admitted() {
        let hosts = Hosts::LoopbackAnd(vec!["escrow.example".to_owned()]);
        for host in [
            "localhost",
            "localhost:7880",
            "127.0.0.1:7880",
            "[::1]:7880",
            "Escrow.Example:80",
            "a.localhost",
        ] {
            assert!(hosts.admit(host), "{host}");
        }
        for host in
            ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:7880", "10.0.0.1", "", ":80"]
        {
            assert!(!hosts.admit(host), "{host}");
        }
        assert!(Hosts::Any.admit("anything.example"));
    }

    #[test]
    fn a_form_of_another_site_is_not_of_the_same_origin() {
        let of = |pairs: &[(&'static str, &'static str)]| {
            let headers = pairs.iter().map(|(name, value)| {
                (header::HeaderName::from_static(name), header::HeaderValue::from_static(value))
            });
            same_origin(&headers.collect())
        };
        assert!(of(&[("sec-fetch-site", "same-origin")]));
        assert!(of(&[("host", "localhost:7880"), ("origin", "http://localhost:7880")]));
        assert!(of(&[]));
        assert!(!of(&[("sec-fetch-site", "cross-site")]));
        assert!(!of(&[("sec-fetch-site", "same-site"), ("origin", "http://localhost:7880")]));
        assert!(!of(&[("host", "localhost:7880"), ("origin", "http://evil.example")]));
        assert!(!of(&[("host", "localhost:7880"), ("origin", "null")]));
    }
}
