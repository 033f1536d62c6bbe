//! LogOutput: the log as raw lines, for whoever has a terminal and nothing else.

use std::time::Duration;

use super::Case;
use super::store::tag;
use crate::client::{Client, LOG_OUTPUT, Line};
use crate::failure::{Outcome, Stop};
use crate::packet::Packet;
use crate::target::{Closed, Target};

pub(super) const CASES: &[Case] = &[
    Case::new("log_output/has_no_idle_timeout", "11", no_idle_timeout),
    Case::new("log_output/lines_of_what_happens", "11", lines),
    Case::new("log_output/every_reader_gets_them", "11", every_reader),
    Case::new("log_output/text_of_peers_is_escaped", "11", escaped),
    Case::new("log_output/nothing_of_what_was_before", "11", from_now_on),
    Case::new("log_output/any_byte_prints_a_banner", "11", banner).alone(),
    Case::new("log_output/packets_are_bytes_like_any", "11", packets).alone(),
    Case::new("log_output/escape_closes_in_order", "11", escape),
    Case::new("log_output/half_close_closes_in_order", "11", half_close),
];

const ESCAPE: u8 = 27;

/// A reader who has seen a line: from here on it gets what happens.
fn reader(target: &mut dyn Target) -> Result<Client, Stop> {
    if !target.limits().log {
        return Err(Stop::skip("LogOutput is switched off"));
    }
    let patience = target.limits().reply_timeout;
    let mut client = Client::flagged(target, LOG_OUTPUT)?;
    client.send(b"\t")?;
    next(&mut client, patience)?;
    Ok(client)
}

/// Makes a line: the server must log an unknown command by its name and the peer's address, which this gives.
fn provoke(target: &mut dyn Target, name: &str) -> Result<Option<String>, Stop> {
    let mut client = Client::throughput(target)?;
    let address = client.endpoints().map(|endpoints| endpoints.remote.to_string());
    client.send_packet(&Packet::request(name))?;
    client.expect_fatal(name, 1)?;
    Ok(address)
}

fn next(client: &mut Client, patience: Duration) -> Result<String, Stop> {
    match client.line(patience)? {
        Line::Whole(line) => Ok(line),
        other => Err(client.fail("a line", &format!("{other:?}"))),
    }
}

/// The next line that has this text, among those of whatever else happens.
fn find(client: &mut Client, text: &str, patience: Duration) -> Result<String, Stop> {
    let deadline = client.now() + patience;
    loop {
        let line = next(client, deadline.saturating_sub(client.now()))
            .map_err(|stop| stop.within(&format!("a line with {text:?}")))?;
        if line.contains(text) {
            return Ok(line);
        }
    }
}

fn lines(target: &mut dyn Target) -> Outcome {
    let patience = target.limits().reply_timeout;
    let mut client = reader(target)?;
    for _ in 0..3 {
        let name = format!("Log{}", tag());
        let address = provoke(target, &name)?;
        let line = find(&mut client, &name, patience)?;
        if let Some(address) = address.filter(|address| !line.contains(address)) {
            return Err(client.fail(&format!("{address} in the line"), &format!("{line:?}")));
        }
    }
    Ok(())
}

fn every_reader(target: &mut dyn Target) -> Outcome {
    let patience = target.limits().reply_timeout;
    let mut readers = [reader(target)?, reader(target)?];
    let names = [format!("Log{}", tag()), format!("Log{}", tag())];
    for name in &names {
        provoke(target, name)?;
    }
    for client in &mut readers {
        for name in &names {
            find(client, name, patience)?;
        }
    }
    Ok(())
}

/// No peer writes a terminal's commands, or lines of its own, into anybody's log. That no line has a control
/// character is seen to wherever one is read.
fn escaped(target: &mut dyn Target) -> Outcome {
    let patience = target.limits().reply_timeout;
    let mut client = reader(target)?;
    for evil in ["\u{1b}[31m", "\u{7}\u{8}\u{0}", "\u{9b}2J", "\t", "\u{7f}"] {
        let name = tag();
        provoke(target, &format!("{name}{evil}{name}"))?;
        find(&mut client, &name, patience)?;
    }
    Ok(())
}

