//! Measures session servers by ratio; see the commands' help.
#![forbid(unsafe_code)]

use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use pulsegate_bench::baseline::{self, Kind, Options};
use pulsegate_bench::compare::{self, Plan, Side};
use pulsegate_bench::dialect::{Dialect, Speaks};
use pulsegate_bench::loadgen::{self, Load};
use pulsegate_bench::{files, host, idle, shapes};

#[derive(Parser)]
#[command(about = "Measures session servers by ratio, two at a time on the same machine")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Apply one load to a server that is already running
    Load(LoadArgs),
    /// Alternate two servers under the same load and print the ratios
    Compare(CompareArgs),
    /// Measure resident bytes per idle session
    Idle(IdleArgs),
    /// Measure upload and download, with the echo beside them, as a table
    Files(FilesArgs),
    /// Measure the shape prototypes against the raw echo, as tables
    Shapes(ShapesArgs),
    /// Serve a raw echo: one thread, level-triggered epoll
    EchoEpoll(ServeArgs),
    /// Serve a raw echo: a Tokio task per connection
    EchoTokio(ServeArgs),
    /// Serve heartbeats: a Tokio task and a timer per connection
    ShapeTask {
        /// Read into a buffer of the thread instead of one per connection
        #[arg(long)]
        shared_buffer: bool,
        #[command(flatten)]
        serve: ServeArgs,
    },
    /// Serve heartbeats: one loop owns all sockets, waiting as a task of Tokio
    ShapeShardAsyncfd(ServeArgs),
    /// Serve heartbeats: one loop owns all sockets, waiting in the kernel
    ShapeShardMio(ServeArgs),
}

#[derive(Args)]
struct ServeArgs {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The core to run on; any, if not given
    #[arg(long)]
    core: Option<usize>,
    /// Seconds of silence after which a shape closes a connection
    #[arg(long, default_value = "60", value_parser = seconds)]
    idle_timeout: Duration,
}

#[derive(Args)]
struct Shape {
    /// How many connections
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Requests outstanding on each connection
    #[arg(long, default_value_t = 16)]
    depth: usize,
    /// `heartbeat`, or `cycle:BYTES`
    #[arg(long, default_value = "heartbeat")]
    dialect: Dialect,
}

#[derive(Args)]
struct Times {
    /// Seconds that are measured
    #[arg(long, default_value = "2", value_parser = seconds)]
    seconds: Duration,
    /// Seconds of load before that
    #[arg(long, default_value = "0.5", value_parser = seconds)]
    warm_up: Duration,
}

#[derive(Args)]
struct Cores {
    /// The core that servers run on, with all their threads
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// The core that the load generator runs on
    #[arg(long, default_value_t = 1)]
    load_core: usize,
}

#[derive(Args)]
struct LoadArgs {
    /// The server
    #[arg(long)]
    server: SocketAddr,
    /// The server is a raw echo
    #[arg(long)]
    echo: bool,
    /// The core to run on; any, if not given
    #[arg(long)]
    core: Option<usize>,
    #[command(flatten)]
    shape: Shape,
    #[command(flatten)]
    times: Times,
}

#[derive(Args)]
struct CompareArgs {
    /// A server's command line, split at white space; `self` names this program
    #[arg(long)]
    a: String,
    /// The server to compare with
    #[arg(long)]
    b: String,
    /// Side a is a raw echo
    #[arg(long)]
    a_echo: bool,
    /// Side b is a raw echo
    #[arg(long)]
    b_echo: bool,
    /// How often each side runs
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    #[command(flatten)]
    shape: Shape,
    #[command(flatten)]
    times: Times,
    #[command(flatten)]
    cores: Cores,
}

#[derive(Args)]
struct IdleArgs {
    /// The server's command line, split at white space; `self` names this program
    #[arg(long)]
    server: String,
    /// The server is a raw echo
    #[arg(long)]
    echo: bool,
    /// How many idle sessions
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    #[command(flatten)]
    cores: Cores,
}

