//! One example of every event, as full as it gets. A new event needs one here: a test says so.

use std::collections::BTreeMap;

use events::{
    CommandId, ContentId, Envelope, Event, EventId, ImportId, PrincipalId, Recorded, Sealed, Sha256, SiteId,
    TenantId, VisitorId, Whole, content, directory, download, import, visit,
};
use serde_json::json;
use uuid::Uuid;

const TENANT: Uuid = id(1);
const SITE: Uuid = id(2);
const PRINCIPAL: Uuid = id(3);
const CONTENT: Uuid = id(4);
const DOWNLOAD: Uuid = id(5);
const IMPORT: Uuid = id(6);
const KEY: &str = "k7Qm2ZxA";

/// Readable ids in the form of a UUIDv7.
const fn id(number: u128) -> Uuid {
    Uuid::from_u128(0x019a_a3b4_c5d6_7000_8000_0000_0000_0000 + number)
}

/// An event of the ledger or the directory: decided, so with a version and an actor.
fn decided(subject: impl ToString, version: u64, event: impl Into<Event>) -> Recorded {
    let envelope = Envelope {
        id: EventId::new(id(0x100 + u128::from(version))),
        subject: subject.to_string(),
        time: "2026-11-21T16:03:00.123456Z".parse().expect("a time"),
        tenant: TenantId::new(TENANT),
        aggregate_version: Some(version),
        actor: Some(PrincipalId::new(PRINCIPAL)),
        causation: Some(CommandId::new(id(0x200))),
        correlation: Some(id(0x300)),
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
    };
    Recorded {
        envelope,
        event: event.into(),
    }
}

/// A visit: without version and actor.
fn visited(event: impl Into<Event>) -> Recorded {
    let mut recorded = decided(SITE, 1, event);
    recorded.envelope.aggregate_version = None;
    recorded.envelope.actor = None;
    recorded.envelope.causation = None;
    recorded.envelope.correlation = None;
    recorded
}

/// An event of the installation, which is in no tenant.
fn installation(event: impl Into<Event>) -> Recorded {
    let mut recorded = decided("installation", 1, event);
    recorded.envelope.tenant = TenantId::new(Uuid::nil());
    recorded
}

fn of_directory() -> Vec<Recorded> {
    let key = || KEY.parse().expect("a key id");
    vec![
        decided(TENANT, 1, directory::TenantCreated { name: "acme".into() }),
        decided(
            SITE,
            1,
            directory::SiteCreated {
                domain: "blog.example.org".into(),
                name: Some("Our blog".into()),
                timezone: "Europe/Berlin".into(),
            },
        ),
        decided(
            PRINCIPAL,
            1,
            directory::PrincipalCreated {
                name: Some(Sealed {
                    kid: id(0x400),
                    alg: "xchacha20poly1305".into(),
                    nonce: "AAECAwQFBgcICQoLDA0ODxAREhMUFRYX".into(),
                    ct: "c2VhbGVkIHRvZ2V0aGVyIHdpdGggaXRzIHRhZw".into(),
                }),
            },
        ),
        decided(PRINCIPAL, 2, directory::PrincipalErased {}),
        decided(
            KEY,
            1,
            directory::KeyIssued {
                key: key(),
                principal: PrincipalId::new(PRINCIPAL),
                secret_hash: Sha256([0xab; 32]),
                scopes: vec![directory::Scope::ContentWrite, directory::Scope::Read],
            },
        ),
        decided(KEY, 2, directory::KeyRevoked { key: key() }),
        installation(directory::FeatureLevelRaised { level: 1 }),
    ]
}

