//! Trouble with the disk on order: the file layer of journal and room asks here before it asks the system, so that a
//! full disk, a failing sync and a power cut can be had at every single step.
//!
//! Off by default, at the cost of one comparison. Must never make a call succeed that would have failed.

use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::lock::lock;
use crate::power::Power;

/// How an operation on the disk fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The disk is full. A write leaves half of its bytes behind, as a real one may.
    NoSpace,
    /// The device failed. A sync that fails so loses what it should have written, although reads still show it.
    Broken,
    /// The process dies before the operation: it does not take place, and the system keeps what was written before.
    Killed,
}

impl Fault {
    fn error(self) -> io::Error {
        match self {
            Self::NoSpace => io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error()),
            Self::Broken => io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error()),
            Self::Killed => io::Error::other("the process was killed here, as ordered"),
        }
    }
}

/// The operations of the journal that can be told to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Writing bytes to a journal file.
    Write,
    /// `fdatasync` or `fsync` of a journal file that has its name.
    Sync,
    /// Cutting a journal file back after a write failed, or at a start.
    Cut,
    /// Creating the next journal file.
    Create,
    /// Taking a file away that nobody needs: deleting or renaming it.
    Retire,
    /// Syncing the directories out of which and into which such files went.
    SyncNames,
}

/// A plan of failures. A clone is the same plan. The default plan is none.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    plan: Option<Arc<Mutex<Plan>>>,
    gate: Option<Arc<Gate>>,
}

/// Where syncs wait while they are held.
#[derive(Debug, Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct GateState {
    is_closed: bool,
    waiting: u64,
}

impl Gate {
    fn pass(&self) {
        let mut state = lock(&self.state);
        if !state.is_closed {
            return;
        }
        state.waiting += 1;
        self.changed.notify_all();
        let open = self.changed.wait_while(state, |state| state.is_closed);
        open.unwrap_or_else(PoisonError::into_inner).waiting -= 1;
    }
}

#[derive(Debug, Default)]
struct Plan {
    orders: Vec<Order>,
    free_bytes: Option<u64>,
    syncs: u64,
    power: Power,
}

#[derive(Debug)]
struct Order {
    operation: Operation,
    fault: Fault,
    /// How many are still let through.
    passes: u64,
    /// How many fail after that.
    failures: u64,
}

impl Faults {
    /// A plan to which failures can be added while the store runs.
    pub fn planned() -> Self {
        Self { plan: Some(Arc::default()), gate: Some(Arc::default()) }
    }

    /// Lets the `nth` `operation` from now (1 is the next) fail, and the `times - 1` after it.
    ///
    /// # Panics
    /// On the default plan, which cannot be changed: start from [`Faults::planned`].
    pub fn fail(&self, operation: Operation, nth: u64, times: u64, fault: Fault) {
        let plan = self.plan.as_ref().expect("only Faults::planned() takes orders");
        lock(plan).orders.push(Order { operation, fault, passes: nth.saturating_sub(1), failures: times });
    }

    /// Holds every sync of a journal file from now on, or lets those that are held and all later ones go on.
    ///
    /// # Panics
    /// On the default plan, which cannot be changed: start from [`Faults::planned`].
    pub fn hold_syncs(&self, held: bool) {
        let gate = self.gate.as_ref().expect("only Faults::planned() takes orders");
        lock(&gate.state).is_closed = held;
        gate.changed.notify_all();
    }

    /// Waits until a sync is held.
    ///
    /// # Panics
    /// On the default plan, which holds none.
    pub fn wait_for_held_sync(&self) {
        let gate = self.gate.as_ref().expect("only Faults::planned() takes orders");
        let waited = gate.changed.wait_while(lock(&gate.state), |state| state.waiting == 0);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Lets the disk look as if it had `free_bytes` left; `None` asks the system again.
    ///
    /// # Panics
    /// On the default plan, which cannot be changed: start from [`Faults::planned`].
    pub fn set_free_bytes(&self, free_bytes: Option<u64>) {
        lock(self.plan.as_ref().expect("only Faults::planned() takes orders")).free_bytes = free_bytes;
    }

    /// How many journal syncs were asked for so far. 0 on the default plan.
    pub fn syncs(&self) -> u64 {
        self.plan.as_ref().map_or(0, |plan| lock(plan).syncs)
    }

    /// Cuts the power: takes from the journal files all that was never synced under this plan, whichever store wrote it.
    /// To be called while none is open.
    ///
    /// # Errors
    /// If a file cannot be written.
    ///
    /// # Panics
    /// On the default plan, which keeps no account.
    pub fn cut_power(&self) -> io::Result<()> {
        lock(self.plan.as_ref().expect("only Faults::planned() keeps account of syncs")).power.fail()
    }

    pub(crate) fn note_created(&self, path: &Path, bytes: &[u8]) {
        self.note(|power| power.created(path, bytes));
    }

    /// To be called when the file is durable as it is.
    pub(crate) fn note_reused(&self, path: &Path) -> io::Result<()> {
        if self.plan.is_some() {
            self.note_created(path, &std::fs::read(path)?);
        }
        Ok(())
    }

    /// To be called before the write.
    pub(crate) fn note_write(&self, path: &Path, offset: u64, bytes: &[u8]) {
        self.note(|power| power.written(path, offset, bytes));
    }

    /// To be called before the cut.
    pub(crate) fn note_cut(&self, path: &Path, length: u64) {
        self.note(|power| power.cut(path, length));
    }

    pub(crate) fn note_synced(&self, path: &Path) {
        self.note(|power| power.synced(path));
    }

    pub(crate) fn note_failed_sync(&self, path: &Path, fault: Fault) {
        if fault != Fault::Killed {
            self.note(|power| power.sync_failed(path));
        }
    }

    fn note(&self, what: impl FnOnce(&mut Power)) {
        if let Some(plan) = &self.plan {
            what(&mut lock(plan).power);
        }
    }

    /// Fails if `operation` is to fail now.
    pub(crate) fn check(&self, operation: Operation) -> Result<(), (Fault, io::Error)> {
        let Some(plan) = &self.plan else { return Ok(()) };
        if let (Operation::Sync, Some(gate)) = (operation, &self.gate) {
            gate.pass();
        }
        let mut plan = lock(plan);
        plan.syncs += u64::from(operation == Operation::Sync);
        for order in plan.orders.iter_mut().filter(|order| order.operation == operation) {
            if order.passes > 0 {
                order.passes -= 1;
            } else if order.failures > 0 {
                order.failures -= 1;
                return Err((order.fault, order.fault.error()));
            }
        }
        Ok(())
    }

    /// The free space that was ordered, if any.
    pub(crate) fn free_bytes(&self) -> Option<u64> {
        self.plan.as_ref().and_then(|plan| lock(plan).free_bytes)
    }
}
