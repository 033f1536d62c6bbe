//! Upload: what is sent is what is stored.

use super::Case;
use super::store::{WRONG_SIZE, data, eof, files, finish, with_place};
use crate::client::{Client, UPLOAD, credentials, login_request};
use crate::failure::{Outcome, Stop};
use crate::packet::{MAX_TOTAL, Packet, heartbeat};
use crate::target::Target;

pub(super) const CASES: &[Case] = &[
    Case::new("upload/parts_of_every_size", "8", parts),
    Case::new("upload/large_data_packet", "8", large_packet),
    Case::new("upload/split_at_every_byte", "8", split_at_every_byte),
    Case::new("upload/byte_by_byte", "8", byte_by_byte),
    Case::new("upload/packets_glued", "8", glued),
    Case::new("upload/empty_file", "8", empty_file),
    Case::new("upload/data_has_no_reply", "8", data_has_no_reply),
    Case::new("upload/data_is_never_parsed", "8", data_is_never_parsed),
    Case::new("upload/data_without_file_closes", "8", data_without_file),
    Case::new("upload/heartbeats_between_data", "8", heartbeats_between),
    Case::new("upload/eof_with_another_size", "8", eof_with_another_size),
    Case::new("upload/eof_without_size", "8", eof_without_size),
    Case::new("upload/eof_without_file", "8", eof_without_file),
    Case::new("upload/eof_with_bad_size", "8", eof_with_bad_size),
    Case::new("upload/second_upload_closes_the_first", "8", second_upload),
    Case::new("upload/dir_is_another_spelling_of_dirname", "8", dir_is_dirname),
    Case::new("upload/half_close_gets_all_answers", "8", half_close),
    Case::new("upload/full_file_is_told_at_the_end", "8", full_file),
];

/// One file of all parts, in turn with those that add nothing.
fn parts(target: &mut dyn Target) -> Outcome {
    with_place(target, "parts", 1, |target, place| {
        let mut client = place.uploader(target)?;
        place.begin(&mut client, "a.bin", 0)?;
        let whole = place.pattern(70_000);
        let mut rest = whole.as_slice();
        for size in [0, 1, 511, 512, 513, 0, 1, 64 * 1024, 0] {
            let (part, next) = rest.split_at(rest.len().min(size));
            client.send_packet(&data(part))?;
            rest = next;
        }
        let size = whole.len() - rest.len();
        finish(&mut client, size)?;
        place.lists(&mut client, &[("a.bin", size)])?;
        place.holds(target, "a.bin", &whole[..size])
    })
}

/// Larger than any buffer, in one packet; the last one is as large as a packet may be.
fn large_packet(target: &mut dyn Target) -> Outcome {
    let most = target.limits().max_data;
    with_place(target, "large", 1, |target, place| {
        let largest = MAX_TOTAL - 4 - data([]).text_len();
        let mut client = place.uploader(target)?;
        for size in [4096, 64 * 1024, 1024 * 1024 + 1, largest] {
            if size > most.min(place.files.max_file) {
                break;
            }
            let whole = place.pattern(size);
            place.begin(&mut client, "a.bin", 0)?;
            client.send_packet(&data(whole.as_slice()))?;
            finish(&mut client, size).map_err(|stop| stop.within(&format!("{size} bytes")))?;
            place.holds(target, "a.bin", &whole)?;
            client.succeed(&place.delete("a.bin"), "DeleteFile", &[])?;
        }
        Ok(())
    })
}

/// Three bytes more at every split, so that a byte lost or doubled anywhere shows in the end.
fn split_at_every_byte(target: &mut dyn Target) -> Outcome {
    with_place(target, "split", 1, |target, place| {
        let whole = place.pattern(3000);
        let mut client = place.uploader(target)?;
        let mut size = 0;
        for at in 1.. {
            let Some(part) = whole.get(size..size + 3) else { break };
            let packets =
                [place.upload("a.bin").bytes(), data(part).bytes(), eof(size + 3).bytes()];
            let bytes = packets.concat();
            let Some((head, tail)) = bytes.split_at_checked(at) else { break };
            client.send_parts([head, tail])?;
            let within = |stop: Stop| stop.within(&format!("split at {at}"));
            client.expect_success("Upload", &[("FileSize", &size)], &[]).map_err(within)?;
            client.expect_success("Eof", &[], &[]).map_err(within)?;
            size += 3;
        }
        place.holds(target, "a.bin", &whole[..size])
    })
}

