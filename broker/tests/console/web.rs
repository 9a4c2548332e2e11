//! A browser without a window: requests over a plain socket, answers taken apart.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A request in the making.
pub(crate) struct Ask {
    verb: &'static str,
    path: String,
    headers: Vec<(String, String)>,
    body: String,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

pub(crate) fn get(path: impl Into<String>) -> Ask {
    Ask { verb: "GET", path: path.into(), headers: Vec::new(), body: String::new() }
}

pub(crate) fn ask(verb: &'static str, path: impl Into<String>) -> Ask {
    Ask { verb, ..get(path) }
}

/// A call of the API that changes something.
pub(crate) fn call(verb: &'static str, path: impl Into<String>, body: Value) -> Ask {
    Ask { verb, body: body.to_string(), ..get(path) }.with("content-type", "application/json")
}

/// A form, as a browser sends it.
pub(crate) fn form(path: impl Into<String>, fields: &[(&str, &str)]) -> Ask {
    let body: Vec<_> =
        fields.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
    Ask { verb: "POST", body: body.join("&"), ..get(path) }
        .with("content-type", "application/x-www-form-urlencoded")
}

/// Percent-encoded.
pub(crate) fn encoded(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    text.bytes()
        .map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

impl Ask {
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// HTTP/1.0, so that the answer ends with the connection.
    pub(crate) async fn of(self, address: SocketAddr) -> Answer {
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("HTTP listens");
        let mut head =
            format!("{} {} HTTP/1.0\r\ncontent-length: {}\r\n", self.verb, self.path, self.body.len());
        if !self.headers.iter().any(|(name, _)| name == "host") {
            head.push_str(&format!("host: {address}\r\n"));
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all(format!("{head}\r\n{}", self.body).as_bytes()).await.expect("written");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("read");
        Answer::parse(&answer)
    }
}

impl Answer {
    fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        let head = std::str::from_utf8(&bytes[..end]).expect("a head of text");
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status line");
        let headers = lines.filter_map(|line| line.split_once(": "));
        Self {
            status: status.parse().expect("a status"),
            headers: headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect(),
            body: bytes[end + 4..].to_vec(),
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.text()))
    }

    /// Asserts the status, and shows the rest if it is another.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        self
    }
}
