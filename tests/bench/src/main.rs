//! Measures session servers by ratio; see the commands' help.
#![forbid(unsafe_code)]

mod cli;

use std::io::{self, Write};
use std::{env, fmt};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use pulsegate_bench::baseline::{self, Kind, Options};
use pulsegate_bench::compare::{self, Plan, Side};
use pulsegate_bench::dialect::{Dialect, Speaks};
use pulsegate_bench::loadgen::{self, Figures, Load, Mark, Work};
use pulsegate_bench::{files, host, idle, lateness, shapes, shards, soak, table};

use cli::{
    Cli, Command, CompareArgs, Cores, FilesArgs, LatenessArgs, LoadArgs, ServeArgs, ShardsArgs,
    SoakArgs, TableArgs, Times, UploadArgs,
};

/// What stands for the work in a plan whose loads are given elsewhere.
const ANY_LOAD: (usize, Work) = (1, Work::Requests { depth: 1, dialect: Dialect::Heartbeat });

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Load(args) => load(&args),
        Command::Compare(args) => compare(args),
        Command::Table(args) => table(args),
        Command::Shards(args) => shards(&args),
        Command::Idle(args) => {
            let cores = args.cores.get();
            say(&idle::measure(&args.server, speaks(args.echo), args.connections, cores)?)
        }
        Command::Files(args) => files(args),
        Command::Upload(args) => upload(&args),
        Command::Lateness(args) => lateness(&args),
        Command::Soak(args) => soak(&args),
        Command::Shapes(args) => {
            say(&shapes::throughput(&plan(args.rounds, ANY_LOAD, &args.times, &args.cores))?)?;
            say(&shapes::idle(args.idle, args.cores.get())?)
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

fn files(args: FilesArgs) -> Result<()> {
    say(&files::measure(&files::Plan {
        server: args.server,
        packets: args.packets,
        connections: args.connections,
        total: args.total,
        rounds: args.rounds,
        cores: args.cores.get(),
    })?)
}

fn upload(args: &UploadArgs) -> Result<()> {
    if let Some(core) = args.core {
        host::pin(&[core])?;
    }
    let UploadArgs { server, connections, packet, file, seconds, .. } = *args;
    let rate = files::keep_uploading(server, connections, packet, file, seconds)?;
    say(&format!("uploaded   {:.0} MB/s over {connections} connections", rate / 1e6))
}

/// Unlike `println!`, a reader that has left is an error and no panic.
fn say(text: &impl fmt::Display) -> Result<()> {
    writeln!(io::stdout(), "{text}")?;
    Ok(())
}

fn speaks(echo: bool) -> Speaks {
    if echo { Speaks::Echo } else { Speaks::Protocol }
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
        host::pin(&[core])?;
    }
    let load = Load {
        address: args.server,
        connections: args.shape.connections,
        work: args.shape.work(),
        speaks: speaks(args.echo),
        warm_up: args.times.warm_up,
        duration: args.times.seconds,
    };
    if !args.figures {
        return say(&loadgen::run(&load, &mut |_| {})?);
    }
    let mut told = Ok(());
    let report = loadgen::run(&load, &mut |mark| {
        told = std::mem::replace(&mut told, Ok(())).and_then(|()| tell(mark));
    })?;
    told?;
    say(&Figures::from(&report))
}

/// Keeps step with the other load generators of the process that started this one.
fn tell(mark: Mark) -> Result<()> {
    match mark {
        Mark::Ready => {
            say(&shards::READY)?;
            io::stdin().read_line(&mut String::new())?;
            Ok(())
        }
        Mark::Begin => say(&shards::BEGIN),
        Mark::End => say(&shards::END),
    }
}

fn compare(args: CompareArgs) -> Result<()> {
    let load = (args.shape.connections, args.shape.work());
    let plan = plan(args.pairs, load, &args.times, &args.cores);
    let sides = [
        Side { name: "a".to_owned(), command: args.a, speaks: speaks(args.a_echo) },
        Side { name: "b".to_owned(), command: args.b, speaks: speaks(args.b_echo) },
    ];
    let runs = compare::measure(&sides, &plan)?;
    say(&compare::describe(&sides, &runs))
}

fn table(args: TableArgs) -> Result<()> {
    let plan = plan(args.pairs, ANY_LOAD, &args.times, &args.cores);
    let echo = "self echo-epoll".to_owned();
    let sides = [
        Side { name: "server".to_owned(), command: args.server, speaks: Speaks::Protocol },
        Side { name: "echo".to_owned(), command: echo, speaks: Speaks::Echo },
    ];
    table::measure(&sides, &plan, &mut |row| say(&row))
}

fn shards(args: &ShardsArgs) -> Result<()> {
    let plan = shards::Plan {
        rounds: args.pairs,
        shards: args.shards,
        connections: args.connections,
        depth: args.depth,
        warm_up: args.times.warm_up.as_secs_f64(),
        seconds: args.times.seconds.as_secs_f64(),
        cores: args.cores.get(),
    };
    let generator = env::current_exe().context("this program has no path")?;
    let pairs = shards::measure(&generator, &args.server, &plan)?;
    say(&shards::describe(&pairs, args.shards))
}

fn lateness(args: &LatenessArgs) -> Result<()> {
    let plan = lateness::Plan {
        clients: args.clients,
        idle_timeout: args.idle_timeout,
        spread: args.spread,
        cores: args.cores.get(),
    };
    let outcome = lateness::measure(&args.server, &plan)?;
    say(&outcome)?;
    ensure!(outcome.is_right(), "a client was closed early or not at all");
    Ok(())
}

fn soak(args: &SoakArgs) -> Result<()> {
    let plan = soak::Plan {
        sessions: args.sessions,
        beat: args.beat,
        dying: args.dying,
        idle_timeout: args.idle_timeout,
        duration: args.seconds,
        cores: args.cores.get(),
    };
    let outcome = soak::run(&args.server, &plan)?;
    say(&outcome)?;
    ensure!(
        outcome.is_right(),
        "a connection was closed that should not have been, or not answered, or forgotten"
    );
    Ok(())
}

fn plan(rounds: usize, (connections, work): (usize, Work), times: &Times, cores: &Cores) -> Plan {
    Plan {
        rounds,
        connections,
        work,
        warm_up: times.warm_up,
        duration: times.seconds,
        cores: cores.get(),
    }
}
