//! What the state of a partition is made of: rows under keys, small, and never a body.

use events::{
    ContentId, DownloadId, ImportId, Sha256, SiteId, TenantId, Timestamp,
    content::{Content, Kind, Slug},
    download::Download,
    import::Import,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    idempotency::{Hash, Used},
    timers::Timer,
};

/// Under what a row is found. The tenant is in every key of its aggregates.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the rows say it")]
pub enum Key {
    Tenant(TenantId),
    Content(TenantId, ContentId),
    Slug(TenantId, SiteId, Kind, Slug),
    Download(TenantId, DownloadId),
    Import(TenantId, ImportId),
    Fingerprint(TenantId, SiteId, Sha256),
    Timer(TenantId, ContentId),
    Command(Hash),
    Time,
}

/// What is found there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Row {
    /// The number of the tenant's last commit.
    Tenant(u64),
    /// How a piece stands.
    Content(Content),
    /// Who holds a slug.
    Holder(ContentId),
    /// How a download stands.
    Download(Download),
    /// How an import stands.
    Import(Import),
    /// Which import has a fingerprint.
    Source(ImportId),
    /// When a piece is to be published, and by whom it was asked.
    Timer(Box<Timer>),
    /// What became of an Idempotency-Key.
    Command(Used),
    /// The time of the last commit: commit times never go backwards.
    Time(Timestamp),
}

/// First bytes of keys in the store. 0 is the store's own.
const TIMER: u8 = 7;
const COMMAND: u8 = 8;
/// Under time and hash of a command, so that expiry looks at the oldest only.
const EXPIRY: u8 = 9;

impl Key {
    /// Its bytes in the store.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64);
        let mut put = |tag: u8, parts: &[&[u8]]| {
            bytes.push(tag);
            parts.iter().for_each(|part| bytes.extend_from_slice(part));
        };
        match self {
            Self::Tenant(tenant) => put(1, &[tenant.uuid().as_bytes()]),
            Self::Content(tenant, id) => put(2, &[tenant.uuid().as_bytes(), id.uuid().as_bytes()]),
            Self::Slug(tenant, site, kind, slug) => put(
                3,
                &[
                    tenant.uuid().as_bytes(),
                    site.uuid().as_bytes(),
                    &[*kind as u8],
                    slug.as_str().as_bytes(),
                ],
            ),
            Self::Download(tenant, id) => put(4, &[tenant.uuid().as_bytes(), id.uuid().as_bytes()]),
            Self::Import(tenant, id) => put(5, &[tenant.uuid().as_bytes(), id.uuid().as_bytes()]),
            Self::Fingerprint(tenant, site, fingerprint) => put(
                6,
                &[tenant.uuid().as_bytes(), site.uuid().as_bytes(), &fingerprint.0],
            ),
            Self::Timer(tenant, id) => put(TIMER, &[tenant.uuid().as_bytes(), id.uuid().as_bytes()]),
            Self::Command(hash) => put(COMMAND, &[hash]),
            Self::Time => put(10, &[]),
        }
        bytes
    }

    /// With what the keys of all timers begin.
    pub const TIMERS: [u8; 1] = [TIMER];

    /// With what the keys of all entries for expiry begin.
    pub const EXPIRIES: [u8; 1] = [EXPIRY];

    /// Under what the expiry of a command's key is found.
    pub fn expiry(time: Timestamp, hash: &Hash) -> Vec<u8> {
        let mut bytes = vec![EXPIRY];
        // Times before 1970 sort first, too.
        bytes.extend_from_slice(&(time.micros().cast_unsigned() ^ (1 << 63)).to_be_bytes());
        bytes.extend_from_slice(hash);
        bytes
    }

    /// Whose timer has these bytes as its key.
    pub fn of_timer(bytes: &[u8]) -> Option<(TenantId, ContentId)> {
        let (tenant, content) = bytes.strip_prefix(&Self::TIMERS)?.split_at_checked(16)?;
        let id = |bytes| Uuid::from_slice(bytes).ok();
        Some((TenantId::new(id(tenant)?), ContentId::new(id(content)?)))
    }

    /// Time and hash of a key that [`Self::expiry`] made.
    pub fn of_expiry(bytes: &[u8]) -> Option<(i64, Hash)> {
        let (time, hash) = bytes.strip_prefix(&Self::EXPIRIES)?.split_first_chunk()?;
        let time = (u64::from_be_bytes(*time) ^ (1 << 63)).cast_signed();
        Some((time, hash.try_into().ok()?))
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $variant:ident($type:ty);)+) => {$(
        $(#[$doc])*
        pub fn $name(self) -> Option<$type> {
            if let Self::$variant(value) = self { Some(value) } else { None }
        }
    )+};
}

