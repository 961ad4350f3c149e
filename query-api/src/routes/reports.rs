//! `GET /api/v1/reports/content`.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use chrono::{Days, NaiveDate, Utc};
use http::{HeaderValue, StatusCode, header};
use read_models::{
    Projection,
    generation::frozen::{self, Name},
    visits::{
        range::Resolved,
        report::{self, ContentReport, ContentRow},
    },
};
use serde::{Deserialize, Serialize};
use service::{FieldError, Json, Problem, Query};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::stats;
use crate::{
    App,
    ask::Ask,
    caller::Right,
    error::Error,
    list::{checked, one_of},
    site::Site,
    spreadsheet::{self, Cell},
};

/// Days of a report that does not say.
const DAYS: u64 = 28;
/// Pieces at a time, of who does not want all.
const MOST_PIECES: u32 = 10_000;
/// Ten years and their leap days.
const MOST_DAYS: i64 = 3_653;

/// Of which site, of which days, in which form.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Params {
    /// Its domain.
    site: String,
    /// The first day, in the site's time zone; 28 days unless said.
    #[serde(default)]
    from: Option<String>,
    /// The last day; today unless said.
    #[serde(default)]
    to: Option<String>,
    /// json or csv.
    #[serde(default)]
    format: Option<String>,
    /// At most this many pieces, 1 to 10,000; all of them unless said.
    #[serde(default)]
    size: Option<u32>,
    /// With `size`: which part of them, from 1.
    #[serde(default)]
    page: Option<u32>,
    /// Answers from what operators have frozen: `at_2026_11` means the visits of `visits_at_2026_11` and the content of
    /// `content_facts_at_2026_11`. Days are those on which people came, as ever; what was recorded later is not in it.
    #[serde(default)]
    as_of: Option<String>,
}

/// Views and visitors of each published piece of a site.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Report {
    /// The site's domain.
    site: String,
    /// The first and the last day.
    period: [String; 2],
    /// As many days just before it.
    before: [String; 2],
    /// With `as_of`: where what it was made from was cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    as_of: Option<AsOf>,
    /// The most viewed first.
    items: Vec<Viewed>,
}

/// Where the tables were cut that a report was made from: positions or times, as the operator gave them.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AsOf {
    visits: String,
    content_facts: String,
}

/// How one piece was viewed. Visitors are a sum of daily ones.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Viewed {
    id: Uuid,
    kind: String,
    slug: String,
    title: String,
    path: String,
    published_at: Option<String>,
    views: u64,
    visitors: u64,
    views_before: u64,
    visitors_before: u64,
    /// In percent of the period before; none when nobody viewed it then.
    views_change: Option<f64>,
    /// In percent of the period before; none when nobody viewed it then.
    visitors_change: Option<f64>,
}

/// Views and visitors of each published piece, and their change against the period before.
#[utoipa::path(
    get, path = "/api/v1/reports/content", tag = "statistics", operation_id = "get_content_report",
    security(("key" = [])),
    params(
        Params,
        ("Annals-Position" = Option<String>, Header, description = "Answer from tables that have this"),
        ("Prefer" = Option<String>, Header, description = "`wait=SECONDS` for the position, 2 unless said, at most 10")
    ),
    responses(
        (status = 200, content((Report = "application/json"), (String = "text/csv"))),
        (status = "default", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn content(
    State(app): State<App>,
    ask: Ask,
    Query(params): Query<Params>,
) -> Result<Response, Error> {
    ask.caller(Right::Read)?;
    let mut faults = Vec::new();
    one_of("format", params.format.as_deref(), &["json", "csv"], &mut faults);
    let from = day("from", params.from.as_deref(), &mut faults);
    let to = day("to", params.to.as_deref(), &mut faults);
    if params.as_of.is_some() && ask.is_positioned() {
        let text = "does not go with Annals-Position: it stays where it is";
        faults.push(FieldError::new("/as_of", text));
    }
    let part = part(&params, &mut faults);
    checked(faults)?;
    let (site, generation, facts, as_of) = match &params.as_of {
        Some(as_of) => {
            let site = app.site(&ask, &params.site).await?;
            let visits = frozen(&app, Projection::Visits, as_of).await?;
            let facts = frozen(&app, Projection::ContentFacts, as_of).await?;
            let as_of = AsOf {
                visits: visits.until,
                content_facts: facts.until,
            };
            (site, visits.generation, facts.generation, Some(as_of))
        }
        None => {
            let (site, generation) = stats::at(&app, &ask, &params.site).await?;
            ask.wait(app.progress(), Projection::ContentFacts, Some(site.tenant), None)
                .await?;
            let facts = app
                .progress()
                .live(Projection::ContentFacts)
                .ok_or(Error::NotLive(Projection::ContentFacts))?;
            (site, generation, facts, None)
        }
    };
    let period = period(&site, from, to)?;
    let headers = ask.headers(app.progress(), &[Projection::Visits, Projection::ContentFacts]);
    let _turn = app.0.stats.take(site.tenant).await?;
    let report = report::content_report(
        &app.0.clickhouse,
        generation,
        facts,
        &site.of_visits(),
        &period,
        part,
    )
    .await?;
    if params.format.as_deref() == Some("csv") {
        return Ok((headers, csv(&report)?).into_response());
    }
    Ok((headers, Json(Report::new(&site, report, as_of))).into_response())
}

/// What was frozen of a projection under this name, behind the projection's own.
async fn frozen(app: &App, projection: Projection, as_of: &str) -> Result<frozen::Frozen, Error> {
    let Ok(name) = Name::parse(projection, &format!("{projection}_{as_of}")) else {
        let text = "is at, or at_ and small letters, digits and underscores, as in at_2026_11";
        return Err(Problem::invalid(vec![FieldError::new("/as_of", text)]).into());
    };
    match app.0.tables.frozen(&name).await? {
        Some(found) if found.ready => Ok(found),
        Some(_) => {
            let text = format!("{name} is still being built; try again");
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "freezing", text)
                .retry_after(5)
                .into())
        }
        None => {
            let text = format!(
                "there is no {name}: an operator makes it with `annals rebuild {projection} --until TIME --into {name}`"
            );
            Err(Problem::not_found(text).into())
        }
    }
}

