//! RemoteStream: reading and writing at any place of the open file.

use super::Case;
use super::remote_stream::{close, get, go, open, opened, put, request, stands};
use super::store::with_place;
use crate::failure::Outcome;
use crate::packet::{Packet, pattern};
use crate::target::Target;

pub(super) const CASES: &[Case] = &[
    Case::new("remote_stream/read", "10", read),
    Case::new("remote_stream/read_counts", "10", read_counts),
    Case::new("remote_stream/write", "10", write),
    Case::new("remote_stream/write_in_many_pieces", "10", write_in_pieces),
    Case::new("remote_stream/write_split_at_every_byte", "10", write_split),
    Case::new("remote_stream/write_beyond_the_end", "10", write_beyond),
    Case::new("remote_stream/set_size", "10", set_size),
    Case::new("remote_stream/seek", "10", seek),
    Case::new("remote_stream/bad_numbers", "10", bad_numbers),
    Case::new("remote_stream/read_only", "10", read_only),
];

fn read(target: &mut dyn Target) -> Outcome {
    with_place(target, "read", 1, |target, place| {
        let whole = place.pattern(1000);
        place.store(&mut place.uploader(target)?, "a", &whole)?;
        let mut client = place.stream(target)?;
        client.succeed(&open(place, "a", 0), "OpenFile", &[])?;
        get(&mut client, 10, &whole[..10])?;
        get(&mut client, 0, b"")?;
        get(&mut client, 1, &whole[10..11])?;
        stands(&mut client, 11, 1000)?;
        get(&mut client, 5000, &whole[11..])?;
        for _ in 0..2 {
            get(&mut client, 1, b"")?;
            stands(&mut client, 1000, 1000)?;
        }
        go(&mut client, 999)?;
        get(&mut client, 2, &whole[999..])?;
        go(&mut client, 2000)?;
        get(&mut client, 1, b"")?;
        go(&mut client, 0)?;
        get(&mut client, 1000, &whole)
    })
}

/// From 0 to 1 MiB; less where the file has no more.
fn read_counts(target: &mut dyn Target) -> Outcome {
    with_place(target, "counts", 1, |target, place| {
        let whole = place.pattern(1024 * 1024 + 10);
        place.store(&mut place.uploader(target)?, "a", &whole)?;
        let mut client = place.stream(target)?;
        client.succeed(&open(place, "a", 0), "OpenFile", &[])?;
        for count in [0, 1, 511, 512, 513, 65_536, 1024 * 1024] {
            go(&mut client, 0)?;
            get(&mut client, count, &whole[..count.min(whole.len())])
                .map_err(|stop| stop.within(&format!("Count={count}")))?;
        }
        go(&mut client, 3)?;
        client.ask(&Packet::request("Read"), "Read", 6)?;
        for count in ["", "abc", "-1", "1.5", "1048577", "4294967297"] {
            let reply = client
                .ask(&request("Read", "Count", count), "Read", 6)
                .map_err(|stop| stop.within(&format!("Count={count}")))?;
            client.same_data(&[], &reply.data)?;
        }
        stands(&mut client, 3, whole.len())
    })
}

fn write(target: &mut dyn Target) -> Outcome {
    with_place(target, "write", 1, |target, place| {
        let mut client = opened(target, place, "a")?;
        put(&mut client, b"abcdef")?;
        put(&mut client, b"")?;
        stands(&mut client, 6, 6)?;
        go(&mut client, 2)?;
        put(&mut client, b"XY")?;
        stands(&mut client, 4, 6)?;
        get(&mut client, 10, b"ef")?;
        put(&mut client, b"gh")?;
        stands(&mut client, 8, 8)?;
        go(&mut client, 0)?;
        get(&mut client, 8, b"abXYefgh")?;
        close(&mut client)?;
        place.holds(target, "a", b"abXYefgh")
    })
}

/// Larger than any buffer, and then so small that many fit into one.
fn write_in_pieces(target: &mut dyn Target) -> Outcome {
    let most = target.limits().max_data;
    with_place(target, "pieces", 1, |target, place| {
        let whole = place.pattern(1024 * 1024 + 77);
        let mut client = opened(target, place, "a")?;
        for size in [1, 512, 64 * 1024, 1024 * 1024 + 77] {
            if size > most {
                break;
            }
            let bytes = &whole[..size.min(whole.len())];
            go(&mut client, 0)?;
            put(&mut client, bytes).map_err(|stop| stop.within(&format!("{size} bytes")))?;
            stands(&mut client, bytes.len(), bytes.len())?;
            go(&mut client, 0)?;
            get(&mut client, 1024 * 1024, &bytes[..bytes.len().min(1024 * 1024)])?;
        }
        client.succeed(&request("SetSize", "Size", 0), "SetSize", &[])?;
        go(&mut client, 0)?;
        let part = |bytes: &[u8]| Packet::request("Write").data(bytes).bytes();
        let bytes = &whole[..whole.len().min(20_000)];
        client.send(&bytes.chunks(100).flat_map(part).collect::<Vec<_>>())?;
        for written in bytes.chunks(100) {
            client.expect_success("Write", &[("Count", &written.len())], &[])?;
        }
        close(&mut client)?;
        place.holds(target, "a", bytes)
    })
}

fn write_split(target: &mut dyn Target) -> Outcome {
    with_place(target, "write-split", 1, |target, place| {
        let whole = place.pattern(1000);
        let mut client = opened(target, place, "a")?;
        let mut size = 0;
        for at in 1.. {
            let part = &whole[size..size + 7];
            let bytes = Packet::request("Write").data(part).bytes();
            let Some((head, tail)) = bytes.split_at_checked(at) else { break };
            client.send_parts([head, tail])?;
            client
                .expect_success("Write", &[("Count", &7)], &[])
                .map_err(|stop| stop.within(&format!("split at {at}")))?;
            size += 7;
        }
        close(&mut client)?;
        place.holds(target, "a", &whole[..size])
    })
}

