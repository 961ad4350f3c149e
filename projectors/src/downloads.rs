//! Downloads: event → change. The table is in `read-models/src/downloads.rs`.

use std::collections::{HashMap, HashSet};

use events::{Envelope, Event, Recorded, download, download::Status, event::DownloadEvent};
use read_models::{
    Error, Projection, Write,
    downloads::{self as tables, Changes, Download},
};
use uuid::Uuid;

use crate::{
    content::version_after,
    runner::{
        Entry,
        postgres::{Fold, Place, Unfit},
    },
};

#[cfg(test)]
mod tests;

/// The projection `downloads`.
#[derive(Debug)]
pub struct DownloadsFold;

/// Rows in memory.
#[derive(Debug, Default)]
pub struct Rows {
    downloads: HashMap<(Uuid, Uuid), (Download, State)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Loaded,
    Changed,
    New,
}

impl Fold for DownloadsFold {
    const PROJECTION: Projection = Projection::Downloads;
    const VERSION: &'static str = "1";
    const FAMILIES: &'static [&'static str] = &["download."];
    type Rows = Rows;
    type Changes = Changes;

    async fn load(write: &mut Write, events: &[&Entry]) -> Result<Rows, Error> {
        let rows = tables::load(write, &known_before(events)).await?;
        Ok(Rows::loaded(rows))
    }

    fn fold(rows: &mut Rows, at: &Place, recorded: &Recorded) -> Result<(), Unfit> {
        match &recorded.event {
            Event::Download(event) => rows.fold(at, &recorded.envelope, event),
            Event::Directory(_) | Event::Content(_) | Event::Import(_) | Event::Visit(_) => Ok(()),
        }
    }

    fn skip(rows: &mut Rows, entry: &Entry) {
        if let Some((row, state)) = entry.aggregate().and_then(|key| rows.downloads.get_mut(&key)) {
            row.version += 1;
            if *state == State::Loaded {
                *state = State::Changed;
            }
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

/// The downloads that these events change and do not begin.
fn known_before(events: &[&Entry]) -> Vec<(Uuid, Uuid)> {
    let mut met = HashSet::new();
    let mut known = Vec::new();
    for entry in events
        .iter()
        .filter(|entry| entry.event_type().starts_with("download."))
    {
        let Some(id) = entry.aggregate() else { continue };
        let begins = entry
            .event
            .as_ref()
            .is_ok_and(|it| matches!(it.event, Event::Download(DownloadEvent::Queued(_))));
        if met.insert(id) && !begins {
            known.push(id);
        }
    }
    known
}

fn id(envelope: &Envelope) -> Result<(Uuid, Uuid), Unfit> {
    let download = Uuid::try_parse(&envelope.subject);
    let download = download.map_err(|_| {
        Unfit(format!(
            "its subject {:?} is no id of a download",
            envelope.subject
        ))
    })?;
    Ok((envelope.tenant.uuid(), download))
}

impl Rows {
    fn loaded(rows: Vec<Download>) -> Self {
        let downloads = rows
            .into_iter()
            .map(|row| ((row.tenant, row.download), (row, State::Loaded)));
        Self {
            downloads: downloads.collect(),
        }
    }

    fn fold(&mut self, at: &Place, envelope: &Envelope, event: &DownloadEvent) -> Result<(), Unfit> {
        let key = id(envelope)?;
        let version = version_after(
            envelope,
            self.downloads.get(&key).map_or(0, |(row, _)| row.version),
        )?;
        if let DownloadEvent::Queued(queued) = event {
            if version != 1 {
                return Err(Unfit("a download is first queued once".into()));
            }
            self.downloads
                .insert(key, (first(key, envelope, queued), State::New));
        }
        let found = self
            .downloads
            .get_mut(&key)
            .ok_or_else(|| Unfit("there is no such download".into()))?;
        let (row, state) = found;
        evolve(row, at, envelope, event);
        row.version = version;
        row.updated_at = envelope.time.to_utc();
        row.updated_by = envelope.actor.map(events::PrincipalId::uuid);
        if *state == State::Loaded {
            *state = State::Changed;
        }
        Ok(())
    }

    fn changes(&mut self) -> Changes {
        let mut changes = Changes::default();
        for (row, state) in self.downloads.values_mut() {
            match std::mem::replace(state, State::Loaded) {
                State::New => changes.inserted.push(row.clone()),
                State::Changed => changes.updated.push(row.clone()),
                State::Loaded => {}
            }
        }
        // In the order of the key: its index grows at one end.
        changes
            .inserted
            .sort_unstable_by_key(|row| (row.tenant, row.download));
        changes
    }
}

/// What the event makes of the row.
fn evolve(row: &mut Download, place: &Place, envelope: &Envelope, event: &DownloadEvent) {
    let at = envelope.time.to_utc();
    let queue = |row: &mut Download| {
        row.status = Status::Queued.name().into();
        row.queue_seq = i64::try_from(place.tenant_seq).unwrap_or(i64::MAX);
        row.queue_index = i32::try_from(place.index).unwrap_or(i32::MAX);
    };
    match event {
        DownloadEvent::Queued(_) => queue(row),
        DownloadEvent::Reprioritised(download::Reprioritised { priority }) => row.priority = *priority,
        DownloadEvent::Started(download::Started {}) => {
            row.status = Status::Running.name().into();
            row.attempts += 1;
            row.started_at = Some(at);
        }
        DownloadEvent::Completed(download::Completed { size, sha256 }) => {
            row.status = Status::Completed.name().into();
            row.finished_at = Some(at);
            row.fetched_size = size.map(|size| i64::try_from(size.0).unwrap_or(i64::MAX));
            row.fetched_sha256 = sha256.map(|hash| hash.to_string());
        }
        DownloadEvent::Failed(download::Failed { reason }) => {
            row.status = Status::Failed.name().into();
            row.finished_at = Some(at);
            row.failure = Some(reason.clone());
        }
        DownloadEvent::Cancelled(download::Cancelled {}) => {
            row.status = Status::Cancelled.name().into();
            row.finished_at = Some(at);
        }
        DownloadEvent::Retried(download::Retried {}) => {
            queue(row);
            row.finished_at = None;
            row.failure = None;
        }
    }
}

fn first((tenant, download): (Uuid, Uuid), envelope: &Envelope, queued: &download::Queued) -> Download {
    let at = envelope.time.to_utc();
    let actor = envelope.actor.map(events::PrincipalId::uuid);
    Download {
        tenant,
        download,
        title: queued.title.clone(),
        url: queued.url.clone(),
        author: queued.author.clone(),
        format: queued.format.clone(),
        sha256: queued.sha256.map(|hash| hash.to_string()),
        priority: queued.priority,
        status: String::new(),
        queue_seq: 0,
        queue_index: 0,
        attempts: 0,
        failure: None,
        fetched_size: None,
        fetched_sha256: None,
        queued_at: at,
        queued_by: actor,
        started_at: None,
        finished_at: None,
        updated_at: at,
        updated_by: actor,
        version: 0,
    }
}
