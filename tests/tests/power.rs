//! Power cuts: the data directory lies on a file system of its own, whose device is copied at random moments of a mixed
//! load, and again while a broker recovers from such a copy. Each copy is what a disk holds whose machine lost power then.
//! It is mounted, verified, started, drained, and judged by what clients had been told before the cut.
//!
//! `./test.sh --rig power 1000` runs the long form. Needs root, loop devices, mkfs.ext4 and mkfs.xfs with reflink; where
//! they are missing nothing is counted. The binary must have been built: `./test.sh` does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use escrow_tests::rig::{
    BrokerProcess, FORGETFUL, History, Kind, Load, Mounted, Plan, Ports, Shelf, Trials, Verdicts,
    forgotten_stories, verify,
};

/// Small bounds, so that files turn over and the table is written many times in a short run.
const SETTINGS: [&str; 10] = [
    "store.overlay=32KiB",
    "store.journal_file=32KiB",
    "store.journal_ahead=16KiB",
    "store.free_floor=8MiB",
    "store.ballast=1MiB",
    "retry.strategy=fixed",
    "retry.fixed_delay=20ms",
    "delivery.lease=2s",
    "transactions.first_check_after=200ms",
    "transactions.check_delays=200ms",
];
/// Room for the images: they share most of their blocks.
const SHELF_BYTES: u64 = 3 << 30;
/// Cuts of one load: its history is judged with each, so it must not grow long.
const CUTS_OF_A_LOAD: usize = 12;
/// Answers before the first cut: the table is in use by then, and consumers are behind.
const WARM_UP: u64 = 200;
/// The most answers between two cuts.
const ANSWERS_BETWEEN_CUTS_MAX: u64 = 60;
/// A start is cut within this time, microseconds: about as long as one takes.
const START_US: u64 = 60_000;
/// A cut of a broker that recovers from a cut that … : no deeper.
const DEPTH_MAX: u32 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_answered_is_lost_over_power_cuts() {
    let trials = Trials::of("power", "cuts", 8);
    let shelf = match Shelf::make(SHELF_BYTES) {
        Ok(shelf) => shelf,
        Err(reason) => return trials.not_run(&reason),
    };
    let mut rig = Rig {
        shelf,
        trials,
        done: 0,
        at: BTreeMap::new(),
        seen: Verdicts::default(),
        forgotten: AtomicU64::new(0),
        failures: vec![],
    };
    let mut loads = 0;
    while rig.done < rig.trials.count {
        let kind = Kind::ALL[loads % Kind::ALL.len()];
        let first = rig.done;
        // In the first and the fourth of four, so that both file systems have both.
        let is_forgetful = matches!(loads % 4, 0 | 3);
        if let Err(fault) = rig.load(kind, is_forgetful, &mut rig.trials.rng(first)).await {
            rig.failures.push(format!("the load before cut {first} on {}: {fault}", kind.name()));
            rig.done += 1;
        }
        loads += 1;
    }
    if rig.failures.is_empty() && (rig.seen.promised == 0 || rig.seen.deliveries == 0) {
        rig.failures.push(format!("nothing was tried: {}", rig.seen.seen()));
    }
    let forgotten = rig.forgotten.into_inner();
    if rig.failures.is_empty() && forgotten == 0 {
        rig.failures.push("no story was forgotten, as it should have been".into());
    }
    let at = rig.at.iter().map(|(place, count)| format!("{count} {place}, "));
    let seen = format!("{}{forgotten} stories forgotten, {}", at.collect::<String>(), rig.seen.seen());
    rig.trials.finish(rig.done, &seen, &rig.failures);
}

/// A copy of a disk, and what is known of what it holds.
struct Cut {
    /// What was going on.
    during: &'static str,
    kind: Kind,
    image: PathBuf,
    history: History,
    keeps_finished: bool,
    /// Whether stories are forgotten all the time.
    is_forgetful: bool,
    /// How many cuts came before it.
    depth: u32,
}

struct Rig {
    shelf: Shelf,
    trials: Trials,
    done: u64,
    /// Cuts by what was going on.
    at: BTreeMap<String, u64>,
    seen: Verdicts,
    /// Stories of messages that were forgotten by the time of each judgement, each counted from the first.
    forgotten: AtomicU64,
    failures: Vec<String>,
}

impl Rig {
    /// One load, its cuts, and what becomes of them.
    async fn load(&mut self, kind: Kind, is_forgetful: bool, rng: &mut fastrand::Rng) -> Result<(), String> {
        let mut cuts = self.cut_a_load(kind, is_forgetful, rng).await?;
        // Both file systems have their turn, in a short form too.
        let until = self.trials.count.min(self.done + self.trials.count.div_ceil(2));
        while let Some(cut) = cuts.pop().filter(|_| self.done < until) {
            self.done += 1;
            *self.at.entry(format!("{} during {}", cut.kind.name(), cut.during)).or_default() += 1;
            let image = cut.image.clone();
            let what = format!("cut {} of {} during {}", self.done, cut.kind.name(), cut.during);
            match self.judge(cut, &mut cuts, rng).await {
                Ok(verdicts) => self.seen.add(verdicts),
                Err(fault) => {
                    println!("power: {what}:\n{fault}");
                    self.failures.push(format!("{what}:\n{fault}"));
                }
            }
            let _ = std::fs::remove_file(image);
            println!("power: {} of {}, {} failures", self.done, self.trials.count, self.failures.len());
        }
        // Those that are too many.
        cuts.into_iter().for_each(|cut| drop(std::fs::remove_file(cut.image)));
        Ok(())
    }

