//! Commands for partitions that other processes serve: passed on whole, once, to the owner.
//!
//! The process that a request came to authenticates its caller, gives it an id and a deadline, and finds that the
//! partition is not its own. It sends the same request to the same route of the owner that `annals.owners` names, and
//! gives the owner's answer back unchanged. What it knows of the request goes along in one header, which only
//! processes of this installation can write ([`arrived`]); the client's own key does not. An owner that is none (any
//! more) answers 421: then, as when it cannot be reached, the owner is looked up once more. The id serves as the
//! request's key when the client brought none, so sending it twice is no second command.

pub mod arrived;

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::extract::State;
use bytes::{Bytes, BytesMut};
use event_log::{Hint, Partition};
use events::{CommandId, TenantId, directory::Scope};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::{Deserialize, Serialize};
use service::places::Places;
use tokio::sync::Semaphore;
use uuid::Uuid;

use self::arrived::{Arrived, FORWARDED};
use crate::{
    App,
    command::{Body, CommandRequest},
    error::{Error, STILL_RUNNING},
    metrics,
    partition::{UNKNOWN, idempotency::Hash},
};

/// How long one waits for an owner to be known.
const OWNER: Duration = Duration::from_secs(2);
/// How long connecting to an owner may take.
const CONNECT: Duration = Duration::from_secs(1);
/// After the deadline that the owner was told: its answer is on its way.
const GRACE: Duration = Duration::from_millis(500);
/// Shorter than a server keeps an idle connection, so that none is used which it is about to close.
const IDLE: Duration = Duration::from_secs(15);
/// The owner, and once more when that was wrong.
const TRIES: usize = 2;
/// Answers of commands are small.
const ANSWER_MAX: usize = 4 * 1024 * 1024;

/// Where one process asks another whether a key was used.
pub const USED: &str = "/internal/keys/used";

/// What sends requests on. Bounded: what is too much is turned away.
pub struct Forwarder {
    http: Option<reqwest::Client>,
    permits: Semaphore,
    /// By where the owner is: one that does not answer takes half of them at most.
    owners: Arc<Places<String>>,
    /// By tenant: one that sends more than an owner answers leaves the others room at that owner.
    tenants: Arc<Places<TenantId>>,
}

/// What an owner said.
#[derive(Debug)]
pub struct Told {
    /// The status.
    pub status: StatusCode,
    /// Without those that are about the connection.
    pub headers: HeaderMap,
    /// All of it.
    pub body: Bytes,
}

impl Told {
    /// Whether it says that a command with this key is under way.
    fn is_still_running(&self) -> bool {
        #[derive(Deserialize)]
        struct Kind<'a> {
            #[serde(rename = "type", borrow)]
            kind: Cow<'a, str>,
        }
        let kind = serde_json::from_slice::<Kind<'_>>(&self.body);
        self.status == StatusCode::CONFLICT && kind.is_ok_and(|it| it.kind.ends_with(STILL_RUNNING))
    }
}

/// What became of asking an owner.
enum Asked {
    Told(Told),
    /// It is not the owner.
    Misdirected,
    /// Nothing was sent.
    Unreachable(String),
    /// It may have done it.
    Unknown(String),
}

impl Forwarder {
    /// At most so many requests are on their way to others.
    pub fn new(at_once: usize) -> Self {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .pool_idle_timeout(IDLE)
            .redirect(reqwest::redirect::Policy::none())
            // To the owner and nowhere else, whatever the environment says about proxies.
            .no_proxy()
            .build();
        let http = http.inspect_err(|error| tracing::error!(%error, "commands cannot be forwarded"));
        Self {
            http: http.ok(),
            permits: Semaphore::new(at_once.min(Semaphore::MAX_PERMITS)),
            owners: Places::new(at_once.div_ceil(2)),
            tenants: Places::new(at_once.div_ceil(4)),
        }
    }

