//! The command line.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use pulsegate_bench::dialect::Dialect;
use pulsegate_bench::host;
use pulsegate_bench::loadgen::Work;

#[derive(Parser)]
#[command(about = "Measures session servers by ratio, two at a time on the same machine")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Apply one load to a server that is already running
    Load(LoadArgs),
    /// Alternate two servers under the same load and print the ratios
    Compare(CompareArgs),
    /// Compare a server with the raw echo under a dozen loads, as a table
    Table(TableArgs),
    /// Compare a server on several cores with itself on one
    Shards(ShardsArgs),
    /// Measure resident bytes per idle session
    Idle(IdleArgs),
    /// Measure upload and download, with the echo beside them, as a table
    Files(FilesArgs),
    /// Keep uploading to a server that is already running, to see what that does to its other sessions
    Upload(UploadArgs),
    /// Measure how late silent clients are closed; fails if any is closed early or not at all
    Lateness(LatenessArgs),
    /// Run a fleet that beats slowly while devices die and others connect; fails if a live one is closed, or a dead one
    /// early or not at all
    Soak(SoakArgs),
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
pub(crate) struct ServeArgs {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,
    /// The core to run on; any, if not given
    #[arg(long)]
    pub(crate) core: Option<usize>,
    /// Seconds of silence after which a shape closes a connection
    #[arg(long, default_value = "60", value_parser = seconds)]
    pub(crate) idle_timeout: Duration,
}

#[derive(Args)]
pub(crate) struct Shape {
    /// How many connections
    #[arg(long, default_value_t = 64)]
    pub(crate) connections: usize,
    /// Requests outstanding on each connection
    #[arg(long, default_value_t = 16)]
    pub(crate) depth: usize,
    /// `heartbeat`, or `cycle:BYTES`
    #[arg(long, default_value = "heartbeat")]
    pub(crate) dialect: Dialect,
    /// Each connection sends its flag and a heartbeat, reads the answer, closes, and the next one connects; that is
    /// counted as one request
    #[arg(long, conflicts_with_all = ["depth", "dialect"])]
    pub(crate) churn: bool,
}

impl Shape {
    pub(crate) const fn work(&self) -> Work {
        if self.churn {
            Work::Churn
        } else {
            Work::Requests { depth: self.depth, dialect: self.dialect }
        }
    }
}

#[derive(Args)]
pub(crate) struct Times {
    /// Seconds that are measured
    #[arg(long, default_value = "2", value_parser = seconds)]
    pub(crate) seconds: Duration,
    /// Seconds of load before that
    #[arg(long, default_value = "0.5", value_parser = seconds)]
    pub(crate) warm_up: Duration,
}

#[derive(Args)]
pub(crate) struct Cores {
    /// The core that servers run on, with all their threads
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// The core that the load generator runs on
    #[arg(long, default_value_t = 1)]
    load_core: usize,
}

impl Cores {
    pub(crate) const fn get(&self) -> host::Cores {
        host::Cores { server: self.server_core, load: self.load_core }
    }
}

#[derive(Args)]
pub(crate) struct LoadArgs {
    /// The server
    #[arg(long)]
    pub(crate) server: SocketAddr,
    /// The server is a raw echo
    #[arg(long)]
    pub(crate) echo: bool,
    /// The core to run on; any, if not given
    #[arg(long)]
    pub(crate) core: Option<usize>,
    /// Speak with the process that started this one: wait for its word, say when the measured time begins and ends, then
    /// the figures
    #[arg(long, hide = true)]
    pub(crate) figures: bool,
    #[command(flatten)]
    pub(crate) shape: Shape,
    #[command(flatten)]
    pub(crate) times: Times,
}

#[derive(Args)]
pub(crate) struct CompareArgs {
    /// A server's command line, split at white space; `self` names this program
    #[arg(long)]
    pub(crate) a: String,
    /// The server to compare with
    #[arg(long)]
    pub(crate) b: String,
    /// Side a is a raw echo
    #[arg(long)]
    pub(crate) a_echo: bool,
    /// Side b is a raw echo
    #[arg(long)]
    pub(crate) b_echo: bool,
    /// How often each side runs
    #[arg(long, default_value_t = 5)]
    pub(crate) pairs: usize,
    #[command(flatten)]
    pub(crate) shape: Shape,
    #[command(flatten)]
    pub(crate) times: Times,
    #[command(flatten)]
    pub(crate) cores: Cores,
}

#[derive(Args)]
pub(crate) struct TableArgs {
    /// The server's command line, split at white space; `self` names this program
    #[arg(long)]
    pub(crate) server: String,
    /// How often server and echo run under each load
    #[arg(long, default_value_t = 7)]
    pub(crate) pairs: usize,
    #[command(flatten)]
    pub(crate) times: Times,
    #[command(flatten)]
    pub(crate) cores: Cores,
}

