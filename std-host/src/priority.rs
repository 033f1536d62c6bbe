//! Threads that step back behind those that serve sessions.

/// What they step back to, of the 19 that would be starvation on a busy machine.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// Lowers the priority of the calling thread, where the system has that for threads (Linux). Best effort: without it
/// the thread competes with sessions on equal terms.
pub(crate) fn step_back() {
    // Linux keeps the nice value by thread, and takes a thread's id here.
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{getpriority_process, setpriority_process};
        let thread = Some(rustix::thread::gettid());
        if getpriority_process(thread).is_ok_and(|nice| nice < NICE) {
            let _ = setpriority_process(thread, NICE);
        }
    }
}
