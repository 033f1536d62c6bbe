//! What Upload, Download and RemoteStream share with Control: login, packets, the way connections end.

use super::Case;
use super::rows::{Watcher, who};
use super::store::{Place, files, with_place};
use crate::client::{
    Client, DOWNLOAD, LOG_OUTPUT, REMOTE_STREAM, UPLOAD, credentials, login_request,
};
use crate::failure::{Outcome, Stop};
use crate::packet::{Packet, header, heartbeat, pattern};
use crate::target::{Login, RemoteStream, Target};

pub(super) const CASES: &[Case] = &[
    Case::new("files/login_required", "5", login_required),
    Case::new("files/login_success_and_failure", "5", login),
    Case::new("files/third_failure_closes", "5", third_failure),
    Case::new("files/heartbeats_before_and_after_login", "5", heartbeats),
    Case::new("files/unknown_command_closes", "5", unknown_command),
    Case::new("files/commands_are_spelled_back", "3", spelled_back),
    Case::new("files/bad_packets_close", "2", bad_packets),
    Case::new("files/missing_command", "3", missing_command),
    Case::new("files/data_that_no_command_takes", "2", needless_data),
    Case::new("files/responses_are_no_requests", "12", responses),
    Case::new("files/many_requests_glued", "2", glued),
    Case::new("files/half_close_gets_all_answers", "5", half_close),
    Case::new("files/one_user_on_every_protocol", "5", every_protocol),
    Case::new("files/client_list_names_the_protocols", "6", client_list).alone(),
];

const UPLOAD_COMMANDS: &[&str] =
    &["Dir", "CreateDir", "DeleteDir", "FileList", "DeleteFile", "Upload", "Data", "Eof"];
const DOWNLOAD_COMMANDS: &[&str] = &["Dir", "FileList", "Download"];
const STREAM_COMMANDS: &[&str] = &[
    "FileExists",
    "OpenFile",
    "SetSize",
    "GetSize",
    "SetPosition",
    "GetPosition",
    "Read",
    "Write",
    "Seek",
    "CloseFile",
];
/// Of other protocols, or of none.
const UNKNOWN: &[&str] = &["NoSuchThing", "GetClients", "CyclePacket", "SendFile", "Active2"];

/// The flags that are on, with the commands of each.
fn flags(target: &dyn Target) -> Result<Vec<(u8, &'static [&'static str])>, Stop> {
    files(target)?;
    credentials(target)?;
    let mut flags = vec![(UPLOAD, UPLOAD_COMMANDS), (DOWNLOAD, DOWNLOAD_COMMANDS)];
    if target.limits().remote_stream != RemoteStream::Off {
        flags.push((REMOTE_STREAM, STREAM_COMMANDS));
    }
    Ok(flags)
}

/// The flags on which nothing goes without a login.
fn closed_flags(target: &dyn Target) -> Result<Vec<(u8, &'static [&'static str])>, Stop> {
    let mut flags = flags(target)?;
    if target.limits().remote_stream == RemoteStream::Open {
        flags.pop();
    }
    Ok(flags)
}

fn on(flag: u8) -> impl Fn(Stop) -> Stop {
    move |stop| stop.within(&format!("flag {flag}"))
}

/// A request that any logged-in client may make at any time, and its code.
fn harmless(flag: u8) -> (Packet, &'static str, u32) {
    match flag {
        REMOTE_STREAM => (Packet::request("CloseFile"), "CloseFile", 10),
        _ => (Packet::request("Dir").key("ParentDir", ""), "Dir", 0),
    }
}

fn works(client: &mut Client, flag: u8) -> Outcome {
    let (request, command, code) = harmless(flag);
    client.ask(&request, command, code).map(|_| ()).map_err(on(flag))
}

