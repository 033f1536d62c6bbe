//! Download: what is stored is what is sent, from any offset and in packets of any size.

use super::Case;
use super::store::{data, file_rows, files, finish, receive, remote_stream, with_dirs, with_place};
use crate::failure::{Outcome, Stop};
use crate::packet::{Packet, heartbeat};
use crate::target::{Closed, Target};

pub(super) const CASES: &[Case] = &[
    Case::new("download/packets_are_exact", "9", exact),
    Case::new("download/packet_sizes_and_offsets", "9", sizes_and_offsets),
    Case::new("download/large_packets", "9", large_packets),
    Case::new("download/empty_file", "9", empty_file),
    Case::new("download/offset_beyond_the_end", "9", beyond_the_end),
    Case::new("download/bad_parameters", "9", bad_parameters),
    Case::new("download/missing_file", "9", missing_file),
    Case::new("download/missing_directory", "9", missing_directory),
    Case::new("download/resume_after_reset", "9", resume),
    Case::new("download/commands_meanwhile_are_answered_after", "9", commands_meanwhile),
    Case::new("download/heartbeats_during_a_long_one", "9", heartbeats_during),
    Case::new("download/several_on_one_connection", "9", several),
    Case::new("download/request_split_at_every_byte", "9", split),
    Case::new("download/half_close_gets_it_all", "9", half_close),
    Case::new("download/broken_off_leaves_nothing", "9", broken_off),
    Case::new("download/growing_file_is_sent_as_it_was", "9", growing),
    Case::new("download/shrunk_file_is_never_padded", "9", shrinking),
];

/// A receive window, and a file that is much larger than what a sender's own buffers grow to behind it.
const WINDOW: usize = 32 * 1024;
const LARGE: usize = 8 * 1024 * 1024;

/// Skips the case where all of a file may be under way before anything of it is read.
fn room_for_large(target: &dyn Target) -> Outcome {
    if files(target)?.max_file < LARGE {
        return Err(Stop::skip("the target's files are no larger than what is under way"));
    }
    Ok(())
}

/// Byte for byte, but for the spelling of the command, which is the client's.
fn exact(target: &mut dyn Target) -> Outcome {
    let response = |lines: &str| Packet::text(format!("[Response]\r\nCommand={lines}"));
    with_place(target, "exact", 1, |target, place| {
        let whole = place.pattern(10);
        place.store(&mut place.uploader(target)?, "a.bin", &whole)?;
        let mut client = place.downloader(target)?;
        let request = Packet::text(format!(
            "[request]\r\nPACKETSIZE=4\r\nfilesize=1\r\nX=\r\nfileNAME={}\r\ndirname={}\r\ncommand=dOwNlOaD",
            place.file("a.bin"),
            place.dir()
        ));
        client.send_packet(&request)?;
        let expected = [
            response("dOwNlOaD\r\nCode=0").bytes(),
            response("SendFile\r\nCode=0\r\nFileSize=9").bytes(),
            response("Data\r\nCode=0").data(&whole[1..5]).bytes(),
            response("Data\r\nCode=0").data(&whole[5..9]).bytes(),
            response("Data\r\nCode=0").data(&whole[9..]).bytes(),
        ];
        client.expect_bytes(&expected.concat())?;
        client.alive()
    })
}

fn sizes_and_offsets(target: &mut dyn Target) -> Outcome {
    with_place(target, "sizes", 1, |target, place| {
        let whole = place.pattern(1500);
        let size = whole.len();
        place.store(&mut place.uploader(target)?, "a.bin", &whole)?;
        let mut client = place.downloader(target)?;
        for packet in [1, 7, 512, size - 1, size, size + 1, 65_536, 1024 * 1024] {
            for offset in [0, 1, size / 2, size - 1, size] {
                place
                    .fetch(&mut client, "a.bin", &whole, offset, packet)
                    .map_err(|stop| stop.within(&format!("offset {offset}")))?;
            }
        }
        client.alive()
    })
}

