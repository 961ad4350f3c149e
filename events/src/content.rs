//! A piece of content: a post, a project, an idea, a page, a résumé.
//!
//! In order: events, state and what they make of it, commands and what it answers, rejections, tests.
//! Longer than other files, because all rules of a piece stand on this one page.

pub mod slug;
#[cfg(test)]
mod tests;
pub mod text;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use slug::{Slug, Slugs};
pub use text::{Body, Language, Metadata, Summary, Tags, Title};

use crate::{Aggregate, SiteId, Timestamp, aggregate::rejections, event::ContentEvent};

/// What kind of content it is; slugs are unique within site and kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Kind {
    Post,
    Project,
    Idea,
    Page,
    Resume,
}

/// A draft exists from now on, and its slug is taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Drafted {
    /// Where it belongs; never changes.
    pub site: SiteId,
    /// What it is; never changes.
    pub kind: Kind,
    /// At most 300 characters.
    #[schemars(length(min = 1, max = 300))]
    pub title: String,
    /// Lower-case letters, digits and single hyphens, at most 200.
    #[schemars(length(max = 200), regex(pattern = r"^[a-z0-9]+(-[a-z0-9]+)*$"))]
    pub slug: String,
    /// Markdown, at most 512 KiB.
    pub body: String,
    /// Plain text, at most 2,000 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// At most 50, each at most 100 characters, in the writer's order, each once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Shown first by those who feature things.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub featured: bool,
    /// BCP 47, such as `en` or `pt-BR`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Whatever else the writer keeps with it, at most 64 KiB of JSON.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
}

/// Fields changed. An absent field stayed as it was; `summary` and `language` can be taken away.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "as in Drafted")]
pub struct Revised {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Optional>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub featured: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<Optional>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Map<String, Value>>,
}

/// The new state of a field that may be absent: `{"is": "…"}` or `{}`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Optional {
    /// What it is now; absent, when it was taken away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is: Option<String>,
}

/// The slug changed; the old one leads here until another piece takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the names say it")]
pub struct SlugChanged {
    pub from: String,
    pub to: String,
}

/// It will be published at this time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scheduled {
    /// In the future of the event's own time.
    pub at: Timestamp,
}

/// Anyone can read it from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// The date that it carries: now, or in the past for what was imported.
    pub at: Timestamp,
}

/// Only its writers can read it from now on; a schedule, if it had one, is off.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unpublished {}

/// It takes no command any more; its slug is free again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Archived {
    /// Why, in words: only in a build that stands for the next release (see `event.rs`).
    #[cfg(feature = "next-event")]
    pub reason: Option<String>,
}

/// What the past makes of a piece: little, and never its body.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// There is nothing yet.
    #[default]
    Nothing,
    /// There is a piece.
    Piece(Piece),
}

/// A piece as its rules see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "as in the events")]
pub struct Piece {
    pub version: u64,
    pub site: SiteId,
    pub kind: Kind,
    pub slug: Slug,
    pub status: Status,
    fields: Fields,
}

/// Where a piece stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// Written, never published.
    Draft,
    /// To be published.
    Scheduled {
        /// When.
        at: Timestamp,
    },
    /// Anyone can read it.
    Published {
        /// The date that it carries.
        at: Timestamp,
    },
    /// Was published, or scheduled, and is not any more.
    Unpublished,
    /// Takes no command any more.
    Archived,
}

impl Status {
    /// Its name, as the API and the read models say it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Scheduled { .. } => "scheduled",
            Self::Published { .. } => "published",
            Self::Unpublished => "unpublished",
            Self::Archived => "archived",
        }
    }
}

/// The first 16 bytes of the BLAKE3 hash of each field: enough to see that a revision changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Fields {
    title: Print,
    body: Print,
    summary: Print,
    tags: Print,
    featured: bool,
    language: Print,
    metadata: Print,
}

type Print = [u8; 16];

