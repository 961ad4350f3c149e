//! Sites, by domain and by id, kept in memory.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono_tz::Tz;
use events::directory::Domain;
use read_models::{
    Projection, Topic, directory,
    progress::{Part, WaitError, Wanted},
};
use service::Problem;
use uuid::Uuid;

use crate::{app::App, ask::Ask, cache::Mark, caller::Right, error::Error};

/// No domain is longer than 253 (RFC 1035); in letters of other scripts, which UTF-8 writes with up to four bytes,
/// it has fewer of them.
pub(crate) const LONGEST: usize = 1000;
/// A piece of content may be in the tables a moment before its site is: they are two folds.
const NEW_SITE: Duration = Duration::from_millis(500);

/// A site as queries need it.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    pub tenant: Uuid,
    pub id: Uuid,
    pub domain: String,
    pub timezone: Tz,
}

impl From<directory::Site> for Site {
    fn from(row: directory::Site) -> Self {
        // The door refuses unknown time zones; one that a later release knew counts days as UTC here.
        let timezone = row.timezone.parse().unwrap_or(Tz::UTC);
        Self {
            tenant: row.tenant,
            id: row.site,
            domain: row.domain,
            timezone,
        }
    }
}

impl Site {
    /// As questions about visits name it.
    pub(crate) fn of_visits(&self) -> read_models::visits::Site {
        read_models::visits::Site {
            tenant: self.tenant,
            id: self.id,
            domain: self.domain.clone(),
            timezone: self.timezone,
        }
    }
}

impl App {
    /// The site of a domain, when this caller may know of it: their own; without a key, anyone's.
    ///
    /// # Errors
    /// 404 when nobody has it, or another tenant.
    pub(crate) async fn site(&self, ask: &Ask, domain: &str) -> Result<Arc<Site>, Error> {
        let site = self.site_of(domain).await?.ok_or_else(no_site)?;
        match ask.caller {
            Some(caller) => {
                caller.must(Right::Read)?;
                if caller.tenant == site.tenant {
                    Ok(site)
                } else {
                    Err(no_site())
                }
            }
            None => Ok(site),
        }
    }

    /// The site of a domain, whoever has it.
    async fn site_of(&self, domain: &str) -> Result<Option<Arc<Site>>, Error> {
        if domain.len() > LONGEST || domain.contains('\0') {
            return Ok(None);
        }
        let domain = Domain::normal(domain);
        let needed = Mark::of_directory(self.progress());
        let name = domain.clone();
        let read = async |_| -> Result<_, Error> {
            let directory = self.0.tables.live(Projection::Directory)?;
            Ok(directory::site_by_domain(&directory, &name)
                .await?
                .map(|row| Arc::new(row.into())))
        };
        self.0
            .sites
            .get_or_read(domain, self.progress(), needed, read)
            .await
    }

    /// The site of a tenant that has this id.
    async fn site_by_id(&self, tenant: Uuid, site: Uuid) -> Result<Option<Arc<Site>>, Error> {
        let needed = Mark::of_directory(self.progress());
        let read = async |_| -> Result<_, Error> {
            let directory = self.0.tables.live(Projection::Directory)?;
            Ok(directory::site_by_id(&directory, tenant, site)
                .await?
                .map(|row| Arc::new(row.into())))
        };
        self.0
            .sites_by_id
            .get_or_read((tenant, site), self.progress(), needed, read)
            .await
    }

    /// The domain of a site that a row of content names. Waits a little when the directory is not that far.
    pub(crate) async fn domain(&self, tenant: Uuid, site: Uuid) -> Result<String, Error> {
        let deadline = Instant::now() + NEW_SITE;
        loop {
            let reached = self.progress().reached(Projection::Directory, 0);
            if let Some(site) = self.site_by_id(tenant, site).await? {
                return Ok(site.domain.clone());
            }
            let reached = reached.ok_or(Error::NotLive(Projection::Directory))?;
            let parts = [Part {
                topic: Topic::Directory,
                partition: 0,
                next_offset: reached.next_offset + 1,
            }];
            let waited = self
                .progress()
                .wait(
                    Projection::Directory,
                    &Wanted {
                        parts: &parts,
                        ..Wanted::default()
                    },
                    deadline,
                )
                .await;
            // Nobody has named this position.
            waited.map_err(|error| match error {
                WaitError::BeyondEnd { .. } | WaitError::NoPartition { .. } => WaitError::Behind {
                    projection: Projection::Directory,
                },
                other @ (WaitError::Behind { .. } | WaitError::Parked { .. }) => other,
            })?;
        }
    }
}

pub(crate) fn no_site() -> Error {
    Problem::not_found("there is no such site").into()
}