/// Whole packets larger than any buffer, and a last one that is shorter.
fn large_packets(target: &mut dyn Target) -> Outcome {
    with_place(target, "large-packets", 1, |target, place| {
        let whole = place.pattern(2 * 1024 * 1024 + 12_345);
        place.store(&mut place.uploader(target)?, "a.bin", &whole)?;
        let mut client = place.downloader(target)?;
        for packet in [512, 65_535, 65_536, 1024 * 1024] {
            place.fetch(&mut client, "a.bin", &whole, 0, packet)?;
        }
        place.fetch(&mut client, "a.bin", &whole, whole.len() - 1, 1024 * 1024)?;
        client.alive()
    })
}

fn empty_file(target: &mut dyn Target) -> Outcome {
    with_place(target, "empty", 1, |target, place| {
        place.store(&mut place.uploader(target)?, "a.bin", b"")?;
        let mut client = place.downloader(target)?;
        for packet in [1, 1024 * 1024] {
            place.fetch(&mut client, "a.bin", b"", 0, packet)?;
            client.alive()?;
        }
        client.ask(&place.download("a.bin", 1, 1), "Download", 6)?;
        client.alive()
    })
}

fn beyond_the_end(target: &mut dyn Target) -> Outcome {
    with_place(target, "beyond", 1, |target, place| {
        let whole = place.pattern(1000);
        place.store(&mut place.uploader(target)?, "a.bin", &whole)?;
        let mut client = place.downloader(target)?;
        for offset in [1001, 1 << 31, 1 << 32, (1 << 32) + 1, i64::MAX as u64, u64::MAX] {
            client
                .ask(&place.download("a.bin", offset, 100), "Download", 6)
                .map_err(|stop| stop.within(&format!("offset {offset}")))?;
        }
        place.fetch(&mut client, "a.bin", &whole, 1000, 100)?;
        client.alive()
    })
}

/// All four keys are required, and both numbers are numbers; a packet is of 1 byte to 1 MiB.
fn bad_parameters(target: &mut dyn Target) -> Outcome {
    const KEYS: [&str; 4] = ["DirName", "FileName", "FileSize", "PacketSize"];
    with_place(target, "bad-download", 1, |target, place| {
        place.store(&mut place.uploader(target)?, "a.bin", b"abc")?;
        let mut client = place.downloader(target)?;
        let file = place.file("a.bin");
        let values = [place.dir(), &file, "0", "100"];
        for missing in KEYS {
            let keys = KEYS.into_iter().zip(values).filter(|(key, _)| *key != missing);
            let request = keys
                .fold(Packet::request("Download"), |packet, (key, value)| packet.key(key, value));
            client
                .ask(&request, "Download", 6)
                .map_err(|stop| stop.within(&format!("no {missing}")))?;
        }
        for size in ["", "abc", "0", "-1", "1.5", "0x10", " 1", "1048577", "4294967297"] {
            client
                .ask(&place.download("a.bin", 0, size), "Download", 6)
                .map_err(|stop| stop.within(&format!("PacketSize={size}")))?;
        }
        for offset in ["", "abc", "-1", "1.5", "0x1", " 1", "99999999999999999999999"] {
            client
                .ask(&place.download("a.bin", offset, 100), "Download", 6)
                .map_err(|stop| stop.within(&format!("FileSize={offset}")))?;
        }
        place.fetch(&mut client, "a.bin", b"abc", 0, 100)?;
        client.alive()
    })
}

fn missing_file(target: &mut dyn Target) -> Outcome {
    with_place(target, "missing-file", 1, |target, place| {
        let mut uploader = place.uploader(target)?;
        place.store(&mut uploader, "a.bin", b"abc")?;
        let mut client = place.downloader(target)?;
        client.ask(&place.download("none", 0, 100), "Download", 9)?;
        client.ask(&place.download("none", 5, 100), "Download", 9)?;
        place.fetch(&mut client, "a.bin", b"abc", 0, 100)?;
        uploader.succeed(&place.delete("a.bin"), "DeleteFile", &[])?;
        client.ask(&place.download("a.bin", 0, 100), "Download", 9)?;
        client.alive()
    })
}

