//! `annals verify`: whether the tables are what the log says.

use std::{process::ExitCode, time::Duration};

use anyhow::Context as _;
use serde_json::Value;

use crate::{
    client::{Client, Connection, Problem, Request},
    progress::Progress,
    rebuild::projections,
};

/// Fold the log again and compare what comes out with the tables, row by row; ends with 3 when something differs.
/// Needs an operator's key.
#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// Such as content; every projection when absent.
    projection: Option<String>,
    /// Compare only one Nth of the rows; each run takes another part.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=65536))]
    sample: Option<u32>,
    /// Another generation than the live one.
    #[arg(long, requires = "projection")]
    generation: Option<i32>,
    #[command(flatten)]
    connection: Connection,
}

/// What `annals verify` ends with when tables are not what the log says.
const DIFFERENT: u8 = 3;

impl Verify {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let client = Client::new(&self.connection, Duration::from_secs(2))?;
        let projections = match &self.projection {
            Some(one) => vec![one.as_str()],
            None => projections(),
        };
        let mut equal = true;
        for projection in projections {
            equal &= self
                .one(&client, projection)
                .await
                .with_context(|| format!("cannot verify {projection}"))?;
        }
        Ok(if equal {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(DIFFERENT)
        })
    }

    async fn one(&self, client: &Client, projection: &str) -> anyhow::Result<bool> {
        let mut asked = vec![];
        asked.extend(self.sample.map(|sample| format!("sample={sample}")));
        asked.extend(
            self.generation
                .map(|generation| format!("generation={generation}")),
        );
        let path = format!("api/v1/projections/{projection}/verify?{}", asked.join("&"));
        let mut bar: Option<(Progress, u64)> = None;
        let mut result = None;
        let show = |line: Value| -> anyhow::Result<()> {
            let number = |name: &str| line["progress"][name].as_u64().unwrap_or_default();
            if line["progress"].is_object() {
                let (bar, before) = bar.get_or_insert_with(|| (Progress::new("records", number("of"), 0), 0));
                bar.add(number("records").saturating_sub(*before));
                *before = number("records");
            } else if line["difference"].is_object() {
                print!("{}", difference(projection, &line["difference"]));
            } else if line["problem"].is_object() {
                let problem: Problem = serde_json::from_value(line["problem"].clone())?;
                anyhow::bail!("{problem}");
            } else if line["result"].is_object() {
                result = Some(line["result"].clone());
            }
            Ok(())
        };
        client.lines(Request::projector(path), show).await?;
        if let Some((bar, _)) = bar {
            bar.finish();
        }
        let result = result.context("the answer ended before the result; is the service still running?")?;
        println!("{}", sentence(&result));
        Ok(result["equal"] == true)
    }
}

/// What came out, in one line.
fn sentence(result: &Value) -> String {
    let number = |name: &str| result[name].as_u64().unwrap_or_default();
    let equal = match number("differences") {
        0 => "equal".to_owned(),
        several => format!("{several} DIFFERENCES"),
    };
    let parked = match number("parked") {
        0 => String::new(),
        1 => "; 1 event is parked".to_owned(),
        several => format!("; {several} events are parked"),
    };
    let position: Vec<String> = result["position"]
        .as_array()
        .into_iter()
        .flatten()
        .map(Value::to_string)
        .collect();
    format!(
        "{} generation {}: {equal}, {} rows at position {}{parked}",
        result["projection"].as_str().unwrap_or("?"),
        number("generation"),
        number("rows"),
        position.join(",")
    )
}

/// A row that differs, and what each side says.
fn difference(projection: &str, line: &Value) -> String {
    let text = |name: &str| line[name].as_str().unwrap_or_default();
    let mut shown = format!(
        "{projection}.{} {}: {}\n",
        text("table"),
        text("row"),
        text("what")
    );
    for (side, name) in [("the log", "log"), ("the store", "store")] {
        if line[name].is_object() {
            shown.push_str(&format!("    {side} says   {}\n", line[name]));
        }
    }
    if line["reason"].is_string() {
        shown.push_str(&format!("    {}\n", text("reason")));
    }
    shown
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_came_out_is_one_sentence() {
        let result = json!({"projection": "content", "generation": 2, "rows": 7, "differences": 0, "position": [3, 4],
            "parked": 1});
        assert_eq!(
            sentence(&result),
            "content generation 2: equal, 7 rows at position 3,4; 1 event is parked"
        );
    }

    #[test]
    fn a_difference_names_the_row_and_what_each_side_says() {
        let line = json!({"table": "content", "row": "t/c", "what": "differs", "log": {"title": "A"}, "store": {"title": "B"}});
        let shown = difference("content", &line);
        assert!(shown.starts_with("content.content t/c: differs\n"), "{shown}");
        assert!(
            shown.contains(r#"the log says   {"title":"A"}"#) && shown.contains(r#"{"title":"B"}"#),
            "{shown}"
        );
    }
}
