//! All pieces of a tenant together: what rules over several of them need.

use std::collections::{BTreeSet, HashMap};

use super::{Command, Content, Piece, Rejection, Slugs, Status};
use crate::{Aggregate, ContentId, Timestamp, event::ContentEvent};

/// Every piece of a tenant, who holds which slug, and what is to be published when.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    pieces: HashMap<ContentId, Content>,
    slugs: Slugs,
    due: BTreeSet<(Timestamp, ContentId)>,
}

impl Contents {
    /// What the past makes of the tenant's content.
    pub fn evolve(&mut self, id: ContentId, event: &ContentEvent) {
        let before = self.pieces.remove(&id).unwrap_or_default();
        if let Content::Piece(piece) = &before {
            if let Some(slug) = piece.held_slug() {
                self.slugs.release(piece.site, piece.kind, slug.as_str(), id);
            }
            if let Status::Scheduled { at } = piece.status {
                self.due.remove(&(at, id));
            }
        }
        let after = before.evolve(event);
        if let Content::Piece(piece) = &after {
            if let Some(slug) = piece.held_slug() {
                self.slugs.take(piece.site, piece.kind, slug.clone(), id);
            }
            if let Status::Scheduled { at } = piece.status {
                self.due.insert((at, id));
            }
            self.pieces.insert(id, after);
        }
    }

    /// What a piece answers to a command.
    ///
    /// # Errors
    /// The rule that stands in the way.
    pub fn decide(
        &self,
        id: ContentId,
        command: Command,
        at: Timestamp,
    ) -> Result<Vec<ContentEvent>, Rejection> {
        self.content(id).decide(command, &self.slugs, at)
    }

    /// A piece; [`Content::Nothing`] when there is none.
    pub fn content(&self, id: ContentId) -> &Content {
        self.pieces.get(&id).unwrap_or(&Content::Nothing)
    }

    /// A piece, when there is one.
    pub fn piece(&self, id: ContentId) -> Option<&Piece> {
        match self.content(id) {
            Content::Nothing => None,
            Content::Piece(piece) => Some(piece),
        }
    }

    /// Who holds which slug.
    pub fn slugs(&self) -> &Slugs {
        &self.slugs
    }

    /// When the next scheduled piece is due, and which it is.
    pub fn next_due(&self) -> Option<(Timestamp, ContentId)> {
        self.due.first().copied()
    }

    /// The scheduled pieces whose time has come, the longest waiting first.
    pub fn due(&self, now: Timestamp) -> impl Iterator<Item = ContentId> + '_ {
        self.due
            .iter()
            .take_while(move |(at, _)| *at <= now)
            .map(|(_, id)| *id)
    }
}
