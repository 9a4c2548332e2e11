//! One transaction under every order of late, repeated and contradicting decisions and check answers, with the broker
//! killed at every point, before or behind the commit of a step. Exhaustive within its bounds; nothing is drawn by chance.

use super::*;
use crate::records::Decider;

/// What may reach the broker about one transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    ProducerCommits,
    ProducerRollsBack,
    PersonCommits,
    CheckerSays(Option<Decision>),
}

const WORDS: [Word; 6] = [
    Word::ProducerCommits,
    Word::ProducerRollsBack,
    Word::PersonCommits,
    Word::CheckerSays(Some(Decision::Commit)),
    Word::CheckerSays(Some(Decision::Rollback)),
    Word::CheckerSays(None),
];

impl Word {
    fn decision(self) -> Option<Decision> {
        match self {
            Self::ProducerCommits | Self::PersonCommits => Some(Decision::Commit),
            Self::ProducerRollsBack => Some(Decision::Rollback),
            Self::CheckerSays(verdict) => verdict,
        }
    }
}

/// When the broker is killed: in which step, and whether the step had become durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kill {
    step: usize,
    is_durable: bool,
}

/// One transaction, and what was promised about it so far.
struct Case {
    bench: Bench,
    transaction: escrow_protocol::TransactionId,
    message: MessageId,
    checker: SessionId,
    check: u64,
    /// The first decision that was made durable.
    outcome: Option<Decision>,
    /// Who was said to have taken it.
    decider: Option<Decider>,
}

impl Case {
    fn new() -> Self {
        let mut bench = Bench::new();
        bench.topic("paid");
        bench.group("billing", "paid", |_| {});
        let message = bench.message("paid");
        let transaction = bench.half(vec![message.clone()]);
        let (checker, _) = bench.checker();
        let asked = questions(bench.later(10_000));
        let check = asked.first().expect("a silent producer is asked").check;
        Self { bench, transaction, message: message.id, checker, check, outcome: None, decider: None }
    }

    fn input(&self, word: Word) -> Input {
        match word {
            Word::ProducerCommits => decide(self.transaction, Decision::Commit),
            Word::ProducerRollsBack => decide(self.transaction, Decision::Rollback),
            Word::PersonCommits => {
                let Input::Decide(mut by_hand) = decide(self.transaction, Decision::Commit) else {
                    unreachable!()
                };
                (by_hand.role, by_hand.group) = (Role::Person, None);
                (by_hand.name, by_hand.reason) = ("ada".into(), "seen in the ledger".into());
                Input::Decide(by_hand)
            }
            Word::CheckerSays(verdict) => Input::CheckAnswered(CheckAnswered {
                session: self.checker,
                transaction: self.transaction,
                check: self.check,
                verdict,
            }),
        }
    }

    fn say(&mut self, word: Word, killed_before_commit: bool) {
        let input = self.input(word);
        if killed_before_commit {
            self.bench.handle_and_die(input);
            return self.restart();
        }
        let answer = self.bench.turn(vec![input]).0.remove(0);
        let Some(decision) = word.decision() else {
            assert_eq!(answer, Ok(Reply::Done), "an unknown is never refused");
            return;
        };
        match (self.outcome, answer) {
            (None, Ok(reply)) => {
                self.outcome = Some(decision);
                if let Reply::Decided { duplicate, decider, state } = reply {
                    assert_eq!((duplicate, state), (false, decision.state()));
                    self.decider = Some(decider);
                }
            }
            (Some(before), Ok(Reply::Decided { duplicate, decider, state })) => {
                assert_eq!((before, duplicate, state), (decision, true, decision.state()));
                assert_eq!(*self.decider.get_or_insert(decider.clone()), decider, "the decider changed");
            }
            (Some(before), Ok(reply)) => assert_eq!((before, reply), (decision, Reply::Done)),
            (Some(before), Err(refusal)) => {
                assert_eq!(refusal.reason, Reason::AlreadyDecided);
                assert_ne!(before, decision, "the same decision was refused");
            }
            (None, Err(refusal)) => panic!("the first decision was refused: {refusal}"),
        }
    }

    /// The checker comes back, and may still answer the question from before.
    fn restart(&mut self) {
        self.bench.restart();
        (self.checker, _) = self.bench.checker();
    }

    /// In the end: visible once, or gone.
    fn judge(mut self) {
        let (_, got) = self.bench.consumer("billing", "paid");
        match self.outcome {
            Some(Decision::Commit) => {
                let places: Vec<_> = got.iter().map(|delivery| (delivery.id, delivery.offset)).collect();
                assert_eq!(places, vec![(self.message, Offset(0))]);
            }
            Some(Decision::Rollback) => {
                assert_eq!(got, vec![]);
                assert_eq!(self.bench.count(keys::space::MESSAGE), 0);
            }
            None => {
                assert_eq!(got, vec![]);
                let status = self.bench.status();
                assert_eq!(status.undecided + status.parked, 1);
            }
        }
    }
}

fn run(words: &[Word], kill: Option<Kill>) {
    let mut case = Case::new();
    for (step, word) in words.iter().enumerate() {
        let kill = kill.filter(|kill| kill.step == step);
        case.say(*word, kill.is_some_and(|kill| !kill.is_durable));
        if kill.is_some_and(|kill| kill.is_durable) {
            case.restart();
        }
    }
    case.judge();
}

/// Runs `words` without a kill, and with one at each point.
fn run_with_every_kill(words: &[Word]) {
    run(words, None);
    for step in 0..words.len() {
        for is_durable in [false, true] {
            run(words, Some(Kill { step, is_durable }));
        }
    }
}

/// Every order of `words`.
fn permutations(words: &mut [Word], from: usize, each: &mut impl FnMut(&[Word])) {
    if from == words.len() {
        return each(words);
    }
    for at in from..words.len() {
        words.swap(from, at);
        permutations(words, from + 1, each);
        words.swap(from, at);
    }
}

#[test]
fn a_decision_is_final_in_every_order_of_six_words_and_every_kill() {
    let mut orders = 0;
    permutations(&mut WORDS.clone(), 0, &mut |words| {
        orders += 1;
        run_with_every_kill(words);
    });
    assert_eq!(orders, 720);
}

#[test]
fn a_decision_is_final_under_every_repetition_of_three_words_and_every_kill() {
    for first in WORDS {
        for second in WORDS {
            for third in WORDS {
                run_with_every_kill(&[first, second, third]);
            }
        }
    }
}