/// No file is there, whatever it is that is missing; nor is a directory one.
fn missing_directory(target: &mut dyn Target) -> Outcome {
    with_dirs(target, "no-directory", 1, |target, place| {
        place.make_dir(&mut place.uploader(target)?, place.dir(), "dir")?;
        let mut client = place.downloader(target)?;
        for file in ["none/a.bin", "none/none/a.bin", "dir/a.bin", "dir"] {
            client
                .ask(&place.download(file, 0, 100), "Download", 9)
                .map_err(|stop| stop.within(file))?;
        }
        client.alive()
    })
}

fn resume(target: &mut dyn Target) -> Outcome {
    with_place(target, "resume-download", 1, |target, place| {
        let whole = place.pattern(300_000);
        place.store(&mut place.uploader(target)?, "a.bin", &whole)?;
        let mut client = place.downloader(target)?;
        let packet = whole.len() / 10;
        client.succeed(&place.download("a.bin", 0, packet), "Download", &[])?;
        client.expect_success("SendFile", &[("FileSize", &whole.len())], &[])?;
        client.expect_success("Data", &[], &whole[..packet])?;
        drop(client);
        let mut client = place.downloader(target)?;
        place.fetch(&mut client, "a.bin", &whole, packet, packet)?;
        client.alive()
    })
}

/// A client may send all it wants at once; it gets one after the other.
fn commands_meanwhile(target: &mut dyn Target) -> Outcome {
    with_place(target, "meanwhile", 1, |target, place| {
        let whole = place.pattern(100_000);
        place.store(&mut place.uploader(target)?, "a.bin", &whole)?;
        let mut client = place.downloader(target)?;
        let packets = [
            place.download("a.bin", 0, 10_000).bytes(),
            heartbeat().bytes(),
            place.download("none", 0, 10).bytes(),
            place.download("a.bin", 50, 512).bytes(),
            Packet::request("FileList").key("DirName", place.dir()).bytes(),
            heartbeat().data(*b"thrown away").bytes(),
        ];
        client.send(&packets.concat())?;
        client.expect_success("Download", &[], &[])?;
        receive(&mut client, &whole, 10_000)?;
        client.expect_success("Active", &[], &[])?;
        client.expect("Download", 9)?;
        client.expect_success("Download", &[], &[])?;
        receive(&mut client, &whole[50..], 512)?;
        let reply = client.expect("FileList", 0)?;
        let rows = file_rows(&client, &reply)?;
        if !rows.contains(&(place.file("a.bin"), whole.len())) {
            return Err(client.fail("a.bin in the list", &format!("{rows:?}")));
        }
        client.expect_success("Active", &[], &[])?;
        client.alive()
    })
}

/// The transfer is under way and cannot be done yet: the heartbeats come in its midst, their answers do not.
fn heartbeats_during(target: &mut dyn Target) -> Outcome {
    room_for_large(target)?;
    with_place(target, "during", 1, |target, place| {
        let whole = place.pattern(LARGE);
        place.store(&mut place.uploader(target)?, "a.bin", &whole)?;
        let mut client = place.narrow(target, WINDOW)?;
        client.succeed(&place.download("a.bin", 0, 10_000), "Download", &[])?;
        client.expect_success("SendFile", &[("FileSize", &LARGE)], &[])?;
        for (number, part) in whole.chunks(10_000).enumerate() {
            if number < 10 {
                client.send_packet(&heartbeat())?;
            }
            client.expect_success("Data", &[], part)?;
        }
        for _ in 0..10 {
            client.expect_success("Active", &[], &[])?;
        }
        client.alive()
    })
}

fn several(target: &mut dyn Target) -> Outcome {
    with_place(target, "several-files", 2, |target, place| {
        let whole = place.pattern(2000);
        let mut uploader = place.uploader(target)?;
        place.store(&mut uploader, "a.bin", &whole)?;
        place.store(&mut uploader, "b.bin", &whole[1000..])?;
        let mut client = place.downloader(target)?;
        for round in 0..20 {
            place.fetch(&mut client, "a.bin", &whole, round, 600)?;
            place.fetch(&mut client, "b.bin", &whole[1000..], round, 600)?;
        }
        client.alive()
    })
}

