//! Wrong input of people and of peers: told, and harmless.

#[allow(dead_code, reason = "each test binary uses a part of the shared module")]
mod command;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use command::device::{Device, End};
use command::{PATIENCE, Server, run, user};
use rustix::process::{Resource, getrlimit};

/// The command must end with a failure that names all parts, and print nothing to standard output.
fn refused(args: &[&str], parts: &[&str]) {
    let output = run(args, "");
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code().is_some_and(|code| code != 0), "{args:?}: {message}");
    assert!(output.stdout.is_empty(), "{args:?}: {output:?}");
    for part in parts {
        assert!(message.contains(part), "{args:?}: no {part:?} in {message}");
    }
}

#[test]
fn bad_flags_are_named() {
    for (args, parts) in [
        (&["--nonsense"][..], &["--nonsense"][..]),
        (&["--listen", "nowhere"], &["--listen", "nowhere"]),
        (&["--listen", "127.0.0.1"], &["--listen", "127.0.0.1"]),
        (&["--tick", "soon"], &["--tick", "soon", "500ms"]),
        (&["--tick", "1h"], &["tick", "10s"]),
        (&["--idle-timeout", "60"], &["--idle-timeout", "60s"]),
        (&["--idle-timeout", "20ms"], &["idle-timeout", "20ms", "tick"]),
        (&["--shards", "0"], &["shards", "1024"]),
        (&["--max-sessions", "0"], &["max-sessions", "from 1"]),
        (&["--max-sessions", "many"], &["--max-sessions", "many"]),
        (&["--max-command", "9"], &["max-command", "64"]),
        (&["--log", "loud"], &["--log", "loud", "debug"]),
        (&["--listen", "192.0.2.1:1"], &["192.0.2.1:1", "no interface"]),
    ] {
        refused(&[&["serve"], args].concat(), parts);
    }
}

#[test]
fn a_bad_settings_file_is_told_by_file_line_and_key() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("settings.toml");
    let file = path.to_str().unwrap();
    refused(&["serve", "--config", file], &[file, "cannot read the settings file"]);
    for (text, parts) in [
        ("tick = \"1s\"\nidel-timeout = \"1s\"\n", &["line 2", "idel-timeout"][..]),
        ("\n\nidle-timeout = \"soon\"\n", &["line 3", "idle-timeout", "60s"]),
        ("shards = \"two\"\n", &["line 1", "shards"]),
        ("# a remark\nlisten = \"localhost\"\n", &["line 2", "listen"]),
        ("shards = = 2\n", &["line 1", "shards"]),
        ("log = \"loud\"\n", &["line 1", "log", "debug"]),
    ] {
        std::fs::write(&path, text).unwrap();
        refused(&["serve", "--config", file], &[&[file], parts].concat());
    }
}

#[test]
fn a_bad_users_file_is_told_with_the_way_out() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("users.toml");
    let file = path.to_str().unwrap();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--users", file];
    refused(&serve, &[file, "not found", "pulsegate user add"]);
    user(&["add", "meter", "--users", file, "--generate"], "");
    let good = std::fs::read_to_string(&path).unwrap();
    let set_mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    set_mode(&path, 0o644);
    refused(&serve, &[file, "644", "chmod 600"]);
    set_mode(&path, 0o600);
    let line = |part: &str| good.lines().position(|line| line.starts_with(part)).unwrap() + 1;
    for (from, to, key) in [
        ("role = \"device\"", "role = \"boss\"", "role"),
        ("name = \"meter\"", "name = 7", "name"),
        ("hash = \"", "hash = \"x", "hash"),
    ] {
        assert!(good.contains(from), "{good}");
        std::fs::write(&path, good.replace(from, to)).unwrap();
        refused(&serve, &[file, &format!("line {}", line(key)), key]);
    }
    std::fs::write(&path, good).unwrap();
    Server::start(&["--users", file]).stop();
}

