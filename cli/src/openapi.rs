//! `annals openapi`: the description of the APIs, as one document.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;

/// Print the OpenAPI 3.1 document of all APIs.
#[derive(Debug, clap::Args)]
pub(crate) struct OpenApi {
    /// Write `openapi.json` into this folder instead.
    #[arg(long)]
    out: Option<PathBuf>,
}

impl OpenApi {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let text = document()?;
        match self.out {
            None => print!("{text}"),
            Some(folder) => {
                let place = folder.join("openapi.json");
                std::fs::write(&place, text).with_context(|| format!("cannot write {}", place.display()))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn document() -> anyhow::Result<String> {
    let mut document = command_api::openapi();
    document.merge(query_api::openapi());
    document.merge(projectors::api::openapi());
    "Annals".clone_into(&mut document.info.title);
    document.info.description = Some(
        "Commands, queries, and operators' work on projections. As separate services, commands are on port 8080, \
         queries on 8081, work on projections on 8082."
            .to_owned(),
    );
    Ok(document.to_pretty_json()? + "\n")
}

#[cfg(test)]
mod tests {
    /// What clients written elsewhere rely on; the document may say more, never less.
    #[test]
    fn the_document_has_every_route_of_the_first_contract() {
        let document: serde_json::Value = serde_json::from_str(&super::document().unwrap()).unwrap();
        for (method, path) in [
            ("post", "/api/v1/tenants"),
            ("post", "/api/v1/keys"),
            ("delete", "/api/v1/keys/{keyid}"),
            ("post", "/api/v1/sites"),
            ("get", "/api/v1/sites"),
            ("post", "/api/v1/content"),
            ("get", "/api/v1/content"),
            ("patch", "/api/v1/content/{id}"),
            ("get", "/api/v1/content/{id}"),
            ("post", "/api/v1/content/{id}/publish"),
            ("post", "/api/v1/content/{id}/unpublish"),
            ("post", "/api/v1/content/{id}/archive"),
            ("post", "/api/v1/content/{id}/view"),
            ("get", "/api/v1/content/{id}/history"),
            ("get", "/api/v1/sites/{domain}/content/{kind}/{slug}"),
            ("post", "/api/v1/downloads"),
            ("get", "/api/v1/downloads"),
            ("get", "/api/v1/downloads/{id}"),
            ("get", "/api/v1/downloads/queue"),
            ("put", "/api/v1/downloads/{id}/priority"),
            ("post", "/api/v1/downloads/{id}/cancel"),
            ("post", "/api/v1/downloads/{id}/retry"),
            ("post", "/api/v1/downloads/reorder"),
            ("post", "/api/event"),
            ("post", "/api/v1/visits"),
            ("post", "/api/v1/imports"),
            ("post", "/api/v1/imports/{id}/complete"),
            ("post", "/api/v1/stats/query"),
            ("post", "/api/v2/query"),
            ("get", "/api/v1/stats/realtime"),
            ("get", "/api/v1/reports/content"),
            ("get", "/api/v1/projections"),
            ("get", "/api/v1/projections/{projection}/verify"),
            ("get", "/api/v1/projections/{projection}/generations"),
            ("post", "/api/v1/projections/{projection}/rebuild"),
            ("post", "/api/v1/projections/{projection}/rollback"),
            ("get", "/api/v1/parked"),
            ("get", "/api/v1/parked/{projection}/{subject}"),
            ("post", "/api/v1/parked/{projection}/{subject}/retry"),
            ("post", "/api/v1/parked/{projection}/{subject}/skip"),
        ] {
            assert!(
                document["paths"][path][method].is_object(),
                "{method} {path} is missing"
            );
        }
    }
}
