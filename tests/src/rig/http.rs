//! The HTTP port, asked as plainly as can be: one request on a connection of its own, timed from the first byte sent to the
//! last received.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What came back.
#[derive(Debug)]
pub struct Page {
    /// The status.
    pub status: u16,
    /// Where it leads on.
    pub location: Option<String>,
    /// The body, as text.
    pub text: String,
    /// How long it took.
    pub took: Duration,
}

/// `GET path` at this port of loopback.
///
/// # Errors
/// If nobody answers, or not with HTTP.
pub async fn get(port: u16, path: &str) -> std::io::Result<Page> {
    get_with(port, path, "").await
}

/// As [`get`], with more lines of the head, each with its end.
///
/// # Errors
/// As [`get`].
pub async fn get_with(port: u16, path: &str, head: &str) -> std::io::Result<Page> {
    let started = now();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    // HTTP/1.0: the answer ends with the connection.
    let request = format!("GET {path} HTTP/1.0\r\nhost: 127.0.0.1:{port}\r\n{head}\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let took = started.elapsed();
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other(format!("no HTTP: {head:?}")))?;
    let location = head.lines().find_map(|line| line.strip_prefix("location: ")).map(str::to_owned);
    Ok(Page { status, location, text: body.to_owned(), took })
}

#[allow(clippy::disallowed_methods, reason = "a rig measures; nothing is decided by it but what it reports")]
fn now() -> Instant {
    Instant::now()
}
