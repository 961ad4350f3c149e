//! What all decisions within one tenant are taken on: its content, its downloads, its imports.
//!
//! One tenant, one partition, one order: so a rule over several aggregates needs no saga.

#[cfg(test)]
pub(crate) mod memory;

use crate::{
    Aggregate, ContentId, DownloadId, Event, ImportId, Recorded, Sha256, SiteId,
    content::{self, Content, Kind, Slug, Slugs},
    download::{self, Download},
    event::{ContentEvent, ImportEvent},
    id::InvalidId,
    import::{self, Fingerprints, Import},
};

/// An aggregate of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Subject {
    Content(ContentId),
    Download(DownloadId),
    Import(ImportId),
}

impl std::fmt::Display for Subject {
    /// As it stands in an event's `subject`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Content(id) => id.fmt(f),
            Self::Download(id) => id.fmt(f),
            Self::Import(id) => id.fmt(f),
        }
    }
}

impl Subject {
    /// Which aggregate of a tenant an event of the ledger is about; none for the directory's and for visits.
    ///
    /// # Errors
    /// A subject that is no id.
    pub fn of(recorded: &Recorded) -> Result<Option<Self>, InvalidId> {
        let subject = &recorded.envelope.subject;
        Ok(match recorded.event {
            Event::Content(_) => Some(Self::Content(subject.parse()?)),
            Event::Download(_) => Some(Self::Download(subject.parse()?)),
            Event::Import(_) => Some(Self::Import(subject.parse()?)),
            Event::Directory(_) | Event::Visit(_) => None,
        })
    }
}

/// What can be asked of a tenant's aggregates.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Of a piece of content.
    Content(ContentId, content::Command),
    /// Of a download.
    Download(DownloadId, download::Command),
    /// Of several downloads at once: all, or none.
    Reorder(Vec<(DownloadId, i32)>),
    /// Of an import.
    Import(ImportId, import::Command),
}

/// Why one of a tenant's aggregates refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// A rule of content.
    #[error(transparent)]
    Content(#[from] content::Rejection),
    /// A rule of downloads.
    #[error(transparent)]
    Download(#[from] download::Rejection),
    /// A rule of imports.
    #[error(transparent)]
    Import(#[from] import::Rejection),
}

impl Rejection {
    /// What kind of rejection it is: stable, for programs.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Content(rejection) => rejection.kind(),
            Self::Download(rejection) => rejection.kind(),
            Self::Import(rejection) => rejection.kind(),
        }
    }
}

/// The aggregates of one tenant, and who holds what must be unique: looked up one at a time, so that they may be
/// kept anywhere.
pub trait Repository: Slugs + Fingerprints {
    /// A piece of content; [`Content::Nothing`] when there is none.
    fn content(&self, id: ContentId) -> Content;
    /// A download; [`Download::Nothing`] when there is none.
    fn download(&self, id: DownloadId) -> Download;
    /// An import; [`Import::Nothing`] when there is none.
    fn import(&self, id: ImportId) -> Import;
}

/// What is different in a repository after an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// How a piece stands now.
    Content(ContentId, Content),
    /// Who holds a slug now; none, when it is free again.
    Slug(SiteId, Kind, Slug, Option<ContentId>),
    /// How a download stands now.
    Download(DownloadId, Download),
    /// How an import stands now.
    Import(ImportId, Import),
    /// Which import has a fingerprint.
    Fingerprint(SiteId, Sha256, ImportId),
}

/// What the past makes of a tenant: at most three rows differ. What is not about content, downloads or imports
/// changes nothing.
pub fn evolve(before: &impl Repository, subject: Subject, event: &Event) -> Vec<Row> {
    match (subject, event) {
        (Subject::Content(id), Event::Content(event)) => evolve_content(before, id, event),
        (Subject::Download(id), Event::Download(event)) => match before.download(id).evolve(event) {
            Download::Nothing => Vec::new(),
            download @ Download::Entry(_) => vec![Row::Download(id, download)],
        },
        (Subject::Import(id), Event::Import(event)) => evolve_import(before, id, event),
        (
            Subject::Content(_) | Subject::Download(_) | Subject::Import(_),
            Event::Content(_) | Event::Download(_) | Event::Import(_) | Event::Directory(_) | Event::Visit(_),
        ) => Vec::new(),
    }
}

fn evolve_content(slugs: &impl Repository, id: ContentId, event: &ContentEvent) -> Vec<Row> {
    let before = slugs.content(id);
    let after = before.clone().evolve(event);
    let held = |content: &Content| {
        let piece = content.piece()?;
        piece
            .held_slug()
            .map(|slug| (piece.site, piece.kind, slug.clone()))
    };
    let (had, has) = (held(&before), held(&after));
    let mut rows = Vec::with_capacity(3);
    if had != has {
        // Only its holder gives a slug back.
        let own = |(site, kind, slug): &(SiteId, Kind, Slug)| slugs.holder(*site, *kind, slug) == Some(id);
        rows.extend(
            had.filter(own)
                .map(|(site, kind, slug)| Row::Slug(site, kind, slug, None)),
        );
        rows.extend(has.map(|(site, kind, slug)| Row::Slug(site, kind, slug, Some(id))));
    }
    if after != Content::Nothing {
        rows.push(Row::Content(id, after));
    }
    rows
}

fn evolve_import(known: &impl Repository, id: ImportId, event: &ImportEvent) -> Vec<Row> {
    let mut rows = Vec::with_capacity(2);
    if let ImportEvent::Started(import::Started {
        site, fingerprint, ..
    }) = event
        && known.find(*site, *fingerprint).is_none()
    {
        rows.push(Row::Fingerprint(*site, *fingerprint, id));
    }
    match known.import(id).evolve(event) {
        Import::Nothing => {}
        import @ (Import::Running(_) | Import::Completed(_)) => rows.push(Row::Import(id, import)),
    }
    rows
}