fn split(target: &mut dyn Target) -> Outcome {
    with_place(target, "split-download", 1, |target, place| {
        let whole = place.pattern(50);
        place.store(&mut place.uploader(target)?, "a.bin", &whole)?;
        let bytes = place.download("a.bin", 7, 20).bytes();
        let mut client = place.downloader(target)?;
        for at in 1..bytes.len() {
            let (head, tail) = bytes.split_at(at);
            client.send_parts([head, tail])?;
            client
                .expect_success("Download", &[], &[])
                .map_err(|stop| stop.within(&format!("split at {at}")))?;
            receive(&mut client, &whole[7..], 20)?;
        }
        Ok(())
    })
}

fn half_close(target: &mut dyn Target) -> Outcome {
    with_place(target, "half-download", 1, |target, place| {
        let whole = place.pattern(1024 * 1024);
        place.store(&mut place.uploader(target)?, "a.bin", &whole)?;
        for packet in [1000, 1024 * 1024] {
            let mut client = place.downloader(target)?;
            client.send_packet(&place.download("a.bin", 0, packet))?;
            client.half_close()?;
            client.expect_success("Download", &[], &[])?;
            receive(&mut client, &whole, packet)?;
            client.expect_eof()?;
        }
        Ok(())
    })
}

/// Nobody holds a file because somebody began to read it.
fn broken_off(target: &mut dyn Target) -> Outcome {
    with_place(target, "broken-off", 1, |target, place| {
        let whole = place.pattern(1024 * 1024);
        let mut uploader = place.uploader(target)?;
        place.store(&mut uploader, "a.bin", &whole)?;
        for _ in 0..5 {
            let mut client = place.downloader(target)?;
            client.succeed(&place.download("a.bin", 0, 1000), "Download", &[])?;
        }
        place.holds(target, "a.bin", &whole)?;
        uploader.succeed(&place.delete("a.bin"), "DeleteFile", &[])?;
        place.lists(&mut uploader, &[])
    })
}

/// What it had when the transfer began, and the rest when it is asked for.
fn growing(target: &mut dyn Target) -> Outcome {
    room_for_large(target)?;
    with_place(target, "growing", 1, |target, place| {
        let whole = place.pattern(LARGE);
        let (first, rest) = whole.split_at(whole.len() - 100_000);
        let mut uploader = place.uploader(target)?;
        place.store(&mut uploader, "a.bin", first)?;
        let mut client = place.narrow(target, WINDOW)?;
        client.succeed(&place.download("a.bin", 0, 65_536), "Download", &[])?;
        client.expect_success("SendFile", &[("FileSize", &first.len())], &[])?;
        place.begin(&mut uploader, "a.bin", first.len())?;
        uploader.send_packet(&data(rest))?;
        finish(&mut uploader, whole.len())?;
        for part in first.chunks(65_536) {
            client.expect_success("Data", &[], part)?;
        }
        client.alive()?;
        place.fetch(&mut client, "a.bin", &whole, first.len(), 65_536)
    })
}

/// The promise cannot be kept: the connection is reset rather than filled up with anything.
fn shrinking(target: &mut dyn Target) -> Outcome {
    room_for_large(target)?;
    remote_stream(target)?;
    with_place(target, "shrinking", 1, |target, place| {
        let whole = place.pattern(LARGE);
        place.store(&mut place.uploader(target)?, "a.bin", &whole)?;
        let patience = target.limits().reply_timeout;
        let mut client = place.narrow(target, WINDOW)?;
        client.succeed(&place.download("a.bin", 0, 65_536), "Download", &[])?;
        client.expect_success("SendFile", &[("FileSize", &LARGE)], &[])?;
        let mut stream = place.stream(target)?;
        let open = Packet::request("OpenFile").key("FileName", place.path("a.bin")).key("Mode", 1);
        stream.succeed(&open, "OpenFile", &[])?;
        stream.succeed(&Packet::request("SetSize").key("Size", 100), "SetSize", &[])?;
        let (unread, how) = client.drain(patience)?;
        if how == Closed::Reset && unread < LARGE {
            return Ok(());
        }
        Err(client.fail("a reset before all was sent", &format!("{how:?} after {unread} bytes")))
    })
}
