//! Paths: what is refused in whatever place it stands, and what is a name like any other.

use super::Case;
use super::store::{NO_DIRECTORY, Place, data, finish, with_dirs, with_place};
use crate::client::{Client, DOWNLOAD, UPLOAD};
use crate::failure::{Outcome, Stop};
use crate::packet::Packet;
use crate::target::{RemoteStream, Target};

pub(super) const CASES: &[Case] = &[
    Case::new("paths/hostile", "8", hostile),
    Case::new("paths/hostile_from_a_device", "8", hostile_from_device),
    Case::new("paths/too_long", "8", too_long),
    Case::new("paths/long_but_legal", "8", long_but_legal),
    Case::new("paths/harmless_spellings", "8", harmless_spellings),
    Case::new("paths/plain_names", "8", plain_names),
    Case::new("paths/names_that_differ_in_case", "8", case_counts),
];

/// Where a path stands in a request.
#[derive(Clone, Copy, Debug)]
enum At {
    /// `DirName` of FileList, Upload, DeleteFile and Download.
    Dir,
    /// `ParentDir` of Dir, CreateDir and DeleteDir.
    Parent,
    /// `FileName` of Upload and Download.
    File,
    /// `DirName` of CreateDir and DeleteDir.
    Name,
    /// `Item` of DeleteFile.
    Item,
    /// `FileName` of RemoteStream.
    Stream,
}

const ANYWHERE: &[At] = &[At::Dir, At::Parent, At::File, At::Name, At::Item, At::Stream];
/// Where something must be named; elsewhere it is the root.
const NAMED: &[At] = &[At::File, At::Name, At::Item, At::Stream];

/// All of them get code 6. `@` stands for the case's tag, by which anything that had been made could be told.
///
/// Of the requests for one path those come first that do no harm: a server that confines nothing must be found out
/// before it is asked to delete something.
const HOSTILE: &[(&str, &[At])] = &[
    // Upwards, in every spelling.
    ("..", ANYWHERE),
    ("../", ANYWHERE),
    ("..\\", ANYWHERE),
    ("../@", ANYWHERE),
    ("..\\@", ANYWHERE),
    ("../../../../../../tmp/@", ANYWHERE),
    ("..\\..\\..\\..\\..\\..\\tmp\\@", ANYWHERE),
    ("./../@", ANYWHERE),
    (".\\..\\@", ANYWHERE),
    ("@/..", ANYWHERE),
    ("@\\..", ANYWHERE),
    ("@/../@", ANYWHERE),
    ("@\\../@", ANYWHERE),
    ("@/..\\@", ANYWHERE),
    ("@/../../@", ANYWHERE),
    ("@//..//..//@", ANYWHERE),
    ("@/./.././@", ANYWHERE),
    ("@/@/@/../../../../@", ANYWHERE),
    // Absolute.
    ("/", ANYWHERE),
    ("\\", ANYWHERE),
    ("//", ANYWHERE),
    ("/.", ANYWHERE),
    ("/@", ANYWHERE),
    ("\\@", ANYWHERE),
    ("/tmp/@", ANYWHERE),
    ("/..", ANYWHERE),
    // Of another machine, or of the system.
    ("//127.0.0.1/share/@", ANYWHERE),
    ("\\\\127.0.0.1\\share\\@", ANYWHERE),
    ("\\\\?\\C:\\@", ANYWHERE),
    ("\\\\.\\PhysicalDrive0", ANYWHERE),
    // Drives, and streams within files.
    ("C:", ANYWHERE),
    ("C:\\@", ANYWHERE),
    ("c:/@", ANYWHERE),
    ("c:@", ANYWHERE),
    ("@:stream", ANYWHERE),
    ("@::$DATA", ANYWHERE),
    ("@/@:x", ANYWHERE),
    (":", ANYWHERE),
    ("file:///tmp/@", ANYWHERE),
    // Control characters.
    ("\0", ANYWHERE),
    ("@\0", ANYWHERE),
    ("@\0.txt", ANYWHERE),
    ("@/\0/@", ANYWHERE),
    ("@\u{1}7", ANYWHERE),
    ("@\t", ANYWHERE),
    ("@\u{1b}[31m", ANYWHERE),
    ("@\u{7f}", ANYWHERE),
    ("@\r@", ANYWHERE),
    ("@\n@", ANYWHERE),
    // Nothing, in every spelling.
    ("", NAMED),
    (".", NAMED),
    ("./", NAMED),
    (".\\.", NAMED),
    ("././/.", NAMED),
];

