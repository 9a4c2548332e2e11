//! Who is told of alarms: a webhook that answers as it is told to, and a mail server that takes everything.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

/// A test that waits longer has failed.
const SOON: Duration = Duration::from_secs(20);

/// A file of the authority of tests.
pub(crate) fn tls_file(name: &str) -> String {
    format!("{}/tests/server/tls/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A request to a webhook.
#[derive(Debug)]
pub(crate) struct Posted {
    /// What it was answered with.
    pub(crate) status: u16,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Posted {
    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        &found.unwrap_or_else(|| panic!("no header {name} in {self:?}")).1
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }

    pub(crate) fn event(&self) -> String {
        self.json()["event"].as_str().expect("it has an event").to_owned()
    }
}

/// See the module.
pub(crate) struct Webhook {
    pub(crate) address: SocketAddr,
    status: Arc<AtomicU16>,
    posted: mpsc::UnboundedReceiver<Posted>,
}

impl Webhook {
    /// Over plain HTTP.
    pub(crate) async fn open() -> Self {
        Self::open_with(None).await
    }

    /// Over TLS, as `localhost`.
    pub(crate) async fn open_tls() -> Self {
        let provider = Arc::new(rustls_graviola::default_provider());
        let chain = CertificateDer::pem_file_iter(tls_file("server.pem")).expect("a chain");
        let chain = chain.collect::<Result<Vec<_>, _>>().expect("a chain");
        let key = PrivateKeyDer::from_pem_file(tls_file("server.key")).expect("a key");
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a key that fits");
        Self::open_with(Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn open_with(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let status = Arc::new(AtomicU16::new(200));
        let (tell, posted) = mpsc::unbounded_channel();
        let answers = status.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let status = answers.load(Ordering::SeqCst);
                let request = match &tls {
                    None => take(stream, status).await,
                    Some(tls) => match tls.accept(stream).await {
                        Ok(stream) => take(stream, status).await,
                        // It does not trust us.
                        Err(_) => None,
                    },
                };
                if let Some(request) = request
                    && tell.send(request).is_err()
                {
                    return;
                }
            }
        });
        Self { address, status, posted }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook?from=escrow", self.address)
    }

    /// What it answers from now on.
    pub(crate) fn answer(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// The next request.
    pub(crate) async fn next(&mut self) -> Posted {
        let next = tokio::time::timeout(SOON, self.posted.recv()).await;
        next.expect("nothing was posted").expect("the webhook is open")
    }

    /// The next request that says something of this event.
    pub(crate) async fn next_event(&mut self, event: &str) -> Posted {
        loop {
            let posted = self.next().await;
            if posted.event() == event {
                return posted;
            }
        }
    }
}

async fn take(mut stream: impl AsyncRead + AsyncWrite + Unpin, status: u16) -> Option<Posted> {
    let mut reader = BufReader::new(&mut stream);
    let mut line = String::new();
    reader.read_line(&mut line).await.ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut headers = Vec::new();
    loop {
        line.clear();
        reader.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_lowercase(), value.to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length").map(|(_, value)| value.parse());
    let mut body = vec![0; length?.ok()?];
    reader.read_exact(&mut body).await.ok()?;
    let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
    stream.write_all(answer.as_bytes()).await.ok()?;
    stream.flush().await.ok()?;
    Some(Posted { status, path, headers, body: String::from_utf8(body).ok()? })
}

/// A mail as the server heard it: every line the client said.
pub(crate) type Dialogue = Vec<String>;

/// A mail server that takes one mail after another; with `login`, only from those who log in.
pub(crate) async fn mail_server(login: bool) -> (SocketAddr, mpsc::UnboundedReceiver<Dialogue>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (tell, mails) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Some(dialogue) = converse(stream, login).await
                && tell.send(dialogue).is_err()
            {
                return;
            }
        }
    });
    (address, mails)
}

async fn converse(mut stream: TcpStream, login: bool) -> Option<Dialogue> {
    let (reader, mut writer) = stream.split();
    let mut lines = BufReader::new(reader).lines();
    writer.write_all(b"220 mail.test ESMTP\r\n").await.ok()?;
    let (mut said, mut in_data, mut known) = (Vec::new(), false, !login);
    while let Some(line) = lines.next_line().await.ok()? {
        let verb = line.split(' ').next().unwrap_or_default().to_uppercase();
        said.push(line.clone());
        let answer = match (in_data, verb.as_str()) {
            (true, ".") => {
                in_data = false;
                "250 taken"
            }
            (true, _) => continue,
            (false, "EHLO") if login => "250-mail.test\r\n250 AUTH PLAIN LOGIN",
            (false, "EHLO") => "250-mail.test\r\n250 8BITMIME",
            (false, "AUTH") => {
                known = true;
                "235 welcome"
            }
            (false, "MAIL") if !known => "530 log in first",
            (false, "DATA") => {
                in_data = true;
                "354 go on"
            }
            (false, "QUIT") => return Some(said),
            _ => "250 fine",
        };
        writer.write_all(format!("{answer}\r\n").as_bytes()).await.ok()?;
    }
    Some(said)
}
