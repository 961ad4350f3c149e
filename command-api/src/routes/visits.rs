//! Visits in batches: an array or one object a line, of now, of the past, or of a file that is imported.
//!
//! A little longer than a file should be: all that one line may be, and what becomes of it, in the order of its way.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
};

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Request, State},
};
use events::{
    CommandId, ImportId, Recorded, TenantId, Timestamp,
    directory::{Scope, Site},
    import, tenant,
};
use http::StatusCode;
use key_store::{ImportSalt, Salt};
use serde::Serialize;
use serde_json::json;
use service::{FieldError, extract::check_type_among};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    App,
    answer::{Accepted, Answer},
    app::DAY_MICROS,
    caller::Caller,
    command::{Context, Expected, Principal, check_unversioned, idempotency_hash, unread},
    error::Error,
    forward::arrived::{Arrived, Arriving, key_of},
    metrics,
    partition::{idempotency::Hash, now},
    recorder::{Keyed, Traced},
    routes::event::RevenueBody,
    visit::{
        Agent, Dropped, Place,
        batch::{self, Item},
    },
};

/// Its name in metrics.
pub const DOOR: &str = "batch";

/// A visit of a batch.
#[derive(Debug, ToSchema)]
#[schema(as = Visit)]
#[expect(dead_code, reason = "the shape of a body, for the API's description")]
pub struct VisitBody {
    /// The client's: the same visit sent again soon counts once.
    id: Option<Uuid>,
    /// `pageview`, `engagement`, or the name of an event of one's own, at most 120 characters.
    name: String,
    /// Of the page, at most 2,000 characters.
    url: String,
    /// Of one of the tenant's sites.
    domain: String,
    /// The address that led there.
    referrer: Option<String>,
    /// RFC 3339, from 1990 on and not in the future; absent: now.
    #[schema(format = DateTime)]
    timestamp: Option<String>,
    /// Of the visitor; absent: not known. Programs are dropped, and so is an empty one.
    user_agent: Option<String>,
    /// Of the visitor; absent: not known. It is not kept.
    ip: Option<String>,
    /// At most 30 texts, numbers and truth values.
    #[schema(value_type = Option<Object>)]
    props: Option<()>,
    /// Whether it ends a bounce: true when absent.
    interactive: Option<bool>,
    /// An amount of money.
    revenue: Option<RevenueBody>,
    /// Of an engagement: milliseconds.
    engaged_ms: Option<u64>,
    /// Of an engagement: how far the page was seen, in percent; 255 when that is not known.
    scroll_depth: Option<u8>,
    /// The import that it is a line of; one for the whole batch.
    import: Option<Uuid>,
    /// Which line, from 0. Lines ascend, in a batch and from batch to batch, and some may be left out: a line below one
    /// that was taken counts as taken (`already-imported`). So send the next batch when the one before is answered.
    line: Option<u64>,
}

/// What became of a batch.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct BatchAnswer {
    /// How many the log has now.
    accepted: usize,
    /// Those that are well-formed and not kept.
    dropped: Vec<DroppedItem>,
    /// Those that are not well-formed.
    rejected: Vec<RejectedItem>,
}

/// A visit that was not kept.
#[derive(Debug, Serialize, ToSchema)]
pub struct DroppedItem {
    /// Its place in the batch, from 0.
    index: usize,
    /// `unknown-site`, `bot`, `no-user-agent`, `already-imported`, or `other-site` (of a line: than its import's).
    reason: &'static str,
}

/// A visit that was refused.
#[derive(Debug, Serialize, ToSchema)]
pub struct RejectedItem {
    /// Its place in the batch, from 0.
    index: usize,
    /// Which field, and what would be right.
    detail: String,
}

/// Why lines of an import are not kept, beside what keeps out any visit.
pub const REASONS: [&str; 2] = [ALREADY_IMPORTED, OTHER_SITE];
/// What a line is called that the log has already.
const ALREADY_IMPORTED: &str = "already-imported";
/// What a line is called whose site is not that of its import: its visitors would be counted with another's salt.
const OTHER_SITE: &str = "other-site";

/// Records visits. 202 comes when the log has every accepted one; an import's `next` is durable by then.
///
/// With an Idempotency-Key, or with an `id` in each event, the same request counts once however often it is sent.
/// Another request with the same key is a mistake, which is told (422) by a process that remembers the first one; else
/// it is taken, and is other visits. An
/// event without a `timestamp` happens when it arrives, and visitors have a new identity each day (UTC): sent again
/// after midnight it would be another visitor's and count again. Whoever repeats requests sends timestamps.
#[utoipa::path(post, path = "/api/v1/visits", tag = "visits",
    request_body(content((Vec<VisitBody> = "application/json"), (VisitBody = "application/x-ndjson")),
        description = "an array, or one visit a line; at most 1,000 and 1 MiB"),
    responses((status = 202, body = BatchAnswer)))]
