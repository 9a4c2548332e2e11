//! Trouble with the disk on order: the file layer of journal and room asks here before it asks the system, so that a
//! full disk and a failing sync can be had at every single step.
//!
//! Off by default, at the cost of one comparison. Must never make a call succeed that would have failed.

use std::io;
use std::sync::{Arc, Mutex};

use crate::lock::lock;

/// How an operation on the disk fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The disk is full. A write leaves half of its bytes behind, as a real one may.
    NoSpace,
    /// The device failed.
    Broken,
}

impl Fault {
    fn error(self) -> io::Error {
        match self {
            Self::NoSpace => io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error()),
            Self::Broken => io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error()),
        }
    }
}

/// The operations of the journal that can be told to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Writing bytes to a journal file.
    Write,
    /// `fdatasync` of a journal file.
    Sync,
    /// Cutting a journal file back after a write failed.
    Cut,
    /// Creating the next journal file.
    Create,
}

/// A plan of failures. A clone is the same plan. The default plan is none.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    plan: Option<Arc<Mutex<Plan>>>,
}

#[derive(Debug, Default)]
struct Plan {
    orders: Vec<Order>,
    free_bytes: Option<u64>,
    syncs: u64,
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
        Self { plan: Some(Arc::default()) }
    }

    /// Lets the `nth` `operation` from now (1 is the next) fail, and the `times - 1` after it.
    ///
    /// # Panics
    /// On the default plan, which cannot be changed: start from [`Faults::planned`].
    pub fn fail(&self, operation: Operation, nth: u64, times: u64, fault: Fault) {
        let plan = self.plan.as_ref().expect("only Faults::planned() takes orders");
        lock(plan).orders.push(Order { operation, fault, passes: nth.saturating_sub(1), failures: times });
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

    /// Fails if `operation` is to fail now.
    pub(crate) fn check(&self, operation: Operation) -> Result<(), (Fault, io::Error)> {
        let Some(plan) = &self.plan else { return Ok(()) };
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
