//! Prepares a database for checking queries at compile time: every table of every projection, all of them on
//! its search path. Run it, then let the macros look at it and write what they learned to `.sqlx/`:
//!
//! ```sh
//! cargo run -p read-models --features bare --example migrate -- postgres://USER:PASSWORD@HOST:PORT/DATABASE
//! rm -f .sqlx/*.json && touch read-models/src/lib.rs
//! DATABASE_URL=postgres://… SQLX_OFFLINE_DIR="$PWD/.sqlx" cargo check -p read-models
//! ```
//!
//! The database is made when it is missing; what it holds of ours is made anew. The feature `bare` leaves the
//! library's modules out, so this also runs while a changed query does not compile.

use anyhow::{Context as _, bail};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

const CONTROL: &[&str] = &[
    include_str!("../migrations/postgres/control/0001_control.sql"),
    include_str!("../migrations/postgres/control/0002_fold_snapshots.sql"),
    include_str!("../migrations/postgres/control/0003_end_read_at.sql"),
    include_str!("../migrations/postgres/control/0004_rebuilds.sql"),
    include_str!("../migrations/postgres/control/0005_skips.sql"),
    include_str!("../migrations/postgres/control/0006_frozen.sql"),
    include_str!("../migrations/postgres/control/0007_verified.sql"),
    include_str!("../migrations/postgres/control/0008_shown_otherwise.sql"),
    include_str!("../migrations/postgres/control/0009_filled.sql"),
    include_str!("../migrations/postgres/control/0010_projectors.sql"),
    include_str!("../migrations/postgres/control/0011_shown_one_by_one.sql"),
    include_str!("../migrations/postgres/control/0012_views_in_place.sql"),
    include_str!("../migrations/postgres/control/0013_numbers.sql"),
];

const TEMPLATES: &[(&str, &str)] = &[
    ("directory", include_str!("../migrations/postgres/directory.sql")),
    ("content", include_str!("../migrations/postgres/content.sql")),
    ("downloads", include_str!("../migrations/postgres/downloads.sql")),
];

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let Some(url) = std::env::args().nth(1) else {
        bail!("which database? Give its URL")
    };
    let (server, name) = url.rsplit_once('/').context("a URL ends in /DATABASE")?;
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        bail!("{name:?} is not a plain name for a database");
    }
    let mut admin = PgConnection::connect(&format!("{server}/postgres")).await?;
    let known: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = $1)")
        .bind(name)
        .fetch_one(&mut admin)
        .await?;
    if !known {
        admin
            .execute(AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .await?;
    }
    let mut owner = PgConnection::connect(&url).await?;
    let mut script = String::from(
        "SET client_min_messages = warning; DROP SCHEMA IF EXISTS annals CASCADE; CREATE SCHEMA annals;
         SET search_path = annals;",
    );
    script.extend(CONTROL.iter().copied());
    let mut path = Vec::new();
    for (projection, template) in TEMPLATES {
        let schema = format!("{projection}_1");
        script.push_str(&format!(
            "DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema}; SET search_path = {schema}; {template}"
        ));
        path.push(schema);
    }
    script.push_str(&format!(
        "ALTER DATABASE {name} SET search_path = {}, annals, public;",
        path.join(", ")
    ));
    owner.execute(AssertSqlSafe(script)).await?;
    Ok(())
}
