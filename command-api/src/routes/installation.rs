//! The installation as a whole: which event versions its processes may write.

use axum::extract::State;
use events::{
    directory::{Command, Scope},
    feature,
};
use serde::{Deserialize, Serialize};
use service::Json;
use utoipa::ToSchema;

use crate::{
    App,
    answer::Accepted,
    caller::Caller,
    command::{Body, CommandRequest},
    error::Error,
};

/// How far the installation has come, and what its processes know.
#[derive(Debug, Serialize, ToSchema)]
pub struct FeatureLevel {
    /// Event versions of this level may be written.
    level: u16,
    /// The highest that every running process knows: up to this it may be raised.
    known: u16,
    /// The processes that take commands, and those that project.
    processes: Vec<ProcessLevel>,
}

/// A running process.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProcessLevel {
    /// `writer` or `projector`.
    role: &'static str,
    /// Where it is, as the log's brokers see it.
    host: String,
    /// The highest level that it knows.
    level: u16,
}

/// The level after it was raised.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the shape of an answer, for the API's description")]
pub struct RaisedAnswer {
    /// Event versions of this level may be written.
    level: u16,
    /// How often it was raised; also the `ETag`.
    version: u64,
}

/// A level to come to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RaiseBody {
    /// Which; at most the highest that every running process knows.
    level: u16,
}

impl Body for RaiseBody {
    const SCOPES: &'static [Scope] = &[Scope::Operator];
}

/// The feature level: which event versions may be written. What each process knows is told by the log's brokers, so a
/// process that only just begins may be missing.
#[utoipa::path(get, path = "/api/v1/installation/feature-level", tag = "operators",
    responses((status = 200, body = FeatureLevel)))]
pub async fn feature_level(State(app): State<App>, caller: Caller) -> Result<Json<FeatureLevel>, Error> {
    caller.may(Scope::Operator)?;
    app.directory().catch_up().await?;
    let level = app.directory().feature_level().now();
    let processes = app.processes().await?.into_iter().map(|process| ProcessLevel {
        role: process.role.name(),
        host: process.host,
        level: process.level,
    });
    let processes: Vec<_> = processes.collect();
    let known = known_by(processes.iter().map(|process| process.level));
    Ok(Json(FeatureLevel {
        level,
        known,
        processes,
    }))
}

/// Raises the feature level, for ever: event versions of this level are written from now on. Refused while a process
/// runs that does not know them; one that comes later and does not know them gives up what it cannot read.
#[utoipa::path(post, path = "/api/v1/installation/feature-level", tag = "operators", request_body = RaiseBody,
    responses((status = 200, body = RaisedAnswer)))]
pub async fn raise(State(app): State<App>, request: CommandRequest<RaiseBody>) -> Result<Accepted, Error> {
    let processes = app.processes().await?;
    let known = known_by(processes.iter().map(|process| process.level));
    let level = request.body.level;
    app.execute(
        request.context,
        Command::RaiseFeatureLevel { level, known }.into(),
    )
    .await
}

/// The highest level that all know, this process among them.
fn known_by(levels: impl Iterator<Item = u16>) -> u16 {
    levels.fold(feature::KNOWN, u16::min)
}
