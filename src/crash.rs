//! The last message of a process that crashes inside a C library, such as the Kafka client.
//!
//! The system ends such a process without a word. A handler of the signal writes the message, and
//! then the handler that Rust installed reports a stack overflow, as without this one.

use std::{
    mem::MaybeUninit,
    ptr,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

/// A signal, its message, and the handler before this one.
struct Crash {
    signal: libc::c_int,
    message: &'static str,
    before: OnceLock<libc::sigaction>,
}

macro_rules! crash {
    ($name:literal, $signal:expr) => {
        Crash {
            signal: $signal,
            message: concat!(
                "error: the process crashed (",
                $name,
                "), most likely inside a C library such as the Kafka client\n",
                "  nothing that was committed is lost: the next `tagflow run` continues after \
                 the last commit\n"
            ),
            before: OnceLock::new(),
        }
    };
}

static CRASHES: [Crash; 3] = [
    crash!("SIGSEGV", libc::SIGSEGV),
    crash!("SIGBUS", libc::SIGBUS),
    crash!("SIGABRT", libc::SIGABRT),
];

/// Whether a message was written: the report of a stack overflow ends with a second signal.
static IS_REPORTED: AtomicBool = AtomicBool::new(false);

/// From now on a crash leaves a message.
pub(crate) fn report_crashes() {
    for crash in &CRASHES {
        // SAFETY: `report` calls only functions that are allowed in a handler, runs on the
        // alternative stack that Rust gives each thread, and takes the arguments of `SA_SIGINFO`.
        unsafe {
            let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
            action.sa_sigaction = report as *const () as libc::sighandler_t;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            let mut before = MaybeUninit::zeroed();
            if libc::sigaction(crash.signal, ptr::null(), before.as_mut_ptr()) == 0 {
                let _ = crash.before.set(before.assume_init());
                libc::sigaction(crash.signal, &raw const action, ptr::null_mut());
            }
        }
    }
}

extern "C" fn report(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let Some(crash) = CRASHES.iter().find(|it| it.signal == signal) else {
        return;
    };
    if !IS_REPORTED.swap(true, Ordering::Relaxed) {
        let bytes = crash.message.as_bytes();
        // SAFETY: the bytes live as long as the process.
        unsafe { libc::write(libc::STDERR_FILENO, bytes.as_ptr().cast(), bytes.len()) };
    }
    // SAFETY: the handler before this one had the same kind of arguments, as its flag shows. The
    // signal is blocked until this function returns, and then ends the process.
    unsafe {
        if let Some(before) = crash.before.get()
            && before.sa_flags & libc::SA_SIGINFO != 0
            && before.sa_sigaction != libc::SIG_DFL
            && before.sa_sigaction != libc::SIG_IGN
        {
            let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                std::mem::transmute(before.sa_sigaction);
            handler(signal, info, context);
        }
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}
