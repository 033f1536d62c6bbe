//! What the measurement needs of the operating system: cores, descriptors, `/proc`.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Resource, Rlimit, Signal};
use rustix::thread::CpuSet;

/// Where a server and the load run, each with all its threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cores {
    /// The server's core.
    pub server: usize,
    /// The load generator's core.
    pub load: usize,
}

/// Pins the calling thread, and every thread or process it starts from now on, to some cores.
pub fn pin(cores: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for &core in cores {
        ensure!(core < CpuSet::MAX_CPU, "no such core: {core}");
        set.set(core);
    }
    rustix::thread::sched_setaffinity(None, &set)
        .with_context(|| format!("cannot run on cores {cores:?}; are there so many?"))
}

/// Raises the soft limit on open descriptors to the hard one and returns it.
pub fn raise_descriptor_limit() -> Result<u64> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    rustix::process::setrlimit(Resource::Nofile, raised)
        .context("cannot raise the descriptor limit")?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// Asks the kernel to end this process with the one that started it, so that no server outlives its measurement.
pub fn end_with_parent() -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))
        .context("cannot follow the parent process")
}

/// CPU time the calling thread has used.
#[must_use]
pub fn own_thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// CPU time that the threads of a process have used in user and kernel mode; threads that have ended may be missing.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    // Nanoseconds, as of the last tick of the kernel's clock, where `stat` counts hundredths of a second.
    if let Ok(nanoseconds) = scheduled(pid) {
        return Ok(Duration::from_nanos(nanoseconds));
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the server has ended")?;
    let ticks = parse_ticks(&stat).context("unexpected form of /proc/PID/stat")?;
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_nanos(ticks.saturating_mul(1_000_000_000 / per_second)))
}

/// What the scheduler has given to a process's threads. Not every kernel tells.
fn scheduled(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        let on_cpu = text.split_whitespace().next().context("an empty schedstat")?;
        sum += on_cpu.parse::<u64>()?;
    }
    ensure!(sum > 0, "the kernel does not count");
    Ok(sum)
}

fn parse_ticks(stat: &str) -> Option<u64> {
    // The command name stands in parentheses and may hold anything: count fields from after the last one.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let user: u64 = fields.nth(11)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Resident memory of a process in bytes.
pub fn resident(pid: u32) -> Result<u64> {
    // `status` is updated in batches and can be off by some dozen pages; the rollup walks the mappings.
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"));
    let found = match &rollup {
        Ok(text) => parse_kib(text, "Rss:"),
        Err(_) => {
            let status = fs::read_to_string(format!("/proc/{pid}/status"))
                .context("the server has ended")?;
            parse_kib(&status, "VmRSS:")
        }
    };
    found.context("the kernel reports no resident size")
}

fn parse_kib(text: &str, key: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: u64 = value.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_behind_an_odd_name() {
        let stat = "42 (a ) b) S 1 2 3 4 5 6 7 8 9 10 700 30 0 0 20 0 1 0 5 6 7";
        assert_eq!(parse_ticks(stat), Some(730));
        assert_eq!(parse_ticks("42 (cut"), None);
    }

    #[test]
    fn sizes_are_kibibytes() {
        assert_eq!(parse_kib("Name: x\nRss:      12 kB\nPss: 3 kB\n", "Rss:"), Some(12288));
        assert_eq!(parse_kib("Name: x\n", "Rss:"), None);
    }

    #[test]
    fn this_process_can_be_measured() {
        assert!(resident(std::process::id()).unwrap() > 0);
        let mut x = 0_u64;
        let before = own_thread_time();
        while own_thread_time() < before + Duration::from_millis(30) {
            x = std::hint::black_box(x + 1);
        }
        assert!(cpu_time(std::process::id()).unwrap() > Duration::from_millis(10));
    }
}
