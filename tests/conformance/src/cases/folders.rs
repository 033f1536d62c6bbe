//! Directories and lists, on Upload and Download.

use super::Case;
use super::store::{
    CANNOT_CREATE, CANNOT_DELETE_DIRECTORY, CANNOT_DELETE_FILE, NO_DIRECTORY, Place, data,
    file_rows, files, finish, items, with_dirs, with_place,
};
use crate::client::{Client, DOWNLOAD, UPLOAD};
use crate::failure::Outcome;
use crate::packet::Packet;
use crate::target::{Login, Target};

pub(super) const CASES: &[Case] = &[
    Case::new("folders/dir_lists_directories", "8", dir_lists),
    Case::new("folders/file_list_is_exact", "8", file_list),
    Case::new("folders/long_lists_are_exact", "8", long_lists),
    Case::new("folders/download_lists_the_same", "9", download_lists),
    Case::new("folders/create_dir_is_idempotent", "8", create_again),
    Case::new("folders/create_dir_over_a_file", "8", create_over_file),
    Case::new("folders/delete_dir_takes_all_in_it", "8", delete_dir),
    Case::new("folders/delete_dir_refused", "8", delete_dir_refused),
    Case::new("folders/delete_file", "8", delete_file),
    Case::new("folders/delete_file_refused", "8", delete_file_refused),
    Case::new("folders/missing_directory", "8", missing),
    Case::new("folders/missing_keys", "8", missing_keys),
    Case::new("folders/upload_over_a_directory", "8", upload_over_dir),
    Case::new("folders/device_sees_only_its_own", "8", device),
];

fn dir(parent: &str) -> Packet {
    Packet::request("Dir").key("ParentDir", parent)
}

fn file_list(target: &mut dyn Target) -> Outcome {
    with_place(target, "file-list", 3, |target, place| {
        let mut client = place.uploader(target)?;
        place.lists(&mut client, &[])?;
        let whole = place.pattern(1234);
        place.store(&mut client, "b", &whole)?;
        place.store(&mut client, "a.bin", b"x")?;
        place.store(&mut client, "Ab=c d.e", b"")?;
        let mut expected = [("b", whole.len()), ("a.bin", 1), ("Ab=c d.e", 0)];
        expected.sort();
        place.lists(&mut client, &expected)?;
        client.succeed(&place.delete("a.bin"), "DeleteFile", &[])?;
        place.lists(&mut client, &[expected[0], expected[2]])
    })
}

fn make_dirs(place: &Place, client: &mut Client, names: &[&str]) -> Outcome {
    names.iter().try_for_each(|name| place.make_dir(client, place.dir(), name))
}

/// The directory at this path holds exactly these directories.
fn dirs_are(client: &mut Client, parent: &str, expected: &[&str]) -> Outcome {
    let reply = client.ask(&dir(parent), "Dir", 0)?;
    let got = items(client, &reply)?;
    if got == expected {
        return Ok(());
    }
    Err(client.fail(&format!("the directories {expected:?}"), &format!("{got:?}")))
}

/// Files are no directories, and what is deeper down is not listed.
fn dir_lists(target: &mut dyn Target) -> Outcome {
    with_dirs(target, "dir", 6, |target, place| {
        let mut client = place.uploader(target)?;
        dirs_are(&mut client, place.dir(), &[])?;
        make_dirs(place, &mut client, &["b", "a b", "a", "Größe"])?;
        place.make_dir(&mut client, &format!("{}/a", place.dir()), "deep")?;
        place.store(&mut client, "file", b"x")?;
        dirs_are(&mut client, place.dir(), &["Größe", "a", "a b", "b"])?;
        dirs_are(&mut client, &format!("{}\\a", place.dir()), &["deep"])?;
        dirs_are(&mut client, &format!("{}/a/deep", place.dir()), &[])?;
        place.lists(&mut client, &[("file", 1)])?;
        let reply = client.ask(&dir(""), "Dir", 0)?;
        let root = items(&client, &reply)?;
        if !root.iter().any(|item| item == place.dir()) {
            return Err(client.fail(&format!("{} in the root", place.dir()), &format!("{root:?}")));
        }
        Ok(())
    })
}