fn byte_by_byte(target: &mut dyn Target) -> Outcome {
    let login = credentials(target)?;
    with_place(target, "bytes", 1, |target, place| {
        let whole = place.pattern(20);
        let packets = [
            vec![UPLOAD],
            login_request(&login).bytes(),
            place.upload("a.bin").bytes(),
            data(&whole[..7]).bytes(),
            data(&whole[7..]).bytes(),
            eof(whole.len()).bytes(),
        ];
        let mut client = Client::connect(target)?;
        client.send_parts(packets.concat().chunks(1))?;
        client.expect_success("Login", &[], &[])?;
        client.expect_success("Upload", &[("FileSize", &0)], &[])?;
        client.expect_success("Eof", &[], &[])?;
        place.holds(target, "a.bin", &whole)
    })
}

/// Everything from the flag to a list of what was stored, in one send.
fn glued(target: &mut dyn Target) -> Outcome {
    let login = credentials(target)?;
    with_place(target, "glued", 2, |target, place| {
        let whole = place.pattern(2000);
        let mut bytes = [vec![UPLOAD], login_request(&login).bytes()].concat();
        for name in ["a.bin", "b.bin"] {
            bytes.extend(place.upload(name).bytes());
            bytes.extend(whole.chunks(20).flat_map(|part| data(part).bytes()));
            bytes.extend(eof(whole.len()).bytes());
        }
        let mut client = Client::connect(target)?;
        client.send(&bytes)?;
        client.expect_success("Login", &[], &[])?;
        for _ in 0..2 {
            client.expect_success("Upload", &[("FileSize", &0)], &[])?;
            client.expect_success("Eof", &[], &[])?;
        }
        place.lists(&mut client, &[("a.bin", whole.len()), ("b.bin", whole.len())])?;
        place.holds(target, "a.bin", &whole)?;
        place.holds(target, "b.bin", &whole)
    })
}

/// It is there, whether or not a Data without bytes had been sent.
fn empty_file(target: &mut dyn Target) -> Outcome {
    with_place(target, "empty", 2, |target, place| {
        let mut client = place.uploader(target)?;
        place.begin(&mut client, "a.bin", 0)?;
        finish(&mut client, 0)?;
        place.begin(&mut client, "b.bin", 0)?;
        client.send_packet(&data([]))?;
        finish(&mut client, 0)?;
        place.lists(&mut client, &[("a.bin", 0), ("b.bin", 0)])?;
        place.holds(target, "b.bin", &[])
    })
}

fn data_has_no_reply(target: &mut dyn Target) -> Outcome {
    let pause = target.limits().at_once() / 4;
    with_place(target, "no-reply", 1, |target, place| {
        let whole = place.pattern(700);
        let mut client = place.uploader(target)?;
        place.begin(&mut client, "a.bin", 0)?;
        for part in [&whole[..1], &whole[1..]] {
            client.send_packet(&data(part))?;
            client.expect_quiet(pause)?;
        }
        // Keys that belong to other commands change nothing.
        client.send_packet(&data([]).key("FileName", "x").key("FileSize", 1).key("Count", "?"))?;
        client.expect_quiet(pause)?;
        finish(&mut client, whole.len())
    })
}

fn data_is_never_parsed(target: &mut dyn Target) -> Outcome {
    with_place(target, "unparsed", 1, |target, place| {
        let parts = [
            eof(0).bytes(),
            place.upload("b.bin").bytes(),
            vec![UPLOAD, 0, 0xff, 0xff, 0xff, 0xff],
            b"\r\nCommand=Eof\r\n".to_vec(),
        ];
        let mut client = place.uploader(target)?;
        place.begin(&mut client, "a.bin", 0)?;
        for part in &parts {
            client.send_packet(&data(part.as_slice()))?;
        }
        let whole = parts.concat();
        finish(&mut client, whole.len())?;
        place.lists(&mut client, &[("a.bin", whole.len())])?;
        place.holds(target, "a.bin", &whole)
    })
}