    /// Room for one more request on its way.
    fn place(&self, owner: String, tenant: TenantId) -> Option<impl Sized + use<'_>> {
        let permit = self.permits.try_acquire().ok()?;
        Some((permit, self.owners.take(owner)?, self.tenants.take(tenant)?))
    }

    async fn ask(&self, app: &App, url: &str, arrived: &Arrived) -> Asked {
        let left = arrived.until.saturating_duration_since(Instant::now());
        let (Some(http), false) = (&self.http, left.is_zero()) else {
            return Asked::Unreachable("there is no time left".to_owned());
        };
        let Some(stamp) = arrived.stamp(app, left) else {
            return Asked::Unreachable("it cannot be said in a header".to_owned());
        };
        let request = http
            .request(arrived.method.clone(), format!("{url}{}", arrived.target))
            .headers(arrived.passed_on())
            .header(FORWARDED, stamp)
            .timeout(left + GRACE)
            .body(arrived.body.clone());
        let unknown = |error: reqwest::Error| Asked::Unknown(service::problem::chain(&error));
        let mut response = match request.send().await {
            Ok(response) if response.status() == StatusCode::MISDIRECTED_REQUEST => {
                return Asked::Misdirected;
            }
            Ok(response) => response,
            Err(error) if error.is_connect() => return Asked::Unreachable(service::problem::chain(&error)),
            Err(error) => return unknown(error),
        };
        let (status, mut headers) = (response.status(), std::mem::take(response.headers_mut()));
        for name in [
            header::CONNECTION,
            header::TRANSFER_ENCODING,
            header::CONTENT_LENGTH,
            header::DATE,
        ] {
            headers.remove(name);
        }
        let mut body = BytesMut::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() <= ANSWER_MAX => body.extend_from_slice(&chunk),
                Ok(Some(_)) => return Asked::Unknown("its answer is too long".to_owned()),
                Ok(None) => break,
                Err(error) => return unknown(error),
            }
        }
        Asked::Told(Told {
            status,
            headers,
            body: body.freeze(),
        })
    }
}

impl App {
    /// Passes a request on to the owner of the partition that it is about. What comes back is said in its stead:
    /// [`Error::Answered`], or why there is no answer.
    pub(crate) async fn elsewhere(&self, partition: Partition, arrived: Option<&Arrived>) -> Error {
        let Some(arrived) = arrived else {
            return Error::NotHere;
        };
        if arrived.was_forwarded {
            return Error::Misdirected;
        }
        let count = |outcome: &str| metrics::FORWARDED.with_label_values(&[outcome]).inc();
        let owner = self.sharing().owners.known().borrow().of(partition).cloned();
        let owner = owner.and_then(|owner| owner.hint.url).unwrap_or_default();
        let forwarder = self.forwarder();
        let Some(_place) = forwarder.place(owner, arrived.caller.principal().tenant) else {
            count("turned_away");
            return Error::Busy;
        };
        // Where it was refused here, though the door is open, it is refused here again.
        let refused_here = self.is_open(partition);
        let (mut wrong, mut unknown) = (None, false);
        for _ in 0..TRIES {
            let Some(hint) = self
                .owner(partition, (wrong.as_ref(), refused_here), arrived.until)
                .await
            else {
                break;
            };
            let url = hint.url.clone().unwrap_or_default();
            let asked = tokio::select! {
                asked = forwarder.ask(self, &url, arrived) => asked,
                () = self.superseded(partition, &hint) => Asked::Unknown("another process took over".to_owned()),
            };
            match asked {
                // The first try is still under way there: nobody sent it twice but this process.
                Asked::Told(told) if unknown && told.is_still_running() => break,
                Asked::Told(told) => {
                    count("answered");
                    return Error::Answered(Box::new(told));
                }
                Asked::Misdirected => {
                    count("misdirected");
                    wrong = Some(hint);
                }
                Asked::Unreachable(error) => {
                    count("unreachable");
                    tracing::info!(%partition, url, error, "the owner cannot be reached");
                    wrong = Some(hint);
                }
                Asked::Unknown(error) => {
                    count("unknown");
                    tracing::warn!(%partition, url, error, "the owner did not answer");
                    unknown = true;
                }
            }
        }
        if unknown {
            return Error::NotServed(UNKNOWN);
        }
        count("no_owner");
        Error::NotHere
    }

    /// Who is known to serve a partition, and not to be wrong; waits a little for that.
    async fn owner(
        &self,
        partition: Partition,
        (wrong, refused_here): (Option<&Hint>, bool),
        until: Instant,
    ) -> Option<Hint> {
        let until = until.min(Instant::now() + OWNER);
        let mut hints = self.sharing().owners.known();
        let of = |hints: &event_log::Hints| {
            let hint = &hints.of(partition)?.hint;
            let known = hint.url.is_some() && Some(hint) != wrong;
            (known && !(refused_here && hint.url == self.sharing().url)).then(|| hint.clone())
        };
        let known = hints.wait_for(|hints| of(hints).is_some());
        match tokio::time::timeout_at(until.into(), known).await {
            Ok(Ok(hints)) => of(&hints),
            Ok(Err(_)) | Err(_) => None,
        }
    }

