//! The few system calls that std has no word for. All `unsafe` of the crate is here, each call with the reason why it
//! is sound; the rest of the crate denies it.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub const READ: u32 = libc::EPOLLIN as u32;
pub const WRITE: u32 = libc::EPOLLOUT as u32;

/// What became of one descriptor: `token` as registered, and whether it can be read (or has ended) or written.
#[derive(Clone, Copy)]
pub struct Readiness {
    pub token: usize,
    pub readable: bool,
    pub writable: bool,
}

/// Level-triggered epoll: one read per readiness is enough, what is left shows up again.
pub struct Epoll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Epoll {
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the descriptor is fresh and owned by nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?) };
        Ok(Self { fd, events: vec![libc::epoll_event { events: 0, u64: 0 }; 1024] })
    }

    /// Starts watching `fd`; closing it ends that by itself.
    pub fn add(&self, fd: RawFd, token: usize, interest: u32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, interest)
    }

    pub fn modify(&self, fd: RawFd, token: usize, interest: u32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, interest)
    }

    fn control(&self, operation: i32, fd: RawFd, token: usize, interest: u32) -> io::Result<()> {
        let mut event = libc::epoll_event { events: interest, u64: token as u64 };
        // SAFETY: `event` lives through the call; the kernel checks the descriptors.
        check(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), operation, fd, &mut event) })?;
        Ok(())
    }

    /// Waits for readiness, at most `timeout`, to the microsecond; a signal ends it early with nothing.
    pub fn wait(&mut self, timeout: Duration, ready: &mut Vec<Readiness>) -> io::Result<()> {
        ready.clear();
        let limit = libc::timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: i64::from(timeout.subsec_nanos()) };
        // SAFETY: `events` has room for the count given, `limit` lives through the call, no signal mask is passed.
        let n = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.fd.as_raw_fd(),
                self.events.as_mut_ptr(),
                self.events.len() as libc::c_int,
                &limit,
                std::ptr::null::<libc::sigset_t>(),
                8usize,
            )
        };
        if n < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) };
        }
        ready.extend(self.events[..n as usize].iter().map(|event| {
            let bits = event.events;
            Readiness { token: event.u64 as usize, readable: bits & !WRITE != 0, writable: bits & WRITE != 0 }
        }));
        Ok(())
    }
}

static STOPPED: AtomicBool = AtomicBool::new(false);

extern "C" fn on_stop(_: libc::c_int) {
    STOPPED.store(true, Ordering::Relaxed);
}

/// Whether somebody asked the run to stop.
pub fn stopped() -> bool {
    STOPPED.load(Ordering::Relaxed)
}

/// Whether somebody asked the run to stop; the next one who asks is heard anew.
pub fn take_stop() -> bool {
    STOPPED.swap(false, Ordering::Relaxed)
}

/// From now on SIGINT, SIGTERM and SIGHUP are remembered for [`stopped`] and interrupt waits, so that what was started
/// is ended in order.
pub fn watch_for_stop() -> io::Result<()> {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: a zeroed sigaction is valid; the handler only stores to an atomic.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_stop as *const () as usize;
            check(libc::sigaction(signal, &action, std::ptr::null_mut()))?;
        }
    }
    Ok(())
}

/// Timers fire on time instead of up to 50 µs late.
pub fn sharp_timers() {
    // SAFETY: no pointers.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1u64) };
}

/// Sends `signal` to a process that this run started.
pub fn signal(pid: u32, signal: i32) {
    // SAFETY: no pointers. The caller still holds the child, so the id can't have passed to another process.
    unsafe { libc::kill(pid as i32, signal) };
}

/// The command's process gets a group of its own (Ctrl-C reaches us alone) and `signal` should we die first.
pub fn tie_to_us(command: &mut Command, signal: i32) {
    command.process_group(0);
    // SAFETY: between fork and exec only prctl is called, which is async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            check(libc::prctl(libc::PR_SET_PDEATHSIG, signal))?;
            Ok(())
        });
    }
}

/// Raises the limit of open files to what is allowed, and tells it.
pub fn raise_file_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` lives through both calls.
    unsafe {
        check(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit))?;
        limit.rlim_cur = limit.rlim_max;
        check(libc::setrlimit(libc::RLIMIT_NOFILE, &limit))?;
    }
    Ok(limit.rlim_cur)
}

/// CPU seconds of this process so far, all threads: user, system.
pub fn own_cpu() -> (f64, f64) {
    // SAFETY: rusage is plain data, filled by the call.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    (seconds(usage.ru_utime), seconds(usage.ru_stime))
}

/// Clock ticks a second in `/proc/*/stat`.
pub fn ticks_per_second() -> f64 {
    // SAFETY: no pointers.
    unsafe { libc::sysconf(libc::_SC_CLK_TCK) as f64 }
}

/// Now by the clock that all processes of the machine share and that never steps, in nanoseconds.
pub fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` lives through the call; the clock is always there.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Bytes of a page of memory.
pub fn page_bytes() -> u64 {
    // SAFETY: no pointers.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as u64 }
}

/// Whether we run as root.
pub fn is_root() -> bool {
    // SAFETY: no pointers, can't fail.
    unsafe { libc::geteuid() == 0 }
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
