//! Makes constants of `gateway.toml` and `users.toml`, puts the board's memory map where the linker finds it, and
//! prints what a session costs.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::Deserialize;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// `gateway.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    address: String,
    router: Ipv4Addr,
    port: u16,
    sockets: usize,
    sessions: usize,
    receive_bytes: usize,
    transmit_bytes: usize,
    flag_seconds: u64,
    idle_seconds: u64,
    /// Nobody reads the log unless the file says so.
    #[serde(default)]
    log_readers: usize,
}

/// `users.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Users {
    user: Vec<User>,
}

/// One of them. A field `password` is an error: the image must not hold one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct User {
    name: String,
    digest: String,
    role: Role,
}

#[derive(Deserialize, Debug)]
#[serde(rename_all = "lowercase")]
enum Role {
    Operator,
    Device,
}

fn main() -> Result<()> {
    let nucleo = env::var_os("CARGO_FEATURE_NUCLEO_F429ZI").is_some();
    let (board, ram) = if nucleo { ("nucleo-f429zi", 192 * 1024) } else { ("lm3s6965", 64 * 1024) };
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::copy(format!("memory/{board}.x"), out.join("memory.x"))?;
    println!("cargo::rustc-link-search={}", out.display());
    fs::copy("stack.x", out.join("stack.x"))?;
    println!("cargo::rustc-link-arg=--defsym=STACK_BYTES={}", plan::STACK);
    println!("cargo::rustc-link-arg=-Tstack.x");
    for file in ["build.rs", "gateway.toml", "users.toml", "memory", "stack.x"] {
        println!("cargo::rerun-if-changed={file}");
    }
    let settings: Settings = toml::from_str(&fs::read_to_string("gateway.toml")?)?;
    let users: Users = toml::from_str(&fs::read_to_string("users.toml")?)?;
    fs::write(out.join("settings.rs"), settings.to_rust()? + &settings.plan(ram)?)?;
    fs::write(out.join("users.rs"), users.to_rust()?)?;
    Ok(())
}

/// What a socket and a session take on a 32-bit part, in bytes, with the kinds of memory that make it up. The
/// firmware compares these figures with its types when it is compiled.
mod plan {
    /// smoltcp's socket and its place in the set.
    pub(crate) const SOCKET: usize = 336;
    /// Its place in the pool.
    pub(crate) const POOL_SLOT: usize = 40;
    /// A session's slot in the table.
    pub(crate) const SESSION: usize = 120;
    /// Its row in the frozen client list.
    pub(crate) const LIST_ROW: usize = 40;
    /// What is there once: two frames, interface and neighbours, the server, the sweep's wheel, ended sessions,
    /// scratch memory, lines of the log, tasks.
    pub(crate) const ONCE: usize = 9 * 1024;
    /// The stack, with 4 KiB to spare.
    pub(crate) const STACK: usize = 8 * 1024;
}

impl Settings {
    /// Prints what fits, and gives the plan to the firmware.
    fn plan(&self, ram: usize) -> Result<String> {
        let per_socket = plan::SOCKET + plan::POOL_SLOT + self.receive_bytes + self.transmit_bytes;
        let per_session = plan::SESSION + plan::LIST_ROW;
        let listening = self.sockets.saturating_sub(self.sessions);
        let room = ram.saturating_sub(plan::ONCE + plan::STACK + listening * per_socket);
        println!(
            "cargo::warning=RAM per session: {} bytes (socket {per_socket}, session {per_session}); {} of {ram} bytes \
             hold {} sessions and {listening} listening sockets, gateway.toml asks for {}",
            per_socket + per_session,
            ram - plan::ONCE - plan::STACK,
            room / (per_socket + per_session),
            self.sessions
        );
        let mut text = String::from("/// What the build has planned with, in bytes.\npub(crate) mod plan {\n");
        for (name, value) in [
            ("SOCKET", plan::SOCKET),
            ("POOL_SLOT", plan::POOL_SLOT),
            ("SESSION", plan::SESSION),
            ("LIST_ROW", plan::LIST_ROW),
            ("PER_SOCKET", per_socket),
            ("PER_SESSION", per_session),
            ("ONCE", plan::ONCE),
            ("STACK", plan::STACK),
        ] {
            writeln!(text, "    pub(crate) const {name}: usize = {value};")?;
        }
        text.push_str("}\n");
        Ok(text)
    }

    fn to_rust(&self) -> Result<String> {
        let (address, prefix) = self.address.split_once('/').ok_or("gateway.toml: address is not IP/PREFIX")?;
        let address: Ipv4Addr = address.parse()?;
        let prefix: u8 = prefix.parse()?;
        let mut text = String::new();
        if env::var_os("CARGO_FEATURE_DHCP").is_none() {
            writeln!(
                text,
                "pub(crate) const ADDRESS: core::net::Ipv4Addr = core::net::Ipv4Addr::from_bits({:#010x});",
                address.to_bits()
            )?;
            writeln!(text, "pub(crate) const PREFIX: u8 = {prefix};")?;
            writeln!(
                text,
                "pub(crate) const ROUTER: core::net::Ipv4Addr = core::net::Ipv4Addr::from_bits({:#010x});",
                self.router.to_bits()
            )?;
        }
        writeln!(text, "pub(crate) const PORT: u16 = {};", self.port)?;
        for (name, value) in [
            ("SOCKETS", self.sockets),
            ("SESSIONS", self.sessions),
            ("RECEIVE_BYTES", self.receive_bytes),
            ("TRANSMIT_BYTES", self.transmit_bytes),
            ("SCRATCH", self.transmit_bytes.max(256 + 64)),
            ("LOG_READERS", self.log_readers),
        ] {
            writeln!(text, "pub(crate) const {name}: usize = {value};")?;
        }
        writeln!(text, "pub(crate) const FLAG_TIMEOUT: Duration = Duration::from_secs({});", self.flag_seconds)?;
        writeln!(text, "pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs({});", self.idle_seconds)?;
        Ok(text)
    }
}

impl Users {
    fn to_rust(&self) -> Result<String> {
        let mut text = format!("static USERS: [User; {}] = [\n", self.user.len());
        for (index, user) in self.user.iter().enumerate() {
            let User { name, digest, role } = user;
            if name.is_empty() || name.len() > 32 || name.chars().any(char::is_control) {
                return Err(format!("users.toml: {name:?} is no name of 1 to 32 bytes").into());
            }
            if self.user.iter().take(index).any(|other| other.name == *name) {
                return Err(format!("users.toml: {name} is there twice").into());
            }
            let digest = digest_bytes(digest).ok_or(format!("users.toml: digest of {name} is not 32 hex digits"))?;
            writeln!(text, "    User {{ name: {name:?}, digest: Digest({digest:?}), role: Role::{role:?} }},")?;
        }
        text.push_str("];\n");
        Ok(text)
    }
}

fn digest_bytes(hex: &str) -> Option<Vec<u8>> {
    if hex.len() != 32 || !hex.is_ascii() {
        return None;
    }
    (0..16).map(|at| u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok()).collect()
}
