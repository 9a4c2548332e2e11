//! What producers do in a run: publish, or put in escrow and decide.

use bytes::Bytes;
use escrow::{Client, Message, Producer, Verdict, WithChecker};

use crate::clock;
use crate::error::Error;
use crate::load::{Fate, Load, Performed};
use crate::options::Options;
use crate::site::Site;
use crate::stamp::Stamp;

/// A load that begins with a session of its own.
pub(crate) trait Open: Load + Sized {
    /// Opens the producer number `index`.
    fn open(
        index: u64,
        client: &Client,
        site: &Site,
        options: &Options,
    ) -> impl Future<Output = Result<Self, Error>> + Send;
}

/// Makes the messages of one producer.
struct Mint {
    producer: u64,
    topic: String,
    body: Vec<u8>,
}

impl Mint {
    fn new(producer: u64, site: &Site, options: &Options) -> Self {
        Self { producer, topic: site.topic.clone(), body: clock::random_body(options.body_bytes) }
    }

    fn message(&self, number: u64) -> Message {
        let mut body = self.body.clone();
        Stamp { producer: self.producer, number }.write(&mut body);
        Message::new(&self.topic).bytes(Bytes::from(body))
    }
}

/// Publishes.
pub(crate) struct Publisher {
    mint: Mint,
    producer: Producer,
}

impl Open for Publisher {
    async fn open(index: u64, client: &Client, site: &Site, options: &Options) -> Result<Self, Error> {
        let producer =
            client.producer(&site.group).build().await.map_err(Error::broker("open a producer"))?;
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

    async fn perform(&self, first_message: u64) -> Performed {
        let result = self.producer.publish(self.mint.message(first_message)).await.map(drop);
        Performed { fate: fate_of(&result, Fate::Committed), result }
    }
}

/// Puts messages in escrow and decides.
pub(crate) struct Transactor {
    mint: Mint,
    producer: Producer<WithChecker>,
    messages: u64,
    rollback_percent: u64,
}

impl Open for Transactor {
    async fn open(index: u64, client: &Client, site: &Site, options: &Options) -> Result<Self, Error> {
        // What is slow is not dead: a check that comes before the decision must not decide.
        let undecided = |_| async { Verdict::Unknown };
        let build = client.producer(&site.group).checker(undecided).build();
        Ok(Self {
            mint: Mint::new(index, site, options),
            producer: build.await.map_err(Error::broker("open a producer"))?,
            messages: options.messages_per_transaction as u64,
            rollback_percent: u64::from(options.rollback_percent),
        })
    }
}

impl Transactor {
    /// Spread evenly over the transactions.
    fn rolls_back(&self, transaction: u64) -> bool {
        (transaction + 1) * self.rollback_percent / 100 > transaction * self.rollback_percent / 100
    }

    async fn transact(&self, first_message: u64) -> Performed {
        let messages = (first_message..first_message + self.messages).map(|number| self.mint.message(number));
        let half = match self.producer.half().messages(messages).send().await {
            Ok(half) => half,
            // Perhaps stored, but undecided: nobody will see it.
            Err(error) => return Performed { fate: Fate::Refused, result: Err(error) },
        };
        let rolls_back = self.rolls_back(first_message / self.messages);
        let (decided, fate) = match rolls_back {
            true => (half.rollback().await, Fate::RolledBack),
            false => (half.commit().await, Fate::Committed),
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

    async fn perform(&self, first_message: u64) -> Performed {
        self.transact(first_message).await
    }
}

fn fate_of(result: &Result<(), escrow::Error>, success: Fate) -> Fate {
    match result {
        Ok(()) => success,
        Err(error) if error.outcome_unknown() => Fate::Unknown,
        Err(_) => Fate::Refused,
    }
}