#[derive(Args)]
struct FilesArgs {
    /// The server's command line, split at white space, with {dir} where the directory for its files goes
    #[arg(long)]
    server: String,
    /// Bytes of data per packet
    #[arg(long, value_delimiter = ',', default_values_t = [4096, 32768, 65536])]
    packets: Vec<usize>,
    /// How many connections at once
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 256])]
    connections: Vec<usize>,
    /// Bytes that each measurement moves
    #[arg(long, default_value_t = 512 << 20)]
    total: u64,
    /// How often each is measured
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    #[command(flatten)]
    cores: Cores,
}

#[derive(Args)]
struct ShapesArgs {
    /// How often each server runs under each load
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How many idle sessions
    #[arg(long, default_value_t = 10_000)]
    idle: usize,
    #[command(flatten)]
    times: Times,
    #[command(flatten)]
    cores: Cores,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "expected a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn speaks(echo: bool) -> Speaks {
    if echo { Speaks::Echo } else { Speaks::Protocol }
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Load(args) => load(&args),
        Command::Compare(args) => compare(args),
        Command::Idle(args) => {
            let cores = (args.cores.server_core, args.cores.load_core);
            let cost = idle::measure(&args.server, speaks(args.echo), args.connections, cores)?;
            say(&cost)
        }
        Command::Files(args) => say(&files::measure(&files::Plan {
            server: args.server,
            packets: args.packets,
            connections: args.connections,
            total: args.total,
            rounds: args.rounds,
            cores: (args.cores.server_core, args.cores.load_core),
        })?),
        Command::Shapes(args) => {
            let plan = plan(args.rounds, (1, 1, Dialect::Heartbeat), &args.times, &args.cores);
            say(&shapes::throughput(&plan)?)?;
            let cores = (args.cores.server_core, args.cores.load_core);
            say(&shapes::idle(args.idle, cores)?)
        }
        Command::EchoEpoll(args) => serve(Kind::EchoEpoll, &args),
        Command::EchoTokio(args) => serve(Kind::EchoTokio, &args),
        Command::ShapeTask { shared_buffer, serve: args } => {
            serve(Kind::Task { own_buffer: !shared_buffer }, &args)
        }
        Command::ShapeShardAsyncfd(args) => serve(Kind::ShardAsyncFd, &args),
        Command::ShapeShardMio(args) => serve(Kind::ShardMio, &args),
    }
}

/// Unlike `println!`, a reader that has left is an error and no panic.
fn say(text: &impl fmt::Display) -> Result<()> {
    writeln!(io::stdout(), "{text}")?;
    Ok(())
}

fn serve(kind: Kind, args: &ServeArgs) -> Result<()> {
    baseline::serve(
        kind,
        &Options { listen: args.listen, core: args.core, idle_timeout: args.idle_timeout },
    )
}

fn load(args: &LoadArgs) -> Result<()> {
    host::raise_descriptor_limit()?;
    if let Some(core) = args.core {
        host::pin(core)?;
    }
    let load = Load {
        address: args.server,
        connections: args.shape.connections,
        depth: args.shape.depth,
        dialect: args.shape.dialect,
        speaks: speaks(args.echo),
        warm_up: args.times.warm_up,
        duration: args.times.seconds,
    };
    say(&loadgen::run(&load, &mut |_| {})?)
}

fn compare(args: CompareArgs) -> Result<()> {
    let shape = (args.shape.connections, args.shape.depth, args.shape.dialect);
    let plan = plan(args.pairs, shape, &args.times, &args.cores);
    let sides = [
        Side { name: "a".to_owned(), command: args.a, speaks: speaks(args.a_echo) },
        Side { name: "b".to_owned(), command: args.b, speaks: speaks(args.b_echo) },
    ];
    let runs = compare::measure(&sides, &plan)?;
    say(&compare::describe(&sides, &runs))
}

fn plan(
    rounds: usize,
    (connections, depth, dialect): (usize, usize, Dialect),
    times: &Times,
    cores: &Cores,
) -> Plan {
    Plan {
        rounds,
        connections,
        depth,
        dialect,
        warm_up: times.warm_up,
        duration: times.seconds,
        server_core: cores.server_core,
        load_core: cores.load_core,
    }
}
