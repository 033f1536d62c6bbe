//! Timeouts of connections for files: those of Control hold here too, and a transfer that moves is a sign of life.

use std::time::Duration;

use super::Case;
use super::store::{data, eof, files, finish, with_place};
use super::timing::ends_on_time;
use crate::client::{Client, DOWNLOAD, REMOTE_STREAM, UPLOAD, credentials};
use crate::failure::{Outcome, Stop};
use crate::packet::heartbeat;
use crate::target::{RemoteStream, Target, WireError};

pub(super) const CASES: &[Case] = &[
    Case::new("idle/trickled_upload_is_alive", "5", trickle),
    Case::new("idle/slow_download_is_alive", "5", slow_reader),
    Case::new("idle/download_never_read_is_given_up", "5", never_reads),
    Case::new("idle/silent_after_flag", "1", silent_after_flag),
    Case::new("idle/silent_after_login", "1", silent_after_login),
    Case::new("idle/silent_in_mid_upload", "1", silent_in_upload),
    Case::new("idle/silent_after_download", "1", silent_after_download),
    Case::new("idle/silent_uploader_keeps_its_bytes", "8", bytes_are_kept),
];

const WINDOW: usize = 32 * 1024;

fn flags(target: &dyn Target) -> Result<Vec<u8>, Stop> {
    files(target)?;
    let stream = target.limits().remote_stream != RemoteStream::Off;
    Ok([UPLOAD, DOWNLOAD].into_iter().chain(stream.then_some(REMOTE_STREAM)).collect())
}

/// The connections, with the times before and after what was the last sign of each, end on time.
fn all_on_time(
    target: &dyn Target,
    clients: impl IntoIterator<Item = (Client, Duration, Duration)>,
) -> Outcome {
    let timeout = target.limits().idle_timeout;
    clients.into_iter().try_for_each(|(mut client, before, after)| {
        ends_on_time(target, &mut client, before, after, timeout)
    })
}

fn silent_after_flag(target: &mut dyn Target) -> Outcome {
    let mut clients = Vec::new();
    for flag in flags(target)? {
        let mut client = Client::connect(target)?;
        let before = client.now();
        client.send(&[flag])?;
        let after = client.now();
        clients.push((client, before, after));
    }
    all_on_time(target, clients)
}

fn silent_after_login(target: &mut dyn Target) -> Outcome {
    let login = credentials(target)?;
    let mut clients = Vec::new();
    for flag in flags(target)? {
        let mut client = Client::logged_in(target, flag, &login)?;
        let before = client.now();
        client.alive()?;
        let after = client.now();
        clients.push((client, before, after));
    }
    all_on_time(target, clients)
}

/// Between two packets, and within one.
fn silent_in_upload(target: &mut dyn Target) -> Outcome {
    with_place(target, "silent", 2, |target, place| {
        let packet = data(*b"abcdefgh").bytes();
        let mut clients = Vec::new();
        for (name, part) in [("a", packet.len()), ("b", packet.len() - 3)] {
            let mut client = place.uploader(target)?;
            place.begin(&mut client, name, 0)?;
            client.alive()?;
            let before = client.now();
            client.send(&packet[..part])?;
            let after = client.now();
            clients.push((client, before, after));
        }
        all_on_time(target, clients)
    })
}

fn silent_after_download(target: &mut dyn Target) -> Outcome {
    with_place(target, "silent-download", 1, |target, place| {
        let whole = place.pattern(2000);
        place.store(&mut place.uploader(target)?, "a", &whole)?;
        let mut client = place.downloader(target)?;
        let before = client.now();
        place.fetch(&mut client, "a", &whole, 0, 500)?;
        let after = client.now();
        all_on_time(target, [(client, before, after)])
    })
}

/// What ended the connection makes no difference to what had been read.
fn bytes_are_kept(target: &mut dyn Target) -> Outcome {
    with_place(target, "silent-kept", 1, |target, place| {
        let limits = target.limits().clone();
        let whole = place.pattern(1500);
        let packet = data(whole.as_slice()).bytes();
        let mut client = place.uploader(target)?;
        place.begin(&mut client, "a", 0)?;
        client.send(&packet[..packet.len() - 500])?;
        client.end_within(limits.idle_timeout + limits.tick + limits.slack)?;
        let mut client = place.uploader(target)?;
        place.begin(&mut client, "a", 1000)?;
        client.send_packet(&data(&whole[1000..]))?;
        finish(&mut client, 1500)?;
        place.holds(target, "a", &whole)
    })
}

/// A piece of a file that takes more than three timeouts to arrive.
fn trickle(target: &mut dyn Target) -> Outcome {
    let pause = target.limits().idle_timeout / 3;
    with_place(target, "trickle", 1, |target, place| {
        let mut client = place.uploader(target)?;
        place.begin(&mut client, "a", 0)?;
        let packet = data(*b"0123456789").bytes();
        let (head, tail) = packet.split_at(packet.len() - 10);
        client.send(head)?;
        for byte in tail.chunks(1) {
            client.expect_quiet(pause)?;
            client.send(byte)?;
        }
        client.send_packet(&eof(10))?;
        client.expect_success("Eof", &[], &[])?;
        place.holds(target, "a", b"0123456789")
    })
}

/// A client that takes its time over a long file, and sends nothing meanwhile, is alive as long as it reads.
fn slow_reader(target: &mut dyn Target) -> Outcome {
    const STEPS: usize = 25;
    let pause = target.limits().idle_timeout / 10;
    with_place(target, "slow-reader", 1, |target, place| {
        let whole = place.pattern(1024 * 1024);
        if whole.len() < 16 * WINDOW {
            return Err(Stop::skip("the target's files are not much larger than a receive window"));
        }
        place.store(&mut place.uploader(target)?, "a", &whole)?;
        let mut client = place.narrow(target, WINDOW)?;
        client.send_packet(&place.download("a", 0, 100_000))?;
        for step in 1..=STEPS {
            client.sleep(pause);
            while client.waiting() < whole.len() * step / STEPS {
                client.sip(WINDOW)?;
            }
        }
        client.expect_success("Download", &[], &[])?;
        super::store::receive(&mut client, &whole, 100_000)?;
        client.alive()
    })
}

/// A client that sends on and on and takes nothing of its file: when nothing moves any more it is given up.
fn never_reads(target: &mut dyn Target) -> Outcome {
    let limits = target.limits().clone();
    files(target)?;
    if !limits.stalled_reader {
        return Err(Stop::skip("such a client cannot be made"));
    }
    with_place(target, "never-reads", 1, |target, place| {
        let whole = place.pattern(8 * 1024 * 1024);
        if whole.len() < 16 * WINDOW {
            return Err(Stop::skip("the target's files are not much larger than a receive window"));
        }
        place.store(&mut place.uploader(target)?, "a", &whole)?;
        let mut client = place.narrow(target, WINDOW)?;
        client.send_packet(&place.download("a", 0, 65_536))?;
        let bound = limits.idle_timeout * 2 + limits.tick + limits.slack;
        let deadline = client.now() + bound;
        while client.now() < deadline {
            match client.offer(&heartbeat().bytes(), Duration::from_millis(50)) {
                Ok(_) => client.sleep(limits.idle_timeout / 20),
                Err(WireError::Closed) => return Ok(()),
                Err(error) => return Err(client.fail("to send", &error.to_string())),
            }
        }
        Err(client.fail(
            "a client that never reads to be given up",
            &format!("still open {bound:?} after its request"),
        ))
    })
}
