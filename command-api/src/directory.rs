//! The directory followed: who and what exists in the whole installation, as this process knows it.
//!
//! A task reads `annals.directory` from its first record on and folds what is admitted. Lookups are in
//! memory. What is not known here is looked for up to the directory's end before it is refused; one question for
//! that end serves all who wait ([`Ends`]).

use std::{
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use event_log::{CommandHashes, CommandName, Commit, Log, Offset, Partition, Stored, admission};
use events::{
    KeyId, PrincipalId, SiteId, TenantId,
    directory::{Directory as Known, Happened, Key, Site},
    feature,
};
use service::{Health, health::Reporter};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    ends::Ends,
    error::Error,
    partition::{
        idempotency::{Hash, Kept, Keys},
        now,
    },
};

/// How long a request waits for the directory's end before it gives up with 503.
const PATIENCE: Duration = Duration::from_secs(2);
/// What is said when others may write what this process cannot read.
const BEHIND: &str = "the installation's feature level is above what this release knows: it gives up what holds newer \
                      events; bring it up to date";

/// The directory as this process knows it. Cheap to clone.
#[derive(Clone)]
pub struct Directory(Arc<Shared>);

/// Which event versions may be written, as far as the directory is known here. It never goes back; whoever has not
/// heard of the newest yet writes older versions, which all can read. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct FeatureLevel(Arc<AtomicU16>);

impl FeatureLevel {
    /// As it is known now.
    pub fn now(&self) -> u16 {
        self.0.load(Ordering::Relaxed)
    }
}

struct Shared {
    log: Log,
    known: RwLock<Known>,
    /// Keys of the commands that the directory took, for those who decide elsewhere.
    keys: RwLock<Keys>,
    level: FeatureLevel,
    /// The next offset that is not folded yet.
    next: watch::Sender<Offset>,
    ends: Ends,
    /// When the log was last asked, and what is known was all of it.
    confirmed: RwLock<Option<Instant>>,
    /// How old that may be before the log is asked whether more was revoked.
    believed: Duration,
}

impl Directory {
    /// Starts to follow; ends with `shutdown`. What is known grows from nothing: see [`Self::catch_up`].
    pub fn follow(
        log: Log,
        ends: Ends,
        (kept, believed): (Kept, Duration),
        (reporter, health): (Reporter, &Health),
        shutdown: CancellationToken,
    ) -> Self {
        let shared = Shared {
            log,
            known: RwLock::default(),
            keys: RwLock::new(Keys::new(kept, usize::MAX)),
            level: FeatureLevel::default(),
            next: watch::Sender::new(0),
            ends,
            confirmed: RwLock::default(),
            believed,
        };
        let directory = Self(Arc::new(shared));
        let following = directory.clone().run(reporter, shutdown);
        tokio::spawn(health.clone().vital("the following of the directory", following));
        directory
    }

    /// Waits until everything that was in the directory when this was called is known.
    ///
    /// # Errors
    /// The log cannot be read in time, or too many wait for it.
    pub async fn catch_up(&self) -> Result<(), Error> {
        let asked = Instant::now();
        let end = self.0.ends.end(Partition::DIRECTORY).await?;
        self.reach(end).await?;
        *self.0.confirmed.write().unwrap_or_else(PoisonError::into_inner) = Some(asked);
        Ok(())
    }

