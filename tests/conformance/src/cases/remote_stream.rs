//! RemoteStream: one open file per connection, opened, found and given back.

use std::fmt::Display;

use super::Case;
use super::store::{Place, ask_until_free, data, finish, with_dirs, with_place};
use crate::client::{Client, REMOTE_STREAM};
use crate::failure::{Outcome, Stop};
use crate::packet::{Packet, heartbeat, pattern};
use crate::target::{RemoteStream, Target};

pub(super) const CASES: &[Case] = &[
    Case::new("remote_stream/login", "10", login),
    Case::new("remote_stream/file_exists", "10", file_exists),
    Case::new("remote_stream/without_open_file", "10", without_open_file),
    Case::new("remote_stream/open_modes", "10", open_modes),
    Case::new("remote_stream/missing_directory", "10", missing_directory),
    Case::new("remote_stream/commands_are_spelled_back", "10", spelled_back),
    Case::new("remote_stream/one_file_after_another", "10", one_after_another),
    Case::new("remote_stream/in_use", "10", in_use),
    Case::new("remote_stream/connection_end_frees_the_file", "10", end_frees),
    Case::new("remote_stream/glued_then_half_close", "10", glued),
];

pub(super) fn request(command: &str, key: &str, value: impl Display) -> Packet {
    Packet::request(command).key(key, value)
}

pub(super) fn open(place: &Place, name: &str, mode: impl Display) -> Packet {
    request("OpenFile", "FileName", place.path(name)).key("Mode", mode)
}

/// A connection with the place's file of this name open to be written.
pub(super) fn opened(target: &mut dyn Target, place: &Place, name: &str) -> Result<Client, Stop> {
    let mut client = place.stream(target)?;
    client.succeed(&open(place, name, 1), "OpenFile", &[])?;
    Ok(client)
}

pub(super) fn put(client: &mut Client, bytes: &[u8]) -> Outcome {
    let packet = Packet::request("Write").data(bytes);
    client.succeed(&packet, "Write", &[("Count", &bytes.len())])
}

/// Asks for `count` bytes; these come.
pub(super) fn get(client: &mut Client, count: usize, expected: &[u8]) -> Outcome {
    client.send_packet(&request("Read", "Count", count))?;
    client.expect_success("Read", &[("Count", &expected.len())], expected)
}

pub(super) fn go(client: &mut Client, position: usize) -> Outcome {
    client.succeed(&request("SetPosition", "Position", position), "SetPosition", &[])
}

pub(super) fn stands(client: &mut Client, position: usize, size: usize) -> Outcome {
    client.succeed(&Packet::request("GetPosition"), "GetPosition", &[("Position", &position)])?;
    client.succeed(&Packet::request("GetSize"), "GetSize", &[("Size", &size)])
}

pub(super) fn close(client: &mut Client) -> Outcome {
    client.succeed(&Packet::request("CloseFile"), "CloseFile", &[])
}

/// Required, or needless where the server is open to everybody.
fn login(target: &mut dyn Target) -> Outcome {
    with_place(target, "stream-login", 1, |target, place| {
        let who = super::store::remote_stream(target)?;
        let code = if who == RemoteStream::Open { 9 } else { 8 };
        let mut client = Client::flagged(target, REMOTE_STREAM)?;
        client.alive()?;
        client.ask(&request("FileExists", "FileName", place.path("a")), "FileExists", code)?;
        client.ask(&open(place, "a", 0), "OpenFile", code)?;
        client.alive()?;
        let mut client = place.stream(target)?;
        client.ask(&open(place, "a", 0), "OpenFile", 9).map(|_| ())
    })
}

fn file_exists(target: &mut dyn Target) -> Outcome {
    with_place(target, "exists", 2, |target, place| {
        let exists = |name: &str| request("FileExists", "FileName", place.path(name));
        let mut client = place.stream(target)?;
        client.ask(&exists("a"), "FileExists", 9)?;
        let mut uploader = place.uploader(target)?;
        place.store(&mut uploader, "a", b"")?;
        client.succeed(&exists("a"), "FileExists", &[])?;
        // Being asked for makes no file, and opens none.
        client.ask(&exists("b"), "FileExists", 9)?;
        client.ask(&Packet::request("GetSize"), "GetSize", 10)?;
        place.lists(&mut uploader, &[("a", 0)])?;
        uploader.succeed(&place.delete("a"), "DeleteFile", &[])?;
        client.ask(&exists("a"), "FileExists", 9)?;
        client.ask(&Packet::request("FileExists"), "FileExists", 6)?;
        client.ask(&request("FileExists", "FileName", ""), "FileExists", 6)?;
        client.alive()
    })
}

