//! What was made, where its `Location` says: imports, tenants and keys. Other things are in the tables of the read side.

use axum::{
    body::Bytes,
    extract::{FromRequestParts as _, Request, State},
};
use events::{
    ImportId, KeyId, TenantId,
    directory::Scope,
    import::{Import, Progress},
};
use serde::Serialize;
use service::{Json, Query, extract::NoParams};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{App, caller::Caller, command::Id, error::Error, forward::arrived::Arriving};

/// An import as it stands.
#[derive(Debug, Serialize, ToSchema)]
pub struct ImportSeen {
    /// Its id.
    #[schema(value_type = Uuid)]
    id: ImportId,
    /// `running` or `completed`.
    status: &'static str,
    /// The first line, from 0, that the log does not have.
    next: u64,
    /// Its version.
    version: u64,
}

/// A tenant.
#[derive(Debug, Serialize, ToSchema)]
pub struct TenantSeen {
    /// Its id.
    #[schema(value_type = Uuid)]
    id: TenantId,
    /// As operators call it.
    name: String,
}

/// A key, without its secret, which is nowhere.
#[derive(Debug, Serialize, ToSchema)]
pub struct KeySeen {
    /// Its public half.
    #[schema(value_type = String)]
    id: KeyId,
    /// Whose.
    tenant: Uuid,
    /// For whom.
    principal: Uuid,
    /// What it may do.
    scopes: Vec<&'static str>,
}

/// How far an import is.
#[utoipa::path(get, path = "/api/v1/imports/{id}", tag = "imports", operation_id = "get_import",
    params(("id" = Uuid, Path)), responses((status = 200, body = ImportSeen)))]
pub async fn import(
    State(app): State<App>,
    Id(id): Id<ImportId>,
    Query(NoParams {}): Query<NoParams>,
    request: Request,
) -> Result<Json<ImportSeen>, Error> {
    let (mut parts, _) = request.into_parts();
    let caller = Caller::from_request_parts(&mut parts, &app).await?;
    caller.may(Scope::VisitsWrite)?;
    let arriving = Arriving::new(&app, &mut parts, &caller).await?;
    let arrived = arriving.with(&app, Bytes::new())?;
    let (status, Progress { next, version, .. }) = match app.import(id, &arrived).await? {
        Import::Nothing => return Err(Error::NotFound("import")),
        Import::Running(progress) => ("running", progress),
        Import::Completed(progress) => ("completed", progress),
    };
    Ok(Json(ImportSeen {
        id,
        status,
        next,
        version,
    }))
}

/// A tenant, for operators.
#[utoipa::path(get, path = "/api/v1/tenants/{id}", tag = "tenants", operation_id = "get_tenant",
    params(("id" = Uuid, Path)), responses((status = 200, body = TenantSeen)))]
pub async fn tenant(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<TenantId>,
    Query(NoParams {}): Query<NoParams>,
) -> Result<Json<TenantSeen>, Error> {
    caller.may(Scope::Operator)?;
    let name = app.directory().tenant_name(id).await?;
    let name = name.ok_or(Error::NotFound("tenant"))?;
    Ok(Json(TenantSeen { id, name }))
}

/// A key that is not revoked: whose it is, and what it may do.
#[utoipa::path(get, path = "/api/v1/keys/{keyid}", tag = "keys", operation_id = "get_key",
    params(("keyid" = String, Path)), responses((status = 200, body = KeySeen)))]
pub async fn key(
    State(app): State<App>,
    caller: Caller,
    Id(id): Id<KeyId>,
    Query(NoParams {}): Query<NoParams>,
) -> Result<Json<KeySeen>, Error> {
    let principal = caller
        .may(Scope::Operator)
        .or_else(|_| caller.may(Scope::Admin))?;
    let key = app.directory().key(&id).await?;
    let key = key
        .filter(|key| caller.is_operator() || key.tenant == principal.tenant)
        .ok_or(Error::NotFound("key"))?;
    Ok(Json(KeySeen {
        id,
        tenant: key.tenant.uuid(),
        principal: key.principal.uuid(),
        scopes: key.scopes.iter().map(Scope::name).collect(),
    }))
}