    /// Waits until everything before this offset is known.
    ///
    /// # Errors
    /// The log cannot be read in time.
    pub async fn reach(&self, offset: Offset) -> Result<(), Error> {
        let mut next = self.0.next.subscribe();
        match tokio::time::timeout(PATIENCE, next.wait_for(|next| *next >= offset)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Error::NotServed("the directory is being read")),
        }
    }

    /// The site with this domain, looked for up to the directory's end.
    ///
    /// # Errors
    /// The log cannot be read in time.
    pub async fn site(&self, domain: &str) -> Result<Option<Site>, Error> {
        self.look(|known| known.site_of_domain(domain).cloned()).await
    }

    /// The site that a page of this host belongs to, looked for up to the directory's end: one of a name with `www.` is
    /// also one of the name without.
    ///
    /// # Errors
    /// The log cannot be read in time.
    pub async fn site_of_host(&self, host: &str) -> Result<Option<Site>, Error> {
        self.look(|known| site_of_host(known, host)).await
    }

    /// The same, when it is known here already.
    pub fn known_site_of_host(&self, host: &str) -> Option<Site> {
        site_of_host(&self.known(), host)
    }

    /// The site with this id, looked for up to the directory's end.
    ///
    /// # Errors
    /// The log cannot be read in time.
    pub async fn site_by_id(&self, id: SiteId) -> Result<Option<Site>, Error> {
        self.look(|known| known.site(id).cloned()).await
    }

    /// The key with this id that is not revoked, looked for up to the directory's end. Following tells of a revocation at
    /// once; whoever cannot follow any more must not let a revoked key in for ever.
    ///
    /// # Errors
    /// The log cannot be read in time.
    pub async fn key(&self, id: &KeyId) -> Result<Option<Key>, Error> {
        let confirmed = *self.0.confirmed.read().unwrap_or_else(PoisonError::into_inner);
        if confirmed.is_none_or(|at| at.elapsed() > self.0.believed) {
            self.catch_up().await?;
        }
        self.look(|known| known.key(id).cloned()).await
    }

    /// Whether the key is known here and not revoked.
    pub fn holds(&self, id: &KeyId) -> bool {
        self.known().key(id).is_some()
    }

    /// Tells of every change of what is known.
    pub fn changes(&self) -> watch::Receiver<Offset> {
        self.0.next.subscribe()
    }

    /// Whose a key is, revoked or not, looked for up to the directory's end.
    ///
    /// # Errors
    /// The log cannot be read in time.
    pub async fn key_owner(&self, id: &KeyId) -> Result<Option<TenantId>, Error> {
        self.look(|known| known.key_owner(id)).await
    }

    /// Whose a principal is, looked for up to the directory's end.
    ///
    /// # Errors
    /// The log cannot be read in time.
    pub async fn principal_owner(&self, id: PrincipalId) -> Result<Option<TenantId>, Error> {
        self.look(|known| known.principal_owner(id)).await
    }

    /// Who was erased, from the so-manieth on, at most `most`.
    pub fn erasures(&self, from: usize, most: usize) -> Vec<(TenantId, PrincipalId)> {
        let known = self.known();
        known.erasures().iter().skip(from).take(most).copied().collect()
    }

    /// The tenant with this id or name, looked for up to the directory's end.
    ///
    /// # Errors
    /// The log cannot be read in time.
    pub async fn tenant(&self, id_or_name: &str) -> Result<Option<TenantId>, Error> {
        let id: Option<TenantId> = id_or_name.parse().ok();
        self.look(|known| {
            id.filter(|id| known.tenant_name(*id).is_some())
                .or_else(|| known.tenant_of_name(id_or_name))
        })
        .await
    }

    /// What a tenant is called, looked for up to the directory's end.
    ///
    /// # Errors
    /// The log cannot be read in time.
    pub async fn tenant_name(&self, id: TenantId) -> Result<Option<String>, Error> {
        self.look(|known| known.tenant_name(id).map(str::to_owned)).await
    }

    /// Which event versions may be written.
    pub fn feature_level(&self) -> FeatureLevel {
        self.0.level.clone()
    }

    /// Whether a command of the directory that is known here had this key, and it still counts.
    pub fn used(&self, key: &Hash) -> bool {
        let keys = self.0.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.get(key, now()).is_some()
    }

    async fn look<T>(&self, find: impl Fn(&Known) -> Option<T>) -> Result<Option<T>, Error> {
        // The guard ends with the statement, before anything is awaited.
        let found = find(&self.known());
        if found.is_some() {
            return Ok(found);
        }
        self.catch_up().await?;
        Ok(find(&self.known()))
    }

    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.0.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run(self, reporter: Reporter, shutdown: CancellationToken) {
        let mut fold = Fold::default();
        let mut pause = Duration::from_millis(100);
        loop {
            let before = fold.next;
            let error = tokio::select! {
                () = shutdown.cancelled() => return,
                error = self.read(&mut fold, &reporter) => error,
            };
            if fold.next > before {
                pause = Duration::from_millis(100);
            }
            tracing::warn!(partition = %Partition::DIRECTORY, offset = fold.next, error, "cannot follow the directory");
            reporter.degraded("the directory cannot be followed: what is new is not known here");
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_secs(5)),
            }
        }
    }

    /// Reads until something fails, and says what.
    async fn read(&self, fold: &mut Fold, reporter: &Reporter) -> String {
        let mut reader = match self.0.log.reader(Partition::DIRECTORY, fold.next) {
            Ok(reader) => reader,
            Err(error) => return error.to_string(),
        };
        loop {
            let batch = match reader.next().await {
                Ok(batch) => batch,
                Err(error) => return error.to_string(),
            };
            let folded = {
                let mut known = self.0.known.write().unwrap_or_else(PoisonError::into_inner);
                let mut keys = self.0.keys.write().unwrap_or_else(PoisonError::into_inner);
                batch
                    .records
                    .iter()
                    .try_for_each(|stored| fold.record(&mut known, &mut keys, stored))
            };
            if folded.is_ok() {
                fold.next = fold.next.max(batch.next);
            }
            let level = self.known().feature_level();
            let before = self.0.level.0.swap(level, Ordering::Relaxed);
            if before != level && level > feature::KNOWN {
                tracing::warn!(level, known = feature::KNOWN, "{BEHIND}");
            }
            self.0.next.send_replace(fold.next);
            match folded {
                Ok(()) if level > feature::KNOWN => reporter.degraded(BEHIND),
                Ok(()) => reporter.ok(),
                Err(error) => return error,
            }
        }
    }
}

