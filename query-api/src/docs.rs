//! A page to read the APIs and try them: `/docs`, and the documents behind it.

use axum::Router;
use utoipa::openapi::OpenApi;
use utoipa_swagger_ui::{Config, SwaggerUi, Url};

/// Another API that this process serves.
pub struct Document {
    /// As people choose it on the page, such as `command`.
    pub name: &'static str,
    /// Where it is served, such as `/openapi/command.json`.
    pub path: &'static str,
    /// What it says.
    pub document: OpenApi,
}

/// `/docs` for the query API, whose document is at `/openapi/query.json`, and for the others. The page is part of
/// the program and loads nothing from elsewhere.
pub fn docs(others: Vec<Document>) -> Router {
    let query = Document {
        name: "query",
        path: "/openapi/query.json",
        document: crate::openapi(),
    };
    let documents = std::iter::once(query).chain(others);
    let urls = documents
        .map(|it| (Url::new(it.name, it.path), it.document))
        .collect();
    let config = Config::default()
        .persist_authorization(false)
        .try_it_out_enabled(true);
    SwaggerUi::new("/docs").urls(urls).config(config).into()
}
