//! A view of a piece of content, told by who shows it.

use axum::extract::State;
use events::{
    ContentId,
    content::{Kind, Piece, Rejection, Status},
    directory::Scope,
};
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::{
    App,
    answer::{Accepted, Answer},
    command::{Body, CommandRequest, Expected, Id},
    error::Error,
    metrics,
    partition::now,
    recorder::{Keyed, Source},
    visit::{Agent, Hit, Page, Place},
};

/// Its name in metrics.
pub const DOOR: &str = "view";

/// A view of a piece.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ViewBody {
    /// The address that led there.
    referrer: Option<String>,
}

/// What became of a view.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the shape of an answer, for the API's description")]
pub struct ViewAnswer {
    /// 1; 0 when it was not kept.
    accepted: u8,
    /// Why it was not kept: `bot` or `no-user-agent`.
    dropped: Option<String>,
}

impl Body for ViewBody {
    const SCOPES: &'static [Scope] = &[Scope::ContentWrite, Scope::VisitsWrite];
    const OPTIONAL: bool = true;
}

/// Records a page view of a piece, unless it is archived (409); who views is told by `User-Agent` and address, as with trackers.
#[utoipa::path(post, path = "/api/v1/content/{id}/view", tag = "visits", request_body = Option<ViewBody>,
    params(("id" = Uuid, Path),
        ("User-Agent" = Option<String>, Header, description = "of the visitor; with the address it tells visitors of a day apart")),
    responses((status = 202, body = ViewAnswer)))]
pub async fn view(
    State(app): State<App>,
    Id(id): Id<ContentId>,
    source: Source,
    request: CommandRequest<ViewBody>,
) -> Result<Accepted, Error> {
    if request.context.expected != Expected::Any {
        return Err(Error::NoVersion);
    }
    let tenant = request.context.principal.tenant;
    let (piece, seen) = app.piece(&request.context, id).await?;
    let piece = piece.ok_or(Error::NotFound("content"))?;
    let (key, sent) = (request.context.key, request.context.request);
    let before = key.and_then(|key| app.recorder().viewed(key, sent));
    // A retry hears what its first attempt would have.
    if piece.status == Status::Archived && before.is_none() {
        return Err(Rejection::Archived.into());
    }
    let site = app.directory().site_by_id(piece.site).await?;
    let site = site.ok_or(Error::NotFound("site"))?;
    let agent = match Agent::read(&source.user_agent) {
        Ok(agent) => agent,
        Err(dropped) => {
            metrics::DROPPED
                .with_label_values(&[DOOR, dropped.reason()])
                .inc();
            let body = json!({"accepted": 0, "dropped": dropped.reason()});
            return Ok(accepted(body, seen));
        }
    };
    let at = now();
    let salt = app.day_salt(at).await?;
    let viewed = || (salt.visitor(site.id, source.address, &source.user_agent), at);
    let (visitor, at) = before.unwrap_or_else(viewed);
    let keyed = key.map(|key| Keyed {
        key,
        request: sent,
        viewed: Some((visitor, at)),
    });
    let page = Page {
        hostname: site.domain.as_str().to_owned(),
        pathname: path(&piece),
        utm: std::collections::BTreeMap::new(),
        source: None,
    };
    let place = Place {
        site: site.id,
        domain: site.domain.as_str(),
        visitor,
        agent,
        content: Some(id),
        import: None,
    };
    // With the request in it: the same key with another view must not make the same id, for then it were lost.
    let key = key.map(|key| (app.keys().keyed_hash("visits", &[&key, &sent]), 0));
    let event = Hit::view(page, request.body.referrer).event(place);
    let recorded = app
        .recorder()
        .record(vec![source.traced.recorded(tenant, at, key, event)], keyed)
        .await?;
    metrics::VISITS.with_label_values(&[DOOR]).inc();
    Ok(accepted(json!({"accepted": 1}), app.position_of(&recorded)))
}

/// Where a piece is read, as far as the write side knows: statistics find it by its id.
fn path(piece: &Piece) -> String {
    let kind = match piece.kind {
        Kind::Page => return format!("/{}", piece.slug),
        Kind::Post => "post",
        Kind::Project => "project",
        Kind::Idea => "idea",
        Kind::Resume => "resume",
    };
    format!("/{kind}/{}", piece.slug)
}

fn accepted(body: serde_json::Value, position: service::Position) -> Accepted {
    let answer = Answer {
        status: StatusCode::ACCEPTED,
        location: None,
        version: None,
        body,
    };
    Accepted { answer, position }
}
