//! The command text: its form, its freedoms, and the form of replies.

use super::Case;
use crate::client::{Client, THROUGHPUT};
use crate::failure::Outcome;
use crate::packet::{Packet, pattern};
use crate::target::Target;

pub(super) const CASES: &[Case] = &[
    Case::new("command/malformed_text", "3", malformed),
    Case::new("command/malformed_text_on_throughput", "3", malformed_on_throughput),
    Case::new("command/first_line_in_any_case", "3", first_line_in_any_case),
    Case::new("command/keys_in_any_case", "3", keys_in_any_case),
    Case::new("command/names_in_any_case_are_spelled_back", "3", spelled_back),
    Case::new("command/order_of_keys_is_free", "3", order_of_keys),
    Case::new("command/empty_lines_and_last_crlf", "3", empty_lines),
    Case::new("command/unknown_keys_are_ignored", "3", unknown_keys),
    Case::new("command/value_with_equals_sign", "3", value_with_equals),
    Case::new("command/missing_command", "3", missing_command),
    Case::new("command/numbers_that_do_not_parse", "3", bad_numbers),
    Case::new("command/response_is_no_request", "12", response_is_no_request),
    Case::new("command/response_is_no_request_after_login", "12", response_after_login),
];

const MALFORMED: &[&[u8]] = &[
    b"",
    b"[Request]",
    b"[Request]\r\n",
    b"[Request]\r\n\r\n",
    b"[Request]\r\n\r\n\r\n",
    b"[Request]\nCommand=Active",
    b"[Request]\rCommand=Active",
    b"[Request]Command=Active",
    b"Command=Active",
    b"Command=Active\r\nCommand=Active",
    b"[Requests]\r\nCommand=Active",
    b"Request\r\nCommand=Active",
    b" [Request]\r\nCommand=Active",
    b"[Request]\r\nCommand=Active\r\nName=\xff",
    b"[Request]\r\nCommand=\xc3",
    b"\xff\xfe[Request]\r\nCommand=Active",
    b"[Request]\r\nCommand=Active\r\nName=\xc0\x80",
    b"[Request]\r\nCommand=Active\r\nName=\xed\xa0\x80",
];

/// What a server makes of such a text must not depend on what it was asked before.
fn malformed(target: &mut dyn Target) -> Outcome {
    for text in MALFORMED {
        let context = text.escape_ascii().to_string();
        let mut client = Client::control(target)?;
        client.alive()?;
        client.send_packet(&Packet::text(*text).data(pattern(10)))?;
        client.expect_fatal("", 3).map_err(|stop| stop.within(&context))?;
    }
    Ok(())
}

fn malformed_on_throughput(target: &mut dyn Target) -> Outcome {
    for text in [MALFORMED[1], MALFORMED[8], MALFORMED[13]] {
        let mut client = Client::flagged(target, THROUGHPUT)?;
        client.send_packet(&Packet::text(text).data(pattern(600)))?;
        client.expect_fatal("", 3)?;
    }
    Ok(())
}

fn first_line_in_any_case(target: &mut dyn Target) -> Outcome {
    let mut client = Client::control(target)?;
    for first in ["[request]", "[REQUEST]", "[rEqUeSt]"] {
        client.ask(&Packet::text(format!("{first}\r\nCommand=Active")), "Active", 0)?;
    }
    Ok(())
}

fn keys_in_any_case(target: &mut dyn Target) -> Outcome {
    let mut client = Client::throughput(target)?;
    for (command, count) in [("command", "count"), ("COMMAND", "COUNT"), ("cOmmand", "coUNt")] {
        let packet = Packet::text(format!("[Request]\r\n{command}=CyclePacket\r\n{count}=7"));
        let reply = client.ask(&packet, "CyclePacket", 0)?;
        if reply.key("Count") != Some("8") {
            return Err(client.fail("Count=8", &format!("{reply:?}")));
        }
    }
    Ok(())
}

fn spelled_back(target: &mut dyn Target) -> Outcome {
    let mut client = Client::control(target)?;
    for name in ["aCtIvE", "active", "ACTIVE"] {
        client.ask(&Packet::request(name), name, 0)?;
    }
    for name in ["getclients", "NoSuchThing", "Größe", "[x]"] {
        client.ask(&Packet::request(name), name, 8)?;
    }
    let mut client = Client::throughput(target)?;
    client.ask(&Packet::request("cyclePACKET").key("Count", 1), "cyclePACKET", 0)?;
    client.ask(&Packet::request("cyclePACKET"), "cyclePACKET", 6).map(|_| ())
}

