//! Timeouts: never early, at most a tick late, and what counts as a sign of life.
//!
//! Early is judged from the moment before the last byte was sent, as the server cannot have had it sooner. Late is
//! judged from the moment after the last reply was read: its acknowledgement is the last proof of life.

use std::time::Duration;

use super::Case;
use crate::client::{CONTROL, Client, THROUGHPUT};
use crate::failure::{Outcome, Stop};
use crate::packet::{Packet, heartbeat, pattern};
use crate::target::{Target, WireError};

pub(super) const CASES: &[Case] = &[
    Case::new("timing/sends_and_never_reads", "5", never_reads),
    Case::new("timing/heartbeats_keep_alive", "5", heartbeats),
    Case::new("timing/trickled_packet_keeps_alive", "5", trickle),
    Case::new("timing/slow_reader_is_alive", "5", slow_reader),
    Case::new("timing/no_flag", "1", no_flag),
    Case::new("timing/silent_after_flag", "1", silent_after_flag),
    Case::new("timing/silent_after_heartbeat", "1", silent_after_heartbeat),
    Case::new("timing/silent_in_mid_packet", "1", silent_in_packet),
    Case::new("timing/silent_after_login", "1", silent_after_login),
    Case::new("timing/late_flag_starts_the_idle_timeout", "1", late_flag),
];

/// The connection ends no sooner than `timeout` after `sent` and no later than a tick beyond `timeout` after `proof`.
pub(super) fn ends_on_time(
    target: &dyn Target,
    client: &mut Client,
    sent: Duration,
    proof: Duration,
    timeout: Duration,
) -> Outcome {
    let limits = target.limits();
    let latest = proof + timeout + limits.tick + limits.slack;
    client.end_within(latest.saturating_sub(client.now()))?;
    let took = client.now() - sent;
    if took + limits.grain < timeout {
        return Err(client.fail(
            &format!("no end before {timeout:?} of silence"),
            &format!("an end after {took:?}"),
        ));
    }
    Ok(())
}

fn no_flag(target: &mut dyn Target) -> Outcome {
    let start = target.clock().now();
    let mut client = Client::connect(target)?;
    let connected = client.now();
    ends_on_time(target, &mut client, start, connected, target.limits().flag_timeout)
}

fn silent_after_flag(target: &mut dyn Target) -> Outcome {
    let timeout = target.limits().idle_timeout;
    let mut clients = Vec::new();
    for flag in [CONTROL, THROUGHPUT] {
        let mut client = Client::connect(target)?;
        let before = client.now();
        client.send(&[flag])?;
        let after = client.now();
        clients.push((client, before, after));
    }
    for (mut client, before, after) in clients {
        ends_on_time(target, &mut client, before, after, timeout)?;
    }
    Ok(())
}

/// Once the flag is there its deadline is gone, and the idle timeout runs from the flag, not from the connect.
fn late_flag(target: &mut dyn Target) -> Outcome {
    let limits = target.limits().clone();
    let mut client = Client::connect(target)?;
    client.expect_quiet(limits.flag_timeout / 2)?;
    let before = client.now();
    client.send(&[CONTROL])?;
    let after = client.now();
    ends_on_time(target, &mut client, before, after, limits.idle_timeout)
}

fn silent_after_heartbeat(target: &mut dyn Target) -> Outcome {
    let mut client = Client::control(target)?;
    // Not the first deadline that was set: a heartbeat has to have moved it.
    client.expect_quiet(target.limits().idle_timeout / 3)?;
    let before = client.now();
    client.alive()?;
    let after = client.now();
    ends_on_time(target, &mut client, before, after, target.limits().idle_timeout)
}

fn silent_in_packet(target: &mut dyn Target) -> Outcome {
    let packet = heartbeat().bytes();
    // In the header, in the command, in the data. A server with little memory may answer a request before all of
    // its data has come, so the last one is of a kind that gets no answer.
    let with_data = Packet::text("[Response]\r\nCommand=Active").data(pattern(100)).bytes();
    let mut clients = Vec::new();
    for part in [&packet[..5], &packet[..20], &with_data[..90]] {
        let mut client = Client::control(target)?;
        client.alive()?;
        let before = client.now();
        client.send(part)?;
        let after = client.now();
        clients.push((client, before, after));
    }
    for (mut client, before, after) in clients {
        ends_on_time(target, &mut client, before, after, target.limits().idle_timeout)?;
    }
    Ok(())
}

