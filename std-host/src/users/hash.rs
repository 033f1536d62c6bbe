//! Digests from the wire, and what is stored of them.
//!
//! Two schemes, told apart by the start of the string:
//!
//! - `$argon2id$…`, for passwords that people choose: Argon2id over the 16 bytes of the MD5 digest, with the
//!   parameters OWASP recommends (19 MiB, two passes, one lane).
//! - `$pgsha256$SALT$TAG` (both base64 without padding), for secrets that this program generates: SHA-256 over a
//!   label, a salt of 16 bytes and the digest. A slow hash makes guessing expensive; a secret of 160 random bits
//!   cannot be guessed at any price, and neither can its digest, whose 128 bits are what a thief of the file would
//!   have to find. MD5 collisions do not help him: he needs a preimage, which is as hard as trying them all. So the
//!   slow hash would add nothing but the cost of a fleet that reconnects.
//!
//! Only the tool that generates a secret may choose the fast scheme: over a password that a person chose it is weak.

use std::fmt;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, Version};
use base64ct::{Base64Unpadded, Encoding};
use md5::{Digest, Md5};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::Error;

const FAST_PREFIX: &str = "$pgsha256$";
const FAST_LABEL: &[u8] = b"pulsegate device secret 1";
const SALT_LEN: usize = 16;
const TAG_LEN: usize = 32;

/// Beyond this a check would take more memory (KiB) or time than a server should give one login. Entries beyond
/// are refused when the file is read, not when somebody logs in.
const MAX_M: u32 = 1024 * 1024;
const MAX_T: u32 = 64;
const MAX_P: u32 = 16;

/// The MD5 digest of a password's UTF-8 bytes: what the login command carries in hexadecimal.
pub fn digest_of(password: &str) -> [u8; 16] {
    Md5::digest(password.as_bytes()).into()
}

/// Fills an array with random bytes of the operating system.
pub(super) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(Error::Random)?;
    Ok(bytes)
}

/// A new device secret: 160 random bits as 32 characters that are hard to confuse when read out.
pub(super) fn generate_secret() -> Result<Zeroizing<String>, Error> {
    const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let bytes = Zeroizing::new(random::<20>()?);
    let mut secret = Zeroizing::new(String::with_capacity(32));
    for five in bytes.chunks_exact(5) {
        let bits = five.iter().fold(0u64, |acc, b| acc << 8 | u64::from(*b));
        for shift in (0..8).rev() {
            let index = (bits >> (shift * 5)) & 31;
            secret.push(char::from(ALPHABET[usize::try_from(index).unwrap_or(0)]));
        }
    }
    Ok(secret)
}

/// What the file keeps of a digest.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Stored {
    Slow(SlowHash),
    Fast(FastHash),
}

impl Stored {
    /// Reads the string of a users file; the error says what is wrong with it, without repeating it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if let Some(rest) = text.strip_prefix(FAST_PREFIX) {
            return FastHash::parse(rest).map(Self::Fast);
        }
        if text.starts_with("$argon2id$") {
            return SlowHash::parse(text).map(Self::Slow);
        }
        Err("neither $argon2id$ nor $pgsha256$".into())
    }

    /// The name of the scheme, for lists.
    pub(super) fn scheme(&self) -> &'static str {
        match self {
            Self::Slow(_) => "argon2id",
            Self::Fast(_) => "generated secret",
        }
    }
}

impl fmt::Display for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slow(slow) => {
                let Costs { m, t, p } = slow.costs;
                write!(
                    f,
                    "$argon2id$v=19$m={m},t={t},p={p}${}${}",
                    Base64Unpadded::encode_string(&slow.salt),
                    Base64Unpadded::encode_string(&slow.tag)
                )
            }
            Self::Fast(fast) => write!(
                f,
                "{FAST_PREFIX}{}${}",
                Base64Unpadded::encode_string(&fast.salt),
                Base64Unpadded::encode_string(&fast.tag)
            ),
        }
    }
}

/// Without the hash itself: this ends up in logs.
impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stored({})", self.scheme())
    }
}

/// A salted SHA-256, for secrets with full entropy only.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct FastHash {
    salt: [u8; SALT_LEN],
    tag: [u8; TAG_LEN],
}

impl FastHash {
    pub(super) fn new(digest: &[u8; 16]) -> Result<Self, Error> {
        let salt = random()?;
        Ok(Self { salt, tag: Self::tag(&salt, digest) })
    }

