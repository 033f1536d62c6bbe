use std::fs;

use super::super::hash::tests::{CHEAP, slow, take_runs};
use super::*;

struct File {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl File {
    fn new(users: &[(&str, Role, &Stored)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users.toml");
        let file = Self { _directory: directory, path };
        file.write(users);
        file
    }

    fn write(&self, users: &[(&str, Role, &Stored)]) {
        let text: String = users
            .iter()
            .map(|(name, role, stored)| {
                format!("[[user]]\nname = \"{name}\"\nrole = \"{role}\"\nhash = \"{stored}\"\n")
            })
            .collect();
        self.write_text(&text);
    }

    /// As an editor does it: another file at the same path.
    fn write_text(&self, text: &str) {
        let new = self.path.with_extension("new");
        fs::write(&new, text).unwrap();
        #[cfg(unix)]
        fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        fs::rename(new, &self.path).unwrap();
    }

    fn open(&self) -> UserDb {
        UserDb::open(&self.path).unwrap()
    }
}

fn fast(secret: &str) -> Stored {
    Stored::Fast(FastHash::new(&digest_of(secret)).unwrap())
}

/// Logs in without threads; says whether it was let in, and how many slow hashes it took.
fn login(db: &UserDb, name: &str, password: &str) -> (bool, usize) {
    take_runs();
    let accepted = match db.quick(name, &digest_of(password)) {
        Quick::Known(user) => Some(user),
        Quick::Slow(check) => match check.run() {
            Verdict::Accepted(user) => Some(user),
            Verdict::Refused => None,
        },
    };
    if let Some(user) = &accepted {
        assert_eq!(user.name, name);
    }
    (accepted.is_some(), take_runs().len())
}

const YES: bool = true;
const NO: bool = false;

#[test]
fn the_demo_user_is_an_operator_and_alone() {
    let db = UserDb::demo().unwrap();
    assert_eq!(login(&db, "admin", "admin"), (YES, 0));
    assert_eq!(db.get("admin").unwrap().role, Role::Operator);
    assert_eq!(db.len(), 1);
    assert!(!login(&db, "admin", "Admin").0);
    assert!(!login(&db, "Admin", "admin").0);
    assert!(!login(&db, "", "").0);
    assert!(!db.reload_if_changed().unwrap());
}

#[test]
fn a_password_costs_a_hash_the_first_time() {
    let file = File::new(&[("ops", Role::Operator, &slow("right"))]);
    let db = file.open();
    assert_eq!(login(&db, "ops", "right"), (YES, 1));
    assert_eq!(login(&db, "ops", "right"), (YES, 0));
    // Wrong ones cost one each time, and do not spoil what is known.
    assert_eq!(login(&db, "ops", "wrong"), (NO, 1));
    assert_eq!(login(&db, "ops", "wrong"), (NO, 1));
    assert_eq!(login(&db, "ops", "right"), (YES, 0));
    assert_eq!(login(&db.clone(), "ops", "right"), (YES, 0));
}

#[test]
fn what_one_user_proved_lets_nobody_else_in() {
    let file =
        File::new(&[("a", Role::Device, &slow("same")), ("b", Role::Device, &slow("other"))]);
    let db = file.open();
    assert_eq!(login(&db, "a", "same"), (YES, 1));
    assert_eq!(login(&db, "b", "same"), (NO, 1));
    let mark = |name: &str, password: &str| db.mark(name, &digest_of(password));
    assert_ne!(mark("a", "same"), mark("b", "same"));
    assert_ne!(mark("a", "same"), mark("a", "other"));
    let another = file.open();
    assert_ne!(mark("a", "same"), another.mark("a", &digest_of("same")));
}

#[test]
fn every_refusal_costs_one_hash_and_a_right_secret_none() {
    let file = File::new(&[
        ("ops", Role::Operator, &slow("right")),
        ("meter", Role::Device, &fast("secret")),
    ]);
    let db = file.open();
    let long = "x".repeat(10_000);
    for (name, password) in
        [("ops", "wrong"), ("meter", "wrong"), ("nobody", "right"), ("", ""), (long.as_str(), "x")]
    {
        assert_eq!(login(&db, name, password).0, NO, "{name}");
        let Quick::Slow(check) = db.quick(name, &digest_of(password)) else {
            panic!("{name} is known");
        };
        take_runs();
        assert_eq!(check.run(), Verdict::Refused);
        // At the price of those who are in the file.
        assert_eq!(take_runs(), [CHEAP], "{name}");
    }
    assert_eq!(login(&db, "meter", "secret"), (YES, 0));
}

#[test]
fn a_delayed_check_needs_no_hash_for_the_known() {
    let file = File::new(&[("meter", Role::Device, &fast("secret"))]);
    let db = file.open();
    take_runs();
    let check = db.check("meter", &digest_of("secret"));
    assert_eq!(check.run(), Verdict::Accepted(db.get("meter").unwrap()));
    assert!(take_runs().is_empty());
}

#[test]
fn the_stand_in_costs_what_most_entries_cost() {
    let record = |stored| Record {
        user: User { name: "x".into(), role: Role::Device, login_policy: LoginPolicy::Allow },
        stored,
    };
    let other = Costs { m: 16, t: 1, p: 1 };
    let dear = || Stored::Slow(SlowHash::new(&digest_of("x"), other).unwrap());
    assert_eq!(usual_costs(&[]), Costs::default());
    assert_eq!(usual_costs(&[record(fast("x"))]), Costs::default());
    assert_eq!(usual_costs(&[record(slow("x")), record(slow("y")), record(dear())]), CHEAP);
    assert_eq!(usual_costs(&[record(slow("x")), record(dear())]), other);
}

#[test]
fn what_was_proved_ends_with_the_password() {
    let (old, new) = (slow("old"), slow("new"));
    let other = slow("other");
    let file = File::new(&[("a", Role::Device, &old), ("b", Role::Device, &other)]);
    let db = file.open();
    assert_eq!(login(&db, "a", "old"), (YES, 1));
    assert_eq!(login(&db, "b", "other"), (YES, 1));
    file.write(&[("a", Role::Device, &new), ("b", Role::Device, &other)]);
    assert!(db.reload_if_changed().unwrap());
    assert_eq!(login(&db, "a", "old"), (NO, 1));
    assert_eq!(login(&db, "a", "new"), (YES, 1));
    // Nobody else has to prove it again.
    assert_eq!(login(&db, "b", "other"), (YES, 0));
    // The same password under a new salt is proved again.
    file.write(&[("a", Role::Device, &slow("new"))]);
    assert!(db.reload_if_changed().unwrap());
    assert_eq!(login(&db, "a", "new"), (YES, 1));
    // Removed.
    assert_eq!(login(&db, "b", "other"), (NO, 1));
    assert!(db.get("b").is_none());
}

#[test]
fn what_was_proved_outlives_a_change_of_role() {
    let hash = slow("p");
    let file = File::new(&[("a", Role::Device, &hash)]);
    let db = file.open();
    assert_eq!(login(&db, "a", "p"), (YES, 1));
    file.write(&[("a", Role::Operator, &hash)]);
    assert!(db.reload_if_changed().unwrap());
    let Quick::Known(user) = db.quick("a", &digest_of("p")) else {
        panic!("forgotten");
    };
    assert_eq!(user.role, Role::Operator);
}

#[test]
fn a_check_answers_by_the_file_as_it_is_when_it_runs() {
    let (old, new) = (slow("old"), slow("new"));
    let file = File::new(&[("a", Role::Device, &old)]);
    let db = file.open();
    let before = db.check("a", &digest_of("old"));
    let early = db.check("a", &digest_of("new"));
    file.write(&[("a", Role::Device, &new)]);
    db.reload_if_changed().unwrap();
    assert_eq!(before.run(), Verdict::Refused);
    assert_eq!(early.run(), Verdict::Accepted(db.get("a").unwrap()));
    file.write(&[]);
    db.reload_if_changed().unwrap();
    assert_eq!(early.run(), Verdict::Refused);
    assert!(db.is_empty());
}

/// The users are exchanged in the middle of the hash: only an answer by the new ones counts.
#[test]
fn a_change_during_the_check_counts() {
    use super::super::hash::tests::during_next_run;
    let (hash, salted_again, another) = (slow("p"), slow("p"), slow("q"));
    for (sent, after, expected, hashes) in [
        ("p", None, NO, 2),
        ("p", Some(&hash), YES, 1),
        ("p", Some(&salted_again), YES, 2),
        ("p", Some(&another), NO, 2),
        ("q", Some(&another), YES, 2),
    ] {
        let file = File::new(&[("a", Role::Device, &hash)]);
        let db = file.open();
        let check = db.check("a", &digest_of(sent));
        match after {
            Some(hash) => file.write(&[("a", Role::Operator, hash)]),
            None => file.write(&[]),
        }
        let other = db.clone();
        during_next_run(move || assert!(other.reload_if_changed().unwrap()));
        take_runs();
        let verdict = check.run();
        assert_eq!(take_runs().len(), hashes);
        match verdict {
            // As the file now says.
            Verdict::Accepted(user) => assert_eq!((YES, user.role), (expected, Role::Operator)),
            Verdict::Refused => assert_eq!(NO, expected),
        }
        // Nothing was remembered that is not so.
        assert_eq!(login(&db, "a", sent).0, expected);
    }
}

#[test]
fn a_bad_file_leaves_the_users_and_is_reported_once() {
    let hash = fast("p");
    let file = File::new(&[("a", Role::Device, &hash)]);
    let db = file.open();
    assert!(!db.reload_if_changed().unwrap(), "unchanged");

    file.write_text("[[user]]\nname = 1\n");
    let message = db.reload_if_changed().unwrap_err().to_string();
    assert!(message.contains("line 2"), "{message}");
    assert!(!db.reload_if_changed().unwrap(), "reported twice");
    assert_eq!(login(&db, "a", "p"), (YES, 0));

    fs::remove_file(&file.path).unwrap();
    assert!(matches!(db.reload_if_changed(), Err(Error::Missing { .. })));
    assert!(!db.reload_if_changed().unwrap(), "reported twice");
    assert_eq!(login(&db, "a", "p"), (YES, 0));

    file.write(&[("b", Role::Device, &hash)]);
    assert!(db.reload_if_changed().unwrap());
    assert_eq!(login(&db, "a", "p"), (NO, 1));
    assert_eq!(login(&db, "b", "p"), (YES, 0));
}

#[cfg(unix)]
#[test]
fn permissions_that_are_put_right_are_noticed() {
    use std::os::unix::fs::PermissionsExt;
    let hash = fast("p");
    let file = File::new(&[("a", Role::Device, &hash)]);
    let db = file.open();
    let chmod = |mode| fs::set_permissions(&file.path, fs::Permissions::from_mode(mode)).unwrap();
    file.write(&[("b", Role::Device, &hash)]);
    chmod(0o644);
    assert!(matches!(db.reload_if_changed(), Err(Error::Mode { .. })));
    assert!(!db.reload_if_changed().unwrap());
    // The clock of the file system ticks in milliseconds: until it has, nothing can tell the two apart.
    let mut noticed = false;
    for _ in 0..1000 {
        chmod(0o600);
        noticed = db.reload_if_changed().unwrap();
        if noticed {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert!(noticed);
    assert!(db.get("b").is_some());
}

#[test]
fn debug_output_shows_no_secret() {
    let db = UserDb::demo().unwrap();
    let digest = digest_of("admin");
    let check = db.check("admin", &digest);
    let text = format!("{db:?} {check:?}");
    assert!(!text.contains(&digest[0].to_string()), "{text}");
    assert!(text.contains("admin"), "{text}");
}
