//! Content: event → change. The tables are in `read-models/src/content.rs`.
//!
//! A little longer than a file should be: every event of a piece beside every other, in one fold.

use std::collections::{BTreeMap, HashMap, HashSet};

use events::{Envelope, Event, Recorded, content, event::ContentEvent};
use read_models::{
    Error, Projection, Write,
    content::{self as tables, Changes, Content, Redirect, Slug, Taken, Version},
};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::runner::{
    Entry,
    postgres::{Fold, Place, Unfit},
};

pub mod path;
#[cfg(test)]
mod tests;

use path::{Paths, kind_name};

/// The projection `content`.
#[derive(Debug)]
pub struct ContentFold;

/// Rows in memory.
#[derive(Debug, Default)]
pub struct Rows {
    pieces: HashMap<(Uuid, Uuid), Piece>,
    versions: Vec<Version>,
    /// What became of each slug that was touched.
    slugs: BTreeMap<Slug, Fate>,
}

/// What became of a slug last.
#[derive(Debug)]
enum Fate {
    /// Given up: it leads to the piece that had it.
    GivenUp(Redirect),
    /// Taken, by this commit of the tenant.
    Taken(i64),
}

#[derive(Debug)]
struct Piece {
    row: Content,
    kind: content::Kind,
    state: State,
}

/// What has become of a row; what is more comes later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Loaded,
    Changed,
    /// Title, summary, body or language are others.
    Rewritten,
    New,
}

impl Fold for ContentFold {
    const PROJECTION: Projection = Projection::Content;
    const VERSION: &'static str = "2";
    const FAMILIES: &'static [&'static str] = &["content."];
    type Rows = Rows;
    type Changes = Changes;

    async fn load(write: &mut Write, events: &[&Entry]) -> Result<Rows, Error> {
        let rows = tables::load(write, &known_before(events)).await?;
        Ok(Rows::loaded(rows))
    }

    fn fold(rows: &mut Rows, place: &Place, recorded: &Recorded) -> Result<(), Unfit> {
        match &recorded.event {
            Event::Content(event) => {
                let seq = i64::try_from(place.tenant_seq).unwrap_or(i64::MAX);
                rows.fold(seq, &recorded.envelope, recorded.event.wire_name(), event)
            }
            Event::Directory(_) | Event::Download(_) | Event::Import(_) | Event::Visit(_) => Ok(()),
        }
    }

    fn skip(rows: &mut Rows, entry: &Entry) {
        if let Some(piece) = entry.aggregate().and_then(|key| rows.pieces.get_mut(&key)) {
            piece.row.version += 1;
            piece.state = piece.state.max(State::Changed);
        }
    }

    fn changes(rows: &mut Rows) -> Changes {
        rows.changes()
    }

    async fn insert(write: &mut Write, changes: &Changes) -> Result<u64, Error> {
        tables::insert(write, changes).await
    }

    async fn update(write: &mut Write, changes: &Changes) -> Result<u64, Error> {
        tables::update(write, changes).await
    }
}

/// The pieces that these events change and do not begin.
fn known_before(events: &[&Entry]) -> Vec<(Uuid, Uuid)> {
    let mut met = HashSet::new();
    let mut known = Vec::new();
    for entry in events
        .iter()
        .filter(|entry| entry.event_type().starts_with("content."))
    {
        let Some(id) = entry.aggregate() else { continue };
        let begins = entry
            .event
            .as_ref()
            .is_ok_and(|it| matches!(it.event, Event::Content(ContentEvent::Drafted(_))));
        if met.insert(id) && !begins {
            known.push(id);
        }
    }
    known
}

fn id(envelope: &Envelope) -> Result<(Uuid, Uuid), Unfit> {
    let content = Uuid::try_parse(&envelope.subject);
    let content =
        content.map_err(|_| Unfit(format!("its subject {:?} is no id of a piece", envelope.subject)))?;
    Ok((envelope.tenant.uuid(), content))
}

impl Rows {
    fn loaded(rows: Vec<Content>) -> Self {
        let piece = |row: Content| {
            let kind = kind(&row.kind);
            (
                (row.tenant, row.content),
                Piece {
                    row,
                    kind,
                    state: State::Loaded,
                },
            )
        };
        Self {
            pieces: rows.into_iter().map(piece).collect(),
            ..Self::default()
        }
    }

