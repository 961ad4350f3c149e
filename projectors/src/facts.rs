//! What statistics need to know about content: an event changes the state of one piece. Pure.

use events::{
    Recorded,
    content::Drafted,
    event::{ContentEvent, Event},
};
use read_models::facts::Fact;
use uuid::Uuid;

use crate::content::path::{Named, Paths, kind_name};

/// Names this fold; changed with every change of what it does, which makes a new generation.
pub const FOLD: &str = "content facts 4";

/// Paths that are remembered of a piece when they are no longer its own: the last ones.
const FORMER: usize = 100;

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
    // Nobody has viewed what was never published.
    let was = if fact.published_at.is_some() {
        fact.paths.clone()
    } else {
        Vec::new()
    };
    match change {
        ContentEvent::Drafted(_) => {}
        ContentEvent::Revised(revised) => {
            if let Some(title) = &revised.title {
                fact.title.clone_from(title);
            }
            if let Some(metadata) = &revised.metadata {
                let Named { path, aliases } = Named::of(metadata);
                (fact.path, fact.aliases) = (path.unwrap_or_default(), aliases);
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
    remember(&mut fact, was);
    (fact.log_partition, fact.log_offset) = (partition, offset);
    Ok(Some(fact))
}

fn draft(tenant: Uuid, content: Uuid, drafted: &Drafted) -> Fact {
    let Named { path, aliases } = Named::of(&drafted.metadata);
    Fact {
        tenant,
        site: drafted.site.uuid(),
        content,
        kind: kind_name(drafted.kind).to_owned(),
        slug: drafted.slug.clone(),
        title: drafted.title.clone(),
        status: "draft".to_owned(),
        path: path.unwrap_or_default(),
        aliases,
        paths: Vec::new(),
        former: Vec::new(),
        published_at: None,
        log_partition: 0,
        log_offset: 0,
    }
}

/// Where a piece is viewed, as far as its row tells.
fn paths(fact: &Fact) -> Vec<String> {
    let named = Named {
        path: Some(fact.path.clone()).filter(|path| !path.is_empty()),
        aliases: fact.aliases.clone(),
    };
    Paths::new(&fact.kind, &fact.slug, named).all()
}

/// Visits to where a piece was viewed before are still its own, and so are those who come by an old address.
fn remember(fact: &mut Fact, was: Vec<String>) {
    let Fact { former, paths, .. } = fact;
    former.retain(|path| !was.contains(path));
    former.extend(was);
    former.retain(|path| !paths.contains(path));
    former.drain(..former.len().saturating_sub(FORMER));
}

#[cfg(test)]
mod tests {
    use events::content::Kind;
    use serde_json::{Value, json};

    use super::*;

    fn fact(kind: Kind, metadata: Value) -> Fact {
        let Value::Object(metadata) = metadata else {
            panic!("metadata is an object")
        };
        let drafted = Drafted {
            site: events::SiteId::new(Uuid::nil()),
            kind,
            title: "T".to_owned(),
            slug: "a-post".to_owned(),
            body: String::new(),
            summary: None,
            tags: Vec::new(),
            featured: false,
            language: None,
            metadata,
        };
        draft(Uuid::nil(), Uuid::nil(), &drafted)
    }

    #[test]
    fn a_piece_is_viewed_where_its_page_is() {
        for (kind, metadata) in [
            (Kind::Post, json!({})),
            (Kind::Page, json!({})),
            (Kind::Post, json!({"path": "2015/05/15/x/"})),
            (Kind::Post, json!({"path": " /x ", "aliases": "one"})),
            (
                Kind::Post,
                json!({"path": "x", "aliases": ["/y/", " z ", "x", "", 3]}),
            ),
        ] {
            let Value::Object(map) = &metadata else {
                panic!("an object")
            };
            let page = Paths::of(kind, "a-post", map);
            assert_eq!(paths(&fact(kind, metadata.clone())), page.all(), "{metadata}");
        }
        let one = fact(Kind::Post, json!({"aliases": "one"}));
        assert_eq!(paths(&one), ["/post/a-post", "/one"]);
    }

    #[test]
    fn aliases_are_further_paths_each_once() {
        let several = fact(Kind::Post, json!({"path": "x", "aliases": ["/y/", "x", "y"]}));
        assert_eq!(paths(&several), ["/x", "/y"]);
        // As visits have them.
        let escaped = fact(
            Kind::Post,
            json!({"path": "x", "aliases": ["/%c3%a9/", "/é", "/%00", "/%ff"]}),
        );
        assert_eq!(paths(&escaped), ["/x", "/é", "/%00", "/%ff"]);
    }

    #[test]
    fn where_a_piece_was_viewed_is_remembered() {
        let mut after = fact(Kind::Post, json!({}));
        "a".clone_into(&mut after.slug);
        after.paths = paths(&after);
        let mut go = |to: &str| {
            let was = after.paths.clone();
            to.clone_into(&mut after.slug);
            after.paths = paths(&after);
            remember(&mut after, was);
            after.former.clone()
        };
        assert!(go("a").is_empty(), "nothing was left");
        assert_eq!(go("b"), ["/post/a"]);
        assert_eq!(go("c"), ["/post/a", "/post/b"]);
        assert_eq!(go("a"), ["/post/b", "/post/c"], "it is its own again");
        for number in 0..=FORMER {
            go(&number.to_string());
        }
        let former = go("z");
        assert_eq!((former.len(), former[FORMER - 1].as_str()), (FORMER, "/post/100"));
    }
}
