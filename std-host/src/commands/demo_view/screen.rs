//! One frame on a terminal of any size.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Paragraph, Row, Table};

use super::{DemoFrame, SilentRow, SweptRow, lateness};
use crate::text::printable;

/// Widest text from a peer in a column; narrower columns cut further.
const TEXT: usize = 32;

/// Cells of a bar.
const BAR: usize = 20;

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);

/// Draws the whole screen.
pub(super) fn draw(to: &mut Frame<'_>, frame: &DemoFrame, beats: f64) {
    let [totals, silent, swept, help] = Layout::vertical([
        Constraint::Length(4),
        Constraint::Fill(1),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(to.area());
    draw_totals(to, totals, frame, beats);
    draw_silent(to, silent, frame);
    draw_swept(to, swept, frame);
    to.render_widget(
        Paragraph::new("q ends the demo").style(Style::new().fg(Color::DarkGray)),
        help,
    );
}

fn draw_totals(to: &mut Frame<'_>, area: Rect, frame: &DemoFrame, beats: f64) {
    let t = &frame.totals;
    let seconds = frame.elapsed.as_secs();
    let title = format!(
        " pulsegate on {}, {:02}:{:02}:{:02} ",
        printable(&frame.listen, TEXT),
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    );
    let bad = |wrong: bool| {
        if wrong { BOLD.fg(Color::Red) } else { BOLD.fg(Color::Green) }
    };
    let first = [
        ("connected ", t.connected.to_string(), BOLD),
        ("logged in ", t.logged_in.to_string(), BOLD),
        ("dark ", t.dark.to_string(), BOLD),
        ("heartbeats/s ", format!("{beats:.0}"), BOLD),
    ];
    let second = [
        ("swept ", t.swept.to_string(), BOLD),
        ("replaced ", t.replaced.to_string(), BOLD),
        ("false closes ", t.false_closes.to_string(), bad(t.false_closes > 0)),
        ("worst lateness ", lateness(t.worst_lateness_us), BOLD),
    ];
    let lines = [first, second].map(|parts| {
        let spans = parts.into_iter().flat_map(|(label, value, style)| {
            [Span::raw(label), Span::styled(value, style), Span::raw("   ")]
        });
        Line::from_iter(spans)
    });
    to.render_widget(Paragraph::new(Vec::from(lines)).block(Block::bordered().title(title)), area);
}

fn draw_silent(to: &mut Frame<'_>, area: Rect, frame: &DemoFrame) {
    let idle = frame.idle_timeout;
    let title = format!(" silent, of {} allowed ", humantime::format_duration(idle));
    let rows = frame.silent.iter().take(room(area)).map(|row| silent_row(row, idle));
    let widths = [
        Constraint::Length(22),
        Constraint::Length(16),
        Constraint::Length(12),
        Constraint::Length(8),
        Constraint::Length(BAR as u16),
    ];
    let header = ["device", "user", "protocol", "silent", ""];
    to.render_widget(table(rows, widths, header, title), area);
}

fn silent_row(row: &SilentRow, idle: Duration) -> Row<'static> {
    let part = if idle.is_zero() { 1.0 } else { row.silence.as_secs_f64() / idle.as_secs_f64() };
    let part = part.min(1.0);
    let color = match part {
        part if part >= 0.9 => Color::Red,
        part if part >= 0.5 => Color::Yellow,
        _ => Color::Green,
    };
    let full = (part * BAR as f64).round() as usize;
    let bar = format!("{}{}", "█".repeat(full), "░".repeat(BAR - full));
    Row::new([
        Cell::new(printable(&row.remote, TEXT)),
        Cell::new(printable(&row.user, 16)),
        Cell::new(printable(&row.protocol, 12)),
        right(seconds(row.silence)),
        Cell::new(bar).style(Style::new().fg(color)),
    ])
}

fn draw_swept(to: &mut Frame<'_>, area: Rect, frame: &DemoFrame) {
    let rows = frame.swept.iter().take(room(area)).map(swept_row);
    let widths = [
        Constraint::Length(8),
        Constraint::Length(22),
        Constraint::Length(16),
        Constraint::Length(14),
        Constraint::Length(9),
        Constraint::Length(11),
    ];
    let header = ["at", "device", "user", "reason", "silent", "late"];
    to.render_widget(table(rows, widths, header, " swept last ".to_owned()), area);
}

fn swept_row(row: &SweptRow) -> Row<'static> {
    let early = row.lateness_us < 0;
    let style = if early { Style::new().fg(Color::Red) } else { Style::new() };
    Row::new([
        right(seconds(row.at)),
        Cell::new(printable(&row.remote, TEXT)),
        Cell::new(printable(&row.user, 16)),
        Cell::new(printable(&row.reason, 14)),
        right(seconds(row.silence)),
        right(lateness(Some(row.lateness_us))).style(style),
    ])
}

fn table<'a, const N: usize>(
    rows: impl Iterator<Item = Row<'a>>,
    widths: [Constraint; N],
    header: [&'a str; N],
    title: String,
) -> Table<'a> {
    Table::new(rows, widths)
        .header(Row::new(header).style(BOLD))
        .block(Block::bordered().title(title))
}

/// Rows that fit between border and header: no row is built that nobody sees.
fn room(area: Rect) -> usize {
    usize::from(area.height.saturating_sub(3))
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn right(text: String) -> Cell<'static> {
    Cell::new(Line::from(text).alignment(Alignment::Right))
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::DemoTotals;
    use super::*;

    fn frame() -> DemoFrame {
        let silent = |n: u64| SilentRow {
            remote: format!("127.0.0.1:{}", 50_000 + n),
            user: if n == 0 { "evil\x1b[2J".into() } else { format!("device{n}") },
            protocol: "Control".into(),
            silence: Duration::from_millis(9_500 - 400 * n),
        };
        DemoFrame {
            elapsed: Duration::from_secs(3725),
            listen: "127.0.0.1:9999".into(),
            idle_timeout: Duration::from_secs(10),
            totals: DemoTotals {
                connected: 1000,
                false_closes: 2,
                worst_lateness_us: Some(87_654),
                ..DemoTotals::default()
            },
            silent: (0..20).map(silent).collect(),
            swept: vec![SweptRow {
                at: Duration::from_secs(42),
                remote: "127.0.0.1:40000".into(),
                user: "gone\u{202e}".into(),
                reason: "idle".into(),
                silence: Duration::from_millis(10_050),
                lateness_us: 50_000,
            }],
        }
    }

    fn rendered(width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|to| draw(to, &frame(), 123.4)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn everything_is_on_the_screen() {
        let text = rendered(100, 30);
        for part in [
            "pulsegate on 127.0.0.1:9999, 01:02:05",
            "connected 1000",
            "heartbeats/s 123",
            "false closes 2",
            "worst lateness +87.7 ms",
            "silent, of 10s allowed",
            "127.0.0.1:50001",
            "9.5 s",
            "███████████████████░",
            "+50.0 ms",
            "idle",
            "q ends the demo",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }

    #[test]
    fn text_from_peers_is_escaped() {
        let text = rendered(100, 30);
        assert!(text.contains("evil\\u{1b}[2J"), "{text}");
        assert!(text.contains("gone\\u{202e}"), "{text}");
        assert!(!text.contains(['\x1b', '\u{202e}']), "{text}");
    }

    #[test]
    fn no_size_is_too_small() {
        for (width, height) in [(1, 1), (5, 3), (20, 8), (80, 24), (300, 100)] {
            rendered(width, height);
        }
    }
}
