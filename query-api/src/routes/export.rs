//! `GET /api/v1/export/{view}`: a whole view as a file, streamed.

use axum::{
    body::{Body, Bytes},
    extract::State,
    response::{IntoResponse, Response},
};
use futures::stream;
use http::{HeaderValue, StatusCode, header};
use read_models::{
    Projection,
    export::{self, ExportError, Pieces, View},
};
use serde::Deserialize;
use service::{Path, Problem, Query};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::{App, ask::Ask, caller::Right, error::Error};

/// How the file is written.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// Apache Parquet.
    Parquet,
    /// Comma-separated values, the first line names the columns.
    Csv,
    /// A JSON object in each line.
    Ndjson,
}

/// Where a view is.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Store {
    ClickHouse,
    Postgres,
}

/// What is exported.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    format: Format,
    /// Of views that both stores have: which one is meant; ClickHouse's when absent.
    store: Option<Store>,
    /// For operators: only this tenant's rows; everybody's when absent.
    tenant: Option<Uuid>,
}

/// A view of the analysts' `live`, whole: the rows of the caller's tenant; for an operator those of all. Who exists
/// and which keys there are is shown to admins only. The answer is cut off, not ended, when its rows cannot be read
/// to the end, when all of it is not taken within ten minutes (unless configured otherwise), and when nothing of it is
/// taken for a minute. Two at a time: a third one is 503 with `Retry-After`.
#[utoipa::path(
    get, path = "/api/v1/export/{view}", tag = "operation", operation_id = "export_view", security(("key" = [])),
    params(("view" = String, Path, description = "events, sessions, content; in PostgreSQL tenants, sites, principals, keys, content, content_versions, content_redirects, downloads"), Wanted),
    responses(
        (status = 200, body = String, content_type = "application/octet-stream"),
        (status = "default", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn export(
    State(app): State<App>,
    ask: Ask,
    Path(view): Path<String>,
    wanted: Result<Query<Wanted>, Problem>,
) -> Result<Response, Error> {
    // Who may not ask is told that first, whatever was asked.
    ask.signed()?;
    let Query(wanted) = wanted?;
    let view = find(&view, wanted.store)?;
    let (format, kind, ending) = match wanted.format {
        Format::Parquet => (
            export::Format::Parquet,
            "application/vnd.apache.parquet",
            "parquet",
        ),
        Format::Csv => (export::Format::Csv, "text/csv; charset=utf-8", "csv"),
        Format::Ndjson => (export::Format::Ndjson, "application/x-ndjson", "ndjson"),
    };
    let tenant = whose(&ask, view, wanted.tenant)?;
    ask.wait(app.progress(), view.projection, tenant, None).await?;
    let place = place(&app, ask.signed()?.administers())?;
    let live = app.progress().live(view.projection);
    let generation = live.ok_or(Error::NotLive(view.projection))?;
    let stores = (&app.0.tables, &app.0.clickhouse);
    let limit = app.0.export_time;
    let mut pieces = view.export(stores, generation, format, tenant, (limit, place));
    // What fails at once has a status of its own.
    let first = pieces.recv().await.transpose()?;
    let file = File {
        first,
        pieces,
        name: view.name,
    };
    let file_name = format!("attachment; filename=\"{}.{}\"", view.name, ending);
    let body = Body::from_stream(stream::unfold(Some(file), File::next));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        // Whatever visitors wrote is shown by no browser as anything else.
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
        (
            header::CONTENT_DISPOSITION,
            HeaderValue::try_from(file_name).unwrap_or(HeaderValue::from_static("attachment")),
        ),
    ];
    Ok((headers, body).into_response())
}

/// What an export of this tenant, or of an operator, holds while it runs.
fn place(app: &App, tenant: Option<Uuid>) -> Result<impl Send + 'static, Error> {
    let busy =
        |text: &'static str| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", text).retry_after(10);
    let own = app.0.exports_of.take(tenant).ok_or_else(|| {
        busy("another export of yours is running here; try again when it has ended, or take it to its end")
    })?;
    // Operators do not wait for tenants.
    let of_all =
        match tenant {
            Some(_) => Some(app.0.exports.clone().try_acquire_owned().map_err(|_| {
                busy("as many exports are running here as may; try again when one has ended")
            })?),
            None => None,
        };
    Ok((own, of_all))
}

fn find(name: &str, store: Option<Store>) -> Result<&'static View, Error> {
    let store = store.map(|store| match store {
        Store::ClickHouse => export::Store::ClickHouse,
        Store::Postgres => export::Store::Postgres,
    });
    let none = || {
        let views = export::VIEWS.iter();
        let views = views.filter(|view| store.is_none_or(|store| store == view.store));
        let mut known: Vec<_> = views.map(|view| view.name).collect();
        // Both stores have a view of this name.
        known.sort_unstable();
        known.dedup();
        Problem::not_found(format!(
            "there is no view {name:?}: there are {}",
            known.join(", ")
        ))
    };
    Ok(View::find(name, store).ok_or_else(none)?)
}

/// Whose rows: none for everybody's.
fn whose(ask: &Ask, view: &View, asked: Option<Uuid>) -> Result<Option<Uuid>, Error> {
    let right = match view.projection {
        Projection::Directory => Right::Administer,
        Projection::Content | Projection::Downloads | Projection::Visits | Projection::ContentFacts => {
            Right::Read
        }
    };
    let caller = ask.signed()?;
    let Some(own) = caller.administers() else {
        return Ok(asked);
    };
    caller.must(right)?;
    match asked {
        Some(other) if other != own => {
            Err(Problem::forbidden("rows of other tenants need the scope operator").into())
        }
        Some(_) | None => Ok(Some(own)),
    }
}

/// A file on its way.
struct File {
    first: Option<Vec<u8>>,
    pieces: Pieces,
    name: &'static str,
}

impl File {
    async fn next(this: Option<Self>) -> Option<(Result<Bytes, ExportError>, Option<Self>)> {
        let mut this = this?;
        if let Some(first) = this.first.take() {
            return Some((Ok(first.into()), Some(this)));
        }
        match this.pieces.recv().await? {
            Ok(piece) => Some((Ok(piece.into()), Some(this))),
            Err(error) => {
                tracing::warn!(view = this.name, ?error, "an export is cut off");
                Some((Err(error), None))
            }
        }
    }
}
