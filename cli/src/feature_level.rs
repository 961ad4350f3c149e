//! `annals feature-level [raise N]`.

use std::{process::ExitCode, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Client, Connection, Request};

const PATH: &str = "api/v1/installation/feature-level";

/// Show which event versions may be written and what each running process knows, or raise that; needs an operator's
/// key.
#[derive(Debug, clap::Args)]
pub(crate) struct FeatureLevel {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Let event versions of this level be written, for ever. Every running process must know it: after this an older
    /// release serves no partition that holds one.
    Raise {
        /// Which level.
        level: u16,
    },
}

impl FeatureLevel {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let client = Client::new(&self.connection, Duration::from_secs(5))?;
        match self.verb {
            None => print!("{}", shown(&client.send(Request::operator(PATH)).await?.body)),
            Some(Verb::Raise { level }) => {
                let body = json!({ "level": level });
                let answer = client
                    .send(Request::command(Method::POST, PATH, Some(body)))
                    .await?;
                println!("the feature level is {}", answer.body["level"]);
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn shown(body: &Value) -> String {
    let (level, known) = (&body["level"], &body["known"]);
    let mut text = format!("level {level}; every running process knows {known}\n");
    for process in body["processes"].as_array().into_iter().flatten() {
        let word = |name: &str| process[name].as_str().unwrap_or("?").to_owned();
        text += &format!(
            "{:9}  {}  knows {}\n",
            word("role"),
            word("host"),
            process["level"]
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_process_has_a_line() {
        let text = shown(&json!({"level": 0, "known": 0, "processes": [
            {"role": "writer", "host": "10.0.0.7", "level": 1},
            {"role": "projector", "host": "10.0.0.8", "level": 0},
        ]}));
        assert_eq!(
            text,
            "level 0; every running process knows 0\nwriter     10.0.0.7  knows 1\nprojector  10.0.0.8  knows 0\n"
        );
    }
}
