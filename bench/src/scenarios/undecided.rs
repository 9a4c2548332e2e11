//! `undecided`: what many undecided transactions cost: memory, checks, decisions, pauses. Each is measured with few
//! and then with many.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use escrow::{CheckPolicy, Decision, Message, Producer, TransactionId, Verdict, WithChecker};
use tokio::time::sleep;

use crate::clock;
use crate::details::{Details, Stage, Undecided};
use crate::error::Error;
use crate::load::{Driven, Fate, Fates, Load, Loop, Performed, drive};
use crate::loads::{Mint, fate_of};
use crate::meter::{Live, Meter, Window};
use crate::pacer::paces;
use crate::progress::share_of_count;
use crate::readings::Used;
use crate::report::{Latency, Phase};
use crate::run::{FILLING_OUTSTANDING, Outcome, Run};

/// Transactions that are "few", and checks that are measured: they fall due in five seconds.
const FEW: u64 = 10_000;
const CHECKS_PER_SECOND: u64 = 1_000;
const CHECKS: u64 = 5_000;
/// Decisions that are measured.
const DECISIONS: u64 = 100_000;
/// The checks begin so long after their transactions are sent.
const CHECKS_LEAD: Duration = Duration::from_secs(3);
/// The first check of all other transactions: later than the run.
const NO_CHECK: Duration = Duration::from_secs(6 * 3600);
/// Looks whether all checks came; and how long they are waited for, beyond their time.
const LOOK_EVERY: Duration = Duration::from_millis(5);
const CHECKS_LATE_MAX: Duration = Duration::from_secs(30);
/// Publishes beside the rest, to feel pauses, and for how long.
const PROBES_PER_SECOND: f64 = 500.0;
const PROBE_TIME: Duration = Duration::from_secs(5);

/// Half messages sent and not decided yet, by the number of their message.
#[derive(Default)]
struct Ids(Mutex<Vec<TransactionId>>);

impl Ids {
    fn set(&self, number: u64, id: TransactionId) {
        let mut ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = usize::try_from(number).unwrap_or(usize::MAX);
        if ids.len() <= index {
            ids.resize(index + 1, id);
        }
        ids[index] = id;
    }

    fn get(&self, number: u64) -> TransactionId {
        let ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ids[usize::try_from(number).unwrap_or(usize::MAX)]
    }
}

/// Puts messages in escrow and leaves them there.
struct Holder {
    mint: Arc<Mint>,
    producer: Producer<WithChecker>,
    ids: Arc<Ids>,
    /// The first checks of those from here on come one after another, [`CHECKS_LEAD`] after this was made.
    checked_from: Option<u64>,
    made: std::time::Instant,
}

impl Load for Holder {
    fn producer(&self) -> u64 {
        0
    }

    fn messages(&self) -> u64 {
        1
    }

    async fn perform(&self, number: u64, place: usize) -> Performed {
        let first_check_after = match self.checked_from {
            Some(from) => {
                let since = Duration::from_micros((number - from) * 1_000_000 / CHECKS_PER_SECOND);
                (self.made + CHECKS_LEAD + since).saturating_duration_since(clock::now())
            }
            None => NO_CHECK,
        };
        let policy = CheckPolicy::new().first_check_after(first_check_after);
        let message = self.mint.message(number, place);
        match self.producer.half().message(message).check_policy(policy).send().await {
            Ok(half) => {
                self.ids.set(number, half.transaction_id());
                // Neither committed nor rolled back: its decider says it.
                Performed { fate: Fate::Refused, result: Ok(()) }
            }
            Err(error) => Performed { fate: Fate::Refused, result: Err(error) },
        }
    }
}

/// Decides them: every other one is rolled back.
struct Decider {
    producer: Producer<WithChecker>,
    ids: Arc<Ids>,
}

impl Load for Decider {
    fn producer(&self) -> u64 {
        0
    }

    fn messages(&self) -> u64 {
        1
    }

    async fn perform(&self, number: u64, _place: usize) -> Performed {
        let (decision, fate) = match number % 2 {
            0 => (Decision::Commit, Fate::Committed),
            _ => (Decision::Rollback, Fate::RolledBack),
        };
        let result = self.producer.decide(self.ids.get(number), decision).await.map(drop);
        Performed { fate: fate_of(&result, fate), result }
    }
}

