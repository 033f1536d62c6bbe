//! The shape with one loop that owns every socket: a vector of connections, one read buffer, no timer per connection.
//!
//! Two ways to wait for the sockets: as one task of a Tokio thread, which watches the shard's epoll instance as a
//! descriptor, or in the kernel itself, with a waker for messages from other threads.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc as async_mpsc;
use tokio::time::MissedTickBehavior;

use super::responder::Responder;

const BUFFER: usize = 64 * 1024;
const BATCH: usize = 1024;
/// A connection is closed at most this late.
const TICK: Duration = Duration::from_millis(100);
/// How often another thread asks the shard something, so that the path for messages is part of what is measured.
const CENSUS: Duration = Duration::from_secs(1);
const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);

/// A question from another thread: how many connections are there?
struct Census(SyncSender<usize>);

struct Connection {
    stream: TcpStream,
    responder: Responder,
    last: Instant,
    generation: u32,
    /// What the peer has not taken yet; while there is any, the connection is not read.
    pending: Vec<u8>,
}

/// A connection is looked at when it may have been silent for the whole timeout, not before.
struct Look {
    at: Instant,
    index: usize,
    generation: u32,
}

struct Shard {
    listener: mio::net::TcpListener,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    generation: u32,
    /// In order of time, because the timeout is the same for all.
    looks: VecDeque<Look>,
    idle_timeout: Duration,
    buffer: Vec<u8>,
    output: Vec<u8>,
}

