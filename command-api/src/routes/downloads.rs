//! A tenant's download queue: queue, order, cancel, retry; and what a worker reports.

use std::fmt;

use axum::extract::State;
use events::{
    DownloadId, Sha256,
    directory::Scope,
    download::{self, DEFAULT_PRIORITY, DownloadUrl, Format, Label, PrivateAddresses, Reason, Request},
    tenant,
};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    App,
    answer::Accepted,
    command::{Body, CommandRequest, Id},
    error::Error,
    routes::fields::Fields,
};

/// How a download stands after a command.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the shape of an answer, for the API's description")]
pub struct DownloadAnswer {
    /// Its id.
    id: Uuid,
    /// `queued`, `running`, `completed`, `failed` or `cancelled`.
    status: String,
    /// Its priority, when that changed.
    priority: Option<i32>,
    /// Its version; also the `ETag`.
    version: u64,
    /// It, when its priority changed: the same member that `reorder` answers.
    changed: Option<Vec<Changed>>,
}

/// Which of several downloads have another place.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the shape of an answer, for the API's description")]
pub struct ReorderAnswer {
    /// Without those that had their priority already. Where it is one, the members of its own answer are there as well.
    changed: Vec<Changed>,
}

/// One that has another place.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the shape of an answer, for the API's description")]
pub struct Changed {
    /// Its id.
    id: Uuid,
    /// Its version.
    version: u64,
}

/// What to download.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QueueBody {
    /// One line, at most 300 characters.
    title: String,
    /// http or https, not inside a private network, at most 2,048 characters.
    url: String,
    /// Of the work, as a catalogue has it.
    author: Option<String>,
    /// Such as `epub`.
    format: Option<String>,
    /// What the file must hash to: 64 lower-case hex digits.
    sha256: Option<String>,
    /// A lower number goes first; 100 when absent.
    priority: Option<i32>,
}

/// A new place in the queue.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PriorityBody {
    /// A lower number goes first.
    priority: i32,
}

/// New places of several: all, or none.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReorderBody {
    /// Priorities by id, at most 1,000.
    #[schema(value_type = std::collections::HashMap<String, i32>)]
    priorities: Priorities,
}

/// As they stand in the body, so that one that stands there twice is noticed.
#[derive(Debug)]
struct Priorities(Vec<(DownloadId, i32)>);

/// What a worker brought.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CompleteBody {
    /// Bytes, less than 2⁶³.
    #[schema(maximum = 9_223_372_036_854_775_807_u64)]
    size: Option<u64>,
    /// What the file hashes to: 64 lower-case hex digits. Where another hash was asked for: 409; without one it is taken
    /// for the file that was asked for.
    sha256: Option<String>,
}

/// Why a worker gave up.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FailBody {
    /// For people, at most 1,000 characters.
    reason: String,
}

/// Nothing; may be left out.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NoDownloadBody {}

macro_rules! bodies {
    ($($body:ty: $optional:literal),+ $(,)?) => {$(
        impl Body for $body {
            const SCOPES: &'static [Scope] = &[Scope::DownloadsWrite];
            const OPTIONAL: bool = $optional;
        }
    )+};
}

bodies! {
    QueueBody: false,
    PriorityBody: false,
    ReorderBody: false,
    CompleteBody: true,
    FailBody: false,
    NoDownloadBody: true,
}

impl<'de> Deserialize<'de> for Priorities {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Priorities;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of priorities by download id")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Priorities, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Priorities(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

impl QueueBody {
    fn request(self, private: PrivateAddresses) -> Result<Request, Error> {
        let mut fields = Fields::default();
        let title = fields.check("/title", Label::new(&self.title));
        let url = fields.check("/url", DownloadUrl::parse(&self.url, private));
        let author = fields.optional("/author", self.author, |text| Label::new(&text));
        let format = fields.optional("/format", self.format, |text| Format::new(&text));
        let sha256 = fields.optional("/sha256", self.sha256, |text| text.parse::<Sha256>());
        let priority = self.priority.unwrap_or(DEFAULT_PRIORITY);
        let request = title.zip(url).map(|(title, url)| Request {
            title,
            url,
            author,
            format,
            sha256,
            priority,
        });
        fields.finish(request)
    }
}

impl CompleteBody {
    fn command(self) -> Result<download::Command, Error> {
        let mut fields = Fields::default();
        let sha256 = fields.optional("/sha256", self.sha256, |text| text.parse::<Sha256>());
        let size = fields.optional("/size", self.size, |size| match i64::try_from(size) {
            Ok(_) => Ok(size),
            Err(_) => Err("0 to 9223372036854775807"),
        });
        fields.finish(Some(download::Command::Complete { size, sha256 }))
    }
}

/// Queues a download.
#[utoipa::path(post, path = "/api/v1/downloads", tag = "downloads", request_body = QueueBody,
    responses((status = 201, body = DownloadAnswer)))]
