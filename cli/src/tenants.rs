//! `annals tenants create NAME`.

use std::{process::ExitCode, time::Duration};

use reqwest::Method;
use serde_json::json;

use crate::client::{Client, Connection, Request};

/// Those whose data is kept apart; needs an operator's key.
#[derive(Debug, clap::Args)]
pub(crate) struct Tenants {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Make a tenant and print its id.
    Create {
        /// What people call it.
        name: String,
        #[command(flatten)]
        connection: Connection,
    },
}

impl Tenants {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let Verb::Create { name, connection } = self.verb;
        let client = Client::new(&connection, Duration::from_secs(5))?;
        let request = Request::command(Method::POST, "api/v1/tenants", Some(json!({ "name": name })));
        let answer = client.send(request).await?;
        println!("{}", answer.body["id"].as_str().unwrap_or_default());
        Ok(ExitCode::SUCCESS)
    }
}
