//! Pieces of content: draft, revise, publish, unpublish, archive.

use axum::extract::State;
use events::{
    ContentId, SiteId, Timestamp,
    content::{
        self, Body as Markdown, Draft, Kind, Language, Metadata, Revision, Slug, Summary, Tags, Title,
        text::{BODY_MAX, METADATA_MAX},
    },
    directory::Scope,
    tenant,
};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IntoDeserializer as _},
};
use serde_json::{Map, Value, value::RawValue};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    App,
    answer::Accepted,
    command::{Body, CommandRequest, Id},
    error::Error,
    routes::{fields::Fields, paths},
};

/// How a piece stands after a command. What the command does not tell is left out.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the shape of an answer, for the API's description")]
pub struct ContentAnswer {
    /// Its id.
    id: Uuid,
    /// Its slug, when it was given one.
    slug: Option<String>,
    /// `draft`, `scheduled`, `published`, `unpublished` or `archived`, when that changed.
    status: Option<String>,
    /// The date of publication, when it was given one.
    #[schema(format = DateTime)]
    at: Option<String>,
    /// Its version; also the `ETag`.
    version: u64,
}

/// A new piece.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DraftBody {
    /// Domain of one of the tenant's sites.
    site: String,
    /// What it is.
    #[serde(deserialize_with = "kind")]
    #[schema(value_type = String, example = "post")]
    kind: Kind,
    /// One line, 1 to 300 characters.
    title: String,
    /// Lower-case letters, digits and single hyphens, at most 200; made from the title when absent.
    slug: Option<String>,
    /// Markdown, at most 512 KiB.
    body: Option<String>,
    /// Plain text, at most 2,000 characters.
    summary: Option<String>,
    /// At most 50, each at most 100 characters.
    tags: Option<Vec<String>>,
    /// Shown first by those who feature things.
    featured: Option<bool>,
    /// BCP 47, such as `en` or `pt-BR`.
    language: Option<String>,
    /// Whatever else, at most 64 KiB of JSON; `path` (a text) and `aliases` (several, or one) say
    /// where it is read: paths without `..`, query and host.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Sent>,
}

/// Fields that change; an absent one stays. `null` takes summary and language away; the others are there always.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReviseBody {
    /// As in a draft.
    #[serde(default, deserialize_with = "given")]
    title: Option<String>,
    /// As in a draft; the old one leads here until another piece takes it.
    #[serde(default, deserialize_with = "given")]
    slug: Option<String>,
    /// As in a draft.
    #[serde(default, deserialize_with = "given")]
    body: Option<String>,
    /// As in a draft; `null` takes it away.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    summary: Option<Option<String>>,
    /// As in a draft.
    #[serde(default, deserialize_with = "given")]
    tags: Option<Vec<String>>,
    /// As in a draft.
    #[serde(default, deserialize_with = "given")]
    featured: Option<bool>,
    /// As in a draft; `null` takes it away.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    language: Option<Option<String>>,
    /// As in a draft; replaces all of it.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Object>)]
    metadata: Option<Sent>,
}

/// An object whose text is not larger than one may be that is written with room and escapes: more is not even read,
/// for as values it would take a hundred times as much memory.
#[derive(Debug)]
struct Sent(Map<String, Value>);

/// As sent, at most so many times as large as it may be when it is kept.
const SENT: usize = 4;

impl<'de> Deserialize<'de> for Sent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let sent = Box::<RawValue>::deserialize(deserializer)?;
        let size = sent.get().len();
        if size > SENT * METADATA_MAX {
            return Err(D::Error::custom(format_args!(
                "has {size} bytes, at most {METADATA_MAX} of JSON are allowed"
            )));
        }
        let read = serde_json::from_str(sent.get()).map(Self);
        read.map_err(|error| {
            let text = error.to_string();
            D::Error::custom(text.split(" at line ").next().unwrap_or(&text))
        })
    }
}

/// A text: serde takes an object of one field for it, too.
fn kind<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Kind, D::Error> {
    Kind::deserialize(String::deserialize(deserializer)?.into_deserializer())
}

/// When to publish.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PublishBody {
    /// Absent: now. In the past: with that date. In the future: scheduled.
    #[schema(value_type = Option<String>, format = DateTime)]
    at: Option<Timestamp>,
}

/// Nothing; may be left out.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NoContentBody {}

/// A field that may be absent, but is not `null`.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// `null` is told apart from an absent field.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl Body for DraftBody {
    const SCOPES: &'static [Scope] = &[Scope::ContentWrite];
}

impl Body for ReviseBody {
    const SCOPES: &'static [Scope] = &[Scope::ContentWrite];
}

impl Body for PublishBody {
    const SCOPES: &'static [Scope] = &[Scope::ContentWrite];
    const OPTIONAL: bool = true;
}

impl Body for NoContentBody {
    const SCOPES: &'static [Scope] = &[Scope::ContentWrite];
    const OPTIONAL: bool = true;
}

fn tags(tags: Vec<String>) -> Result<Tags, events::Invalid> {
    Tags::new(tags.iter().map(String::as_str))
}

fn fits(body: Option<&String>) -> Result<(), Error> {
    if body.is_some_and(|body| body.len() > BODY_MAX) {
        return Err(Error::TooLarge {
            pointer: "/body",
            max: BODY_MAX,
        });
    }
    Ok(())
}