fn order_of_keys(target: &mut dyn Target) -> Outcome {
    let mut client = Client::throughput(target)?;
    for text in [
        "[Request]\r\nCount=7\r\nCommand=CyclePacket",
        "[Request]\r\nX=1\r\nCount=7\r\nY=\r\nCommand=CyclePacket",
    ] {
        let reply = client.ask(&Packet::text(text), "CyclePacket", 0)?;
        if reply.key("Count") != Some("8") {
            return Err(client.fail("Count=8", &format!("{reply:?}")));
        }
    }
    Ok(())
}

fn empty_lines(target: &mut dyn Target) -> Outcome {
    let mut client = Client::control(target)?;
    for text in [
        "[Request]\r\nCommand=Active\r\n",
        "[Request]\r\nCommand=Active\r\n\r\n",
        "[Request]\r\n\r\nCommand=Active",
        "[Request]\r\n\r\n\r\nCommand=Active\r\n\r\nX=1\r\n",
    ] {
        client.ask(&Packet::text(text), "Active", 0)?;
    }
    Ok(())
}

fn unknown_keys(target: &mut dyn Target) -> Outcome {
    let mut client = Client::control(target)?;
    let packet =
        Packet::request("Active").key("Color", "red").key("Grüße", "an alle").key("Item", 1);
    client.ask(&packet.key("Item", 2), "Active", 0)?;
    client
        .ask(&Packet::request("Active").key("Commander", "x").key("Code", 3), "Active", 0)
        .map(|_| ())
}

/// A value is all that follows the first '=', no less.
fn value_with_equals(target: &mut dyn Target) -> Outcome {
    let mut client = Client::control(target)?;
    client.ask(&Packet::request("Active").key("Name", "a=b==").key("Other", "="), "Active", 0)?;
    client.ask(&Packet::request("Active=x=="), "Active=x==", 8)?;
    let mut client = Client::throughput(target)?;
    client.ask(&Packet::request("CyclePacket").key("Count", "4=1"), "CyclePacket", 6).map(|_| ())
}

/// Not even right after a command that could be taken for it.
fn missing_command(target: &mut dyn Target) -> Outcome {
    let mut client = Client::control(target)?;
    let without = Packet::text("[Request]\r\nUserName=admin");
    client.ask(&without, "", 5)?;
    client.alive()?;
    client.ask(&without.data(pattern(700)), "", 5)?;
    client.alive()?;
    let mut client = Client::throughput(target)?;
    client.ask(&Packet::request("CyclePacket").key("Count", 1), "CyclePacket", 0)?;
    client.ask(&Packet::text("[Request]\r\nCount=1"), "", 5)?;
    client.ask(&Packet::request("CyclePacket").key("Count", 1), "CyclePacket", 0).map(|_| ())
}

fn bad_numbers(target: &mut dyn Target) -> Outcome {
    let mut client = Client::throughput(target)?;
    for number in [
        "",
        "abc",
        "1.5",
        "0x10",
        "1e3",
        "12a",
        "-",
        "--1",
        "1 2",
        "2147483648",
        "-2147483649",
        "4294967296",
    ] {
        let packet = Packet::request("CyclePacket").key("Count", number);
        client
            .ask(&packet, "CyclePacket", 6)
            .map_err(|stop| stop.within(&format!("Count={number}")))?;
    }
    client.ask(
        &Packet::request("CyclePacket").key("Count", "99999999999999999999"),
        "CyclePacket",
        6,
    )?;
    client.alive()
}

fn response_is_no_request(target: &mut dyn Target) -> Outcome {
    let mut client = Client::control(target)?;
    responses_are_ignored(&mut client)
}

fn response_after_login(target: &mut dyn Target) -> Outcome {
    let mut client = Client::operator(target)?;
    responses_are_ignored(&mut client)
}

/// The reply to the heartbeat behind each is the next thing to arrive, so nothing answered the response itself.
fn responses_are_ignored(client: &mut Client) -> Outcome {
    let plain = Packet::text("[Response]\r\nCommand=Reboot\r\nSeq=1\r\nCode=0");
    client.send_packet(&plain)?;
    client.alive()?;
    client.send_packet(
        &Packet::text("[rEsPoNsE]\r\nCommand=GetClients\r\nCode=0").data(pattern(600)),
    )?;
    client.alive()?;
    client.send_packet(&Packet::text("[Response]\r\nCommand=Active"))?;
    client.send_packet(&plain.data(pattern(3)))?;
    client.ask(&Packet::request("acTIVE"), "acTIVE", 0).map(|_| ())
}
