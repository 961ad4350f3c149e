//! Generations under load: built anew, some slowly so that a kill meets them half-way, switched, gone back from, dropped.

use std::time::Duration;

use anyhow::Context as _;
use rand::{RngExt as _, rngs::StdRng, seq::IndexedRandom as _};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{installation::Installation, wait};

/// In PostgreSQL by aggregate, and in ClickHouse by event.
const PROJECTIONS: [&str; 3] = ["content", "downloads", "visits"];
/// So many generations are kept up to date beside the live one.
const KEPT: usize = 2;
/// A projector that is stopped does not answer, and trouble goes on without it.
const PATIENCE: Duration = Duration::from_secs(3);

/// Whoever asks the projector for work on its generations, as `annals rebuild` does.
pub struct Operator {
    http: reqwest::Client,
    projector: String,
    key: String,
}

/// A generation of a projection.
struct Generation {
    number: i64,
    state: String,
    failure: Option<String>,
}

/// Whether a projection is being built anew now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Building {
    /// Half of it may be there.
    Yes,
    /// What was asked for is done, or refused.
    No,
}

impl Operator {
    /// Of this installation.
    ///
    /// # Errors
    /// There is no HTTP client.
    pub fn new(annals: &Installation) -> anyhow::Result<Self> {
        Ok(Self {
            http: reqwest::Client::builder().timeout(PATIENCE).build()?,
            projector: annals.projector_address(),
            key: annals.operator_key().to_owned(),
        })
    }

    /// Asks for something at random: what, and what came of it.
    pub async fn ask(&self, random: &mut StdRng) -> (String, Building) {
        let projection = PROJECTIONS.choose(random).copied().unwrap_or_default();
        match self.ask_of(projection, random).await {
            Ok(done) => done,
            Err(error) => (format!("nothing is asked of {projection}: {error}"), Building::No),
        }
    }

    async fn ask_of(&self, projection: &str, random: &mut StdRng) -> anyhow::Result<(String, Building)> {
        let known = self.generations(projection).await?;
        let kept = || known.iter().filter(|it| it.state == "kept");
        let building = known.iter().any(|it| it.state == "building");
        let (method, path, body) = if kept().count() > KEPT {
            let oldest = kept().map(|it| it.number).min().unwrap_or_default();
            (Method::DELETE, format!("generations/{oldest}"), Value::Null)
        } else if building && random.random_bool(0.2) {
            (Method::DELETE, "rebuild".to_owned(), Value::Null)
        } else if building {
            return Ok((format!("{projection} is still being built"), Building::Yes));
        } else if kept().count() > 0 && random.random_bool(0.25) {
            (Method::POST, "rollback".to_owned(), Value::Null)
        } else {
            let slow = random.random_bool(0.5);
            let rate = slow.then(|| random.random_range(50..500));
            (Method::POST, "rebuild".to_owned(), json!({ "rate": rate }))
        };
        let begun = method == Method::POST && path == "rebuild";
        let what = format!("{method} {path} of {projection} {body}");
        let (status, answer) = self.send(method, projection, &path, &body).await?;
        Ok((
            format!("{what}: {status} {answer}"),
            if begun { Building::Yes } else { Building::No },
        ))
    }

    /// Builds each anew, while clients write, and waits until nothing is being built any more: projections and generations that are kept for the way back.
    ///
    /// # Errors
    /// One may not answer, or does not come to its end.
    pub async fn built(&self, deadline: Duration) -> anyhow::Result<Vec<(&'static str, String)>> {
        let mut kept = Vec::new();
        for projection in PROJECTIONS {
            // In a short run on a busy machine nothing else may have been built.
            let begun = wait::until("a rebuild to begin", deadline, async || {
                let body = json!({});
                let asked = self.send(Method::POST, projection, "rebuild", &body).await;
                let (status, _) = asked.ok()?;
                matches!(status, 202 | 409).then_some(())
            });
            begun.await?;
            let what = format!("{projection} to be built");
            let known = wait::until(&what, deadline, async || {
                let known = self.generations(projection).await.ok()?;
                let Some(building) = known.iter().find(|it| it.state == "building") else {
                    return Some(Ok(known));
                };
                if let Some(why) = &building.failure {
                    let number = building.number;
                    let error = anyhow::anyhow!("{projection} generation {number} may not answer: {why}");
                    return Some(Err(error));
                }
                // It was slow for long enough.
                let at_once = json!({"rate": 0});
                let _ = self.send(Method::PATCH, projection, "rebuild", &at_once).await;
                None
            });
            let known = known.await??;
            let old = known.iter().filter(|it| it.state == "kept");
            kept.extend(old.map(|it| (projection, it.number.to_string())));
        }
        Ok(kept)
    }

    async fn generations(&self, projection: &str) -> anyhow::Result<Vec<Generation>> {
        let (status, body) = self
            .send(Method::GET, projection, "generations", &Value::Null)
            .await?;
        let items = body["items"]
            .as_array()
            .with_context(|| format!("{status} {body}"))?;
        let generation = |it: &Value| Generation {
            number: it["generation"].as_i64().unwrap_or_default(),
            state: it["state"].as_str().unwrap_or_default().to_owned(),
            failure: it["rebuild"]["failure"].as_str().map(str::to_owned),
        };
        Ok(items.iter().map(generation).collect())
    }

    async fn send(
        &self,
        method: Method,
        projection: &str,
        path: &str,
        body: &Value,
    ) -> anyhow::Result<(u16, Value)> {
        let url = format!("http://{}/api/v1/projections/{projection}/{path}", self.projector);
        let mut request = self.http.request(method, url).bearer_auth(&self.key);
        if !body.is_null() {
            request = request.json(body);
        }
        let response = request.send().await?;
        let status = response.status().as_u16();
        Ok((status, response.json().await.unwrap_or_default()))
    }
}