/// The requests that have a path at this place, by flag.
fn requests(at: At, path: &str, dir: &str, tag: &str) -> Vec<(u8, &'static str, Packet)> {
    let request = Packet::request;
    let download = |dir: &str, file: &str| {
        request("Download")
            .key("DirName", dir)
            .key("FileName", file)
            .key("FileSize", 0)
            .key("PacketSize", 100)
    };
    match at {
        At::Dir => vec![
            (UPLOAD, "FileList", request("FileList").key("DirName", path)),
            (UPLOAD, "Upload", request("Upload").key("DirName", path).key("FileName", tag)),
            (UPLOAD, "Upload", request("Upload").key("Dir", path).key("FileName", tag)),
            (UPLOAD, "DeleteFile", request("DeleteFile").key("DirName", path).key("Item", tag)),
            (DOWNLOAD, "FileList", request("FileList").key("DirName", path)),
            (DOWNLOAD, "Download", download(path, tag)),
        ],
        At::Parent => vec![
            (UPLOAD, "Dir", request("Dir").key("ParentDir", path)),
            (UPLOAD, "CreateDir", request("CreateDir").key("ParentDir", path).key("DirName", tag)),
            (UPLOAD, "DeleteDir", request("DeleteDir").key("ParentDir", path).key("DirName", tag)),
            (DOWNLOAD, "Dir", request("Dir").key("ParentDir", path)),
        ],
        At::File => vec![
            (UPLOAD, "Upload", request("Upload").key("DirName", dir).key("FileName", path)),
            (UPLOAD, "Upload", request("Upload").key("DirName", "").key("FileName", path)),
            (DOWNLOAD, "Download", download(dir, path)),
        ],
        At::Name => vec![
            (UPLOAD, "CreateDir", request("CreateDir").key("ParentDir", dir).key("DirName", path)),
            (UPLOAD, "DeleteDir", request("DeleteDir").key("ParentDir", dir).key("DirName", path)),
        ],
        At::Item => {
            let delete = request("DeleteFile").key("DirName", dir);
            vec![
                (UPLOAD, "DeleteFile", delete.clone().key("Item", path)),
                (UPLOAD, "DeleteFile", delete.key("Item", tag).key("Item", path)),
            ]
        }
        At::Stream => vec![],
    }
}

/// The connections that a path can be tried on.
struct Doors {
    upload: Client,
    download: Client,
    stream: Option<Client>,
}

impl Doors {
    /// Connections that have stored the one file of the place.
    fn open(target: &mut dyn Target, place: &Place) -> Result<Self, Stop> {
        let mut upload = place.uploader(target)?;
        place.store(&mut upload, "kept", b"kept")?;
        let stream = match target.limits().remote_stream {
            RemoteStream::Off => None,
            _ => Some(place.stream(target)?),
        };
        Ok(Self { upload, download: place.downloader(target)?, stream })
    }

    /// Tries a path in a place: code 6 each time, and the connection stays.
    fn refuse(&mut self, place: &Place, at: At, path: &str) -> Outcome {
        let within = |stop: Stop| stop.within(&format!("{path:?} as {at:?}"));
        for (flag, command, packet) in requests(at, path, place.dir(), &place.tag) {
            let client = if flag == UPLOAD { &mut self.upload } else { &mut self.download };
            client.ask(&packet, command, 6).map_err(within)?;
        }
        let (At::Stream, Some(client)) = (at, &mut self.stream) else { return Ok(()) };
        let request = |command: &str| Packet::request(command).key("FileName", path);
        client.ask(&request("FileExists"), "FileExists", 6).map_err(within)?;
        for mode in [0, 1] {
            client.ask(&request("OpenFile").key("Mode", mode), "OpenFile", 6).map_err(within)?;
        }
        Ok(())
    }

