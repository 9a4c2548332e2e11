//! Preloaded into a broker, it lets the n-th write or sync below one directory fail, as a full or broken disk would: also
//! those of libraries, which know nothing of it. The rig `io_faults` compiles it by `rustc --crate-type cdylib`.
//!
//! `ESCROW_IO_DIR`: the directory. `ESCROW_IO_FAULT`: `write` or `sync`, the n of the first that fails (from 1), how many
//! fail, the error number, and how many milliseconds a failing one takes, with colons between. `ESCROW_IO_LOG`: where each failure is noted as a line of
//! microseconds since 1970, which operation, and the file. It must never make a call succeed that would have failed.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// "The next definition of this name", for `dlsym`.
const RTLD_NEXT: *mut c_void = -1_isize as *mut c_void;
const NO_SPACE: c_int = 28;

unsafe extern "C" {
    fn dlsym(handle: *mut c_void, symbol: *const c_char) -> *mut c_void;
    fn __errno_location() -> *mut c_int;
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Operation {
    Write,
    Sync,
}

#[derive(Debug)]
struct Plan {
    dir: PathBuf,
    log: PathBuf,
    operation: Operation,
    first: u64,
    last: u64,
    error: c_int,
    /// Disks that break try for a while.
    takes: Duration,
    count: AtomicU64,
}

/// `None`: nothing is to fail.
fn plan() -> Option<&'static Plan> {
    static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
    PLAN.get_or_init(read_plan).as_ref()
}

fn read_plan() -> Option<Plan> {
    let fault = std::env::var("ESCROW_IO_FAULT").ok()?;
    let mut parts = fault.split(':');
    let operation = match parts.next()? {
        "write" => Operation::Write,
        "sync" => Operation::Sync,
        _ => return None,
    };
    let mut number = || parts.next()?.parse::<u64>().ok();
    let (first, times, error, takes_ms) = (number()?, number()?, number()? as c_int, number()?);
    Some(Plan {
        dir: std::env::var_os("ESCROW_IO_DIR")?.into(),
        log: std::env::var_os("ESCROW_IO_LOG")?.into(),
        operation,
        first,
        last: first.saturating_add(times - 1),
        error,
        takes: Duration::from_millis(takes_ms),
        count: AtomicU64::new(0),
    })
}

/// The error with which this operation is to fail, if it is.
fn failure(operation: Operation, fd: c_int) -> Option<c_int> {
    let plan = plan().filter(|plan| plan.operation == operation)?;
    let file = std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
    if !file.starts_with(&plan.dir) {
        return None;
    }
    let nth = plan.count.fetch_add(1, Ordering::SeqCst) + 1;
    if nth < plan.first || nth > plan.last {
        return None;
    }
    std::thread::sleep(plan.takes);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?.as_micros();
    let mut log = std::fs::File::options().create(true).append(true).open(&plan.log).ok()?;
    log.write_all(format!("{now} {operation:?} {}\n", file.display()).as_bytes()).ok()?;
    Some(plan.error)
}

fn fail(error: c_int) -> c_int {
    // SAFETY: the C library gives each thread its own place, which is always there.
    unsafe { *__errno_location() = error };
    -1
}

/// The function of this name that would have been called.
fn next(name: &'static CStr) -> *mut c_void {
    // SAFETY: a constant and a name that ends in zero, as dlsym wants them.
    let found = unsafe { dlsym(RTLD_NEXT, name.as_ptr()) };
    assert!(!found.is_null(), "the C library has {name:?}");
    found
}

macro_rules! pass_on {
    ($name:ident as fn($($type:ty),*) -> $result:ty, $($argument:expr),*) => {{
        // SAFETY: the C library's function of this name has this type.
        unsafe {
            let name = CStr::from_bytes_with_nul_unchecked(concat!(stringify!($name), "\0").as_bytes());
            let real: unsafe extern "C" fn($($type),*) -> $result = std::mem::transmute(next(name));
            real($($argument),*)
        }
    }};
}

#[unsafe(no_mangle)]
extern "C" fn write(fd: c_int, bytes: *const c_void, count: usize) -> isize {
    match failure(Operation::Write, fd) {
        Some(error) => fail(error) as isize,
        None => pass_on!(write as fn(c_int, *const c_void, usize) -> isize, fd, bytes, count),
    }
}

#[unsafe(no_mangle)]
extern "C" fn pwrite64(fd: c_int, bytes: *const c_void, count: usize, offset: i64) -> isize {
    match failure(Operation::Write, fd) {
        Some(error) => {
            // A disk that becomes full takes a part first.
            if error == NO_SPACE {
                pass_on!(
                    pwrite64 as fn(c_int, *const c_void, usize, i64) -> isize,
                    fd,
                    bytes,
                    count / 2,
                    offset
                );
            }
            fail(error) as isize
        }
        None => {
            pass_on!(pwrite64 as fn(c_int, *const c_void, usize, i64) -> isize, fd, bytes, count, offset)
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn fsync(fd: c_int) -> c_int {
    match failure(Operation::Sync, fd) {
        Some(error) => fail(error),
        None => pass_on!(fsync as fn(c_int) -> c_int, fd),
    }
}

#[unsafe(no_mangle)]
extern "C" fn fdatasync(fd: c_int) -> c_int {
    match failure(Operation::Sync, fd) {
        Some(error) => fail(error),
        None => pass_on!(fdatasync as fn(c_int) -> c_int, fd),
    }
}

#[unsafe(no_mangle)]
extern "C" fn sync_file_range(fd: c_int, offset: i64, count: i64, flags: c_uint) -> c_int {
    match failure(Operation::Sync, fd) {
        Some(error) => fail(error),
        None => {
            pass_on!(sync_file_range as fn(c_int, i64, i64, c_uint) -> c_int, fd, offset, count, flags)
        }
    }
}
