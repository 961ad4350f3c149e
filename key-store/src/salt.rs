//! Visitor ids: the same visitor has one id on one site on one day, and nobody can tell who it was.

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use chrono::NaiveDate;
use events::{ImportId, SiteId, TenantId, Timestamp, VisitorId};
use siphasher::sip::SipHasher24;
use sqlx::{Row, postgres::PgRow};
use zeroize::Zeroizing;

use crate::{KeyStore, KeyStoreError, secret::random};

/// The salt of one day's visitor ids.
#[derive(Clone)]
pub struct Salt(Arc<Zeroizing<[u8; 16]>>);

/// The salt of one import's visitor ids: each day of the file has a salt made from it.
#[derive(Clone)]
pub struct ImportSalt(Arc<Zeroizing<[u8; 32]>>);

/// Cached entries are read anew after this time, so that a destroyed salt is soon forgotten by every process.
pub(crate) const CACHED: Duration = Duration::from_secs(600);

impl Salt {
    /// SipHash-2-4, keyed by the salt, of the site's id, the address (an IPv4 one in its IPv6 form) and the
    /// user agent.
    pub fn visitor(&self, site: SiteId, address: IpAddr, user_agent: &str) -> VisitorId {
        let address = match address.to_canonical() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        let mut message = Vec::with_capacity(32 + user_agent.len());
        message.extend_from_slice(site.uuid().as_bytes());
        message.extend_from_slice(&address.octets());
        message.extend_from_slice(user_agent.as_bytes());
        let hash = SipHasher24::new_with_key(&self.0).hash(&message);
        message.iter_mut().for_each(|byte| *byte = 0);
        VisitorId::new(hash)
    }

    /// A salt of this process alone, for tests and benchmarks without a database.
    pub fn ephemeral() -> Self {
        Self(Arc::new(random()))
    }
}

impl ImportSalt {
    /// The salt of the day of a visit: an import's visitors have new ids every day, as all others have.
    pub fn of_day(&self, time: Timestamp) -> Salt {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(&day_number(time).to_be_bytes());
        let mut salt = Zeroizing::new([0; 16]);
        hasher.finalize_xof().fill(&mut salt[..]);
        Salt(Arc::new(salt))
    }

    /// A salt of this process alone, for tests and benchmarks without a database.
    pub fn ephemeral() -> Self {
        Self(Arc::new(random()))
    }
}

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salt(..)")
    }
}

impl fmt::Debug for ImportSalt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ImportSalt(..)")
    }
}

const DAY_MICROS: i64 = 86_400_000_000;

/// Days since 1970-01-01, UTC.
pub(crate) fn day_number(time: Timestamp) -> i64 {
    time.micros().div_euclid(DAY_MICROS)
}

fn date(day: i64) -> NaiveDate {
    Timestamp::from_micros(day * DAY_MICROS)
        .map_or_else(|_| NaiveDate::default(), |time| time.to_utc().date_naive())
}

/// A salt with the rest of its life.
pub(crate) type Mortal = (Salt, Duration);

impl KeyStore {
    /// The salt of the day (UTC) of a visit, made on first use; two processes that make it get the same.
    ///
    /// It is destroyed 48 hours after its making. A visit that is told later, or of a day long past outside an
    /// import, gets a salt of that day made anew, for 48 hours again: what comes together belongs together,
    /// what comes much later is someone else.
    ///
    /// # Errors
    /// The database does not answer, or the row does not open.
    pub async fn day_salt(&self, time: Timestamp) -> Result<Salt, KeyStoreError> {
        let day = day_number(time);
        let found = self
            .inner
            .day_salts
            .try_get_with(day, self.load_day_salt(date(day)))
            .await;
        found.map(|(salt, _)| salt).map_err(KeyStoreError::shared)
    }

    async fn load_day_salt(&self, day: NaiveDate) -> Result<Mortal, KeyStoreError> {
        let purpose = format!("day:{day}");
        let salt = random::<16>();
        let wrapped = self.inner.master.wrap(&purpose, &salt[..]);
        sqlx::query(
            "INSERT INTO keystore.day_salts AS old (day, wrapped) VALUES ($1, $2)
             ON CONFLICT (day) DO UPDATE SET wrapped = excluded.wrapped, created_at = now()
                 WHERE old.created_at <= now() - interval '48 hours'",
        )
        .bind(day)
        .bind(wrapped)
        .execute(&self.inner.pool)
        .await?;
        let row = sqlx::query(
            "SELECT wrapped, extract(epoch FROM created_at + interval '48 hours' - now())::float8 AS life
             FROM keystore.day_salts WHERE day = $1",
        )
        .bind(day)
        .fetch_one(&self.inner.pool)
        .await?;
        let life = Duration::try_from_secs_f64(row.try_get("life")?).unwrap_or_default();
        Ok((Salt(Arc::new(self.unwrap_column(&purpose, &row)?)), life))
    }

    /// The salt of an import, made on first use, kept until [`Self::destroy_import_salt`].
    ///
    /// # Errors
    /// The database does not answer, or the row does not open.
    pub async fn import_salt(&self, tenant: TenantId, import: ImportId) -> Result<ImportSalt, KeyStoreError> {
        let found = self
            .inner
            .import_salts
            .try_get_with(import, self.load_import_salt(tenant, import))
            .await;
        found.map_err(KeyStoreError::shared)
    }

