//! What is to be published at which time, and by whom it was asked.
//!
//! A timer belongs to the partition's owner and enters the log as an ordinary commit: its actor is who
//! scheduled, its cause the command that did. It is rebuilt from the log, so a restart loses none.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use events::{CommandId, ContentId, Envelope, PrincipalId, TenantId, Timestamp, event::ContentEvent};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use super::{Request, now};

/// A publication to come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    /// When.
    pub at: Timestamp,
    /// Who scheduled it.
    pub actor: Option<PrincipalId>,
    /// The command that scheduled it.
    pub causation: Option<CommandId>,
    /// What it belongs to, as its caller said.
    pub correlation: Option<Uuid>,
    /// The trace that it continues.
    pub traceparent: Option<String>,
}

impl Timer {
    /// What an event makes of the timer of its piece: `Some(None)` stops it, none leaves it as it is.
    pub fn follow(event: &ContentEvent, envelope: &Envelope) -> Option<Option<Self>> {
        match event {
            ContentEvent::Scheduled(scheduled) => Some(Some(Self {
                at: scheduled.at,
                actor: envelope.actor,
                causation: envelope.causation,
                correlation: envelope.correlation,
                traceparent: envelope.traceparent.clone(),
            })),
            ContentEvent::Published(_) | ContentEvent::Unpublished(_) | ContentEvent::Archived(_) => {
                Some(None)
            }
            ContentEvent::Drafted(_) | ContentEvent::Revised(_) | ContentEvent::SlugChanged(_) => None,
        }
    }
}

/// The order in which the timers of a partition ring; the timers themselves are rows of its state.
#[derive(Debug, Default)]
pub struct Timers {
    due: BTreeSet<(Timestamp, ContentId, TenantId)>,
    times: HashMap<ContentId, Timestamp>,
}

impl Timers {
    /// A piece is to be published then; or, without a time, not any more.
    pub fn set(&mut self, tenant: TenantId, content: ContentId, at: Option<Timestamp>) {
        let before = match at {
            Some(at) => self.times.insert(content, at),
            None => self.times.remove(&content),
        };
        if let Some(before) = before {
            self.due.remove(&(before, content, tenant));
        }
        if let Some(at) = at {
            self.due.insert((at, content, tenant));
        }
    }

    /// When the next one is due.
    pub fn next(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, ..)| *at)
    }

    /// The first whose time has come.
    pub fn first_due(&self, now: Timestamp) -> Option<(TenantId, ContentId)> {
        let (_, content, tenant) = self.due.first().filter(|(at, ..)| *at <= now)?;
        Some((*tenant, *content))
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
