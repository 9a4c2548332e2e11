//! The connection to a broker, and what can be opened on it.

use std::sync::Arc;
use std::time::Duration;

use escrow_protocol::{ClientId, GroupName, PROTOCOL_VERSION, PROTOCOL_VERSION_MIN, Reason};
use tonic::transport::{Channel, Endpoint};

use crate::admin::Admin;
use crate::clock;
use crate::consumer::SubscriptionBuilder;
use crate::error::{Error, ErrorKind};
use crate::producer::{ProducerBuilder, WithoutChecker};
use crate::settings::Settings;

/// HTTP/2 window of one stream: with credit on top, h2 is never what holds a session back.
const STREAM_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// HTTP/2 window of the connection.
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
/// Nearly doubles the throughput of batches against the default of 16 KiB; more does not help.
const HTTP2_FRAME_BYTES: u32 = 64 * 1024;

/// A connection to a broker. Cheap to clone; all clones, producers and consumers share one HTTP/2 connection.
///
/// A lost connection comes back by itself: sessions reconnect after a jittered delay of 100 ms that doubles up to 30 s,
/// without giving up, and take up their work where it was.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Channel,
    settings: Arc<Settings>,
}

impl Client {
    /// Connects to the broker at `url`, e.g. `http://127.0.0.1:7800`, with the default settings.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] if `url` is no `http://` URL, [`ErrorKind::Unavailable`] if the broker cannot be
    /// reached within 5 s. The first connection is tried once, so that a wrong address is seen at once; only later
    /// losses are retried.
    ///
    /// Cancel safe: nothing is left behind.
    pub async fn connect(url: impl Into<String>) -> Result<Self, Error> {
        Self::builder(url).connect().await
    }

    /// Settings for a connection to the broker at `url`.
    pub fn builder(url: impl Into<String>) -> ClientBuilder {
        ClientBuilder { url: url.into(), settings: Settings::new(clock::client_id()) }
    }

    /// The name of this client instance in the broker's lists, logs and decisions.
    pub fn client_id(&self) -> &str {
        &self.settings.client_id
    }

    /// A producer of the group `group`. Give it a [`checker`](ProducerBuilder::checker) to send half messages.
    pub fn producer(&self, group: impl Into<String>) -> ProducerBuilder<WithoutChecker> {
        ProducerBuilder::new(self.channel.clone(), Arc::clone(&self.settings), group.into())
    }

    /// A consumer in the group `group`.
    pub fn subscribe(&self, group: impl Into<String>) -> SubscriptionBuilder {
        SubscriptionBuilder::new(self.channel.clone(), Arc::clone(&self.settings), group.into())
    }

    /// The administration of the broker.
    pub fn admin(&self) -> Admin {
        Admin::new(self.channel.clone(), self.settings.client_id.clone())
    }

    /// The channel underneath, for services beside Escrow's own (`grpc.health.v1`, reflection).
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }
}

/// Settings of a [`Client`].
#[derive(Debug, Clone)]
#[must_use = "nothing happens before `connect`"]
pub struct ClientBuilder {
    url: String,
    settings: Settings,
}

impl ClientBuilder {
    /// Names this instance. A broadcast consumer should have the same name after a restart. Default: `rust-` and 12
    /// random letters.
    pub fn client_id(mut self, id: impl Into<String>) -> Self {
        self.settings.client_id = id.into();
        self
    }

    /// How long a connection or session may take to be opened. Default 5 s.
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.settings.connect_timeout = time;
        self
    }

    /// How long an operation is tried, reconnects included, before it fails. Default 30 s.
    pub fn operation_timeout(mut self, time: Duration) -> Self {
        self.settings.operation_timeout = time;
        self
    }

    /// The first and the longest delay between attempts to reconnect. Default 100 ms and 30 s.
    pub fn reconnect_delays(mut self, shortest: Duration, longest: Duration) -> Self {
        self.settings.reconnect_shortest = shortest;
        self.settings.reconnect_longest = longest;
        self
    }

    /// How often a silent connection is probed, and how long the answer may take. Default 20 s and 10 s.
    pub fn keep_alive(mut self, interval: Duration, timeout: Duration) -> Self {
        self.settings.keep_alive_interval = interval;
        self.settings.keep_alive_timeout = timeout;
        self
    }

    /// Bytes of message bodies each producer has under way at most; more waits at the caller. Default 64 MiB.
    pub fn bytes_under_way_max(mut self, bytes: u32) -> Self {
        self.settings.bytes_under_way_max = bytes.max(1);
        self
    }

    /// Connects. See [`Client::connect`] for errors.
    ///
    /// # Errors
    /// Those of [`Client::connect`], and [`ErrorKind::InvalidRequest`] if the client id is no name.
    pub async fn connect(self) -> Result<Client, Error> {
        ClientId::new(&self.settings.client_id)?;
        let endpoint = endpoint(&self.url, &self.settings)?;
        let attempt = tokio::time::timeout(self.settings.connect_timeout, endpoint.connect());
        let channel = match attempt.await {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => return Err(unreachable_broker(&self.url).because(error)),
            Err(elapsed) => return Err(unreachable_broker(&self.url).because(elapsed)),
        };
        Ok(Client { channel, settings: Arc::new(self.settings) })
    }
}

fn unreachable_broker(url: &str) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        format!("no broker can be reached at {url}; is it running, and is this its gRPC address?"),
    )
}

fn endpoint(url: &str, settings: &Settings) -> Result<Endpoint, Error> {
    if !url.starts_with("http://") {
        return Err(Error::invalid(format!(
            "{url:?} is not a broker's address: write it as http://host:port (TLS is not built in)"
        )));
    }
    let endpoint = Endpoint::from_shared(url.to_owned())
        .map_err(|error| Error::invalid(format!("{url:?} is not a URL")).because(error))?;
    Ok(endpoint
        .connect_timeout(settings.connect_timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(settings.keep_alive_interval)
        .keep_alive_timeout(settings.keep_alive_timeout)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(HTTP2_FRAME_BYTES))
}

/// Checks the version that a broker of the release `broker` wants to speak from its welcome on.
pub(crate) fn check_version(version: u32, broker: &str) -> Result<(), Error> {
    if (PROTOCOL_VERSION_MIN..=PROTOCOL_VERSION).contains(&version) {
        return Ok(());
    }
    let remedy = match version > PROTOCOL_VERSION {
        true => "upgrade this client, or use an older broker",
        false => "upgrade the broker, or use an older client",
    };
    let text = format!(
        "the broker (release {broker}) speaks version {version} of the protocol, this client {PROTOCOL_VERSION_MIN} to \
         {PROTOCOL_VERSION}; {remedy}"
    );
    Err(Error::new(ErrorKind::Conflict, text).with_reason(Reason::ProtocolVersion))
}

/// Checks the name of a group.
pub(crate) fn check_group(group: &str) -> Result<(), Error> {
    GroupName::new(group)?;
    Ok(())
}