/// What each kind of row holds; none, when it is of another kind.
impl Row {
    kinds! {
        /// The number of the tenant's last commit.
        tenant = Tenant(u64);
        /// A piece.
        content = Content(Content);
        /// Who holds a slug.
        holder = Holder(ContentId);
        /// A download.
        download = Download(Download);
        /// An import.
        import = Import(Import);
        /// Which import has a fingerprint.
        source = Source(ImportId);
        /// A timer.
        timer = Timer(Box<Timer>);
        /// What became of a key.
        command = Command(Used);
        /// The time of the last commit.
        time = Time(Timestamp);
    }
}

impl Row {
    /// Its bytes in the store.
    ///
    /// # Errors
    /// It cannot be written: this cannot be, for it has no form that postcard lacks.
    pub fn bytes(&self) -> postcard::Result<Vec<u8>> {
        postcard::to_stdvec(self)
    }

    /// What bytes of the store say.
    ///
    /// # Errors
    /// Nobody wrote them.
    pub fn read(bytes: &[u8]) -> postcard::Result<Self> {
        postcard::from_bytes(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_expiries_come_back_as_they_were() {
        let at = |micros| Timestamp::from_micros(micros).unwrap();
        let rows = [
            Row::Tenant(7),
            Row::Holder(ContentId::new(Uuid::from_u128(3))),
            Row::Command(Used {
                request: [1; 16],
                time: at(5),
                offset: Some(9),
            }),
        ];
        for row in rows {
            assert_eq!(Row::read(&row.bytes().unwrap()).unwrap(), row);
        }
        let times = [-5, -1, 0, 1, 1_800_000_000_000_000];
        let keys: Vec<_> = times
            .iter()
            .map(|time| Key::expiry(at(*time), &[2; 16]))
            .collect();
        assert!(keys.is_sorted());
        for (time, key) in times.iter().zip(&keys) {
            assert_eq!(Key::of_expiry(key), Some((*time, [2; 16])));
        }
    }

    #[test]
    fn keys_of_different_things_differ() {
        let (tenant, id) = (TenantId::new(Uuid::from_u128(1)), Uuid::from_u128(2));
        let keys = [
            Key::Tenant(tenant),
            Key::Content(tenant, ContentId::new(id)),
            Key::Download(tenant, DownloadId::new(id)),
            Key::Import(tenant, ImportId::new(id)),
            Key::Timer(tenant, ContentId::new(id)),
            Key::Slug(tenant, SiteId::new(id), Kind::Post, "a".parse().unwrap()),
            Key::Slug(tenant, SiteId::new(id), Kind::Page, "a".parse().unwrap()),
            Key::Fingerprint(tenant, SiteId::new(id), Sha256([0; 32])),
            Key::Command([0; 16]),
            Key::Time,
        ];
        let mut bytes: Vec<_> = keys.iter().map(Key::bytes).collect();
        bytes.sort();
        bytes.dedup();
        assert_eq!(bytes.len(), keys.len());
        assert!(bytes.iter().all(|key| key[0] != 0));
    }
}
