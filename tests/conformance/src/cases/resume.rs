//! Uploads that were broken off or taken over go on where they had come to.

use super::Case;
use super::store::{Place, ask_until_free, data, finish, with_dirs, with_place};
use crate::client::Client;
use crate::failure::{Outcome, Stop};
use crate::packet::{Packet, heartbeat};
use crate::target::Target;

pub(super) const CASES: &[Case] = &[
    Case::new("upload/resume_after_orderly_end", "8", after_end),
    Case::new("upload/resume_in_mid_packet", "8", in_mid_packet),
    Case::new("upload/resume_after_reset", "8", after_reset),
    Case::new("upload/resume_after_bad_packet", "8", after_bad_packet),
    Case::new("upload/finished_file_can_be_extended", "8", extended),
    Case::new("upload/take_over", "8", take_over),
    Case::new("upload/take_over_in_mid_packet", "8", take_over_in_mid_packet),
    Case::new("upload/take_over_by_another_spelling", "8", take_over_by_spelling),
    Case::new("upload/take_over_takes_nothing_late", "8", nothing_late),
    Case::new("upload/take_over_spares_others", "8", spares_others),
    Case::new("upload/connection_end_frees_the_file", "8", end_frees),
    Case::new("upload/several_files_at_once", "8", several_at_once),
];

/// Header and command of a Data packet with the first `part` of its `bytes`.
fn broken_off(bytes: &[u8], part: usize) -> Vec<u8> {
    let packet = data(bytes).bytes();
    packet[..packet.len() - bytes.len() + part].to_vec()
}

/// Uploads what is missing, and checks all of it.
fn complete(
    target: &mut dyn Target,
    place: &Place,
    client: &mut Client,
    whole: &[u8],
    stored: usize,
) -> Outcome {
    client.send_packet(&data(&whole[stored..]))?;
    finish(client, whole.len())?;
    place.lists(client, &[("a.bin", whole.len())])?;
    place.holds(target, "a.bin", whole)
}

/// Between two and between bytes: the server has read all before the end, so all of it counts.
fn after_end(target: &mut dyn Target) -> Outcome {
    with_place(target, "resume", 1, |target, place| {
        let whole = place.pattern(200_000);
        let parts = [0, 1, whole.len() / 3, whole.len() / 2];
        in_parts(target, place, &whole, parts, |rest, part| data(&rest[..part]).bytes())
    })
}

fn in_mid_packet(target: &mut dyn Target) -> Outcome {
    with_place(target, "mid-packet", 1, |target, place| {
        let whole = place.pattern(200_000);
        let parts = [0, 1, 500, whole.len() / 2];
        in_parts(target, place, &whole, parts, broken_off)
    })
}

/// Uploads so many bytes in each of some connections that end in order, and what is missing in a last one. `packet`
/// gives what carries the first of the bytes that are left.
fn in_parts<const N: usize>(
    target: &mut dyn Target,
    place: &Place,
    whole: &[u8],
    parts: [usize; N],
    packet: impl Fn(&[u8], usize) -> Vec<u8>,
) -> Outcome {
    let mut stored = 0;
    for part in parts {
        let mut client = place.uploader(target)?;
        place.begin(&mut client, "a.bin", stored)?;
        client.send(&packet(&whole[stored..], part))?;
        client.half_close()?;
        client.expect_gone()?;
        stored += part;
    }
    let mut client = place.uploader(target)?;
    place.begin(&mut client, "a.bin", stored)?;
    complete(target, place, &mut client, whole, stored)
}

/// The heartbeat's answer says that what came before it has been read. Dropping the connection with another answer
/// unread resets it.
fn after_reset(target: &mut dyn Target) -> Outcome {
    let pause = target.limits().segment_gap * 10;
    with_place(target, "reset", 1, |target, place| {
        let whole = place.pattern(150_000);
        let third = whole.len() / 3;
        for round in 0..2 {
            let mut client = place.uploader(target)?;
            place.begin(&mut client, "a.bin", round * third)?;
            client.send_packet(&data(&whole[round * third..][..third]))?;
            client.alive()?;
            client.send_packet(&heartbeat())?;
            client.sleep(pause);
        }
        let mut client = place.uploader(target)?;
        place.begin(&mut client, "a.bin", 2 * third)?;
        complete(target, place, &mut client, &whole, 2 * third)
    })
}

