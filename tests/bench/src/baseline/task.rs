//! The shape with a task per connection: its own state machine, its own timer, and by default its own read buffer.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::net::TcpListener;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::responder::Responder;

const OWN_BUFFER: usize = 4 * 1024;
const SHARED_BUFFER: usize = 64 * 1024;

thread_local! {
    /// Read into and answered within one poll of a task, so no task ever sees another's bytes.
    static SHARED: RefCell<Vec<u8>> = RefCell::new(vec![0; SHARED_BUFFER]);
    static OUTPUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Serves with a task per connection on one Tokio thread.
pub fn serve(listener: TcpListener, idle_timeout: Duration, own_buffer: bool) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(async move {
                let buffer = own_buffer.then(|| vec![0; OWN_BUFFER]);
                // However it ends, dropping the stream closes the connection.
                let _ = session(stream, idle_timeout, buffer).await;
            });
        }
    })
}

async fn session(
    mut stream: TcpStream,
    idle_timeout: Duration,
    mut own: Option<Vec<u8>>,
) -> io::Result<()> {
    let mut responder = Responder::default();
    let mut last = Instant::now();
    let timer = sleep(idle_timeout);
    tokio::pin!(timer);
    loop {
        let step = poll_fn(|context| {
            let exchanged = match &mut own {
                Some(buffer) => poll_exchange(&mut stream, context, buffer, &mut responder),
                None => SHARED.with_borrow_mut(|buffer| {
                    poll_exchange(&mut stream, context, buffer, &mut responder)
                }),
            };
            if let Poll::Ready(unsent) = exchanged {
                return Poll::Ready(unsent.map(Step::Exchanged));
            }
            timer.as_mut().poll(context).map(|()| Ok(Step::Timer))
        });
        match step.await? {
            Step::Exchanged(unsent) => {
                last = Instant::now();
                if let Some(unsent) = unsent {
                    stream.write_all(&unsent).await?;
                }
            }
            Step::Timer if last.elapsed() >= idle_timeout => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            // The timer is moved when it fires, not with each packet: recording activity stays one store.
            Step::Timer => timer.as_mut().reset(last + idle_timeout),
        }
    }
}

enum Step {
    /// A read has been answered; this much the socket did not take.
    Exchanged(Option<Vec<u8>>),
    Timer,
}

/// One read, the replies to it, one write.
fn poll_exchange(
    stream: &mut TcpStream,
    context: &mut Context<'_>,
    buffer: &mut [u8],
    responder: &mut Responder,
) -> Poll<io::Result<Option<Vec<u8>>>> {
    let mut read = ReadBuf::new(buffer);
    ready!(Pin::new(&mut *stream).poll_read(context, &mut read))?;
    let input = read.filled();
    if input.is_empty() {
        return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
    }
    Poll::Ready(OUTPUT.with_borrow_mut(|output| {
        output.clear();
        responder.respond(input, output).map_err(|_| io::ErrorKind::InvalidData)?;
        if output.is_empty() {
            return Ok(None);
        }
        let written = match stream.try_write(output) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            other => other?,
        };
        Ok((written < output.len()).then(|| output[written..].to_vec()))
    }))
}