fn print(field: &impl Serialize) -> Print {
    let mut hasher = blake3::Hasher::new();
    // A hasher takes every byte, and the fields are strings and JSON values: this cannot fail.
    let _: Result<(), serde_json::Error> = serde_json::to_writer(&mut hasher, field);
    let mut print = Print::default();
    hasher.finalize_xof().fill(&mut print);
    print
}

impl Piece {
    fn drafted(event: &Drafted) -> Self {
        Self {
            version: 1,
            site: event.site,
            kind: event.kind,
            slug: Slug::recorded(&event.slug),
            status: Status::Draft,
            fields: Fields {
                title: print(&event.title),
                body: print(&event.body),
                summary: print(&event.summary),
                tags: print(&event.tags),
                featured: event.featured,
                language: print(&event.language),
                metadata: print(&event.metadata),
            },
        }
    }

    fn revised(&mut self, event: &Revised) {
        let Revised {
            title,
            body,
            summary,
            tags,
            featured,
            language,
            metadata,
        } = event;
        let fields = &mut self.fields;
        title.iter().for_each(|title| fields.title = print(title));
        body.iter().for_each(|body| fields.body = print(body));
        summary
            .iter()
            .for_each(|summary| fields.summary = print(&summary.is));
        tags.iter().for_each(|tags| fields.tags = print(tags));
        featured.iter().for_each(|featured| fields.featured = *featured);
        language
            .iter()
            .for_each(|language| fields.language = print(&language.is));
        metadata
            .iter()
            .for_each(|metadata| fields.metadata = print(metadata));
    }

    /// Keeps of a revision what differs from what is there.
    fn differences(&self, revision: Revision) -> Revised {
        let Revision {
            title,
            slug: _,
            body,
            summary,
            tags,
            featured,
            language,
            metadata,
        } = revision;
        let fields = &self.fields;
        let title = title.map(String::from);
        let body = body.map(String::from);
        let summary = summary.map(|is| Optional {
            is: is.map(String::from),
        });
        let tags = tags.map(Vec::from);
        let language = language.map(|is| Optional {
            is: is.map(String::from),
        });
        let metadata = metadata.map(Map::from);
        Revised {
            title: title.filter(|title| print(title) != fields.title),
            body: body.filter(|body| print(body) != fields.body),
            summary: summary.filter(|summary| print(&summary.is) != fields.summary),
            tags: tags.filter(|tags| print(tags) != fields.tags),
            featured: featured.filter(|featured| *featured != fields.featured),
            language: language.filter(|language| print(&language.is) != fields.language),
            metadata: metadata.filter(|metadata| print(metadata) != fields.metadata),
        }
    }

    /// The slug that it holds: an archived piece holds none.
    pub(crate) fn held_slug(&self) -> Option<&Slug> {
        (self.status != Status::Archived).then_some(&self.slug)
    }
}

impl Content {
    /// The piece, when there is one.
    pub fn piece(&self) -> Option<&Piece> {
        match self {
            Self::Nothing => None,
            Self::Piece(piece) => Some(piece),
        }
    }
}

/// What can be asked of a piece.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Make it.
    Draft(Box<Draft>),
    /// Change fields, or the slug, or both.
    Revise(Box<Revision>),
    /// Let anyone read it.
    Publish {
        /// From when on. None: from now on. In the past: with that date. In the future: then.
        at: Option<Timestamp>,
    },
    /// The time of a scheduled piece has come; asked by the partition's timer, never by a client.
    PublishDue,
    /// Let only its writers read it; takes a schedule back, too.
    Unpublish,
    /// Put it away for ever.
    Archive,
}

/// A new piece.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "as in Drafted")]
pub struct Draft {
    pub site: SiteId,
    pub kind: Kind,
    pub title: Title,
    pub slug: Slug,
    pub body: Body,
    pub summary: Option<Summary>,
    pub tags: Tags,
    pub featured: bool,
    pub language: Option<Language>,
    pub metadata: Metadata,
}

