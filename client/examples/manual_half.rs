//! A half message over two topics, decided by hand: later, by its id, and repeated.
//!
//! For programs that decide elsewhere than they send (a saga, a person, a second process), and for what to do when a
//! decision's answer was lost: decide again, it is idempotent.
//!
//! Run it against a broker: `ESCROW_URL=http://127.0.0.1:7800 cargo run -p escrow-client --example manual_half`

use escrow::{Client, Decision, Message, Reason, TransactionState, Verdict};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("ESCROW_URL").unwrap_or_else(|_| "http://127.0.0.1:7800".into());
    let client = Client::connect(url).await?;
    let run = Message::new("run").id().to_string();
    let (debits, credits) = (format!("debits-{run}"), format!("credits-{run}"));
    client.admin().ensure_topic(&debits).await?;
    client.admin().ensure_topic(&credits).await?;
    let mut both = client.subscribe(format!("books-{run}")).topic(&debits).topic(&credits).open().await?;

    let group = format!("transfers-{run}");
    let producer = client.producer(&group).checker(|_| async { Verdict::Unknown }).build().await?;
    let half = producer
        .half()
        .transaction_key("transfer-7")
        .message(Message::new(&debits).key("account-1").ordering_key("account-1").text("-10"))
        .message(Message::new(&credits).key("account-2").ordering_key("account-2").text("+10"))
        .send()
        .await?;
    let transaction_id = half.transaction_id();
    println!("sender:  {transaction_id} holds {} messages, nobody sees them", half.message_ids().len());
    drop(half);
    producer.close().await;

    // Another process of the same group needs no checker to decide, only the id.
    let decider = client.producer(&group).build().await?;
    let decided = decider.decide(transaction_id, Decision::Commit).await?;
    println!("decider: {:?}, duplicate: {}", decided.state, decided.duplicate);
    let again = decider.decide(transaction_id, Decision::Commit).await?;
    println!("decider: {:?}, duplicate: {}", again.state, again.duplicate);
    assert!(again.state == TransactionState::Committed && again.duplicate);
    let Err(error) = decider.decide(transaction_id, Decision::Rollback).await else {
        return Err("a committed transaction was rolled back".into());
    };
    println!("decider: {error}");
    assert_eq!(error.reason(), Some(Reason::AlreadyDecided));

    for _ in 0..2 {
        let delivery = both.next().await.ok_or("the stream ended")??;
        println!("books:   {} {} from {transaction_id}", delivery.key(), delivery.text()?);
        assert_eq!(delivery.transaction_id(), Some(transaction_id));
        delivery.ack().await?;
    }
    both.close().await;
    decider.close().await;
    println!("done: both messages or none, here both");
    Ok(())
}
