//! Flags, packet boundaries and lengths.

use super::Case;
use crate::client::{CONTROL, Client, THROUGHPUT};
use crate::failure::{Outcome, Stop};
use crate::packet::{MAX_TOTAL, Packet, header, heartbeat, pattern};
use crate::target::Target;

pub(super) const CASES: &[Case] = &[
    Case::new("framing/flag_alone_or_glued", "1", flag_alone_or_glued),
    Case::new("framing/unknown_flag_closes_at_once", "1", unknown_flag),
    Case::new("framing/switched_off_flag_closes_at_once", "1", switched_off_flag),
    Case::new("framing/split_at_every_byte", "2", split_at_every_byte),
    Case::new("framing/byte_by_byte", "2", byte_by_byte),
    Case::new("framing/data_split_at_every_byte", "2", data_split),
    Case::new("framing/many_packets_glued", "2", many_glued),
    Case::new("framing/packets_and_segments_out_of_step", "2", out_of_step),
    Case::new("framing/total_len_over_10_mib", "2", total_len_over_limit),
    Case::new("framing/total_len_of_10_mib_is_accepted", "2", total_len_at_limit),
    Case::new("framing/total_len_under_4", "2", total_len_under_4),
    Case::new("framing/command_len_over_total_len", "2", command_len_over_total),
    Case::new("framing/command_over_limit", "2", command_over_limit),
    Case::new("framing/command_at_limit", "2", command_at_limit),
    Case::new("framing/big_endian_lengths_are_named", "2", big_endian),
    Case::new("framing/length_error_on_throughput", "2", length_error_on_throughput),
];

fn flag_alone_or_glued(target: &mut dyn Target) -> Outcome {
    let gap = target.limits().segment_gap;
    for flag in [CONTROL, THROUGHPUT] {
        let mut alone = Client::flagged(target, flag)?;
        alone.sleep(gap * 10);
        alone.alive()?;
        let mut glued = Client::connect(target)?;
        glued.send(&[vec![flag], heartbeat().bytes()].concat())?;
        glued.expect("Active", 0)?;
        glued.alive()?;
    }
    Ok(())
}

fn unknown_flag(target: &mut dyn Target) -> Outcome {
    // 0x5b is the first byte of a command text sent without flag and header; 1 was a protocol once.
    for flag in [0, 1, 6, 7, 10, 0x5b, 0x80 | CONTROL, 255] {
        refused(target, flag)?;
    }
    Ok(())
}

fn switched_off_flag(target: &mut dyn Target) -> Outcome {
    let off = target.limits().flags_off();
    if off.is_empty() {
        return Err(Stop::skip("all protocols are switched on"));
    }
    for flag in off {
        refused(target, flag)?;
    }
    Ok(())
}

/// Closed without a word, whether a packet follows the flag or not.
fn refused(target: &mut dyn Target, flag: u8) -> Outcome {
    let context = format!("flag {flag}");
    let mut alone = Client::flagged(target, flag)?;
    alone.expect_gone().map_err(|stop| stop.within(&context))?;
    let mut glued = Client::connect(target)?;
    glued.send(&[vec![flag], heartbeat().bytes()].concat())?;
    glued.expect_gone().map_err(|stop| stop.within(&context))
}

fn split_at_every_byte(target: &mut dyn Target) -> Outcome {
    let packet = heartbeat().bytes();
    let mut client = Client::control(target)?;
    for at in 1..packet.len() {
        let (head, tail) = packet.split_at(at);
        client.send_parts([head, tail])?;
        client.expect("Active", 0).map_err(|stop| stop.within(&format!("split at {at}")))?;
    }
    Ok(())
}

fn byte_by_byte(target: &mut dyn Target) -> Outcome {
    let bytes = [vec![CONTROL], heartbeat().bytes(), heartbeat().bytes()].concat();
    let mut client = Client::connect(target)?;
    client.send_parts(bytes.chunks(1))?;
    client.expect("Active", 0)?;
    client.expect("Active", 0)?;
    client.alive()
}

fn data_split(target: &mut dyn Target) -> Outcome {
    let data = pattern(12);
    let packet = Packet::request("CyclePacket").key("Count", 1).data(data.clone());
    let bytes = packet.bytes();
    let mut client = Client::throughput(target)?;
    for at in 8 + packet.text_len()..bytes.len() {
        let (head, tail) = bytes.split_at(at);
        client.send_parts([head, tail])?;
        let reply = client.expect("CyclePacket", 0)?;
        if reply.data != data {
            return Err(
                client.fail(&format!("the data back, split at {at}"), &format!("{reply:?}"))
            );
        }
    }
    Ok(())
}

/// As many as the client may have outstanding; beyond 1,000 there is nothing new to see.
fn many_glued(target: &mut dyn Target) -> Outcome {
    let packet = heartbeat().bytes();
    let count = (target.limits().whole_data / packet.len()).clamp(2, 1000);
    let mut client = Client::control(target)?;
    client.send(&packet.repeat(count))?;
    for number in 1..=count {
        client
            .expect("Active", 0)
            .map_err(|stop| stop.within(&format!("reply {number} of {count}")))?;
    }
    client.alive()
}