/// New states of fields; those that are absent stay as they are.
#[derive(Debug, Clone, PartialEq, Default)]
#[expect(missing_docs, reason = "as in Revised")]
pub struct Revision {
    pub title: Option<Title>,
    pub slug: Option<Slug>,
    pub body: Option<Body>,
    /// `Some(None)` takes it away.
    pub summary: Option<Option<Summary>>,
    pub tags: Option<Tags>,
    pub featured: Option<bool>,
    /// `Some(None)` takes it away.
    pub language: Option<Option<Language>>,
    pub metadata: Option<Metadata>,
}

impl Aggregate for Content {
    type Event = ContentEvent;
    type Command = Command;
    type Rejection = Rejection;
    type Lookup<'a> = dyn Slugs + 'a;

    fn evolve(self, event: &ContentEvent) -> Self {
        let Self::Piece(mut piece) = self else {
            return match event {
                ContentEvent::Drafted(event) => Self::Piece(Piece::drafted(event)),
                ContentEvent::Revised(_)
                | ContentEvent::SlugChanged(_)
                | ContentEvent::Scheduled(_)
                | ContentEvent::Published(_)
                | ContentEvent::Unpublished(_)
                | ContentEvent::Archived(_) => Self::Nothing,
            };
        };
        piece.version += 1;
        match event {
            ContentEvent::Drafted(_) => {}
            ContentEvent::Revised(event) => piece.revised(event),
            ContentEvent::SlugChanged(event) => piece.slug = Slug::recorded(&event.to),
            ContentEvent::Scheduled(event) => piece.status = Status::Scheduled { at: event.at },
            ContentEvent::Published(event) => piece.status = Status::Published { at: event.at },
            ContentEvent::Unpublished(_) => piece.status = Status::Unpublished,
            ContentEvent::Archived(_) => piece.status = Status::Archived,
        }
        Self::Piece(piece)
    }