pub async fn visits(State(app): State<App>, traced: Traced, request: Request) -> Result<Accepted, Error> {
    let (mut parts, body) = request.into_parts();
    let caller = Caller::from_request_parts(&mut parts, &app).await?;
    let principal = caller.may(Scope::VisitsWrite)?;
    check_unversioned(&app, &parts.headers).await?;
    check_type_among(
        &parts.headers,
        is_known,
        "the body must be application/json or application/x-ndjson",
    )?;
    let arriving = Arriving::new(&app, &mut parts, &caller).await?;
    let key = arriving.key()?;
    let bytes = Bytes::from_request(Request::from_parts(parts, body), &app)
        .await
        .map_err(unread)?;
    let arrived = arriving.with(&app, bytes.clone())?;
    let keyed = key.as_ref().map(|key| Keyed {
        key: idempotency_hash(&app, principal, key),
        request: arrived.request,
        viewed: None,
    });
    let at = now();
    let items = batch::read(&bytes, at)?;
    let import = only_import(&items)?;
    // What is beside an import's lines has the same ids here and there, should all of it go on to another process.
    let key = key.or_else(|| import.map(|_| key_of(arrived.command)));
    // With the request in it: the same key with other visits must not make the same ids, for then they were lost.
    let key = key.map(|key| {
        app.keys()
            .keyed_hash("visits", &[&principal.bytes(), key.as_slice(), &bytes])
    });
    let _turn = match import {
        Some(import) => Some(app.imports().turn(import).await?),
        None => None,
    };
    let progress = match import {
        Some(import) => Some((import, progress(&app, import, &arrived).await?)),
        None => None,
    };
    let mut batch = Batch::new(&app, principal.tenant, at, key, traced, progress);
    for (index, item) in items.into_iter().enumerate() {
        batch.add(index, item).await?;
    }
    batch.finish(principal, arrived, keyed).await
}

/// JSON or NDJSON, by any of its names.
fn is_known(essence: &str) -> bool {
    let known = [
        "application/json",
        "application/x-ndjson",
        "application/ndjson",
        "application/jsonl",
    ];
    known.iter().any(|known| essence.eq_ignore_ascii_case(known))
}

/// The import that all lines of a batch are of.
fn only_import(items: &[Result<Item, Vec<FieldError>>]) -> Result<Option<ImportId>, Error> {
    let mut imports = items
        .iter()
        .flatten()
        .filter_map(|item| item.import.as_ref())
        .map(|line| line.id);
    let first = imports.next();
    if imports.any(|import| Some(import) != first) {
        return Err(Error::field("", "a batch holds lines of one import only"));
    }
    Ok(first)
}

async fn progress(app: &App, import: ImportId, arrived: &Arrived) -> Result<import::Progress, Error> {
    match app.import(import, arrived).await? {
        import::Import::Nothing => Err(Error::NotFound("import")),
        import::Import::Completed(_) => Err(import::Rejection::Completed.into()),
        import::Import::Running(progress) => Ok(progress),
    }
}

/// A batch on its way.
struct Batch<'a> {
    app: &'a App,
    tenant: TenantId,
    at: Timestamp,
    key: Option<Hash>,
    traced: Traced,
    /// The import whose lines these are, and how far it was.
    import: Option<(ImportId, import::Progress)>,
    import_salt: Option<ImportSalt>,
    /// The first line after all that were told.
    next: u64,
    sites: HashMap<String, Option<Site>>,
    /// Whether the directory was looked through to its end since the request came: what is unknown then, stays so.
    looked: bool,
    /// Of days; of lines of the import, and of others.
    salts: HashMap<(i64, bool), Salt>,
    events: Vec<Recorded>,
    answer: BatchAnswer,
}

impl<'a> Batch<'a> {
    fn new(
        app: &'a App,
        tenant: TenantId,
        at: Timestamp,
        key: Option<Hash>,
        traced: Traced,
        import: Option<(ImportId, import::Progress)>,
    ) -> Self {
        Self {
            app,
            tenant,
            at,
            key,
            traced,
            next: import.map_or(0, |(_, progress)| progress.next),
            import,
            import_salt: None,
            sites: HashMap::new(),
            looked: false,
            salts: HashMap::new(),
            events: Vec::new(),
            answer: BatchAnswer::default(),
        }
    }

    /// Takes a visit in, or notes why it is not kept.
    async fn add(&mut self, index: usize, item: Result<Item, Vec<FieldError>>) -> Result<(), Error> {
        let kept = match item {
            Ok(item) => self.kept(index, item).await?,
            Err(faults) => {
                let detail = batch::detail(&faults);
                self.answer.rejected.push(RejectedItem { index, detail });
                return Ok(());
            }
        };
        match kept {
            Ok(recorded) => self.events.push(recorded),
            Err(reason) => {
                metrics::DROPPED.with_label_values(&[DOOR, reason]).inc();
                self.answer.dropped.push(DroppedItem { index, reason });
            }
        }
        Ok(())
    }

