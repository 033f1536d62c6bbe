use std::path::PathBuf;

use super::super::db::{Quick, UserDb, Verdict};
use super::*;

fn text(password: &str) -> PasswordSource {
    PasswordSource::Text(Zeroizing::new(password.to_owned()))
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("users.toml");
    (directory, path)
}

fn message<T>(result: Result<T, Error>) -> String {
    result.err().unwrap().to_string()
}

#[test]
fn add_list_remove() {
    let (_directory, path) = place();
    let added = add(&path, "ops", Role::Operator, LoginPolicy::Allow, text("pass")).unwrap();
    assert!(added.secret.is_none());
    let device =
        add(&path, "meter", Role::Device, LoginPolicy::Replace, PasswordSource::Generate).unwrap();
    let secret = device.secret.unwrap();
    let listed = list(&path).unwrap();
    assert_eq!(listed.len(), 2);
    assert_eq!((&listed[0].user, listed[0].scheme), (&added.user, "argon2id"));
    assert_eq!((&listed[1].user, listed[1].scheme), (&device.user, "generated secret"));

    let db = UserDb::open(&path).unwrap();
    match db.quick("meter", &digest_of(&secret)) {
        Quick::Known(user) => assert_eq!(*user, device.user),
        Quick::Slow(_) => panic!("a generated secret needs no slow hash"),
    }
    let verdict = db.check("ops", &digest_of("pass")).run();
    assert_eq!(verdict, Verdict::Accepted(db.get("ops").unwrap()));
    let file = std::fs::read_to_string(&path).unwrap();
    assert!(!file.contains(secret.as_str()));

    remove(&path, "ops").unwrap();
    assert_eq!(list(&path).unwrap().len(), 1);
    assert!(message(remove(&path, "ops")).contains("no user \"ops\""));
}

#[test]
fn what_cannot_be_added() {
    let (directory, path) = place();
    let add = |path: &Path, name: &str, source| {
        message(add(path, name, Role::Device, LoginPolicy::Allow, source))
    };
    assert!(add(&path, "", text("p")).contains("name is empty"));
    assert!(add(&path, "a\tb", text("p")).contains("\"a\\tb\""));
    assert!(add(&path, &"x".repeat(65), text("p")).contains("at most 64"));
    assert!(add(&path, "a", text("")).contains("password is empty"));
    assert!(!path.exists(), "nothing is created for nothing");
    let nowhere = directory.path().join("no/users.toml");
    let error = add(&nowhere, "a", PasswordSource::Generate);
    assert!(error.contains("create its directory first"), "{error}");
}

#[test]
fn a_taken_name_is_told_before_the_password_is_asked_for() {
    let (_directory, path) = place();
    let add = |source| add(&path, "a", Role::Device, LoginPolicy::Allow, source);
    add(PasswordSource::Generate).unwrap();
    // An empty password would be the error otherwise.
    assert!(message(add(text(""))).contains("user \"a\" exists"));
}

#[test]
fn a_missing_file_has_nobody_to_remove() {
    let (_directory, path) = place();
    assert!(matches!(remove(&path, "a"), Err(Error::Missing { .. })));
    assert!(matches!(list(&path), Err(Error::Missing { .. })));
    assert!(!path.exists());
}

#[test]
fn the_first_line_is_the_password() {
    for (input, expected) in [
        ("secret\n", "secret"),
        ("secret", "secret"),
        ("secret\r\n", "secret"),
        ("secret\nand more\n", "secret"),
        (" with spaces \n", " with spaces "),
        ("pässwörd\n", "pässwörd"),
        ("\n", ""),
        ("", ""),
    ] {
        assert_eq!(first_line(input.as_bytes()).unwrap().as_str(), expected);
    }
    let longest = "x".repeat(1024);
    assert_eq!(*first_line(format!("{longest}\r\n").as_bytes()).unwrap(), longest);
    assert!(message(first_line(format!("{longest}x\n").as_bytes())).contains("longer than 1024"));
    assert!(message(first_line("x".repeat(1 << 20).as_bytes())).contains("longer than 1024"));
    assert!(message(first_line(&b"\xff\n"[..])).contains("cannot read the password"));
}