    fn refuse_all(&mut self, place: &Place) -> Outcome {
        for (path, places) in HOSTILE {
            let path = path.replace('@', &place.tag);
            for at in *places {
                self.refuse(place, *at, &path)?;
            }
            // The three take turns, so that none waits too long.
            self.upload.alive()?;
            self.download.alive()?;
            if let Some(client) = &mut self.stream {
                client.alive()?;
            }
        }
        Ok(())
    }
}

/// Nothing bears the tag in the root but the place itself, and nothing is in that but the one file.
fn nothing_made(client: &mut Client, place: &Place) -> Outcome {
    place.lists(client, &[("kept", 4)])?;
    for (command, key) in [("Dir", "ParentDir"), ("FileList", "DirName")] {
        let reply = client.ask(&Packet::request(command).key(key, ""), command, 0)?;
        let own = [place.dir().to_owned(), place.file("kept") + "\u{1}4"];
        let made =
            reply.keys.iter().find(|(_, item)| item.contains(&place.tag) && !own.contains(item));
        if let Some((_, item)) = made {
            return Err(client.fail("nothing made by a refused path", &format!("{item:?}")));
        }
    }
    Ok(())
}

fn hostile(target: &mut dyn Target) -> Outcome {
    with_place(target, "hostile", 1, |target, place| {
        let mut doors = Doors::open(target, place)?;
        doors.refuse_all(place)?;
        nothing_made(&mut doors.upload, place)
    })
}

/// A device's root is below the operator's, who would see what it made outside of its own.
fn hostile_from_device(target: &mut dyn Target) -> Outcome {
    let login = super::store::device(target)?;
    with_dirs(target, "hostile-device", 1, |target, place| {
        let mut operator = place.uploader(target)?;
        place.store(&mut operator, "kept", b"kept")?;
        drop(operator);
        let mut doors = Doors {
            upload: Client::logged_in(target, UPLOAD, &login)?,
            download: Client::logged_in(target, DOWNLOAD, &login)?,
            stream: None,
        };
        doors.refuse_all(place)?;
        drop(doors);
        nothing_made(&mut place.uploader(target)?, place)
    })
}

/// A name over the limit of file systems, and a path over the server's, wherever they stand.
fn too_long(target: &mut dyn Target) -> Outcome {
    let room = target.limits().max_command;
    with_place(target, "too-long", 1, |target, place| {
        let mut doors = Doors::open(target, place)?;
        let tag = &place.tag;
        let name = tag.repeat(32);
        let paths = [
            name.clone(),
            format!("{tag}/{name}/{tag}"),
            format!("{name}\\{tag}"),
            "ü".repeat(128),
            format!("{}x", format!("{tag}/").repeat(114)),
            format!("{tag}{}", "/.".repeat(509)),
            format!("{}{tag}", "./".repeat(512)),
            tag.repeat(400),
        ];
        // The other keys need some of the longest command, too.
        let paths: Vec<_> = paths.into_iter().filter(|path| path.len() + 200 <= room).collect();
        if paths.is_empty() {
            return Err(Stop::skip("no command of the target's is that long"));
        }
        for path in &paths {
            for at in ANYWHERE {
                doors.refuse(place, *at, path)?;
            }
        }
        nothing_made(&mut doors.upload, place)
    })
}

/// The longest name is a file like any other; the longest path is looked for.
fn long_but_legal(target: &mut dyn Target) -> Outcome {
    let room = target.limits().max_command;
    with_place(target, "long-name", 1, |target, place| {
        let name = "n".repeat(place.files.max_name - place.file("").len());
        let mut client = place.uploader(target)?;
        place.store(&mut client, &name, b"abc")?;
        place.lists(&mut client, &[(&name, 3)])?;
        place.holds(target, &name, b"abc")?;
        let path = format!("{}{}", format!("{}/", "d".repeat(99)).repeat(10), "d".repeat(24));
        if place.files.directories && path.len() + 200 <= room {
            let request = Packet::request("FileList").key("DirName", &path);
            client.ask(&request, "FileList", NO_DIRECTORY)?;
        }
        client.succeed(&place.delete(&name), "DeleteFile", &[])?;
        place.lists(&mut client, &[])
    })
}

