//! Who asks: an operator, by the key of the configuration or by one of the directory.

use std::time::Duration;

use axum::extract::FromRequestParts;
use http::{StatusCode, header, request::Parts};
use read_models::{Projection, directory};
use service::{
    Problem,
    key::{Key, SecretHash},
};
use sha2::{Digest as _, Sha256};

use super::{App, error::Error};

/// How long one waits to hear that they are.
const PATIENCE: Duration = Duration::from_secs(2);

/// A caller with the scope `operator`: who, as the public half of a key.
#[derive(Debug, Clone)]
pub(super) struct Operator(pub(super) String);

/// The operator key of the configuration, hashed, so that comparing it takes the same time for every text.
pub(super) struct OperatorKey(SecretHash);

impl OperatorKey {
    pub(super) fn new(key: &str) -> Self {
        Self(SecretHash::new(Sha256::digest(key).into()))
    }
}

/// Whether the directory's tables were complete lately: else a key may have been revoked without their knowing. (The
/// operator key of the configuration needs no tables.)
async fn hears_of_revocations(app: &App) -> bool {
    let progress = app.0.reader.progress();
    let lately = || {
        let complete = progress.at_end(Projection::Directory, 0);
        complete.is_some_and(|at| at.elapsed() < app.0.keys_unconfirmed)
    };
    if !lately() {
        progress.ask_again(PATIENCE).await;
    }
    lately()
}

fn unconfirmed() -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "projection-behind",
        "whether this key still counts cannot be told: the directory's tables have not followed the log for a while; use \
         the operator key of the configuration",
    )
    .retry_after(5)
}

impl FromRequestParts<App> for Operator {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Error> {
        let unknown = || {
            Problem::unauthorized(
                "this needs an operator's key that works: send Authorization: Bearer ann_<id>_<secret>",
            )
        };
        let value = parts
            .headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let (_, token) = value.ok_or_else(unknown)?;
        let token = token.trim();
        let given = SecretHash::new(Sha256::digest(token).into());
        if app.0.operator_key.as_ref().is_some_and(|key| key.0 == given) {
            return Ok(Self("the operator key of the configuration".to_owned()));
        }
        let key: Key = token.parse().map_err(|_| unknown())?;
        let tables = app.0.reader.live(Projection::Directory)?;
        let row = directory::key(&tables, key.id()).await?.ok_or_else(unknown)?;
        let works = row.revoked_at.is_none()
            && row
                .secret_hash
                .parse::<SecretHash>()
                .is_ok_and(|hash| hash == key.hash());
        if !works {
            return Err(unknown().into());
        }
        if !hears_of_revocations(app).await {
            return Err(unconfirmed().into());
        }
        if row.scopes.iter().any(|scope| scope == "operator") {
            Ok(Self(key.id().to_owned()))
        } else {
            Err(Problem::forbidden("the key lacks the scope operator").into())
        }
    }
}
