//! Files on the target: where a case keeps its own, and the steps that most cases of files share.

use std::fmt::Display;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use crate::client::{Client, DOWNLOAD, REMOTE_STREAM, UPLOAD, credentials};
use crate::failure::{Outcome, Stop};
use crate::packet::{Packet, Reply};
use crate::target::{Files, Login, RemoteStream, Target};

pub(super) const NO_DIRECTORY: u32 = 0x0200_0001;
pub(super) const CANNOT_CREATE: u32 = 0x0200_0002;
pub(super) const CANNOT_DELETE_DIRECTORY: u32 = 0x0200_0003;
pub(super) const CANNOT_DELETE_FILE: u32 = 0x0200_0007;
pub(super) const WRONG_SIZE: u32 = 0x0200_0008;

/// Where a case keeps its files: a directory of its own or, where there are no directories, names of its own. Servers
/// outlive a run and cases run beside one another, so it has a name that nothing else has.
pub(super) struct Place {
    pub(super) files: Files,
    /// What no other name on the server contains.
    pub(super) tag: String,
    dir: String,
    prefix: String,
    login: Login,
}

/// Runs a case with a place for so many files and directories, and clears it however the case ends.
pub(super) fn with_place(
    target: &mut dyn Target,
    name: &str,
    entries: usize,
    run: impl FnOnce(&mut dyn Target, &Place) -> Outcome,
) -> Outcome {
    let place = Place::new(target, name, entries)?;
    if place.files.directories {
        place.make_dir(&mut place.uploader(target)?, "", &place.dir)?;
    }
    let outcome = run(target, &place);
    let cleared = place.clear(target).map_err(|stop| stop.within("clearing up"));
    outcome.and(cleared)
}

/// The same for cases that need directories within theirs.
pub(super) fn with_dirs(
    target: &mut dyn Target,
    name: &str,
    entries: usize,
    run: impl FnOnce(&mut dyn Target, &Place) -> Outcome,
) -> Outcome {
    if !files(target)?.directories {
        return Err(Stop::skip("the target has no directories"));
    }
    with_place(target, name, entries, run)
}

/// The target's files; skips the case where there are none.
pub(super) fn files(target: &dyn Target) -> Result<Files, Stop> {
    target.limits().files.clone().ok_or_else(|| Stop::skip("the target serves no files"))
}

/// A user who sees only its own files; skips the case where there is none.
pub(super) fn device(target: &dyn Target) -> Result<Login, Stop> {
    files(target)?;
    target.limits().device.clone().ok_or_else(|| Stop::skip("no device to log in as"))
}

/// Skips the case where RemoteStream is off.
pub(super) fn remote_stream(target: &dyn Target) -> Result<RemoteStream, Stop> {
    match target.limits().remote_stream {
        RemoteStream::Off => Err(Stop::skip("RemoteStream is switched off")),
        on => Ok(on),
    }
}

/// A short text that nothing else on the server has.
pub(super) fn tag() -> String {
    format!("{:08x}", RandomState::new().build_hasher().finish() as u32)
}

/// A piece of the file that is being uploaded.
pub(super) fn data(bytes: impl Into<Vec<u8>>) -> Packet {
    Packet::request("Data").data(bytes)
}

/// The end of an upload.
pub(super) fn eof(size: usize) -> Packet {
    Packet::request("Eof").key("FileSize", size)
}

/// The upload ends with this size.
pub(super) fn finish(client: &mut Client, size: usize) -> Outcome {
    client.succeed(&eof(size), "Eof", &[])
}

/// What follows the reply to Download: exactly these bytes in packets of this size.
pub(super) fn receive(client: &mut Client, bytes: &[u8], packet: usize) -> Outcome {
    client.expect_success("SendFile", &[("FileSize", &bytes.len())], &[])?;
    for (number, part) in bytes.chunks(packet).enumerate() {
        let context = format!("packet {number} of {packet} bytes");
        client.expect_success("Data", &[], part).map_err(|stop| stop.within(&context))?;
    }
    Ok(())
}

