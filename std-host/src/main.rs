//! The `pulsegate` command.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use pulsegate::commands::{serve, user};

/// Session server for devices that hold a TCP connection open for days.
#[derive(Debug, Parser)]
#[command(version, about, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve devices and operators
    Serve(Box<serve::ServeArgs>),
    /// Add, remove and list users
    User(user::UserArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("pulsegate: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match command {
        Command::Serve(args) => runtime.block_on(serve::run(*args)),
        Command::User(args) => user::run(args).map(|()| ExitCode::SUCCESS),
    }
}