    fn fold(
        &mut self,
        tenant_seq: i64,
        envelope: &Envelope,
        wire_name: &str,
        event: &ContentEvent,
    ) -> Result<(), Unfit> {
        let key = id(envelope)?;
        let version = version_after(
            envelope,
            self.pieces.get(&key).map_or(0, |piece| piece.row.version),
        )?;
        if let ContentEvent::Drafted(drafted) = event {
            if version != 1 {
                return Err(Unfit("a piece is drafted once".into()));
            }
            let slug = Slug {
                tenant: key.0,
                site: drafted.site.uuid(),
                kind: kind_name(drafted.kind).into(),
                slug: drafted.slug.clone(),
            };
            self.slugs.insert(slug, Fate::Taken(tenant_seq));
            self.pieces.insert(key, Piece::drafted(key, envelope, drafted));
        }
        let piece = self
            .pieces
            .get_mut(&key)
            .ok_or_else(|| Unfit("there is no such piece".into()))?;
        let had = piece.row.slug.clone();
        let set = piece.evolve(event);
        let at = envelope.time.to_utc();
        let actor = envelope.actor.map(events::PrincipalId::uuid);
        piece.row.updated_at = at;
        piece.row.updated_by = actor;
        piece.row.version = version;
        let row = &piece.row;
        self.versions.push(set.version(row, wire_name, tenant_seq));
        if let ContentEvent::SlugChanged(content::SlugChanged { from, to }) = event {
            let (site, kind) = (row.site, piece.kind);
            let slug_of = |slug: &str| Slug {
                tenant: key.0,
                site,
                kind: kind_name(kind).into(),
                slug: slug.to_owned(),
            };
            let given_up = |from: &Slug| {
                Fate::GivenUp(Redirect {
                    from: from.clone(),
                    content: key.1,
                    since: at,
                    tenant_seq,
                })
            };
            // The two are one, unless an earlier change was passed over.
            let (had, from) = (slug_of(&had), slug_of(from));
            self.slugs.insert(had.clone(), given_up(&had));
            self.slugs.insert(slug_of(to), Fate::Taken(tenant_seq));
            self.slugs.insert(from.clone(), given_up(&from));
        }
        Ok(())
    }

    fn changes(&mut self) -> Changes {
        let mut changes = Changes {
            versions: std::mem::take(&mut self.versions),
            ..Changes::default()
        };
        for piece in self.pieces.values_mut() {
            match std::mem::replace(&mut piece.state, State::Loaded) {
                State::New => changes.inserted.push(piece.row.clone()),
                State::Rewritten => changes.updated.push(piece.row.clone()),
                State::Changed => changes.kept.push(piece.row.clone()),
                State::Loaded => {}
            }
        }
        // In the order of the key: its index grows at one end.
        changes
            .inserted
            .sort_unstable_by_key(|row| (row.tenant, row.content));
        for (slug, fate) in std::mem::take(&mut self.slugs) {
            match fate {
                Fate::GivenUp(redirect) => changes.redirects.push(redirect),
                Fate::Taken(tenant_seq) => changes.taken.push(Taken { slug, tenant_seq }),
            }
        }
        changes
    }
}

/// The version after an event, which must follow the one before it.
pub(crate) fn version_after(envelope: &Envelope, before: i64) -> Result<i64, Unfit> {
    let found = envelope
        .aggregate_version
        .and_then(|version| i64::try_from(version).ok());
    match found {
        Some(version) if version == before + 1 => Ok(version),
        Some(version) => Err(Unfit(format!(
            "it makes version {version} of what has version {before}"
        ))),
        None => Err(Unfit("it has no version".into())),
    }
}

