//! Builds images of the firmware.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// Builds the release image for the first board with these features added, and copies it aside: the next build with
/// other features takes its place.
pub(crate) fn build(root: &Path, features: &[&str]) -> Result<PathBuf> {
    // Another one where the usual compiler lacks the target.
    let mut cargo =
        Command::new(std::env::var_os("FIRMWARE_CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--release", "--message-format=json-render-diagnostics"]);
    cargo.args(["--features", &features.join(",")]);
    cargo.current_dir(root.join("firmware-example")).stderr(Stdio::inherit());
    let output = cargo.output().context("cargo cannot be run")?;
    ensure!(output.status.success(), "the firmware does not build");
    let messages = String::from_utf8_lossy(&output.stdout);
    let Some(built) = executable(&messages) else { bail!("cargo named no image") };
    let aside =
        built.with_file_name(format!("pulsegate-{}.elf", ["image", &features.join("-")].join("-")));
    std::fs::copy(&built, &aside)
        .with_context(|| format!("{} cannot be copied", built.display()))?;
    Ok(aside)
}

/// The last executable in cargo's messages. Its path holds no quotes: cargo's target directories rarely do.
fn executable(messages: &str) -> Option<PathBuf> {
    let (_, behind) = messages.rsplit_once("\"executable\":\"")?;
    behind.split_once('"').map(|(path, _)| PathBuf::from(path))
}
