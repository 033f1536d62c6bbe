//! `pulsegate ping`: heartbeat round trips, one line each.

use std::fmt;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::time::{MissedTickBehavior, interval};

use crate::client::{Client, ClientError, Flag};

/// Measures heartbeat round trips to a server.
///
/// Exits with 1 when no heartbeat was answered.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The server, as host:port.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9999")]
    server: String,
    /// Stop after so many heartbeats; without it, at Ctrl-C.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Time from one heartbeat to the next.
    #[arg(long, value_name = "DUR", default_value = "1s", value_parser = positive)]
    interval: Duration,
}

/// A duration longer than zero, as people write it.
pub(super) fn positive(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("must be longer than zero".to_owned()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(format!("{error}; durations look like 500ms, 60s, 5m")),
    }
}

/// What the pings came to.
struct Summary {
    server: String,
    started: Instant,
    sent: u64,
    times: Histogram<u64>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answered = self.times.len();
        let lost = self.sent - answered;
        writeln!(f, "--- {} heartbeat statistics ---", self.server)?;
        write!(
            f,
            "{} sent, {answered} answered, {:.0}% lost, time {:.1} s",
            self.sent,
            100.0 * lost as f64 / self.sent.max(1) as f64,
            self.started.elapsed().as_secs_f64()
        )?;
        if answered == 0 {
            return Ok(());
        }
        let ms = |micros: u64| micros as f64 / 1000.0;
        write!(
            f,
            "\nround trip min/avg/p99/max = {:.3}/{:.3}/{:.3}/{:.3} ms",
            ms(self.times.min()),
            self.times.mean() / 1000.0,
            ms(self.times.value_at_quantile(0.99)),
            ms(self.times.max())
        )
    }
}

/// Sends heartbeats until the count is reached or Ctrl-C.
///
/// # Errors
/// When the first connection fails: later failures are lines of the output.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut summary = Summary {
        server: args.server.clone(),
        started: Instant::now(),
        sent: 0,
        // Microseconds up to two minutes, beyond every timeout of the client.
        times: Histogram::new_with_max(120_000_000, 3)?,
    };
    tokio::select! {
        // First, so that Ctrl-C is caught from the beginning.
        biased;
        stopped = tokio::signal::ctrl_c() => stopped?,
        done = ping(&args, &mut summary) => done?,
    }
    println!("\n{summary}");
    Ok(if summary.times.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn ping(args: &Args, summary: &mut Summary) -> Result<(), ClientError> {
    let server = &args.server;
    let mut client = Some(Client::connect(server, Flag::Control).await?);
    let mut ticks = interval(args.interval);
    // After a slow answer the next heartbeat waits its time: no burst to catch up.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while args.count.is_none_or(|count| summary.sent < count) {
        ticks.tick().await;
        let answer = beat(&mut client, server).await;
        // Counted only now: a heartbeat that Ctrl-C overtakes is not lost.
        summary.sent += 1;
        match answer {
            Ok(time) => {
                summary.times.saturating_record(time.as_micros().try_into().unwrap_or(u64::MAX));
                let ms = time.as_secs_f64() * 1000.0;
                println!("answer from {server}: seq={} time={ms:.3} ms", summary.sent);
            }
            Err(error) => {
                client = None;
                let error = anyhow::Error::new(error);
                println!("no answer: seq={} {error:#}", summary.sent);
            }
        }
    }
    Ok(())
}

/// One round trip; connects first if the last connection was lost.
async fn beat(client: &mut Option<Client>, server: &str) -> Result<Duration, ClientError> {
    let connected = match client {
        Some(connected) => connected,
        None => client.insert(Client::connect(server, Flag::Control).await?),
    };
    connected.heartbeat().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_counts_what_was_lost() {
        let mut summary = Summary {
            server: "host:1".into(),
            started: Instant::now(),
            sent: 4,
            times: Histogram::new_with_max(120_000_000, 3).unwrap(),
        };
        assert!(summary.to_string().contains("4 sent, 0 answered, 100% lost"));
        for micros in [1000, 2000, 3000] {
            summary.times.saturating_record(micros);
        }
        let text = summary.to_string();
        assert!(text.contains("3 answered, 25% lost"), "{text}");
        assert!(text.contains("= 1.000/2.0"), "{text}");
    }
}
