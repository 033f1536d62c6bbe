//! Throughput: the echo that benchmarks use.

use super::Case;
use crate::client::Client;
use crate::failure::{Outcome, Stop};
use crate::packet::{MAX_TOTAL, Packet, Reply, header, heartbeat, pattern};
use crate::target::Target;

pub(super) const CASES: &[Case] = &[
    Case::new("throughput/data_comes_back", "7", data_comes_back),
    Case::new("throughput/packet_sent_whole_before_reading", "7", sent_whole),
    Case::new("throughput/largest_packet", "7", largest),
    Case::new("throughput/no_reply_over_10_mib", "2", no_reply_over_limit),
    Case::new("throughput/count_wraps", "7", count_wraps),
    Case::new("throughput/bad_count_still_echoes", "7", bad_count),
    Case::new("throughput/replies_keep_their_order", "7", order),
    Case::new("throughput/data_is_never_parsed", "7", data_is_never_parsed),
    Case::new("throughput/needs_no_login", "7", needs_no_login),
    Case::new("throughput/unknown_command_closes", "5", unknown_command),
];

const SIZES: [usize; 8] = [0, 1, 511, 512, 513, 4096, 64 * 1024, 1024 * 1024];

fn cycle(count: i32, data: Vec<u8>) -> Packet {
    Packet::request("CyclePacket").key("Count", count).data(data)
}

/// The reply has this count and this data.
fn check(client: &Client, reply: &Reply, count: i32, data: &[u8]) -> Outcome {
    if reply.key("Count") != Some(count.to_string().as_str()) {
        return Err(
            client.fail(&format!("Count={count}"), &format!("Count={:?}", reply.key("Count")))
        );
    }
    client.same_data(data, &reply.data)
}

fn data_comes_back(target: &mut dyn Target) -> Outcome {
    let most = target.limits().max_data;
    let mut client = Client::throughput(target)?;
    for (count, size) in (0..).zip(SIZES.into_iter().filter(|size| *size <= most)) {
        let data = pattern(size);
        client.send_while_reading(&cycle(count, data.clone()))?;
        let reply = client.expect("CyclePacket", 0)?;
        check(&client, &reply, count + 1, &data)?;
    }
    client.alive()
}

/// Old clients read nothing until all is sent.
fn sent_whole(target: &mut dyn Target) -> Outcome {
    let most = target.limits().whole_data;
    let mut client = Client::throughput(target)?;
    for (count, size) in (0..).zip(SIZES.into_iter().filter(|size| *size <= most)) {
        let data = pattern(size);
        for _ in 0..2 {
            let reply = client.ask(&cycle(count, data.clone()), "CyclePacket", 0)?;
            check(&client, &reply, count + 1, &data)?;
        }
    }
    client.alive()
}

/// As large as the reply may be; the request has the shorter text.
fn largest(target: &mut dyn Target) -> Outcome {
    let reply_text = "[Response]\r\nCommand=CyclePacket\r\nCode=0\r\nCount=2".len();
    let size = (MAX_TOTAL - 4 - reply_text).min(target.limits().max_data);
    let data = pattern(size);
    let mut client = Client::throughput(target)?;
    client.send_while_reading(&cycle(1, data.clone()))?;
    let reply = client.expect("CyclePacket", 0)?;
    check(&client, &reply, 2, &data)?;
    client.alive()
}

/// The longest request whose echo, having the longer text, would be longer than a packet may be. What the server does
/// instead is its own choice; what it must not do is break the limit that every client relies on.
fn no_reply_over_limit(target: &mut dyn Target) -> Outcome {
    let packet = Packet::request("CyclePacket").key("Count", 1);
    let room = MAX_TOTAL - 4 - packet.text_len();
    if target.limits().max_data < room {
        return Err(Stop::skip("10 MiB is more data than the target is to be sent"));
    }
    let mut client = Client::throughput(target)?;
    match client.probe(&packet.data(pattern(room)))? {
        Some(len) if len > MAX_TOTAL => {
            let got = format!("a reply of total_len {len}");
            Err(client.fail("no reply with a total_len over 10 MiB", &got))
        }
        _ => Ok(()),
    }
}

fn count_wraps(target: &mut dyn Target) -> Outcome {
    let mut client = Client::throughput(target)?;
    for count in [0, 1, 9, 99, i32::MAX - 1, i32::MAX, -1, -2, -10, -100, i32::MIN, i32::MIN + 1] {
        let reply = client.ask(&cycle(count, b"xyz".to_vec()), "CyclePacket", 0)?;
        check(&client, &reply, count.wrapping_add(1), b"xyz")?;
    }
    Ok(())
}

fn bad_count(target: &mut dyn Target) -> Outcome {
    let most = target.limits().max_data;
    let mut client = Client::throughput(target)?;
    let missing = Packet::request("CyclePacket");
    for packet in [missing.clone(), missing.clone().key("Count", "abc"), missing.key("Counts", 1)] {
        for size in [0, 1, 513, 64 * 1024].into_iter().filter(|size| *size <= most) {
            let data = pattern(size);
            client.send_while_reading(&packet.clone().data(data.clone()))?;
            let reply = client.expect("CyclePacket", 6)?;
            client.same_data(&data, &reply.data)?;
        }
    }
    client.alive()
}

fn order(target: &mut dyn Target) -> Outcome {
    let packet = |number: i32| cycle(number, pattern(number.unsigned_abs() as usize * 3));
    let mut glued = Vec::new();
    let mut count = 0;
    while count < 100
        && glued.len() + packet(count).bytes().len() <= target.limits().whole_data.max(256)
    {
        glued.extend(packet(count).bytes());
        count += 1;
    }
    let mut client = Client::throughput(target)?;
    client.send(&glued)?;
    for number in 0..count {
        let reply = client.expect("CyclePacket", 0)?;
        check(&client, &reply, number + 1, &pattern(number.unsigned_abs() as usize * 3))?;
    }
    client.alive()
}

/// Data that looks like packets, good and bad ones, is data.
fn data_is_never_parsed(target: &mut dyn Target) -> Outcome {
    let mut client = Client::throughput(target)?;
    for data in [
        heartbeat().bytes(),
        header(u32::MAX, u32::MAX),
        vec![0; 64],
        b"\r\nCount=9\r\nCommand=X".to_vec(),
    ] {
        let reply = client.ask(&cycle(41, data.clone()), "CyclePacket", 0)?;
        check(&client, &reply, 42, &data)?;
    }
    client.alive()
}

fn needs_no_login(target: &mut dyn Target) -> Outcome {
    let mut client = Client::throughput(target)?;
    client.ask(&cycle(1, Vec::new()), "CyclePacket", 0)?;
    client.alive()
}

fn unknown_command(target: &mut dyn Target) -> Outcome {
    for name in ["NoSuchThing", "GetClients", "Dir"] {
        let mut client = Client::throughput(target)?;
        client.send_packet(&Packet::request(name))?;
        let reply = client.expect_fatal(name, 1)?;
        if !reply.data.is_empty() {
            return Err(Stop::fail("no data", format!("{reply:?}")));
        }
    }
    Ok(())
}
