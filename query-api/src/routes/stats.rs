//! `POST /api/v1/stats/query`, the same at `/api/v2/query`, and `GET /api/v1/stats/realtime`.

use std::sync::Arc;

use axum::extract::State;
use chrono::Utc;
use http::HeaderMap;
use read_models::{
    Projection,
    visits::{self, StatsQuery},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use service::{FieldError, Json, Problem, Query};
use utoipa::{IntoParams, ToSchema};

use crate::{App, ask::Ask, caller::Right, error::Error, site::Site};

/// A question about visits, as Plausible's Stats API v2 has it.
#[derive(Deserialize, ToSchema)]
#[expect(
    dead_code,
    reason = "only described: read_models reads the body and points at every fault"
)]
pub(crate) struct Question {
    /// The site's domain.
    site_id: String,
    /// visitors, visits, pageviews, events, views_per_visit, bounce_rate, visit_duration.
    #[schema(min_items = 1, example = json!(["visitors", "pageviews"]))]
    metrics: Vec<String>,
    /// A pair of ISO 8601 dates or instants, or one of day, 7d, 28d, 30d, 91d, month, 6mo, 12mo, year, all.
    #[schema(value_type = Object, example = "all")]
    date_range: Value,
    /// time, time:hour, time:day, time:week, time:month, event:page, event:name, event:hostname, visit:source,
    /// visit:referrer, visit:device, visit:browser, visit:os, visit:entry_page, visit:exit_page, …
    #[schema(required = false, example = json!(["visit:source"]))]
    dimensions: Vec<String>,
    /// `[operator, dimension, values]` with is, is_not, contains, contains_not; combined with and, or, not.
    #[schema(required = false, value_type = Vec<Object>, example = json!([["is", "event:page", ["/"]]]))]
    filters: Vec<Value>,
    /// `[metric or dimension, "asc" or "desc"]` each.
    #[schema(required = false, example = json!([["visitors", "desc"]]))]
    order_by: Vec<[String; 2]>,
    /// `{imports, time_labels, total_rows}`, each true or false.
    #[schema(required = false, value_type = Object)]
    include: Value,
    /// `{limit, offset}`; at most 10,000 rows.
    #[schema(required = false, value_type = Object)]
    pagination: Value,
}

/// An answer about visits.
#[derive(Serialize, ToSchema)]
pub(crate) struct Answer {
    /// One for each group, in the order asked for.
    results: Vec<Row>,
    /// What there is to know about the answer, such as that visitors of several days are a sum of daily ones.
    #[schema(value_type = Object)]
    meta: Value,
    /// The question as it was understood, its dates resolved.
    #[schema(value_type = Object)]
    query: Value,
}

/// One group.
#[derive(Serialize, ToSchema)]
pub(crate) struct Row {
    /// In the order of the question's dimensions.
    dimensions: Vec<String>,
    /// In the order of the question's metrics.
    #[schema(value_type = Vec<f64>)]
    metrics: Vec<Value>,
}

