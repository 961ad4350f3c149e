//! A piece of content as it is shown, rendered once for each version.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use http::HeaderValue;
use read_models::{
    Projection, Snapshot,
    content::{self, read::Found},
};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{app::App, cache::Mark, error::Error, markdown, page::Page};

/// A piece of content.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Piece {
    pub id: Uuid,
    /// The domain of its site.
    pub site: String,
    /// post, project, idea, page or resume.
    pub kind: String,
    /// draft, scheduled, published, unpublished or archived.
    pub status: String,
    pub title: String,
    /// Unique for site and kind.
    pub slug: String,
    /// The path of its page on the site.
    pub path: String,
    /// Further paths of its page.
    pub aliases: Vec<String>,
    /// Plain text.
    pub summary: Option<String>,
    pub tags: Vec<String>,
    pub featured: bool,
    /// BCP 47.
    pub language: Option<String>,
    /// Whatever else its writer keeps with it.
    #[schema(value_type = Object)]
    pub metadata: Value,
    /// Markdown, as it was written.
    pub body: String,
    /// The body as HTML that may stand in any page.
    pub html: String,
    pub published_at: Option<DateTime<Utc>>,
    pub scheduled_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    /// For `If-Match`.
    pub version: i64,
}

/// A piece that was rendered: what is sent, and what decides who may have it.
#[derive(Debug)]
pub(crate) struct Rendered {
    pub id: Uuid,
    pub tenant: Uuid,
    pub public: bool,
    pub page: Page,
    generation: i32,
    version: i64,
}

/// What an address leads to.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    /// Nothing.
    Absent,
    /// A piece.
    Here(Arc<Rendered>),
    /// A piece that had this slug once.
    Moved {
        /// Whose it is.
        tenant: Uuid,
        /// Whether anyone may know of it.
        public: bool,
        /// Its address now.
        location: HeaderValue,
    },
}

impl Outcome {
    /// Bytes that it keeps in memory, about.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Absent => 0,
            Self::Here(piece) => piece.page.size(),
            Self::Moved { location, .. } => location.len(),
        }
    }

    /// The piece, if it is one.
    const fn piece(&self) -> Option<&Arc<Rendered>> {
        match self {
            Self::Here(piece) => Some(piece),
            Self::Absent | Self::Moved { .. } => None,
        }
    }
}

/// What a piece was asked for by.
#[derive(Debug, Clone, Copy)]
enum By {
    Id,
    Slug,
}

impl App {
    /// A tenant's piece, from memory or the tables.
    pub(crate) async fn piece(
        &self,
        tenant: Uuid,
        id: Uuid,
        needed: Mark,
    ) -> Result<Option<Arc<Rendered>>, Error> {
        let read = async |known: Option<Option<Arc<Rendered>>>| -> Result<_, Error> {
            let tables = self.0.tables.live(Projection::Content)?;
            match content::read::by_id(&tables, tenant, id).await? {
                Some(row) => {
                    let known = known.flatten();
                    let rendered = self.rendered(&tables, row, known.as_ref(), By::Id).await?;
                    Ok(Some(rendered))
                }
                None => Ok(None),
            }
        };
        self.0
            .pieces
            .get_or_read((tenant, id), self.progress(), needed, read)
            .await
    }

    /// What an address under a site leads to, from memory or the tables. It is kept by the path that is written in one
    /// way only: by others (`%68ello`, a domain in capitals) it is found here, not made anew.
    pub(crate) async fn address(
        &self,
        (tenant, site, domain): (Uuid, Uuid, &str),
        (kind, slug): (&str, &str),
        needed: Mark,
    ) -> Result<Outcome, Error> {
        // Slugs and domains are made of characters that need no escape; others lead nowhere.
        let path = format!("/api/v1/sites/{domain}/content/{kind}/{slug}");
        let read = async |known: Option<Outcome>| -> Result<_, Error> {
            let tables = self.0.tables.live(Projection::Content)?;
            Ok(
                match content::read::by_slug(&tables, tenant, site, kind, slug).await? {
                    None => Outcome::Absent,
                    Some(Found::Here(row)) => {
                        let known = known.as_ref().and_then(Outcome::piece);
                        Outcome::Here(self.rendered(&tables, *row, known, By::Slug).await?)
                    }
                    Some(Found::Moved { slug, status, .. }) => {
                        HeaderValue::from_str(&format!("/api/v1/sites/{domain}/content/{kind}/{slug}"))
                            .map_or(Outcome::Absent, |location| Outcome::Moved {
                                tenant,
                                public: status == "published",
                                location,
                            })
                    }
                },
            )
        };
        self.0
            .slugs
            .get_or_read(path, self.progress(), needed, read)
            .await
    }

    /// Renders a row, unless this version of it was rendered before.
    async fn rendered(
        &self,
        tables: &Snapshot,
        row: content::Content,
        known: Option<&Arc<Rendered>>,
        by: By,
    ) -> Result<Arc<Rendered>, Error> {
        let (id, tenant, version) = (row.content, row.tenant, row.version);
        let public = row.status == "published";
        let generation = tables.generation();
        let page = match known {
            Some(known) if (known.id, known.version, known.generation) == (id, version, generation) => {
                known.page.clone()
            }
            Some(_) | None => {
                let site = self.domain(tenant, row.site).await?;
                let html = self.html(tenant, row.body.clone()).await?;
                let piece = Piece::new(row, site, html);
                match by {
                    By::Id => Page::versioned(&piece, version),
                    By::Slug => Page::versioned_of(&piece, version, id),
                }
            }
        };
        Ok(Arc::new(Rendered {
            id,
            tenant,
            public,
            page,
            generation,
            version,
        }))
    }

    /// The HTML of a body; a long one is rendered where nobody waits for an answer of another kind.
    pub(crate) async fn html(&self, tenant: Uuid, body: String) -> Result<String, Error> {
        if body.len() < markdown::LARGE {
            return Ok(markdown::render(&body));
        }
        let turn = self.0.rendering.take(tenant).await?;
        let render = move || {
            // Until it is done, also when nobody waits for it any more.
            let _turn = turn;
            markdown::render(&body)
        };
        Ok(tokio::task::spawn_blocking(render).await?)
    }
}

impl Piece {
    fn new(row: content::Content, site: String, html: String) -> Self {
        Self {
            id: row.content,
            site,
            kind: row.kind,
            status: row.status,
            title: row.title,
            slug: row.slug,
            path: row.path,
            aliases: row.aliases,
            summary: row.summary,
            tags: row.tags,
            featured: row.featured,
            language: row.language,
            metadata: row.metadata,
            body: row.body,
            html,
            published_at: row.published_at,
            scheduled_at: row.scheduled_at,
            created_at: row.created_at,
            updated_at: row.updated_at,
            version: row.version,
        }
    }
}
