//! The directory: tenants, sites, principals and their keys. One order for the whole installation.
//!
//! In order: events, state and what they make of it, commands and what it answers, rejections, tests.
//! One state holds all, because its rules reach over tenants: a domain and a tenant's name are used once. Longer
//! than other files, because all of its rules stand on this one page.

pub mod domain;
mod scope;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use domain::{Domain, Timezone};
pub use scope::{Scope, Scopes};

use crate::{
    KeyId, PrincipalId, Recorded, Sealed, Sha256, SiteId, TenantId,
    aggregate::{Invalid, line, rejections},
    event::{DirectoryEvent, Event},
    id::InvalidId,
};

/// A tenant exists from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantCreated {
    /// As operators call it; unique in the installation, so that `--tenant NAME` finds it;
    /// 1 to 100 characters.
    #[schemars(length(min = 1, max = 100))]
    pub name: String,
}

/// A site exists from now on, and its domain is taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SiteCreated {
    /// Lower case, without `www.` added or removed, in ASCII (punycode); at most 253 characters.
    #[schemars(length(min = 1, max = 253))]
    pub domain: String,
    /// As people call it; at most 100 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    pub name: Option<String>,
    /// IANA name, such as `Europe/Berlin`; days of its statistics are days there.
    pub timezone: String,
}

/// Someone or something that acts exists from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrincipalCreated {
    /// What people call it, sealed: it may be a person's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Sealed>,
}

/// A principal's personal fields are no more: the key that opened them is destroyed, also in a key store that was
/// restored from before.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrincipalErased {}

/// A key was made for a principal. Its secret was shown once and is nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyIssued {
    /// Its public half; also the subject of this event.
    pub key: KeyId,
    /// For whom.
    pub principal: PrincipalId,
    /// SHA-256 of the secret. The secret has 190 random bits, so a fast hash is enough.
    pub secret_hash: Sha256,
    /// What it may do.
    pub scopes: Vec<Scope>,
}

/// A key does nothing from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyRevoked {
    /// Which.
    pub key: KeyId,
}

/// From now on the event versions of this feature level are written; whoever does not know them cannot serve what
/// holds one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FeatureLevelRaised {
    /// Higher than any before.
    #[schemars(range(min = 1))]
    pub level: u16,
}

/// What happened in the directory, to what, and whose it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Happened {
    /// Whose it is.
    pub tenant: TenantId,
    /// To what.
    pub subject: Subject,
    /// What.
    pub event: DirectoryEvent,
}

/// What an event of the directory happened to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Subject {
    Tenant(TenantId),
    Site(SiteId),
    Principal(PrincipalId),
    Key(KeyId),
    Installation,
}

/// The installation as the subject of an event. It is in no tenant: its events bear the nil one.
const INSTALLATION: &str = "installation";
const NO_TENANT: TenantId = TenantId::new(uuid::Uuid::nil());

impl std::fmt::Display for Subject {
    /// As it stands in an event's `subject`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tenant(id) => id.fmt(f),
            Self::Site(id) => id.fmt(f),
            Self::Principal(id) => id.fmt(f),
            Self::Key(id) => id.fmt(f),
            Self::Installation => f.write_str(INSTALLATION),
        }
    }
}

impl Happened {
    /// What a record of the log says; none, when it is not about the directory.
    ///
    /// # Errors
    /// A subject that is no id of what the event is about.
    pub fn read(recorded: &Recorded) -> Result<Option<Self>, InvalidId> {
        let Event::Directory(event) = &recorded.event else {
            return Ok(None);
        };
        let subject = &recorded.envelope.subject;
        let subject = match event {
            DirectoryEvent::TenantCreated(_) => Subject::Tenant(subject.parse()?),
            DirectoryEvent::SiteCreated(_) => Subject::Site(subject.parse()?),
            DirectoryEvent::PrincipalCreated(_) | DirectoryEvent::PrincipalErased(_) => {
                Subject::Principal(subject.parse()?)
            }
            DirectoryEvent::KeyIssued(_) | DirectoryEvent::KeyRevoked(_) => Subject::Key(subject.parse()?),
            DirectoryEvent::FeatureLevelRaised(_) => Subject::Installation,
        };
        Ok(Some(Self {
            tenant: recorded.envelope.tenant,
            subject,
            event: event.clone(),
        }))
    }
}