/// Publishes to a topic that nobody listens to.
struct Probe {
    topic: String,
    producer: Producer,
}

impl Load for Probe {
    fn producer(&self) -> u64 {
        1
    }

    fn messages(&self) -> u64 {
        1
    }

    async fn perform(&self, _number: u64, _place: usize) -> Performed {
        let result = self.producer.publish(Message::new(&self.topic).text("probe")).await.map(drop);
        // Nobody receives it, so it is not compared.
        Performed { fate: Fate::Refused, result }
    }
}

/// The state of the run.
struct Escrowed {
    mint: Arc<Mint>,
    producer: Producer<WithChecker>,
    ids: Arc<Ids>,
    checks: Arc<AtomicU64>,
    sent: u64,
    /// Those before it are decided.
    decided: u64,
    fates: Fates,
}

impl Run<'_> {
    /// The report is that of the decisions with many undecided.
    pub(crate) async fn undecided(&mut self) -> Result<Outcome, Error> {
        let mut escrowed = self.open_escrow().await?;
        let many = self.options.backlog.max(FEW);

        // Few: those that are checked, the rest of the few, and the decisions on top of them.
        self.hold(&mut escrowed, FEW - CHECKS, None).await?;
        let (few_checks, few_used) = self.checks(&mut escrowed).await?;
        let decisions = DECISIONS.min(many / 2);
        self.hold(&mut escrowed, decisions, None).await?;
        self.settle().await?;
        let (few_meter, few_decisions) = self.decide(&mut escrowed, decisions, OUTSTANDING).await?;

        // Many.
        let missing = many.saturating_sub(CHECKS + escrowed.sent - escrowed.decided);
        let before = self.readings().await?;
        let filled = self.hold(&mut escrowed, missing, None).await?;
        let send_half = Stage::of(&filled, &before.until(&self.readings().await?));
        self.settle().await?;
        let (many_checks, many_used) = self.checks(&mut escrowed).await?;
        let rss_bytes = self.readings().await?.rss_bytes();
        let probe = self.probe(&mut escrowed).await?;
        self.settle().await?;
        let (many_meter, many_decisions) = self.decide(&mut escrowed, decisions, OUTSTANDING).await?;
        let verified = match self.options.verify {
            true => {
                let rest = escrowed.sent - escrowed.decided;
                self.decide(&mut escrowed, rest, FILLING_OUTSTANDING).await?;
                self.verify(&escrowed.fates).await?
            }
            false => None,
        };

        let cost = |used: Used, checks: u64| used.broker(checks);
        let (few_cost, many_cost) = (cost(few_used, few_checks), cost(many_used, many_checks));
        let few_stage = Stage::of(&few_meter, &few_decisions);
        let many_stage = Stage::of(&many_meter, &many_decisions);
        let details = Undecided {
            few: FEW,
            many,
            rss_bytes,
            send_half,
            decisions_with_few: few_stage,
            decisions_with_many: many_stage,
            decisions_ratio: many_stage.per_second / few_stage.per_second.max(f64::EPSILON),
            check_cpu_us_with_few: few_cost.map(|cost| cost.cpu_us_per_operation),
            check_cpu_us_with_many: many_cost.map(|cost| cost.cpu_us_per_operation),
            check_cpu_ratio: few_cost
                .zip(many_cost)
                .map(|(few, many)| many.cpu_us_per_operation / few.cpu_us_per_operation.max(f64::EPSILON)),
            bytes_appended_per_check: many_used.store_appended_bytes as f64 / many_checks.max(1) as f64,
            checks_due: 2 * CHECKS,
            checks: few_checks + many_checks,
            probe_latency_us: Latency::of(&probe.histogram),
        };
        Ok(Outcome {
            seconds: many_decisions.seconds,
            meter: many_meter,
            messages_each: 1,
            used: many_decisions,
            verified,
            intervals: None,
            details: Details::Undecided(details),
        })
    }

    async fn open_escrow(&mut self) -> Result<Escrowed, Error> {
        let checks = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&checks);
        let answer = move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
            async { Verdict::Unknown }
        };
        let building = self.client.producer(&self.site.producer_group).checker(answer).build();
        Ok(Escrowed {
            mint: Arc::new(Mint::new(0, &self.site, self.options)),
            producer: building.await.map_err(Error::broker("open a producer"))?,
            ids: Arc::default(),
            checks,
            sent: 0,
            decided: 0,
            fates: Fates::default(),
        })
    }

    /// Puts so many more in escrow. `checked_from`: their first checks come soon.
    async fn hold(
        &mut self,
        escrowed: &mut Escrowed,
        count: u64,
        checked_from: Option<u64>,
    ) -> Result<Meter, Error> {
        let holder = Holder {
            mint: Arc::clone(&escrowed.mint),
            producer: escrowed.producer.clone(),
            ids: Arc::clone(&escrowed.ids),
            checked_from,
            made: clock::now(),
        };
        let Driven { meter, .. } = self.fill_with(Arc::new(holder), escrowed.sent, count).await?;
        escrowed.sent += count;
        Ok(meter)
    }

    /// Puts [`CHECKS`] more in escrow and waits until each was checked. What you get: how many came, and what was used
    /// from the first on.
    async fn checks(&mut self, escrowed: &mut Escrowed) -> Result<(u64, Used), Error> {
        let before_all = escrowed.checks.load(Ordering::Relaxed);
        self.hold(escrowed, CHECKS, Some(escrowed.sent)).await?;
        let checks = Arc::clone(&escrowed.checks);
        let came = move || checks.load(Ordering::Relaxed) - before_all;
        let until =
            clock::now() + CHECKS_LEAD + Duration::from_secs(CHECKS / CHECKS_PER_SECOND) + CHECKS_LATE_MAX;
        while came() == 0 && clock::now() < until {
            sleep(LOOK_EVERY).await;
        }
        let before = self.readings().await?;
        let waiting = async {
            while came() < CHECKS && clock::now() < until {
                sleep(LOOK_EVERY).await;
            }
        };
        let shown = Live::default();
        self.reporter.during(Phase::Measuring, &shown, share_of_count(CHECKS), waiting).await;
        let used = before.until(&self.readings().await?);
        Ok((came().min(CHECKS), used))
    }

    /// Publishes beside checks.
    async fn probe(&mut self, escrowed: &mut Escrowed) -> Result<Meter, Error> {
        let topic = format!("{}-probe", self.site.topics[0]);
        self.client.admin().ensure_topic(&topic).await.map_err(Error::broker("make a topic"))?;
        let building = self.client.producer(&self.site.producer_group).build();
        let producer = building.await.map_err(Error::broker("open a producer"))?;
        self.hold(escrowed, CHECKS, Some(escrowed.sent)).await?;
        let start = clock::now() + CHECKS_LEAD;
        let window = Window::new(start, start + PROBE_TIME);
        let times = paces(PROBES_PER_SECOND, start, window.until)?;
        let pace = Loop::Open { times, outstanding_max: FILLING_OUTSTANDING };
        let probing = drive(Arc::new(Probe { topic, producer }), 0, pace, window, Arc::default());
        let shown = Live::default();
        let driven = self.reporter.during(Phase::Measuring, &shown, |_| 0.0, probing).await;
        match driven.meter.first_error {
            Some(error) => Err(Error::Generator(format!("a probe failed: {error}"))),
            None => Ok(driven.meter),
        }
    }

    /// Decides so many, the oldest first.
    async fn decide(
        &mut self,
        escrowed: &mut Escrowed,
        count: u64,
        outstanding: usize,
    ) -> Result<(Meter, Used), Error> {
        let decider = Decider { producer: escrowed.producer.clone(), ids: Arc::clone(&escrowed.ids) };
        let before = self.readings().await?;
        let deciding = self.count(Arc::new(decider), escrowed.decided, count, outstanding, Phase::Measuring);
        let Driven { meter, fates } = deciding.await?;
        let used = before.until(&self.readings().await?);
        escrowed.decided += count;
        escrowed.fates.merge(fates);
        Ok((meter, used))
    }
}

/// Decisions under way while they are measured.
const OUTSTANDING: usize = 64;
