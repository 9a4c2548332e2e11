//! Exactly-once *effects* on top of at-least-once delivery: the inbox of an idempotent consumer.
//!
//! A message can come more than once: its consumer crashed after the work and before the ack, or the ack was lost. No
//! broker can prevent that; only the place where the effect is stored can tell whether it is there already. So remember
//! the message's id *in the same transaction as the effect*:
//!
//! ```sql
//! BEGIN;
//! INSERT INTO inbox (consumer, message_id) VALUES ('billing', $1) ON CONFLICT DO NOTHING;
//! -- no row inserted: it was handled before, COMMIT and ack
//! UPDATE accounts SET balance = balance - 10 WHERE ...;
//! COMMIT;
//! -- then ack
//! ```
//!
//! [`Inbox`] is that one statement as a trait, to be implemented for your transaction type, and [`once`] is the rest:
//! run the effect only the first time. Commit the transaction afterwards, and ack after the commit.
//! `examples/idempotent_consumer.rs` shows the whole.
//!
//! Rows may be deleted once the message cannot come again: after the group's longest retry time and the longest time a
//! person might take to redrive a dead letter.

use std::future::Future;

use escrow_protocol::MessageId;

/// A table of handled message ids, seen from inside a transaction of the consumer's own store.
///
/// What makes it work is that it lives and dies with the transaction: if that is rolled back, the id is forgotten with
/// the effect. A set in memory, a cache, or a connection of its own does not do that, and loses or doubles effects at
/// the first crash; that is why this crate has none ready-made.
pub trait Inbox {
    /// What the store's calls fail with.
    type Error;

    /// Remembers `id`, in this transaction. True if it was not known before.
    ///
    /// Two transactions that ask for the same id at the same time must not both get `true` and commit: a unique index
    /// does that.
    ///
    /// # Errors
    /// The store's own. Roll the transaction back and nack the delivery.
    fn first_time(&mut self, id: MessageId) -> impl Future<Output = Result<bool, Self::Error>> + Send;
}

/// Runs `effect` in the transaction `inbox` unless the message `id` was handled before; returns its result, or `None`.
/// The caller commits the transaction in both cases, and then acks.
///
/// # Errors
/// Those of the inbox and of the effect. Roll the transaction back and nack the delivery.
///
/// Cancel safe as far as the transaction is: dropped, roll it back.
pub async fn once<I, T, E>(
    inbox: &mut I,
    id: MessageId,
    effect: impl AsyncFnOnce(&mut I) -> Result<T, E>,
) -> Result<Option<T>, E>
where
    I: Inbox,
    E: From<I::Error>,
{
    match inbox.first_time(id).await? {
        true => effect(inbox).await.map(Some),
        false => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::convert::Infallible;

    use super::*;

    /// A transaction over a table of ids and a balance: works on copies, which `commit` puts back.
    #[derive(Clone, Default)]
    struct Transaction {
        handled: HashSet<MessageId>,
        balance: i64,
    }

    impl Inbox for Transaction {
        type Error = Infallible;

        async fn first_time(&mut self, id: MessageId) -> Result<bool, Infallible> {
            Ok(self.handled.insert(id))
        }
    }

    async fn book(transaction: &mut Transaction, id: MessageId) -> Option<i64> {
        let booked: Result<_, Infallible> = once(transaction, id, async |transaction: &mut Transaction| {
            transaction.balance += 10;
            Ok(transaction.balance)
        })
        .await;
        booked.expect("infallible")
    }

    #[tokio::test]
    async fn the_effect_happens_once_however_often_the_message_comes() {
        let (mut store, id) = (Transaction::default(), MessageId::new(1, [1; 10]));
        assert_eq!(book(&mut store, id).await, Some(10));
        assert_eq!(book(&mut store, id).await, None);
        assert_eq!(book(&mut store, MessageId::new(1, [2; 10])).await, Some(20));
    }

    /// As it is used in a handler, which runs in a task of its own.
    #[tokio::test]
    async fn it_works_in_a_spawned_task() {
        let id = MessageId::new(1, [1; 10]);
        let booked = tokio::spawn(async move {
            let mut store = Transaction::default();
            book(&mut store, id).await
        });
        assert_eq!(booked.await.expect("no panic"), Some(10));
    }

    #[tokio::test]
    async fn a_rolled_back_transaction_forgets_the_id_with_the_effect() {
        let (store, id) = (Transaction::default(), MessageId::new(1, [1; 10]));
        let mut rolled_back = store.clone();
        book(&mut rolled_back, id).await;
        drop(rolled_back);
        assert_eq!(book(&mut store.clone(), id).await, Some(10));
    }
}
