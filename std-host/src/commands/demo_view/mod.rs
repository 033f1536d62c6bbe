//! The live view of `pulsegate demo`: who is alive, who went silent, who was swept.
//!
//! The view draws plain data that a callback hands it; it knows neither the server nor the fleet.

mod screen;

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io::{self, IsTerminal};
use std::pin::pin;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::time::{MissedTickBehavior, interval};

/// Keys are looked at this often.
const KEYS: Duration = Duration::from_millis(50);

/// The screen is redrawn at every so many looks at the keys: four times a second.
const DRAW_EVERY: u32 = 5;

/// Without a terminal, one line this often.
const LINES: Duration = Duration::from_secs(1);

/// Everything one redraw shows.
#[derive(Debug, Clone, Default)]
pub struct DemoFrame {
    /// Time since the start.
    pub elapsed: Duration,
    /// Where the server listens.
    pub listen: String,
    /// The server's idle timeout: the full length of the bars.
    pub idle_timeout: Duration,
    /// Sums.
    pub totals: DemoTotals,
    /// Who has been silent for how long, the most silent first; the view shows what fits.
    pub silent: Vec<SilentRow>,
    /// Who was swept last, the latest first; the view shows what fits.
    pub swept: Vec<SweptRow>,
}

/// Sums of server and fleet.
#[derive(Debug, Clone, Copy, Default)]
pub struct DemoTotals {
    /// Connections that stand, dark ones included.
    pub connected: u64,
    /// Of these, logged in.
    pub logged_in: u64,
    /// Devices without a signal.
    pub dark: u64,
    /// Heartbeats answered since the start; the view makes a rate of it.
    pub heartbeats: u64,
    /// Sessions closed by the sweep.
    pub swept: u64,
    /// Sessions closed because their device logged in again.
    pub replaced: u64,
    /// Live connections that were closed.
    pub false_closes: u64,
    /// The worst close against its deadline, in microseconds.
    pub worst_lateness_us: Option<i64>,
}

/// A session and its silence.
#[derive(Debug, Clone)]
pub struct SilentRow {
    /// The device's address.
    pub remote: String,
    /// Its user name; may be empty.
    pub user: String,
    /// What the connection is used for.
    pub protocol: String,
    /// Time since its last proof of life.
    pub silence: Duration,
}

/// A session that was swept.
#[derive(Debug, Clone)]
pub struct SweptRow {
    /// When, since the start.
    pub at: Duration,
    /// The device's address.
    pub remote: String,
    /// Its user name; may be empty.
    pub user: String,
    /// Why it was closed.
    pub reason: String,
    /// How long it had been silent.
    pub silence: Duration,
    /// Close against deadline, in microseconds; negative is early.
    pub lateness_us: i64,
}

/// What the demo came to.
#[derive(Debug, Clone, Copy, Default)]
pub struct DemoSummary {
    /// Simulated devices.
    pub devices: u64,
    /// Connections they made.
    pub connections: u64,
    /// Heartbeats that were answered.
    pub heartbeats: u64,
    /// Silent sessions that the sweep closed within the tick.
    pub on_time: u64,
    /// Silent sessions that it closed later.
    pub late: u64,
    /// Dark connections that were closed before the idle timeout.
    pub early: u64,
    /// Dark connections that were due and not closed.
    pub missed: u64,
    /// Live connections that were closed.
    pub false_closes: u64,
    /// The worst close against its deadline, in microseconds.
    pub worst_lateness_us: Option<i64>,
    /// Half of the heartbeat round trips were faster.
    pub round_trip_p50: Duration,
    /// 99 of 100 heartbeat round trips were faster.
    pub round_trip_p99: Duration,
}

impl fmt::Display for DemoSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let swept = self.on_time + self.late;
        writeln!(f, "devices                {}", self.devices)?;
        writeln!(f, "connections made       {}", self.connections)?;
        writeln!(f, "heartbeats answered    {}", self.heartbeats)?;
        writeln!(f, "closed by the sweep    {swept}")?;
        writeln!(f, "  on time              {}", self.on_time)?;
        writeln!(f, "  late                 {} (0 expected)", self.late)?;
        writeln!(f, "  early                {} (0 expected)", self.early)?;
        writeln!(f, "silent, not closed     {} (0 expected)", self.missed)?;
        writeln!(f, "live, closed falsely   {} (0 expected)", self.false_closes)?;
        writeln!(f, "worst lateness         {}", lateness(self.worst_lateness_us))?;
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        let (p50, p99) = (ms(self.round_trip_p50), ms(self.round_trip_p99));
        writeln!(f, "round trip             p50 {p50:.3} ms, p99 {p99:.3} ms")
    }
}

/// Microseconds against a deadline as milliseconds with a sign.
fn lateness(micros: Option<i64>) -> String {
    match micros {
        Some(micros) => format!("{:+.1} ms", micros as f64 / 1000.0),
        None => "-".to_owned(),
    }
}

/// Heartbeats per second over the last second or so.
#[derive(Debug, Default)]
struct Rate {
    samples: VecDeque<(Duration, u64)>,
}

impl Rate {
    fn of(&mut self, elapsed: Duration, total: u64) -> f64 {
        self.samples.push_back((elapsed, total));
        // The oldest sample that stays is the youngest one at least a second old.
        while self.samples.get(1).is_some_and(|(at, _)| elapsed.saturating_sub(*at) >= LINES) {
            self.samples.pop_front();
        }
        let (since, before) = self.samples[0];
        let seconds = elapsed.saturating_sub(since).as_secs_f64();
        if seconds > 0.0 { total.saturating_sub(before) as f64 / seconds } else { 0.0 }
    }
}

