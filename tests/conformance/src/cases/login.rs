//! Login, and what is allowed before it.

use super::Case;
use crate::client::{Client, credentials, login_request};
use crate::failure::Outcome;
use crate::packet::{Packet, pattern};
use crate::target::{Login, Target};

pub(super) const CASES: &[Case] = &[
    Case::new("login/success", "5", success),
    Case::new("login/digest_in_upper_case", "5", upper_case),
    Case::new("login/missing_key", "5", missing_key),
    Case::new("login/unknown_user_stays", "5", unknown_user),
    Case::new("login/third_failure_closes", "5", third_failure),
    Case::new("login/wrong_password_stays", "5", wrong_password).alone(),
    Case::new("login/password_in_clear_is_refused", "5", clear_password).alone(),
    Case::new("login/heartbeat_before_login", "5", heartbeat_before),
    Case::new("login/other_commands_before_login", "5", others_before),
    Case::new("login/glued_commands_keep_their_order", "5", glued),
    Case::new("login/unknown_command_after_login", "5", unknown_after),
];

/// A digest that is nobody's password.
const WRONG: &str = "00000000000000000000000000000000";

fn nobody(name: &str) -> Packet {
    login_request(&Login { user: name.to_owned(), digest: WRONG.to_owned() })
}

fn success(target: &mut dyn Target) -> Outcome {
    let login = credentials(target)?;
    let mut client = Client::control(target)?;
    let reply = client.ask(&login_request(&login), "Login", 0)?;
    if !reply.data.is_empty() {
        return Err(client.fail("no data", &format!("{reply:?}")));
    }
    client.alive()?;
    client.ask(&Packet::request("GetClients"), "GetClients", 0)?;
    let mut client = Client::control(target)?;
    client.ask(&login_request(&login).key("Requests", 1), "Login", 0)?;
    client.alive()?;
    let mut client = Client::control(target)?;
    let text = format!(
        "[request]\r\npassword={}\r\nX=y=z\r\nUSERNAME={}\r\nCOMMAND=lOGIN",
        login.digest, login.user
    );
    client.ask(&Packet::text(text).data(pattern(600)), "lOGIN", 0)?;
    client.ask(&Packet::request("GetClients"), "GetClients", 0).map(|_| ())
}

fn upper_case(target: &mut dyn Target) -> Outcome {
    let login = credentials(target)?;
    for digest in [login.digest.to_uppercase(), half_upper(&login.digest)] {
        let mut client = Client::control(target)?;
        client.ask(&login_request(&Login { digest, ..login.clone() }), "Login", 0)?;
    }
    Ok(())
}

fn half_upper(digest: &str) -> String {
    let (head, tail) = digest.split_at(digest.len() / 2);
    head.to_uppercase() + tail
}

fn missing_key(target: &mut dyn Target) -> Outcome {
    let login = credentials(target)?;
    let mut client = Client::control(target)?;
    client.ask(&Packet::request("Login").key("Password", &login.digest), "Login", 6)?;
    client.ask(&Packet::request("Login").key("UserName", &login.user), "Login", 6)?;
    client.alive()?;
    client.ask(&Packet::request("GetClients"), "GetClients", 8)?;
    client.ask(&login_request(&login), "Login", 0).map(|_| ())
}

fn unknown_user(target: &mut dyn Target) -> Outcome {
    let login = credentials(target)?;
    let mut client = Client::control(target)?;
    client.ask(&nobody("nobody-known"), "Login", 7)?;
    client.alive()?;
    client.ask(&Packet::request("GetClients"), "GetClients", 8)?;
    client.ask(&login_request(&login), "Login", 0).map(|_| ())
}

fn third_failure(target: &mut dyn Target) -> Outcome {
    credentials(target)?;
    let mut client = Client::control(target)?;
    for _ in 0..2 {
        client.ask(&nobody("nobody-thrice"), "Login", 7)?;
        client.alive()?;
    }
    client.send_packet(&nobody("nobody-thrice"))?;
    client.expect_fatal("Login", 7)?;
    // The count belongs to the connection: a new one starts anew.
    let mut client = Client::control(target)?;
    client.ask(&nobody("nobody-thrice"), "Login", 7)?;
    client.alive()
}

fn wrong_password(target: &mut dyn Target) -> Outcome {
    let login = credentials(target)?;
    let mut client = Client::control(target)?;
    client.ask(&login_request(&Login { digest: WRONG.to_owned(), ..login.clone() }), "Login", 7)?;
    client.alive()?;
    client.ask(&Packet::request("GetClients"), "GetClients", 8)?;
    client.ask(&login_request(&login), "Login", 0)?;
    client.ask(&Packet::request("GetClients"), "GetClients", 0).map(|_| ())
}

/// No digest at all may be a bad parameter or a wrong password; it is no login either way.
fn clear_password(target: &mut dyn Target) -> Outcome {
    let login = credentials(target)?;
    for password in ["admin", "", &login.digest[1..]] {
        let mut client = Client::control(target)?;
        client.send_packet(&login_request(&Login {
            user: login.user.clone(),
            digest: password.to_owned(),
        }))?;
        let reply = client.reply()?;
        if !matches!(reply.code, 6 | 7) {
            return Err(client.fail("code 6 or 7", &format!("{reply:?}")));
        }
        client.ask(&Packet::request("GetClients"), "GetClients", 8)?;
        // A success forgets the failure, so that what runs next is not slowed.
        client.ask(&login_request(&login), "Login", 0)?;
    }
    Ok(())
}

fn heartbeat_before(target: &mut dyn Target) -> Outcome {
    let mut client = Client::control(target)?;
    for _ in 0..3 {
        client.alive()?;
    }
    Ok(())
}

fn others_before(target: &mut dyn Target) -> Outcome {
    let mut client = Client::control(target)?;
    for name in ["GetClients", "Dir", "Upload", "CyclePacket", "NoSuchThing", "Login2"] {
        client.ask(&Packet::request(name).key("Offset", "abc"), name, 8)?;
        let reply = client.ask(&Packet::request(name).data(pattern(600)), name, 8)?;
        if !reply.data.is_empty() {
            return Err(client.fail("no data", &format!("{reply:?}")));
        }
    }
    client.alive()
}

/// Checking a password may take its time; what stands behind it waits for the outcome.
fn glued(target: &mut dyn Target) -> Outcome {
    let login = credentials(target)?;
    let list = Packet::request("GetClients").key("Limit", 1);
    let packets = [
        list.bytes(),
        login_request(&login).bytes(),
        list.bytes(),
        Packet::request("Active").bytes(),
    ];
    let mut client = Client::control(target)?;
    client.send(&packets.concat())?;
    for (command, code) in [("GetClients", 8), ("Login", 0), ("GetClients", 0), ("Active", 0)] {
        client.expect(command, code)?;
    }
    let mut client = Client::control(target)?;
    client.send(
        &[
            nobody("nobody-glued").bytes(),
            list.bytes(),
            login_request(&login).bytes(),
            list.bytes(),
        ]
        .concat(),
    )?;
    for (command, code) in [("Login", 7), ("GetClients", 8), ("Login", 0), ("GetClients", 0)] {
        client.expect(command, code)?;
    }
    client.alive()
}

fn unknown_after(target: &mut dyn Target) -> Outcome {
    for name in ["NoSuchThing", "CyclePacket", "Dir", "Active2"] {
        let mut client = Client::operator(target)?;
        client.send_packet(&Packet::request(name))?;
        client.expect_fatal(name, 1)?;
    }
    Ok(())
}
