//! `pulsegate upload`: files to a server, over as many connections as it takes.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, ensure};

use super::transfer::{Progress, TransferArgs, result};
use crate::client::transfer::{Transfer, TransferError, UploadFile};
use crate::client::{ClientError, NO_DIRECTORY};
use crate::text::printable;

/// Sends files to a server, and continues where an earlier attempt was interrupted.
///
/// What the server holds of a file already is taken for its beginning, and only the rest is sent.
/// After a broken or silent connection, or when another sender of the same file took over, it
/// connects again and continues; what the server refuses ends the file with the server's code and
/// words.
///
/// Exits with 0 when all files are on the server whole, with 1 when one is not.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    transfer: TransferArgs,
    /// Call the file so on the server; for a single FILE.
    #[arg(long)]
    name: Option<String>,
    /// Make the directory on the server if it is missing.
    #[arg(long, requires = "dir")]
    make_dir: bool,
    /// Delete what the server holds under the name first, and send the file from its beginning.
    #[arg(long)]
    replace: bool,
    /// The files to send.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

/// Sends the files one after the other.
///
/// # Errors
/// When the arguments contradict each other; a file that fails is a line of the output.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let names = names(&args)?;
    for file in &args.files {
        let readable = std::fs::File::open(file);
        readable.with_context(|| format!("cannot open {}", file.display()))?;
    }
    let mut transfer = Transfer::uploads(args.transfer.options().await?);
    let mut whole = 0;
    for (file, name) in args.files.iter().zip(&names) {
        let send = UploadFile {
            file,
            dir: &args.transfer.dir,
            name,
            make_dir: args.make_dir,
            replace: args.replace,
        };
        let started = Instant::now();
        let mut progress = Progress::new(name, &args.transfer);
        let outcome = transfer.upload(send, &mut |event| progress.show(event)).await;
        progress.finish();
        match outcome {
            Ok(outcome) => {
                whole += 1;
                println!("{}", result(&printable(name, 200), &outcome, started.elapsed()));
            }
            Err(error) => {
                let others_fail_too = concerns_all(&error);
                let hint = if lacks_directory(&error) { "; --make-dir makes it" } else { "" };
                let error = anyhow::Error::new(error);
                eprintln!("error: {}: {error:#}{hint}", file.display());
                if others_fail_too {
                    break;
                }
            }
        }
    }
    if names.len() > 1 {
        println!("{whole} of {} files are on the server", names.len());
    }
    Ok(if whole == names.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What the files are called on the server.
fn names(args: &Args) -> anyhow::Result<Vec<String>> {
    if let Some(name) = &args.name {
        ensure!(args.files.len() == 1, "--name is for a single file: send the others without it");
        return Ok(vec![name.clone()]);
    }
    let mut seen = HashSet::new();
    for file in &args.files {
        let name = own_name(file)?;
        // The second would be taken for the rest of the first.
        ensure!(
            seen.insert(name),
            "two files would be called {name} on the server: send one of them with another --name"
        );
    }
    args.files.iter().map(|file| own_name(file).map(str::to_owned)).collect()
}

fn own_name(file: &Path) -> anyhow::Result<&str> {
    let name = file.file_name().and_then(|name| name.to_str());
    name.with_context(|| {
        format!("{} has no name that can be sent: give one with --name", file.display())
    })
}

fn lacks_directory(error: &TransferError) -> bool {
    matches!(error, TransferError::Client(ClientError::Refused { code: NO_DIRECTORY, .. }))
}

/// Whether what went wrong with one file would go wrong with each.
fn concerns_all(error: &TransferError) -> bool {
    match error {
        TransferError::Client(ClientError::Refused { command, .. }) => *command == "Login",
        TransferError::Client(_) | TransferError::GaveUp { .. } => true,
        _ => false,
    }
}
