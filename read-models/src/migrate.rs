//! Brings the control tables up to date and lets the reader read. Any number of processes may try at once.

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, migrate::MigrateError};

use crate::{Error, connect};

/// "annals" in ASCII: names our advisory lock.
pub(crate) const LOCK: i64 = 0x61_6e_6e_61_6c_73;

/// Creates or updates the control tables as the owner, and lets the role of `reader_url` read them and every
/// generation. The role is created when it is missing and the owner may create roles.
///
/// # Errors
/// An unreachable database, a migration that was changed after it ran, or a role that is missing.
pub async fn migrate(owner_url: &str, reader_url: Option<&str>) -> Result<(), Error> {
    let mut owner = PgConnection::connect_with(&connect::parse(owner_url)?).await?;
    // Held until the connection closes, also when this process is killed.
    sqlx::query("SELECT pg_advisory_lock($1)")
        .bind(LOCK)
        .execute(&mut owner)
        .await?;
    owner
        .execute(
            "SET client_min_messages = warning; CREATE SCHEMA IF NOT EXISTS annals; SET search_path = annals",
        )
        .await?;
    let migrated = sqlx::migrate!("migrations/postgres/control")
        .run_direct(None, &mut owner, false)
        .await;
    migrated.map_err(|error| {
        if let MigrateError::VersionMissing(version) = error {
            Error::Newer(version)
        } else if let MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _) = error {
            source.into()
        } else {
            Error::Migration(error)
        }
    })?;
    if let Some(url) = reader_url {
        let_read(&mut owner, url).await?;
    }
    // Whoever was let in earlier reads what is new as well.
    let grants = "SELECT annals.grant_readers(nspname) FROM pg_namespace
                  WHERE nspname = 'annals' OR nspname ~ '^(directory|content|downloads)_[0-9]+$'";
    sqlx::query(grants).execute(&mut owner).await?;
    owner.close().await?;
    Ok(())
}

async fn let_read(owner: &mut PgConnection, reader_url: &str) -> Result<(), Error> {
    let role = connect::parse(reader_url)?.get_username().to_owned();
    let known: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = $1)")
        .bind(&role)
        .fetch_one(&mut *owner)
        .await?;
    if !known {
        let password = password(reader_url)
            .map(|text| format!(" PASSWORD {}", literal(&text)))
            .unwrap_or_default();
        let create = format!("CREATE ROLE {} LOGIN{password}", identifier(&role));
        if let Err(error) = owner.execute(AssertSqlSafe(create)).await {
            // Roles belong to the whole server: another database's migration may have been first.
            let code = error
                .as_database_error()
                .and_then(|e| e.code())
                .unwrap_or_default()
                .into_owned();
            if !matches!(code.as_str(), "42710" | "23505") {
                let advice = format!(
                    "the reader's role {role:?} does not exist and could not be created ({error}): create it, with LOGIN and nothing else"
                );
                return Err(Error::Configuration(advice));
            }
        }
    }
    sqlx::query("INSERT INTO annals.readers (role) VALUES ($1) ON CONFLICT DO NOTHING")
        .bind(&role)
        .execute(&mut *owner)
        .await?;
    Ok(())
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// The password of a URL, percent-decoded.
fn password(url: &str) -> Option<String> {
    let authority = url.split_once("://")?.1.split(['/', '?']).next()?;
    let encoded = authority.rsplit_once('@')?.0.split_once(':')?.1;
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            bytes.extend(hex::decode(digits).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::password;

    #[test]
    fn a_password_is_taken_out_of_a_url() {
        assert_eq!(password("postgres://a:b%40%c3%a9@h/d").as_deref(), Some("b@é"));
        assert_eq!(password("postgres://a@h/d"), None);
        assert_eq!(password("postgres://h/d"), None);
    }
}
