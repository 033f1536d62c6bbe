//! Whole byte strings as clients in the field send and expect them.

use super::Case;
use crate::client::{CONTROL, Client, THROUGHPUT, credentials};
use crate::failure::{Outcome, Stop};
use crate::target::{Login, Target};

pub(super) const CASES: &[Case] = &[
    Case::new("vectors/heartbeat", "13", heartbeat),
    Case::new("vectors/login", "13", login),
    Case::new("vectors/get_clients_before_login", "13", get_clients_before_login),
    Case::new("vectors/throughput", "13", throughput),
];

const HEARTBEAT: &[u8] = b"\x1d\0\0\0\x19\0\0\0[Request]\r\nCommand=Active";
const HEARTBEAT_REPLY: &[u8] = b"\x26\0\0\0\x22\0\0\0[Response]\r\nCommand=Active\r\nCode=0";
const LOGIN: &[u8] = b"\x57\0\0\0\x53\0\0\0[Request]\r\nCommand=Login\r\n\
    UserName=admin\r\nPassword=21232f297a57a5a743894a0e4a801fc3";
const LOGIN_REPLY: &[u8] = b"\x25\0\0\0\x21\0\0\0[Response]\r\nCommand=Login\r\nCode=0";
const GET_CLIENTS: &[u8] = b"\x21\0\0\0\x1d\0\0\0[Request]\r\nCommand=GetClients";
const GET_CLIENTS_REPLY: &[u8] =
    b"\x34\0\0\0\x30\0\0\0[Response]\r\nCommand=GetClients\r\nCode=8\r\nMessage=";
const CYCLE: &[u8] =
    b"\x2f\0\0\0\x28\0\0\0[Request]\r\nCommand=CyclePacket\r\nCount=41\x00\xff\x7f";
const CYCLE_REPLY: &[u8] =
    b"\x38\0\0\0\x31\0\0\0[Response]\r\nCommand=CyclePacket\r\nCode=0\r\nCount=42\x00\xff\x7f";

fn glued(flag: u8, packet: &[u8]) -> Vec<u8> {
    [&[flag], packet].concat()
}

fn heartbeat(target: &mut dyn Target) -> Outcome {
    let mut client = Client::connect(target)?;
    client.send(&glued(CONTROL, HEARTBEAT))?;
    client.expect_bytes(HEARTBEAT_REPLY)?;
    client.send(HEARTBEAT)?;
    client.expect_bytes(HEARTBEAT_REPLY)
}

fn login(target: &mut dyn Target) -> Outcome {
    if credentials(target)? != Login::new("admin", "admin") {
        return Err(Stop::skip("the user is not admin with the password admin"));
    }
    let mut client = Client::control(target)?;
    client.send(LOGIN)?;
    client.expect_bytes(LOGIN_REPLY)?;
    client.send(HEARTBEAT)?;
    client.expect_bytes(HEARTBEAT_REPLY)
}

/// The text of the message is the server's own, so the two lengths may be larger and more may follow `Message=`.
fn get_clients_before_login(target: &mut dyn Target) -> Outcome {
    let mut client = Client::control(target)?;
    client.send(GET_CLIENTS)?;
    let reply = client.expect("GetClients", 8)?;
    if !reply.keys.is_empty() || !reply.data.is_empty() {
        return Err(client.fail("no further keys and no data", &format!("{reply:?}")));
    }
    if reply.message.as_deref() == Some("") {
        // Nothing is left open then: the same once more, byte for byte.
        client.send(GET_CLIENTS)?;
        client.expect_bytes(GET_CLIENTS_REPLY)?;
    }
    client.send(HEARTBEAT)?;
    client.expect_bytes(HEARTBEAT_REPLY)
}

fn throughput(target: &mut dyn Target) -> Outcome {
    let mut client = Client::connect(target)?;
    client.send(&glued(THROUGHPUT, CYCLE))?;
    client.expect_bytes(CYCLE_REPLY)?;
    client.send(CYCLE)?;
    client.expect_bytes(CYCLE_REPLY)
}