    /// Runs a load on a fresh file system and cuts it again and again.
    async fn cut_a_load(
        &self,
        kind: Kind,
        is_forgetful: bool,
        rng: &mut fastrand::Rng,
    ) -> Result<Vec<Cut>, String> {
        let original = self.shelf.image("original");
        let mounted =
            Mounted::make(kind, &original, Kind::IMAGE_BYTES_MIN, &self.shelf.mount_point("original"))?;
        let ports = Ports::free();
        let keeps_finished = rng.bool();
        let mut broker = BrokerProcess::start(mounted.dir(), ports, &settings(is_forgetful), None)?;
        // One consumer is slower than eight producers: a backlog grows.
        let plan = Plan { seed: rng.u64(..), producers: 8, consumers: 1, keeps_finished };
        let load = Load::start(&ports.url(), plan).await;
        load.progress(WARM_UP).await;
        let mut cuts = Vec::new();
        for number in 0..CUTS_OF_A_LOAD.min((self.trials.count - self.done) as usize) {
            load.progress(rng.u64(1..ANSWERS_BETWEEN_CUTS_MAX)).await;
            let image = self.shelf.image(&format!("cut-{number}"));
            let history = cut(&mounted, &image, load.history())?;
            cuts.push(Cut { during: "load", kind, image, history, keeps_finished, is_forgetful, depth: 1 });
        }
        broker.kill();
        Ok(cuts)
    }

    /// Starts a broker on a copy and judges what it shows. Half of the time it is cut again on the way.
    async fn judge(
        &self,
        this: Cut,
        cuts: &mut Vec<Cut>,
        rng: &mut fastrand::Rng,
    ) -> Result<Verdicts, String> {
        let Cut { kind, keeps_finished, is_forgetful, depth, .. } = this;
        let name = format!("restored-{depth}");
        let mounted = Mounted::mount(kind, &this.image, &self.shelf.mount_point(&name))?;
        let again = self.shelf.image(&format!("cut-{depth}-again"));
        let mut add = |during, history| {
            let image = again.clone();
            cuts.push(Cut { during, kind, image, history, keeps_finished, is_forgetful, depth: depth + 1 });
        };
        verify(mounted.dir())?;
        let may_cut = depth < DEPTH_MAX;
        let ports = Ports::free();
        let starting = tokio::task::spawn_blocking({
            let dir = mounted.dir().to_owned();
            move || BrokerProcess::start(&dir, ports, &settings(is_forgetful), None)
        });
        tokio::pin!(starting);
        let how = rng.u8(0..4);
        if may_cut && how == 0 {
            let moment = Duration::from_micros(rng.u64(0..START_US));
            let started = tokio::time::timeout(moment, &mut starting).await;
            add("recovery", cut(&mounted, &again, &this.history)?);
            if let Ok(started) = started {
                return self
                    .drain(this, started.map_err(|error| error.to_string())??, ports, rng, None)
                    .await;
            }
        }
        let broker = starting.await.map_err(|error| error.to_string())??;
        let mut nested = None;
        let verdicts = match may_cut && how == 1 {
            true => self.drain(this, broker, ports, rng, Some((&mounted, &again, &mut nested))).await,
            false => self.drain(this, broker, ports, rng, None).await,
        };
        if let Some(history) = nested {
            add("drain", history);
        }
        self.forgotten.fetch_add(forgotten_stories(mounted.dir())?, Ordering::Relaxed);
        verdicts
    }

    /// Consumes all that the broker has, and judges.
    async fn drain(
        &self,
        this: Cut,
        mut broker: BrokerProcess,
        ports: Ports,
        rng: &mut fastrand::Rng,
        again: Option<(&Mounted, &PathBuf, &mut Option<History>)>,
    ) -> Result<Verdicts, String> {
        let plan =
            Plan { seed: rng.u64(..), producers: 0, consumers: 2, keeps_finished: this.keeps_finished };
        let load = Load::resume(&ports.url(), plan, this.history).await;
        if let Some((mounted, image, nested)) = again {
            // There may be less to do than that: then it is cut at rest.
            let answers = load.progress(rng.u64(1..ANSWERS_BETWEEN_CUTS_MAX));
            let _ = tokio::time::timeout(Duration::from_millis(500), answers).await;
            *nested = Some(cut(mounted, image, load.history())?);
        }
        load.ask_http(ports.http).await?;
        // On a task of its own, so that a panic is the failure of this cut and not the end of the run.
        let finished = tokio::spawn(load.finish()).await;
        broker.kill();
        match finished {
            Ok(verdicts) => verdicts,
            Err(panic) => Err(format!("{panic}; the broker's log ends:\n{}", broker.log_tail())),
        }
    }
}

/// With those under which stories are forgotten all the time, or without.
fn settings(is_forgetful: bool) -> Vec<&'static str> {
    let more = if is_forgetful { &FORGETFUL[..] } else { &[] };
    [&SETTINGS, more].concat()
}

/// Cuts the power: copies the disk; says what is known of what it holds.
fn cut(mounted: &Mounted, image: &Path, history: &History) -> Result<History, String> {
    let certain = history.len();
    mounted.cut(image)?;
    Ok(history.cut(certain, history.len()))
}
