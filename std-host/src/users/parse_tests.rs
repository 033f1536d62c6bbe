use super::super::Role;
use super::*;

const FILE: &str = "some/users.toml";
const SLOW: &str =
    "$argon2id$v=19$m=8,t=1,p=1$MDEyMzQ1Njc4OWFiY2RlZg$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
const ROLE: &str = "role = \"device\"";

fn entry(name: &str) -> String {
    format!("[[user]]\nname = \"{name}\"\n{ROLE}\nhash = \"{SLOW}\"\n")
}

/// A good file of user `a`, with one thing replaced.
fn with(from: &str, to: &str) -> String {
    let good = entry("a");
    assert!(good.contains(from), "{from}");
    good.replace(from, to)
}

/// The text must be refused, and the message say all of this besides the file.
fn refused(text: &str, says: &[&str]) {
    let Err(error) = parse(Path::new(FILE), text) else {
        panic!("read: {text}");
    };
    let message = error.to_string();
    for part in says.iter().chain(&[FILE]) {
        let found = message.contains(part);
        assert!(found, "{part:?} not in {message:?} for:\n{text}");
    }
    assert!(!message.contains('\n'), "{message:?}");
    assert!(!message.contains("AAECAwQF"), "shows a hash: {message}");
}

#[test]
fn a_good_file_is_read() {
    let text = format!(
        "# ours\n[[user]]\nname = \"ops ü\"\nrole = \"operator\"\nhash = \"{SLOW}\"\n\n\
         [[user]] # a meter\nname = 'Ops ü'\nlogin = \"refuse\"\nhash = '{SLOW}'\nrole = \"device\"\n"
    );
    let records = parse(Path::new(FILE), &text).unwrap();
    assert_eq!(records[0].user.name, "ops ü");
    assert_eq!(records[1].user.name, "Ops ü");
    assert_eq!(records[0].user.role, Role::Operator);
    assert_eq!(records[0].user.login_policy, LoginPolicy::Allow);
    assert_eq!(records[1].user.role, Role::Device);
    assert_eq!(records[1].user.login_policy, LoginPolicy::Refuse);
    assert_eq!(records[0].stored.to_string(), SLOW);
}

#[test]
fn files_without_users_are_good() {
    for text in ["", "\n", "# nobody yet\n", "user = []\n"] {
        let parsed = parse(Path::new(FILE), text);
        match text {
            // Not the form that is documented and written.
            "user = []\n" => assert!(parsed.is_err()),
            _ => assert!(parsed.unwrap().is_empty(), "{text:?}"),
        }
    }
}

#[test]
fn text_that_is_not_toml() {
    let out = "correct the TOML";
    refused(&with("\"a\"", "\"a"), &["line 2", "key \"name\"", out]);
    refused(&with(ROLE, "role = device"), &["line 3", "key \"role\"", out]);
    refused(&with(ROLE, "role"), &["line 3", out]);
    refused(&with("[[user]]", "[[user]"), &["line 1", out]);
    refused(&with(ROLE, "name = \"b\""), &["line 3", "duplicate key", out]);
    refused(&with(&format!("\"{SLOW}\""), SLOW), &["line 4", "key \"hash\"", out]);
}

#[test]
fn text_of_another_form() {
    let good = entry("a");
    let out = "only [[user]]";
    refused(&format!("admin = 1\n{good}"), &["line 1", "\"admin\"", out]);
    refused(&with("[[user]]", "[user]"), &["line 1", "\"user\"", out]);
    refused(&format!("{good}\n[group]\n"), &["line 6", "\"group\"", out]);
    let out = "the keys are name, role, login, hash";
    refused(&with("role =", "rule ="), &["line 3", "user \"a\"", "\"rule\"", out]);
}

#[test]
fn keys_that_are_missing_or_of_another_type() {
    let says = ["line 1", "entry 1", "\"name\" is missing", "write name"];
    refused(&with("name = \"a\"\n", ""), &says);
    let says = ["line 1", "user \"a\"", "\"role\" is missing", "write role"];
    refused(&with(ROLE, ""), &says);
    let says = ["line 1", "user \"a\"", "\"hash\" is missing", "pulsegate user add"];
    refused(&with(&format!("hash = \"{SLOW}\""), ""), &says);
    let says = ["line 2", "entry 1", "\"name\" is of type integer", "in quotes"];
    refused(&with("\"a\"", "17"), &says);
    let says = ["line 3", "user \"a\"", "\"role\" is of type array", "in quotes"];
    refused(&with(ROLE, "role = [\"device\"]"), &says);
}

#[test]
fn names_that_are_not_allowed() {
    let name = |name: &str| with("\"a\"", &format!("\"{name}\""));
    refused(&name(""), &["line 2", "entry 1", "name is empty", "give"]);
    let (longest, cut) = ("ü".repeat(32), "ü".repeat(24));
    assert_eq!(parse(Path::new(FILE), &name(&longest)).unwrap().len(), 1);
    let shown = format!("user \"{cut}\"…");
    let says = ["line 2", &shown, "65 bytes", "at most 64"];
    refused(&name(&format!("{longest}x")), &says);
    for (bad, shown, code) in [
        ("a\\tb", "\"a\\tb\"", "U+0009"),
        ("a\\rb", "\"a\\rb\"", "U+000D"),
        ("a\\nb", "\"a\\nb\"", "U+000A"),
        ("a\\u0000", "\"a\\0\"", "U+0000"),
        ("a\\u009b", "\"a\\u{9b}\"", "U+009B"),
    ] {
        refused(&name(bad), &["line 2", shown, code, "take it out"]);
    }
    let twice = format!("{}{}{}", entry("a"), entry("b"), entry("a"));
    let says = ["line 10", "user \"a\"", "entry at line 2", "remove one"];
    refused(&twice, &says);
}

#[test]
fn values_that_mean_nothing() {
    let role = |role: &str| with("\"device\"", &format!("\"{role}\""));
    let out = "\"operator\", \"device\"";
    refused(&role("admin"), &["line 3", "user \"a\"", "unknown role \"admin\"", out]);
    refused(&role("Device"), &["line 3", "unknown role \"Device\"", out]);
    let login = with(ROLE, &format!("{ROLE}\nlogin = \"twice\""));
    let out = "\"allow\", \"replace\", \"refuse\"";
    refused(&login, &["line 4", "user \"a\"", "unknown login \"twice\"", out]);
    let out = "pulsegate user add";
    let old = with("v=19", "v=16");
    refused(&old, &["line 4", "user \"a\"", "key \"hash\"", "version 19", out]);
    let md5 = with(SLOW, "0cc175b9c0f1b6a831c399e269772661");
    refused(&md5, &["line 4", "user \"a\"", "key \"hash\"", out]);
}