pub async fn queue(State(app): State<App>, request: CommandRequest<QueueBody>) -> Result<Accepted, Error> {
    let wanted = request.body.request(app.private_downloads())?;
    let command = download::Command::Queue(Box::new(wanted));
    app.execute(
        request.context,
        tenant::Command::Download(DownloadId::new(Uuid::now_v7()), command).into(),
    )
    .await
}

/// Gives a queued download another place.
#[utoipa::path(put, path = "/api/v1/downloads/{id}/priority", tag = "downloads", request_body = PriorityBody,
    params(("id" = Uuid, Path)), responses((status = 200, body = DownloadAnswer)))]
pub async fn reprioritise(
    State(app): State<App>,
    Id(id): Id<DownloadId>,
    request: CommandRequest<PriorityBody>,
) -> Result<Accepted, Error> {
    let command = download::Command::Reprioritise {
        priority: request.body.priority,
    };
    app.execute(request.context, tenant::Command::Download(id, command).into())
        .await
}

/// Gives several queued downloads other places: all, or none.
#[utoipa::path(post, path = "/api/v1/downloads/reorder", tag = "downloads", request_body = ReorderBody,
    responses((status = 200, body = ReorderAnswer)))]
pub async fn reorder(
    State(app): State<App>,
    request: CommandRequest<ReorderBody>,
) -> Result<Accepted, Error> {
    let command = tenant::Command::Reorder(request.body.priorities.0);
    app.execute(request.context, command.into()).await
}

/// Cancels what waits or runs.
#[utoipa::path(post, path = "/api/v1/downloads/{id}/cancel", tag = "downloads",
    request_body = Option<NoDownloadBody>, params(("id" = Uuid, Path)),
    responses((status = 200, body = DownloadAnswer)))]
pub async fn cancel(
    State(app): State<App>,
    Id(id): Id<DownloadId>,
    request: CommandRequest<NoDownloadBody>,
) -> Result<Accepted, Error> {
    app.execute(
        request.context,
        tenant::Command::Download(id, download::Command::Cancel).into(),
    )
    .await
}

/// Puts what failed or was cancelled back into the queue.
#[utoipa::path(post, path = "/api/v1/downloads/{id}/retry", tag = "downloads",
    request_body = Option<NoDownloadBody>, params(("id" = Uuid, Path)),
    responses((status = 200, body = DownloadAnswer)))]
pub async fn retry(
    State(app): State<App>,
    Id(id): Id<DownloadId>,
    request: CommandRequest<NoDownloadBody>,
) -> Result<Accepted, Error> {
    app.execute(
        request.context,
        tenant::Command::Download(id, download::Command::Retry).into(),
    )
    .await
}

/// A worker takes it.
#[utoipa::path(post, path = "/api/v1/downloads/{id}/start", tag = "downloads",
    request_body = Option<NoDownloadBody>, params(("id" = Uuid, Path)),
    responses((status = 200, body = DownloadAnswer)))]
pub async fn start(
    State(app): State<App>,
    Id(id): Id<DownloadId>,
    request: CommandRequest<NoDownloadBody>,
) -> Result<Accepted, Error> {
    app.execute(
        request.context,
        tenant::Command::Download(id, download::Command::Start).into(),
    )
    .await
}

/// A worker has the file.
#[utoipa::path(post, path = "/api/v1/downloads/{id}/complete", tag = "downloads",
    request_body = Option<CompleteBody>, params(("id" = Uuid, Path)),
    responses((status = 200, body = DownloadAnswer)))]
pub async fn complete(
    State(app): State<App>,
    Id(id): Id<DownloadId>,
    request: CommandRequest<CompleteBody>,
) -> Result<Accepted, Error> {
    app.execute(
        request.context,
        tenant::Command::Download(id, request.body.command()?).into(),
    )
    .await
}

/// A worker gave up.
#[utoipa::path(post, path = "/api/v1/downloads/{id}/fail", tag = "downloads", request_body = FailBody,
    params(("id" = Uuid, Path)), responses((status = 200, body = DownloadAnswer)))]
pub async fn fail(
    State(app): State<App>,
    Id(id): Id<DownloadId>,
    request: CommandRequest<FailBody>,
) -> Result<Accepted, Error> {
    let reason = Reason::new(&request.body.reason).map_err(|error| Error::field("/reason", error))?;
    app.execute(
        request.context,
        tenant::Command::Download(id, download::Command::Fail { reason }).into(),
    )
    .await
}
