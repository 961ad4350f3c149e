//! Tenants: made by operators.

use axum::extract::State;
use events::{
    TenantId,
    directory::{Command, Name, Scope},
};
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    App,
    answer::Accepted,
    command::{Body, CommandRequest},
    error::Error,
};

/// A tenant that was made.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the shape of an answer, for the API's description")]
pub struct TenantAnswer {
    /// Its id.
    id: Uuid,
    /// As operators call it.
    name: String,
    /// Its version; also the `ETag`.
    version: u64,
}

/// A new tenant.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantBody {
    /// As operators call it: one line, 1 to 100 characters, unique in the installation.
    name: String,
}

impl Body for TenantBody {
    const SCOPES: &'static [Scope] = &[Scope::Operator];
}

/// Makes a tenant.
#[utoipa::path(post, path = "/api/v1/tenants", tag = "tenants", request_body = TenantBody,
    responses((status = 201, body = TenantAnswer)))]
pub async fn create(State(app): State<App>, request: CommandRequest<TenantBody>) -> Result<Accepted, Error> {
    let name = Name::new(&request.body.name).map_err(|error| Error::field("/name", error))?;
    let tenant = TenantId::new(Uuid::now_v7());
    app.execute(request.context, Command::CreateTenant { tenant, name }.into())
        .await
}
