//! What a command is answered with: a pure function of its record, so that a retry hears the same again.

use axum::response::{IntoResponse, Response};
use events::{
    Event, Recorded,
    event::{ContentEvent, DirectoryEvent, DownloadEvent, ImportEvent},
};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use service::Position;

use crate::partition::state::Unchanged;

/// Status, headers and body of a command that was done.
#[derive(Debug)]
pub struct Answer {
    /// 200, 201 or 202.
    pub status: StatusCode,
    /// Where what was made is.
    pub location: Option<String>,
    /// The version that `ETag` shows, of commands about one thing.
    pub version: Option<u64>,
    /// What the client is told.
    pub body: Value,
}

impl Answer {
    fn ok(version: u64, body: Value) -> Self {
        Self {
            status: StatusCode::OK,
            location: None,
            version: Some(version),
            body,
        }
    }

    fn created(location: String, version: u64, body: Value) -> Self {
        Self {
            status: StatusCode::CREATED,
            location: Some(location),
            version: Some(version),
            body,
        }
    }

    /// What the client of this commit hears. The last event decides, being about what the command is about.
    pub fn of(events: &[Recorded]) -> Self {
        let Some(last) = events.last() else {
            return Self {
                status: StatusCode::OK,
                location: None,
                version: None,
                body: json!({}),
            };
        };
        let (id, version) = (
            &last.envelope.subject,
            last.envelope.aggregate_version.unwrap_or(0),
        );
        match &last.event {
            Event::Content(event) => content(id, version, events, event),
            Event::Download(_) if events.len() > 1 => reordered(events),
            Event::Download(event) => download(id, version, event),
            Event::Import(event) => import(id, version, event),
            Event::Directory(event) => directory(last, version, event),
            // No command records a visit.
            Event::Visit(_) => Self::ok(version, json!({"id": id})),
        }
    }
}

impl From<Unchanged> for Answer {
    fn from(Unchanged { version, body }: Unchanged) -> Self {
        Self {
            status: StatusCode::OK,
            location: None,
            version,
            body,
        }
    }
}

fn content(id: &str, version: u64, events: &[Recorded], last: &ContentEvent) -> Answer {
    let slug = events.iter().rev().find_map(|recorded| match &recorded.event {
        Event::Content(ContentEvent::Drafted(event)) => Some(&event.slug),
        Event::Content(ContentEvent::SlugChanged(event)) => Some(&event.to),
        Event::Content(_) | Event::Directory(_) | Event::Download(_) | Event::Import(_) | Event::Visit(_) => {
            None
        }
    });
    let mut body = json!({"id": id, "version": version});
    let mut tell = |name: &str, value: Value| body[name] = value;
    if let Some(slug) = slug {
        tell("slug", json!(slug));
    }
    match last {
        ContentEvent::Drafted(_) => {
            tell("status", json!("draft"));
            return Answer::created(format!("/api/v1/content/{id}"), version, body);
        }
        ContentEvent::Revised(_) | ContentEvent::SlugChanged(_) => {}
        ContentEvent::Scheduled(event) => {
            tell("status", json!("scheduled"));
            tell("at", json!(event.at));
        }
        ContentEvent::Published(event) => {
            tell("status", json!("published"));
            tell("at", json!(event.at));
        }
        ContentEvent::Unpublished(_) => tell("status", json!("unpublished")),
        ContentEvent::Archived(_) => tell("status", json!("archived")),
    }
    Answer::ok(version, body)
}

