//! The log folded with rules of its own: what stood when, and what should never have been written.

use std::collections::HashMap;

use uuid::Uuid;

use super::Violation;
use crate::faults::ledger::{Event, Ledger};

/// Where a piece stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Hidden,
    Published,
    Archived,
}

/// A piece at some moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) version: u64,
    pub(super) status: Status,
    title: String,
    slug: String,
}

/// What each piece and each slug was, from which offset on. A piece never leaves its partition.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    pieces: HashMap<Uuid, Past<Shape>>,
    slugs: HashMap<(Uuid, String), Past<Option<Uuid>>>,
}

type Past<T> = Vec<(u64, T)>;

impl Replayed {
    pub(super) fn of(ledger: &Ledger, violations: &mut Vec<Violation>) -> Self {
        let mut replayed = Self::default();
        for (partition, commits) in &ledger.partitions {
            for commit in commits {
                for event in commit
                    .events
                    .iter()
                    .filter(|event| event.kind.starts_with("content."))
                {
                    if let Err(what) = replayed.apply(commit.offset, event) {
                        let why = format!("ledger/{partition}:{} {event:?}", commit.offset);
                        violations.push(Violation { what, why });
                    }
                }
            }
        }
        replayed
    }

    fn apply(&mut self, offset: u64, event: &Event) -> Result<(), &'static str> {
        let piece: Uuid = event.subject.parse().map_err(|_| "a piece whose name is no id")?;
        let before = self
            .pieces
            .get(&piece)
            .and_then(|was| was.last())
            .map(|(_, shape)| shape.clone());
        let text = |name: &str| event.text(name).unwrap_or_default().to_owned();
        let mut fault = Ok(());
        let mut shape = match (&before, event.kind.as_str()) {
            (None, "content.drafted.v1") => Shape {
                version: 0,
                status: Status::Hidden,
                title: text("title"),
                slug: text("slug"),
            },
            (Some(shape), kind) if kind != "content.drafted.v1" => shape.clone(),
            (None, _) => return Err("a piece has a past but no beginning"),
            (Some(_), _) => return Err("a piece began twice"),
        };
        if shape.status == Status::Archived {
            fault = Err("an archived piece took a command");
        }
        if event.version() != shape.version + 1 {
            fault = Err("the versions of a piece fork or skip");
        }
        shape.version = event.version();
        match event.kind.as_str() {
            "content.drafted.v1" => fault = fault.and(self.take(offset, event.tenant, &shape.slug, piece)),
            "content.revised.v1" => {
                if let Some(title) = event.text("title") {
                    title.clone_into(&mut shape.title);
                }
            }
            "content.slug-changed.v1" => {
                if text("from") != shape.slug {
                    fault = Err("a slug changed that the piece did not have");
                }
                self.leave(offset, event.tenant, &shape.slug);
                shape.slug = text("to");
                fault = fault.and(self.take(offset, event.tenant, &shape.slug, piece));
            }
            "content.published.v1" => {
                if shape.status == Status::Published {
                    fault = Err("a published piece was published");
                }
                shape.status = Status::Published;
            }
            "content.unpublished.v1" => {
                if shape.status != Status::Published {
                    fault = Err("what was not published was taken back");
                }
                shape.status = Status::Hidden;
            }
            "content.archived.v1" => {
                shape.status = Status::Archived;
                self.leave(offset, event.tenant, &shape.slug);
            }
            _ => {}
        }
        self.pieces.entry(piece).or_default().push((offset, shape));
        fault
    }

    fn take(&mut self, offset: u64, tenant: Uuid, slug: &str, piece: Uuid) -> Result<(), &'static str> {
        let holders = self.slugs.entry((tenant, slug.to_owned())).or_default();
        let held = matches!(holders.last(), Some((_, Some(holder))) if *holder != piece);
        holders.push((offset, Some(piece)));
        if held {
            return Err("two pieces have one slug");
        }
        Ok(())
    }

    fn leave(&mut self, offset: u64, tenant: Uuid, slug: &str) {
        let holders = self.slugs.entry((tenant, slug.to_owned())).or_default();
        holders.push((offset, None));
    }

    /// Whether a piece was so at a moment after `from` and before `to`.
    pub(super) fn piece_was(
        &self,
        piece: Uuid,
        from: Option<u64>,
        to: u64,
        so: &dyn Fn(Option<&Shape>) -> bool,
    ) -> bool {
        let past = self.pieces.get(&piece).map_or(&[][..], Vec::as_slice);
        moments(past, from, to).any(so)
    }

    /// The same of who has a slug.
    pub(super) fn slug_was(
        &self,
        (tenant, slug): (Uuid, &str),
        from: Option<u64>,
        to: u64,
        so: &dyn Fn(Option<Uuid>) -> bool,
    ) -> bool {
        let past = self
            .slugs
            .get(&(tenant, slug.to_owned()))
            .map_or(&[][..], Vec::as_slice);
        moments(past, from, to).any(|state| so(state.copied().flatten()))
    }

    /// The title of a piece in a version.
    pub(super) fn title(&self, piece: Uuid, version: u64) -> Option<&str> {
        let past = self.pieces.get(&piece)?;
        let shape = past.iter().find(|(_, shape)| shape.version == version)?;
        Some(&shape.1.title)
    }
}

/// The state that stood at `from`, and each that began after it and before `to`. Of the states within one commit only
/// the last was ever to be seen; that others are here can only excuse, never accuse.
fn moments<T>(past: &[(u64, T)], from: Option<u64>, to: u64) -> impl Iterator<Item = Option<&T>> {
    let began = |offset: u64| from.is_some_and(|from| offset <= from);
    let seen = past.partition_point(|(offset, _)| began(*offset));
    let first = seen
        .checked_sub(1)
        .and_then(|last| past.get(last))
        .map(|(_, state)| state);
    let later = past
        .iter()
        .skip(seen)
        .take_while(move |(offset, _)| *offset < to)
        .map(|(_, state)| Some(state));
    std::iter::once(first).chain(later)
}