/// Sites of one tenant: every process keeps all of them in memory, and none is ever taken away.
pub const MOST_SITES: usize = 10_000;

/// Keys that one tenant is ever issued, likewise.
pub const MOST_KEYS: u32 = 100_000;

/// Everything that the directory's rules and its followers need to know. Names of people are not in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directory {
    tenants: HashMap<TenantId, Tenant>,
    names: HashMap<Box<str>, TenantId>,
    sites: HashMap<SiteId, Site>,
    domains: HashMap<Domain, SiteId>,
    principals: HashMap<PrincipalId, Principal>,
    keys: HashMap<KeyId, Key>,
    erasures: Vec<(TenantId, PrincipalId)>,
    feature_level: u16,
    /// How often it was raised.
    raises: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Principal {
    tenant: TenantId,
    erased: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Tenant {
    name: Box<str>,
    sites: Vec<SiteId>,
    /// Keys that were issued, revoked ones too.
    keys: u32,
}

/// A site as the write side knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "as in SiteCreated")]
pub struct Site {
    pub id: SiteId,
    pub tenant: TenantId,
    pub domain: Domain,
}

/// A key as it is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "as in KeyIssued")]
pub struct Key {
    pub tenant: TenantId,
    pub principal: PrincipalId,
    pub secret_hash: Sha256,
    pub scopes: Scopes,
    revoked: bool,
}

impl Directory {
    /// What the past makes of the directory.
    pub fn evolve(
        &mut self,
        Happened {
            tenant,
            subject,
            event,
        }: &Happened,
    ) {
        match (event, subject) {
            (DirectoryEvent::TenantCreated(event), _) => {
                self.names.insert(event.name.as_str().into(), *tenant);
                self.tenants.entry(*tenant).or_default().name = event.name.as_str().into();
            }
            (DirectoryEvent::SiteCreated(event), Subject::Site(id)) => {
                let domain = Domain::recorded(&event.domain);
                self.domains.insert(domain.clone(), *id);
                self.sites.insert(
                    *id,
                    Site {
                        id: *id,
                        tenant: *tenant,
                        domain,
                    },
                );
                self.tenants.entry(*tenant).or_default().sites.push(*id);
            }
            (DirectoryEvent::PrincipalCreated(_), Subject::Principal(id)) => {
                let (tenant, erased) = (*tenant, false);
                self.principals.insert(*id, Principal { tenant, erased });
            }
            (DirectoryEvent::PrincipalErased(_), Subject::Principal(id)) => {
                let known = self.principals.get_mut(id);
                if let Some(principal) =
                    known.filter(|principal| principal.tenant == *tenant && !principal.erased)
                {
                    principal.erased = true;
                    self.erasures.push((*tenant, *id));
                }
            }
            (DirectoryEvent::KeyIssued(event), _) => {
                let KeyIssued {
                    key,
                    principal,
                    secret_hash,
                    scopes,
                } = event;
                self.tenants.entry(*tenant).or_default().keys += 1;
                self.keys.insert(
                    key.clone(),
                    Key {
                        tenant: *tenant,
                        principal: *principal,
                        secret_hash: *secret_hash,
                        scopes: scopes.iter().copied().collect(),
                        revoked: false,
                    },
                );
            }
            (DirectoryEvent::KeyRevoked(event), _) => {
                if let Some(key) = self.keys.get_mut(&event.key) {
                    key.revoked = true;
                }
            }
            (DirectoryEvent::FeatureLevelRaised(event), _) => {
                // It never goes back, whatever another writer may have written: newer versions may be in the log.
                self.feature_level = self.feature_level.max(event.level);
                self.raises += 1;
            }
            // Not made by `Happened::read` nor by `decide`: an event about something else than itself.
            (
                DirectoryEvent::SiteCreated(_)
                | DirectoryEvent::PrincipalCreated(_)
                | DirectoryEvent::PrincipalErased(_),
                _,
            ) => {}
        }
    }

    /// A site by its domain.
    pub fn site_of_domain(&self, domain: &str) -> Option<&Site> {
        self.sites.get(self.domains.get(domain)?)
    }

    /// A site by its id.
    pub fn site(&self, id: SiteId) -> Option<&Site> {
        self.sites.get(&id)
    }

    /// The sites of a tenant, in the order of their making.
    pub fn sites_of(&self, tenant: TenantId) -> impl Iterator<Item = &Site> {
        let sites = self.tenants.get(&tenant).map_or(&[][..], |tenant| &tenant.sites);
        sites.iter().filter_map(|id| self.sites.get(id))
    }

    /// A key that does something: a revoked one is as one that never was.
    pub fn key(&self, id: &KeyId) -> Option<&Key> {
        self.keys.get(id).filter(|key| !key.revoked)
    }

    /// Whose a key is, also of one that was revoked.
    pub fn key_owner(&self, id: &KeyId) -> Option<TenantId> {
        self.keys.get(id).map(|key| key.tenant)
    }

    /// Whose a principal is.
    pub fn principal_owner(&self, id: PrincipalId) -> Option<TenantId> {
        self.principals.get(&id).map(|principal| principal.tenant)
    }

    /// Who was erased, in the order of the log: this list only grows.
    pub fn erasures(&self) -> &[(TenantId, PrincipalId)] {
        &self.erasures
    }

    /// Which event versions may be written: see [`crate::feature`].
    pub fn feature_level(&self) -> u16 {
        self.feature_level
    }

    /// A tenant by its name.
    pub fn tenant_of_name(&self, name: &str) -> Option<TenantId> {
        self.names.get(name).copied()
    }

    /// The name of a tenant.
    pub fn tenant_name(&self, id: TenantId) -> Option<&str> {
        self.tenants.get(&id).map(|tenant| &*tenant.name)
    }

    /// How many events something of the directory has behind it.
    pub fn version(&self, subject: &Subject) -> u64 {
        match subject {
            Subject::Tenant(id) => self.tenants.contains_key(id).into(),
            Subject::Site(id) => self.sites.contains_key(id).into(),
            Subject::Principal(id) => {
                let known = self.principals.get(id);
                known.map_or(0, |principal| 1 + u64::from(principal.erased))
            }
            Subject::Key(id) => self.keys.get(id).map_or(0, |key| 1 + u64::from(key.revoked)),
            Subject::Installation => self.raises,
        }
    }
}

/// What can be asked of the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Make a tenant.
    CreateTenant {
        /// Its id to be.
        tenant: TenantId,
        /// How operators call it.
        name: Name,
    },
    /// Make a site.
    CreateSite {
        /// Whose.
        tenant: TenantId,
        /// Its id to be.
        site: SiteId,
        /// What it is known by.
        domain: Domain,
        /// How people call it.
        name: Option<Name>,
        /// Where its days begin.
        timezone: Timezone,
    },
    /// Make a key, and the principal that it is for unless there is one.
    IssueKey {
        /// Whose.
        tenant: TenantId,
        /// Its id to be.
        key: KeyId,
        /// For whom.
        principal: PrincipalId,
        /// How people call the principal, when it is made now.
        name: Option<Sealed>,
        /// SHA-256 of the secret.
        secret_hash: Sha256,
        /// What it may do.
        scopes: Scopes,
    },
    /// Let a principal's personal fields be no more.
    Erase {
        /// Whose.
        tenant: TenantId,
        /// Who.
        principal: PrincipalId,
    },
    /// Let a key do nothing any more.
    RevokeKey {
        /// Whose.
        tenant: TenantId,
        /// Which.
        key: KeyId,
    },
    /// Let the event versions of a feature level be written.
    RaiseFeatureLevel {
        /// Which.
        level: u16,
        /// The highest that every process knows, as they were asked just now.
        known: u16,
    },
}

