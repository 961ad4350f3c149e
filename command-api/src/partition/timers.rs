//! What is to be published at which time, and by whom it was asked.
//!
//! A timer belongs to the partition's owner and enters the log as an ordinary commit: its actor is who
//! scheduled, its cause the command that did. It is rebuilt from the log, so a restart loses none.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use events::{CommandId, ContentId, Envelope, PrincipalId, TenantId, Timestamp, event::ContentEvent};
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use super::{Request, now};

/// A publication to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timer {
    /// Whose.
    pub tenant: TenantId,
    /// What.
    pub content: ContentId,
    /// Who scheduled it.
    pub actor: Option<PrincipalId>,
    /// The command that scheduled it.
    pub causation: Option<CommandId>,
    /// What it belongs to, as its caller said.
    pub correlation: Option<Uuid>,
    /// The trace that it continues.
    pub traceparent: Option<String>,
}

/// Every timer of a partition.
#[derive(Debug, Clone, Default)]
pub struct Timers {
    due: BTreeMap<(Timestamp, ContentId), Timer>,
    times: HashMap<ContentId, Timestamp>,
}

impl Timers {
    /// Follows what happens to a piece of content.
    pub fn follow(&mut self, content: ContentId, event: &ContentEvent, envelope: &Envelope) {
        match event {
            ContentEvent::Scheduled(scheduled) => {
                self.stop(content);
                let timer = Timer {
                    tenant: envelope.tenant,
                    content,
                    actor: envelope.actor,
                    causation: envelope.causation,
                    correlation: envelope.correlation,
                    traceparent: envelope.traceparent.clone(),
                };
                self.due.insert((scheduled.at, content), timer);
                self.times.insert(content, scheduled.at);
            }
            ContentEvent::Published(_) | ContentEvent::Unpublished(_) | ContentEvent::Archived(_) => {
                self.stop(content);
            }
            ContentEvent::Drafted(_) | ContentEvent::Revised(_) | ContentEvent::SlugChanged(_) => {}
        }
    }

    /// When the next one is due.
    pub fn next(&self) -> Option<Timestamp> {
        self.due.keys().next().map(|(at, _)| *at)
    }

    /// The first whose time has come.
    pub fn first_due(&self, now: Timestamp) -> Option<&Timer> {
        self.due
            .first_key_value()
            .filter(|((at, _), _)| *at <= now)
            .map(|(_, timer)| timer)
    }

    /// Forgets one.
    pub fn stop(&mut self, content: ContentId) {
        if let Some(at) = self.times.remove(&content) {
            self.due.remove(&(at, content));
        }
    }
}

/// Asks for what is due when it is due, once at a time.
pub(super) async fn ring(mut due: watch::Receiver<Option<Timestamp>>, requests: mpsc::WeakSender<Request>) {
    loop {
        let next = *due.borrow_and_update();
        let wait = next.map(|at| {
            let micros = at.micros().saturating_sub(now().micros()).max(0);
            // A clock that is set back must not delay a publication by more than a minute.
            Duration::from_micros(micros.unsigned_abs()).min(Duration::from_secs(60))
        });
        let rung = match wait {
            Some(wait) if wait.is_zero() => true,
            Some(wait) => tokio::select! {
                changed = due.changed() => if changed.is_err() { return } else { false },
                () = tokio::time::sleep(wait) => next.is_some_and(|at| at <= now()),
            },
            None => {
                if due.changed().await.is_err() {
                    return;
                } else {
                    false
                }
            }
        };
        if rung {
            let (reply, answered) = oneshot::channel();
            let Some(requests) = requests.upgrade() else {
                return;
            };
            if requests.send(Request::Due { reply }).await.is_err() {
                return;
            }
            drop(requests);
            if answered.await.is_err() {
                // It could not be published now, because the partition is not served.
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}