/// Whether the parameters are right or wrong, and whatever data comes with it.
fn login_required(target: &mut dyn Target) -> Outcome {
    let login = credentials(target)?;
    for (flag, commands) in closed_flags(target)? {
        let mut client = Client::flagged(target, flag)?;
        for command in commands.iter().chain(UNKNOWN) {
            client.ask(&Packet::request(command), command, 8).map_err(on(flag))?;
            let full = Packet::request(command)
                .key("ParentDir", "")
                .key("DirName", "")
                .key("FileName", "../x")
                .key("Item", "x")
                .key("Count", 1)
                .data(pattern(600));
            let reply = client.ask(&full, command, 8).map_err(on(flag))?;
            if !reply.data.is_empty() || !reply.keys.is_empty() {
                return Err(client.fail("no keys and no data", &format!("{reply:?}")));
            }
        }
        client.alive()?;
        client.succeed(&login_request(&login), "Login", &[])?;
        works(&mut client, flag)?;
    }
    Ok(())
}

fn nobody(name: &str) -> Packet {
    login_request(&Login { user: name.to_owned(), digest: "0".repeat(32) })
}

fn login(target: &mut dyn Target) -> Outcome {
    let login = credentials(target)?;
    for (flag, _) in flags(target)? {
        let mut client = Client::flagged(target, flag)?;
        client
            .ask(&Packet::request("Login").key("UserName", &login.user), "Login", 6)
            .map_err(on(flag))?;
        client
            .ask(&Packet::request("Login").key("Password", &login.digest), "Login", 6)
            .map_err(on(flag))?;
        client.ask(&nobody(&format!("nobody-files-{flag}")), "Login", 7).map_err(on(flag))?;
        client.alive()?;
        let upper = Login { digest: login.digest.to_uppercase(), ..login.clone() };
        client.succeed(&login_request(&upper), "Login", &[]).map_err(on(flag))?;
        works(&mut client, flag)?;
        // Once more is no mistake.
        client.succeed(&login_request(&login), "Login", &[]).map_err(on(flag))?;
        works(&mut client, flag)?;
    }
    Ok(())
}

fn third_failure(target: &mut dyn Target) -> Outcome {
    for (flag, _) in flags(target)? {
        let packet = nobody(&format!("nobody-thrice-{flag}"));
        let mut client = Client::flagged(target, flag)?;
        for _ in 0..2 {
            client.ask(&packet, "Login", 7).map_err(on(flag))?;
            client.alive()?;
        }
        client.send_packet(&packet)?;
        client.expect_fatal("Login", 7).map_err(on(flag))?;
    }
    Ok(())
}

fn heartbeats(target: &mut dyn Target) -> Outcome {
    let login = credentials(target)?;
    for (flag, _) in flags(target)? {
        let mut client = Client::connect(target)?;
        client.send(&[vec![flag], heartbeat().bytes()].concat())?;
        client.expect_success("Active", &[], &[]).map_err(on(flag))?;
        client.succeed(&login_request(&login), "Login", &[]).map_err(on(flag))?;
        client.alive()?;
        client.succeed(&Packet::request("aCTIVE").data(pattern(600)), "aCTIVE", &[])?;
    }
    Ok(())
}

/// The commands of another protocol are unknown in this one.
fn unknown_command(target: &mut dyn Target) -> Outcome {
    let login = credentials(target)?;
    for (flag, commands) in flags(target)? {
        let all = [UNKNOWN, UPLOAD_COMMANDS, DOWNLOAD_COMMANDS, STREAM_COMMANDS].concat();
        for name in all.into_iter().filter(|name| !commands.contains(name)) {
            let mut client = Client::logged_in(target, flag, &login)?;
            client.send_packet(&Packet::request(name))?;
            client.expect_fatal(name, 1).map_err(on(flag))?;
        }
    }
    Ok(())
}

