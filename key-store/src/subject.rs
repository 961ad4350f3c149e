//! Personal fields: sealed with a key of their subject, which can be destroyed.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use events::{Sealed, TenantId};
use sqlx::Row;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    KeyStore, KeyStoreError,
    secret::{decrypt, encrypt, random},
};

/// The AEAD of [`Sealed::alg`].
pub const ALG: &str = "xchacha20poly1305";

fn purpose(kid: Uuid) -> String {
    format!("subject:{kid}")
}

impl KeyStore {
    /// Seals a personal field of a subject; its key is made on first use.
    ///
    /// # Errors
    /// The database does not answer; the subject was erased.
    pub async fn seal(&self, tenant: TenantId, subject: Uuid, text: &str) -> Result<Sealed, KeyStoreError> {
        let kid = Uuid::now_v7();
        let wrapped = self.inner.master.wrap(&purpose(kid), &random::<32>()[..]);
        sqlx::query(
            "INSERT INTO keystore.subject_keys (kid, tenant_id, subject, wrapped) VALUES ($1, $2, $3, $4)
             ON CONFLICT ON CONSTRAINT subject_has_one_key DO NOTHING",
        )
        .bind(kid)
        .bind(tenant.uuid())
        .bind(subject)
        .bind(wrapped)
        .execute(&self.inner.pool)
        .await?;
        let row = sqlx::query(
            "SELECT kid, wrapped FROM keystore.subject_keys WHERE tenant_id = $1 AND subject = $2",
        )
        .bind(tenant.uuid())
        .bind(subject)
        .fetch_one(&self.inner.pool)
        .await?;
        let kid: Uuid = row.try_get("kid")?;
        let wrapped: Option<&[u8]> = row.try_get("wrapped")?;
        let key = self.subject_key(kid, wrapped.ok_or(KeyStoreError::Erased(subject))?)?;
        let (nonce, ciphertext) = encrypt(&key, kid.as_bytes(), text.as_bytes());
        Ok(Sealed {
            kid,
            alg: ALG.to_owned(),
            nonce: URL_SAFE_NO_PAD.encode(nonce),
            ct: URL_SAFE_NO_PAD.encode(ciphertext),
        })
    }

    /// Opens a sealed field; none, when its key was destroyed or is another key store's.
    ///
    /// # Errors
    /// The database does not answer; the field or the key was changed.
    pub async fn open(&self, sealed: &Sealed) -> Result<Option<Zeroizing<String>>, KeyStoreError> {
        if sealed.alg != ALG {
            return Err(KeyStoreError::Malformed("an unknown algorithm"));
        }
        let nonce = URL_SAFE_NO_PAD
            .decode(&sealed.nonce)
            .ok()
            .and_then(|nonce| nonce.try_into().ok());
        let nonce = nonce.ok_or(KeyStoreError::Malformed(
            "a nonce that is not 24 bytes of base64url",
        ))?;
        let ciphertext = URL_SAFE_NO_PAD
            .decode(&sealed.ct)
            .map_err(|_| KeyStoreError::Malformed("a ciphertext that is not base64url"))?;
        let row = sqlx::query("SELECT wrapped FROM keystore.subject_keys WHERE kid = $1")
            .bind(sealed.kid)
            .fetch_optional(&self.inner.pool)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let Some(wrapped) = row.try_get::<Option<&[u8]>, _>("wrapped")? else {
            return Ok(None);
        };
        let key = self.subject_key(sealed.kid, wrapped)?;
        let plain = decrypt(&key, sealed.kid.as_bytes(), &nonce, &ciphertext)
            .map_err(|_| KeyStoreError::Malformed("a ciphertext that its key does not open"))?;
        let text = std::str::from_utf8(&plain)
            .map_err(|_| KeyStoreError::Malformed("a plain text that is not UTF-8"))?;
        Ok(Some(Zeroizing::new(text.to_owned())))
    }

    /// Destroys the keys of subjects, for ever: what was sealed with them cannot be opened, and nothing is sealed for
    /// these subjects any more, whether or not they had a key. Says how many were not destroyed before. Doing it
    /// twice is as good as once.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn destroy_subjects(&self, subjects: &[(TenantId, Uuid)]) -> Result<u64, KeyStoreError> {
        // A row stays behind, so that who was erased before a key was ever made gets none later.
        let done = sqlx::query(
            "INSERT INTO keystore.subject_keys (kid, tenant_id, subject, wrapped, destroyed_at)
             SELECT kid, tenant_id, subject, NULL, now()
             FROM (SELECT DISTINCT ON (tenant_id, subject) kid, tenant_id, subject
                   FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS given (kid, tenant_id, subject)) AS erased
             ON CONFLICT ON CONSTRAINT subject_has_one_key DO UPDATE SET wrapped = NULL, destroyed_at = now()
             WHERE subject_keys.wrapped IS NOT NULL",
        )
        .bind(subjects.iter().map(|_| Uuid::now_v7()).collect::<Vec<_>>())
        .bind(subjects.iter().map(|(tenant, _)| tenant.uuid()).collect::<Vec<_>>())
        .bind(subjects.iter().map(|(_, subject)| *subject).collect::<Vec<_>>())
        .execute(&self.inner.pool)
        .await?;
        Ok(done.rows_affected())
    }

    fn subject_key(&self, kid: Uuid, wrapped: &[u8]) -> Result<Zeroizing<[u8; 32]>, KeyStoreError> {
        let purpose = purpose(kid);
        self.inner
            .master
            .unwrap(&purpose, wrapped)
            .map_err(|_| KeyStoreError::Unopened(purpose))
    }
}