#[derive(Debug, Default)]
struct Fold {
    admission: admission::State,
    next: Offset,
}

fn site_of_host(known: &Known, host: &str) -> Option<Site> {
    let bare = || known.site_of_domain(host.strip_prefix("www.")?);
    known.site_of_domain(host).or_else(bare).cloned()
}

impl Fold {
    /// Folds a record. One that this release cannot read stays unread: going on without it might let a
    /// revoked key in.
    fn record(&mut self, known: &mut Known, keys: &mut Keys, stored: &Stored) -> Result<(), String> {
        let mut admission = self.admission;
        match admission.admit(stored.offset, &stored.record) {
            admission::Verdict::Commit(headers) => {
                let commit = Commit::decode(&headers, &stored.record)
                    .map_err(|error| service::problem::chain(&error))?;
                for recorded in &commit.events {
                    if let Some(happened) = Happened::read(recorded).map_err(|error| error.to_string())? {
                        known.evolve(&happened);
                    }
                }
                if let Some(CommandHashes {
                    name: CommandName::Key(key),
                    ..
                }) = commit.command
                    && let Some(last) = commit.events.last()
                {
                    keys.insert(key, (), last.envelope.time);
                }
            }
            admission::Verdict::Void(why) if why.is_damage() => {
                tracing::error!(partition = %Partition::DIRECTORY, offset = stored.offset, %why, "history is damaged here: look at it with `annals log verify`");
            }
            admission::Verdict::Void(why) => {
                tracing::info!(partition = %Partition::DIRECTORY, offset = stored.offset, %why, "void record");
            }
            admission::Verdict::Genesis(_) | admission::Verdict::Claimed(_) | admission::Verdict::Visits => {}
        }
        self.admission = admission;
        self.next = stored.offset + 1;
        Ok(())
    }
}
