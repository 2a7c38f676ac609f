//! The end of a process.

use tokio::runtime::Runtime;

/// Gives up the runtime of a process that ends, without waiting for its threads: a disk that hangs must not keep the process
/// from ending.
///
/// [`Runtime::shutdown_background`] would detach each thread while it ends, and glibc reads a thread's memory after it has
/// detached the thread (`pthread_detach`, seen in 2.36): now and then, a command whose work was done died of SIGSEGV. So the
/// runtime is leaked, and the end of the process ends its threads.
pub fn abandon(runtime: Runtime) {
    std::mem::forget(runtime);
}
