//! The directory: event → change. The tables are in `read-models/src/directory.rs`.

use std::collections::HashMap;

use events::{Envelope, Event, Recorded, event::DirectoryEvent};
use read_models::{
    Error, Projection, Write,
    directory::{self as tables, Changes, Erased, Key, Principal, Revoked, Site, Tenant},
};
use uuid::Uuid;

use crate::runner::{
    Entry,
    postgres::{Fold, Place, Unfit},
};

#[cfg(test)]
mod tests;

/// The projection `directory`.
#[derive(Debug)]
pub struct DirectoryFold;

/// Rows in memory.
#[derive(Debug, Default)]
pub struct Rows {
    changes: Changes,
    /// Where the keys of this batch are in it.
    keys: HashMap<(Uuid, String), usize>,
    /// And the principals.
    principals: HashMap<(Uuid, Uuid), usize>,
}

impl Fold for DirectoryFold {
    const PROJECTION: Projection = Projection::Directory;
    const VERSION: &'static str = "1";
    const FAMILIES: &'static [&'static str] = &["tenant.", "site.", "principal.", "key."];
    type Rows = Rows;
    type Changes = Changes;

    async fn load(_: &mut Write, _: &[&Entry]) -> Result<Rows, Error> {
        // Every event makes a row, or says of one all that changes.
        Ok(Rows::default())
    }

    fn fold(rows: &mut Rows, _: &Place, recorded: &Recorded) -> Result<(), Unfit> {
        match &recorded.event {
            Event::Directory(event) => rows.fold(&recorded.envelope, event),
            Event::Content(_) | Event::Download(_) | Event::Import(_) | Event::Visit(_) => Ok(()),
        }
    }

    fn skip(_: &mut Rows, _: &Entry) {
        // No event of the directory counts the versions before it.
    }

    fn changes(rows: &mut Rows) -> Changes {
        std::mem::take(rows).changes
    }

    async fn insert(_: &mut Write, _: &Changes) -> Result<u64, Error> {
        // The directory is small: all of it in its turn.
        Ok(0)
    }

    async fn update(write: &mut Write, changes: &Changes) -> Result<u64, Error> {
        tables::apply(write, changes).await
    }
}

impl Rows {
    fn fold(&mut self, envelope: &Envelope, event: &DirectoryEvent) -> Result<(), Unfit> {
        let tenant = envelope.tenant.uuid();
        let at = envelope.time.to_utc();
        let version = envelope
            .aggregate_version
            .and_then(|version| i64::try_from(version).ok());
        let version = version.ok_or_else(|| Unfit("it has no version".into()))?;
        let subject = || {
            let id = Uuid::try_parse(&envelope.subject);
            id.map_err(|_| Unfit(format!("its subject {:?} is no id", envelope.subject)))
        };
        match event {
            DirectoryEvent::TenantCreated(event) => {
                self.changes.tenants.push(Tenant {
                    tenant,
                    name: event.name.clone(),
                    created_at: at,
                    version,
                });
            }
            DirectoryEvent::SiteCreated(event) => self.changes.sites.push(Site {
                tenant,
                site: subject()?,
                domain: event.domain.clone(),
                name: event.name.clone(),
                timezone: event.timezone.clone(),
                created_at: at,
                version,
            }),
            DirectoryEvent::PrincipalCreated(event) => {
                let name = event.name.as_ref().map(serde_json::to_value).transpose();
                let name = name.map_err(|error| Unfit(error.to_string()))?;
                let principal = subject()?;
                self.principals
                    .insert((tenant, principal), self.changes.principals.len());
                self.changes.principals.push(Principal {
                    tenant,
                    principal,
                    name,
                    created_at: at,
                    version,
                });
            }
            DirectoryEvent::PrincipalErased(_) => {
                let principal = subject()?;
                let place = self.principals.get(&(tenant, principal));
                match place.and_then(|place| self.changes.principals.get_mut(*place)) {
                    Some(row) => (row.name, row.version) = (None, version),
                    None => self.changes.erased.push(Erased {
                        tenant,
                        principal,
                        version,
                    }),
                }
            }
            DirectoryEvent::KeyIssued(event) => {
                let key = event.key.to_string();
                self.keys.insert((tenant, key.clone()), self.changes.keys.len());
                self.changes.keys.push(Key {
                    tenant,
                    key,
                    principal: event.principal.uuid(),
                    secret_hash: event.secret_hash.to_string(),
                    scopes: event.scopes.iter().map(|scope| scope.name().to_owned()).collect(),
                    issued_at: at,
                    revoked_at: None,
                    version,
                });
            }
            DirectoryEvent::KeyRevoked(event) => {
                let key = event.key.to_string();
                match self
                    .keys
                    .get(&(tenant, key.clone()))
                    .and_then(|place| self.changes.keys.get_mut(*place))
                {
                    Some(row) => {
                        row.revoked_at = Some(at);
                        row.version = version;
                    }
                    None => self.changes.revoked.push(Revoked {
                        tenant,
                        key,
                        at,
                        version,
                    }),
                }
            }
            // Of the installation, which has no row.
            DirectoryEvent::FeatureLevelRaised(_) => {}
        }
        Ok(())
    }
}
