//! `GET /api/v1/content`.

use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use chrono::{DateTime, Utc};
use read_models::{
    Projection,
    content::list::{self, Cursor, Field, Filter, Page as Part, Sort},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use service::{FieldError, Problem, Query};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::{
    App,
    ask::Ask,
    cache::Mark,
    caller::Right,
    cors,
    error::Error,
    list::{List, NO_CURSOR, Paging, at_most, checked, one_of},
    page::{Audience, Page},
};

const KINDS: [&str; 5] = ["post", "project", "idea", "page", "resume"];
const STATUSES: [&str; 5] = ["draft", "scheduled", "published", "unpublished", "archived"];
/// Longer queries are answered but not remembered.
const LONGEST_KEPT: usize = 500;

/// What a list of content may be asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct Params {
    /// A domain; required without a key.
    site: Option<String>,
    /// post, project, idea, page or resume.
    kind: Option<String>,
    /// draft, scheduled, published, unpublished or archived; without a key only published.
    status: Option<String>,
    tag: Option<String>,
    featured: Option<bool>,
    /// BCP 47; `en` finds `en-GB` too.
    language: Option<String>,
    /// Words, as in a web search: `two words`, `"a phrase"`, `or`, `-without`. Words are told apart by spaces and
    /// punctuation: of a text without them, such as Japanese, a part is not found.
    search: Option<String>,
    /// From 1.
    page: Option<u32>,
    /// 1 to 100; 20 unless said.
    size: Option<u32>,
    /// published_at, updated_at, created_at or title; with `-` in front, the greatest first. Unless said,
    /// `-published_at`.
    sort: Option<String>,
    /// `next` of the page before.
    after: Option<String>,
    /// `false` leaves the count out.
    total: Option<bool>,
}

/// A piece as lists show it: without its body.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Summary {
    id: Uuid,
    /// The domain of its site.
    site: String,
    kind: String,
    status: String,
    title: String,
    slug: String,
    path: String,
    summary: Option<String>,
    tags: Vec<String>,
    featured: bool,
    language: Option<String>,
    #[schema(value_type = Object)]
    metadata: Value,
    published_at: Option<DateTime<Utc>>,
    scheduled_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    version: i64,
}

/// What was asked, checked.
struct Wish {
    site: Option<String>,
    filter: Filter,
    sort: Sort,
    part: Part,
    paging: Paging,
    total: bool,
}

