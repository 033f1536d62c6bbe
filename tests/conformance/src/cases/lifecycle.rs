//! How connections end, and that one does not disturb another.

use std::time::Duration;

use super::Case;
use super::rows::Watcher;
use crate::client::{CONTROL, Client, credentials, login_request};
use crate::failure::{Outcome, Stop};
use crate::packet::{Packet, header, heartbeat, pattern};
use crate::target::{Login, Target};

pub(super) const CASES: &[Case] = &[
    Case::new("lifecycle/reply_survives_junk_behind_bad_length", "2", junk_behind_bad_length),
    Case::new("lifecycle/reply_survives_junk_behind_bad_text", "2", junk_behind_bad_text),
    Case::new("lifecycle/reply_survives_junk_behind_unknown_command", "2", junk_behind_unknown),
    Case::new("lifecycle/reply_survives_junk_behind_third_login", "2", junk_behind_third_login),
    Case::new("lifecycle/nothing_is_answered_behind_a_fatal_packet", "2", nothing_behind_fatal),
    Case::new("lifecycle/half_close_gets_all_answers", "5", half_close_answers),
    Case::new("lifecycle/half_close_gets_the_login_answer", "5", half_close_login),
    Case::new("lifecycle/half_close_gets_the_whole_echo", "5", half_close_echo),
    Case::new("lifecycle/half_close_in_mid_packet", "5", half_close_in_packet),
    Case::new("lifecycle/half_close_with_nothing_owed", "5", half_close_nothing),
    Case::new("lifecycle/stuck_neighbours_do_no_harm", "1", stuck_neighbours),
    Case::new("lifecycle/many_connections_at_once", "1", many_at_once).alone(),
    Case::new("lifecycle/broken_off_connections_leave_nothing", "1", broken_off).alone(),
];

/// More than a small server's buffers hold, less than the 64 KiB that it owes to read on for.
const JUNK: usize = 32 * 1024;

/// A server that closes with unread input, or stops reading too soon, resets the connection, and the reply may be lost
/// with it. The junk comes in three parts: one in the server's hands before it replies, one that finds the reply under
/// way, and one that would meet the reset which the second had provoked.
fn with_junk(client: &mut Client, fatal: &[u8], command: &str, code: u32) -> Outcome {
    let junk = pattern(JUNK);
    let (first, rest) = junk.split_at(JUNK / 2);
    client.send(&[fatal, first].concat())?;
    for part in rest.chunks(JUNK / 4) {
        client.sleep(Duration::from_millis(50));
        client.send(part).map_err(|stop| stop.within("reading on behind a fatal packet"))?;
    }
    client.expect_fatal(command, code).map(|_| ())
}

fn junk_behind_bad_length(target: &mut dyn Target) -> Outcome {
    let mut client = Client::control(target)?;
    with_junk(&mut client, &header(u32::MAX, 1), "", 2)?;
    let mut client = Client::throughput(target)?;
    with_junk(&mut client, &header(3, 0), "", 2)
}

fn junk_behind_bad_text(target: &mut dyn Target) -> Outcome {
    let mut client = Client::control(target)?;
    with_junk(&mut client, &Packet::text("[Request]").bytes(), "", 3)?;
    // Here the junk is the data of the bad packet itself.
    let mut client = Client::control(target)?;
    client.send_packet(&Packet::text("Command=Active\r\nX=").data(pattern(JUNK)))?;
    client.expect_fatal("", 3).map(|_| ())
}

fn junk_behind_unknown(target: &mut dyn Target) -> Outcome {
    let mut client = Client::throughput(target)?;
    with_junk(&mut client, &Packet::request("NoSuchThing").bytes(), "NoSuchThing", 1)?;
    let mut client = Client::throughput(target)?;
    client.send_packet(&Packet::request("NoSuchThing").data(pattern(JUNK)))?;
    client.expect_fatal("NoSuchThing", 1)?;
    let mut client = Client::operator(target)?;
    with_junk(&mut client, &Packet::request("NoSuchThing").bytes(), "NoSuchThing", 1)
}

fn junk_behind_third_login(target: &mut dyn Target) -> Outcome {
    credentials(target)?;
    let login = Login { user: "nobody-with-junk".to_owned(), digest: "0".repeat(32) };
    let packet = login_request(&login);
    let mut client = Client::control(target)?;
    client.ask(&packet, "Login", 7)?;
    client.ask(&packet, "Login", 7)?;
    with_junk(&mut client, &packet.bytes(), "Login", 7)
}

/// What came before is answered, what comes behind is not, well-formed or not.
fn nothing_behind_fatal(target: &mut dyn Target) -> Outcome {
    let good = heartbeat().bytes();
    for (fatal, code) in [(header(2, 0), 2), (Packet::text("[Request]").bytes(), 3)] {
        let mut client = Client::control(target)?;
        client.send(&[good.repeat(3), fatal, good.repeat(50)].concat())?;
        for _ in 0..3 {
            client.expect("Active", 0)?;
        }
        client.expect_fatal("", code)?;
    }
    Ok(())
}

