use std::fs::Permissions;

use super::super::hash::tests::slow;
use super::super::{LoginPolicy, Role};
use super::*;

fn load(path: &Path) -> Result<Loaded, Error> {
    super::load(path, Purpose::Serving)
}

fn entry(name: &str) -> String {
    let hash = slow("x");
    format!("[[user]]\nname = \"{name}\"\nrole = \"device\"\nhash = \"{hash}\"\n")
}

fn record(name: &str) -> Record {
    Record {
        user: User { name: name.into(), role: Role::Device, login_policy: LoginPolicy::Replace },
        stored: slow("x"),
    }
}

fn names(records: &[Record]) -> Vec<&str> {
    records.iter().map(|r| r.user.name.as_str()).collect()
}

/// A directory with a users file of that text, as the loader wants it.
fn directory(text: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("users.toml");
    fs::write(&path, text).unwrap();
    set_mode(&path, 0o600);
    (directory, path)
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn text_that_is_not_utf8_names_its_line() {
    let (_directory, path) = directory("");
    fs::write(&path, b"# one\n# two \xff\n").unwrap();
    let message = load(&path).err().unwrap().to_string();
    assert!(message.contains("line 2: not UTF-8"), "{message}");
}

#[test]
fn a_missing_file_tells_how_to_create_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("none.toml");
    let message = load(&path).err().unwrap().to_string();
    let way_out = format!("pulsegate user add NAME --users {}", path.display());
    assert!(message.contains("not found"), "{message}");
    assert!(message.contains(&way_out), "{message}");
}

#[cfg(unix)]
#[test]
fn only_regular_files_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    for path in [directory.path(), Path::new("/dev/null"), &pipe] {
        if path == pipe && !made.as_ref().is_ok_and(|status| status.success()) {
            continue;
        }
        for result in [load(path).err(), Editor::open(path, true).err()] {
            let message = result.unwrap().to_string();
            assert!(message.contains("not a regular file"), "{message}");
            assert!(message.contains(&path.display().to_string()), "{message}");
        }
    }
}

#[cfg(unix)]
#[test]
fn a_file_open_to_others_is_refused() {
    let (_directory, path) = directory(&entry("a"));
    for open in [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o666] {
        set_mode(&path, open);
        for result in [load(&path).err(), Editor::open(&path, true).err()] {
            let message = result.unwrap().to_string();
            let way_out = format!("chmod 600 {}", path.display());
            assert!(message.contains(&way_out), "{open:o}: {message}");
            assert!(message.contains(&format!("{open:o}")), "{message}");
        }
    }
    for closed in [0o600, 0o400, 0o700] {
        set_mode(&path, closed);
        assert!(load(&path).is_ok(), "{closed:o}");
    }
}

#[cfg(unix)]
#[test]
fn a_file_of_somebody_else_is_refused() {
    use Purpose::{Editing, Serving};
    let check =
        |owner, us, purpose| check_access(Path::new("u.toml"), 0o100_600, owner, us, purpose);
    for purpose in [Serving, Editing] {
        assert!(check(1000, 1000, purpose).is_ok());
        assert!(check(0, 1000, purpose).is_ok());
    }
    assert!(check(1000, 0, Editing).is_ok());
    for (owner, us, purpose) in [(1001, 1000, Serving), (1001, 1000, Editing), (1000, 0, Serving)] {
        let error = check(owner, us, purpose).unwrap_err();
        let message = error.to_string();
        assert!(message.contains(&format!("owned by uid {owner}")), "{message}");
        assert!(message.contains(&format!("chown {us} u.toml")), "{message}");
    }
}