#[derive(Args)]
pub(crate) struct ShardsArgs {
    /// The server's command line, split at white space, with {shards} where their number goes
    #[arg(long)]
    pub(crate) server: String,
    /// How many shards and load generators are compared with one, on as many cores
    #[arg(long, default_value_t = 2)]
    pub(crate) shards: usize,
    /// How many connections, over all load generators
    #[arg(long, default_value_t = 1000)]
    pub(crate) connections: usize,
    /// Requests outstanding on each connection
    #[arg(long, default_value_t = 1)]
    pub(crate) depth: usize,
    /// How often each side runs
    #[arg(long, default_value_t = 5)]
    pub(crate) pairs: usize,
    #[command(flatten)]
    pub(crate) times: Times,
    #[command(flatten)]
    pub(crate) cores: Cores,
}

#[derive(Args)]
pub(crate) struct IdleArgs {
    /// The server's command line, split at white space; `self` names this program
    #[arg(long)]
    pub(crate) server: String,
    /// The server is a raw echo
    #[arg(long)]
    pub(crate) echo: bool,
    /// How many idle sessions
    #[arg(long, default_value_t = 10_000)]
    pub(crate) connections: usize,
    #[command(flatten)]
    pub(crate) cores: Cores,
}

#[derive(Args)]
pub(crate) struct FilesArgs {
    /// The server's command line, split at white space, with {dir} where the directory for its files goes
    #[arg(long)]
    pub(crate) server: String,
    /// Bytes of data per packet
    #[arg(long, value_delimiter = ',', default_values_t = [4096, 32768, 65536])]
    pub(crate) packets: Vec<usize>,
    /// How many connections at once
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 256])]
    pub(crate) connections: Vec<usize>,
    /// Bytes that each measurement moves
    #[arg(long, default_value_t = 512 << 20)]
    pub(crate) total: u64,
    /// How often each is measured
    #[arg(long, default_value_t = 3)]
    pub(crate) rounds: usize,
    #[command(flatten)]
    pub(crate) cores: Cores,
}

#[derive(Args)]
pub(crate) struct UploadArgs {
    /// The server, whose user admin has the password admin
    #[arg(long)]
    pub(crate) server: SocketAddr,
    /// The core to run on; any, if not given
    #[arg(long)]
    pub(crate) core: Option<usize>,
    /// How many connections at once
    #[arg(long, default_value_t = 64)]
    pub(crate) connections: usize,
    /// Bytes of data per packet
    #[arg(long, default_value_t = 65536)]
    pub(crate) packet: usize,
    /// Bytes of each file
    #[arg(long, default_value_t = 4 << 20)]
    pub(crate) file: u64,
    /// Seconds after which no further round begins
    #[arg(long, default_value = "20", value_parser = seconds)]
    pub(crate) seconds: Duration,
}

#[derive(Args)]
pub(crate) struct LatenessArgs {
    /// The server's command line, split at white space; `self` names this program
    #[arg(long)]
    pub(crate) server: String,
    /// How many silent clients
    #[arg(long, default_value_t = 1000)]
    pub(crate) clients: usize,
    /// The server's idle timeout in seconds, as its command line has it
    #[arg(long, value_parser = seconds)]
    pub(crate) idle_timeout: Duration,
    /// Seconds over which the clients' last heartbeats are spread
    #[arg(long, default_value = "2", value_parser = seconds)]
    pub(crate) spread: Duration,
    #[command(flatten)]
    pub(crate) cores: Cores,
}

#[derive(Args)]
pub(crate) struct SoakArgs {
    /// The server's command line, split at white space; `self` names this program
    #[arg(long)]
    pub(crate) server: String,
    /// How many sessions; as many as the descriptor limit allows, if not given
    #[arg(long)]
    pub(crate) sessions: Option<usize>,
    /// Seconds between two heartbeats of a device
    #[arg(long, default_value = "30", value_parser = seconds)]
    pub(crate) beat: Duration,
    /// How many devices die in a second
    #[arg(long, default_value_t = 200)]
    pub(crate) dying: u32,
    /// The server's idle timeout in seconds, as its command line has it
    #[arg(long, default_value = "60", value_parser = seconds)]
    pub(crate) idle_timeout: Duration,
    /// Seconds that the fleet runs once all are connected
    #[arg(long, default_value = "300", value_parser = seconds)]
    pub(crate) seconds: Duration,
    #[command(flatten)]
    pub(crate) cores: Cores,
}

#[derive(Args)]
pub(crate) struct ShapesArgs {
    /// How often each server runs under each load
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: usize,
    /// How many idle sessions
    #[arg(long, default_value_t = 10_000)]
    pub(crate) idle: usize,
    #[command(flatten)]
    pub(crate) times: Times,
    #[command(flatten)]
    pub(crate) cores: Cores,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "expected a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}
