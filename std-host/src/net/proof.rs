//! What the kernel knows of a connection's life: one `getsockopt(TCP_INFO)`, asked only when a
//! deadline has passed or after the whole process stood still.

use std::os::fd::AsFd;
use std::time::Duration;

/// The part of the kernel's `tcp_info` that tells whether the peer lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpState {
    /// Since the last byte of data came in.
    pub since_received: Duration,
    /// Since an acknowledgement last made progress, as far as the kernel tells; else since the last
    /// segment came in. Never more than it is.
    pub since_acknowledged: Duration,
    /// Bytes that the peer has acknowledged so far.
    pub acknowledged: u64,
    /// Whether bytes are in flight or wait in the kernel to be sent.
    pub owed: bool,
}

#[cfg(target_os = "linux")]
impl TcpState {
    /// Asks the kernel.
    #[must_use]
    #[allow(unsafe_code)]
    pub fn of(stream: &impl AsFd) -> Option<Self> {
        use std::os::fd::AsRawFd;

        // `struct tcp_info` of linux/tcp.h up to `tcpi_notsent_bytes` (offset 144). The kernel
        // copies as much as it has and as fits, and says how much that was.
        const LEN: usize = 148;
        let mut info = [0u8; LEN];
        let mut len = LEN as libc::socklen_t;
        // SAFETY: the descriptor is open for as long as `stream` is borrowed, and `info` has the
        // `len` bytes that the kernel is told of. No library in use wraps this option.
        let answer = unsafe {
            libc::getsockopt(
                stream.as_fd().as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                info.as_mut_ptr().cast(),
                &raw mut len,
            )
        };
        if answer != 0 || (len as usize) < LEN {
            return None;
        }
        let word =
            |at: usize| u32::from_ne_bytes([info[at], info[at + 1], info[at + 2], info[at + 3]]);
        let (unacked, not_sent) = (word(24), word(144));
        let acknowledged = u64::from_ne_bytes(info[120..128].try_into().ok()?);
        let retransmit = Duration::from_micros(word(8).into());
        // The kernel counts in jiffies, so an age may be one of them too old: no one is to be
        // judged early for that.
        let age = |at: usize| Duration::from_millis(word(at).into()).saturating_sub(jiffy());
        let mut since_acknowledged = age(56);
        if unacked == 0 && not_sent > 0 {
            // The peer's window is shut. Its answers to probes, and what it goes on sending, carry
            // acknowledgements of nothing new: the last that did came for the last data sent, which
            // would have been sent again if it had taken longer than this.
            since_acknowledged = since_acknowledged.max(age(44).saturating_sub(retransmit));
        }
        Some(Self {
            since_received: age(52),
            since_acknowledged,
            acknowledged,
            owed: unacked > 0 || not_sent > 0,
        })
    }
}

#[cfg(not(target_os = "linux"))]
impl TcpState {
    /// Other systems have no such answer: only bytes that were read count as proof there.
    #[must_use]
    pub fn of(_stream: &impl AsFd) -> Option<Self> {
        None
    }
}

/// The precision of the kernel's time stamps.
#[cfg(target_os = "linux")]
fn jiffy() -> Duration {
    use std::sync::OnceLock;
    static JIFFY: OnceLock<Duration> = OnceLock::new();
    *JIFFY.get_or_init(|| {
        // The coarse clock advances once per jiffy.
        let tick = rustix::time::clock_getres(rustix::time::ClockId::MonotonicCoarse);
        Duration::from_nanos(tick.tv_nsec.unsigned_abs())
    })
}
