//! Imports of visits from files: begun once for each fingerprint, resumed where the log ends, completed.

use axum::extract::State;
use events::{
    Aggregate as _, ImportId, Sha256, TenantId,
    directory::Scope,
    import::{self, Source},
    tenant,
};
use http::StatusCode;
use serde::Deserialize;
use sha2::Digest as _;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    App,
    answer::{Accepted, Answer},
    command::{Body, CommandRequest, Id},
    error::Error,
    partition::state::{Unchanged, import_body},
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

/// Longest fingerprint, in characters.
const FINGERPRINT_MAX: usize = 300;

/// A file to import.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportBody {
    /// Domain of one of the tenant's sites.
    site: String,
    /// Where the lines come from, for people: such as the file's name.
    source: String,
    /// What tells the source's content from any other, best its SHA-256 in hex digits, at most 300 characters: the same
    /// file is never taken twice.
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
    let fingerprint = fields.check("/fingerprint", known_by(&fingerprint));
    let start = source.zip(fingerprint);
    let command = fields.finish(start.map(|(source, fingerprint)| import::Command::Start {
        site,
        source,
        fingerprint,
    }))?;
    let command = tenant::Command::Import(ImportId::new(Uuid::now_v7()), command);
    let tenant = request.context.principal.tenant;
    let keyed = request.key.is_some();
    let mut accepted = app.execute(request.context, command.into()).await?;
    if keyed && accepted.answer.status == StatusCode::CREATED {
        as_it_stands(&app, tenant, &mut accepted.answer).await;
    }
    // Complete already: a process that died in between may have left its salt.
    let found = &accepted.answer.body;
    if found["status"] == "completed"
        && let Some(id) = found["id"].as_str().and_then(|id| id.parse().ok())
    {
        app.forget_import(id).await?;
    }
    Ok(accepted)
}

/// By a hash that is given as such, else by that of the text.
fn known_by(fingerprint: &str) -> Result<Sha256, &'static str> {
    match fingerprint.to_ascii_lowercase().parse() {
        Ok(hash) => Ok(hash),
        Err(_) if (1..=FINGERPRINT_MAX).contains(&fingerprint.chars().count()) => {
            Ok(Sha256(sha2::Sha256::digest(fingerprint).into()))
        }
        Err(_) => Err("must have 1 to 300 characters"),
    }
}

/// What was begun with this key may be far by now: whoever comes back goes on where it is.
async fn as_it_stands(app: &App, tenant: TenantId, answer: &mut Answer) {
    let id = answer.body["id"].as_str().and_then(|id| id.parse().ok());
    // What cannot be asked now takes nothing from what was acknowledged.
    if let Some(id) = id
        && let Ok(now) = app.import_here(tenant, id).await
        && now.version() > answer.version.unwrap_or(0)
    {
        *answer = Unchanged {
            version: Some(now.version()),
            body: import_body(id, &now),
        }
        .into();
    }
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
