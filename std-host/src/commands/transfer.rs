//! What `upload` and `download` have in common: their options, and how they show progress.

use std::error::Error;
use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressStyle};

use super::password;
use super::ping::positive;
use crate::client::PACKETS;
use crate::client::transfer::{Event, Options, Outcome, PACKET, Retry};
use crate::text::printable;

/// Without a terminal, one line of progress this often.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// A name on a line is cut to this many characters.
const NAME: usize = 60;

/// The server, the user, and how patiently.
#[derive(Debug, clap::Args)]
pub(super) struct TransferArgs {
    /// The server, as host:port.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9999")]
    server: String,
    /// Log in as this user.
    #[arg(long)]
    user: String,
    /// Read the password from the first line of standard input instead of asking for it.
    #[arg(long)]
    password_stdin: bool,
    /// The directory on the server, below what the user sees.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(super) dir: String,
    /// Bytes of the file in one packet, up to 1 MiB.
    #[arg(long, value_name = "BYTES", default_value_t = PACKET, value_parser = packet())]
    packet: u32,
    /// How many failures in a row may bring nothing new before a file is given up: a number, or
    /// `forever`.
    #[arg(long, value_name = "N", default_value = "20", value_parser = retries)]
    retries: Retries,
    /// The pause before the second attempt; it doubles up to a minute, and varies by chance.
    #[arg(long, value_name = "DUR", default_value = "1s", value_parser = positive)]
    retry_pause: Duration,
    /// Give up a connection on which nothing has moved for so long, and connect again.
    #[arg(long, value_name = "DUR", default_value = "30s", value_parser = positive)]
    stall_timeout: Duration,
}

/// How often a connection may fail; `None` for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Retries(Option<u32>);

fn retries(text: &str) -> Result<Retries, String> {
    if text == "forever" {
        return Ok(Retries(None));
    }
    let number = text.parse().map_err(|_| "must be a number, or `forever`".to_owned())?;
    Ok(Retries(Some(number)))
}

fn packet() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(i64::from(*PACKETS.start())..=i64::from(*PACKETS.end()))
}

impl TransferArgs {
    /// The options of the client, once the password is known.
    pub(super) async fn options(&self) -> anyhow::Result<Options> {
        let password = password::read(&self.user, self.password_stdin).await?;
        let mut options = Options::new(&self.server, &self.user, &password);
        options.packet = self.packet;
        options.timeouts.stall = self.stall_timeout;
        options.retry = Retry { failures: self.retries.0, pause: self.retry_pause };
        Ok(options)
    }
}

/// One file's progress on standard error: a bar on a terminal, lines elsewhere.
pub(super) struct Progress {
    name: String,
    bar: Option<ProgressBar>,
    size: u64,
    /// Since the connection stands, and from where.
    from: (Instant, u64),
    next_line: Instant,
    most: Retries,
}

impl Progress {
    pub(super) fn new(name: &str, args: &TransferArgs) -> Self {
        let name = printable(name, NAME);
        let bar = stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template(
                "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta} left",
            );
            let style = style.expect("a constant template is valid");
            ProgressBar::new(0).with_style(style).with_message(name.clone())
        });
        let now = Instant::now();
        Self { name, bar, size: 0, from: (now, 0), next_line: now + LINE_EVERY, most: args.retries }
    }

    pub(super) fn show(&mut self, event: Event<'_>) {
        match event {
            Event::From { done, size } => self.start(done, size),
            Event::Moved { done } => self.moved(done),
            Event::Waiting { error, pause, failures } => {
                let most = match self.most.0 {
                    Some(most) => format!("{failures} of {most}"),
                    None => failures.to_string(),
                };
                let pause = pause.as_secs_f64();
                self.line(&format!(
                    "{}; again in {pause:.1} s (failure {most})",
                    with_causes(error)
                ));
            }
        }
    }

    fn start(&mut self, done: u64, size: u64) {
        let now = Instant::now();
        self.size = size;
        self.from = (now, done);
        self.next_line = now + LINE_EVERY;
        let resumed = match done {
            0 => String::new(),
            _ => format!(", from {}", HumanBytes(done)),
        };
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{}{resumed}", self.name));
            bar.set_length(size);
            bar.set_position(done);
            // What was there before says nothing about the line.
            bar.reset_eta();
        } else {
            self.line(&format!("{}{resumed}", HumanBytes(size)));
        }
    }

    fn moved(&mut self, done: u64) {
        if let Some(bar) = &self.bar {
            return bar.set_position(done);
        }
        let now = Instant::now();
        if now < self.next_line {
            return;
        }
        self.next_line = now + LINE_EVERY;
        let (since, from) = self.from;
        let rate = done.saturating_sub(from) as f64 / (now - since).as_secs_f64();
        let left = Duration::try_from_secs_f64(self.size.saturating_sub(done) as f64 / rate)
            .map_or_else(|_| "unknown time".to_owned(), |left| HumanDuration(left).to_string());
        let percent = 100.0 * done as f64 / self.size.max(1) as f64;
        let (done, size, rate) = (HumanBytes(done), HumanBytes(self.size), HumanBytes(rate as u64));
        self.line(&format!("{percent:.0}%, {done} of {size}, {rate}/s, {left} left"));
    }

    fn line(&self, text: &str) {
        let line = format!("{}: {text}", self.name);
        match &self.bar {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }

    /// Takes the bar off the terminal.
    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// An error and its causes on one line, as the command's last words have them.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

/// What is said of a file that got over: where to, and what it took.
pub(super) fn result(what: &str, outcome: &Outcome, took: Duration) -> String {
    let Outcome { size, resumed_from, reconnects, .. } = outcome;
    let resumed = match resumed_from {
        0 => String::new(),
        from => format!(", resumed from {from}"),
    };
    let again = match reconnects {
        0 => String::new(),
        1 => ", 1 reconnect".to_owned(),
        more => format!(", {more} reconnects"),
    };
    format!("{what}: {size} bytes{resumed}{again}, {:.1} s", took.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_number_or_forever() {
        assert_eq!(retries("0"), Ok(Retries(Some(0))));
        assert_eq!(retries("forever"), Ok(Retries(None)));
        assert!(retries("-1").is_err() && retries("often").is_err());
    }

    #[test]
    fn results_say_what_it_took() {
        let mut outcome = Outcome { size: 9, resumed_from: 0, moved: 9, reconnects: 0 };
        let took = Duration::from_millis(1500);
        assert_eq!(result("f", &outcome, took), "f: 9 bytes, 1.5 s");
        outcome.resumed_from = 3;
        outcome.reconnects = 2;
        assert_eq!(result("f", &outcome, took), "f: 9 bytes, resumed from 3, 2 reconnects, 1.5 s");
    }
}