    pub(super) fn verify(&self, digest: &[u8; 16]) -> bool {
        self.tag.ct_eq(&Self::tag(&self.salt, digest)).into()
    }

    fn tag(salt: &[u8; SALT_LEN], digest: &[u8; 16]) -> [u8; TAG_LEN] {
        Sha256::new()
            .chain_update(FAST_LABEL)
            .chain_update(salt)
            .chain_update(digest)
            .finalize()
            .into()
    }

    fn parse(rest: &str) -> Result<Self, String> {
        let (salt, tag) = rest.split_once('$').ok_or("it must be $pgsha256$SALT$TAG")?;
        Ok(Self { salt: decode(salt, "salt")?, tag: decode(tag, "tag")? })
    }
}

fn decode<const N: usize>(text: &str, what: &str) -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    match Base64Unpadded::decode(text, &mut bytes) {
        Ok(found) if found.len() == N => Ok(bytes),
        _ => Err(format!("its {what} is not {N} bytes of base64")),
    }
}

/// What one Argon2 check costs: memory in KiB, passes, lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Costs {
    pub(super) m: u32,
    pub(super) t: u32,
    pub(super) p: u32,
}

impl Default for Costs {
    /// What OWASP recommends; the defaults of the crate, pinned here.
    fn default() -> Self {
        Self { m: 19 * 1024, t: 2, p: 1 }
    }
}

/// A salted Argon2id hash.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct SlowHash {
    costs: Costs,
    salt: Box<[u8]>,
    tag: Box<[u8]>,
}

impl SlowHash {
    pub(super) fn new(digest: &[u8; 16], costs: Costs) -> Result<Self, Error> {
        let salt: Box<[u8]> = Box::new(random::<SALT_LEN>()?);
        let tag = compute(costs, &salt, TAG_LEN, digest)
            .ok_or_else(|| Error::Password("not enough memory to hash the password".into()))?;
        Ok(Self { costs, salt, tag })
    }

    /// A hash of nothing, that costs as much as a real one of these costs and fits no digest.
    pub(super) fn dummy(costs: Costs) -> Result<Self, Error> {
        Ok(Self {
            costs,
            salt: Box::new(random::<SALT_LEN>()?),
            tag: Box::new(random::<TAG_LEN>()?),
        })
    }

    pub(super) fn costs(&self) -> Costs {
        self.costs
    }

    /// Takes tens of milliseconds: never on a thread that serves sessions.
    pub(super) fn verify(&self, digest: &[u8; 16]) -> bool {
        compute(self.costs, &self.salt, self.tag.len(), digest)
            .is_some_and(|tag| tag.ct_eq(&self.tag).into())
    }

    fn parse(text: &str) -> Result<Self, String> {
        let hash = PasswordHash::new(text).map_err(|_| "it is cut short or garbled".to_owned())?;
        if hash.version != Some(Version::V0x13.into()) {
            return Err("it is not of Argon2 version 19".into());
        }
        let params =
            Params::try_from(&hash).map_err(|_| "its parameters m, t, p are wrong".to_owned())?;
        let costs = Costs { m: params.m_cost(), t: params.t_cost(), p: params.p_cost() };
        if costs.m > MAX_M || costs.t > MAX_T || costs.p > MAX_P {
            return Err(format!("it costs more than m={MAX_M},t={MAX_T},p={MAX_P}"));
        }
        if !params.keyid().is_empty() || !params.data().is_empty() {
            return Err("it needs a key or data that this program does not have".into());
        }
        let (Some(salt), Some(tag)) = (hash.salt, hash.hash) else {
            return Err("it is cut short: the salt or the tag is missing".into());
        };
        if salt.len() < argon2::MIN_SALT_LEN || tag.len() < 16 {
            return Err("its salt (8 bytes) or tag (16 bytes) is too short".into());
        }
        Ok(Self { costs, salt: (*salt).into(), tag: tag.as_bytes().into() })
    }
}

/// The Argon2id tag; nothing if its memory cannot be had, or if the parameters are impossible, which reading the
/// file has excluded.
fn compute(costs: Costs, salt: &[u8], len: usize, digest: &[u8; 16]) -> Option<Box<[u8]>> {
    #[cfg(test)]
    tests::ran(costs);
    let params = Params::new(costs.m, costs.t, costs.p, Some(len)).ok()?;
    let mut tag = vec![0; len].into_boxed_slice();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(digest, salt, &mut tag)
        .ok()?;
    Some(tag)
}

#[cfg(test)]
#[path = "hash_tests.rs"]
pub(super) mod tests;