/// Whether they succeed or fail.
fn spelled_back(target: &mut dyn Target) -> Outcome {
    let login = credentials(target)?;
    for (flag, commands) in flags(target)? {
        let mut client = Client::logged_in(target, flag, &login)?;
        // Without any parameter, or without an open file.
        for command in commands.iter().filter(|command| **command != "Data") {
            let spelled: String = command
                .char_indices()
                .map(
                    |(at, c)| {
                        if at % 2 == 0 { c.to_ascii_lowercase() } else { c.to_ascii_uppercase() }
                    },
                )
                .collect();
            client.send_packet(&Packet::request(&spelled))?;
            let reply = client.reply()?;
            if reply.command != spelled || !matches!(reply.code, 6 | 10) {
                let expected = format!("a reply with Command={spelled} and Code 6 or 10");
                return Err(client.fail(&expected, &format!("{reply:?}")));
            }
        }
        if flag != REMOTE_STREAM {
            for text in [
                "[request]\r\nPARENTDIR=\r\nCOMMAND=dIR",
                "[REQUEST]\r\nX=y=z\r\ncommand=dIR\r\n\r\nparentdir=\r\n",
            ] {
                client.ask(&Packet::text(text), "dIR", 0).map_err(on(flag))?;
            }
        }
        client.alive()?;
    }
    Ok(())
}

fn bad_packets(target: &mut dyn Target) -> Outcome {
    let login = credentials(target)?;
    let long =
        Packet::request("Dir").key("ParentDir", "x".repeat(target.limits().max_command)).bytes();
    for (flag, _) in flags(target)? {
        for (bad, code) in [
            (header(u32::MAX, 10), 2),
            (header(3, 0), 2),
            (header(10, 11), 2),
            (long.clone(), 2),
            (Packet::text("[Request]").bytes(), 3),
            (Packet::text("Command=Dir\r\nParentDir=").bytes(), 3),
            (Packet::text(*b"[Request]\r\nCommand=Dir\r\nParentDir=\xff").bytes(), 3),
            (Packet::text(*b"[Request]\r\nCommand=Dir\r\nParentDir=\xc0\xae\xc0\xae").bytes(), 3),
        ] {
            let mut client = Client::flagged(target, flag)?;
            client.send(&bad)?;
            client.expect_fatal("", code).map_err(on(flag))?;
            let mut client = Client::logged_in(target, flag, &login)?;
            client.send(&[heartbeat().bytes(), bad].concat())?;
            client.expect("Active", 0)?;
            client.expect_fatal("", code).map_err(on(flag))?;
        }
    }
    Ok(())
}

/// Not even right after a command that could be taken for it.
fn missing_command(target: &mut dyn Target) -> Outcome {
    let login = credentials(target)?;
    for (flag, _) in flags(target)? {
        let without = Packet::text("[Request]\r\nParentDir=\r\nFileName=x");
        let mut client = Client::flagged(target, flag)?;
        client.ask(&without, "", 5).map_err(on(flag))?;
        client.succeed(&login_request(&login), "Login", &[])?;
        works(&mut client, flag)?;
        client.ask(&without, "", 5).map_err(on(flag))?;
        client.ask(&without.data(pattern(700)), "", 5).map_err(on(flag))?;
        works(&mut client, flag)?;
    }
    Ok(())
}

/// It is read and thrown away.
fn needless_data(target: &mut dyn Target) -> Outcome {
    let login = credentials(target)?;
    let most = target.limits().max_data;
    for (flag, _) in flags(target)? {
        let mut client = Client::logged_in(target, flag, &login)?;
        for size in [1, 600, 64 * 1024].into_iter().filter(|size| *size <= most) {
            let (request, command, code) = harmless(flag);
            let reply = client.ask(&request.data(pattern(size)), command, code)?;
            client.same_data(&[], &reply.data)?;
        }
        client.alive()?;
    }
    Ok(())
}