/// Code 10: before any file is open, after one could not be opened, and after one is closed.
fn without_open_file(target: &mut dyn Target) -> Outcome {
    with_place(target, "no-open-file", 1, |target, place| {
        let mut client = place.stream(target)?;
        for round in 0..3 {
            for (command, packet) in [
                ("SetSize", request("SetSize", "Size", 1)),
                ("GetSize", Packet::request("GetSize")),
                ("SetPosition", request("SetPosition", "Position", 0)),
                ("GetPosition", Packet::request("GetPosition")),
                ("Read", request("Read", "Count", 1)),
                ("Write", Packet::request("Write").data(*b"abc")),
                ("Write", Packet::request("Write").data(pattern(32 * 1024))),
                ("Seek", request("Seek", "Offset", 0).key("SeekOrigin", 0)),
                ("CloseFile", Packet::request("CloseFile")),
            ] {
                let reply = client.ask(&packet, command, 10)?;
                client.same_data(&[], &reply.data)?;
            }
            client.alive()?;
            if round == 0 {
                client.ask(&open(place, "none", 0), "OpenFile", 9)?;
            } else {
                client.succeed(&open(place, "a", 1), "OpenFile", &[])?;
                close(&mut client)?;
            }
        }
        place.holds(target, "a", b"")
    })
}

fn open_modes(target: &mut dyn Target) -> Outcome {
    with_place(target, "modes", 2, |target, place| {
        let mut client = place.stream(target)?;
        let named = request("OpenFile", "FileName", place.path("a"));
        client.ask(&named, "OpenFile", 6)?;
        client.ask(&request("OpenFile", "Mode", 1), "OpenFile", 6)?;
        client.ask(&request("OpenFile", "Mode", 1).key("FileName", ""), "OpenFile", 6)?;
        for mode in ["", "2", "-1", "r", "1.0", "01x", "4294967296"] {
            client
                .ask(&open(place, "a", mode), "OpenFile", 6)
                .map_err(|stop| stop.within(&format!("Mode={mode}")))?;
        }
        let mut uploader = place.uploader(target)?;
        place.lists(&mut uploader, &[])?;
        client.ask(&open(place, "a", 0), "OpenFile", 9)?;
        place.lists(&mut uploader, &[])?;
        client.succeed(&open(place, "a", 1), "OpenFile", &[])?;
        place.lists(&mut uploader, &[("a", 0)])?;
        put(&mut client, b"abc")?;
        close(&mut client)?;
        // Opened again it is not emptied, and stands at its beginning.
        for mode in [1, 0] {
            client.succeed(&open(place, "a", mode), "OpenFile", &[])?;
            stands(&mut client, 0, 3)?;
        }
        get(&mut client, 3, b"abc")
    })
}

fn missing_directory(target: &mut dyn Target) -> Outcome {
    with_dirs(target, "stream-missing", 1, |target, place| {
        let mut client = place.stream(target)?;
        let exists = request("FileExists", "FileName", place.path("none/a"));
        client.ask(&exists, "FileExists", 9)?;
        client.ask(&open(place, "none/a", 0), "OpenFile", 9)?;
        client.alive()
    })
}

fn spelled_back(target: &mut dyn Target) -> Outcome {
    with_place(target, "spelled", 1, |target, place| {
        let mut client = place.stream(target)?;
        let text =
            format!("[REQUEST]\r\nmode=1\r\nFILENAME={}\r\ncommand=oPENfILE", place.path("a"));
        client.succeed(&Packet::text(text), "oPENfILE", &[])?;
        client.succeed(&Packet::request("wRiTe").data(*b"abc"), "wRiTe", &[("Count", &3)])?;
        client.succeed(
            &request("seeK", "offset", 1).key("seekORIGIN", 0),
            "seeK",
            &[("Offset", &1)],
        )?;
        client.send_packet(&request("READ", "count", 5))?;
        client.expect_success("READ", &[("Count", &2)], b"bc")?;
        client.succeed(&Packet::request("getsize"), "getsize", &[("Size", &3)])?;
        client.succeed(&request("setPOSITION", "position", 2), "setPOSITION", &[])?;
        client.succeed(&Packet::request("GETPOSITION"), "GETPOSITION", &[("Position", &2)])?;
        client.succeed(&request("SETsize", "size", 2), "SETsize", &[])?;
        client.succeed(&Packet::request("closefile"), "closefile", &[])?;
        client.ask(&Packet::request("closeFILE"), "closeFILE", 10)?;
        let exists = request("fileexists", "filename", place.path("a"));
        client.succeed(&exists, "fileexists", &[])
    })
}

