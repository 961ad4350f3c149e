//! A hit of a tracker, as Plausible's trackers send it. Anyone may send one: the sites are told by their domains.

use axum::{
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    response::{IntoResponse, Response},
};
use events::directory::Site;
use http::{HeaderName, HeaderValue, StatusCode, header};
use tokio::sync::Semaphore;
use utoipa::ToSchema;

use crate::{
    App,
    command::unread,
    error::Error,
    metrics,
    partition::now,
    recorder::Source,
    visit::{Agent, Dropped, Place, tracker},
};

/// Its name in metrics.
pub const DOOR: &str = "event";
/// Says to trackers of Plausible's that the hit was not kept.
const PLAUSIBLE_DROPPED: HeaderName = HeaderName::from_static("x-plausible-dropped");
/// Says why.
const DROPPED: HeaderName = HeaderName::from_static("x-annals-dropped");

/// A hit as Plausible's trackers send it, in long names or in the short ones of their script. Other fields are passed
/// over.
#[derive(Debug, ToSchema)]
#[schema(as = TrackerHit)]
#[expect(dead_code, reason = "the shape of a body, for the API's description")]
pub struct HitBody {
    /// `pageview`, `engagement`, or the name of an event of one's own, at most 120 characters; also `n`.
    name: String,
    /// Of the page, at most 2,000 characters; also `u`.
    url: String,
    /// Of the site; several are joined with commas; also `d`.
    domain: String,
    /// The address that led there; also `r`.
    referrer: Option<String>,
    /// At most 30 texts, numbers and truth values, or a text that holds such an object; also `p`, `m`, `meta`.
    #[schema(value_type = Option<Object>)]
    props: Option<()>,
    /// Or a text that holds such an object; also `$`.
    revenue: Option<RevenueBody>,
    /// Whether it ends a bounce: true when absent; also `i`.
    interactive: Option<bool>,
    /// Of an engagement: milliseconds.
    e: Option<f64>,
    /// Of an engagement: how far the page was seen, in percent; 255 when that is not known.
    sd: Option<f64>,
    /// Whether what follows `#` belongs to the path: `true` or 1; also `hashMode`.
    h: Option<bool>,
}

/// An amount of money.
#[derive(Debug, ToSchema)]
#[schema(as = Revenue)]
#[expect(dead_code, reason = "the shape of a body, for the API's description")]
pub struct RevenueBody {
    /// A decimal number, also as a text: at most 15 digits and 6 decimals.
    #[schema(example = "19.99")]
    amount: String,
    /// ISO 4217.
    #[schema(example = "EUR")]
    currency: String,
}

/// Records a hit. 202 comes when the log has it, or when it is not kept, and then says so.
#[utoipa::path(post, path = "/api/event", tag = "visits",
    request_body(content((HitBody = "application/json"), (HitBody = "text/plain")),
        description = "JSON, whatever it is declared as: scripts send text/plain; at most 128 KiB"),
    params(("User-Agent" = Option<String>, Header, description = "of the visitor; with the address it tells visitors of a day apart")),
    responses((status = 202, body = String, content_type = "text/plain", description = "`ok`",
        headers(("x-plausible-dropped" = Option<String>, description = "`1` when the hit was not kept"),
                ("x-annals-dropped" = Option<String>, description = "why: `unknown-site`, `bot`, `no-user-agent`, or `unavailable`, when one of several sites could not be looked for")))))]
pub async fn event(State(app): State<App>, source: Source, body: Result<Bytes, BytesRejection>) -> Response {
    let mut response = match record(&app, &source, body).await {
        Ok(dropped) => {
            let mut response = (StatusCode::ACCEPTED, "ok").into_response();
            if let Some(dropped) = dropped {
                let headers = response.headers_mut();
                headers.insert(PLAUSIBLE_DROPPED, HeaderValue::from_static("1"));
                headers.insert(DROPPED, HeaderValue::from_static(dropped.reason()));
            }
            response
        }
        Err(error) => error.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("x-plausible-dropped, x-annals-dropped, retry-after"),
    );
    response
}

/// Lets pages of any origin send hits.
pub async fn preflight() -> impl IntoResponse {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "POST, OPTIONS"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "content-type, traceparent"),
        (header::ACCESS_CONTROL_MAX_AGE, "86400"),
    ];
    (StatusCode::NO_CONTENT, headers)
}

/// A hit is kept for each of its sites: its bytes times their number are at most this.
const OF_ALL_SITES: usize = 256 * 1024;

/// Hits that may wait for the directory's end at a time: anyone may name domains that nobody has, and others wait for
/// ends too.
const LOOKED_FOR: usize = 256;
static LOOKING: Semaphore = Semaphore::const_new(LOOKED_FOR);

/// Appends a hit for each of its sites; says why, when one of them did not keep it.
async fn record(
    app: &App,
    source: &Source,
    body: Result<Bytes, BytesRejection>,
) -> Result<Option<Dropped>, Error> {
    let body = body.map_err(unread)?;
    let tracked = tracker::read(&body)?;
    if body.len() * tracked.domains.len() > OF_ALL_SITES {
        return Err(tracker::too_many(
            "names so many sites that this hit is more than 256 KiB for all of them",
        )
        .into());
    }
    let agent = match Agent::read(&source.user_agent) {
        Ok(agent) => agent,
        Err(dropped) => return Ok(Some(drop_one(dropped))),
    };
    let at = now();
    let salt = app.day_salt(at).await?;
    let mut events = Vec::with_capacity(1);
    let mut dropped = None;
    let mut sites = Vec::with_capacity(1);
    let hits = std::iter::repeat_n(tracked.hit, tracked.domains.len());
    // One look to the directory's end serves all domains of the request: what is unknown after it, stays so.
    let (mut looked, mut failed) = (false, None);
    for (domain, hit) in tracked.domains.iter().zip(hits) {
        let mut site = app.directory().known_site_of_host(domain);
        if site.is_none() && !std::mem::replace(&mut looked, true) {
            // What cannot be looked for is no reason to lose the hit of a site that is known.
            match look_for(app, domain).await {
                Ok(found) => site = found,
                Err(error) => failed = Some(error),
            }
        }
        let Some(site) = site else {
            if failed.is_none() {
                dropped = Some(drop_one(Dropped::UnknownSite));
            }
            continue;
        };
        // A site may be named in two ways, with `www.` and without.
        if sites.contains(&site.id) {
            continue;
        }
        sites.push(site.id);
        let place = Place {
            site: site.id,
            domain: site.domain.as_str(),
            visitor: salt.visitor(site.id, source.address, &source.user_agent),
            agent,
            content: None,
            import: None,
        };
        events.push(source.traced.recorded(site.tenant, at, None, hit.event(place)));
    }
    if let Some(error) = failed {
        if events.is_empty() {
            return Err(error);
        }
        dropped = Some(drop_one(Dropped::Unavailable));
    }
    if !events.is_empty() {
        let count = events.len() as u64;
        app.recorder().record(events, None).await?;
        metrics::HITS.inc_by(count);
    }
    Ok(dropped)
}

/// A site that is not known here yet, up to the directory's end.
async fn look_for(app: &App, domain: &str) -> Result<Option<Site>, Error> {
    let _turn = LOOKING.try_acquire().map_err(|_| Error::Busy)?;
    app.directory().site_of_host(domain).await
}

fn drop_one(dropped: Dropped) -> Dropped {
    metrics::DROPPED
        .with_label_values(&[DOOR, dropped.reason()])
        .inc();
    dropped
}