impl Shard {
    fn new(listener: TcpListener, registry: &Registry, idle_timeout: Duration) -> io::Result<Self> {
        let mut listener = mio::net::TcpListener::from_std(listener);
        registry.register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self {
            listener,
            connections: Vec::new(),
            free: Vec::new(),
            generation: 0,
            looks: VecDeque::new(),
            idle_timeout,
            buffer: vec![0; BUFFER],
            output: Vec::new(),
        })
    }

    fn serve(&mut self, events: &Events, registry: &Registry) -> io::Result<()> {
        let now = Instant::now();
        for event in events {
            match event.token() {
                LISTENER => self.accept(registry, now)?,
                WAKER => {}
                Token(index) => {
                    let Some(Some(connection)) = self.connections.get_mut(index) else {
                        continue;
                    };
                    if connection.turn(&mut self.buffer, &mut self.output, now).is_err() {
                        self.close(index);
                    }
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self, registry: &Registry, now: Instant) -> io::Result<()> {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let index = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            registry.register(
                &mut stream,
                Token(index),
                Interest::READABLE | Interest::WRITABLE,
            )?;
            self.generation = self.generation.wrapping_add(1);
            let generation = self.generation;
            self.looks.push_back(Look { at: now + self.idle_timeout, index, generation });
            let responder = Responder::default();
            self.connections[index] =
                Some(Connection { stream, responder, last: now, generation, pending: Vec::new() });
        }
    }

    fn close(&mut self, index: usize) {
        // Closing the socket takes it out of the epoll instance.
        self.connections[index] = None;
        self.free.push(index);
    }

    /// Closes what has been silent for too long; costs what is due, not what exists.
    fn sweep(&mut self) {
        let now = Instant::now();
        while self.looks.front().is_some_and(|look| look.at <= now) {
            let Some(mut look) = self.looks.pop_front() else {
                return;
            };
            let Some(Some(connection)) = self.connections.get(look.index) else {
                continue;
            };
            if connection.generation != look.generation {
                continue;
            }
            if now.duration_since(connection.last) >= self.idle_timeout {
                self.close(look.index);
            } else {
                look.at = connection.last + self.idle_timeout;
                self.schedule(look);
            }
        }
    }

    /// Most often this lands near the end, so few others move.
    fn schedule(&mut self, look: Look) {
        let at = self.looks.partition_point(|other| other.at <= look.at);
        self.looks.insert(at, look);
    }

    fn count(&self) -> usize {
        self.connections.len() - self.free.len()
    }
}

impl Connection {
    fn turn(&mut self, buffer: &mut [u8], output: &mut Vec<u8>, now: Instant) -> io::Result<()> {
        if !self.pending.is_empty() {
            let n = or_zero(self.stream.write(&self.pending))?;
            self.pending.drain(..n);
            if !self.pending.is_empty() {
                return Ok(());
            }
        }
        loop {
            let n = match self.stream.read(buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.last = now;
            output.clear();
            self.responder.respond(&buffer[..n], output).map_err(|_| io::ErrorKind::InvalidData)?;
            if !output.is_empty() {
                let written = or_zero(self.stream.write(output))?;
                if written < output.len() {
                    self.pending.extend_from_slice(&output[written..]);
                    return Ok(());
                }
            }
            // A read that left room has emptied the socket, and what comes after it is a new edge.
            if n < buffer.len() {
                return Ok(());
            }
        }
    }
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

/// Runs the shard in a thread that waits in the kernel.
pub fn serve_in_mio(listener: TcpListener, idle_timeout: Duration) -> Result<()> {
    let mut poll = Poll::new()?;
    let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
    let (sender, receiver) = sync_channel(16);
    thread::spawn(move || {
        take_census(|census| sender.send(census).is_ok() && waker.wake().is_ok());
    });
    let mut shard = Shard::new(listener, poll.registry(), idle_timeout)?;
    let mut events = Events::with_capacity(BATCH);
    let mut tick = Instant::now() + TICK;
    loop {
        let wait = tick.saturating_duration_since(Instant::now());
        match poll.poll(&mut events, Some(wait)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        }
        shard.serve(&events, poll.registry())?;
        if events.iter().any(|event| event.token() == WAKER) {
            answer_all(&receiver, shard.count());
        }
        let now = Instant::now();
        if now >= tick {
            shard.sweep();
            tick = now + TICK;
        }
    }
}

fn answer_all(receiver: &Receiver<Census>, count: usize) {
    while let Ok(Census(reply)) = receiver.try_recv() {
        // Whoever asked may have given up.
        let _ = reply.try_send(count);
    }
}

/// Runs the shard as one task of a Tokio thread.
pub fn serve_in_tokio(listener: TcpListener, idle_timeout: Duration) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (sender, mut receiver) = async_mpsc::channel(16);
    thread::spawn(move || take_census(|census| sender.blocking_send(census).is_ok()));
    runtime.block_on(async {
        let poll = Poll::new()?;
        let mut shard = Shard::new(listener, poll.registry(), idle_timeout)?;
        let mut watched = watch(poll)?;
        let mut events = Events::with_capacity(BATCH);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                guard = watched.readable_mut() => {
                    let mut guard = guard?;
                    let poll = guard.get_inner_mut();
                    poll.poll(&mut events, Some(Duration::ZERO))?;
                    shard.serve(&events, poll.registry())?;
                    // A batch that left room has emptied the list of ready sockets.
                    if events.iter().count() < BATCH {
                        guard.clear_ready();
                    }
                }
                Some(Census(reply)) = receiver.recv() => {
                    let _ = reply.try_send(shard.count());
                }
                _ = tick.tick() => shard.sweep(),
            }
        }
    })
}

#[expect(
    deprecated,
    reason = "the constructor that replaces it is unsafe; a `Poll` keeps its descriptor for life"
)]
fn watch(poll: Poll) -> io::Result<AsyncFd<Poll>> {
    AsyncFd::with_interest(poll, tokio::io::Interest::READABLE)
}

/// Asks once a second for as long as the shard takes questions and answers them.
fn take_census(ask: impl Fn(Census) -> bool) {
    loop {
        thread::sleep(CENSUS);
        let (sender, receiver) = sync_channel(1);
        if !ask(Census(sender)) || receiver.recv().is_err() {
            return;
        }
    }
}