/// Statistics of a site's visits.
///
/// Plausible's v2 query, without `include.comparisons`, filters with `matches` or on goals, and the metrics
/// `scroll_depth`, `time_on_page`, `conversion_rate` and of revenue: what is not there is a 422 that names it.
#[utoipa::path(
    post, path = "/api/v1/stats/query", tag = "statistics", operation_id = "query_stats", security(("key" = [])),
    request_body = Question,
    params(
        ("Annals-Position" = Option<String>, Header, description = "Answer from tables that have this"),
        ("Prefer" = Option<String>, Header, description = "`wait=SECONDS` for the position, 2 unless said, at most 10")
    ),
    responses(
        (status = 200, body = Answer),
        (status = 422, body = Problem, content_type = "application/problem+json"),
        (status = "default", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn query(
    State(app): State<App>,
    ask: Ask,
    Json(body): Json<Value>,
) -> Result<(HeaderMap, Json<visits::StatsResult>), Error> {
    answer(&app, &ask, &body).await
}

/// The same, where Plausible's clients look for it.
#[utoipa::path(
    post, path = "/api/v2/query", tag = "statistics", operation_id = "query_stats_v2", security(("key" = [])),
    request_body = Question,
    params(
        ("Annals-Position" = Option<String>, Header, description = "Answer from tables that have this"),
        ("Prefer" = Option<String>, Header, description = "`wait=SECONDS` for the position, 2 unless said, at most 10")
    ),
    responses(
        (status = 200, body = Answer),
        (status = 422, body = Problem, content_type = "application/problem+json"),
        (status = "default", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn plausible(
    State(app): State<App>,
    ask: Ask,
    Json(body): Json<Value>,
) -> Result<(HeaderMap, Json<visits::StatsResult>), Error> {
    answer(&app, &ask, &body).await
}

async fn answer(app: &App, ask: &Ask, body: &Value) -> Result<(HeaderMap, Json<visits::StatsResult>), Error> {
    ask.caller(Right::Read)?;
    let query = StatsQuery::parse(body).map_err(|faults| {
        Problem::invalid(
            faults
                .into_iter()
                .map(|fault| FieldError::new(fault.pointer, fault.detail))
                .collect(),
        )
    })?;
    let (site, generation) = at(app, ask, &query.site_id).await?;
    let headers = ask.headers(app.progress(), &[Projection::Visits]);
    let _turn = app.0.stats.take(site.tenant).await?;
    let result = visits::stats::stats(
        &app.0.clickhouse,
        generation,
        &site.of_visits(),
        &query,
        Utc::now(),
    )
    .await?;
    Ok((headers, Json(result)))
}

/// Which site.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Params {
    /// Its domain.
    site: String,
}

/// What happens on a site just now.
#[derive(Serialize, ToSchema)]
pub(crate) struct Realtime {
    /// Visitors of the last 5 minutes.
    visitors: u64,
    /// The last 30 minutes, the present one last.
    minutes: Vec<Minute>,
}

/// One minute.
#[derive(Serialize, ToSchema)]
pub(crate) struct Minute {
    /// When it began: RFC 3339, UTC.
    minute: String,
    /// Page views in it.
    pageviews: u64,
}

/// Visitors of the last 5 minutes, and views per minute of the last 30.
#[utoipa::path(
    get, path = "/api/v1/stats/realtime", tag = "statistics", operation_id = "get_realtime",
    security(("key" = [])),
    params(
        Params,
        ("Annals-Position" = Option<String>, Header, description = "Answer from tables that have this"),
        ("Prefer" = Option<String>, Header, description = "`wait=SECONDS` for the position, 2 unless said, at most 10")
    ),
    responses(
        (status = 200, body = Realtime),
        (status = "default", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn realtime(
    State(app): State<App>,
    ask: Ask,
    Query(params): Query<Params>,
) -> Result<(HeaderMap, Json<visits::Realtime>), Error> {
    ask.caller(Right::Read)?;
    let (site, generation) = at(&app, &ask, &params.site).await?;
    let headers = ask.headers(app.progress(), &[Projection::Visits]);
    let _turn = app.0.stats.take(site.tenant).await?;
    let result =
        visits::realtime::realtime(&app.0.clickhouse, generation, &site.of_visits(), Utc::now()).await?;
    Ok((headers, Json(result)))
}

/// The caller's site, and the generation of `visits` that has what was asked for.
pub(super) async fn at(app: &App, ask: &Ask, domain: &str) -> Result<(Arc<Site>, i32), Error> {
    let site = app.site(ask, domain).await?;
    ask.wait(app.progress(), Projection::Visits, Some(site.tenant), None)
        .await?;
    let generation = app
        .progress()
        .live(Projection::Visits)
        .ok_or(Error::NotLive(Projection::Visits))?;
    Ok((site, generation))
}