/// Before any file, after its end, and however long the data is: closed without a word.
fn data_without_file(target: &mut dyn Target) -> Outcome {
    with_place(target, "no-file", 1, |target, place| {
        for size in [0, 1, 600, 32 * 1024] {
            let mut client = place.uploader(target)?;
            client.send_packet(&data(crate::packet::pattern(size)))?;
            client.expect_gone().map_err(|stop| stop.within(&format!("{size} bytes")))?;
        }
        let mut client = place.uploader(target)?;
        place.store(&mut client, "a.bin", b"abc")?;
        client.send(&[data(*b"def").bytes(), heartbeat().bytes()].concat())?;
        client.expect_gone()?;
        place.holds(target, "a.bin", b"abc")
    })
}

fn heartbeats_between(target: &mut dyn Target) -> Outcome {
    with_place(target, "heartbeats", 1, |target, place| {
        let whole = place.pattern(1500);
        let mut client = place.uploader(target)?;
        place.begin(&mut client, "a.bin", 0)?;
        for part in whole.chunks(100) {
            client.send(&[data(part).bytes(), heartbeat().bytes()].concat())?;
            client.expect("Active", 0)?;
        }
        finish(&mut client, whole.len())?;
        client.alive()?;
        place.holds(target, "a.bin", &whole)
    })
}

/// The file is closed and kept: the rest can follow.
fn eof_with_another_size(target: &mut dyn Target) -> Outcome {
    with_place(target, "eof-size", 1, |target, place| {
        let whole = place.pattern(1000);
        let (first, rest) = whole.split_at(600);
        let mut client = place.uploader(target)?;
        for wrong in [0, first.len() - 1, first.len() + 1, whole.len()] {
            let stored = place.listed(&mut client)?.first().map_or(0, |(_, size)| *size);
            place.begin(&mut client, "a.bin", stored)?;
            if stored == 0 {
                client.send_packet(&data(first))?;
            }
            client.ask(&eof(wrong), "Eof", WRONG_SIZE)?;
            client.ask(&eof(first.len()), "Eof", 10)?;
            place.lists(&mut client, &[("a.bin", first.len())])?;
        }
        place.begin(&mut client, "a.bin", first.len())?;
        client.send_packet(&data(rest))?;
        finish(&mut client, whole.len())?;
        place.holds(target, "a.bin", &whole)
    })
}

fn eof_without_size(target: &mut dyn Target) -> Outcome {
    with_place(target, "eof", 1, |target, place| {
        let mut client = place.uploader(target)?;
        place.begin(&mut client, "a.bin", 0)?;
        client.send_packet(&data(*b"abc"))?;
        client.succeed(&Packet::request("eOF"), "eOF", &[])?;
        place.holds(target, "a.bin", b"abc")
    })
}

fn eof_without_file(target: &mut dyn Target) -> Outcome {
    with_place(target, "eof-none", 1, |target, place| {
        let mut client = place.uploader(target)?;
        for _ in 0..2 {
            client.ask(&Packet::request("Eof"), "Eof", 10)?;
            client.ask(&eof(0), "Eof", 10)?;
        }
        place.store(&mut client, "a.bin", b"abc")?;
        client.ask(&eof(3), "Eof", 10)?;
        client.ask(&Packet::request("Eof"), "Eof", 10)?;
        // What cannot be opened leaves nothing open.
        client.ask(&Packet::request("Upload").key("DirName", place.dir()), "Upload", 6)?;
        client.ask(&Packet::request("Eof"), "Eof", 10)?;
        client.alive()
    })
}

