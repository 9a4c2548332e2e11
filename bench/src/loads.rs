//! What producers do in a run: publish, or put in escrow and decide.

use std::sync::Arc;

use bytes::Bytes;
use escrow::{Client, Message, Producer, Verdict, WithChecker};

use crate::clock;
use crate::commits::Commits;
use crate::error::Error;
use crate::load::{Fate, Load, Performed};
use crate::options::Options;
use crate::order::key_of;
use crate::site::Site;
use crate::stamp::Stamp;

/// A load that begins with a session of its own.
pub(crate) trait Open: Load + Sized {
    /// Opens the producer number `index`.
    fn open(
        index: u64,
        client: &Client,
        site: &Arc<Site>,
        options: &Options,
    ) -> impl Future<Output = Result<Self, Error>> + Send;
}

/// Makes the messages of one producer.
pub(crate) struct Mint {
    producer: u64,
    site: Arc<Site>,
    body: Vec<u8>,
    ordered: bool,
}

impl Mint {
    pub(crate) fn new(producer: u64, site: &Arc<Site>, options: &Options) -> Self {
        Self {
            producer,
            site: Arc::clone(site),
            body: clock::random_body(options.body_bytes),
            ordered: options.ordered,
        }
    }

    pub(crate) fn stamp(&self, number: u64) -> Stamp {
        Stamp { producer: self.producer, number }
    }

    pub(crate) fn message(&self, number: u64, place: usize) -> Message {
        let mut body = self.body.clone();
        self.stamp(number).write(&mut body);
        let message = Message::new(self.site.topic_of(number)).bytes(Bytes::from(body));
        match self.ordered {
            true => message.ordering_key(key_of(self.producer, place)),
            false => message,
        }
    }
}

/// Publishes.
pub(crate) struct Publisher {
    mint: Mint,
    producer: Producer,
}

impl Open for Publisher {
    async fn open(index: u64, client: &Client, site: &Arc<Site>, options: &Options) -> Result<Self, Error> {
        let producer =
            client.producer(&site.producer_group).build().await.map_err(Error::broker("open a producer"))?;
        Ok(Self { mint: Mint::new(index, site, options), producer })
    }
}

impl Load for Publisher {
    fn producer(&self) -> u64 {
        self.mint.producer
    }

    fn messages(&self) -> u64 {
        1
    }

    async fn perform(&self, first_message: u64, place: usize) -> Performed {
        let message = self.mint.message(first_message, place);
        let result = self.producer.publish(message).await.map(drop);
        Performed { fate: fate_of(&result, Fate::Committed), result }
    }
}

/// Puts messages in escrow and decides.
pub(crate) struct Transactor {
    mint: Mint,
    producer: Producer<WithChecker>,
    messages: u64,
    rollback_percent: u64,
    commits: Option<Commits>,
}

impl Transactor {
    /// The same, telling when commit was called.
    pub(crate) fn telling(self, commits: Commits) -> Self {
        Self { commits: Some(commits), ..self }
    }
}

impl Open for Transactor {
    async fn open(index: u64, client: &Client, site: &Arc<Site>, options: &Options) -> Result<Self, Error> {
        // What is slow is not dead: a check that comes before the decision must not decide.
        let undecided = |_| async { Verdict::Unknown };
        let build = client.producer(&site.producer_group).checker(undecided).build();
        Ok(Self {
            mint: Mint::new(index, site, options),
            producer: build.await.map_err(Error::broker("open a producer"))?,
            messages: options.messages_per_transaction as u64,
            rollback_percent: u64::from(options.rollback_percent),
            commits: None,
        })
    }
}

impl Transactor {
    /// Spread evenly over the transactions.
    fn rolls_back(&self, transaction: u64) -> bool {
        (transaction + 1) * self.rollback_percent / 100 > transaction * self.rollback_percent / 100
    }

    async fn transact(&self, first_message: u64, place: usize) -> Performed {
        let numbers = first_message..first_message + self.messages;
        let messages = numbers.map(|number| self.mint.message(number, place));
        let half = match self.producer.half().messages(messages).send().await {
            Ok(half) => half,
            // Perhaps stored, but undecided: nobody will see it.
            Err(error) => return Performed { fate: Fate::Refused, result: Err(error) },
        };
        let rolls_back = self.rolls_back(first_message / self.messages);
        let (decided, fate) = match rolls_back {
            true => (half.rollback().await, Fate::RolledBack),
            false => {
                if let Some(commits) = &self.commits {
                    commits.called(self.mint.stamp(first_message), clock::now());
                }
                (half.commit().await, Fate::Committed)
            }
        };
        let result = decided.map(drop);
        Performed { fate: fate_of(&result, fate), result }
    }
}

impl Load for Transactor {
    fn producer(&self) -> u64 {
        self.mint.producer
    }

    fn messages(&self) -> u64 {
        self.messages
    }

    async fn perform(&self, first_message: u64, place: usize) -> Performed {
        self.transact(first_message, place).await
    }
}

pub(crate) fn fate_of(result: &Result<(), escrow::Error>, success: Fate) -> Fate {
    match result {
        Ok(()) => success,
        Err(error) if error.outcome_unknown() => Fate::Unknown,
        Err(_) => Fate::Refused,
    }
}
