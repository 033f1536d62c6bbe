//! The `pulsegate` command.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use pulsegate::commands::{clients, demo, download, logs, ping, serve, simulate, upload, user};

/// Session server for devices that hold a TCP connection open for days.
#[derive(Parser)]
#[command(version, about, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serves devices and operators
    Serve(Box<serve::ServeArgs>),
    Demo(demo::Args),
    Simulate(Box<simulate::Args>),
    Clients(clients::Args),
    Ping(ping::Args),
    Upload(upload::Args),
    Download(download::Args),
    Logs(logs::Args),
    /// Adds, removes and lists users
    User(user::UserArgs),
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    // One worker keeps the devices' clocks while the other prints.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let outcome = runtime.block_on(async {
        match command {
            Command::Serve(args) => serve::run(*args).await,
            Command::Demo(args) => demo::run(args).await,
            Command::Simulate(args) => simulate::run(*args).await,
            Command::Clients(args) => clients::run(args).await,
            Command::Ping(args) => ping::run(args).await,
            Command::Upload(args) => upload::run(args).await,
            Command::Download(args) => download::run(args).await,
            Command::Logs(args) => logs::run(args).await,
            Command::User(args) => user::run(args).map(|()| ExitCode::SUCCESS),
        }
    });
    // A password prompt that was interrupted still waits for its line: it must not hold the exit.
    runtime.shutdown_background();
    outcome
}
