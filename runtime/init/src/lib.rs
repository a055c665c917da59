//! PID 1 of a Kiln node: from the kernel's first exec to a supervised cluster service.

/// Whether this process is the system's init (PID 1), so that [`main`] must take over.
pub fn is_init() -> bool {
    std::process::id() == 1
}

/// Runs PID 1. It never returns: a failed phase is told on the console and retried.
pub fn main() -> ! {
    loop {
        std::thread::park();
    }
}