/// How a tenant or a site is called: one line, 1 to 100 characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(String);

impl Name {
    /// Trims, and checks.
    ///
    /// # Errors
    /// Empty, too long, or of several lines.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        line("a name", text, 1, 100).map(Self)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Directory {
    /// What the directory answers. No events: everything is as asked for already.
    ///
    /// # Errors
    /// The rule that stands in the way.
    pub fn decide(&self, command: Command) -> Result<Vec<Happened>, Rejection> {
        match command {
            Command::CreateTenant { tenant, name } => self.create_tenant(tenant, name),
            Command::CreateSite {
                tenant,
                site,
                domain,
                name,
                timezone,
            } => {
                self.known(tenant)?;
                if self.sites.contains_key(&site) {
                    return Err(Rejection::IdInUse);
                }
                if self.domains.contains_key(&domain) {
                    return Err(Rejection::DomainTaken { domain });
                }
                if self
                    .tenants
                    .get(&tenant)
                    .is_some_and(|it| it.sites.len() >= MOST_SITES)
                {
                    return Err(Rejection::TooManySites);
                }
                let event = SiteCreated {
                    domain: domain.to_string(),
                    name: name.map(|name| name.0),
                    timezone: timezone.name().to_owned(),
                };
                Ok(vec![Happened {
                    tenant,
                    subject: Subject::Site(site),
                    event: event.into(),
                }])
            }
            Command::IssueKey {
                tenant,
                key,
                principal,
                name,
                secret_hash,
                scopes,
            } => {
                self.known(tenant)?;
                let scopes = self.issuable(&key, scopes)?;
                if self.tenants.get(&tenant).is_some_and(|it| it.keys >= MOST_KEYS) {
                    return Err(Rejection::TooManyKeys);
                }
                let created = self.principal_of(tenant, principal, name)?;
                let issued = KeyIssued {
                    key: key.clone(),
                    principal,
                    secret_hash,
                    scopes,
                };
                let issued = Happened {
                    tenant,
                    subject: Subject::Key(key),
                    event: issued.into(),
                };
                Ok(created.into_iter().chain([issued]).collect())
            }
            Command::Erase { tenant, principal } => match self.principals.get(&principal) {
                Some(known) if known.tenant == tenant && known.erased => Ok(vec![]),
                Some(known) if known.tenant == tenant => Ok(vec![Happened {
                    tenant,
                    subject: Subject::Principal(principal),
                    event: PrincipalErased {}.into(),
                }]),
                // Another tenant's is as unknown as one that never was.
                Some(_) | None => Err(Rejection::UnknownSubject),
            },
            Command::RevokeKey { tenant, key } => match self.keys.get(&key) {
                Some(known) if known.tenant == tenant && known.revoked => Ok(vec![]),
                Some(known) if known.tenant == tenant => {
                    let event = KeyRevoked { key: key.clone() };
                    Ok(vec![Happened {
                        tenant,
                        subject: Subject::Key(key),
                        event: event.into(),
                    }])
                }
                // Another tenant's key is as unknown as one that never was.
                Some(_) | None => Err(Rejection::UnknownKey),
            },
            Command::RaiseFeatureLevel { level, known } => self.raise_feature_level(level, known),
        }
    }

