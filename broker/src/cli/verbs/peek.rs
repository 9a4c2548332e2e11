//! `escrow sub --no-ack`: only looks. Messages are taken under leases and all given back in the end, which counts no
//! attempt. By single calls, not by a session: what is given back must not come again at once.

use std::time::Duration;

use escrow_protocol::limits::{FRAME_ENTRIES_MAX, GRPC_MESSAGE_BYTES_MAX, RECEIVE_MESSAGES_MAX};
use escrow_protocol::v1;
use escrow_protocol::v1::consumer_service_client::ConsumerServiceClient;
use escrow_protocol::v1::settlement::Verb;
use tonic::transport::Channel;

use super::subscribe::SubArgs;
use crate::cli::context::Global;
use crate::cli::error::CliError;
use crate::cli::output::Printer;
use crate::cli::signals::interrupted;
use crate::cli::view::DeliveryView;

/// Messages held at most: all are given back in the end.
const HELD_MAX: usize = 10_000;
/// Nothing for so long is the end, unless told otherwise: there is nothing more to look at.
const PATIENCE: Duration = Duration::from_secs(1);
/// One call takes so many bytes at most.
const CALL_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Leases are renewed while this part of them is left.
const RENEWED_PER_LEASE: i64 = 3;

/// Prints what is ready, and gives it back. How many there were.
pub(super) async fn peek(args: &SubArgs, global: &Global) -> Result<u64, CliError> {
    let client = global.client().await?;
    let consumers = ConsumerServiceClient::new(client.channel())
        .max_decoding_message_size(GRPC_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(GRPC_MESSAGE_BYTES_MAX);
    let mut peek =
        Peek { args, consumers, client_id: client.client_id().to_owned(), held: Vec::new(), lease_ms: 0 };
    let outcome = peek.look(&mut global.printer()).await;
    let given_back = peek.settle_all(&Verb::Release(v1::Release {})).await;
    outcome?;
    given_back?;
    Ok(peek.held.len() as u64)
}

struct Peek<'a> {
    args: &'a SubArgs,
    consumers: ConsumerServiceClient<Channel>,
    client_id: String,
    /// The tokens of the leases held.
    held: Vec<u64>,
    lease_ms: i64,
}

impl Peek<'_> {
    async fn look(&mut self, printer: &mut Printer) -> Result<(), CliError> {
        let wanted = self.args.count.map_or(HELD_MAX, |count| usize::try_from(count).unwrap_or(HELD_MAX));
        let wanted = wanted.min(HELD_MAX);
        let patience = self.args.timeout.unwrap_or(PATIENCE);
        let mut waited = Duration::ZERO;
        let mut stop = std::pin::pin!(interrupted());
        while self.held.len() < wanted && waited < patience {
            let wait = self.wait_for(patience - waited);
            let request = self.request(wanted - self.held.len(), wait);
            // Cut off, a call's messages are lost to this program only until their leases end.
            let answer = tokio::select! {
                biased;
                () = &mut stop => return Ok(()),
                answer = self.consumers.receive(request) => answer?.into_inner(),
            };
            waited = if answer.deliveries.is_empty() { waited + wait } else { Duration::ZERO };
            for delivery in answer.deliveries {
                self.held.push(delivery.lease_token);
                self.lease_ms = delivery.lease_ms;
                printer.line(&DeliveryView::from(delivery))?;
            }
            if wait < patience {
                self.settle_all(&Verb::Extend(v1::Extend { lease_ms: 0 })).await?;
            }
        }
        Ok(())
    }

    /// No longer than leases can wait to be renewed.
    fn wait_for(&self, left: Duration) -> Duration {
        match u64::try_from(self.lease_ms / RENEWED_PER_LEASE) {
            Ok(ms @ 1..) => left.min(Duration::from_millis(ms)),
            _ => left.min(Duration::from_secs(30)),
        }
    }

    fn request(&self, messages: usize, wait: Duration) -> v1::ReceiveRequest {
        v1::ReceiveRequest {
            group: self.args.group.clone(),
            client_id: self.client_id.clone(),
            subscriptions: self.args.subscriptions(),
            max_messages: u32::try_from(messages).unwrap_or(u32::MAX).min(RECEIVE_MESSAGES_MAX),
            max_bytes: CALL_BYTES_MAX,
            wait_ms: i64::try_from(wait.as_millis()).unwrap_or(i64::MAX),
        }
    }

    async fn settle_all(&mut self, verb: &Verb) -> Result<(), CliError> {
        for tokens in self.held.chunks(FRAME_ENTRIES_MAX) {
            let settlements = tokens
                .iter()
                .map(|token| v1::Settlement { correlation: 0, lease_token: *token, verb: Some(verb.clone()) })
                .collect();
            let request = v1::SettleRequest { group: self.args.group.clone(), settlements };
            self.consumers.settle(request).await?;
        }
        Ok(())
    }
}
