use std::cell::RefCell;

use super::*;

thread_local! {
    /// The Argon2 computations of this thread: which tests count instead of measuring time.
    static RUNS: RefCell<Vec<Costs>> = const { RefCell::new(Vec::new()) };
}

thread_local! {
    static HOOK: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
}

/// Has something done in the middle of this thread's next Argon2 computation.
pub(crate) fn during_next_run(hook: impl FnOnce() + 'static) {
    HOOK.set(Some(Box::new(hook)));
}

/// Called by every Argon2 computation.
pub(crate) fn ran(costs: Costs) {
    RUNS.with_borrow_mut(|runs| runs.push(costs));
    if let Some(hook) = HOOK.take() {
        hook();
    }
}

/// Cheap enough for a test.
pub(crate) const CHEAP: Costs = Costs { m: 8, t: 1, p: 1 };

/// Takes the computations that were counted so far.
pub(crate) fn take_runs() -> Vec<Costs> {
    RUNS.with_borrow_mut(std::mem::take)
}

/// A hash as in a file, of that password.
pub(crate) fn slow(password: &str) -> Stored {
    Stored::Slow(SlowHash::new(&digest_of(password), CHEAP).unwrap())
}

fn parse_digest(hex: &[u8]) -> Option<[u8; 16]> {
    pulsegate_core::app::Digest::from_hex(std::str::from_utf8(hex).unwrap()).map(|digest| digest.0)
}

#[test]
fn digest_is_the_md5_of_the_wire() {
    // "admin", as the protocol's documents show it.
    let digest = parse_digest(b"21232f297a57a5a743894a0e4a801fc3").unwrap();
    assert_eq!(digest_of("admin"), digest);
    assert_eq!(parse_digest(b"21232F297A57A5A743894A0E4A801FC3"), Some(digest));
    assert_eq!(parse_digest(b"21232f297A57a5a743894a0E4a801fC3"), Some(digest));
}

#[test]
fn digest_of_another_shape_is_none() {
    for bad in [
        &b""[..],
        b"admin",
        b"21232f297a57a5a743894a0e4a801fc",
        b"21232f297a57a5a743894a0e4a801fc33",
        b"g1232f297a57a5a743894a0e4a801fc3",
        b"+1232f297a57a5a743894a0e4a801fc3",
        b" 21232f297a57a5a743894a0e4a801fc",
        "２1232f297a57a5a743894a0e4a801f".as_bytes(),
    ] {
        assert_eq!(parse_digest(bad), None, "{bad:?}");
    }
}

#[test]
fn hashes_survive_the_file() {
    let digest = digest_of("pass word");
    let wrong = digest_of("pass Word");
    for (stored, prefix) in [
        (
            Stored::Slow(SlowHash::new(&digest, Costs::default()).unwrap()),
            "$argon2id$v=19$m=19456,t=2,p=1$",
        ),
        (Stored::Fast(FastHash::new(&digest).unwrap()), "$pgsha256$"),
    ] {
        let text = stored.to_string();
        assert!(text.starts_with(prefix), "{text}");
        let read = Stored::parse(&text).unwrap();
        assert!(read == stored);
        let verify = |digest| match &read {
            Stored::Slow(slow) => slow.verify(digest),
            Stored::Fast(fast) => fast.verify(digest),
        };
        assert!(verify(&digest));
        assert!(!verify(&wrong));
        assert!(!format!("{stored:?}").contains('$'));
    }
}

#[test]
fn salts_differ() {
    let digest = digest_of("x");
    assert!(slow("x") != slow("x"));
    assert!(FastHash::new(&digest).unwrap() != FastHash::new(&digest).unwrap());
}

/// Whoever has Argon2 can check a file: there is no secret and no label besides what the string shows.
#[test]
fn the_slow_hash_is_plain_argon2id_of_the_digest() {
    let digest = digest_of("secret");
    let mut tag = [0; 32];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(8, 1, 1, Some(32)).unwrap())
        .hash_password_into(&digest, b"0123456789abcdef", &mut tag)
        .unwrap();
    let text = format!(
        "$argon2id$v=19$m=8,t=1,p=1${}${}",
        Base64Unpadded::encode_string(b"0123456789abcdef"),
        Base64Unpadded::encode_string(&tag)
    );
    let Ok(Stored::Slow(slow)) = Stored::parse(&text) else {
        panic!("not read: {text}");
    };
    assert!(slow.verify(&digest));
}

#[test]
fn malformed_hashes_are_told_apart() {
    let salt = "MDEyMzQ1Njc4OWFiY2RlZg";
    let tag = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
    for (text, says) in [
        (String::new(), "neither"),
        ("hunter2".into(), "neither"),
        ("21232f297a57a5a743894a0e4a801fc3".into(), "neither"),
        (format!("$argon2i$v=19$m=8,t=1,p=1${salt}${tag}"), "neither"),
        (format!("$argon2id$v=16$m=8,t=1,p=1${salt}${tag}"), "version 19"),
        (format!("$argon2id$m=8,t=1,p=1${salt}${tag}"), "version 19"),
        (format!("$argon2id$v=19$m=8,t=1,p=1${salt}"), "cut short"),
        (format!("$argon2id$v=19$m=8,t=1,p=1${salt}$AAEC"), "short"),
        (format!("$argon2id$v=19$m=8,t=1,p=1${salt}${tag}$x"), "garbled"),
        (format!("$argon2id$v=19$m=0,t=1,p=1${salt}${tag}"), "parameters"),
        (format!("$argon2id$v=19$m=4294967295,t=1,p=1${salt}${tag}"), "costs more"),
        (format!("$argon2id$v=19$m=8,t=4000000,p=1${salt}${tag}"), "costs more"),
        ("$pgsha256$".into(), "$pgsha256$SALT$TAG"),
        (format!("$pgsha256${salt}"), "$pgsha256$SALT$TAG"),
        (format!("$pgsha256${salt}$AAEC"), "tag"),
        (format!("$pgsha256$AAEC${tag}"), "salt"),
        (format!("$pgsha256${salt}${tag}$x"), "tag"),
    ] {
        let error = Stored::parse(&text).unwrap_err();
        assert!(error.contains(says), "{text}: {error}");
        assert!(!error.contains(salt), "{error}");
    }
}

#[test]
fn generated_secrets_are_long_and_never_the_same() {
    let one = generate_secret().unwrap();
    let two = generate_secret().unwrap();
    assert_eq!(one.len(), 32);
    assert!(one.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()));
    assert_ne!(one, two);
}
