//! The client of Escrow, the transactional-message broker.
//!
//! A producer puts a message *in escrow* (a half message), does its own local work, and commits or rolls back. A
//! committed message reaches every consumer group at least once. If the producer falls silent, the broker asks its
//! [`Checker`] what became of the local work.
//!
//! ```no_run
//! use escrow::{CheckRequest, Checker, Client, Message, Verdict};
//!
//! struct OrderChecker;
//!
//! impl Checker for OrderChecker {
//!     async fn check(&self, half: CheckRequest) -> Verdict {
//!         // Look the order up in the database, by half.key().
//!         Verdict::Unknown
//!     }
//! }
//!
//! # async fn pay(order: &str) -> Result<(), escrow::Error> { Ok(()) }
//! # async fn example() -> Result<(), escrow::Error> {
//! let client = Client::connect("http://127.0.0.1:7800").await?;
//! let producer = client.producer("orders").checker(OrderChecker).build().await?;
//! let half = producer.send_half(Message::new("order-paid").key("o-42").json("the order")?).await?;
//! match pay("o-42").await {
//!     Ok(()) => half.commit().await?,
//!     Err(error) => {
//!         half.rollback().await?;
//!         return Err(error);
//!     }
//! };
//!
//! let mut deliveries = client.subscribe("billing").topic("order-paid").prefetch(256).open().await?;
//! while let Some(delivery) = deliveries.next().await {
//!     let delivery = delivery?;
//!     println!("{} at attempt {}", delivery.key(), delivery.attempt());
//!     delivery.ack().await?;
//! }
//! # Ok(()) }
//! ```
//!
//! One await per operation; any number of futures pipeline on the one stream of their producer or consumer. What is
//! lost with a connection is taken up again: publishes and half messages by their message ids, decisions because they
//! are idempotent, deliveries because their leases end. See `docs/protocol.md` for the wire.

mod admin;
mod alarm;
mod backoff;
mod client;
mod clock;
mod consumer;
mod error;
mod frames;
pub mod inbox;
mod message;
mod producer;
mod settings;
mod trace;

pub use admin::Admin;
pub use client::{Client, ClientBuilder};
pub use consumer::{
    Deliveries, Delivery, HandlerConsumer, IntoOutcome, Nack, Outcome, Received, Start, SubscriptionBuilder,
};
pub use error::{Error, ErrorKind};
pub use escrow_protocol::v1::{self, Decider, InDoubtPolicy, TransactionState};
pub use escrow_protocol::{MessageId, Reason, TransactionId};
pub use message::Message;
pub use producer::{
    CheckMessage, CheckPolicy, CheckRequest, Checker, Decided, Decision, HalfBuilder, HalfMessage, Producer,
    ProducerBuilder, Published, Verdict, WithChecker, WithoutChecker,
};
pub use trace::in_trace;