/// What was never written reads as zeros, and as nothing else that the disk may hold.
fn write_beyond(target: &mut dyn Target) -> Outcome {
    with_place(target, "beyond-end", 1, |target, place| {
        let mut client = opened(target, place, "a")?;
        put(&mut client, b"abc")?;
        go(&mut client, 100)?;
        stands(&mut client, 100, 3)?;
        put(&mut client, b"xyz")?;
        stands(&mut client, 103, 103)?;
        let expected = [b"abc".as_slice(), &[0; 97], b"xyz"].concat();
        go(&mut client, 0)?;
        get(&mut client, 200, &expected)?;
        close(&mut client)?;
        place.holds(target, "a", &expected)
    })
}

fn set_size(target: &mut dyn Target) -> Outcome {
    with_place(target, "set-size", 1, |target, place| {
        let mut client = opened(target, place, "a")?;
        put(&mut client, b"abcdefgh")?;
        for (size, expected) in
            [(8, b"abcdefgh".to_vec()), (3, b"abc".to_vec()), (6, b"abc\0\0\0".to_vec())]
        {
            client.succeed(&request("SetSize", "Size", size), "SetSize", &[])?;
            go(&mut client, 0)?;
            get(&mut client, 100, &expected)?;
            stands(&mut client, size, size)?;
        }
        for size in [0, 1500] {
            client.succeed(&request("SetSize", "Size", size), "SetSize", &[])?;
            client.succeed(&Packet::request("GetSize"), "GetSize", &[("Size", &size)])?;
        }
        close(&mut client)?;
        place.holds(target, "a", &[0; 1500])
    })
}

fn seek(target: &mut dyn Target) -> Outcome {
    with_place(target, "seek", 1, |target, place| {
        let whole = place.pattern(100);
        place.store(&mut place.uploader(target)?, "a", &whole)?;
        let mut client = place.stream(target)?;
        client.succeed(&open(place, "a", 0), "OpenFile", &[])?;
        let seek =
            |offset: i64, origin: i64| request("Seek", "Offset", offset).key("SeekOrigin", origin);
        for (offset, origin, position) in [
            (10, 0, 10),
            (5, 1, 15),
            (-15, 1, 0),
            (0, 1, 0),
            (0, 2, 100),
            (-1, 2, 99),
            (-100, 2, 0),
            (20, 2, 120),
            (-20, 1, 100),
            (0, 0, 0),
        ] {
            client
                .succeed(&seek(offset, origin), "Seek", &[("Offset", &position)])
                .map_err(|stop| stop.within(&format!("{offset} from {origin}")))?;
            stands(&mut client, position, 100)?;
        }
        go(&mut client, 50)?;
        for (offset, origin) in [
            (-1, 0),
            (-51, 1),
            (-101, 2),
            (i64::MIN, 0),
            (i64::MIN, 1),
            (i64::MIN, 2),
            (0, 3),
            (0, -1),
        ] {
            client
                .ask(&seek(offset, origin), "Seek", 6)
                .map_err(|stop| stop.within(&format!("{offset} from {origin}")))?;
            stands(&mut client, 50, 100)?;
        }
        get(&mut client, 10, &whole[50..60])
    })
}

/// Missing, or no numbers: code 6, and the file stays open and as it was.
fn bad_numbers(target: &mut dyn Target) -> Outcome {
    with_place(target, "numbers", 1, |target, place| {
        let mut client = opened(target, place, "a")?;
        put(&mut client, b"abc")?;
        for (command, key) in [
            ("SetSize", "Size"),
            ("SetPosition", "Position"),
            ("Seek", "Offset"),
            ("Read", "Count"),
        ] {
            let with_origin = |packet: Packet| packet.key("SeekOrigin", 0);
            client.ask(&with_origin(Packet::request(command)), command, 6)?;
            for value in ["", "abc", "-1", "1.5", "0x1", "1 ", "99999999999999999999999"] {
                client
                    .ask(&with_origin(request(command, key, value)), command, 6)
                    .map_err(|stop| stop.within(&format!("{command} {key}={value}")))?;
            }
        }
        client.ask(&request("Seek", "Offset", 1), "Seek", 6)?;
        for origin in ["", "begin", "1.5"] {
            client.ask(&request("Seek", "Offset", 1).key("SeekOrigin", origin), "Seek", 6)?;
        }
        stands(&mut client, 3, 3)?;
        close(&mut client)
    })
}

/// Code 4 with the reason; the file is as it was and stays open.
fn read_only(target: &mut dyn Target) -> Outcome {
    with_place(target, "read-only", 1, |target, place| {
        place.store(&mut place.uploader(target)?, "a", b"abc")?;
        let mut client = place.stream(target)?;
        client.succeed(&open(place, "a", 0), "OpenFile", &[])?;
        for (command, packet) in [
            ("Write", Packet::request("Write").data(*b"xyz")),
            ("Write", Packet::request("Write").data(pattern(32 * 1024))),
            ("SetSize", request("SetSize", "Size", 1)),
        ] {
            let reply = client.ask(&packet, command, 4)?;
            if reply.message.is_none_or(|text| text.is_empty()) {
                return Err(client.fail("a Message that says why", "an empty one"));
            }
            stands(&mut client, 0, 3)?;
        }
        get(&mut client, 10, b"abc")?;
        close(&mut client)?;
        place.holds(target, "a", b"abc")
    })
}
