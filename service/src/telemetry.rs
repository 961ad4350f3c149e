//! What a process tells about itself while it runs: structured log lines on standard error.

use std::fmt;

use clap::ValueEnum;
use tracing_subscriber::{EnvFilter, fmt::format::FmtSpan, layer::SubscriberExt, util::SubscriberInitExt};

/// For whom this process runs; decides the form of its logs, and what is refused at start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Environment {
    /// On a developer's machine: logs for people, weaker settings allowed.
    Development,
    /// For users: logs as JSON, weaker settings refused. What is not said to be anything else is this.
    #[default]
    Production,
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Development => "development",
            Self::Production => "production",
        })
    }
}

/// Starts logging. `RUST_LOG` chooses what is written, by default `info` and above.
///
/// # Errors
/// It was started before, or `RUST_LOG` cannot be read.
pub fn init(environment: Environment) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(text) if !text.is_empty() => text
            .parse()
            .map_err(|error| format!("RUST_LOG is {text:?}: {error}; for example info,service=debug"))?,
        _ => EnvFilter::new("info"),
    };
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_span_events(FmtSpan::NONE);
    match environment {
        Environment::Production => registry.with(layer.json().flatten_event(true)).try_init()?,
        Environment::Development => {
            let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
            registry.with(layer.with_ansi(colours).compact()).try_init()?;
        }
    }
    Ok(())
}
