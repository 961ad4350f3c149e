//! Keys: made for a principal of a tenant, shown once, revoked for good.

use axum::extract::State;
use events::{
    KeyId, PrincipalId, Sha256,
    directory::{self, Command, Scope, Scopes},
};
use serde::Deserialize;
use serde_json::json;
use service::key::Key;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    App,
    answer::Accepted,
    command::{Body, CommandRequest, Id, Principal},
    error::Error,
    routes::fields::Fields,
};

/// A key that was made.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the shape of an answer, for the API's description")]
pub struct KeyAnswer {
    /// Its public half.
    id: String,
    /// The whole key: shown here and nowhere else.
    key: String,
    /// Whose.
    tenant: Uuid,
    /// For whom.
    principal: Uuid,
    /// What it may do.
    scopes: Vec<String>,
    /// Its version; also the `ETag`.
    version: u64,
}

/// A new key.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyBody {
    /// Whose: id or name. Operators must say it; others are their own tenant.
    tenant: Option<String>,
    /// What it may do: `content:write`, `downloads:write`, `visits:write`, `read`, `admin`.
    scopes: Vec<String>,
    /// For whom, when they have a key already; else someone new.
    principal: Option<Uuid>,
    /// What people call the new principal. Kept encrypted, for it may be a person's name.
    name: Option<String>,
}

/// Nothing; may be left out.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NoKeyBody {}

impl Body for KeyBody {
    const SCOPES: &'static [Scope] = &[Scope::Admin, Scope::Operator];
}

impl Body for NoKeyBody {
    const SCOPES: &'static [Scope] = &[Scope::Admin, Scope::Operator];
    const OPTIONAL: bool = true;
}

/// Makes a key. Its text is in this answer only; it is nowhere else, and made again from the
/// Idempotency-Key (with the installation's secret) when the same request comes again while keys are kept.
#[utoipa::path(post, path = "/api/v1/keys", tag = "keys", request_body = KeyBody,
    responses((status = 201, body = KeyAnswer)))]
pub async fn issue(State(app): State<App>, request: CommandRequest<KeyBody>) -> Result<Accepted, Error> {
    let KeyBody {
        tenant,
        scopes,
        principal,
        name,
    } = request.body;
    let tenant = app.tenant_for(&request.caller, tenant.as_deref()).await?;
    let mut fields = Fields::default();
    let checked: Vec<_> = scopes
        .iter()
        .enumerate()
        .map(|(index, scope)| fields.check(&format!("/scopes/{index}"), scope.parse::<Scope>()))
        .collect();
    let scopes: Scopes = fields.finish(Some(checked.into_iter().flatten().collect()))?;
    if let (Some(principal), Some(_)) = (principal, &name) {
        // Nothing is sealed, and no key for it made, for one whom the command would refuse.
        let owner = app
            .directory()
            .principal_owner(PrincipalId::new(principal))
            .await?;
        if owner.is_some_and(|owner| owner != tenant) {
            return Err(directory::Rejection::UnknownPrincipal.into());
        }
    }
    let principal = PrincipalId::new(principal.unwrap_or_else(Uuid::now_v7));
    let name = match app.seal_name(tenant, principal, name.as_deref()).await {
        // With a key that was used before, it is told what it was told; else it is refused all the same.
        Err(Error::Refused { kind, .. })
            if request.key.is_some() && kind == directory::Rejection::PrincipalErased.kind() =>
        {
            None
        }
        sealed => sealed?,
    };
    let command = |key: &Key| -> Result<Command, Error> {
        let id = key.id().parse();
        Ok(Command::IssueKey {
            tenant,
            key: id.map_err(|error| Error::outside("making a key", error))?,
            principal,
            name: name.clone(),
            secret_hash: Sha256(key.hash().bytes()),
            scopes,
        })
    };
    let Some(given) = &request.key else {
        let key = Key::make();
        let accepted = app.execute(request.context, command(&key)?.into()).await?;
        return Ok(shown(accepted, &[key]));
    };
    let keys = (0..KEYS_OF_ONE)
        .map(|nth| key_of(&app, request.context.principal, given, nth))
        .collect::<Vec<_>>();
    let mut tried = keys.iter();
    let accepted = loop {
        let Some(key) = tried.next() else {
            return Err(directory::Rejection::IdInUse.into());
        };
        match app.execute(request.context.clone(), command(key)?.into()).await {
            // The first answer is forgotten, the key that it showed is not.
            Err(Error::Refused { kind, .. }) if kind == directory::Rejection::IdInUse.kind() => {}
            outcome => break outcome?,
        }
    };
    Ok(shown(accepted, &keys))
}

/// So many keys belong to one Idempotency-Key: it may be used again when its first answer is forgotten.
const KEYS_OF_ONE: u8 = 16;

/// The answer, with the text of the key that it is about.
fn shown(mut accepted: Accepted, keys: &[Key]) -> Accepted {
    if let Some(key) = keys.iter().find(|key| accepted.answer.body["id"] == key.id()) {
        accepted.answer.body["key"] = json!(key.reveal());
    }
    accepted
}

/// The nth key that belongs to an Idempotency-Key: whoever repeats the request is shown it again, and nobody
/// without the installation's secret can guess it.
fn key_of(app: &App, principal: Principal, given: &[u8], nth: u8) -> Key {
    let mut random = [0; 88];
    for (number, part) in (0_u8..).zip(random.chunks_mut(16)) {
        let hash = app
            .keys()
            .keyed_hash("key", &[&principal.bytes(), given, &[number, nth]]);
        part.copy_from_slice(&hash[..part.len()]);
    }
    Key::from_random(&random)
}

/// Lets a key do nothing any more, everywhere within a second.
#[utoipa::path(delete, path = "/api/v1/keys/{keyid}", tag = "keys", params(("keyid" = String, Path)),
    responses((status = 200)))]
pub async fn revoke(
    State(app): State<App>,
    Id(key): Id<KeyId>,
    request: CommandRequest<NoKeyBody>,
) -> Result<Accepted, Error> {
    let tenant = if request.caller.is_operator() {
        app.directory()
            .key_owner(&key)
            .await?
            .ok_or(Error::NotFound("key"))?
    } else {
        request.context.principal.tenant
    };
    app.execute(request.context, Command::RevokeKey { tenant, key }.into())
        .await
}
