//! Imports of visits from files: begun once for each fingerprint, resumed where the log ends, completed.

use axum::extract::State;
use events::{
    ImportId, Sha256,
    directory::Scope,
    import::{self, Source},
    tenant,
};
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    App,
    answer::Accepted,
    command::{Body, CommandRequest, Id},
    error::Error,
    routes::fields::Fields,
};

/// How far an import is.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the shape of an answer, for the API's description")]
pub struct ImportAnswer {
    /// Its id; visits carry it.
    id: Uuid,
    /// `running` or `completed`.
    status: String,
    /// The first line, from 0, that the log does not have; absent when it was just completed.
    next: Option<u64>,
    /// Its version; also the `ETag`.
    version: u64,
}

/// A file to import.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportBody {
    /// Domain of one of the tenant's sites.
    site: String,
    /// Where the lines come from, for people: such as the file's name.
    source: String,
    /// SHA-256 of the source's content, 64 lower-case hex digits: the same file is never taken twice.
    fingerprint: String,
}

/// Nothing; may be left out.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NoImportBody {}

impl Body for ImportBody {
    const SCOPES: &'static [Scope] = &[Scope::VisitsWrite];
}

impl Body for NoImportBody {
    const SCOPES: &'static [Scope] = &[Scope::VisitsWrite];
    const OPTIONAL: bool = true;
}

/// Begins an import (201), or finds the one that has this fingerprint (200).
#[utoipa::path(post, path = "/api/v1/imports", tag = "imports", request_body = ImportBody,
    responses((status = 201, body = ImportAnswer), (status = 200, body = ImportAnswer)))]
pub async fn start(State(app): State<App>, request: CommandRequest<ImportBody>) -> Result<Accepted, Error> {
    let ImportBody {
        site,
        source,
        fingerprint,
    } = request.body;
    let site = app
        .site_of(request.context.principal.tenant, &site, "/site")
        .await?
        .id;
    let mut fields = Fields::default();
    let source = fields.check("/source", Source::new(&source));
    let fingerprint = fields.check("/fingerprint", fingerprint.parse::<Sha256>());
    let start = source.zip(fingerprint);
    let command = fields.finish(start.map(|(source, fingerprint)| import::Command::Start {
        site,
        source,
        fingerprint,
    }))?;
    let command = tenant::Command::Import(ImportId::new(Uuid::now_v7()), command);
    let accepted = app.execute(request.context, command.into()).await?;
    // Complete already: a process that died in between may have left its salt.
    let found = &accepted.answer.body;
    if found["status"] == "completed"
        && let Some(id) = found["id"].as_str().and_then(|id| id.parse().ok())
    {
        app.forget_import(id).await?;
    }
    Ok(accepted)
}

/// Says that there are no more lines; the import's salt is destroyed.
#[utoipa::path(post, path = "/api/v1/imports/{id}/complete", tag = "imports",
    request_body = Option<NoImportBody>, params(("id" = Uuid, Path)),
    responses((status = 200, body = ImportAnswer)))]
pub async fn complete(
    State(app): State<App>,
    Id(id): Id<ImportId>,
    request: CommandRequest<NoImportBody>,
) -> Result<Accepted, Error> {
    // Not beside a batch of its lines, which would find the salt gone and make another one.
    let _turn = app.imports().turn(id).await?;
    let command = tenant::Command::Import(id, import::Command::Complete);
    let accepted = app.execute(request.context, command.into()).await?;
    app.forget_import(id).await?;
    Ok(accepted)
}