fn silent_after_login(target: &mut dyn Target) -> Outcome {
    let mut client = Client::operator(target)?;
    let before = client.now();
    client.alive()?;
    let after = client.now();
    ends_on_time(target, &mut client, before, after, target.limits().idle_timeout)
}

/// Ten heartbeats a third of the timeout apart: more than three timeouts.
fn heartbeats(target: &mut dyn Target) -> Outcome {
    let pause = target.limits().idle_timeout / 3;
    let mut control = Client::control(target)?;
    let mut throughput = Client::throughput(target)?;
    for _ in 0..10 {
        control.sleep(pause);
        control.alive()?;
        throughput.alive()?;
    }
    Ok(())
}

/// A packet that takes more than three timeouts to arrive; no part of it is a whole one.
fn trickle(target: &mut dyn Target) -> Outcome {
    let pause = target.limits().idle_timeout / 3;
    let packet = heartbeat().bytes();
    let (head, tail) = packet.split_at(10);
    let mut client = Client::control(target)?;
    for byte in head.chunks(1) {
        client.expect_quiet(pause)?;
        client.send(byte)?;
    }
    client.send(tail)?;
    client.expect("Active", 0)?;
    client.alive()
}

/// A client that takes its time over a long reply, and sends nothing meanwhile, is alive as long as it reads.
fn slow_reader(target: &mut dyn Target) -> Outcome {
    const WINDOW: usize = 32 * 1024;
    const STEPS: usize = 25;
    let limits = target.limits().clone();
    let size = limits.whole_data.min(1024 * 1024);
    if size < 16 * WINDOW {
        return Err(Stop::skip(
            "the target is not to be sent a packet much larger than a receive window",
        ));
    }
    let mut client = Client::connect_narrow(target, WINDOW)?;
    let data = pattern(size);
    client.send(&[THROUGHPUT])?;
    client.send_packet(&Packet::request("CyclePacket").key("Count", 1).data(data.clone()))?;
    for step in 1..=STEPS {
        client.sleep(limits.idle_timeout / 10);
        while client.waiting() < size * step / STEPS {
            client.sip(WINDOW)?;
        }
    }
    let reply = client.expect("CyclePacket", 0)?;
    if reply.data != data {
        return Err(client.fail("the same data back", &format!("{} bytes", reply.data.len())));
    }
    client.alive()
}

/// A client that sends on and on and takes nothing of what it is owed: when nothing moves any more it is given up.
fn never_reads(target: &mut dyn Target) -> Outcome {
    const MOST: usize = 64 * 1024 * 1024;
    let limits = target.limits().clone();
    if !limits.stalled_reader {
        return Err(Stop::skip("such a client cannot be made"));
    }
    let bound = limits.idle_timeout * 2 + limits.tick + limits.slack;
    let mut client = Client::connect_narrow(target, 32 * 1024)?;
    client.send(&[THROUGHPUT])?;
    let packet = Packet::request("CyclePacket").key("Count", 1).data(pattern(64 * 1024)).bytes();
    let mut sent = 0;
    let mut moved_at = client.now();
    loop {
        match client.offer(&packet[sent % packet.len()..], Duration::from_millis(50)) {
            Err(WireError::Closed) => return Ok(()),
            Err(error) => return Err(client.fail("to send", &error.to_string())),
            Ok(0) => {}
            Ok(count) => {
                sent += count;
                moved_at = client.now();
            }
        }
        if sent > MOST {
            return Err(client.fail(
                "the server to stop reading from a client that does not read",
                "64 MiB taken",
            ));
        }
        if client.now() - moved_at > bound {
            let got = format!("still open {bound:?} after nothing moves any more, at {sent} bytes");
            return Err(client.fail("a client that never reads to be given up", &got));
        }
    }
}
