//! What every query carries: who asks, the position that the answer must have, and how long to wait for it.

use std::time::{Duration, Instant};

use axum::extract::FromRequestParts;
use http::{HeaderMap, HeaderValue, header, request::Parts};
use read_models::{
    Progress, Projection, Topic,
    progress::{Part, WaitError, Wanted},
};
use service::{
    Position, Problem,
    position::{self, InvalidPosition},
    prefer,
};
use uuid::Uuid;

use crate::{
    app::App,
    cache::Mark,
    caller::{self, Caller, Right},
    error::Error,
    metrics,
};

/// How long a positioned read waits when it does not say.
const WAIT: Duration = Duration::from_secs(2);
/// How long it waits at most, whatever it says.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// How often one looks whether the end of a log was heard of that a position is before.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A request, as every query sees it.
pub(crate) struct Ask {
    /// Who asks; none without a key.
    pub caller: Option<Caller>,
    /// What the asker has already.
    pub if_none_match: Option<HeaderValue>,
    parts: Vec<Part>,
    deadline: Instant,
}

impl FromRequestParts<App> for Ask {
    type Rejection = Error;

    /// Reads the position, waits for the directory's part of it (the key may be as new), and knows the caller.
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Error> {
        let headers = &parts.headers;
        let if_none_match = headers.get(header::IF_NONE_MATCH).cloned();
        let mut ask = Self {
            caller: None,
            if_none_match,
            parts: Vec::new(),
            deadline: Instant::now(),
        };
        if let Some(position) = Position::from_headers(headers).map_err(Problem::from)? {
            ask.deadline += prefer::wait(headers, MAX_WAIT).unwrap_or(WAIT);
            ask.parts = ask.of_our_log(app.progress(), &position)?;
            ask.check_ends(app.progress()).await?;
            if ask.parts.iter().any(|part| part.topic == Topic::Directory) {
                ask.wait(app.progress(), Projection::Directory, None, None)
                    .await?;
            }
        }
        ask.caller = app.caller(headers).await?;
        Ok(ask)
    }
}

impl Ask {
    fn of_our_log(&self, progress: &Progress, position: &Position) -> Result<Vec<Part>, Error> {
        let log = progress.log().ok_or(Error::NotLive(Projection::Directory))?;
        if position.log() != log {
            return Err(Problem::from(InvalidPosition::OtherLog).into());
        }
        let part = |(topic, partition, next_offset)| Part {
            topic: ours(topic),
            partition,
            next_offset,
        };
        Ok(position.parts().map(part).collect())
    }

    /// Refuses a position that the log does not have, whatever the query reads. As a rule the end that was heard of
    /// last tells; beyond it, the end is heard of anew, as long as the asker would wait.
    async fn check_ends(&self, progress: &Progress) -> Result<(), Error> {
        for part in &self.parts {
            let of_topic = Projection::ALL.into_iter().filter(|projection| {
                projection.topic() == part.topic && progress.live(*projection).is_some()
            });
            let is_known = || {
                of_topic.clone().any(|projection| {
                    let reached = progress.reached(projection, part.partition);
                    reached.is_some_and(|at| part.next_offset <= at.log_end.max(at.next_offset))
                })
            };
            if is_known() {
                continue;
            }
            let heard = async {
                let mut now_and_then = tokio::time::interval(LOOK_AGAIN);
                while !is_known() {
                    now_and_then.tick().await;
                }
            };
            // Nobody who projects it: nobody who knows its end.
            let Some(projection) = of_topic.clone().next() else {
                continue;
            };
            let wanted = Wanted {
                parts: std::slice::from_ref(part),
                ..Wanted::default()
            };
            tokio::select! {
                () = heard => {}
                waited = progress.wait(projection, &wanted, self.deadline) => match waited {
                    Err(error @ (WaitError::BeyondEnd { .. } | WaitError::NoPartition { .. })) => return Err(error.into()),
                    // Whether it must be there is for the query to say.
                    Ok(()) | Err(WaitError::Behind { .. } | WaitError::Parked { .. }) => {}
                },
            }
        }
        Ok(())
    }

    /// Whether the answer must have anything in particular.
    pub(crate) const fn is_positioned(&self) -> bool {
        !self.parts.is_empty()
    }

    /// The caller, who must have shown a key.
    pub(crate) fn signed(&self) -> Result<Caller, Error> {
        self.caller.ok_or_else(caller::needed)
    }

    /// The caller, who must have shown a key with this right.
    pub(crate) fn caller(&self, right: Right) -> Result<Caller, Error> {
        let caller = self.signed()?;
        caller.must(right)?;
        Ok(caller)
    }

    /// Waits until a projection has the position, as far as `tenant`'s rows (or only those of one aggregate)
    /// are concerned. No position: no wait.
    pub(crate) async fn wait(
        &self,
        progress: &Progress,
        projection: Projection,
        tenant: Option<Uuid>,
        subject: Option<&str>,
    ) -> Result<(), Error> {
        if self.parts.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        let wanted = Wanted {
            parts: &self.parts,
            tenant,
            subject,
        };
        let result = progress.wait(projection, &wanted, self.deadline).await;
        let outcome = if result.is_ok() { "reached" } else { "refused" };
        metrics::WAITS
            .with_label_values(&[outcome])
            .observe(began.elapsed().as_secs_f64());
        Ok(result?)
    }

    /// Where the answer to a positioned read is: in the partitions that the asker named, how far these projections
    /// are, at least. Asked for before memory or the tables are. Of other partitions nothing is told: how much is
    /// written there is other tenants' business.
    pub(crate) fn read_at(&self, progress: &Progress, projections: &[Projection]) -> Option<HeaderValue> {
        if self.parts.is_empty() {
            return None;
        }
        let mut position = Position::new(progress.log()?);
        for part in &self.parts {
            for projection in projections
                .iter()
                .filter(|projection| projection.topic() == part.topic)
            {
                let reached = progress.reached(*projection, part.partition)?;
                position.include(theirs(part.topic), part.partition, reached.next_offset);
            }
        }
        Some(position.to_header())
    }

    /// The same, as headers.
    pub(crate) fn headers(&self, progress: &Progress, projections: &[Projection]) -> HeaderMap {
        self.read_at(progress, projections)
            .map(|at| (position::HEADER, at))
            .into_iter()
            .collect()
    }

    /// Waits for the projection, then says what is known of changes: what an entry must not be older than.
    pub(crate) async fn fresh(
        &self,
        progress: &Progress,
        projection: Projection,
        tenant: Uuid,
        subject: Option<&str>,
    ) -> Result<Mark, Error> {
        self.wait(progress, projection, Some(tenant), subject).await?;
        Ok(Mark::now(progress))
    }
}

const fn ours(topic: service::Topic) -> Topic {
    match topic {
        service::Topic::Directory => Topic::Directory,
        service::Topic::Ledger => Topic::Ledger,
        service::Topic::Visits => Topic::Visits,
    }
}

const fn theirs(topic: Topic) -> service::Topic {
    match topic {
        Topic::Directory => service::Topic::Directory,
        Topic::Ledger => service::Topic::Ledger,
        Topic::Visits => service::Topic::Visits,
    }
}