fn of_content() -> Vec<Recorded> {
    let tomorrow = "2026-11-22T08:00:00Z".parse().expect("a time");
    let metadata = |value: serde_json::Value| value.as_object().expect("an object").clone();
    vec![
        decided(
            CONTENT,
            1,
            content::Drafted {
                site: SiteId::new(SITE),
                kind: content::Kind::Post,
                title: "Hello, world".into(),
                slug: "hello-world".into(),
                body: "# Hello\n\nIt *works*.".into(),
                summary: Some("The first post.".into()),
                tags: vec!["rust".into(), "annals".into()],
                featured: true,
                language: Some("en".into()),
                metadata: metadata(json!({"authors": ["Ada"], "path": "/2026/11/hello", "weight": 1.5})),
            },
        ),
        decided(
            CONTENT,
            2,
            content::Revised {
                title: Some("Hello, everyone".into()),
                body: Some("# Hello\n\nIt works \"well\".".into()),
                summary: Some(content::Optional { is: None }),
                tags: Some(vec![]),
                featured: Some(false),
                language: Some(content::Optional {
                    is: Some("pt-BR".into()),
                }),
                metadata: Some(metadata(json!({}))),
            },
        ),
        decided(
            CONTENT,
            3,
            content::SlugChanged {
                from: "hello-world".into(),
                to: "hello-everyone".into(),
            },
        ),
        decided(CONTENT, 4, content::Scheduled { at: tomorrow }),
        decided(CONTENT, 5, content::Published { at: tomorrow }),
        decided(CONTENT, 6, content::Unpublished {}),
        decided(CONTENT, 7, content::Archived {}),
    ]
}

fn of_downloads() -> Vec<Recorded> {
    let hash = Sha256([0xcd; 32]);
    vec![
        decided(
            DOWNLOAD,
            1,
            download::Queued {
                title: "Frankenstein".into(),
                url: "https://example.org/ebooks/84.epub".into(),
                author: Some("Mary Shelley".into()),
                format: Some("epub".into()),
                sha256: Some(hash),
                priority: 100,
            },
        ),
        decided(DOWNLOAD, 2, download::Reprioritised { priority: -5 }),
        decided(DOWNLOAD, 3, download::Started {}),
        decided(
            DOWNLOAD,
            4,
            download::Completed {
                size: Some(Whole(5_000_000_000)),
                sha256: Some(hash),
            },
        ),
        decided(
            DOWNLOAD,
            5,
            download::Failed {
                reason: "404 Not Found".into(),
            },
        ),
        decided(DOWNLOAD, 6, download::Cancelled {}),
        decided(DOWNLOAD, 7, download::Retried {}),
    ]
}

fn of_imports() -> Vec<Recorded> {
    vec![
        decided(
            IMPORT,
            1,
            import::Started {
                site: SiteId::new(SITE),
                source: "access.log".into(),
                fingerprint: Sha256([0xef; 32]),
            },
        ),
        decided(IMPORT, 2, import::Advanced { next: Whole(1000) }),
        decided(IMPORT, 3, import::Completed {}),
    ]
}

fn a_visit() -> visit::Visit {
    let text = |text: &str| Some(text.to_owned());
    visit::Visit {
        site: SiteId::new(SITE),
        visitor: VisitorId::new(0x00c0_ffee_0123_4567),
        hostname: "blog.example.org".into(),
        pathname: "/post/hello-world".into(),
        referrer: text("news.ycombinator.com/item"),
        source: text("Hacker News"),
        device: text("Desktop"),
        browser: text("Firefox"),
        os: text("Linux"),
        utm: BTreeMap::from([("source".into(), "hn".into()), ("medium".into(), "link".into())]),
        content: Some(ContentId::new(CONTENT)),
        props: BTreeMap::from([("author".into(), "Ada".into())]),
        import: Some(visit::ImportLine {
            id: ImportId::new(IMPORT),
            line: Whole(12),
        }),
    }
}

fn of_visits() -> Vec<Recorded> {
    vec![
        visited(visit::PageViewed { visit: a_visit() }),
        visited(visit::CustomEventRecorded {
            visit: a_visit(),
            name: "Signup".into(),
            interactive: true,
            revenue: Some(visit::Revenue {
                amount: "19.99".into(),
                currency: "EUR".into(),
            }),
        }),
        visited(visit::EngagementRecorded {
            visit: a_visit(),
            engaged_ms: 4200,
            scroll_depth: Some(80),
        }),
    ]
}

/// All examples.
pub(crate) fn examples() -> Vec<Recorded> {
    [
        of_directory(),
        of_content(),
        of_downloads(),
        of_imports(),
        of_visits(),
    ]
    .concat()
}
