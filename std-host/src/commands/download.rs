//! `pulsegate download`: a file from a server, over as many connections as it takes.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;

use super::transfer::{Progress, TransferArgs, result};
use crate::client::transfer::{DownloadFile, Options, Transfer, TransferError};
use crate::client::{Client, Flag};
use crate::text::printable;

/// Fetches a file from a server, and continues where an earlier attempt was interrupted.
///
/// What has come so far is in OUTPUT.part, which gets its final name once it is whole. After a broken
/// or silent connection it connects again and continues; what the server refuses ends with the
/// server's code and words.
///
/// Exits with 0 when the file is here whole, with 1 when it is not.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    transfer: TransferArgs,
    /// Where to put it; without it, under its own name in the current directory.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace a local file that exists.
    #[arg(long)]
    force: bool,
    /// Show what the directory on the server holds instead: size and name, directories with a slash.
    #[arg(long, conflicts_with_all = ["output", "force", "name"])]
    list: bool,
    /// The file's name on the server.
    #[arg(value_name = "NAME", required_unless_present = "list")]
    name: Option<String>,
}

/// Fetches the file, or lists the directory.
///
/// # Errors
/// When the file cannot be fetched whole, and when there is one of its name here already.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Some(name) = &args.name else {
        return list(args.transfer.options().await?, &args.transfer.dir).await;
    };
    let output = match &args.output {
        Some(output) => output.clone(),
        None => own_name(name)?,
    };
    // Told before a password is asked for.
    if !args.force && output.symlink_metadata().is_ok() {
        return Err(TransferError::Exists { path: output }.into());
    }
    let mut transfer = Transfer::downloads(args.transfer.options().await?);
    let fetch = DownloadFile { dir: &args.transfer.dir, name, output: &output, force: args.force };
    let started = Instant::now();
    let mut progress = Progress::new(name, &args.transfer);
    let outcome = transfer.download(fetch, &mut |event| progress.show(event)).await;
    progress.finish();
    println!("{}", result(&output.display().to_string(), &outcome?, started.elapsed()));
    Ok(ExitCode::SUCCESS)
}

/// The last component of a name on the server, which may have directories in front.
fn own_name(name: &str) -> anyhow::Result<PathBuf> {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    (!matches!(last, "" | "." | ".."))
        .then(|| PathBuf::from(last))
        .with_context(|| format!("{} names no file", printable(name, 200)))
}

async fn list(options: Options, dir: &str) -> anyhow::Result<ExitCode> {
    let mut client =
        Client::connect_with(&options.server, Flag::Download, options.timeouts).await?;
    client.login(&options.user, &options.password).await?;
    let dirs = client.directories(dir).await?;
    let files = client.files(dir).await?;
    let mut text = String::new();
    for name in &dirs {
        text += &format!("{:>14} {}/\n", "", printable(name, 1024));
    }
    for file in &files {
        text += &format!("{:>14} {}\n", file.size, printable(&file.name, 1024));
    }
    match io::stdout().lock().write_all(text.as_bytes()) {
        // Whoever reads (`| head`) may have seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written?,
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::own_name;

    #[test]
    fn the_local_name_is_the_last_component() {
        for name in ["f", "a/f", "a\\b\\f", "../f"] {
            assert_eq!(own_name(name).unwrap().to_str(), Some("f"));
        }
        for wrong in ["", "a/", "..", "a\\.."] {
            assert!(own_name(wrong).is_err(), "{wrong}");
        }
    }
}