/// As many as the target has room for, with names as long as it takes them: more than its buffers hold.
fn long_lists(target: &mut dyn Target) -> Outcome {
    let room = files(target)?;
    let count = room.max_entries.min(40) - usize::from(room.directories);
    with_place(target, "long-list", count, |target, place| {
        let mut client = place.uploader(target)?;
        let room = place.files.max_name - place.file("").len();
        let names: Vec<String> =
            (10..10 + count).map(|number| number.to_string().repeat(room / 2)).collect();
        for (size, name) in names.iter().enumerate() {
            place.store(&mut client, name, &place.pattern(size))?;
        }
        let expected: Vec<_> =
            names.iter().enumerate().map(|(size, name)| (name.as_str(), size)).collect();
        // Several glued: each is whole, and in its turn.
        let request = Packet::request("FileList").key("DirName", place.dir()).bytes();
        client.send(&[request.repeat(3), Packet::request("Active").bytes()].concat())?;
        for _ in 0..3 {
            let reply = client.expect("FileList", 0)?;
            let rows = file_rows(&client, &reply)?;
            let own = rows.iter().filter(|(name, _)| name.starts_with(&place.file("")));
            let own: Vec<_> =
                own.map(|(name, size)| (&name[place.file("").len()..], *size)).collect();
            if own != expected {
                return Err(client.fail(&format!("{count} certain files"), &format!("{own:?}")));
            }
        }
        client.expect("Active", 0).map(|_| ())
    })
}

fn download_lists(target: &mut dyn Target) -> Outcome {
    with_dirs(target, "lists", 5, |target, place| {
        let mut client = place.uploader(target)?;
        make_dirs(place, &mut client, &["b", "a"])?;
        place.store(&mut client, "y", b"12")?;
        place.store(&mut client, "x", b"")?;
        let mut client = place.downloader(target)?;
        dirs_are(&mut client, place.dir(), &["a", "b"])?;
        place.lists(&mut client, &[("x", 0), ("y", 2)])?;
        for path in ["none", "a/none"] {
            let path = format!("{}/{path}", place.dir());
            client.ask(&dir(&path), "Dir", NO_DIRECTORY)?;
            let list = Packet::request("FileList").key("DirName", &path);
            client.ask(&list, "FileList", NO_DIRECTORY)?;
        }
        client.ask(&Packet::request("Dir"), "Dir", 6)?;
        client.ask(&Packet::request("FileList"), "FileList", 6)?;
        client.alive()
    })
}

/// A device repeats what got no answer. What is in the directory stays.
fn create_again(target: &mut dyn Target) -> Outcome {
    with_dirs(target, "create", 3, |target, place| {
        let inner = format!("{}/a", place.dir());
        let mut client = place.uploader(target)?;
        for _ in 0..3 {
            place.make_dir(&mut client, place.dir(), "a")?;
            place.make_dir(&mut client, &inner, "b")?;
        }
        dirs_are(&mut client, place.dir(), &["a"])?;
        dirs_are(&mut client, &inner, &["b"])
    })
}

fn create_over_file(target: &mut dyn Target) -> Outcome {
    with_dirs(target, "create-over", 2, |target, place| {
        let mut client = place.uploader(target)?;
        place.store(&mut client, "a", b"abc")?;
        let request =
            Packet::request("CreateDir").key("ParentDir", place.dir()).key("DirName", "a");
        client.ask(&request, "CreateDir", CANNOT_CREATE)?;
        client.alive()?;
        place.holds(target, "a", b"abc")
    })
}

fn delete(parent: &str, name: &str) -> Packet {
    Packet::request("DeleteDir").key("ParentDir", parent).key("DirName", name)
}

fn delete_dir(target: &mut dyn Target) -> Outcome {
    with_dirs(target, "delete", 8, |target, place| {
        let mut client = place.uploader(target)?;
        make_dirs(place, &mut client, &["a", "b"])?;
        let inner = format!("{}/a", place.dir());
        place.make_dir(&mut client, &inner, "deep")?;
        place.make_dir(&mut client, &format!("{inner}/deep"), "deeper")?;
        for path in ["a/x", "a/deep/y", "a/deep/deeper/z", "b/kept"] {
            place.store(&mut client, path, b"abc")?;
        }
        client.succeed(&delete(place.dir(), "a"), "DeleteDir", &[])?;
        dirs_are(&mut client, place.dir(), &["b"])?;
        client.ask(&dir(&inner), "Dir", NO_DIRECTORY)?;
        client.ask(&delete(place.dir(), "a"), "DeleteDir", CANNOT_DELETE_DIRECTORY)?;
        place.make_dir(&mut client, place.dir(), "a")?;
        dirs_are(&mut client, &inner, &[])?;
        client.succeed(&delete(place.dir(), "a"), "DeleteDir", &[])?;
        place.holds(target, "b/kept", b"abc")
    })
}

