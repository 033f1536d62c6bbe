//! Files through the built command: the server's death, a full disk, dead connections that still
//! stand, and a stop in the middle.

#[allow(dead_code, reason = "each test binary uses a part of the shared module")]
mod command;

use std::fs;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use command::device::{Device, End};
use command::{PATIENCE, Server};
use pulsegate::client::wire::encode_request;
use pulsegate_conformance::pace::undisturbed;
use rustix::process::Signal;
use tempfile::TempDir;

const UPLOAD: u8 = 2;
const DOWNLOAD: u8 = 3;

/// Bytes that no shift or repetition looks like.
fn picture(len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

fn serve(files: &Path, args: &[&str]) -> Server {
    let dir = files.to_str().expect("a temporary path is UTF-8");
    Server::start(&[&["--files", dir, "--shards", "2"], args].concat())
}

/// A connection of the operator of the demo.
fn open(address: SocketAddr, flag: u8) -> Device {
    let mut device = Device::connect(address);
    device.stream.write_all(&[flag]).unwrap();
    assert_eq!(device.login("admin", "admin").code, 0);
    device
}

/// What the server has of a file, as it answers an upload of it.
fn begin(device: &mut Device, name: &str) -> usize {
    device.send("Upload", &[("DirName", ""), ("FileName", name)]).unwrap();
    let mut reply = vec![0; 8];
    device.stream.read_exact(&mut reply).unwrap();
    let len = u32::from_le_bytes(reply[4..].try_into().unwrap()) as usize;
    let mut text = vec![0; len];
    device.stream.read_exact(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    let size = text.split_once("\r\nCode=0\r\nFileSize=").unwrap_or_else(|| panic!("{text:?}")).1;
    size.parse().unwrap()
}

fn data(bytes: &[u8]) -> Vec<u8> {
    encode_request("Data", &[], bytes).unwrap()
}

fn eof(device: &mut Device, len: usize) -> command::device::Answer {
    device.ask("Eof", &[("FileSize", &len.to_string())])
}

/// Everything of a picture that the server has not.
fn finish(device: &mut Device, name: &str, picture: &[u8]) {
    let have = begin(device, name);
    for piece in picture[have..].chunks(30_000) {
        device.stream.write_all(&data(piece)).unwrap();
    }
    assert_eq!(eof(device, picture.len()).code, 0);
}

fn wait_for_size(file: &Path, size: u64) {
    let start = Instant::now();
    while fs::metadata(file).map_or(0, |found| found.len()) < size {
        assert!(start.elapsed() < PATIENCE, "{} does not grow", file.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_killed_server_goes_on_where_the_file_ends() {
    let (root, picture) = (TempDir::new().unwrap(), picture(3_000_000));
    let file = root.path().join("p.jpg");
    let mut sent = 0;
    for round in 1..4 {
        let server = serve(root.path(), &[]);
        let mut device = open(server.address, UPLOAD);
        let have = begin(&mut device, "p.jpg");
        assert_eq!(have as u64, fs::metadata(&file).unwrap().len(), "what it says is what it has");
        assert!(have >= sent, "bytes that were with the system are gone");
        assert_eq!(picture[..have], fs::read(&file).unwrap());
        // It dies while more is on its way, in the middle of a packet.
        let packet = data(&picture[have..]);
        device.stream.write_all(&packet[..round * 700_000 - sent]).unwrap();
        sent = round * 650_000;
        wait_for_size(&file, sent as u64);
        server.signal(Signal::KILL);
        assert_ne!(device.end_within(PATIENCE), End::Open);
    }
    let server = serve(root.path(), &[]);
    finish(&mut open(server.address, UPLOAD), "p.jpg", &picture);
    assert_eq!(fs::read(&file).unwrap(), picture);
    server.stop();
}

#[test]
fn the_next_connection_goes_on_while_the_dead_one_stands() {
    let (root, picture) = (TempDir::new().unwrap(), picture(400_000));
    let server = serve(root.path(), &[]);
    let mut standing = Vec::new();
    let mut sent = 0;
    for _ in 0..8 {
        let mut device = open(server.address, UPLOAD);
        assert_eq!(begin(&mut device, "p.jpg"), sent, "a byte was lost, or counted twice");
        device.stream.write_all(&data(&picture[sent..sent + 40_000])).unwrap();
        // Half a packet more; the heartbeat before it is the proof that all before it was read.
        device.beat();
        let half = data(&picture[sent + 40_000..]);
        device.stream.write_all(&half[..5000]).unwrap();
        let head = half.len() - (picture.len() - sent - 40_000);
        sent += 40_000 + 5000 - head;
        wait_for_size(&root.path().join("p.jpg"), sent as u64);
        standing.push(device);
    }
    finish(&mut open(server.address, UPLOAD), "p.jpg", &picture);
    assert_eq!(fs::read(root.path().join("p.jpg")).unwrap(), picture);
    for mut device in standing {
        assert_ne!(device.end_within(PATIENCE), End::Open, "a dead connection was left standing");
    }
    assert_eq!(server.wait_for_log("reason=\"taken-over\"", 8).len(), 8);
}

#[test]
fn a_server_that_stops_writes_what_it_has_read() {
    let (root, picture) = (TempDir::new().unwrap(), picture(900_000));
    let server = serve(root.path(), &["--file-workers", "1"]);
    let mut device = open(server.address, UPLOAD);
    begin(&mut device, "p.jpg");
    device.stream.write_all(&data(&picture)).unwrap();
    device.beat();
    server.stop();
    assert_eq!(fs::read(root.path().join("p.jpg")).unwrap(), picture);
}

#[test]
fn a_limit_is_told_at_the_end_and_the_session_stays() {
    let (root, picture) = (TempDir::new().unwrap(), picture(150_000));
    let server = serve(root.path(), &["--max-file-bytes", "100000"]);
    let mut device = open(server.address, UPLOAD);
    begin(&mut device, "p.jpg");
    for piece in picture.chunks(10_000) {
        device.stream.write_all(&data(piece)).unwrap();
    }
    let answer = eof(&mut device, picture.len());
    assert_eq!((answer.code, answer.message.contains("limit")), (4, true), "{answer:?}");
    device.beat();
    assert_eq!(fs::read(root.path().join("p.jpg")).unwrap(), picture[..100_000]);
    assert_eq!(device.ask("Eof", &[]).code, 10);
}

/// The system would kill a process that writes beyond the limit and does not expect it.
#[test]
fn a_limit_of_the_system_on_file_sizes_ends_nothing() {
    let (root, picture) = (TempDir::new().unwrap(), picture(150_000));
    let dir = root.path().to_str().unwrap();
    // In blocks of 512 bytes.
    let server = Server::start_limited("-f 200", &["--files", dir, "--shards", "1"]);
    let mut device = open(server.address, UPLOAD);
    begin(&mut device, "p.jpg");
    device.stream.write_all(&data(&picture)).unwrap();
    let answer = eof(&mut device, picture.len());
    assert_eq!((answer.code, answer.message.contains("too long")), (4, true), "{answer:?}");
    device.beat();
    assert_eq!(fs::read(root.path().join("p.jpg")).unwrap(), picture[..102_400]);
    server.stop();
}

#[test]
fn a_device_sees_its_own_directory() {
    let (root, home) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let users = home.path().join("users.toml");
    let users = users.to_str().unwrap();
    for (name, role) in [("camera-1", "device"), ("../evil", "device"), ("ops", "operator")] {
        let args = ["add", name, "--role", role, "--users", users, "--password-stdin"];
        command::user(&args, "secret\n");
    }
    let server = serve(root.path(), &["--users", users]);
    let login = |name: &str| {
        let mut device = Device::connect(server.address);
        device.stream.write_all(&[UPLOAD]).unwrap();
        assert_eq!(device.login(name, "secret").code, 0);
        device
    };
    finish(&mut login("camera-1"), "p.jpg", b"picture");
    assert_eq!(fs::read(root.path().join("camera-1/p.jpg")).unwrap(), b"picture");
    let mut ops = login("ops");
    assert_eq!(ops.ask("Dir", &[("ParentDir", "")]).items, ["camera-1"]);
    assert_eq!(ops.ask("FileList", &[("DirName", "camera-1")]).items, ["p.jpg\u{1}7"]);
    let evil = login("../evil").ask("Upload", &[("DirName", ""), ("FileName", "p.jpg")]);
    assert_eq!(evil.code, 4, "{evil:?}");
}

#[test]
fn a_download_outlives_a_slow_reader_and_is_whole() {
    let (root, picture) = (TempDir::new().unwrap(), picture(20_000_000));
    fs::write(root.path().join("p.jpg"), &picture).unwrap();
    let (got, beat) =
        undisturbed(Duration::from_millis(100), || download_slowly(root.path())).unwrap();
    assert!(beat.ends_with("Code=0") && got == picture, "{} bytes", got.len());
}

/// The file and the answer to a heartbeat behind it.
fn download_slowly(root: &Path) -> io::Result<(Vec<u8>, String)> {
    let server = serve(root, &["--idle-timeout", "500ms", "--tick", "20ms"]);
    let mut device = open(server.address, DOWNLOAD);
    let keys = [("DirName", ""), ("FileName", "p.jpg"), ("FileSize", "0"), ("PacketSize", "65536")];
    device.send("Download", &keys)?;
    device.send("Active", &[])?;
    let (mut got, mut packets, start) = (Vec::new(), 0, Instant::now());
    loop {
        let mut head = [0; 8];
        device.stream.read_exact(&mut head)?;
        let number = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap()) as usize;
        let mut text = vec![0; number(4)];
        device.stream.read_exact(&mut text)?;
        let mut bytes = vec![0; number(0) - 4 - number(4)];
        device.stream.read_exact(&mut bytes)?;
        let text = String::from_utf8(text).unwrap();
        if text.contains("Command=Active") {
            return Ok((got, text));
        }
        got.extend(bytes);
        packets += 1;
        // Slower than the idle timeout as a whole, but always moving.
        if packets % 20 == 0 && start.elapsed() < Duration::from_secs(2) {
            std::thread::sleep(Duration::from_millis(150));
        }
    }
}

/// A small file system of its own, unmounted in the end.
struct Disk(PathBuf, #[allow(dead_code, reason = "goes last")] TempDir);

impl Disk {
    fn new(size: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("disk");
        fs::create_dir(&path).unwrap();
        let options = format!("size={size}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(&path)
            .status()
            .expect("this test needs the command `mount`");
        assert!(
            mounted.success(),
            "run this test as root, where mounting is allowed (CAP_SYS_ADMIN)"
        );
        Self(path, dir)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
#[ignore = "needs root, to mount a small file system"]
fn a_full_disk_is_told_and_the_upload_resumes_when_there_is_room() {
    let (disk, picture) = (Disk::new("1m"), picture(700_000));
    fs::write(disk.0.join("ballast"), vec![0; 600_000]).unwrap();
    let server = serve(&disk.0, &[]);
    let mut device = open(server.address, UPLOAD);
    begin(&mut device, "p.jpg");
    for piece in picture.chunks(10_000) {
        device.stream.write_all(&data(piece)).unwrap();
    }
    let answer = eof(&mut device, picture.len());
    assert_eq!((answer.code, answer.message.contains("space")), (4, true), "{answer:?}");
    device.beat();
    let stored = fs::read(disk.0.join("p.jpg")).unwrap();
    assert!(!stored.is_empty() && picture.starts_with(&stored), "{} bytes", stored.len());
    fs::remove_file(disk.0.join("ballast")).unwrap();
    finish(&mut device, "p.jpg", &picture);
    assert_eq!(fs::read(disk.0.join("p.jpg")).unwrap(), picture);
    server.stop();
}

/// A quarter of the descriptors beyond 64 is the files', the others are the sessions'; of these ten, one is left for a
/// second user.
#[test]
fn files_leave_the_sessions_their_descriptors() {
    let files = tempfile::tempdir().unwrap();
    let dir = files.path().to_str().unwrap();
    let server = Server::start_limited("-n 104", &["--files", dir, "--shards", "1"]);
    let mut devices: Vec<Device> = (0..10).map(|_| open(server.address, UPLOAD)).collect();
    let (last, others) = devices.split_last_mut().unwrap();
    for (number, device) in others.iter_mut().enumerate() {
        assert_eq!(begin(device, &number.to_string()), 0);
    }
    let refused = last.ask("Upload", &[("DirName", ""), ("FileName", "last")]);
    assert_eq!(refused.code, 4);
    assert_eq!(refused.message, "too many files are open on the server, try again later");
    assert_eq!(eof(&mut others[0], 0).code, 0);
    assert_eq!(begin(last, "last"), 0);
    server.stop();
}
