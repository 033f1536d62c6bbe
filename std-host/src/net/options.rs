//! Options of sockets that are not set on all of them.

use mio::net::TcpStream;

/// Asks the kernel to find out if this stream's peer is gone, where nothing else does: after a
/// minute of silence, six probes ten seconds apart.
pub fn keep_alive(stream: &TcpStream) {
    let probes = socket2::TcpKeepalive::new()
        .with_time(std::time::Duration::from_secs(60))
        .with_interval(std::time::Duration::from_secs(10))
        .with_retries(6);
    // On a connection that is gone already there is nothing to find out.
    let _ = socket2::SockRef::from(stream).set_tcp_keepalive(&probes);
}

/// Bounds what the kernel keeps of a stream's output: without it, a thousand readers of files that have
/// stopped reading hold four megabytes each, and the whole machine's TCP suffers.
pub fn bound_output(stream: &TcpStream) {
    // The kernel doubles it for its own bookkeeping. A link of 20 Mbit/s and 100 ms is filled by it.
    let _ = socket2::SockRef::from(stream).set_send_buffer_size(256 * 1024);
}

/// Makes the close of this stream an RST that discards what has not been sent.
pub fn abort(stream: &TcpStream) {
    // On a connection that is gone already there is nothing left to reset.
    let _ = socket2::SockRef::from(stream).set_linger(Some(std::time::Duration::ZERO));
}
