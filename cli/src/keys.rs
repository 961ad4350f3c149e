//! `annals keys create`, `annals keys revoke`.

use std::{process::ExitCode, time::Duration};

use reqwest::Method;
use serde_json::json;

use crate::client::{Client, Connection, Request};

/// Keys of principals.
#[derive(Debug, clap::Args)]
pub(crate) struct Keys {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Make a key and print it: this once, for only its hash is kept. Beside it, its id and that of its principal,
    /// which `annals keys revoke` and `annals erase` take.
    Create {
        /// Whose key: a tenant's name or id. Operators must say it; for others it is their own tenant.
        #[arg(long)]
        tenant: Option<String>,
        /// What it may do: content:write, downloads:write, visits:write, read, admin.
        #[arg(long, value_delimiter = ',', required = true)]
        scopes: Vec<String>,
        /// Who or what uses it.
        #[arg(long)]
        name: Option<String>,
        /// Print the key and nothing else, for scripts.
        #[arg(long)]
        quiet: bool,
        #[command(flatten)]
        connection: Connection,
    },
    /// Make a key worthless, everywhere within a second.
    Revoke {
        /// The part between the underscores of `ann_…_…`; of a whole key only that is sent.
        id: String,
        #[command(flatten)]
        connection: Connection,
    },
}

const PATIENCE: Duration = Duration::from_secs(5);

impl Keys {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match self.verb {
            Verb::Create {
                tenant,
                scopes,
                name,
                quiet,
                connection,
            } => {
                let mut body = json!({ "scopes": scopes });
                for (field, value) in [("tenant", tenant), ("name", name)] {
                    if let Some(value) = value {
                        body[field] = value.into();
                    }
                }
                let request = Request::command(Method::POST, "api/v1/keys", Some(body));
                let answer = Client::new(&connection, PATIENCE)?.send(request).await?;
                println!("{}", answer.body["key"].as_str().unwrap_or_default());
                if !quiet {
                    let id = |field: &str| answer.body[field].as_str().unwrap_or("?").to_owned();
                    eprintln!("key id {}, principal {}", id("id"), id("principal"));
                    eprintln!("Keep it: it is not shown again. For this command line: export ANNALS_KEY=…");
                }
            }
            Verb::Revoke { id, connection } => {
                let whole = id.strip_prefix("ann_").and_then(|rest| rest.split_once('_'));
                let id = whole.map_or(id.as_str(), |(id, _)| id);
                let request = Request::command(Method::DELETE, format!("api/v1/keys/{id}"), None);
                Client::new(&connection, PATIENCE)?.send(request).await?;
                println!("{id} is revoked");
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