#[cfg(unix)]
#[test]
fn a_new_file_is_ours_alone_and_explains_itself() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("users.toml");
    let mut editor = Editor::open(&path, true).unwrap();
    editor.add(&record("a")).unwrap();
    editor.save().unwrap();
    assert_eq!(mode(&path), 0o600);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with(HEADER), "{text}");
    let records = load(&path).unwrap().records;
    assert_eq!(names(&records), ["a"]);
    assert_eq!(records[0].user.login_policy, LoginPolicy::Replace);
    // Nothing is left beside it.
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn changes_keep_comments_and_order() {
    let text = format!("# head\n\n# of a\n{}\n# of b\n{}# end\n", entry("a"), entry("b"));
    let (_directory, path) = directory(&text);
    let mut editor = Editor::open(&path, false).unwrap();
    editor.add(&record("c \"q\" \\")).unwrap();
    editor.save().unwrap();
    let after = fs::read_to_string(&path).unwrap();
    assert!(after.starts_with(&text), "{after}");
    assert_eq!(names(&load(&path).unwrap().records), ["a", "b", "c \"q\" \\"]);

    let mut editor = Editor::open(&path, false).unwrap();
    editor.remove("a").unwrap();
    editor.save().unwrap();
    let after = fs::read_to_string(&path).unwrap();
    assert!(after.starts_with("# head\n"), "{after}");
    assert!(!after.contains("# of a"), "{after}");
    assert!(after.contains("# of b\n[[user]]\nname = \"b\""), "{after}");
    assert!(after.contains("# end"), "{after}");
    assert_eq!(names(&load(&path).unwrap().records), ["b", "c \"q\" \\"]);

    for name in ["b", "c \"q\" \\"] {
        let mut editor = Editor::open(&path, false).unwrap();
        editor.remove(name).unwrap();
        editor.save().unwrap();
    }
    let after = fs::read_to_string(&path).unwrap();
    assert!(after.contains("# head"), "{after}");
    assert!(load(&path).unwrap().records.is_empty());
    let mut editor = Editor::open(&path, false).unwrap();
    editor.add(&record("d")).unwrap();
    editor.save().unwrap();
    let after = fs::read_to_string(&path).unwrap();
    assert!(after.contains("# head"), "{after}");
    assert_eq!(names(&load(&path).unwrap().records), ["d"]);
}

#[test]
fn names_taken_and_names_unknown() {
    let (_directory, path) = directory(&entry("a"));
    let mut editor = Editor::open(&path, false).unwrap();
    let taken = editor.add(&record("a")).unwrap_err().to_string();
    assert!(taken.contains("user \"a\" exists"), "{taken}");
    assert!(taken.contains("pulsegate user remove"), "{taken}");
    let unknown = editor.remove("A").unwrap_err().to_string();
    assert!(unknown.contains("no user \"A\""), "{unknown}");
    assert!(unknown.contains("pulsegate user list"), "{unknown}");
}

/// Whoever opens the file while it is replaced must not go on with the old one.
#[test]
fn concurrent_additions_all_stay() {
    const THREADS: usize = 8;
    const EACH: usize = 12;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("users.toml");
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let path = &path;
            scope.spawn(move || {
                for n in 0..EACH {
                    let mut editor = Editor::open(path, true).unwrap();
                    editor.add(&record(&format!("{thread}-{n}"))).unwrap();
                    editor.save().unwrap();
                }
            });
        }
    });
    assert_eq!(load(&path).unwrap().records.len(), THREADS * EACH);
}

#[cfg(unix)]
#[test]
fn a_link_to_the_file_stays_a_link() {
    let (directory, path) = directory(&entry("a"));
    let link = directory.path().join("link.toml");
    std::os::unix::fs::symlink("users.toml", &link).unwrap();
    let mut editor = Editor::open(&link, false).unwrap();
    editor.add(&record("b")).unwrap();
    editor.save().unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(names(&load(&path).unwrap().records), ["a", "b"]);

    let nowhere = directory.path().join("nowhere.toml");
    std::os::unix::fs::symlink("missing.toml", &nowhere).unwrap();
    let message = Editor::open(&nowhere, true).err().unwrap().to_string();
    assert!(message.contains("link to nowhere"), "{message}");
}

#[cfg(unix)]
#[test]
fn the_owner_is_kept() {
    use std::os::unix::fs::{MetadataExt, chown};
    // Only root may give files away, and only root meets the problem.
    let (_directory, path) = directory("");
    if !rustix::process::geteuid().is_root() || chown(&path, Some(1234), Some(1234)).is_err() {
        return;
    }
    let mut editor = Editor::open(&path, false).unwrap();
    editor.add(&record("a")).unwrap();
    editor.save().unwrap();
    assert!(matches!(load(&path), Err(Error::Owner { .. })));
    assert!(super::load(&path, Purpose::Editing).is_ok());
    let meta = fs::metadata(&path).unwrap();
    assert_eq!((meta.uid(), meta.gid()), (1234, 1234));
}
