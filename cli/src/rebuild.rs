//! `annals rebuild`, `annals rollback`, `annals generations`: tables built anew beside those that answer, as they are or
//! as they were.

use std::{process::ExitCode, time::Duration};

use anyhow::Context as _;
use read_models::Projection;
use reqwest::Method;
use serde_json::{Value, json};
use url::form_urlencoded::byte_serialize;

use crate::{
    client::{Client, Connection, Request},
    progress::Progress,
};

/// Build a projection's tables anew beside those that answer, check them against the log, and switch. Needs an
/// operator's key. Interrupting this command leaves the rebuild going on: `--watch` shows it again.
///
/// With `--until` they are built as they were at a position or a time, and stay so under a name of their own: they never
/// answer and never follow the log. They go by `annals generations drop` alone.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what"), group = clap::ArgGroup::new("of_one"))]
pub(crate) struct Rebuild {
    /// Such as content.
    projection: String,
    /// At most so many events a second; 0: no limit.
    #[arg(long)]
    rate: Option<u32>,
    /// As of when: an `Annals-Position` as a command's answer gives it, or a time of RFC 3339. What was committed later
    /// is left out; of visits, what was recorded later.
    #[arg(long, value_name = "POSITION|TIME", requires = "into", group = "of_one")]
    until: Option<String>,
    /// With `--until`: what it is called, such as content_at; with the others: which one is meant.
    #[arg(long, value_name = "NAME_at", requires = "of_one")]
    into: Option<String>,
    /// Begin it, and do not wait for it.
    #[arg(long, group = "what")]
    detach: bool,
    /// Show the rebuild that is going on.
    #[arg(long, groups = ["what", "of_one"])]
    watch: bool,
    /// Pause it; `--resume` goes on with it.
    #[arg(long, groups = ["what", "of_one"])]
    pause: bool,
    /// Go on with it, also after a check that failed.
    #[arg(long, groups = ["what", "of_one"])]
    resume: bool,
    /// Give it up and drop what was built.
    #[arg(long, groups = ["what", "of_one"])]
    cancel: bool,
    #[command(flatten)]
    connection: Connection,
}

/// Go back to the generation of a projection that answered before. Needs an operator's key.
#[derive(Debug, clap::Args)]
pub(crate) struct Rollback {
    /// Such as content.
    projection: String,
    #[command(flatten)]
    connection: Connection,
}

/// Show or drop generations of projections. Needs an operator's key.
#[derive(Debug, clap::Args)]
pub(crate) struct Generations {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Show every generation: which one answers, which is being built, which are kept or frozen.
    List {
        /// Such as content; every projection when absent.
        projection: Option<String>,
        #[command(flatten)]
        connection: Connection,
    },
    /// Drop a generation that is kept or frozen.
    Drop {
        /// Such as content.
        projection: String,
        /// Its number.
        generation: i32,
        #[command(flatten)]
        connection: Connection,
    },
}

/// How long a server that is away is waited for: it may be restarted while a rebuild goes on.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often it is looked how far it is.
const EVERY: Duration = Duration::from_millis(300);

/// All projections, by name.
pub(crate) fn projections() -> Vec<&'static str> {
    Projection::ALL.iter().map(|it| it.name()).collect()
}

impl Rebuild {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let client = Client::new(&self.connection, PATIENCE)?;
        let path = format!("api/v1/projections/{}/rebuild", self.projection);
        // Names have plain letters; anything else is refused over there.
        let name = self.into.as_deref().map(|name| {
            let name: String = byte_serialize(name.as_bytes()).collect();
            format!("?into={name}")
        });
        let this = format!("{path}{}", name.unwrap_or_default());
        let steer = async |body: Value| {
            let request = Request::operation(Method::PATCH, this.clone(), Some(body));
            client.send(request).await
        };
        if self.cancel {
            client
                .send(Request::operation(Method::DELETE, this.clone(), None))
                .await?;
            println!("given up");
            return Ok(ExitCode::SUCCESS);
        }
        let mut begun = false;
        let generation = if self.pause || self.resume {
            let answer = steer(json!({"paused": self.pause, "rate": self.rate})).await?;
            number(&answer.body)
        } else if self.watch {
            match self.rate {
                Some(rate) => number(&steer(json!({ "rate": rate })).await?.body),
                None => self.building(&client).await?,
            }
        } else {
            let rate = self.rate.filter(|rate| *rate > 0);
            let body = json!({"rate": rate, "until": self.until, "into": self.into});
            let request = Request::operation(Method::POST, path.clone(), Some(body));
            begun = true;
            number(&client.send(request).await?.body)
        };
        if self.pause || self.detach {
            let what = if self.pause { "paused" } else { "being built" };
            println!("{} generation {generation} is {what}", self.projection);
            return Ok(ExitCode::SUCCESS);
        }
        self.watch(&client, generation, begun).await
    }

    async fn building(&self, client: &Client) -> anyhow::Result<i64> {
        let found = generations(client, &self.projection).await?;
        let this = |it: &&Value| is_built(it) && it["frozen"]["name"].as_str() == self.into.as_deref();
        let building = found.iter().find(this);
        building
            .map(number)
            .with_context(|| format!("no such generation of {} is being built", self.projection))
    }

    /// Shows how far it is until it answers, or may not. Of one that was begun just now all was done since.
    async fn watch(&self, client: &Client, generation: i64, begun: bool) -> anyhow::Result<ExitCode> {
        let mut bar: Option<(Progress, u64)> = None;
        loop {
            let found = generations(client, &self.projection).await?;
            let gone = "it is gone: somebody has given it up";
            let it = found.iter().find(|it| number(it) == generation).context(gone)?;
            let position = it["position"].as_u64().unwrap_or_default();
            let end = it["end"].as_u64().unwrap_or_default();
            if end > 0 {
                let there = if begun { 0 } else { position };
                let (bar, before) = bar.get_or_insert_with(|| (Progress::new("records", end, there), there));
                bar.reach(end);
                bar.add(position.saturating_sub(*before));
                *before = position.max(*before);
                // Of a long log most is there long before it answers, and the bar stands still.
                let nearly = end.saturating_sub(position) <= end / 100;
                bar.say(if nearly {
                    "making indexes, comparing with the log"
                } else {
                    ""
                });
            }
            if !is_built(it) {
                if let Some((bar, _)) = bar {
                    bar.finish();
                }
                match it["frozen"]["name"].as_str() {
                    Some(name) => println!("{} generation {generation} is frozen: {name}", self.projection),
                    None => println!("{} generation {generation} answers", self.projection),
                }
                return Ok(ExitCode::SUCCESS);
            }
            if let Some(failure) = it["rebuild"]["failure"].as_str() {
                anyhow::bail!(
                    "{} generation {generation} is not what it should be: {failure}",
                    self.projection
                );
            }
            if it["rebuild"]["paused"] == true {
                println!("{} generation {generation} is paused", self.projection);
                return Ok(ExitCode::SUCCESS);
            }
            tokio::time::sleep(EVERY).await;
        }
    }
}