/// Fields that an event set, by their names in the tables.
struct Set(Vec<&'static str>);

impl Piece {
    fn drafted((tenant, content): (Uuid, Uuid), envelope: &Envelope, event: &content::Drafted) -> Self {
        let at = envelope.time.to_utc();
        let actor = envelope.actor.map(events::PrincipalId::uuid);
        let row = Content {
            tenant,
            content,
            site: event.site.uuid(),
            kind: kind_name(event.kind).into(),
            status: "draft".into(),
            title: event.title.clone(),
            slug: event.slug.clone(),
            path: String::new(),
            aliases: Vec::new(),
            body: event.body.clone(),
            summary: event.summary.clone(),
            tags: event.tags.clone(),
            featured: event.featured,
            language: event.language.clone(),
            metadata: Value::Object(event.metadata.clone()),
            published_at: None,
            scheduled_at: None,
            created_at: at,
            created_by: actor,
            updated_at: at,
            updated_by: actor,
            version: 0,
        };
        let mut piece = Self {
            row,
            kind: event.kind,
            state: State::New,
        };
        piece.lead();
        piece
    }

    /// What the event makes of the row; names what it set.
    fn evolve(&mut self, event: &ContentEvent) -> Set {
        self.state = self.state.max(State::Changed);
        let row = &mut self.row;
        let mut set = Vec::new();
        match event {
            ContentEvent::Drafted(_) => set = EVERY.to_vec(),
            ContentEvent::Revised(revised) => {
                let content::Revised {
                    title,
                    body,
                    summary,
                    tags,
                    featured,
                    language,
                    metadata,
                } = revised;
                let mut note = |name, given: bool| {
                    if given {
                        set.push(name)
                    }
                };
                note("title", put(&mut row.title, title.clone()));
                note("body", put(&mut row.body, body.clone()));
                note(
                    "summary",
                    put(&mut row.summary, summary.clone().map(|summary| summary.is)),
                );
                note("tags", put(&mut row.tags, tags.clone()));
                note("featured", put(&mut row.featured, *featured));
                note(
                    "language",
                    put(&mut row.language, language.clone().map(|language| language.is)),
                );
                note(
                    "metadata",
                    put(&mut row.metadata, metadata.clone().map(Value::Object)),
                );
                if title.is_some() || body.is_some() || summary.is_some() || language.is_some() {
                    self.state = self.state.max(State::Rewritten);
                }
                if metadata.is_some() {
                    self.lead();
                }
            }
            ContentEvent::SlugChanged(changed) => {
                row.slug.clone_from(&changed.to);
                set.push("slug");
                self.lead();
            }
            ContentEvent::Scheduled(scheduled) => {
                row.status = "scheduled".into();
                row.scheduled_at = Some(scheduled.at.to_utc());
                set.extend(["status", "scheduled_at"]);
            }
            ContentEvent::Published(published) => {
                row.status = "published".into();
                row.published_at = Some(published.at.to_utc());
                set.extend(["status", "published_at"]);
                if row.scheduled_at.take().is_some() {
                    set.push("scheduled_at");
                }
            }
            ContentEvent::Unpublished(content::Unpublished {}) => {
                row.status = "unpublished".into();
                set.push("status");
                if row.scheduled_at.take().is_some() {
                    set.push("scheduled_at");
                }
            }
            ContentEvent::Archived(content::Archived { .. }) => {
                row.status = "archived".into();
                set.push("status");
                if row.scheduled_at.take().is_some() {
                    set.push("scheduled_at");
                }
            }
        }
        Set(set)
    }

    /// The paths follow slug and metadata.
    fn lead(&mut self) {
        let nothing = Map::new();
        let metadata = self.row.metadata.as_object().unwrap_or(&nothing);
        let Paths { path, aliases } = Paths::of(self.kind, &self.row.slug, metadata);
        self.row.path = path;
        self.row.aliases = aliases;
    }
}

/// What the first version sets.
const EVERY: [&str; 9] = [
    "status", "title", "slug", "body", "summary", "tags", "featured", "language", "metadata",
];

impl Set {
    /// The version's row: only what was set.
    fn version(&self, row: &Content, wire_name: &str, tenant_seq: i64) -> Version {
        let has = |name| self.0.contains(&name);
        Version {
            tenant: row.tenant,
            content: row.content,
            version: row.version,
            event: wire_name.into(),
            at: row.updated_at,
            actor: row.updated_by,
            changed: self.0.iter().map(|name| (*name).to_owned()).collect(),
            status: row.status.clone(),
            title: has("title").then(|| row.title.clone()),
            slug: has("slug").then(|| row.slug.clone()),
            body: has("body").then(|| row.body.clone()),
            summary: row.summary.clone().filter(|_| has("summary")),
            tags: has("tags").then(|| row.tags.clone()),
            featured: has("featured").then_some(row.featured),
            language: row.language.clone().filter(|_| has("language")),
            metadata: has("metadata").then(|| row.metadata.clone()),
            published_at: row.published_at.filter(|_| has("published_at")),
            scheduled_at: row.scheduled_at.filter(|_| has("scheduled_at")),
            tenant_seq,
        }
    }
}

/// Puts a new value where one is given; tells whether.
fn put<T>(field: &mut T, new: Option<T>) -> bool {
    let given = new.is_some();
    if let Some(new) = new {
        *field = new;
    }
    given
}

fn kind(name: &str) -> content::Kind {
    use content::Kind;
    // The table's own constraint lets no other name in.
    [Kind::Post, Kind::Project, Kind::Idea, Kind::Page, Kind::Resume]
        .into_iter()
        .find(|kind| kind_name(*kind) == name)
        .unwrap_or(Kind::Post)
}