/// Separators of both kinds, repeated and trailing ones, and `.` make no difference.
fn harmless_spellings(target: &mut dyn Target) -> Outcome {
    with_dirs(target, "spellings", 3, |target, place| {
        let dir = place.dir();
        let mut client = place.uploader(target)?;
        place.make_dir(&mut client, dir, "a")?;
        place.make_dir(&mut client, &format!("{dir}\\a\\"), "b/")?;
        let mut stored = 0;
        for path in [
            format!("{dir}/a/b"),
            format!("{dir}\\a\\b"),
            format!("{dir}/a\\b/"),
            format!("{dir}//a///b\\\\"),
            format!("./{dir}/./a/.\\b/."),
            format!(".\\{dir}\\a/b\\/"),
        ] {
            let within = |stop: Stop| stop.within(&path);
            let request = Packet::request("Upload").key("DirName", &path).key("FileName", "x");
            client.succeed(&request, "Upload", &[("FileSize", &stored)]).map_err(within)?;
            client.send_packet(&data(*b"x"))?;
            stored += 1;
            finish(&mut client, stored)?;
            let list = Packet::request("FileList").key("DirName", &path);
            client
                .succeed(&list, "FileList", &[("Item", &format!("x\u{1}{stored}"))])
                .map_err(within)?;
        }
        for root in [".", "./", ".\\", "./."] {
            let reply = client.ask(&Packet::request("Dir").key("ParentDir", root), "Dir", 0)?;
            if !reply.keys.iter().any(|(_, item)| item == dir) {
                return Err(client.fail(&format!("the root at {root}"), &format!("{reply:?}")));
            }
        }
        place.holds(target, "a/b/x", &vec![b'x'; stored])
    })
}

/// Nothing is decoded, trimmed, expanded or folded.
fn plain_names(target: &mut dyn Target) -> Outcome {
    const NAMES: &[&str] = &[
        "a=b==.txt",
        "=",
        " a b ",
        "Größe-日本-😀",
        "e\u{301}",
        "\u{e9}",
        "%2e%2e%2f",
        "．．",
        "..a",
        "a..",
        "...",
        ".hidden",
        "~",
        "$HOME",
        "-rf",
        "[x]",
    ];
    with_place(target, "plain", 1, |target, place| {
        let mut client = place.uploader(target)?;
        let mut reader = place.downloader(target)?;
        for name in NAMES {
            // One at a time: a small server has no place for all of them.
            let within = |stop: Stop| stop.within(name);
            place.store(&mut client, name, name.as_bytes()).map_err(within)?;
            place.lists(&mut client, &[(name, name.len())]).map_err(within)?;
            place.fetch(&mut reader, name, name.as_bytes(), 0, 100).map_err(within)?;
            client.succeed(&place.delete(name), "DeleteFile", &[])?;
            place.lists(&mut client, &[]).map_err(within)?;
        }
        Ok(())
    })
}

fn case_counts(target: &mut dyn Target) -> Outcome {
    with_place(target, "case", 3, |target, place| {
        let mut client = place.uploader(target)?;
        for name in ["a", "A", "Ä"] {
            place.store(&mut client, name, name.as_bytes())?;
        }
        place.lists(&mut client, &[("A", 1), ("a", 1), ("Ä", 2)])?;
        let mut reader = place.downloader(target)?;
        reader.ask(&place.download("ä", 0, 10), "Download", 9)?;
        for name in ["a", "A", "Ä"] {
            place.fetch(&mut reader, name, name.as_bytes(), 0, 10)?;
        }
        client.succeed(&place.delete("A"), "DeleteFile", &[])?;
        place.lists(&mut client, &[("a", 1), ("Ä", 2)])
    })
}
