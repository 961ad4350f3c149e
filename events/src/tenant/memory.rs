//! A repository in memory, for tests: what happened is folded by the same rules as everywhere.

use std::collections::HashMap;

use super::{Repository, Row, Subject, evolve};
use crate::{
    Aggregate, ContentId, DownloadId, Event, ImportId, Sha256, SiteId,
    content::{Content, Kind, Slug, Slugs},
    download::Download,
    import::{Fingerprints, Import},
};

/// Every aggregate of a tenant.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    content: HashMap<ContentId, Content>,
    slugs: HashMap<(SiteId, Kind, Slug), ContentId>,
    downloads: HashMap<DownloadId, Download>,
    imports: HashMap<ImportId, Import>,
    fingerprints: HashMap<(SiteId, Sha256), ImportId>,
}

impl Memory {
    /// What the past makes of it.
    pub(crate) fn evolve(&mut self, subject: Subject, event: impl Into<Event>) {
        for row in evolve(self, subject, &event.into()) {
            match row {
                Row::Content(id, content) => {
                    self.content.insert(id, content);
                }
                Row::Slug(site, kind, slug, Some(id)) => {
                    self.slugs.insert((site, kind, slug), id);
                }
                Row::Slug(site, kind, slug, None) => {
                    self.slugs.remove(&(site, kind, slug));
                }
                Row::Download(id, download) => {
                    self.downloads.insert(id, download);
                }
                Row::Import(id, import) => {
                    self.imports.insert(id, import);
                }
                Row::Fingerprint(site, fingerprint, id) => {
                    self.fingerprints.insert((site, fingerprint), id);
                }
            }
        }
    }
}

impl Slugs for Memory {
    fn holder(&self, site: SiteId, kind: Kind, slug: &Slug) -> Option<ContentId> {
        self.slugs.get(&(site, kind, slug.clone())).copied()
    }
}

impl Fingerprints for Memory {
    fn find(&self, site: SiteId, fingerprint: Sha256) -> Option<ImportId> {
        self.fingerprints.get(&(site, fingerprint)).copied()
    }
}

impl Repository for Memory {
    fn content(&self, id: ContentId) -> Content {
        self.content.get(&id).cloned().unwrap_or_default()
    }

    fn download(&self, id: DownloadId) -> Download {
        self.downloads.get(&id).cloned().unwrap_or_default()
    }

    fn import(&self, id: ImportId) -> Import {
        self.imports.get(&id).cloned().unwrap_or_default()
    }
}

/// What was done, each command decided on what was done before it.
pub(crate) fn given<I: Copy, A: Aggregate<Event: Clone + Into<Event>, Rejection: std::fmt::Debug>>(
    commands: impl IntoIterator<Item = (I, A::Command)>,
    subject: fn(I) -> Subject,
    when: impl Fn(&Memory, I, A::Command) -> Result<Vec<A::Event>, A::Rejection>,
) -> Memory {
    let mut memory = Memory::default();
    for (id, command) in commands {
        for event in when(&memory, id, command).unwrap() {
            memory.evolve(subject(id), event);
        }
    }
    memory
}
