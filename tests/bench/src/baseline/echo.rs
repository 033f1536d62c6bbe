//! Raw echoes: the bytes that come go back.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};

use anyhow::Result;
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::io::Errno;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const BUFFER: usize = 64 * 1024;
const TASK_BUFFER: usize = 4 * 1024;
const BATCH: usize = 1024;
/// No connection has this index.
const LISTENER: u64 = u64::MAX;

struct Connection {
    stream: TcpStream,
    /// What the peer has not taken yet; while there is any, the connection is not read.
    pending: Vec<u8>,
}

/// One thread, level-triggered epoll, one buffer.
pub fn epoll(listener: &TcpListener) -> Result<()> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut free = Vec::new();
    let mut events = Vec::with_capacity(BATCH);
    let mut buffer = vec![0; BUFFER];
    loop {
        match epoll::wait(&epoll, spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in events.drain(..) {
            let token = event.data.u64();
            if token == LISTENER {
                accept(listener, &epoll, &mut connections, &mut free)?;
                continue;
            }
            let Ok(index) = usize::try_from(token) else { continue };
            let Some(slot) = connections.get_mut(index) else { continue };
            let Some(connection) = slot else { continue };
            let waited = !connection.pending.is_empty();
            if echo(connection, &mut buffer).is_err() {
                // Closing the socket takes it out of the epoll instance.
                *slot = None;
                free.push(index);
                continue;
            }
            let waits = !connection.pending.is_empty();
            if waits != waited {
                let interest = if waits { epoll::EventFlags::OUT } else { epoll::EventFlags::IN };
                epoll::modify(
                    &epoll,
                    &connection.stream,
                    epoll::EventData::new_u64(token),
                    interest,
                )?;
            }
        }
    }
}

fn accept(
    listener: &TcpListener,
    epoll: &impl rustix::fd::AsFd,
    into: &mut Vec<Option<Connection>>,
    free: &mut Vec<usize>,
) -> Result<()> {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        // No search: a baseline that takes long to accept flatters whoever is compared with it.
        let index = free.pop().unwrap_or(into.len());
        epoll::add(epoll, &stream, epoll::EventData::new_u64(index as u64), epoll::EventFlags::IN)?;
        let connection = Some(Connection { stream, pending: Vec::new() });
        if index == into.len() {
            into.push(connection);
        } else {
            into[index] = connection;
        }
    }
}

/// One read and one write; what is left beyond that shows up in the next round.
fn echo(connection: &mut Connection, buffer: &mut [u8]) -> io::Result<()> {
    if !connection.pending.is_empty() {
        let n = or_zero((&connection.stream).write(&connection.pending))?;
        connection.pending.drain(..n);
        return Ok(());
    }
    let n = match (&connection.stream).read(buffer) {
        Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
        other => or_zero(other)?,
    };
    if n > 0 {
        let written = or_zero((&connection.stream).write(&buffer[..n]))?;
        connection.pending.extend_from_slice(&buffer[written..n]);
    }
    Ok(())
}

fn or_zero(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error)
            if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) =>
        {
            Ok(0)
        }
        other => other,
    }
}

/// A task per connection on one thread, each with a buffer of its own.
pub fn tokio(listener: TcpListener) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loop {
            let (mut stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(async move {
                let mut buffer = vec![0; TASK_BUFFER];
                while let Ok(n) = stream.read(&mut buffer).await {
                    if n == 0 || stream.write_all(&buffer[..n]).await.is_err() {
                        return;
                    }
                }
            });
        }
    })
}