/// The server itself ends the connection; what it had stored stays.
fn after_bad_packet(target: &mut dyn Target) -> Outcome {
    with_place(target, "bad-packet", 1, |target, place| {
        let whole = place.pattern(900);
        for (round, (bad, command, code)) in
            [("[Request]", "", 3), ("[Request]\r\nCommand=NoSuchThing", "NoSuchThing", 1)]
                .into_iter()
                .enumerate()
        {
            let stored = round * 300;
            let mut client = place.uploader(target)?;
            place.begin(&mut client, "a.bin", stored)?;
            client.send_packet(&data(&whole[stored..][..300]))?;
            client.send_packet(&Packet::text(bad))?;
            client.expect_fatal(command, code)?;
        }
        let mut client = place.uploader(target)?;
        place.begin(&mut client, "a.bin", 600)?;
        complete(target, place, &mut client, &whole, 600)
    })
}

fn extended(target: &mut dyn Target) -> Outcome {
    with_place(target, "extended", 1, |target, place| {
        let whole = place.pattern(2000);
        let mut client = place.uploader(target)?;
        place.store(&mut client, "a.bin", &whole[..700])?;
        place.begin(&mut client, "a.bin", 700)?;
        finish(&mut client, 700)?;
        let mut client = place.uploader(target)?;
        place.begin(&mut client, "a.bin", 700)?;
        complete(target, place, &mut client, &whole, 700)
    })
}

/// A device comes back while its dead connection still stands, and again, and again.
fn take_over(target: &mut dyn Target) -> Outcome {
    with_place(target, "take-over", 1, |target, place| {
        let whole = place.pattern(100_000);
        let step = whole.len() / 5;
        let mut older: Option<Client> = None;
        for round in 0..4 {
            let mut client = place.uploader(target)?;
            place.begin(&mut client, "a.bin", round * step)?;
            if let Some(mut older) = older.take() {
                older.expect_gone().map_err(|stop| stop.within("the older connection"))?;
            }
            client.send_packet(&data(&whole[round * step..][..step]))?;
            client.alive()?;
            older = Some(client);
        }
        let mut client = place.uploader(target)?;
        place.begin(&mut client, "a.bin", 4 * step)?;
        complete(target, place, &mut client, &whole, 4 * step)
    })
}

/// Of a packet that is still on its way any part may have been read: the count says which.
fn take_over_in_mid_packet(target: &mut dyn Target) -> Outcome {
    let pause = target.limits().segment_gap * 10;
    with_place(target, "take-over-mid", 1, |target, place| {
        let whole = place.pattern(100_000);
        let (first, half) = (whole.len() / 4, whole.len() / 2);
        let mut older = place.uploader(target)?;
        place.begin(&mut older, "a.bin", 0)?;
        older.send_packet(&data(&whole[..first]))?;
        older.alive()?;
        older.send(&broken_off(&whole[first..], half - first))?;
        older.sleep(pause);
        let mut client = place.uploader(target)?;
        let reply = client.ask(&place.upload("a.bin"), "Upload", 0)?;
        let stored = match reply.key("FileSize").and_then(|size| size.parse().ok()) {
            Some(size) if (first..=half).contains(&size) => size,
            _ => {
                let expected = format!("a FileSize from {first} to {half}");
                return Err(client.fail(&expected, &format!("{reply:?}")));
            }
        };
        older.expect_gone().map_err(|stop| stop.within("the older connection"))?;
        complete(target, place, &mut client, &whole, stored)
    })
}

/// It is the file that counts, not how its path is written.
fn take_over_by_spelling(target: &mut dyn Target) -> Outcome {
    with_dirs(target, "spelling", 2, |target, place| {
        let dir = place.dir();
        let mut older = place.uploader(target)?;
        place.make_dir(&mut older, dir, "sub")?;
        let request = |dir: &str, file: &str| {
            Packet::request("Upload").key("DirName", dir).key("FileName", file)
        };
        let whole = place.pattern(1200);
        let mut stored = 0;
        let start = request(&format!("{dir}/sub"), "a.bin");
        older.succeed(&start, "Upload", &[("FileSize", &0)])?;
        for (dir, file) in [
            (format!("{dir}\\sub"), "a.bin"),
            (format!("./{dir}//sub/"), "./a.bin"),
            (dir.to_owned(), "sub/a.bin"),
            (dir.to_owned(), "sub\\a.bin"),
            (String::new(), &format!("{dir}/./sub/a.bin")),
        ] {
            older.send_packet(&data(&whole[stored..][..200]))?;
            older.alive()?;
            stored += 200;
            let mut client = place.uploader(target)?;
            client.succeed(&request(&dir, file), "Upload", &[("FileSize", &stored)])?;
            older.expect_gone().map_err(|stop| stop.within("the older connection"))?;
            older = client;
        }
        finish(&mut older, stored)
    })
}