    fn decide(
        &self,
        command: Command,
        slugs: &(dyn Slugs + '_),
        at: Timestamp,
    ) -> Result<Vec<ContentEvent>, Rejection> {
        let piece = match self {
            Self::Nothing => {
                let Command::Draft(draft) = command else {
                    return Err(Rejection::NotThere);
                };
                return draft_new(*draft, slugs);
            }
            Self::Piece(piece) if piece.status == Status::Archived => return Err(Rejection::Archived),
            Self::Piece(piece) => piece,
        };
        match command {
            Command::Draft(_) => Err(Rejection::AlreadyThere),
            Command::Revise(revision) => revise(piece, *revision, slugs),
            Command::Publish { at: date } => publish(piece, date.unwrap_or(at), at),
            Command::PublishDue => match piece.status {
                Status::Scheduled { at: due } if due <= at => Ok(vec![Published { at: due }.into()]),
                Status::Scheduled { at: due } => Err(Rejection::NotDue { at: due }),
                Status::Draft | Status::Published { .. } | Status::Unpublished | Status::Archived => {
                    Err(Rejection::NotScheduled {
                        status: piece.status.name(),
                    })
                }
            },
            Command::Unpublish => match piece.status {
                Status::Published { .. } | Status::Scheduled { .. } => Ok(vec![Unpublished {}.into()]),
                Status::Draft | Status::Unpublished | Status::Archived => Err(Rejection::NotPublished {
                    status: piece.status.name(),
                }),
            },
            Command::Archive => Ok(vec![Archived::default().into()]),
        }
    }

    fn version(&self) -> u64 {
        match self {
            Self::Nothing => 0,
            Self::Piece(piece) => piece.version,
        }
    }
}

fn draft_new(draft: Draft, slugs: &dyn Slugs) -> Result<Vec<ContentEvent>, Rejection> {
    let Draft {
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
    } = draft;
    untaken(slugs, site, kind, &slug)?;
    let event = Drafted {
        site,
        kind,
        title: title.into(),
        slug: slug.to_string(),
        body: body.into(),
        summary: summary.map(String::from),
        tags: tags.into(),
        featured,
        language: language.map(String::from),
        metadata: metadata.into(),
    };
    Ok(vec![event.into()])
}

fn revise(piece: &Piece, mut revision: Revision, slugs: &dyn Slugs) -> Result<Vec<ContentEvent>, Rejection> {
    let mut events = Vec::new();
    let slug = revision.slug.take().filter(|slug| *slug != piece.slug);
    let revised = piece.differences(revision);
    if revised != Revised::default() {
        events.push(revised.into());
    }
    if let Some(slug) = slug {
        untaken(slugs, piece.site, piece.kind, &slug)?;
        events.push(
            SlugChanged {
                from: piece.slug.to_string(),
                to: slug.to_string(),
            }
            .into(),
        );
    }
    Ok(events)
}

/// Dates that every store can hold: from 1900 to the end of 2199, UTC.
const DATES: std::ops::Range<i64> = -2_208_988_800_000_000..7_258_118_400_000_000;

fn publish(piece: &Piece, date: Timestamp, now: Timestamp) -> Result<Vec<ContentEvent>, Rejection> {
    match piece.status {
        Status::Draft | Status::Scheduled { .. } | Status::Unpublished => {}
        Status::Published { .. } => return Err(Rejection::AlreadyPublished),
        Status::Archived => return Err(Rejection::Archived),
    }
    if !DATES.contains(&date.micros()) {
        return Err(Rejection::DateOutOfRange { at: date });
    }
    if date <= now {
        Ok(vec![Published { at: date }.into()])
    } else if piece.status == (Status::Scheduled { at: date }) {
        Ok(vec![])
    } else {
        Ok(vec![Scheduled { at: date }.into()])
    }
}

fn untaken(slugs: &dyn Slugs, site: SiteId, kind: Kind, slug: &Slug) -> Result<(), Rejection> {
    match slugs.holder(site, kind, slug) {
        None => Ok(()),
        Some(_) => Err(Rejection::SlugTaken {
            free: slugs.free(site, kind, slug),
            slug: slug.clone(),
        }),
    }
}

rejections! {
    /// Why a piece refuses.
    pub enum Rejection {
        "slug-taken" =>
        /// Another piece of this site and kind holds the slug.
        #[error("the slug {slug} is taken within this site and kind; {free} is free")]
        SlugTaken {
            /// The slug asked for.
            slug: Slug,
            /// One like it that nobody holds.
            free: Slug,
        },
        "content-exists" =>
        /// The id is in use.
        #[error("there is a piece with this id already")]
        AlreadyThere,
        "content-not-found" =>
        /// Nothing has this id.
        #[error("there is no piece of content with this id")]
        NotThere,
        "content-archived" =>
        /// It was put away for ever.
        #[error("the piece is archived and takes no command any more")]
        Archived,
        "already-published" =>
        /// Anyone can read it already.
        #[error("the piece is published already; unpublish it first to give it another date")]
        AlreadyPublished,
        "not-published" =>
        /// Nothing to take back.
        #[error("the piece is neither published nor scheduled, but {status}")]
        NotPublished {
            /// Where it stands.
            status: &'static str,
        },
        "not-scheduled" =>
        /// The timer is late: someone was quicker.
        #[error("the piece is not scheduled, but {status}")]
        NotScheduled {
            /// Where it stands.
            status: &'static str,
        },
        "not-due" =>
        /// The timer is early: it was scheduled anew.
        #[error("the piece is to be published at {at}, not before")]
        NotDue {
            /// Its time.
            at: Timestamp,
        },
        "date-out-of-range" =>
        /// A date that not every store can hold.
        #[error("{at} is not between 1900 and 2199")]
        DateOutOfRange {
            /// The date asked for.
            at: Timestamp,
        },
    }
}