#[test]
fn a_bad_directory_for_files_is_told_with_the_way_out() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().to_str().unwrap();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--files"];
    let refused_with = |more: &[&str], parts: &[&str]| refused(&[&serve, more].concat(), parts);
    let missing = directory.path().join("missing");
    refused_with(&[missing.to_str().unwrap()], &["missing", "create it"]);
    let users = directory.path().join("users.toml");
    let file = users.to_str().unwrap();
    user(&["add", "meter", "--users", file, "--generate"], "");
    refused_with(&[file], &[file, "not a directory"]);
    // Whoever writes files could make themselves an operator.
    refused_with(&[root, "--users", file], &[file, root, "elsewhere"]);
    refused_with(&[root, "--file-workers", "0"], &["file-workers = 0"]);
    refused(&["serve", "--remote-stream", "login"], &["remote-stream", "--files"]);
}

#[test]
fn the_demo_user_exists_on_loopback_only() {
    let mut server = Server::start(&["--listen", "0.0.0.0:0"]);
    assert!(server.address.ip().is_unspecified());
    server.address.set_ip([127, 0, 0, 1].into());
    let answer = Device::beating(server.address).login("admin", "admin");
    assert_eq!(answer.code, 7, "{answer:?}");
    let told = server.wait_for_log("nobody can log in", 1);
    assert!(told[0].contains("pulsegate user add") && told[0].contains("--users"), "{told:?}");
    server.stop();

    let server = Server::start(&[]);
    Device::logged_in(server.address, "admin", "admin");
    server.wait_for_log("admin may log in", 1);
    server.stop();
}

#[test]
fn more_sessions_than_descriptors_are_warned_of() {
    let server = Server::start_limited("-n 200", &["--max-sessions", "1000"]);
    let told = server.wait_for_log("descriptor limit", 1);
    for part in ["WARN", "136 sessions", "ulimit -n", "max_sessions=1000", "descriptors=200"] {
        assert!(told[0].contains(part), "{part} in {told:?}");
    }
    server.stop();
    let server = Server::start_limited("-n 200", &["--max-sessions", "136"]);
    let log = server.stop();
    assert!(!log.iter().any(|line| line.contains("descriptor limit")), "{log:#?}");
}

/// The same on every run, and without pattern.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

/// Plain noise, noise behind a flag, noise behind a header that is right, a command of noise.
fn garbage(noise: &mut Noise) -> Vec<u8> {
    let len = (noise.next() % 3000) as usize + 1;
    let mut bytes = noise.bytes(len);
    let (flag, kind) = ([8, 5, 2][(noise.next() % 3) as usize], noise.next() % 4);
    if kind > 0 {
        bytes.insert(0, flag);
    }
    if kind > 1 {
        let total = u32::try_from(len).unwrap() + 4;
        let command = if kind == 2 { noise.next() % u64::from(total - 3) } else { 20 % len as u64 };
        let command = u32::try_from(command).unwrap();
        let header = [total.to_le_bytes(), command.to_le_bytes()].concat();
        bytes.splice(1..1, header);
    }
    bytes
}

#[test]
fn garbage_harms_nobody_else() {
    assert!(getrlimit(Resource::Nofile).current.is_none_or(|most| most >= 256));
    let server = Server::start(&["--shards", "2"]);
    let mut devices: Vec<_> = (0..4).map(|_| Device::beating(server.address)).collect();
    let mut noise = Noise(7);
    let mut open = Vec::new();
    for round in 0..600 {
        let mut device = Device::connect(server.address);
        // It may be thrown out before all is written.
        let _ = device.stream.write_all(&garbage(&mut noise));
        // Some stay, in the middle of what they promised.
        if round % 4 == 0 {
            open.push(device);
        }
        if round % 10 == 0 {
            devices.iter_mut().for_each(Device::beat);
        }
    }
    let mut wrong = Device::connect(server.address);
    wrong.stream.write_all(&[77, 1, 2, 3]).unwrap();
    assert_ne!(wrong.end_within(PATIENCE), End::Open);
    devices.iter_mut().for_each(Device::beat);
    drop((devices, open));
    let log = server.stop();
    let closed = |reason: &str| {
        log.iter().filter(|line| line.contains(&format!("reason=\"{reason}\""))).count()
    };
    assert!(closed("bad-packet") > 50 && closed("bad-flag") > 50, "{log:#?}");
    assert!(!log.iter().any(|line| line.contains("panicked")), "{log:#?}");
}
