//! One request over HTTP or HTTPS: connect, post, read the answer, close. A connection for each: notices are rare.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::letter::Post;
use super::settings::Url;
use super::tls::{Stream, Tls};

/// Longest answer that is read, bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Posts to `url`, within `within`: status and body of the answer. Redirects are not followed: what is signed goes where it
/// was configured to go.
///
/// # Errors
/// What went wrong, for people.
pub(super) async fn post(
    tls: &Tls,
    url: &Url,
    post: Post,
    within: Duration,
) -> Result<(u16, String), String> {
    match timeout(within, exchange(tls, url, post)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("{url} did not answer within {} s", within.as_secs_f32())),
    }
}

async fn exchange(tls: &Tls, url: &Url, post: Post) -> Result<(u16, String), String> {
    let stream = connect(tls, url, url.scheme == "https").await?;
    let failed = |what: &str, error: hyper::Error| format!("{url}: {what}: {error}");
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed("no HTTP there", error))?;
    // Ends with the connection, which ends when the sender is dropped.
    let driving = tokio::spawn(connection);
    let mut request = Request::post(post.path.as_str())
        .header("host", url.authority())
        .header("user-agent", concat!("escrow/", env!("CARGO_PKG_VERSION")))
        .header("connection", "close");
    for (name, value) in post.headers {
        request = request.header(name, value);
    }
    let request = request
        .body(Full::new(Bytes::from(post.body)))
        .map_err(|error| format!("{url}: the request cannot be made: {error}"))?;
    let answer = sender.send_request(request).await.map_err(|error| failed("the request failed", error))?;
    let status = answer.status().as_u16();
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
    driving.abort();
    let body = body.map_err(|error| format!("{url}: its answer does not read: {error}"))?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

/// A connection to where `url` leads, encrypted if `encrypted` says so.
///
/// # Errors
/// What went wrong, for people.
pub(super) async fn connect(tls: &Tls, url: &Url, encrypted: bool) -> Result<Stream, String> {
    let dialled = TcpStream::connect((url.host.as_str(), url.port)).await;
    let stream = dialled.map_err(|error| format!("{url} cannot be reached: {error}"))?;
    match encrypted {
        true => tls.encrypt(Box::new(stream), &url.host).await.map_err(|error| format!("{url}: {error}")),
        false => Ok(Box::new(stream)),
    }
}
