//! Given these events, the tables read so.
#![expect(clippy::unwrap_used, reason = "a test may stop")]

#[path = "kit/given.rs"]
mod given;
#[path = "kit/given_log.rs"]
mod given_log;
#[path = "kit/kit.rs"]
mod kit;
#[path = "kit/rows.rs"]
mod rows;
#[path = "kit/world.rs"]
#[expect(dead_code, reason = "its history is another one")]
mod world;

use events::{Event, content, directory, download};
use given::given;
use given_log::{given_facts, given_visits};
use kit::{Made, drafted, piece, tenant, viewed};
use projectors::{content::ContentFold, directory::DirectoryFold, downloads::DownloadsFold};
use serde_json::json;

/// What happened to one aggregate of one tenant, a commit for each event.
fn happened(subject: &str, events: Vec<Event>) -> Vec<Made> {
    (1..)
        .zip(events)
        .map(|(version, event)| (tenant(0), vec![(subject.to_owned(), version, event)]))
        .collect()
}

#[tokio::test]
async fn a_piece_whose_slug_changes_is_found_under_both() {
    let slug_changed = content::SlugChanged {
        from: "before".into(),
        to: "after".into(),
    };
    let history = happened(
        &piece(1).to_string(),
        vec![
            drafted(1, "before").into(),
            slug_changed.into(),
            content::Archived {}.into(),
        ],
    );
    given::<ContentFold>(history)
        .await
        .reads(
            "content",
            &[json!({"slug": "after", "status": "archived", "version": 3})],
        )
        .await
        .reads(
            "content_versions",
            &[
                json!({"event": "content.drafted.v1"}),
                json!({"event": "content.slug-changed.v1"}),
                json!({"event": "content.archived.v1"}),
            ],
        )
        .await
        .end()
        .await;
}

#[tokio::test]
async fn a_download_that_was_started_is_no_longer_queued() {
    let queued = download::Queued {
        title: "A book".into(),
        url: "https://example.org/a".into(),
        author: None,
        format: None,
        sha256: None,
        priority: 1,
    };
    let sooner = download::Reprioritised { priority: 9 };
    let history = happened(
        &piece(1).to_string(),
        vec![queued.into(), sooner.into(), download::Started {}.into()],
    );
    given::<DownloadsFold>(history)
        .await
        .reads(
            "downloads",
            &[json!({"status": "running", "priority": 9, "attempts": 1, "version": 3})],
        )
        .await
        .end()
        .await;
}

#[tokio::test]
async fn a_tenant_that_was_created_exists() {
    let created = directory::TenantCreated { name: "acme".into() };
    let history = happened(&tenant(0).to_string(), vec![created.into()]);
    given::<DirectoryFold>(history)
        .await
        .reads(
            "tenants",
            &[json!({"name": "acme", "tenant": tenant(0).to_string()})],
        )
        .await
        .reads("sites", &[])
        .await
        .end()
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_told_late_is_where_the_visit_began() {
    given_visits(vec![
        vec![viewed(1, 7, 10, "/second"), viewed(2, 7, 12, "/third")],
        vec![viewed(3, 7, 1, "/first")],
        // Half an hour after the last: another visit.
        vec![viewed(4, 7, 50, "/again")],
    ])
    .await
    .reads(
        "sessions",
        &[
            json!({"entry_page": "/first", "exit_page": "/third", "pageviews": 3, "is_bounce": false}),
            json!({"entry_page": "/again", "exit_page": "/again", "pageviews": 1, "is_bounce": true}),
        ],
    )
    .await
    .end()
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_know_a_piece_by_the_slug_that_it_has_now() {
    let slug_changed = content::SlugChanged {
        from: "before".into(),
        to: "after".into(),
    };
    let history = happened(
        &piece(1).to_string(),
        vec![drafted(1, "before").into(), slug_changed.into()],
    );
    given_facts(history)
        .await
        .reads("facts", &[json!({"slug": "after", "status": "draft"})])
        .await
        .end()
        .await;
}
