//! `annals status`: how far the projections are.

use std::{process::ExitCode, time::Duration};

use serde_json::Value;

use crate::client::{Client, Connection, Request};

/// Show the projections: generation, state, and how far each is behind the log. Needs an operator's key.
#[derive(Debug, clap::Args)]
pub(crate) struct Status {
    #[command(flatten)]
    connection: Connection,
}

impl Status {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let client = Client::new(&self.connection, Duration::from_secs(2))?;
        let answer = client.send(Request::query("api/v1/projections")).await?;
        print!("{}", table(&answer.body));
        Ok(ExitCode::SUCCESS)
    }
}

/// One line for each partition of each projection.
fn table(body: &Value) -> String {
    let none = Vec::new();
    let items = body
        .as_array()
        .or_else(|| body["items"].as_array())
        .unwrap_or(&none);
    let headings = [
        "PROJECTION",
        "GEN",
        "STATE",
        "PARTITION",
        "POSITION",
        "END",
        "LAG",
        "SECONDS",
        "PARKED",
    ];
    let mut rows = vec![headings.map(str::to_owned)];
    for projection in items {
        for partition in projection["partitions"].as_array().unwrap_or(&none) {
            rows.push([
                show(&projection["name"]),
                show(&projection["generation"]),
                show(&projection["state"]),
                show(&partition["partition"]),
                show(&partition["position"]),
                show(&partition["end"]),
                show(&partition["lag_events"]),
                show(&partition["lag_seconds"]),
                show(&partition["parked"]),
            ]);
        }
    }
    let mut widths = [0; 9];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<_> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn show(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}
