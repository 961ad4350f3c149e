//! `./dev bench [PHASE…]`: measures the release binary beside this one, and writes BENCHMARKS.md.

use std::{path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};
use e2e::bench::{Bench, bare, catch_up, fleet, footprint, ledger, live, reads, report, startup, writes};
use e2e::{engines::Engines, installation::LogKind};

/// Measures Annals on this machine.
#[derive(Debug, Parser)]
struct Arguments {
    /// What to measure; everything when none is named. Only a complete run writes BENCHMARKS.md.
    phases: Vec<Phase>,
    /// How long each figure is measured, in seconds.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Only so many connections at once, in `ledger` and `writes`.
    #[arg(long)]
    connections: Option<usize>,
    /// Only this log, in `ledger` and `writes`.
    #[arg(long)]
    log: Option<LogKind>,
    /// With how many commits in the log a start is measured, in `startup`.
    #[arg(long, value_delimiter = ',', default_value = "10000,100000,1000000")]
    commits: Vec<u64>,
    /// How many events of content are in the log of `catch-up`, at least.
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
    /// How many visits are in the other log of `catch-up`, at least.
    #[arg(long, default_value_t = 5_000_000)]
    visits: u64,
    /// The program to measure; by default `annals` beside this one.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Be the bare server: what the others are compared with.
    #[arg(long, hide = true)]
    bare: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Phase {
    Footprint,
    Startup,
    Ledger,
    Writes,
    Fleet,
    CatchUp,
    Live,
    Reads,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if arguments.bare {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        println!("{}", listener.local_addr()?);
        return bare::serve(listener).await;
    }
    let own = std::env::current_exe()?;
    // Only a complete run is kept.
    let complete = arguments.phases.is_empty()
        && arguments.connections.is_none()
        && arguments.log.is_none()
        && arguments.commits.contains(&1_000_000)
        && arguments.events >= 1_000_000
        && arguments.visits >= 5_000_000;
    let bench = Bench {
        engines: Engines::from_environment()?,
        binary: arguments.binary.unwrap_or_else(|| own.with_file_name("annals")),
        own,
        duration: Duration::from_secs_f64(arguments.seconds),
        connections: arguments.connections,
        log: arguments.log,
    };
    let wanted = |phase| arguments.phases.is_empty() || arguments.phases.contains(&phase);
    let mut report = report::Report::default();
    if wanted(Phase::Footprint) {
        footprint::run(&bench, &mut report).await?;
    }
    if wanted(Phase::Startup) {
        startup::run(&bench, &mut report, &arguments.commits).await?;
    }
    if wanted(Phase::Ledger) {
        ledger::run(&bench, &mut report).await?;
    }
    if wanted(Phase::Writes) {
        writes::run(&bench, &mut report).await?;
    }
    if wanted(Phase::Fleet) {
        fleet::run(&bench, &mut report).await?;
    }
    if wanted(Phase::CatchUp) {
        catch_up::run(&bench, &mut report, (arguments.events, arguments.visits)).await?;
    }
    if wanted(Phase::Live) {
        live::run(&bench, &mut report).await?;
    }
    if wanted(Phase::Reads) {
        reads::run(&bench, &mut report).await?;
    }
    let page = report.page(&bench.engines).await?;
    if complete {
        std::fs::write(report::place(), &page)?;
        println!("\nwritten to BENCHMARKS.md");
    } else {
        println!("\n{page}");
    }
    Ok(())
}
