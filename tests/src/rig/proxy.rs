//! A bad network in one process: a TCP proxy between clients and a broker that delays, drips, swallows, cuts and resets
//! what passes, as it is told. It knows nothing of what it carries.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Bytes carried at once.
const CHUNK_BYTES: usize = 16 * 1024;
/// Bytes at once, and the pause behind them, where a connection drips.
const DRIP_BYTES: usize = 48;
const DRIP_PAUSE: Duration = Duration::from_millis(1);

/// Where bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Toward {
    /// To the broker: requests.
    Broker,
    /// To the client: replies.
    Client,
}

/// What is wrong with the network, for all connections alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// Nothing.
    Fair,
    /// Everything takes this much longer, in both directions.
    Delay(Duration),
    /// A few bytes at a time.
    Drip,
    /// Requests arrive, replies are lost. What lost something once carries nothing any more.
    SwallowReplies,
    /// Nothing passes, and nobody is told.
    Silence,
    /// All connections end in order, and new ones at once.
    Closed,
    /// This direction ends, the other goes on.
    HalfClosed(Toward),
    /// Each connection is reset when so many more bytes went this way: in the middle of a frame, mostly.
    ResetAfter(Toward, usize),
}

/// The proxy. Dropped, it ends with all its connections.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    weather: watch::Sender<Weather>,
    counters: Arc<Counters>,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Counters {
    connections: AtomicU64,
    ended_by_force: AtomicU64,
    bytes_lost: AtomicU64,
}

/// The connection is over, both ways.
struct Cut;

impl Proxy {
    /// A proxy on a port of its own for the broker at `port`.
    ///
    /// # Errors
    /// If loopback has no port.
    pub async fn start(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let own_port = listener.local_addr()?.port();
        let (weather, forecast) = watch::channel(Weather::Fair);
        let counters = Arc::new(Counters::default());
        let accepting = tokio::spawn(accept(listener, port, forecast, Arc::clone(&counters)));
        Ok(Self { port: own_port, weather, counters, accepting })
    }

    /// Where clients connect.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Changes the weather, for connections that are open as well.
    pub fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }

    /// How many connections there were, and how many of them it ended.
    pub fn connections(&self) -> (u64, u64) {
        let Counters { connections, ended_by_force, .. } = &*self.counters;
        (connections.load(Ordering::Relaxed), ended_by_force.load(Ordering::Relaxed))
    }

    /// Bytes that never arrived.
    pub fn bytes_lost(&self) -> u64 {
        self.counters.bytes_lost.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    listener: TcpListener,
    port: u16,
    weather: watch::Receiver<Weather>,
    counters: Arc<Counters>,
) {
    let mut carriers = tokio::task::JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        counters.connections.fetch_add(1, Ordering::Relaxed);
        carriers.spawn(carry(client, port, weather.clone(), Arc::clone(&counters)));
        while carriers.try_join_next().is_some() {}
    }
}

/// One connection, from end to end.
async fn carry(client: TcpStream, port: u16, weather: watch::Receiver<Weather>, counters: Arc<Counters>) {
    let Ok(broker) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    if client.set_nodelay(true).is_err() || broker.set_nodelay(true).is_err() {
        return;
    }
    let (from_client, to_client) = client.into_split();
    let (from_broker, to_broker) = broker.into_split();
    let requests = Way { toward: Toward::Broker, weather: weather.clone(), counters: Arc::clone(&counters) };
    let replies = Way { toward: Toward::Client, weather, counters: Arc::clone(&counters) };
    let both = tokio::try_join!(requests.pump(from_client, to_broker), replies.pump(from_broker, to_client));
    if both.is_err() {
        counters.ended_by_force.fetch_add(1, Ordering::Relaxed);
    }
}

/// One direction of a connection.
struct Way {
    toward: Toward,
    weather: watch::Receiver<Weather>,
    counters: Arc<Counters>,
}