/// With a CloseFile between them or without: opening one closes the other, and anybody may have that then. So does an
/// attempt that fails.
fn one_after_another(target: &mut dyn Target) -> Outcome {
    with_place(target, "two-files", 2, |target, place| {
        let mut client = opened(target, place, "a")?;
        put(&mut client, b"first")?;
        client.succeed(&open(place, "b", 1), "OpenFile", &[])?;
        stands(&mut client, 0, 0)?;
        put(&mut client, b"second")?;
        let mut other = opened(target, place, "a")?;
        stands(&mut other, 0, 5)?;
        put(&mut other, b"F")?;
        close(&mut other)?;
        close(&mut client)?;
        client.succeed(&open(place, "a", 1), "OpenFile", &[])?;
        client.succeed(&open(place, "a", 1), "OpenFile", &[])?;
        get(&mut client, 10, b"First")?;
        client.succeed(&open(place, "b", 0), "OpenFile", &[])?;
        get(&mut client, 10, b"second")?;
        client.ask(&open(place, "none", 0), "OpenFile", 9)?;
        client.ask(&request("Read", "Count", 1), "Read", 10)?;
        client.alive()
    })
}

/// One writer at a time, be it by Upload or by RemoteStream; readers are free.
fn in_use(target: &mut dyn Target) -> Outcome {
    with_place(target, "in-use", 1, |target, place| {
        let mut uploader = place.uploader(target)?;
        place.begin(&mut uploader, "a", 0)?;
        uploader.send_packet(&data(*b"abc"))?;
        let mut first = place.stream(target)?;
        first.ask(&open(place, "a", 1), "OpenFile", 11)?;
        first.succeed(&open(place, "a", 0), "OpenFile", &[])?;
        finish(&mut uploader, 3)?;
        first.succeed(&open(place, "a", 1), "OpenFile", &[])?;
        let mut second = place.stream(target)?;
        second.ask(&open(place, "a", 1), "OpenFile", 11)?;
        second.succeed(&open(place, "a", 0), "OpenFile", &[])?;
        uploader.ask(&place.upload("a"), "Upload", 11)?;
        // It has what it opened, whoever asked for it meanwhile.
        put(&mut first, b"X")?;
        close(&mut first)?;
        second.succeed(&open(place, "a", 1), "OpenFile", &[])?;
        get(&mut second, 10, b"Xbc")?;
        close(&mut second)?;
        place.begin(&mut uploader, "a", 3)?;
        finish(&mut uploader, 3)
    })
}

/// However it ends, and though the server may notice a little later.
fn end_frees(target: &mut dyn Target) -> Outcome {
    let limits = target.limits().clone();
    with_place(target, "end-frees", 1, |target, place| {
        let mut again = || {
            let mut client = place.stream(target)?;
            let packet = open(place, "a", 1);
            ask_until_free(&mut client, &packet, "OpenFile", 11, limits.reply_timeout)?;
            Ok(client)
        };
        let mut client = again()?;
        put(&mut client, b"ab")?;
        client.half_close()?;
        client.expect_eof()?;
        let mut client = again()?;
        go(&mut client, 1)?;
        put(&mut client, b"c")?;
        // Dropped with an answer unread, which resets the connection.
        client.send_packet(&heartbeat())?;
        client.sleep(limits.segment_gap * 10);
        drop(client);
        get(&mut again()?, 10, b"ac")
    })
}

/// Everything in one send: what stands behind a Write waits until that is done.
fn glued(target: &mut dyn Target) -> Outcome {
    with_place(target, "stream-glued", 1, |target, place| {
        let whole = place.pattern(1000);
        let packets = [
            open(place, "a", 1),
            Packet::request("Write").data(&whole[..400]),
            Packet::request("Write").data(&whole[400..]),
            request("Seek", "Offset", -600).key("SeekOrigin", 2),
            request("Read", "Count", 1000),
            Packet::request("CloseFile"),
            Packet::request("GetSize"),
        ];
        let mut client = place.stream(target)?;
        client.send(&packets.iter().flat_map(Packet::bytes).collect::<Vec<_>>())?;
        client.half_close()?;
        client.expect_success("OpenFile", &[], &[])?;
        client.expect_success("Write", &[("Count", &400)], &[])?;
        client.expect_success("Write", &[("Count", &600)], &[])?;
        client.expect_success("Seek", &[("Offset", &400)], &[])?;
        client.expect_success("Read", &[("Count", &600)], &whole[400..])?;
        client.expect_success("CloseFile", &[], &[])?;
        client.expect("GetSize", 10)?;
        client.expect_eof()?;
        place.holds(target, "a", &whole)
    })
}