/// Content of the tenant; without a key, what is published on a site.
#[utoipa::path(
    get, path = "/api/v1/content", tag = "content", operation_id = "list_content", security((), ("key" = [])),
    params(
        Params,
        ("If-None-Match" = Option<String>, Header, description = "The ETag of an answer that you have"),
        ("Annals-Position" = Option<String>, Header, description = "Answer from tables that have this"),
        ("Prefer" = Option<String>, Header, description = "`wait=SECONDS` for the position, 2 unless said, at most 10")
    ),
    responses(
        (status = 200, body = List<Summary>),
        (status = 304, description = "You have it"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
        (status = "default", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn list(
    State(app): State<App>,
    ask: Result<Ask, Error>,
    RawQuery(query): RawQuery,
) -> Response {
    cors::open(async { listed(&app, &ask?, query.unwrap_or_default()).await }.await)
}

async fn listed(app: &App, ask: &Ask, query: String) -> Result<Response, Error> {
    let tenant = match ask.caller {
        Some(caller) => {
            caller.must(Right::Read)?;
            Some(caller.tenant)
        }
        None => None,
    };
    let audience = if tenant.is_some() {
        Audience::Private
    } else {
        Audience::Public
    };
    let key = (tenant, query);
    if !ask.is_positioned()
        && let Some(known) = app.0.lists.get(&key, Mark::now(app.progress()))
    {
        return Ok(known.answer(ask, audience, None));
    }
    let Query(params) = Query::<Params>::from_text(&key.1)?;
    let mut wish = wish(params, tenant.is_none())?;
    match (&wish.site, tenant) {
        (Some(domain), _) => {
            let site = app.site(ask, domain).await?;
            (wish.filter.tenant, wish.filter.site) = (site.tenant, Some(site.id));
        }
        (None, Some(tenant)) => wish.filter.tenant = tenant,
        (None, None) => {
            let fault = FieldError::new("/site", "is required without a key");
            return Err(Problem::invalid(vec![fault]).into());
        }
    }
    let needed = ask
        .fresh(app.progress(), Projection::Content, wish.filter.tenant, None)
        .await?;
    let position = ask.read_at(app.progress(), &[Projection::Content]);
    // Not while a place of the cache is held, where lists that are no searches would wait as well.
    let turns = match &wish.filter.search {
        Some(_) => &app.0.searches,
        None => &app.0.listings,
    };
    let _turn = turns.take(wish.filter.tenant).await?;
    let known = if key.1.len() > LONGEST_KEPT {
        read(app, &wish).await?
    } else {
        app.0
            .lists
            .get_or_read(key, app.progress(), needed, async |_| read(app, &wish).await)
            .await?
    };
    Ok(known.answer(ask, audience, position))
}

fn wish(params: Params, public: bool) -> Result<Wish, Error> {
    let mut faults = Vec::new();
    let paging = Paging::checked(params.page, params.size, &mut faults);
    one_of("kind", params.kind.as_deref(), &KINDS, &mut faults);
    one_of("status", params.status.as_deref(), &STATUSES, &mut faults);
    at_most("tag", params.tag.as_deref(), 100, &mut faults);
    at_most("language", params.language.as_deref(), 35, &mut faults);
    at_most("search", params.search.as_deref(), 300, &mut faults);
    if public
        && params
            .status
            .as_deref()
            .is_some_and(|status| status != "published")
    {
        faults.push(FieldError::new("/status", "is published without a key"));
    }
    let mut sort = Sort::default();
    if let Some(text) = &params.sort {
        match Sort::parse(text) {
            Some(parsed) => sort = parsed,
            None => faults.push(FieldError::new(
                "/sort",
                format!("is one of {}, or -field", Field::NAMES.join(", ")),
            )),
        }
    }
    let mut part = Part::Skip(paging.skipped() as u64);
    if let Some(text) = &params.after {
        match text.parse::<Cursor>() {
            Ok(_) if params.page.is_some() => faults.push(FieldError::new("/page", "does not go with after")),
            Ok(cursor) if params.sort.is_some() && cursor.sort() != sort => {
                faults.push(FieldError::new("/sort", "is another than that of the cursor"));
            }
            Ok(cursor) => {
                sort = cursor.sort();
                part = Part::After(cursor);
            }
            Err(_) => faults.push(FieldError::new("/after", NO_CURSOR)),
        }
    }
    checked(faults)?;
    let status = if public {
        Some("published".to_owned())
    } else {
        params.status
    };
    let filter = Filter {
        tenant: Uuid::nil(),
        site: None,
        kind: params.kind,
        status,
        tag: params.tag,
        featured: params.featured,
        language: params.language,
        search: params.search.filter(|words| !words.trim().is_empty()),
    };
    Ok(Wish {
        site: params.site,
        filter,
        sort,
        part,
        paging,
        total: params.total.unwrap_or(true),
    })
}

async fn read(app: &App, wish: &Wish) -> Result<Page, Error> {
    let tables = app.0.tables.live(Projection::Content)?;
    let size = wish.paging.size;
    // One more than asked for tells whether there is more.
    let mut rows = list::list(&tables, &wish.filter, wish.sort, &wish.part, size + 1).await?;
    let total = if wish.total {
        Some(u64::try_from(list::count(&tables, &wish.filter).await?).unwrap_or_default())
    } else {
        None
    };
    let more = rows.len() > size as usize;
    rows.truncate(size as usize);
    let next = rows
        .last()
        .filter(|_| more)
        .map(|row| row.cursor(wish.sort).to_string());
    let page = matches!(wish.part, Part::Skip(_)).then_some(wish.paging.page);
    let mut items = Vec::with_capacity(rows.len());
    for row in rows {
        let site = app.domain(wish.filter.tenant, row.site).await?;
        items.push(Summary::new(row, site));
    }
    Ok(Page::hashed(&List::new(items, total, page, size, next)))
}

impl Summary {
    fn new(row: list::Listed, site: String) -> Self {
        Self {
            id: row.content,
            site,
            kind: row.kind,
            status: row.status,
            title: row.title,
            slug: row.slug,
            path: row.path,
            summary: row.summary,
            tags: row.tags,
            featured: row.featured,
            language: row.language,
            metadata: row.metadata,
            published_at: row.published_at,
            scheduled_at: row.scheduled_at,
            created_at: row.created_at,
            updated_at: row.updated_at,
            version: row.version,
        }
    }
}