/// How many pieces, and how many before them.
fn part(params: &Params, faults: &mut Vec<FieldError>) -> (Option<u32>, u64) {
    if params.size.is_some_and(|size| !(1..=MOST_PIECES).contains(&size)) {
        faults.push(FieldError::new("/size", format!("is 1 to {MOST_PIECES}")));
    }
    let skip = match (params.page, params.size) {
        (Some(0), _) => {
            faults.push(FieldError::new("/page", "is counted from 1"));
            0
        }
        (Some(_), None) => {
            faults.push(FieldError::new("/page", "needs a size"));
            0
        }
        (Some(page), Some(size)) => u64::from(page - 1) * u64::from(size),
        (None, _) => 0,
    };
    (params.size, skip)
}

fn day(name: &str, text: Option<&str>, faults: &mut Vec<FieldError>) -> Option<NaiveDate> {
    let text = text?;
    // chrono would take years beyond 9999 and signs; a day here has ten characters.
    let day = NaiveDate::parse_from_str(text, "%Y-%m-%d")
        .ok()
        .filter(|_| text.len() == 10);
    if day.is_none() {
        faults.push(FieldError::new(format!("/{name}"), "is a day, as in 2026-11-21"));
    }
    day
}

fn period(site: &Site, from: Option<NaiveDate>, to: Option<NaiveDate>) -> Result<Resolved, Error> {
    let back = Days::new(DAYS - 1);
    let last = to.unwrap_or_else(|| Utc::now().with_timezone(&site.timezone).date_naive());
    let first = from.or_else(|| last.checked_sub_days(back)).unwrap_or(last);
    let mut faults = Vec::new();
    if first > last {
        faults.push(match to {
            Some(_) => FieldError::new("/to", "is before from"),
            None => FieldError::new("/from", format!("is after today, which is {last}")),
        });
    } else if (last - first).num_days() >= MOST_DAYS {
        faults.push(FieldError::new(
            "/from",
            format!("is at most {MOST_DAYS} days before to, which is {last}"),
        ));
    }
    checked(faults)?;
    Ok(Resolved::days(first, last, site.timezone))
}

impl Report {
    fn new(site: &Site, report: ContentReport, as_of: Option<AsOf>) -> Self {
        let items = report.rows.into_iter().map(Viewed::from).collect();
        Self {
            site: site.domain.clone(),
            period: report.period,
            before: report.before,
            as_of,
            items,
        }
    }
}

impl From<ContentRow> for Viewed {
    fn from(row: ContentRow) -> Self {
        Self {
            views_change: row.views_change(),
            visitors_change: row.visitors_change(),
            id: row.content,
            kind: row.kind,
            slug: row.slug,
            title: row.title,
            path: row.path,
            published_at: row.published_at,
            views: row.views,
            visitors: row.visitors,
            views_before: row.views_before,
            visitors_before: row.visitors_before,
        }
    }
}

fn csv(report: &ContentReport) -> Result<impl IntoResponse + use<>, Error> {
    let head = [
        "id",
        "kind",
        "slug",
        "title",
        "path",
        "published_at",
        "views",
        "visitors",
        "views_before",
        "visitors_before",
        "views_change_percent",
        "visitors_change_percent",
    ];
    let number = |number: u64| Cell::Number(number.to_string());
    let change = |change: Option<f64>| Cell::Number(change.map(|it| it.to_string()).unwrap_or_default());
    let text = |text: &str| Cell::Text(text.to_owned());
    let rows = report.rows.iter().map(|row| {
        [
            Cell::Text(row.content.to_string()),
            text(&row.kind),
            text(&row.slug),
            text(&row.title),
            text(&row.path),
            text(row.published_at.as_deref().unwrap_or_default()),
            number(row.views),
            number(row.visitors),
            number(row.views_before),
            number(row.visitors_before),
            change(row.views_change()),
            change(row.visitors_change()),
        ]
    });
    let body = spreadsheet::write(head, rows)?;
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/csv; charset=utf-8"),
        ),
        (
            header::CONTENT_DISPOSITION,
            HeaderValue::from_static("attachment; filename=\"content-report.csv\""),
        ),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
    ];
    Ok((headers, body))
}
