//! Sites: a domain belongs to one tenant of the whole installation.

use axum::extract::State;
use events::{
    SiteId,
    directory::{Command, Domain, Name, Scope, Timezone},
};
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    App,
    answer::Accepted,
    command::{Body, CommandRequest},
    error::Error,
    routes::fields::Fields,
};

/// A site that was made.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the shape of an answer, for the API's description")]
pub struct SiteAnswer {
    /// Its id.
    id: Uuid,
    /// Its domain, lower case, in ASCII.
    domain: String,
    /// Where its days begin and end.
    timezone: String,
    /// Its version; also the `ETag`.
    version: u64,
}

/// A new site.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SiteBody {
    /// A host's name, such as `blog.example.org`.
    domain: String,
    /// As people call it.
    name: Option<String>,
    /// IANA name, such as `Europe/Berlin`; UTC when absent.
    timezone: Option<String>,
    /// Whose: id or name. Operators must say it; others are their own tenant.
    tenant: Option<String>,
}

impl Body for SiteBody {
    const SCOPES: &'static [Scope] = &[Scope::Admin, Scope::Operator];
}

/// Makes a site.
#[utoipa::path(post, path = "/api/v1/sites", tag = "sites", request_body = SiteBody,
    responses((status = 201, body = SiteAnswer)))]
pub async fn create(State(app): State<App>, request: CommandRequest<SiteBody>) -> Result<Accepted, Error> {
    let SiteBody {
        domain,
        name,
        timezone,
        tenant,
    } = request.body;
    let tenant = app.tenant_for(&request.caller, tenant.as_deref()).await?;
    let mut fields = Fields::default();
    let domain = fields.check("/domain", domain.parse::<Domain>());
    let name = fields.optional("/name", name, |name| Name::new(&name));
    let timezone = fields.optional("/timezone", timezone, |name| name.parse::<Timezone>());
    let timezone = timezone.unwrap_or(Timezone::UTC);
    let site = SiteId::new(Uuid::now_v7());
    let command = fields.finish(domain.map(|domain| Command::CreateSite {
        tenant,
        site,
        domain,
        name,
        timezone,
    }))?;
    app.execute(request.context, command.into()).await
}