    async fn load_import_salt(
        &self,
        tenant: TenantId,
        import: ImportId,
    ) -> Result<ImportSalt, KeyStoreError> {
        let purpose = format!("import:{import}");
        let wrapped = self.inner.master.wrap(&purpose, &random::<32>()[..]);
        sqlx::query(
            "INSERT INTO keystore.import_salts (import_id, wrapped, tenant_id) VALUES ($1, $2, $3)
             ON CONFLICT (import_id) DO NOTHING",
        )
        .bind(import.uuid())
        .bind(wrapped)
        .bind(tenant.uuid())
        .execute(&self.inner.pool)
        .await?;
        let row = sqlx::query("SELECT wrapped FROM keystore.import_salts WHERE import_id = $1")
            .bind(import.uuid())
            .fetch_one(&self.inner.pool)
            .await?;
        Ok(ImportSalt(Arc::new(self.unwrap_column(&purpose, &row)?)))
    }

    /// The import is complete: nobody can make its visitor ids again. Other processes forget the salt within
    /// ten minutes. Doing it twice is as good as once.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn destroy_import_salt(&self, import: ImportId) -> Result<(), KeyStoreError> {
        self.inner.import_salts.invalidate(&import).await;
        sqlx::query("DELETE FROM keystore.import_salts WHERE import_id = $1")
            .bind(import.uuid())
            .execute(&self.inner.pool)
            .await?;
        Ok(())
    }

    /// Imports whose salt is there, and was made so long ago: so many at most, those behind `after`, in the order of
    /// their ids.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn old_import_salts(
        &self,
        age: Duration,
        after: Option<ImportId>,
        limit: u16,
    ) -> Result<Vec<(TenantId, ImportId)>, KeyStoreError> {
        let rows = sqlx::query(
            "SELECT tenant_id, import_id FROM keystore.import_salts
             WHERE tenant_id IS NOT NULL AND created_at <= now() - make_interval(secs => $1)
               AND ($2::uuid IS NULL OR import_id > $2)
             ORDER BY import_id LIMIT $3",
        )
        .bind(age.as_secs_f64())
        .bind(after.map(ImportId::uuid))
        .bind(i64::from(limit))
        .fetch_all(&self.inner.pool)
        .await?;
        let ids = |row: &PgRow| {
            let (tenant, import) = (row.try_get("tenant_id")?, row.try_get("import_id")?);
            Ok((TenantId::new(tenant), ImportId::new(import)))
        };
        rows.iter().map(ids).collect()
    }

    /// Deletes the salts of days that are 48 hours old and says how many; to be called about every hour.
    /// A salt past its time is not used any more, whether it was deleted or not.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn destroy_old_salts(&self) -> Result<u64, KeyStoreError> {
        let done =
            sqlx::query("DELETE FROM keystore.day_salts WHERE created_at <= now() - interval '48 hours'")
                .execute(&self.inner.pool)
                .await?;
        Ok(done.rows_affected())
    }

    fn unwrap_column<const N: usize>(
        &self,
        purpose: &str,
        row: &PgRow,
    ) -> Result<Zeroizing<[u8; N]>, KeyStoreError> {
        let wrapped: &[u8] = row.try_get("wrapped")?;
        self.inner
            .master
            .unwrap(purpose, wrapped)
            .map_err(|_| KeyStoreError::Unopened(purpose.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_visitor_is_the_same_for_the_same_site_address_and_agent_under_one_salt_only() {
        let (salt, other) = (Salt::ephemeral(), Salt::ephemeral());
        let [site, other_site] = [1, 2].map(|id| SiteId::new(uuid::Uuid::from_u128(id)));
        let address = "203.0.113.9".parse().unwrap();
        let visitor = salt.visitor(site, address, "Firefox");
        assert_eq!(
            visitor,
            salt.visitor(site, "::ffff:203.0.113.9".parse().unwrap(), "Firefox")
        );
        assert_ne!(visitor, other.visitor(site, address, "Firefox"));
        assert_ne!(visitor, salt.visitor(other_site, address, "Firefox"));
        assert_ne!(
            visitor,
            salt.visitor(site, "203.0.113.8".parse().unwrap(), "Firefox")
        );
        assert_ne!(visitor, salt.visitor(site, address, "Firefo"));
    }

    #[test]
    fn an_imports_visitors_change_every_day() {
        let import = ImportSalt::ephemeral();
        let site = SiteId::new(uuid::Uuid::nil());
        let visitor = |time| import.of_day(at(time)).visitor(site, "::1".parse().unwrap(), "x");
        assert_eq!(
            visitor("2015-05-17T00:00:00Z"),
            visitor("2015-05-17T23:59:59.999999Z")
        );
        assert_ne!(visitor("2015-05-17T23:59:59Z"), visitor("2015-05-18T00:00:00Z"));
    }

    #[test]
    fn days_before_1970_are_days_too() {
        assert_eq!(day_number(at("1969-12-31T23:00:00Z")), -1);
        assert_eq!(date(-1).to_string(), "1969-12-31");
        assert_eq!(
            date(day_number(at("2026-11-21T00:00:00Z"))).to_string(),
            "2026-11-21"
        );
    }

    #[test]
    fn a_salt_is_never_shown() {
        assert_eq!(
            format!("{:?} {:?}", Salt::ephemeral(), ImportSalt::ephemeral()),
            "Salt(..) ImportSalt(..)"
        );
    }
}