/// What is not there, what is no directory, and what somebody is uploading into, however deep.
fn delete_dir_refused(target: &mut dyn Target) -> Outcome {
    with_dirs(target, "delete-refused", 5, |target, place| {
        let mut client = place.uploader(target)?;
        make_dirs(place, &mut client, &["a"])?;
        place.make_dir(&mut client, &format!("{}/a", place.dir()), "deep")?;
        place.store(&mut client, "file", b"abc")?;
        place.store(&mut client, "a/kept", b"kept")?;
        for name in ["none", "file"] {
            let request = delete(place.dir(), name);
            client.ask(&request, "DeleteDir", CANNOT_DELETE_DIRECTORY)?;
        }
        let mut uploader = place.uploader(target)?;
        place.begin(&mut uploader, "a/deep/b", 0)?;
        uploader.send_packet(&data(*b"12"))?;
        for name in ["a", "a/deep"] {
            let request = delete(place.dir(), name);
            client.ask(&request, "DeleteDir", CANNOT_DELETE_DIRECTORY)?;
        }
        uploader.send_packet(&data(*b"3"))?;
        finish(&mut uploader, 3)?;
        place.holds(target, "a/deep/b", b"123")?;
        place.holds(target, "a/kept", b"kept")?;
        client.succeed(&delete(place.dir(), "a"), "DeleteDir", &[])?;
        place.holds(target, "file", b"abc")
    })
}

/// One, several, and such as are not there: all are gone in the end. No name is a pattern.
fn delete_file(target: &mut dyn Target) -> Outcome {
    with_place(target, "delete-file", 4, |target, place| {
        let mut client = place.uploader(target)?;
        for name in ["a", "b", "c", "d=e"] {
            place.store(&mut client, name, b"abc")?;
        }
        client.succeed(&place.delete("none"), "DeleteFile", &[])?;
        client.succeed(&place.delete("*"), "DeleteFile", &[])?;
        client.succeed(&place.delete("?"), "DeleteFile", &[])?;
        place.lists(&mut client, &[("a", 3), ("b", 3), ("c", 3), ("d=e", 3)])?;
        client.succeed(&place.delete("b"), "DeleteFile", &[])?;
        client.succeed(&place.delete("b"), "DeleteFile", &[])?;
        let several = ["d=e", "none", "a", "a"]
            .into_iter()
            .fold(Packet::request("DeleteFile").key("DirName", place.dir()), |packet, name| {
                packet.key("iTEM", place.file(name))
            });
        client.succeed(&several, "DeleteFile", &[])?;
        place.lists(&mut client, &[("c", 3)])
    })
}

fn delete_file_refused(target: &mut dyn Target) -> Outcome {
    with_place(target, "delete-busy", 2, |target, place| {
        let mut uploader = place.uploader(target)?;
        place.begin(&mut uploader, "a", 0)?;
        uploader.send_packet(&data(*b"12"))?;
        let mut client = place.uploader(target)?;
        client.ask(&place.delete("a"), "DeleteFile", 11)?;
        uploader.send_packet(&data(*b"3"))?;
        finish(&mut uploader, 3)?;
        place.holds(target, "a", b"123")?;
        client.succeed(&place.delete("a"), "DeleteFile", &[])?;
        place.lists(&mut client, &[])?;
        if place.files.directories {
            make_dirs(place, &mut client, &["dir"])?;
            client.ask(&place.delete("dir"), "DeleteFile", CANNOT_DELETE_FILE)?;
            dirs_are(&mut client, place.dir(), &["dir"])?;
        }
        client.alive()
    })
}

/// Code 0x02000001 wherever a command looks into a directory that is not there, or that is a file.
fn missing(target: &mut dyn Target) -> Outcome {
    with_place(target, "missing", 1, |target, place| {
        let mut client = place.uploader(target)?;
        place.store(&mut client, "file", b"abc")?;
        for path in [place.path("none"), format!("{}/none", place.path("none")), place.path("file")]
        {
            let requests = [
                ("Dir", dir(&path)),
                ("FileList", Packet::request("FileList").key("DirName", &path)),
                ("Upload", Packet::request("Upload").key("DirName", &path).key("FileName", "a")),
                (
                    "CreateDir",
                    Packet::request("CreateDir").key("ParentDir", &path).key("DirName", "a"),
                ),
                ("DeleteDir", delete(&path, "a")),
                (
                    "DeleteFile",
                    Packet::request("DeleteFile").key("DirName", &path).key("Item", "a"),
                ),
            ];
            for (command, request) in requests {
                client.ask(&request, command, NO_DIRECTORY)?;
            }
            // Nothing has been made on the way.
            place.lists(&mut client, &[("file", 3)])?;
        }
        client.alive()
    })
}