impl Rollback {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let client = Client::new(&self.connection, PATIENCE)?;
        let path = format!("api/v1/projections/{}/rollback", self.projection);
        let answer = client
            .send(Request::operation(Method::POST, path, None).once())
            .await?
            .body;
        println!(
            "{} generation {} answers, as before {}",
            self.projection, answer["to"], answer["from"]
        );
        Ok(ExitCode::SUCCESS)
    }
}

impl Generations {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match self.verb {
            Verb::List {
                projection,
                connection,
            } => {
                let client = Client::new(&connection, Duration::from_secs(2))?;
                let names = match &projection {
                    Some(one) => vec![one.as_str()],
                    None => projections(),
                };
                for name in names {
                    for generation in generations(&client, name).await? {
                        println!("{}", line(&generation));
                    }
                }
            }
            Verb::Drop {
                projection,
                generation,
                connection,
            } => {
                let client = Client::new(&connection, PATIENCE)?;
                let path = format!("api/v1/projections/{projection}/generations/{generation}");
                client
                    .send(Request::operation(Method::DELETE, path, None))
                    .await?;
                println!("{projection} generation {generation} is dropped");
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn generations(client: &Client, projection: &str) -> anyhow::Result<Vec<Value>> {
    let path = format!("api/v1/projections/{projection}/generations");
    let answer = client.send(Request::projector(path)).await?;
    Ok(answer.body["items"].as_array().cloned().unwrap_or_default())
}

/// Whether it is being built, to answer or to be frozen.
fn is_built(generation: &Value) -> bool {
    generation["state"] == "building" || generation["state"] == "freezing"
}

fn number(generation: &Value) -> i64 {
    generation["generation"].as_i64().unwrap_or_default()
}

/// `content 2 building  1200/5000, parked 0  (why; at most 100/s; paused)`
fn line(generation: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let mut line = format!(
        "{:<14} {:<3} {:<9} {}/{}, parked {}",
        text(&generation["projection"]),
        number(generation),
        text(&generation["state"]),
        generation["position"],
        generation["end"],
        generation["parked"],
    );
    if let Some(since) = generation["kept_since"].as_str() {
        line.push_str(&format!("  (kept since {since})"));
    }
    let frozen = &generation["frozen"];
    if frozen.is_object() {
        let cut = frozen["cut"].as_array().map(|cut| {
            let places: Vec<String> = cut.iter().map(Value::to_string).collect();
            format!(", before offsets {}", places.join(" "))
        });
        let (name, until) = (text(&frozen["name"]), text(&frozen["until"]));
        line.push_str(&format!("  ({name}: until {until}{})", cut.unwrap_or_default()));
    }
    let rebuild = &generation["rebuild"];
    if rebuild.is_object() {
        let rate = rebuild["rate"].as_i64();
        let rate = rate.map(|rate| format!("; at most {rate}/s")).unwrap_or_default();
        let paused = if rebuild["paused"] == true { "; paused" } else { "" };
        let failure = rebuild["failure"].as_str();
        let failure = failure.map(|why| format!("; FAILED: {why}")).unwrap_or_default();
        line.push_str(&format!("  ({}{rate}{paused}{failure})", text(&rebuild["why"])));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_which_state_how_far_and_why() {
        let shown = line(
            &json!({"projection": "content", "generation": 2, "state": "building", "position": 5,
            "end": 9, "parked": 0, "rebuild": {"why": "asked", "rate": 100, "paused": true, "failure": "no"}}),
        );
        assert_eq!(
            shown,
            "content        2   building  5/9, parked 0  (asked; at most 100/s; paused; FAILED: no)"
        );
        let shown = line(
            &json!({"projection": "visits", "generation": 3, "state": "frozen", "position": 9, "end": 9, "parked": 0,
            "frozen": {"name": "visits_at", "until": "2026-11-21T16:03:00Z", "cut": [4, 5]}}),
        );
        assert_eq!(
            shown,
            "visits         3   frozen    9/9, parked 0  (visits_at: until 2026-11-21T16:03:00Z, before offsets 4 5)"
        );
    }
}