    fn create_tenant(&self, tenant: TenantId, Name(name): Name) -> Result<Vec<Happened>, Rejection> {
        if self.tenants.contains_key(&tenant) {
            return Err(Rejection::IdInUse);
        }
        if self.names.contains_key(name.as_str()) {
            return Err(Rejection::NameTaken { name });
        }
        let event = TenantCreated { name };
        Ok(vec![Happened {
            tenant,
            subject: Subject::Tenant(tenant),
            event: event.into(),
        }])
    }

    fn raise_feature_level(&self, level: u16, known: u16) -> Result<Vec<Happened>, Rejection> {
        let now = self.feature_level;
        match level {
            _ if level < now => Err(Rejection::LevelNotLowered { now }),
            _ if level == now => Ok(vec![]),
            _ if level > known => Err(Rejection::LevelUnknown { level, known }),
            _ => Ok(vec![Happened {
                tenant: NO_TENANT,
                subject: Subject::Installation,
                event: FeatureLevelRaised { level }.into(),
            }]),
        }
    }

    fn known(&self, tenant: TenantId) -> Result<(), Rejection> {
        if self.tenants.contains_key(&tenant) {
            Ok(())
        } else {
            Err(Rejection::UnknownTenant)
        }
    }

    fn issuable(&self, key: &KeyId, scopes: Scopes) -> Result<Vec<Scope>, Rejection> {
        if self.keys.contains_key(key) {
            return Err(Rejection::IdInUse);
        }
        if scopes.is_empty() {
            return Err(Rejection::NoScope);
        }
        if scopes.allow(Scope::Operator) {
            return Err(Rejection::OperatorScope);
        }
        Ok(scopes.iter().collect())
    }