/// Code 6, and the connection stays. An empty value is no missing one where the root may be meant.
fn missing_keys(target: &mut dyn Target) -> Outcome {
    with_place(target, "keys", 1, |target, place| {
        let request = Packet::request;
        let mut client = place.uploader(target)?;
        for (command, packet) in [
            ("Dir", request("Dir")),
            ("Dir", request("Dir").key("DirName", "")),
            ("CreateDir", request("CreateDir").key("DirName", &place.tag)),
            ("CreateDir", request("CreateDir").key("ParentDir", "")),
            ("DeleteDir", request("DeleteDir").key("DirName", &place.tag)),
            ("DeleteDir", request("DeleteDir").key("ParentDir", "")),
            ("FileList", request("FileList")),
            ("FileList", request("FileList").key("ParentDir", "")),
            ("DeleteFile", request("DeleteFile").key("Item", &place.tag)),
            ("DeleteFile", request("DeleteFile").key("DirName", "")),
            ("Upload", request("Upload").key("FileName", &place.tag)),
            ("Upload", request("Upload").key("DirName", "")),
            ("Upload", request("Upload").key("Dir", "")),
        ] {
            client.ask(&packet, command, 6)?;
        }
        client.ask(&dir(""), "Dir", 0)?;
        client.ask(&request("FileList").key("DirName", ""), "FileList", 0)?;
        client.alive()
    })
}

fn upload_over_dir(target: &mut dyn Target) -> Outcome {
    with_dirs(target, "over-dir", 2, |target, place| {
        let mut client = place.uploader(target)?;
        make_dirs(place, &mut client, &["a"])?;
        client.ask(&place.upload("a"), "Upload", 6)?;
        client.ask(&Packet::request("Eof"), "Eof", 10)?;
        dirs_are(&mut client, place.dir(), &["a"])
    })
}

/// A device's root is the directory of its name, made when it is needed; an operator sees that one among others.
fn device(target: &mut dyn Target) -> Outcome {
    let login = super::store::device(target)?;
    // The first check of a password takes its time, and nobody is to fall silent over it below.
    drop(Client::logged_in(target, UPLOAD, &login)?);
    with_dirs(target, "device", 2, |target, place| {
        let mut operator = place.uploader(target)?;
        place.store(&mut operator, "theirs", b"1")?;
        let mut device = Client::logged_in(target, UPLOAD, &login)?;
        // The device has a place of its own by the same name, which is another one.
        place.make_dir(&mut device, "", place.dir())?;
        let outcome = device_and_operator(target, place, &mut device, &mut operator, &login);
        device.succeed(&delete("", place.dir()), "DeleteDir", &[])?;
        outcome
    })
}

fn device_and_operator(
    target: &mut dyn Target,
    place: &Place,
    device: &mut Client,
    operator: &mut Client,
    login: &Login,
) -> Outcome {
    place.lists(device, &[])?;
    place.store(device, "mine", b"22")?;
    place.lists(device, &[("mine", 2)])?;
    place.lists(operator, &[("theirs", 1)])?;
    let seen =
        Packet::request("FileList").key("DirName", format!("{}/{}", login.user, place.dir()));
    let reply = operator.ask(&seen, "FileList", 0)?;
    let rows = file_rows(operator, &reply)?;
    if rows != [("mine".to_owned(), 2)] {
        return Err(operator.fail("the device's one file", &format!("{rows:?}")));
    }
    // Seen from within, the directory of the device's name is not there.
    device.ask(&seen, "FileList", NO_DIRECTORY)?;
    let mut reader = Client::logged_in(target, DOWNLOAD, login)?;
    place.fetch(&mut reader, "mine", b"22", 0, 10)?;
    reader.ask(&place.download("theirs", 0, 10), "Download", 9)?;
    place.lists(&mut reader, &[("mine", 2)])
}
