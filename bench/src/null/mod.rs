//! A server that speaks the protocol and does nothing: it answers every operation at once, and delivers in memory what
//! was published or committed. What the generator and the wire can do, without a broker. With a directory to append to,
//! one thread writes what waits and syncs before it is answered: what the wire and the disk can do together.
//!
//! It keeps no promise. It must never be taken for a broker.

mod append;
mod consumer;
mod log;
mod producer;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use escrow_protocol::limits::GRPC_MESSAGE_BYTES_MAX;
use escrow_protocol::v1::consumer_service_server::ConsumerServiceServer;
use escrow_protocol::v1::producer_service_server::ProducerServiceServer;
use futures::StreamExt as _;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;

use crate::error::Error;
use append::Appender;
use consumer::NullConsumer;
pub(crate) use log::Forgery;
use log::Log;
use producer::NullProducer;

/// As the broker's own server is set, so that the two can be compared.
const STREAM_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
const HTTP2_FRAME_BYTES: u32 = 64 * 1024;

/// What the null server does beside answering.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct NullArguments {
    /// Deliver what was published or committed
    #[arg(long)]
    pub keep: bool,
    /// Append bodies to a file in this directory, and sync before answering
    #[arg(long, value_name = "DIRECTORY")]
    pub append_to: Option<PathBuf>,
}

/// Serves until it is killed, and says on stderr where.
///
/// # Errors
/// [`Error::Spawn`] if it cannot listen, or cannot write.
pub async fn null_server(arguments: NullArguments) -> Result<(), Error> {
    let listener = listen().await?;
    let address = listener.local_addr().map_err(|error| Error::Spawn(error.to_string()))?;
    eprintln!("null server ready grpc={address}");
    serve(listener, arguments, Forgery::None).await
}

pub(crate) async fn listen() -> Result<TcpListener, Error> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(|error| Error::Spawn(error.to_string()))
}

pub(crate) async fn serve(
    listener: TcpListener,
    arguments: NullArguments,
    forgery: Forgery,
) -> Result<(), Error> {
    let log = Arc::new(Log::new(arguments.keep, forgery));
    let appender = arguments.append_to.as_deref().map(Appender::start).transpose()?;
    let producer = NullProducer { log: Arc::clone(&log), appender };
    let producer = ProducerServiceServer::new(producer).max_decoding_message_size(GRPC_MESSAGE_BYTES_MAX);
    let consumer = ConsumerServiceServer::new(NullConsumer { log });
    let sockets = TcpListenerStream::new(listener).map(|socket| {
        // Without this a small answer waits 40 ms for company.
        socket.inspect(|socket| drop(socket.set_nodelay(true)))
    });
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(HTTP2_FRAME_BYTES)
        .add_service(producer)
        .add_service(consumer)
        .serve_with_incoming(sockets)
        .await
        .map_err(|error| Error::Spawn(format!("the null server failed: {error}")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::options::{Options, Scenario};
    use crate::report::{Report, Verification};
    use crate::run::run_on;
    use crate::spawn::Broker;

    /// Transactions, some of them rolled back, in order, against a server that lies so.
    async fn against(forgery: Forgery, scenario: Scenario) -> Report {
        let listener = listen().await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let arguments = NullArguments { keep: true, append_to: None };
        let serving = tokio::spawn(serve(listener, arguments, forgery));
        let options = Options {
            outstanding: 8,
            ordered: true,
            rollback_percent: 20,
            duration: Duration::from_millis(100),
            warm_up: Duration::ZERO,
            ..Options::new(scenario, &url)
        };
        let report = run_on(Broker::null_at(url), options, |_progress| {}).await.expect("a run");
        serving.abort();
        report
    }

    fn found(report: &Report) -> Verification {
        report.verified.expect("verified")
    }

    #[tokio::test]
    async fn a_server_that_does_what_it_says_is_sound() {
        for scenario in [Scenario::Tx, Scenario::Steady, Scenario::E2e] {
            let report = against(Forgery::None, scenario).await;
            let found = found(&report);
            assert!(report.is_sound() && report.operations > 0, "{report:?}");
            assert!(found.received > 50 && found.received == found.committed, "{found:?}");
            assert_eq!(found.order_checked, found.received);
        }
    }

    #[tokio::test]
    async fn forged_receipts_are_noticed() {
        let lost = against(Forgery::Loses, Scenario::Tx).await;
        assert!(!lost.is_sound() && found(&lost).missing > 0, "{lost:?}");
        let leaked = against(Forgery::Leaks, Scenario::Tx).await;
        assert!(!leaked.is_sound() && found(&leaked).rolled_back_received > 0, "{leaked:?}");
        let swapped = against(Forgery::Swaps, Scenario::Tx).await;
        assert!(!swapped.is_sound() && found(&swapped).out_of_order > 0, "{swapped:?}");
    }
}