    /// The making of a principal, unless the tenant has it.
    fn principal_of(
        &self,
        tenant: TenantId,
        principal: PrincipalId,
        name: Option<Sealed>,
    ) -> Result<Option<Happened>, Rejection> {
        match self.principals.get(&principal) {
            Some(known) if known.tenant == tenant && known.erased => Err(Rejection::PrincipalErased),
            Some(known) if known.tenant == tenant => Ok(None),
            Some(_) => Err(Rejection::UnknownPrincipal),
            None => {
                let event = PrincipalCreated { name };
                Ok(Some(Happened {
                    tenant,
                    subject: Subject::Principal(principal),
                    event: event.into(),
                }))
            }
        }
    }
}

rejections! {
    /// Why the directory refuses.
    pub enum Rejection {
        "id-in-use" =>
        /// Ids are made at random: this is a mistake of a program.
        #[error("this id is in use")]
        IdInUse,
        "tenant-name-taken" =>
        /// Names of tenants are unique in the installation.
        #[error("there is a tenant with the name {name:?} already")]
        NameTaken {
            /// The name asked for.
            name: String,
        },
        "domain-taken" =>
        /// A domain is unique in the installation, whoever has it.
        #[error("the domain {domain} is taken")]
        DomainTaken {
            /// The domain asked for.
            domain: Domain,
        },
        "too-many-sites" =>
        /// Every process keeps them in memory.
        #[error("a tenant has at most {MOST_SITES} sites")]
        TooManySites,
        "too-many-keys" =>
        /// Likewise.
        #[error("a tenant is issued at most {MOST_KEYS} keys, revoked ones included")]
        TooManyKeys,
        "tenant-not-found" =>
        /// No such tenant.
        #[error("there is no such tenant")]
        UnknownTenant,
        "principal-not-found" =>
        /// No such principal in this tenant.
        #[error("there is no such principal in this tenant")]
        UnknownPrincipal,
        "principal-erased" =>
        /// Who was erased acts no more under a new key.
        #[error("this principal was erased, so it gets no new key: make one for a new principal")]
        PrincipalErased,
        "subject-not-found" =>
        /// No such subject in this tenant.
        #[error("there is no such subject in this tenant")]
        UnknownSubject,
        "key-not-found" =>
        /// No such key in this tenant.
        #[error("there is no such key in this tenant")]
        UnknownKey,
        "no-scope" =>
        /// A key that may do nothing.
        #[error("a key needs at least one scope")]
        NoScope,
        "operator-scope" =>
        /// Operators are above tenants: their key is configured, not issued.
        #[error("a tenant's key cannot have the scope operator: the operator's key is part of the configuration")]
        OperatorScope,
        "feature-level-unknown" =>
        /// A running process could not read what would be written.
        #[error("feature level {level} is not known to every running process, which all know {known}: `annals feature-level` lists them; bring the others up to date first")]
        LevelUnknown {
            /// The one asked for.
            level: u16,
            /// The highest that all know.
            known: u16,
        },
        "feature-level-not-lowered" =>
        /// What was written stays.
        #[error("the feature level is {now} and never goes back, for newer event versions may be in the log")]
        LevelNotLowered {
            /// The present one.
            now: u16,
        },
    }
}