/// What an older connection sends when it no longer has the file is not stored.
fn nothing_late(target: &mut dyn Target) -> Outcome {
    let pause = target.limits().segment_gap * 10;
    with_place(target, "late", 1, |target, place| {
        let whole = place.pattern(600);
        let mut older = place.uploader(target)?;
        place.begin(&mut older, "a.bin", 0)?;
        older.send_packet(&data(&whole[..300]))?;
        older.alive()?;
        let mut client = place.uploader(target)?;
        place.begin(&mut client, "a.bin", 300)?;
        // Refused or thrown away, as the end of the connection has it.
        let _ = older.offer(&data(*b"late").bytes(), pause);
        older.sleep(pause);
        complete(target, place, &mut client, &whole, 300)
    })
}

/// Whoever uploads another file, or has done with this one, keeps the connection.
fn spares_others(target: &mut dyn Target) -> Outcome {
    with_place(target, "spared", 2, |target, place| {
        if target.limits().max_sessions < 4 {
            return Err(Stop::skip("needs four connections"));
        }
        let mut done = place.uploader(target)?;
        place.store(&mut done, "a.bin", b"abc")?;
        let mut other = place.uploader(target)?;
        place.begin(&mut other, "b.bin", 0)?;
        other.send_packet(&data(*b"de"))?;
        let mut moved = place.uploader(target)?;
        place.begin(&mut moved, "a.bin", 3)?;
        moved.alive()?;
        // From here on this one has another file, which is no longer in another's hands.
        finish(&mut other, 2)?;
        place.begin(&mut moved, "b.bin", 2)?;
        let mut client = place.uploader(target)?;
        place.begin(&mut client, "a.bin", 3)?;
        for client in [&mut done, &mut other, &mut moved] {
            client.alive()?;
        }
        client.send_packet(&data(*b"f"))?;
        finish(&mut client, 4)?;
        finish(&mut moved, 2)?;
        drop((done, other));
        place.holds(target, "a.bin", b"abcf")?;
        place.holds(target, "b.bin", b"de")
    })
}

/// Nobody is uploading it any more, though the server may notice a little later.
fn end_frees(target: &mut dyn Target) -> Outcome {
    let limits = target.limits().clone();
    with_place(target, "freed", 1, |target, place| {
        for part in [0, 5] {
            let mut client = place.uploader(target)?;
            place.begin(&mut client, "a.bin", 0)?;
            client.send(&broken_off(b"0123456789", part))?;
            client.sleep(limits.segment_gap * 10);
            drop(client);
            let mut client = place.uploader(target)?;
            let delete = place.delete("a.bin");
            ask_until_free(&mut client, &delete, "DeleteFile", 11, limits.reply_timeout)?;
            place.lists(&mut client, &[])?;
        }
        Ok(())
    })
}

/// One user, one directory, several connections, and pieces that come in turns.
fn several_at_once(target: &mut dyn Target) -> Outcome {
    let count = target.limits().max_sessions.min(4);
    with_place(target, "several", count, |target, place| {
        let whole = place.pattern(2000);
        let piece = |part: &[u8], number: usize| part[..20 * (number + 1)].to_vec();
        let mut clients =
            (0..count).map(|_| place.uploader(target)).collect::<Result<Vec<_>, _>>()?;
        let name = |number: usize| format!("{number}.bin");
        for (number, client) in clients.iter_mut().enumerate() {
            place.begin(client, &name(number), 0)?;
        }
        for part in whole.chunks_exact(100) {
            for (number, client) in clients.iter_mut().enumerate() {
                client.send_packet(&data(piece(part, number)))?;
            }
        }
        let own = |number| -> Vec<u8> {
            whole.chunks_exact(100).flat_map(|part| piece(part, number)).collect()
        };
        for (number, client) in clients.iter_mut().enumerate() {
            finish(client, own(number).len())?;
        }
        drop(clients);
        (0..count).try_for_each(|number| place.holds(target, &name(number), &own(number)))
    })
}