fn download(id: &str, version: u64, event: &DownloadEvent) -> Answer {
    let status = match event {
        DownloadEvent::Queued(_) | DownloadEvent::Reprioritised(_) | DownloadEvent::Retried(_) => "queued",
        DownloadEvent::Started(_) => "running",
        DownloadEvent::Completed(_) => "completed",
        DownloadEvent::Failed(_) => "failed",
        DownloadEvent::Cancelled(_) => "cancelled",
    };
    let mut body = json!({"id": id, "status": status, "version": version});
    match event {
        DownloadEvent::Queued(_) => {
            return Answer::created(format!("/api/v1/downloads/{id}"), version, body);
        }
        DownloadEvent::Reprioritised(event) => {
            body["priority"] = json!(event.priority);
            // As of several: a list of which one has changed.
            body["changed"] = json!([{"id": id, "version": version}]);
        }
        DownloadEvent::Started(_)
        | DownloadEvent::Completed(_)
        | DownloadEvent::Failed(_)
        | DownloadEvent::Cancelled(_)
        | DownloadEvent::Retried(_) => {}
    }
    Answer::ok(version, body)
}

fn reordered(events: &[Recorded]) -> Answer {
    let changed: Vec<Value> = events
        .iter()
        .map(|recorded| json!({"id": recorded.envelope.subject, "version": recorded.envelope.aggregate_version}))
        .collect();
    Answer {
        status: StatusCode::OK,
        location: None,
        version: None,
        body: json!({"changed": changed}),
    }
}

fn import(id: &str, version: u64, event: &ImportEvent) -> Answer {
    match event {
        ImportEvent::Started(_) => Answer::created(
            format!("/api/v1/imports/{id}"),
            version,
            json!({"id": id, "status": "running", "next": 0, "version": version}),
        ),
        ImportEvent::Advanced(event) => Answer::ok(
            version,
            json!({"id": id, "status": "running", "next": event.next.0, "version": version}),
        ),
        ImportEvent::Completed(_) => Answer::ok(
            version,
            json!({"id": id, "status": "completed", "version": version}),
        ),
    }
}

fn directory(recorded: &Recorded, version: u64, event: &DirectoryEvent) -> Answer {
    let id = &recorded.envelope.subject;
    match event {
        DirectoryEvent::TenantCreated(event) => Answer::created(
            format!("/api/v1/tenants/{id}"),
            version,
            json!({"id": id, "name": event.name, "version": version}),
        ),
        DirectoryEvent::SiteCreated(event) => Answer::created(
            format!("/api/v1/sites/{}", event.domain),
            version,
            json!({"id": id, "domain": event.domain, "timezone": event.timezone, "version": version}),
        ),
        DirectoryEvent::PrincipalCreated(_) => Answer::ok(version, json!({"id": id, "version": version})),
        DirectoryEvent::PrincipalErased(_) => {
            Answer::ok(version, json!({"id": id, "status": "erased", "version": version}))
        }
        DirectoryEvent::KeyIssued(event) => Answer::created(
            format!("/api/v1/keys/{id}"),
            version,
            json!({
                "id": id, "tenant": recorded.envelope.tenant, "principal": event.principal,
                "scopes": event.scopes, "version": version,
            }),
        ),
        DirectoryEvent::KeyRevoked(_) => Answer::ok(
            version,
            json!({"id": id, "status": "revoked", "version": version}),
        ),
        DirectoryEvent::FeatureLevelRaised(event) => {
            Answer::ok(version, json!({"level": event.level, "version": version}))
        }
    }
}

/// An answer and the position that it stands at.
#[derive(Debug)]
pub struct Accepted {
    /// What the client hears.
    pub answer: Answer,
    /// What it may ask queries to wait for.
    pub position: Position,
}

impl IntoResponse for Accepted {
    fn into_response(self) -> Response {
        let Answer {
            status,
            location,
            version,
            body,
        } = self.answer;
        let mut response = (status, axum::Json(body)).into_response();
        let headers = response.headers_mut();
        let mut insert = |name: HeaderName, text: String| {
            // Ids, numbers and domains in ASCII, all of which a header takes.
            if let Ok(value) = HeaderValue::try_from(text) {
                headers.insert(name, value);
            }
        };
        if let Some(location) = location {
            insert(header::LOCATION, location);
        }
        if let Some(version) = version {
            insert(header::ETAG, format!("\"{version}\""));
        }
        headers.insert(service::position::HEADER, self.position.to_header());
        response
    }
}