impl DraftBody {
    /// What is drafted on a site.
    fn draft(self) -> Result<impl FnOnce(SiteId) -> Draft, Error> {
        fits(self.body.as_ref())?;
        let mut fields = Fields::default();
        let title = fields.check("/title", Title::new(&self.title));
        let slug = match self.slug {
            Some(slug) => fields.check("/slug", slug.parse::<Slug>()),
            None => fields.check(
                "/slug",
                Slug::from_title(&self.title)
                    .ok_or("the title has no letter or digit to make a slug of; give one"),
            ),
        };
        let body = fields
            .optional("/body", self.body, Markdown::new)
            .unwrap_or_default();
        let summary = fields.optional("/summary", self.summary, |text| Summary::new(&text));
        let tags = fields.optional("/tags", self.tags, tags).unwrap_or_default();
        let language = fields.optional("/language", self.language, |text| Language::new(&text));
        let metadata = self.metadata.map(|Sent(metadata)| metadata);
        paths::check(&mut fields, metadata.as_ref());
        let metadata = fields
            .optional("/metadata", metadata, Metadata::new)
            .unwrap_or_default();
        let (kind, featured) = (self.kind, self.featured.unwrap_or_default());
        let draft = title.zip(slug).map(|(title, slug)| {
            move |site| Draft {
                site,
                kind,
                title,
                slug,
                body,
                summary,
                tags,
                featured,
                language,
                metadata,
            }
        });
        fields.finish(draft)
    }
}

impl ReviseBody {
    fn revision(self) -> Result<Revision, Error> {
        fits(self.body.as_ref())?;
        let mut fields = Fields::default();
        let metadata = self.metadata.map(|Sent(metadata)| metadata);
        paths::check(&mut fields, metadata.as_ref());
        let revision = Revision {
            title: fields.optional("/title", self.title, |text| Title::new(&text)),
            slug: fields.optional("/slug", self.slug, |text| text.parse()),
            body: fields.optional("/body", self.body, Markdown::new),
            summary: match self.summary {
                Some(None) => Some(None),
                Some(Some(text)) => fields.check("/summary", Summary::new(&text)).map(Some),
                None => None,
            },
            tags: fields.optional("/tags", self.tags, tags),
            featured: self.featured,
            language: match self.language {
                Some(None) => Some(None),
                Some(Some(text)) => fields.check("/language", Language::new(&text)).map(Some),
                None => None,
            },
            metadata: fields.optional("/metadata", metadata, Metadata::new),
        };
        fields.finish(Some(revision))
    }
}

/// Drafts a piece.
#[utoipa::path(post, path = "/api/v1/content", tag = "content", request_body = DraftBody,
    responses((status = 201, body = ContentAnswer)))]
pub async fn draft(State(app): State<App>, request: CommandRequest<DraftBody>) -> Result<Accepted, Error> {
    let domain = request.body.site.clone();
    // First what was sent becomes small: looking for a site may take a while.
    let draft = request.body.draft()?;
    let site = app
        .site_of(request.context.principal.tenant, &domain, "/site")
        .await?;
    let draft = draft(site.id);
    let id = ContentId::new(Uuid::now_v7());
    let command = tenant::Command::Content(id, content::Command::Draft(Box::new(draft)));
    app.execute(request.context, command.into()).await
}

/// Changes fields, or the slug.
#[utoipa::path(patch, path = "/api/v1/content/{id}", tag = "content", request_body = ReviseBody,
    params(("id" = Uuid, Path)), responses((status = 200, body = ContentAnswer)))]
pub async fn revise(
    State(app): State<App>,
    Id(id): Id<ContentId>,
    request: CommandRequest<ReviseBody>,
) -> Result<Accepted, Error> {
    let command = tenant::Command::Content(id, content::Command::Revise(Box::new(request.body.revision()?)));
    app.execute(request.context, command.into()).await
}

/// Publishes now, with a past date, or at a future time.
#[utoipa::path(post, path = "/api/v1/content/{id}/publish", tag = "content", request_body = Option<PublishBody>,
    params(("id" = Uuid, Path)), responses((status = 200, body = ContentAnswer)))]
pub async fn publish(
    State(app): State<App>,
    Id(id): Id<ContentId>,
    request: CommandRequest<PublishBody>,
) -> Result<Accepted, Error> {
    let command = tenant::Command::Content(id, content::Command::Publish { at: request.body.at });
    app.execute(request.context, command.into()).await
}

/// Takes it back to its writers; a schedule too.
#[utoipa::path(post, path = "/api/v1/content/{id}/unpublish", tag = "content", request_body = Option<NoContentBody>,
    params(("id" = Uuid, Path)), responses((status = 200, body = ContentAnswer)))]
pub async fn unpublish(
    State(app): State<App>,
    Id(id): Id<ContentId>,
    request: CommandRequest<NoContentBody>,
) -> Result<Accepted, Error> {
    let command = tenant::Command::Content(id, content::Command::Unpublish);
    app.execute(request.context, command.into()).await
}

/// Puts it away for ever.
#[utoipa::path(post, path = "/api/v1/content/{id}/archive", tag = "content", request_body = Option<NoContentBody>,
    params(("id" = Uuid, Path)), responses((status = 200, body = ContentAnswer)))]
pub async fn archive(
    State(app): State<App>,
    Id(id): Id<ContentId>,
    request: CommandRequest<NoContentBody>,
) -> Result<Accepted, Error> {
    let command = tenant::Command::Content(id, content::Command::Archive);
    app.execute(request.context, command.into()).await
}