/// The names and sizes in a reply to FileList, which must be sorted.
pub(super) fn file_rows(client: &Client, reply: &Reply) -> Result<Vec<(String, usize)>, Stop> {
    let row = |item: String| {
        let (name, size) = item.split_once('\u{1}')?;
        let digits = !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| Some((name.to_owned(), size.parse().ok()?))).flatten()
    };
    let rows: Option<Vec<_>> = items(client, reply)?.into_iter().map(row).collect();
    rows.ok_or_else(|| client.fail("items of a name, 0x01 and a size", &format!("{reply:?}")))
}

/// The items of a reply, which must hold nothing else and be sorted.
pub(super) fn items(client: &Client, reply: &Reply) -> Result<Vec<String>, Stop> {
    if !reply.data.is_empty() || reply.keys.iter().any(|(key, _)| key != "Item") {
        return Err(client.fail("only Item= lines and no data", &format!("{reply:?}")));
    }
    let items: Vec<String> = reply.keys.iter().map(|(_, item)| item.clone()).collect();
    // Of a file's item the name alone is sorted by.
    let name = |item: &String| item.split('\u{1}').next().unwrap_or_default().to_owned();
    if items.is_sorted_by(|one, next| name(one) < name(next)) {
        Ok(items)
    } else {
        Err(client.fail("different items, sorted by name", &format!("{items:?}")))
    }
}

/// Asks until the answer has one of two codes, and takes the second for an end: of what a connection that is gone has
/// left open the server may not know yet.
pub(super) fn ask_until_free(
    client: &mut Client,
    request: &Packet,
    command: &str,
    busy: u32,
    patience: Duration,
) -> Result<Reply, Stop> {
    let deadline = client.now() + patience;
    loop {
        client.send_packet(request)?;
        let reply = client.reply()?;
        if reply.code != busy || client.now() > deadline {
            return match (reply.command == command, reply.code) {
                (true, 0) => Ok(reply),
                _ => Err(client.fail(&format!("{command} to succeed"), &format!("{reply:?}"))),
            };
        }
        client.sleep(Duration::from_millis(20));
    }
}

impl Place {
    fn new(target: &dyn Target, name: &str, entries: usize) -> Result<Self, Stop> {
        let files = files(target)?;
        let login = credentials(target)?;
        if entries + usize::from(files.directories) > files.max_entries {
            return Err(Stop::skip("the target has not that many places for files"));
        }
        let tag = tag();
        let (dir, prefix) = match files.directories {
            true => (format!("{name}-{tag}"), String::new()),
            false => (String::new(), format!("{tag}-")),
        };
        Ok(Self { files, tag, dir, prefix, login })
    }

    /// The directory's name; empty where it is the root.
    pub(super) fn dir(&self) -> &str {
        &self.dir
    }

