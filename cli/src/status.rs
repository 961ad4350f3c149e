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

/// A projector says something every second; after so many it is remarked that it does not.
const SILENT: f64 = 5.0;

/// One line for each partition of each projection.
fn table(body: &Value) -> String {
    let none = Vec::new();
    let items = body
        .as_array()
        .or_else(|| body["items"].as_array())
        .unwrap_or(&none);
    let headings = [
        "PROJECTION",
        "GENERATION",
        "STATE",
        "PARTITION",
        "POSITION",
        "END",
        "LAG",
        "SECONDS",
        "PARKED",
        "VERIFIED",
    ];
    let mut rows = vec![headings.map(str::to_owned)];
    let mut remarks = String::new();
    for projection in items {
        let name = show(&projection["projection"]);
        let verified = &projection["verified"];
        if let Some(rows) = verified["differing"].as_i64().filter(|rows| *rows > 0) {
            remarks.push_str(&format!(
                "{name} generation {}: {rows} rows are not what the log says: `annals verify {name}` names them\n",
                projection["generation"]
            ));
        }
        for partition in projection["partitions"].as_array().unwrap_or(&none) {
            let place = format!("{}/{}", show(&partition["topic"]), show(&partition["partition"]));
            if let Some(why) = partition["stopped"].as_str() {
                remarks.push_str(&format!(
                    "{name} has stopped at {place} {}: {why}\n",
                    partition["position"]
                ));
            }
            if let Some(silent) = partition["silent_seconds"].as_f64().filter(|it| *it > SILENT) {
                remarks.push_str(&format!(
                    "{name} generation {} at {place}: nothing was heard of its projector for {silent:.0} s, and where the log \
                     ends is not known since: is it running?\n",
                    projection["generation"]
                ));
            }
            rows.push([
                name.clone(),
                show(&projection["generation"]),
                show(&projection["state"]),
                place,
                show(&partition["position"]),
                show(&partition["end"]),
                show(&partition["lag_events"]),
                partition["lag_seconds"]
                    .as_f64()
                    .map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.1}")),
                show(&partition["parked"]),
                show(&verified["whole_at"]),
            ]);
        }
    }
    let mut widths = [0; 10];
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
    text + &remarks
}

fn show(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_what_the_log_says_is_remarked_and_when_all_was_compared_is_shown() {
        let partition = json!({"topic": "ledger", "partition": 0, "position": 7, "end": 7, "lag_events": 0,
            "lag_seconds": 0.0, "parked": 0});
        let body = json!({"items": [
            {"projection": "content", "generation": 3, "state": "live", "partitions": [partition],
                "verified": {"differing": 2, "whole_at": "2026-01-01T00:00:00Z"}},
            {"projection": "visits", "generation": 1, "state": "live", "partitions": [partition], "verified": null},
        ]});
        let shown = table(&body);
        let lines: Vec<_> = shown.lines().collect();
        assert!(lines[0].ends_with("VERIFIED"), "{shown}");
        assert!(lines[1].ends_with("2026-01-01T00:00:00Z"), "{shown}");
        assert!(lines[2].ends_with('-'), "{shown}");
        assert_eq!(lines.len(), 4, "{shown}");
        assert_eq!(
            lines[3],
            "content generation 3: 2 rows are not what the log says: `annals verify content` names them"
        );
    }

    #[test]
    fn a_projector_that_is_silent_is_remarked() {
        let partition = |number: u32, silent: f64| {
            json!({"topic": "ledger", "partition": number, "position": 7, "end": 7, "lag_events": 0,
                "lag_seconds": silent, "silent_seconds": silent, "parked": 0})
        };
        let body = json!({"items": [{"projection": "content", "generation": 3, "state": "live",
            "partitions": [partition(0, 1.2), partition(1, 42.4)], "verified": null}]});
        let shown = table(&body);
        let remarks: Vec<_> = shown.lines().skip(3).collect();
        assert_eq!(remarks.len(), 1, "{shown}");
        assert!(
            remarks[0]
                .starts_with("content generation 3 at ledger/1: nothing was heard of its projector for 42 s"),
            "{shown}"
        );
    }
}
