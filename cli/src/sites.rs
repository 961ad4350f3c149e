//! `annals sites create DOMAIN`.

use std::{process::ExitCode, time::Duration};

use reqwest::Method;
use serde_json::json;

use crate::client::{Client, Connection, Request};

/// The sites of a tenant.
#[derive(Debug, clap::Args)]
pub(crate) struct Sites {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Make a site and print its id.
    Create {
        /// Its domain; no other site of this installation may have it.
        domain: String,
        /// What people call it.
        #[arg(long)]
        name: Option<String>,
        /// The time zone in which its statistics count days, such as Europe/Vienna.
        #[arg(long)]
        timezone: Option<String>,
        #[command(flatten)]
        connection: Connection,
    },
}

impl Sites {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let Verb::Create {
            domain,
            name,
            timezone,
            connection,
        } = self.verb;
        let mut body = json!({ "domain": domain });
        for (field, value) in [("name", name), ("timezone", timezone)] {
            if let Some(value) = value {
                body[field] = value.into();
            }
        }
        let request = Request::command(Method::POST, "api/v1/sites", Some(body));
        let answer = Client::new(&connection, Duration::from_secs(5))?
            .send(request)
            .await?;
        println!("{}", answer.body["id"].as_str().unwrap_or_default());
        Ok(ExitCode::SUCCESS)
    }
}