fn half_close_answers(target: &mut dyn Target) -> Outcome {
    for count in [1, 10] {
        let mut client = Client::connect(target)?;
        client.send(&[vec![CONTROL], heartbeat().bytes().repeat(count)].concat())?;
        client.half_close()?;
        for _ in 0..count {
            client.expect("Active", 0)?;
        }
        client.expect_eof()?;
    }
    Ok(())
}

/// An answer that takes the server some work is owed as well.
fn half_close_login(target: &mut dyn Target) -> Outcome {
    let login = credentials(target)?;
    let list = Packet::request("GetClients").key("Limit", 1);
    let mut client = Client::control(target)?;
    client.send(&[login_request(&login).bytes(), list.bytes()].concat())?;
    client.half_close()?;
    client.expect("Login", 0)?;
    client.expect("GetClients", 0)?;
    client.expect_eof()
}

fn half_close_echo(target: &mut dyn Target) -> Outcome {
    let limits = target.limits().clone();
    for size in [100, 64 * 1024, 1024 * 1024].into_iter().filter(|size| *size <= limits.max_data) {
        let data = pattern(size);
        let mut client = Client::throughput(target)?;
        client.send_while_reading(
            &Packet::request("CyclePacket").key("Count", -1).data(data.clone()),
        )?;
        client.half_close()?;
        let reply = client.expect("CyclePacket", 0)?;
        if reply.data != data {
            return Err(client.fail(
                &format!("{size} bytes back"),
                &format!("{} other bytes", reply.data.len()),
            ));
        }
        client.expect_eof()?;
    }
    Ok(())
}

fn half_close_in_packet(target: &mut dyn Target) -> Outcome {
    let packet = heartbeat().bytes();
    for part in [3, 8, 20, packet.len() - 1] {
        let mut client = Client::control(target)?;
        client.send(&[&heartbeat().bytes(), &packet[..part]].concat())?;
        client.half_close()?;
        client.expect("Active", 0)?;
        client.expect_eof()?;
    }
    Ok(())
}

fn half_close_nothing(target: &mut dyn Target) -> Outcome {
    let mut client = Client::connect(target)?;
    client.half_close()?;
    client.expect_gone()?;
    let mut client = Client::control(target)?;
    client.half_close()?;
    client.expect_eof()?;
    let mut client = Client::control(target)?;
    client.alive()?;
    client.half_close()?;
    client.expect_eof()
}

/// A client that is stuck, in whatever way, is nobody's problem but its own.
fn stuck_neighbours(target: &mut dyn Target) -> Outcome {
    if target.limits().max_sessions < 4 {
        return Err(Stop::skip("needs four connections"));
    }
    let _silent = Client::connect(target)?;
    let mut in_packet = Client::control(target)?;
    in_packet.send(&heartbeat().bytes()[..9])?;
    let mut unread = Client::throughput(target)?;
    let size = target.limits().whole_data.min(64 * 1024);
    unread.send_packet(&Packet::request("CyclePacket").key("Count", 1).data(pattern(size)))?;
    let mut client = Client::control(target)?;
    for _ in 0..20 {
        client.alive()?;
    }
    unread.expect("CyclePacket", 0)?;
    in_packet.send(&heartbeat().bytes()[9..])?;
    in_packet.expect("Active", 0)?;
    Ok(())
}

fn many_at_once(target: &mut dyn Target) -> Outcome {
    let count = target.limits().max_sessions.min(100);
    let mut clients = (0..count).map(|_| Client::control(target)).collect::<Result<Vec<_>, _>>()?;
    for client in &mut clients {
        client.send_packet(&heartbeat())?;
    }
    for client in &mut clients {
        client.expect("Active", 0)?;
    }
    for client in clients.iter_mut().rev() {
        client.alive()?;
    }
    Ok(())
}

/// Clients that vanish in every state, several times as many as there may be at once; then all is as before.
fn broken_off(target: &mut dyn Target) -> Outcome {
    let login = credentials(target)?;
    let mut watcher = Watcher::new(target)?;
    watcher.settle_alone()?;
    let bytes = heartbeat().bytes();
    let echo = Packet::request("CyclePacket")
        .key("Count", 1)
        .data(pattern(target.limits().whole_data.min(4096)))
        .bytes();
    for round in 0..12 {
        drop(Client::connect(target)?);
        drop(Client::control(target)?);
        Client::control(target)?.send(&bytes[..1 + round])?;
        // Dropped with the reply unread, which resets the connection.
        Client::control(target)?.send(&bytes.repeat(5))?;
        // A server with few places needs a moment to see them leave.
        watcher.settle_alone()?;
        Client::throughput(target)?.send(&echo)?;
        Client::throughput(target)?.send(&echo[..echo.len() / 2])?;
        // Dropped while the server is busy with the password.
        Client::control(target)?.send_packet(&login_request(&login))?;
        watcher.settle_alone()?;
    }
    watcher.client.alive()
}