/// Not even those that look like a piece of a file.
fn responses(target: &mut dyn Target) -> Outcome {
    with_place(target, "responses", 1, |target, place| {
        let response = |command: &str| {
            Packet::text(format!("[Response]\r\nCommand={command}\r\nCode=0\r\nFileName=x"))
        };
        let mut client = place.uploader(target)?;
        client.send_packet(&response("Data").data(*b"no file is open"))?;
        client.alive()?;
        place.begin(&mut client, "a", 0)?;
        for command in ["Data", "Eof", "NoSuchThing"] {
            client.send_packet(&response(command).data(*b"not this"))?;
        }
        client.send_packet(&super::store::data(*b"abc"))?;
        super::store::finish(&mut client, 3)?;
        let mut reader = place.downloader(target)?;
        reader.send_packet(&response("Download"))?;
        place.fetch(&mut reader, "a", b"abc", 0, 10)
    })
}

fn glued(target: &mut dyn Target) -> Outcome {
    let login = credentials(target)?;
    for (flag, _) in flags(target)? {
        let (request, command, code) = harmless(flag);
        let mut bytes = [vec![flag], heartbeat().bytes(), login_request(&login).bytes()].concat();
        let pair = [request.bytes(), heartbeat().bytes()].concat();
        let count = (target.limits().whole_data / pair.len()).clamp(2, 100);
        bytes.extend(pair.repeat(count));
        let mut client = Client::connect(target)?;
        client.send(&bytes)?;
        client.expect_success("Active", &[], &[])?;
        client.expect_success("Login", &[], &[])?;
        for _ in 0..count {
            client.expect(command, code).map_err(on(flag))?;
            client.expect_success("Active", &[], &[]).map_err(on(flag))?;
        }
    }
    Ok(())
}

fn half_close(target: &mut dyn Target) -> Outcome {
    let login = credentials(target)?;
    for (flag, _) in flags(target)? {
        let (request, command, code) = harmless(flag);
        let packets = [vec![flag], login_request(&login).bytes(), request.bytes().repeat(3)];
        let mut client = Client::connect(target)?;
        client.send(&packets.concat())?;
        client.half_close()?;
        client.expect_success("Login", &[], &[])?;
        for _ in 0..3 {
            client.expect(command, code).map_err(on(flag))?;
        }
        client.expect_eof().map_err(on(flag))?;
        let mut client = Client::logged_in(target, flag, &login)?;
        client.half_close()?;
        client.expect_eof().map_err(on(flag))?;
    }
    Ok(())
}

/// One user may have a connection on each: none takes the place of another.
fn every_protocol(target: &mut dyn Target) -> Outcome {
    let mut clients = vec![Client::operator(target)?];
    for (flag, _) in flags(target)? {
        let login = credentials(target)?;
        clients.push(Client::logged_in(target, flag, &login)?);
    }
    for client in &mut clients {
        client.alive()?;
    }
    Ok(())
}

fn client_list(target: &mut dyn Target) -> Outcome {
    let limits = target.limits().clone();
    let user = credentials(target)?.user;
    if limits.max_sessions < 5 {
        return Err(Stop::skip("needs five connections"));
    }
    with_place(target, "listed", 1, |target, place: &Place| {
        let mut watcher = Watcher::new(target)?;
        watcher.settle_alone()?;
        let upload = place.uploader(target)?;
        let download = Client::flagged(target, DOWNLOAD)?;
        let mut expected =
            vec![watcher.who(), who(&upload, "Upload", &user), who(&download, "Download", "")];
        let mut others = Vec::new();
        if limits.remote_stream != RemoteStream::Off {
            others.push(Client::flagged(target, REMOTE_STREAM)?);
            expected.extend(others.last().map(|client| who(client, "RemoteStream", "")));
        }
        if limits.log {
            others.push(Client::flagged(target, LOG_OUTPUT)?);
            expected.extend(others.last().map(|client| who(client, "LogOutput", "")));
        }
        watcher.settle(&expected).map(|_| ())
    })
}
