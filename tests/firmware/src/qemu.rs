//! The image in QEMU, started by the same script that `cargo run` uses.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};

/// A running gateway; dropping it ends it.
pub(crate) struct Qemu {
    script: Child,
    address: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
}

impl Qemu {
    /// Starts an image and waits until it listens.
    pub(crate) fn start(root: &Path, image: &Path) -> Result<Self> {
        Self::start_with(root, image, "")
    }

    /// The same with further arguments for the emulator, separated by spaces.
    pub(crate) fn start_with(root: &Path, image: &Path, arguments: &str) -> Result<Self> {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mut script = Command::new(root.join("firmware-example/run-qemu"))
            .arg(image)
            .env("PORT", address.port().to_string())
            .env("QEMU_ARGS", arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // A group of its own, for the emulator and the decoder end with the script.
            .process_group(0)
            .spawn()
            .context("firmware-example/run-qemu cannot be started")?;
        let log = Arc::new(Mutex::new(Vec::new()));
        let output = script.stdout.take().context("the script has no output")?;
        thread::spawn({
            let log = Arc::clone(&log);
            move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    log.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                }
            }
        });
        let qemu = Self { script, address, log };
        qemu.wait_for("listening: ", Duration::from_secs(30))?;
        Ok(qemu)
    }

    /// Where the gateway is to be reached.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The decoded log so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often the image has started.
    pub(crate) fn starts(&self) -> usize {
        self.log().iter().filter(|line| line.contains("since power-up")).count()
    }

    /// Waits for the emulator to end by itself, and gives its status.
    pub(crate) fn status(&mut self, patience: Duration) -> Result<Option<i32>> {
        let begin = Instant::now();
        while begin.elapsed() < patience {
            if let Some(status) = self.script.try_wait()? {
                return Ok(status.code());
            }
            thread::sleep(Duration::from_millis(50));
        }
        bail!("the image still runs after {patience:?}:\n{}", self.log().join("\n"))
    }

    /// Waits for a line of the log.
    pub(crate) fn wait_for(&self, text: &str, patience: Duration) -> Result<String> {
        let begin = Instant::now();
        loop {
            if let Some(line) = self.log().into_iter().find(|line| line.contains(text)) {
                return Ok(line);
            }
            if begin.elapsed() > patience {
                bail!(
                    "the log does not say {text:?} within {patience:?}:\n{}",
                    self.log().join("\n")
                );
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // Errors here mean that it has ended already.
        if let Some(group) = i32::try_from(self.script.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::TERM);
        }
        let _ = self.script.wait();
    }
}