/// Shows `frames` until `done` is, or somebody presses q or Ctrl-C: on a screen of its own where
/// input and output are a terminal, else as plain lines.
///
/// # Errors
/// When the terminal cannot be used.
pub async fn show(
    frames: impl FnMut() -> DemoFrame,
    done: impl Future<Output = ()>,
) -> io::Result<()> {
    if io::stdin().is_terminal() && io::stdout().is_terminal() {
        on_screen(frames, done).await
    } else {
        in_lines(frames, done).await
    }
}

/// Gives the terminal back however the view ends; after a panic ratatui's hook has done it before.
struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

async fn on_screen(
    mut frames: impl FnMut() -> DemoFrame,
    done: impl Future<Output = ()>,
) -> io::Result<()> {
    // Before the first change to the terminal, so that a half-made one is undone too.
    let restore = Restore;
    let mut terminal = ratatui::try_init()?;
    let (mut done, mut signal) = (pin!(done), pin!(tokio::signal::ctrl_c()));
    let mut keys = interval(KEYS);
    keys.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut rate = Rate::default();
    let mut looks = 0u32;
    loop {
        tokio::select! {
            () = &mut done => break,
            signal = &mut signal => {
                signal?;
                break;
            }
            _ = keys.tick() => {}
        }
        let mut redraw = looks.is_multiple_of(DRAW_EVERY);
        looks = looks.wrapping_add(1);
        while event::poll(Duration::ZERO)? {
            match event::read()? {
                Event::Key(key) if ends(&key) => return Ok(()),
                Event::Resize(..) => redraw = true,
                _ => {}
            }
        }
        if redraw {
            let frame = frames();
            let beats = rate.of(frame.elapsed, frame.totals.heartbeats);
            terminal.draw(|to| screen::draw(to, &frame, beats))?;
        }
    }
    drop(restore);
    Ok(())
}

/// In raw mode Ctrl-C is a key like any other.
fn ends(key: &KeyEvent) -> bool {
    let control_c = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press && (control_c || key.code == KeyCode::Char('q'))
}

async fn in_lines(
    mut frames: impl FnMut() -> DemoFrame,
    done: impl Future<Output = ()>,
) -> io::Result<()> {
    let (mut done, mut signal) = (pin!(done), pin!(tokio::signal::ctrl_c()));
    let mut ticks = interval(LINES);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut rate = Rate::default();
    loop {
        tokio::select! {
            () = &mut done => return Ok(()),
            signal = &mut signal => return signal,
            _ = ticks.tick() => {
                let frame = frames();
                let beats = rate.of(frame.elapsed, frame.totals.heartbeats);
                println!("{}", line(&frame, beats));
            }
        }
    }
}

fn line(frame: &DemoFrame, beats: f64) -> String {
    let t = &frame.totals;
    format!(
        "{:>4} s  {} connected, {} logged in, {} dark, {beats:.0} heartbeats/s, {} swept, \
         {} replaced, {} closed falsely, worst lateness {}",
        frame.elapsed.as_secs(),
        t.connected,
        t.logged_in,
        t.dark,
        t.swept,
        t.replaced,
        t.false_closes,
        lateness(t.worst_lateness_us)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_covers_about_a_second() {
        let mut rate = Rate::default();
        let ms = Duration::from_millis;
        assert_eq!(rate.of(ms(0), 0), 0.0);
        assert_eq!(rate.of(ms(500), 100), 200.0);
        for quarter in 3..=20 {
            rate.of(ms(250 * quarter), 100);
        }
        assert_eq!(rate.of(ms(5250), 100), 0.0);
        assert_eq!(rate.of(ms(5250), 150), 50.0);
        assert!(rate.samples.len() < 10);
    }

    #[tokio::test]
    async fn without_a_terminal_the_view_runs_until_it_is_told_to_end() {
        let mut drawn = 0;
        let frames = || {
            drawn += 1;
            DemoFrame::default()
        };
        in_lines(frames, tokio::time::sleep(Duration::from_millis(100))).await.unwrap();
        assert_eq!(drawn, 1);
    }

    #[test]
    fn q_and_control_c_end_the_view() {
        let key = |code, modifiers| ends(&KeyEvent::new(code, modifiers));
        assert!(key(KeyCode::Char('q'), KeyModifiers::NONE));
        assert!(key(KeyCode::Char('c'), KeyModifiers::CONTROL));
        assert!(!key(KeyCode::Char('c'), KeyModifiers::NONE));
        assert!(!key(KeyCode::Esc, KeyModifiers::NONE));
    }

    #[test]
    fn lines_and_summary_say_it_all() {
        let mut frame = DemoFrame::default();
        frame.totals.swept = 7;
        frame.totals.worst_lateness_us = Some(12_345);
        let text = line(&frame, 99.6);
        assert!(text.contains("100 heartbeats/s, 7 swept"), "{text}");
        assert!(text.contains("worst lateness +12.3 ms"), "{text}");
        let summary = DemoSummary { on_time: 3, late: 1, ..DemoSummary::default() }.to_string();
        assert!(summary.contains("closed by the sweep    4"), "{summary}");
        assert!(summary.contains("worst lateness         -"), "{summary}");
    }
}
