//! What statistics need to know about content: an event changes the state of one piece. Pure.

use events::{
    Recorded,
    content::{Drafted, Kind},
    event::{ContentEvent, Event},
};
use read_models::facts::Fact;
use serde_json::{Map, Value};
use uuid::Uuid;

/// Names this fold; changed with every change of what it does, which makes a new generation.
pub const FOLD: &str = "content facts 1";

/// An event that cannot follow what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event of a piece of content that was never drafted")]
pub struct NeverDrafted;

/// The piece that an event is about, when it is about one.
pub fn subject(event: &Recorded) -> Option<Uuid> {
    match &event.event {
        Event::Content(_) => event.envelope.subject.parse().ok(),
        Event::Directory(_) | Event::Download(_) | Event::Import(_) | Event::Visit(_) => None,
    }
}

/// The state of a piece after an event at this place of the ledger.
///
/// # Errors
/// [`NeverDrafted`].
pub fn apply(
    before: Option<Fact>,
    event: &Recorded,
    partition: u32,
    offset: u64,
) -> Result<Option<Fact>, NeverDrafted> {
    let (Event::Content(change), Some(content)) = (&event.event, subject(event)) else {
        return Ok(before);
    };
    let mut fact = match (before, change) {
        (_, ContentEvent::Drafted(drafted)) => draft(event.envelope.tenant.uuid(), content, drafted),
        (Some(fact), _) => fact,
        (None, _) => return Err(NeverDrafted),
    };
    match change {
        ContentEvent::Drafted(_) => {}
        ContentEvent::Revised(revised) => {
            if let Some(title) = &revised.title {
                fact.title.clone_from(title);
            }
            if let Some(metadata) = &revised.metadata {
                (fact.path, fact.aliases) = named_paths(metadata);
            }
        }
        ContentEvent::SlugChanged(changed) => fact.slug.clone_from(&changed.to),
        ContentEvent::Scheduled(_) => "scheduled".clone_into(&mut fact.status),
        ContentEvent::Published(published) => {
            "published".clone_into(&mut fact.status);
            fact.published_at = Some(published.at.micros());
        }
        ContentEvent::Unpublished(_) => "unpublished".clone_into(&mut fact.status),
        ContentEvent::Archived(_) => "archived".clone_into(&mut fact.status),
    }
    fact.paths = paths(&fact);
    (fact.log_partition, fact.log_offset) = (partition, offset);
    Ok(Some(fact))
}

fn draft(tenant: Uuid, content: Uuid, drafted: &Drafted) -> Fact {
    let kind = match drafted.kind {
        Kind::Post => "post",
        Kind::Project => "project",
        Kind::Idea => "idea",
        Kind::Page => "page",
        Kind::Resume => "resume",
    };
    let (path, aliases) = named_paths(&drafted.metadata);
    Fact {
        tenant,
        site: drafted.site.uuid(),
        content,
        kind: kind.to_owned(),
        slug: drafted.slug.clone(),
        title: drafted.title.clone(),
        status: "draft".to_owned(),
        path,
        aliases,
        paths: Vec::new(),
        published_at: None,
        log_partition: 0,
        log_offset: 0,
    }
}

/// What `metadata.path` and `metadata.aliases` say, as they stand there.
fn named_paths(metadata: &Map<String, Value>) -> (String, Vec<String>) {
    let path = metadata
        .get("path")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let aliases = metadata
        .get("aliases")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    (
        path,
        aliases
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
    )
}

/// Where a piece is viewed: its own path or `/<kind>/<slug>` (of a page `/<slug>`), then its aliases.
fn paths(fact: &Fact) -> Vec<String> {
    let own = match (fact.path.is_empty(), fact.kind.as_str()) {
        (false, _) => normal(&fact.path),
        (true, "page") => normal(&fact.slug),
        (true, kind) => normal(&format!("{kind}/{}", fact.slug)),
    };
    let mut paths = vec![own];
    for alias in fact.aliases.iter().map(|alias| normal(alias)) {
        if !paths.contains(&alias) {
            paths.push(alias);
        }
    }
    paths
}

/// With a slash at the beginning and none at the end, as the report compares them.
fn normal(path: &str) -> String {
    format!("/{}", path.trim_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(kind: &str, path: &str, aliases: &[&str]) -> Fact {
        let drafted = Drafted {
            site: events::SiteId::new(Uuid::nil()),
            kind: Kind::Post,
            title: "T".to_owned(),
            slug: "a-post".to_owned(),
            body: String::new(),
            summary: None,
            tags: Vec::new(),
            featured: false,
            language: None,
            metadata: Map::new(),
        };
        let aliases = aliases.iter().map(|alias| (*alias).to_owned()).collect();
        Fact {
            kind: kind.to_owned(),
            path: path.to_owned(),
            aliases,
            ..draft(Uuid::nil(), Uuid::nil(), &drafted)
        }
    }

    #[test]
    fn a_piece_is_viewed_at_kind_and_slug_unless_it_names_a_path() {
        assert_eq!(paths(&fact("post", "", &[])), ["/post/a-post"]);
        assert_eq!(paths(&fact("page", "", &[])), ["/a-post"]);
        assert_eq!(paths(&fact("post", "2015/05/15/x/", &[])), ["/2015/05/15/x"]);
    }

    #[test]
    fn aliases_are_further_paths_each_once() {
        assert_eq!(paths(&fact("post", "x", &["/y/", "x", "y"])), ["/x", "/y"]);
    }
}