impl Way {
    /// Carries until one end closes, which the other is told, or the weather cuts the connection.
    async fn pump(mut self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> Result<(), Cut> {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut left_until_reset: Option<usize> = None;
        let mut is_deaf = false;
        loop {
            let weather = *self.weather.borrow_and_update();
            left_until_reset = match weather {
                Weather::ResetAfter(toward, bytes) if toward == self.toward => {
                    left_until_reset.or(Some(bytes))
                }
                _ => None,
            };
            match weather {
                Weather::Closed => return Err(Cut),
                Weather::HalfClosed(toward) if toward == self.toward => {
                    let _ = to.shutdown().await;
                    // What comes later is nobody's; the other direction goes on until the weather changes.
                    let _ = self.weather.changed().await;
                    return Err(Cut);
                }
                Weather::Silence => match self.weather.changed().await {
                    Ok(()) => continue,
                    Err(_proxy_gone) => return Err(Cut),
                },
                // A connection that lost bytes cannot be mended.
                Weather::Fair if is_deaf => return Err(Cut),
                _ => {}
            }
            // Both arms are cancel safe.
            let bytes = tokio::select! {
                read = from.read(&mut chunk) => read.unwrap_or(0),
                changed = self.weather.changed() => match changed {
                    Ok(()) => continue,
                    Err(_proxy_gone) => return Err(Cut),
                },
            };
            if bytes == 0 {
                let _ = to.shutdown().await;
                return Ok(());
            }
            let weather = *self.weather.borrow();
            if is_deaf || (weather == Weather::SwallowReplies && self.toward == Toward::Client) {
                is_deaf = true;
                self.counters.bytes_lost.fetch_add(bytes as u64, Ordering::Relaxed);
                continue;
            }
            if let Some(left) = left_until_reset {
                if bytes >= left {
                    let _ = to.write_all(&chunk[..left]).await;
                    self.counters.bytes_lost.fetch_add((bytes - left) as u64, Ordering::Relaxed);
                    reset(&from, to);
                    return Err(Cut);
                }
                left_until_reset = Some(left - bytes);
            }
            if deliver(&mut to, &chunk[..bytes], weather).await.is_err() {
                return Err(Cut);
            }
        }
    }
}

/// Writes to the other end, as slowly as the weather is.
async fn deliver(to: &mut OwnedWriteHalf, bytes: &[u8], weather: Weather) -> io::Result<()> {
    match weather {
        Weather::Delay(time) => {
            pause(time).await;
            to.write_all(bytes).await
        }
        Weather::Drip => {
            for drop in bytes.chunks(DRIP_BYTES) {
                to.write_all(drop).await?;
                pause(DRIP_PAUSE).await;
            }
            Ok(())
        }
        _ => to.write_all(bytes).await,
    }
}

/// The time that a slow network takes; nobody waits for it in place of something else.
async fn pause(time: Duration) {
    let _ = timeout(time, pending::<()>()).await;
}

/// Both ends get a reset instead of an end.
fn reset(from: &OwnedReadHalf, to: OwnedWriteHalf) {
    let _ = from.as_ref().set_zero_linger();
    let _ = to.as_ref().set_zero_linger();
    // Dropped, it would end in order first.
    to.forget();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that sends back what it gets, behind a proxy; the other end of a connection to it.
    async fn echo() -> (Proxy, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap().port()).await.unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (mut from, mut to) = stream.into_split();
                tokio::spawn(async move { tokio::io::copy(&mut from, &mut to).await });
            }
        });
        let client = TcpStream::connect(("127.0.0.1", proxy.port)).await.unwrap();
        (proxy, client)
    }

    async fn said(client: &mut TcpStream, text: &str) -> io::Result<String> {
        client.write_all(text.as_bytes()).await?;
        let mut answer = vec![0; text.len()];
        client.read_exact(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    #[tokio::test]
    async fn fair_slow_and_dripping_networks_carry_everything() {
        let (proxy, mut client) = echo().await;
        for weather in [Weather::Fair, Weather::Delay(Duration::from_millis(1)), Weather::Drip] {
            proxy.set(weather);
            let text = "x".repeat(3 * DRIP_BYTES);
            assert_eq!(said(&mut client, &text).await.unwrap(), text, "{weather:?}");
        }
        assert_eq!((proxy.connections(), proxy.bytes_lost()), ((1, 0), 0));
    }

    #[tokio::test]
    async fn a_reset_comes_in_the_middle() {
        let (proxy, mut client) = echo().await;
        proxy.set(Weather::ResetAfter(Toward::Client, 3));
        let error = said(&mut client, "hello").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(proxy.bytes_lost(), 2);
    }

    #[tokio::test]
    async fn an_end_is_an_end_for_new_connections_too() {
        let (proxy, mut client) = echo().await;
        proxy.set(Weather::Closed);
        assert!(said(&mut client, "hello").await.is_err());
        let mut late = TcpStream::connect(("127.0.0.1", proxy.port)).await.unwrap();
        assert!(said(&mut late, "hello").await.is_err());
        proxy.set(Weather::Fair);
        let mut new = TcpStream::connect(("127.0.0.1", proxy.port)).await.unwrap();
        assert_eq!(said(&mut new, "hello").await.unwrap(), "hello");
    }

    #[tokio::test]
    async fn swallowed_replies_are_lost_and_the_connection_with_them() {
        let (proxy, mut client) = echo().await;
        said(&mut client, "hello").await.unwrap();
        proxy.set(Weather::SwallowReplies);
        client.write_all(b"lost").await.unwrap();
        while proxy.bytes_lost() < 4 {
            tokio::task::yield_now().await;
        }
        proxy.set(Weather::Fair);
        assert!(said(&mut client, "hello").await.is_err());
    }

    #[tokio::test]
    async fn half_an_end_leaves_the_other_half() {
        let (proxy, mut client) = echo().await;
        said(&mut client, "hello").await.unwrap();
        proxy.set(Weather::HalfClosed(Toward::Client));
        let mut rest = Vec::new();
        assert_eq!(client.read_to_end(&mut rest).await.unwrap(), 0);
        client.write_all(b"still goes").await.unwrap();
    }
}