    /// Waits until a later owner is known; the earlier one has a moment more to answer.
    async fn superseded(&self, partition: Partition, by: &Hint) {
        let mut hints = self.sharing().owners.known();
        let later = hints.wait_for(|hints| {
            // The same owner in a later epoch decides anew what it had not done: it still answers.
            hints
                .of(partition)
                .is_some_and(|known| known.hint.epoch > by.epoch && known.hint.owner != by.owner)
        });
        if later.await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(GRACE).await;
    }

    /// Asks the owner of a tenant's partition whether a command there had this key.
    pub(crate) async fn used_at(
        &self,
        partition: Partition,
        key: Hash,
        arrived: Option<&Arrived>,
    ) -> Result<bool, Error> {
        let cannot =
            || Error::NotServed("it cannot be told now whether this Idempotency-Key was used before");
        let Some(arrived) = arrived else {
            return Err(cannot());
        };
        let question = UsedBody {
            key: Uuid::from_bytes(key),
        };
        // A text and nothing else: this cannot fail.
        let body = Bytes::from(serde_json::to_vec(&question).unwrap_or_default());
        let json = HeaderValue::from_static("application/json");
        let question = Arrived {
            method: Method::POST,
            target: USED.to_owned(),
            headers: HeaderMap::from_iter([(header::CONTENT_TYPE, json)]),
            request: arrived::request_hash(self, &Method::POST, USED, &body),
            body,
            caller: arrived.caller.clone(),
            command: CommandId::new(Uuid::now_v7()),
            was_forwarded: false,
            ..*arrived
        };
        let Error::Answered(told) = self.elsewhere(partition, Some(&question)).await else {
            return Err(cannot());
        };
        let answer: Option<UsedAnswer> = serde_json::from_slice(&told.body).ok();
        answer
            .filter(|_| told.status.is_success())
            .map(|answer| answer.used)
            .ok_or_else(cannot)
    }
}

/// A key that may have been used.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsedBody {
    /// Its hash.
    key: Uuid,
}

/// Whether it was.
#[derive(Debug, Serialize, Deserialize)]
pub struct UsedAnswer {
    used: bool,
}

impl Body for UsedBody {
    const SCOPES: &'static [Scope] = &[Scope::Admin, Scope::Operator];
}

/// Answers another process. Nobody else finds anything here.
pub async fn used(
    State(app): State<App>,
    request: CommandRequest<UsedBody>,
) -> Result<axum::Json<UsedAnswer>, Error> {
    let forwarded = request
        .context
        .arrived
        .is_some_and(|arrived| arrived.was_forwarded);
    if !forwarded {
        return Err(Error::NotFound("thing"));
    }
    let tenant = request.context.principal.tenant;
    let (handle, _) = app.ledger(tenant)?;
    match handle.used(tenant, request.body.key.into_bytes()).await {
        Ok(used) => Ok(axum::Json(UsedAnswer { used })),
        Err(Error::NotHere) => Err(Error::Misdirected),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_an_owner_nor_a_tenant_takes_the_room_of_the_others() {
        let forwarder = Forwarder::new(8);
        let [one, two, three] = [(); 3].map(|()| TenantId::new(Uuid::now_v7()));
        let place = |owner: &str, tenant| forwarder.place(owner.to_owned(), tenant);
        let held = [place("a", one).unwrap(), place("a", one).unwrap()];
        assert!(place("a", one).is_none(), "it has its share");
        assert!(place("b", one).is_none(), "at any owner");
        let more = [place("a", two).unwrap(), place("a", two).unwrap()];
        assert!(place("a", three).is_none(), "this owner has its share");
        let others = [place("b", three).unwrap(), place("b", three).unwrap()];
        drop(held);
        assert!(place("b", one).is_some());
        drop((more, others));
    }

    #[test]
    fn what_is_under_way_elsewhere_is_known_from_what_is_refused() {
        let told = |status, kind: &str| Told {
            status,
            headers: HeaderMap::new(),
            body: format!(r#"{{"type":"/problems/{kind}","title":"x","status":409}}"#).into(),
        };
        assert!(told(StatusCode::CONFLICT, STILL_RUNNING).is_still_running());
        assert!(!told(StatusCode::CONFLICT, "slug-taken").is_still_running());
        assert!(!told(StatusCode::OK, STILL_RUNNING).is_still_running());
    }
}