/// Segments of a length that no packet has, so that every kind of boundary falls on every offset.
fn out_of_step(target: &mut dyn Target) -> Outcome {
    let bytes: Vec<u8> = (0..20).flat_map(|number| cycle(number).bytes()).collect();
    for segment in [7, 61] {
        let mut client = Client::throughput(target)?;
        client.send_parts(bytes.chunks(segment))?;
        for number in 0..20 {
            let reply = client.expect("CyclePacket", 0)?;
            let wanted = (number + 1).to_string();
            if reply.key("Count") != Some(wanted.as_str()) || reply.data != pattern(number) {
                return Err(
                    client.fail(&format!("reply {number} in its turn"), &format!("{reply:?}"))
                );
            }
        }
    }
    Ok(())
}

/// A packet whose data is as long as its number says.
fn cycle(number: usize) -> Packet {
    Packet::request("CyclePacket").key("Count", number).data(pattern(number))
}

fn total_len_over_limit(target: &mut dyn Target) -> Outcome {
    for total in [10 * 1024 * 1024 + 1, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
        length_error(target, &header(total, 25))?;
    }
    length_error(target, &header(u32::MAX, u32::MAX))
}

fn total_len_at_limit(target: &mut dyn Target) -> Outcome {
    let packet = heartbeat();
    let room = MAX_TOTAL - 4 - packet.text_len();
    if target.limits().max_data < room {
        return Err(Stop::skip("10 MiB is more data than the target is to be sent"));
    }
    let mut client = Client::control(target)?;
    client.send_while_reading(&packet.data(pattern(room)))?;
    client.expect("Active", 0)?;
    client.alive()
}

fn total_len_under_4(target: &mut dyn Target) -> Outcome {
    for total in 0..4 {
        length_error(target, &header(total, 0))?;
    }
    length_error(target, &header(0, 25))
}

fn command_len_over_total(target: &mut dyn Target) -> Outcome {
    length_error(target, &header(4, 1))?;
    length_error(target, &header(29, 26))?;
    length_error(target, &header(29, u32::MAX))?;
    // The text is there in full: the lengths alone decide.
    let mut packet = heartbeat().bytes();
    packet[4] += 1;
    length_error(target, &packet)
}

fn command_over_limit(target: &mut dyn Target) -> Outcome {
    let bytes = long_command(target.limits().max_command + 1).bytes();
    length_error(target, &bytes)?;
    // The header alone is enough to know it by.
    length_error(target, &bytes[..8])
}

fn command_at_limit(target: &mut dyn Target) -> Outcome {
    let packet = long_command(target.limits().max_command);
    let bytes = packet.bytes();
    let mut client = Client::control(target)?;
    client.ask(&packet, "Active", 0)?;
    // In pieces it has to be assembled, which takes the room for all of it.
    client.send_parts(bytes.chunks(bytes.len() / 3))?;
    client.expect("Active", 0)?;
    client.alive()
}

/// A heartbeat whose command text has this length.
fn long_command(len: usize) -> Packet {
    let empty = heartbeat().key("Filler", "");
    let filler = "x".repeat(len.saturating_sub(empty.text_len()));
    heartbeat().key("Filler", filler)
}

/// Firmware that sends its lengths in network order gets told what is wrong, other nonsense does not get told that.
fn big_endian(target: &mut dyn Target) -> Outcome {
    let mut swapped = heartbeat().bytes();
    swapped[..4].reverse();
    swapped[4..8].reverse();
    for (bytes, named) in [(swapped.as_slice(), true), (&swapped[..8], true), (&[0xff; 8], false)] {
        let mut client = Client::control(target)?;
        client.send(bytes)?;
        let reply = client.expect_fatal("", 2)?;
        if reply.message.as_deref().unwrap_or_default().contains("big-endian") != named {
            let expected = if named {
                "a Message with \"big-endian\""
            } else {
                "a Message without \"big-endian\""
            };
            return Err(client.fail(expected, &format!("{reply:?}")));
        }
    }
    Ok(())
}

fn length_error_on_throughput(target: &mut dyn Target) -> Outcome {
    let mut client = Client::throughput(target)?;
    client.send_packet(&cycle(3))?;
    client.send(&header(u32::MAX, 25))?;
    client.expect("CyclePacket", 0)?;
    client.expect_fatal("", 2).map(|_| ())
}

/// Code 2 without a command, then the end; the same behind a good packet.
fn length_error(target: &mut dyn Target, bytes: &[u8]) -> Outcome {
    let mut client = Client::control(target)?;
    client.send(bytes)?;
    client.expect_fatal("", 2)?;
    let mut client = Client::control(target)?;
    client.send(&[&heartbeat().bytes(), bytes].concat())?;
    client.expect("Active", 0)?;
    client.expect_fatal("", 2).map(|_| ())
}
