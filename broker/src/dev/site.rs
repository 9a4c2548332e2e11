//! What a story works with: a client of the real kind, deadlines for everything it waits for, and its errors.

use std::time::Duration;

use escrow::{Admin, Checker, Client, Deliveries, Delivery, Producer, Verdict, WithChecker, v1};
use tokio::time::{interval, timeout};

/// How long a story waits for one thing to happen.
pub(super) const PATIENCE: Duration = Duration::from_secs(8);
/// How often it looks, where the broker does not tell by itself.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Why a story could not be told to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoryError {
    /// Something did not happen, or not as it had to.
    #[error("{0}")]
    Words(String),
    /// The broker refused something.
    #[error("{0}")]
    Broker(#[from] escrow::Error),
    /// The system refused something.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl StoryError {
    /// In words.
    pub(super) fn new(words: impl Into<String>) -> Self {
        Self::Words(words.into())
    }
}

impl From<tonic::Status> for StoryError {
    fn from(status: tonic::Status) -> Self {
        Self::Broker(status.into())
    }
}

/// A client at a broker.
#[derive(Clone)]
pub(super) struct Site {
    pub(super) client: Client,
}

impl Site {
    /// Connects.
    pub(super) async fn connect(url: &str) -> Result<Self, StoryError> {
        Ok(Self { client: Client::connect(url).await? })
    }

    /// The administration.
    pub(super) fn admin(&self) -> Admin {
        self.client.admin()
    }

    /// A producer that answers every check the same way.
    pub(super) async fn producer(
        &self,
        group: &str,
        verdict: Verdict,
    ) -> Result<Producer<WithChecker>, StoryError> {
        self.producer_with(group, move |_half| async move { verdict }).await
    }

    /// A producer with this checker.
    pub(super) async fn producer_with(
        &self,
        group: &str,
        checker: impl Checker,
    ) -> Result<Producer<WithChecker>, StoryError> {
        Ok(self.client.producer(group).checker(checker).build().await?)
    }

    /// The deliveries of a group of these topics.
    pub(super) async fn subscribe(&self, group: &str, topics: &[&str]) -> Result<Deliveries, StoryError> {
        let builder = self.client.subscribe(group);
        let builder = topics.iter().fold(builder, |builder, topic| builder.topic(*topic));
        Ok(builder.open().await?)
    }

    /// A transaction as it stands.
    pub(super) async fn transaction(&self, id: escrow::TransactionId) -> Result<v1::Transaction, StoryError> {
        let request = v1::GetTransactionRequest { transaction_id: id.as_u64() };
        Ok(self.admin().get_transaction(request).await?.into_inner())
    }

    /// Waits until a transaction is in this state.
    pub(super) async fn transaction_in(
        &self,
        id: escrow::TransactionId,
        state: v1::TransactionState,
    ) -> Result<v1::Transaction, StoryError> {
        eventually(&format!("{id} did not become {}", state.as_str_name()), async || {
            let transaction = self.transaction(id).await?;
            Ok((transaction.state() == state).then_some(transaction))
        })
        .await
    }
}

/// The next delivery, or why there is none.
pub(super) async fn next(deliveries: &mut Deliveries) -> Result<Delivery, StoryError> {
    match timeout(PATIENCE, deliveries.next()).await {
        Ok(Some(delivery)) => Ok(delivery?),
        Ok(None) => Err(StoryError::new("the deliveries ended")),
        Err(_) => {
            let group = deliveries.group();
            Err(StoryError::new(format!("nothing was delivered to {group} within {PATIENCE:?}")))
        }
    }
}

/// Looks until there is something to see.
pub(super) async fn eventually<T>(
    otherwise: &str,
    mut look: impl AsyncFnMut() -> Result<Option<T>, StoryError>,
) -> Result<T, StoryError> {
    let looking = async {
        let mut ticks = interval(LOOK_EVERY);
        loop {
            ticks.tick().await;
            if let Some(seen) = look().await? {
                return Ok(seen);
            }
        }
    };
    match timeout(PATIENCE, looking).await {
        Ok(seen) => seen,
        Err(_elapsed) => Err(StoryError::new(format!("{otherwise} within {PATIENCE:?}"))),
    }
}

/// The text of a delivery's body.
pub(super) fn body(delivery: &Delivery) -> String {
    String::from_utf8_lossy(delivery.body()).into_owned()
}

/// Who decided, in a word.
pub(super) fn decider(transaction: &v1::Transaction) -> String {
    transaction.decider.as_ref().map_or_else(|| "nobody".to_owned(), |decider| decider.role.clone())
}