    /// The event that a visit is, or the reason why it is not kept.
    async fn kept(&mut self, index: usize, item: Item) -> Result<Result<Recorded, &'static str>, Error> {
        if let Some(line) = &item.import {
            let line = line.line.0;
            if line < self.next {
                return Ok(Err(ALREADY_IMPORTED));
            }
            self.next = line.saturating_add(1);
        }
        let Some(site) = self.site(&item.domain).await? else {
            return Ok(Err(Dropped::UnknownSite.reason()));
        };
        if item.import.is_some() && self.import.is_some_and(|(_, progress)| progress.site != site.id) {
            return Ok(Err(OTHER_SITE));
        }
        let agent = match item.user_agent.as_deref().map(Agent::read).transpose() {
            Ok(agent) => agent.unwrap_or_default(),
            Err(dropped) => return Ok(Err(dropped.reason())),
        };
        let time = item.time.unwrap_or(self.at);
        let salt = self.salt(time, item.import.is_some()).await?;
        let address = item.address.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        let place = Place {
            site: site.id,
            domain: site.domain.as_str(),
            visitor: salt.visitor(site.id, address, item.user_agent.as_deref().unwrap_or_default()),
            agent,
            content: None,
            import: item.import,
        };
        let key = self.key.map(|key| (key, index));
        let mut recorded = self
            .traced
            .recorded(self.tenant, time, key, item.hit.event(place));
        if let Some(id) = item.id {
            recorded.envelope.id = id;
        }
        Ok(Ok(recorded))
    }

    /// The tenant's site with this domain.
    async fn site(&mut self, domain: &str) -> Result<Option<Site>, Error> {
        if let Some(known) = self.sites.get(domain) {
            return Ok(known.clone());
        }
        let directory = self.app.directory();
        let found = if self.looked {
            directory.known_site_of_host(domain)
        } else {
            directory.site_of_host(domain).await?
        };
        // Else a thousand unknown domains would ask the log a thousand times.
        self.looked |= found.is_none();
        let found = found.filter(|site| site.tenant == self.tenant);
        self.sites.insert(domain.to_owned(), found.clone());
        Ok(found)
    }

    /// A visit beside lines of an import is of the same person as a tracker's hit.
    async fn salt(&mut self, time: Timestamp, imported: bool) -> Result<Salt, Error> {
        let day = (time.micros().div_euclid(DAY_MICROS), imported);
        if let Some(salt) = self.salts.get(&day) {
            return Ok(salt.clone());
        }
        let salt = match (self.import.filter(|_| imported), &self.import_salt) {
            (None, _) => self.app.day_salt(time).await?,
            (Some(_), Some(salt)) => salt.of_day(time),
            (Some((import, _)), None) => {
                let salt = self.app.import_salt(self.tenant, import).await?;
                self.import_salt.insert(salt).of_day(time)
            }
        };
        self.salts.insert(day, salt.clone());
        Ok(salt)
    }

    /// Appends, then moves the import's mark, so that `next` never passes what the log has.
    async fn finish(
        mut self,
        principal: Principal,
        arrived: Arrived,
        keyed: Option<Keyed>,
    ) -> Result<Accepted, Error> {
        self.answer.accepted = self.events.len();
        let recorded = self.app.recorder().record(self.events, keyed).await?;
        metrics::VISITS
            .with_label_values(&[DOOR])
            .inc_by(self.answer.accepted as u64);
        let mut position = self.app.position_of(&recorded);
        if let Some((import, progress)) = self.import
            && self.next > progress.next
        {
            let context = Context {
                id: CommandId::new(Uuid::now_v7()),
                principal,
                key: None,
                request: [0; 16],
                expected: Expected::Any,
                traceparent: self.traced.text(),
                correlation: None,
                until: arrived.until,
                // When it is decided elsewhere by now, all of the request goes there: its visits have the same ids,
                // or are below the import's mark.
                arrived: self.app.is_shared().then(|| Box::new(arrived)),
                held: None,
            };
            // Lines that the client left out, because they are no visits, are not missing.
            let advance = import::Command::Advance {
                first: progress.next,
                next: self.next,
            };
            let command = tenant::Command::Import(import, advance);
            let advanced = self.app.execute(context, command.into()).await?;
            // Both are of this log, so they merge.
            let _ = position.merge(&advanced.position);
        }
        let answer = Answer {
            status: StatusCode::ACCEPTED,
            location: None,
            version: None,
            body: json!(self.answer),
        };
        Ok(Accepted { answer, position })
    }
}