fn eof_with_bad_size(target: &mut dyn Target) -> Outcome {
    with_place(target, "eof-bad", 1, |target, place| {
        let mut client = place.uploader(target)?;
        for size in ["", "abc", "-1", "1.5", "0x3", "99999999999999999999999"] {
            place.begin(&mut client, "a.bin", 0)?;
            let request = Packet::request("Eof").key("FileSize", size);
            client
                .ask(&request, "Eof", 6)
                .map_err(|stop| stop.within(&format!("FileSize={size}")))?;
        }
        client.alive()
    })
}

/// Of the same file or another: no connection is closed, and every byte is where it belongs.
fn second_upload(target: &mut dyn Target) -> Outcome {
    with_place(target, "second", 2, |target, place| {
        let whole = place.pattern(900);
        let mut client = place.uploader(target)?;
        place.begin(&mut client, "a.bin", 0)?;
        client.send_packet(&data(&whole[..300]))?;
        place.begin(&mut client, "a.bin", 300)?;
        client.send_packet(&data(&whole[300..]))?;
        place.begin(&mut client, "b.bin", 0)?;
        client.send_packet(&data(*b"abc"))?;
        finish(&mut client, 3)?;
        client.ask(&eof(900), "Eof", 10)?;
        place.lists(&mut client, &[("a.bin", 900), ("b.bin", 3)])?;
        place.holds(target, "a.bin", &whole)?;
        place.holds(target, "b.bin", b"abc")
    })
}

fn dir_is_dirname(target: &mut dyn Target) -> Outcome {
    with_place(target, "dir-key", 1, |target, place| {
        let request = |key| {
            Packet::request("Upload").key("FileName", place.file("a.bin")).key(key, place.dir())
        };
        let mut client = place.uploader(target)?;
        for (round, key) in ["Dir", "dIR", "DirName", "DIRNAME"].into_iter().enumerate() {
            client.succeed(&request(key), "Upload", &[("FileSize", &(round * 3))])?;
            client.send_packet(&data(*b"abc"))?;
            finish(&mut client, round * 3 + 3)?;
        }
        place.holds(target, "a.bin", b"abcabcabcabc")
    })
}

/// The work that an answer takes the server is waited for.
fn half_close(target: &mut dyn Target) -> Outcome {
    with_place(target, "half-close", 1, |target, place| {
        let whole = place.pattern(100_000);
        let mut client = place.uploader(target)?;
        let packets = [
            place.upload("a.bin").bytes(),
            data(whole.as_slice()).bytes(),
            eof(whole.len()).bytes(),
        ];
        client.send(&packets.concat())?;
        client.half_close()?;
        client.expect_success("Upload", &[("FileSize", &0)], &[])?;
        client.expect_success("Eof", &[], &[])?;
        client.expect_eof()?;
        place.holds(target, "a.bin", &whole)
    })
}

/// What finds no room is thrown away; the client is told when it asks, and what had found room is kept.
fn full_file(target: &mut dyn Target) -> Outcome {
    let Some(limit) = files(target)?.full_at else {
        return Err(Stop::skip("the target's files are not to be filled"));
    };
    with_place(target, "full", 1, |target, place| {
        let whole = crate::packet::pattern(limit + 100_000);
        let mut client = place.uploader(target)?;
        place.begin(&mut client, "a.bin", 0)?;
        for part in whole.chunks(64 * 1024) {
            client.send_packet(&data(part))?;
            client.alive()?;
        }
        let reply = client.ask(&eof(whole.len()), "Eof", 4)?;
        if reply.message.is_none_or(|text| text.is_empty()) {
            return Err(client.fail("a Message that says why", "an empty one"));
        }
        client.ask(&eof(whole.len()), "Eof", 10)?;
        let files = place.listed(&mut client)?;
        match files.as_slice() {
            [(name, size)] if name == "a.bin" && *size <= limit => {
                place.holds(target, "a.bin", &whole[..*size])
            }
            _ => {
                let expected = format!("one file a.bin of at most {limit} bytes");
                Err(client.fail(&expected, &format!("{files:?}")))
            }
        }
    })
}
