//! Erasure: what was kept of a person is opened by nobody any more.

use axum::extract::State;
use events::{
    PrincipalId,
    directory::{Command, Scope},
};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    App,
    answer::Accepted,
    command::{Body, CommandRequest, Id},
    error::Error,
};

/// Nothing; may be left out.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EraseBody {}

impl Body for EraseBody {
    const SCOPES: &'static [Scope] = &[Scope::Admin, Scope::Operator];
    const OPTIONAL: bool = true;
}

/// Erases a subject, for ever: the key of its personal fields is destroyed, and read models blank them. Today these
/// are the names of principals. Their keys go on working: revoke them first.
///
/// The answer comes when the erasure is in the log and the key is destroyed. When it does not come, the same request
/// may be made again; once the event is in the log, every process destroys the key, whoever asks.
#[utoipa::path(post, path = "/api/v1/subjects/{id}/erase", tag = "subjects", request_body = Option<EraseBody>,
    params(("id" = String, Path, description = "a principal's id")),
    responses((status = 200)))]
pub async fn erase(
    State(app): State<App>,
    Id(principal): Id<PrincipalId>,
    request: CommandRequest<EraseBody>,
) -> Result<Accepted, Error> {
    let tenant = if request.caller.is_operator() {
        let owner = app.directory().principal_owner(principal).await?;
        owner.ok_or(Error::NotFound("subject"))?
    } else {
        request.context.principal.tenant
    };
    let accepted = app
        .execute(request.context, Command::Erase { tenant, principal }.into())
        .await?;
    app.destroy_subject(tenant, principal).await?;
    Ok(accepted)
}