fn from_now_on(target: &mut dyn Target) -> Outcome {
    let patience = target.limits().reply_timeout;
    let mut client = reader(target)?;
    let (old, new) = (format!("Log{}", tag()), format!("Log{}", tag()));
    provoke(target, &old)?;
    find(&mut client, &old, patience)?;
    let mut client = reader(target)?;
    provoke(target, &new)?;
    loop {
        let line = next(&mut client, patience)?;
        if line.contains(&old) {
            return Err(client.fail("no line from before", &format!("{line:?}")));
        }
        if line.contains(&new) {
            return Ok(());
        }
    }
}

/// All lines until it is quiet.
fn until_quiet(client: &mut Client, quiet: Duration) -> Result<Vec<String>, Stop> {
    let mut lines = Vec::new();
    loop {
        match client.line(quiet)? {
            Line::Whole(line) => lines.push(line),
            Line::Quiet => return Ok(lines),
            Line::End(how) => {
                return Err(client.fail("the connection to stay", &format!("{how:?}")));
            }
        }
    }
}

/// What arrives in one piece prints one line, whatever it is. Should something else be logged just then, it is tried
/// again.
fn one_line_each(target: &mut dyn Target, pieces: &[&[u8]]) -> Outcome {
    let limits = target.limits().clone();
    let quiet = limits.segment_gap * 25;
    let mut client = reader(target)?;
    for piece in pieces {
        let mut lines = Vec::new();
        for _ in 0..5 {
            until_quiet(&mut client, quiet)?;
            client.send(piece)?;
            lines = vec![next(&mut client, limits.reply_timeout)?];
            lines.extend(until_quiet(&mut client, quiet)?);
            if lines.len() == 1 {
                break;
            }
        }
        if lines.len() != 1 {
            return Err(client.fail("one line of banner", &format!("{lines:?}")));
        }
    }
    Ok(())
}

fn banner(target: &mut dyn Target) -> Outcome {
    // The last is what a telnet client says of itself.
    one_line_each(target, &[b"\t", b"x", b"\0", b"\xff", b"\r\n", b"hello", b"\xff\xfb\x01"])
}

fn packets(target: &mut dyn Target) -> Outcome {
    one_line_each(target, &[&Packet::request("Active").bytes(), b"[Request]\r\nCommand=Active"])
}

/// Whatever lines come, then the orderly end, at once.
fn ends_in_order(client: &mut Client, at_once: Duration) -> Outcome {
    let deadline = client.now() + at_once;
    loop {
        match client.line(deadline.saturating_sub(client.now()))? {
            Line::Whole(_) => {}
            Line::End(Closed::Eof) => return Ok(()),
            other => return Err(client.fail("an orderly close (FIN)", &format!("{other:?}"))),
        }
    }
}

fn escape(target: &mut dyn Target) -> Outcome {
    let at_once = target.limits().at_once();
    let mut client = reader(target)?;
    client.send(&[ESCAPE])?;
    ends_in_order(&mut client, at_once)?;
    let mut client = reader(target)?;
    // With the end of line that a terminal in line mode adds.
    client.send(&[b'a', b'b', ESCAPE, b'\r', b'\n'])?;
    ends_in_order(&mut client, at_once)?;
    // Before anything was printed.
    let mut client = Client::connect(target)?;
    client.send(&[LOG_OUTPUT, ESCAPE])?;
    ends_in_order(&mut client, at_once)
}

fn half_close(target: &mut dyn Target) -> Outcome {
    let at_once = target.limits().at_once();
    let mut client = reader(target)?;
    client.half_close()?;
    ends_in_order(&mut client, at_once)
}

/// A quiet log is no dead reader.
fn no_idle_timeout(target: &mut dyn Target) -> Outcome {
    let limits = target.limits().clone();
    let mut client = reader(target)?;
    client.sleep(limits.idle_timeout + limits.idle_timeout / 2 + limits.tick + limits.slack);
    let name = format!("Log{}", tag());
    provoke(target, &name)?;
    find(&mut client, &name, limits.reply_timeout).map(|_| ())
}