    /// A file's name as it is spelled within the directory.
    pub(super) fn file(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// A path from the root.
    pub(super) fn path(&self, name: &str) -> String {
        let separator = if self.dir.is_empty() { "" } else { "/" };
        format!("{}{separator}{}", self.dir, self.file(name))
    }

    /// Bytes for a file of `wanted` bytes, fewer where the target has no room for them.
    pub(super) fn pattern(&self, wanted: usize) -> Vec<u8> {
        crate::packet::pattern(wanted.min(self.files.max_file))
    }

    pub(super) fn uploader(&self, target: &mut dyn Target) -> Result<Client, Stop> {
        Client::logged_in(target, UPLOAD, &self.login)
    }

    pub(super) fn downloader(&self, target: &mut dyn Target) -> Result<Client, Stop> {
        Client::logged_in(target, DOWNLOAD, &self.login)
    }

    /// A Download connection on which the server can have only about `window` unread bytes under way.
    pub(super) fn narrow(&self, target: &mut dyn Target, window: usize) -> Result<Client, Stop> {
        let mut client = Client::connect_narrow(target, window)?;
        client.send(&[DOWNLOAD])?;
        client.ask(&crate::client::login_request(&self.login), "Login", 0)?;
        Ok(client)
    }

    /// A RemoteStream connection, logged in where that is needed.
    pub(super) fn stream(&self, target: &mut dyn Target) -> Result<Client, Stop> {
        match remote_stream(target)? {
            RemoteStream::Open => Client::flagged(target, REMOTE_STREAM),
            _ => Client::logged_in(target, REMOTE_STREAM, &self.login),
        }
    }

    pub(super) fn upload(&self, name: &str) -> Packet {
        Packet::request("Upload").key("DirName", &self.dir).key("FileName", self.file(name))
    }

    pub(super) fn download(
        &self,
        name: &str,
        offset: impl Display,
        packet: impl Display,
    ) -> Packet {
        Packet::request("Download")
            .key("DirName", &self.dir)
            .key("FileName", self.file(name))
            .key("FileSize", offset)
            .key("PacketSize", packet)
    }

    pub(super) fn delete(&self, name: &str) -> Packet {
        Packet::request("DeleteFile").key("DirName", &self.dir).key("Item", self.file(name))
    }

    /// Opens a file for upload, of which the server must have so many bytes.
    pub(super) fn begin(&self, client: &mut Client, name: &str, stored: usize) -> Outcome {
        client.succeed(&self.upload(name), "Upload", &[("FileSize", &stored)])
    }

    /// Uploads a whole new file.
    pub(super) fn store(&self, client: &mut Client, name: &str, bytes: &[u8]) -> Outcome {
        self.begin(client, name, 0)?;
        for part in bytes.chunks(64 * 1024) {
            client.send_packet(&data(part))?;
        }
        finish(client, bytes.len())
    }

    /// Downloads a file from an offset on: these bytes, in packets of this size.
    pub(super) fn fetch(
        &self,
        client: &mut Client,
        name: &str,
        whole: &[u8],
        offset: usize,
        packet: usize,
    ) -> Outcome {
        client.succeed(&self.download(name, offset, packet), "Download", &[])?;
        receive(client, &whole[offset..], packet)
    }

    /// The file holds exactly these bytes.
    pub(super) fn holds(&self, target: &mut dyn Target, name: &str, bytes: &[u8]) -> Outcome {
        self.fetch(&mut self.downloader(target)?, name, bytes, 0, 64 * 1024)
            .map_err(|stop| stop.within(&format!("what is stored as {name}")))
    }

    /// The place's own files, with their sizes, by a connection for Upload or Download.
    pub(super) fn listed(&self, client: &mut Client) -> Result<Vec<(String, usize)>, Stop> {
        let reply =
            client.ask(&Packet::request("FileList").key("DirName", &self.dir), "FileList", 0)?;
        let own = |(name, size): (String, usize)| {
            name.strip_prefix(&self.prefix).map(|name| (name.to_owned(), size))
        };
        Ok(file_rows(client, &reply)?.into_iter().filter_map(own).collect())
    }

    /// The place holds exactly these files.
    pub(super) fn lists(&self, client: &mut Client, expected: &[(&str, usize)]) -> Outcome {
        let got = self.listed(client)?;
        if got.iter().map(|(name, size)| (name.as_str(), *size)).eq(expected.iter().copied()) {
            return Ok(());
        }
        Err(client.fail(&format!("the files {expected:?}"), &format!("{got:?}")))
    }

    pub(super) fn make_dir(&self, client: &mut Client, parent: &str, name: &str) -> Outcome {
        let request = Packet::request("CreateDir").key("ParentDir", parent).key("DirName", name);
        client.succeed(&request, "CreateDir", &[])
    }

    fn clear(&self, target: &mut dyn Target) -> Outcome {
        let patience = target.limits().reply_timeout;
        let mut client = self.uploader(target)?;
        if self.files.directories {
            let request =
                Packet::request("DeleteDir").key("ParentDir", "").key("DirName", &self.dir);
            ask_until_free(&mut client, &request, "DeleteDir", CANNOT_DELETE_DIRECTORY, patience)?;
        } else {
            for (name, _) in self.listed(&mut client)? {
                ask_until_free(&mut client, &self.delete(&name), "DeleteFile", 11, patience)?;
            }
        }
        Ok(())
    }
}
