//! The `annals` command: `serve` runs the services, everything else is a client of their HTTP APIs.
//!
//! Read `import/posts.rs` and `import/access_log.rs` for what comes in from elsewhere, `serve.rs` for how the
//! services are put together, `client.rs` for what all the others share.

#![forbid(unsafe_code)]

mod client;
mod erase;
mod events;
mod export;
mod feature_level;
mod import;
mod keys;
mod log;
mod openapi;
mod operator_key;
mod parked;
mod progress;
mod rebuild;
mod serve;
mod sites;
mod status;
mod tenants;
mod verify;

use std::{process::ExitCode, time::Duration};

use clap::Parser;

/// An event-sourced platform for publishing, statistics and queues.
#[derive(Debug, Parser)]
#[command(name = "annals", version, max_term_width = 100)]
struct Annals {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Serve(Box<serve::Serve>),
    Tenants(tenants::Tenants),
    Keys(keys::Keys),
    Sites(sites::Sites),
    /// Bring in what exists elsewhere; repeatable, resumable.
    #[command(subcommand)]
    Import(import::Import),
    Erase(erase::Erase),
    Events(events::Events),
    Export(export::Export),
    FeatureLevel(feature_level::FeatureLevel),
    Status(status::Status),
    Verify(verify::Verify),
    Rebuild(rebuild::Rebuild),
    Rollback(rebuild::Rollback),
    Generations(rebuild::Generations),
    Parked(parked::Parked),
    Log(log::Log),
    OperatorKey(operator_key::OperatorKey),
    #[command(name = "openapi")]
    OpenApi(openapi::OpenApi),
}

impl Command {
    async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Serve(serve) => serve.run().await,
            Self::Tenants(tenants) => tenants.run().await,
            Self::Keys(keys) => keys.run().await,
            Self::Sites(sites) => sites.run().await,
            Self::Import(import) => import.run().await,
            Self::Erase(erase) => erase.run().await,
            Self::Events(events) => events.run().await,
            Self::Export(export) => export.run().await,
            Self::FeatureLevel(level) => level.run().await,
            Self::Status(status) => status.run().await,
            Self::Verify(verify) => verify.run().await,
            Self::Rebuild(rebuild) => rebuild.run().await,
            Self::Rollback(rollback) => rollback.run().await,
            Self::Generations(generations) => generations.run().await,
            Self::Parked(parked) => parked.run().await,
            Self::Log(log) => log.run().await,
            Self::OperatorKey(key) => Ok(key.run()),
            Self::OpenApi(openapi) => openapi.run(),
        }
    }
}

/// How long work beside the runtime may take to end after everything else has.
const FAREWELL: Duration = Duration::from_secs(5);

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let Annals { command } = Annals::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    let code = runtime
        .block_on(command.run())
        .unwrap_or_else(|error| failed(&error));
    // What a library of another language still waits for on a thread of its own must not keep the process.
    runtime.shutdown_timeout(FAREWELL);
    code
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_in_order() {
        <super::Annals as clap::CommandFactory>::command().debug_assert();
    }
}
