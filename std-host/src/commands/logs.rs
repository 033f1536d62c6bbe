//! `pulsegate logs`: a server's log as it is written.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use tokio::time::sleep;

use super::ping::positive;
use crate::client::transfer::BackOff;
use crate::client::{ClientError, LogReader, Timeouts};
use crate::text::printable;

/// A line shows at most this many characters.
const LINE: usize = 64 * 1024;

/// The first pause before the next attempt to connect.
const PAUSE: Duration = Duration::from_secs(1);

/// Follows a server's log, from now on.
///
/// A server gives its log to its own machine only, unless it was started with `--log-output all`.
///
/// Exits with 0 after Ctrl-C and after the time given with --for, with 1 when the server does not give
/// its log or the connection ends.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The server, as host:port.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9999")]
    server: String,
    /// How long to follow; without it, until Ctrl-C.
    #[arg(long = "for", value_name = "DUR", value_parser = positive)]
    duration: Option<Duration>,
    /// Connect again when the connection ends; lines written in between are not shown.
    #[arg(long)]
    reconnect: bool,
}

/// Why following ended.
enum End {
    Server(ClientError),
    /// Standard output takes no more.
    Output(io::Error),
}

/// Prints lines until Ctrl-C, the end of the time, or of the connection.
///
/// # Errors
/// When the connection ends and is not to be made again.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let time_is_up = async {
        match args.duration {
            Some(duration) => sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    let end = tokio::select! {
        // First, so that the signal is caught before the first line is out.
        biased;
        stopped = tokio::signal::ctrl_c() => {
            stopped?;
            return Ok(ExitCode::SUCCESS);
        }
        () = time_is_up => return Ok(ExitCode::SUCCESS),
        end = follow(&args) => end,
    };
    match end {
        // Whoever reads (`| head`) may have seen enough.
        End::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        End::Output(error) => Err(error.into()),
        End::Server(error) => Err(error.into()),
    }
}

async fn follow(args: &Args) -> End {
    let mut back_off = BackOff::new(PAUSE);
    let mut failures = 0;
    let mut ever = false;
    loop {
        let mut lines = 0;
        let error = match connected(args, &mut lines).await {
            End::Server(error) => error,
            end => return end,
        };
        ever |= lines > 0;
        // A server that is being started again may close at once; one that never gave a line does
        // not give its log.
        let refused = matches!(error, ClientError::NoLog { .. }) && !ever;
        if !args.reconnect || refused {
            return End::Server(error);
        }
        failures = if lines > 0 { 1 } else { failures + 1 };
        let pause = back_off.pause(failures);
        let error = anyhow::Error::new(error);
        eprintln!("{error:#}; again in {:.1} s", pause.as_secs_f64());
        sleep(pause).await;
    }
}

/// One connection to its end.
async fn connected(args: &Args, lines: &mut u64) -> End {
    let mut log = match LogReader::connect(&args.server, Timeouts::default()).await {
        Ok(log) => log,
        Err(error) => return End::Server(error),
    };
    eprintln!("following the log of {}; Ctrl-C ends", args.server);
    loop {
        match log.line().await {
            Ok(line) => {
                *lines += 1;
                let mut out = io::stdout().lock();
                let line = printable(&line, LINE);
                if let Err(error) = writeln!(out, "{line}").and_then(|()| out.flush()) {
                    return End::Output(error);
                }
            }
            Err(error) => return End::Server(error),
        }
    }
}
