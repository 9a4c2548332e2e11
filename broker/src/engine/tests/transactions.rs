//! Transactions: visible or gone, decided once, checked back.

use super::*;

#[test]
fn a_half_message_is_seen_only_after_its_commit() {
    let mut bench = Bench::new();
    bench.topic("paid");
    let (session, _) = bench.consumer("billing", "paid");
    let message = bench.message("paid");
    let transaction = bench.half(vec![message.clone()]);
    assert_eq!(deliveries(bench.later(0)), vec![]);

    let (outcomes, effects) = bench.turn(vec![decide(transaction, Decision::Commit)]);
    assert!(matches!(
        outcomes[0],
        Ok(Reply::Decided { state: TransactionState::Committed, duplicate: false, .. })
    ));
    let got = deliveries(effects);
    assert_eq!(
        got.iter().map(|d| (d.session, d.id, d.attempt)).collect::<Vec<_>>(),
        vec![(session, message.id, 1)]
    );
    assert_eq!(bench.ask(settle("billing", got[0].token, Verb::Ack)), Reply::Done);
    bench.later(0);
    assert_eq!((bench.count(keys::space::MESSAGE), bench.count(keys::space::QUEUE)), (0, 0));
}

#[test]
fn a_rolled_back_message_is_gone() {
    let mut bench = Bench::new();
    bench.topic("paid");
    let (_, _) = bench.consumer("billing", "paid");
    let message = bench.message("paid");
    let transaction = bench.half(vec![message]);
    bench.ask(decide(transaction, Decision::Rollback));
    assert_eq!(deliveries(bench.later(0)), vec![]);
    for space in [keys::space::MESSAGE, keys::space::PLACE, keys::space::QUEUE, keys::space::BUSINESS_KEY] {
        assert_eq!(bench.count(space), 0);
    }
}

#[test]
fn a_decision_is_final_and_repeatable_also_after_a_restart() {
    let mut bench = Bench::new();
    bench.topic("paid");
    let message = bench.message("paid");
    let transaction = bench.half(vec![message]);
    bench.ask(decide(transaction, Decision::Commit));
    for _ in 0..2 {
        assert!(matches!(
            bench.ask(decide(transaction, Decision::Commit)),
            Reply::Decided { state: TransactionState::Committed, duplicate: true, .. }
        ));
        let refusal =
            bench.turn(vec![decide(transaction, Decision::Rollback)]).0.remove(0).expect_err("refused");
        assert_eq!(refusal.reason, Reason::AlreadyDecided);
        assert!(refusal.details.contains(&("by", "producer producer-1".into())), "{refusal:?}");
        bench.restart();
    }
}

#[test]
fn another_group_may_not_decide() {
    let mut bench = Bench::new();
    bench.topic("paid");
    let message = bench.message("paid");
    let transaction = bench.half(vec![message]);
    let Input::Decide(mut stranger) = decide(transaction, Decision::Commit) else { unreachable!() };
    stranger.group = Some(name("strangers"));
    assert_eq!(bench.refused(Input::Decide(stranger)), Reason::WrongGroup);
}

#[test]
fn several_messages_become_visible_together() {
    let mut bench = Bench::new();
    bench.topic("paid");
    bench.topic("stock");
    let messages = vec![bench.message("paid"), bench.message("stock"), bench.message("paid")];
    let transaction = bench.half(messages);
    bench.ask(decide(transaction, Decision::Commit));
    let (_, paid) = bench.consumer("billing", "paid");
    let (_, stock) = bench.consumer("warehouse", "stock");
    assert_eq!((paid.len(), stock.len()), (2, 1));
}

#[test]
fn the_same_transaction_key_returns_the_same_transaction() {
    let mut bench = Bench::new();
    bench.topic("paid");
    let with_key = |message: Message| {
        let Input::SendHalf(mut half) = half(vec![message]) else { unreachable!() };
        half.key = Some("order-42".into());
        Input::SendHalf(half)
    };
    let first = bench.message("paid");
    let Reply::Prepared { transaction, .. } = bench.ask(with_key(first.clone())) else { panic!() };
    bench.restart();
    let second = bench.message("paid");
    let again = bench.ask(with_key(second));
    let state = TransactionState::Prepared;
    assert_eq!(again, Reply::Prepared { transaction, messages: vec![first.id], state, duplicate: true });
}

