//! Who asks: a key, found in the directory's tables.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, StatusCode, header};
use read_models::{
    Projection, Topic, directory,
    progress::{Part, WaitError, Wanted},
};
use service::{
    Problem,
    key::{Key, SecretHash},
};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use crate::{app::App, cache::Mark, error::Error};

/// How long a key that is well made but unknown is waited for: it may have been made a moment ago.
const NEW_KEY: Duration = Duration::from_millis(500);
/// A projector tells of the log's end every second, and what it tells is looked at every five.
const FOLLOWED: Duration = Duration::from_secs(15);

/// What a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Right {
    /// The tenant's queries.
    Read,
    /// What is above tenants.
    Operate,
    /// What a tenant's admins see of it, and operators of all.
    Administer,
}

/// Whoever showed a key that works.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    /// For whom they act; nil for the first operator, who owns nothing.
    pub tenant: Uuid,
    read: bool,
    operate: bool,
    admin: bool,
}

/// A key as the directory has it.
#[derive(Debug)]
pub(crate) struct KnownKey {
    hash: SecretHash,
    revoked: bool,
    caller: Caller,
}

impl Caller {
    /// Refuses a caller who lacks a right.
    pub(crate) fn must(&self, right: Right) -> Result<(), Error> {
        match right {
            Right::Read if self.read => Ok(()),
            Right::Operate if self.operate => Ok(()),
            Right::Administer if self.operate || self.admin => Ok(()),
            Right::Read => Err(Problem::forbidden("the key lacks the scope read").into()),
            Right::Operate => Err(Problem::forbidden("the key lacks the scope operator").into()),
            Right::Administer => Err(Problem::forbidden("the key lacks the scope admin or operator").into()),
        }
    }

    /// The only tenant whose matters an admin sees; none for an operator, who sees all.
    pub(crate) const fn administers(&self) -> Option<Uuid> {
        if self.operate { None } else { Some(self.tenant) }
    }
}

impl App {
    /// Who asks, when a key came along.
    ///
    /// # Errors
    /// 401 for anything but a key that works.
    pub(crate) async fn caller(&self, headers: &HeaderMap) -> Result<Option<Caller>, Error> {
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            return Ok(None);
        };
        let token = value.to_str().ok().and_then(bearer).ok_or_else(unknown)?;
        if let Some(operator) = &self.0.operator_key
            && bool::from(operator.as_bytes().ct_eq(token.as_bytes()))
        {
            return Ok(Some(Caller {
                tenant: Uuid::nil(),
                read: false,
                operate: true,
                admin: false,
            }));
        }
        let key: Key = token.parse().map_err(|_| unknown())?;
        let known = match self.known_key(key.id()).await? {
            Some(known) => known,
            None => match self.awaited_key(key.id()).await? {
                Some(known) => known,
                None if self.follows_directory() => return Err(unknown()),
                // Whoever has not read the directory to its end cannot say that there is no such key.
                None => {
                    let projection = Projection::Directory;
                    return Err(WaitError::Behind { projection }.into());
                }
            },
        };
        if known.hash != key.hash() || known.revoked {
            return Err(unknown());
        }
        if !self.hears_of_revocations().await {
            return Err(unconfirmed().into());
        }
        Ok(Some(known.caller))
    }

    /// Whether the directory's tables were complete lately: else this key may have been revoked without our knowing.
    async fn hears_of_revocations(&self) -> bool {
        if !self.keys_count() {
            // A projector that has just come back is not notified of: nothing has moved.
            self.progress().ask_again(NEW_KEY).await;
        }
        self.keys_count()
    }

    /// The same, of what is known without asking the tables.
    pub(crate) fn keys_count(&self) -> bool {
        let complete = self.progress().at_end(Projection::Directory, 0);
        complete.is_some_and(|at| at.elapsed() < self.0.keys_unconfirmed)
    }

    /// Whether the directory's tables were at the log's end a moment ago.
    fn follows_directory(&self) -> bool {
        let reached = self.progress().reached(Projection::Directory, 0);
        reached.is_some_and(|at| {
            at.next_offset >= at.log_end && at.end_read_at.is_some_and(|read| read.elapsed() < FOLLOWED)
        })
    }

    async fn known_key(&self, id: &str) -> Result<Option<Arc<KnownKey>>, Error> {
        let needed = Mark::of_directory(self.progress());
        if let Some(known) = self.0.keys.get(id, needed) {
            return Ok(known);
        }
        let read = async |_| -> Result<_, Error> {
            let directory = self.0.tables.live(Projection::Directory)?;
            Ok(directory::key(&directory, id)
                .await?
                .and_then(|row| KnownKey::from_row(&row))
                .map(Arc::new))
        };
        self.0
            .keys
            .get_or_read(id.to_owned(), self.progress(), needed, read)
            .await
    }

    /// Looks again at each change of the directory, for a short time.
    async fn awaited_key(&self, id: &str) -> Result<Option<Arc<KnownKey>>, Error> {
        let Ok(_permit) = self.0.awaited_keys.try_acquire() else {
            return Ok(None);
        };
        let deadline = Instant::now() + NEW_KEY;
        loop {
            let Some(reached) = self.progress().reached(Projection::Directory, 0) else {
                return Ok(None);
            };
            let parts = [Part {
                topic: Topic::Directory,
                partition: 0,
                next_offset: reached.next_offset + 1,
            }];
            let wanted = Wanted {
                parts: &parts,
                ..Wanted::default()
            };
            let moved = self
                .progress()
                .wait(Projection::Directory, &wanted, deadline)
                .await
                .is_ok();
            // Also at the deadline: it may have come between the first look and the first wait.
            let known = self.known_key(id).await?;
            if known.is_some() || !moved {
                return Ok(known);
            }
        }
    }
}

impl KnownKey {
    fn from_row(row: &directory::Key) -> Option<Self> {
        let has = |scope: &str| row.scopes.iter().any(|it| it == scope);
        Some(Self {
            hash: row.secret_hash.parse().ok()?,
            revoked: row.revoked_at.is_some(),
            caller: Caller {
                tenant: row.tenant,
                read: has("read") || has("admin"),
                operate: has("operator"),
                admin: has("admin"),
            },
        })
    }
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn unconfirmed() -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "projection-behind",
        "whether this key still counts cannot be told: the directory's tables have not followed the log for a while; \
         try again, and look at the projector of the directory",
    )
    .retry_after(5)
}

fn unknown() -> Error {
    Problem::unauthorized(
        "the key is not known, or was revoked; send Authorization: Bearer ann_<id>_<secret>",
    )
    .into()
}

/// 401 for what needs a key.
pub(crate) fn needed() -> Error {
    Problem::unauthorized("this needs a key: send Authorization: Bearer ann_<id>_<secret>").into()
}