#[test]
fn a_silent_producer_is_asked_and_its_answer_decides() {
    let mut bench = Bench::new();
    bench.topic("paid");
    let message = bench.message("paid");
    let transaction = bench.half(vec![message]);
    let (session, effects) = bench.checker();
    assert_eq!(questions(effects), vec![]);
    let asked = questions(bench.later(8_000));
    assert_eq!(
        asked.iter().map(|q| (q.session, q.transaction)).collect::<Vec<_>>(),
        vec![(session, transaction)]
    );
    let check = asked[0].check;
    bench.ask(Input::CheckAnswered(CheckAnswered {
        session,
        transaction,
        check,
        verdict: Some(Decision::Commit),
    }));
    let (_, got) = bench.consumer("billing", "paid");
    assert_eq!(got.len(), 1);
}

#[test]
fn without_a_checker_no_check_is_used_up_and_one_that_comes_is_asked() {
    let mut bench = Bench::new();
    bench.topic("paid");
    let message = bench.message("paid");
    let transaction = bench.half(vec![message]);
    bench.later(3_600_000);
    let status = bench.status();
    assert_eq!((status.undecided, status.waiting_for_checker, status.parked), (1, 1, 0));
    let (_, effects) = bench.checker();
    assert_eq!(questions(effects).len(), 1);
    let view = bench.store.reader();
    let turn = Turn::new(&view, Room::Enough);
    let record = bench.engine.load_transaction(&turn, transaction.number()).expect("reads").expect("exists");
    assert_eq!((record.checks.delivered, record.checks.no_checker), (0, 1));
}

#[test]
fn used_up_checks_park_and_a_person_resumes_or_decides() {
    let mut bench = Bench::new();
    bench.topic("paid");
    let message = bench.message("paid");
    let transaction = bench.half(vec![message]);
    let (session, mut effects) = bench.checker();
    let mut asked = 0;
    while bench.status().parked == 0 {
        for CheckQuestion { check, .. } in questions(std::mem::take(&mut effects)) {
            asked += 1;
            bench.ask(Input::CheckAnswered(CheckAnswered { session, transaction, check, verdict: None }));
        }
        effects = bench.later(600_000);
        assert!(asked <= 15, "asked more often than allowed");
    }
    assert_eq!(asked, 15);
    bench.restart();
    assert_eq!(bench.status().parked, 1);
    bench.ask(by_hand(Command::Resume(transaction)));
    assert_eq!((bench.status().parked, bench.status().undecided), (0, 1));

    let Input::Decide(mut by_hand) = decide(transaction, Decision::Commit) else { unreachable!() };
    (by_hand.role, by_hand.group) = (Role::Person, None);
    assert_eq!(bench.refused(Input::Decide(by_hand.clone())), Reason::InvalidField);
    by_hand.reason = "checked the ledger".into();
    assert!(matches!(bench.ask(Input::Decide(by_hand)), Reply::Decided { duplicate: false, .. }));
}

#[test]
fn ids_and_offsets_are_not_reused_after_a_rollback_and_a_restart() {
    let mut bench = Bench::new();
    bench.topic("paid");
    bench.group("billing", "paid", |_| {});
    let mut transactions = vec![];
    let mut offsets = vec![];
    for decision in [Decision::Rollback, Decision::Commit, Decision::Rollback, Decision::Commit] {
        let message = bench.message("paid");
        let transaction = bench.half(vec![message]);
        bench.ask(decide(transaction, decision));
        transactions.push(transaction.number());
        let (session, got) = bench.consumer("billing", "paid");
        for delivery in got {
            offsets.push(delivery.offset.0);
            bench.ask(settle("billing", delivery.token, Verb::Ack));
        }
        bench.ask(Input::SessionClosed(session));
        bench.later(0);
        bench.restart();
    }
    assert_eq!((transactions, offsets), (vec![1, 2, 3, 4], vec![0, 1]));
}
