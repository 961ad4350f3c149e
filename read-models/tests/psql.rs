//! What TABLES.md says, done with psql: an analyst is let in, asks the page's questions, and sees one tenant.

use std::process::Command;

use read_models::{Projection, Writer, scratch::Scratch};
use uuid::Uuid;

/// The SQL of a part of the page.
fn statements(heading: &str) -> &'static str {
    let page = include_str!("../TABLES.md");
    let part = page.split(heading).nth(1).unwrap_or_default();
    let block = part.split("```sql\n").nth(1).unwrap_or_default();
    block.split("```").next().unwrap_or_default()
}

/// What psql answers, or what it complains of.
fn psql(url: &str, statement: &str) -> Result<String, String> {
    let output = Command::new("psql")
        .args([
            url,
            "--no-psqlrc",
            "-v",
            "ON_ERROR_STOP=1",
            "-qAt",
            "-c",
            statement,
        ])
        .output()
        .expect("psql can be started: apt-get install postgresql-client");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text").trim().to_owned();
    if output.status.success() {
        Ok(text(output.stdout))
    } else {
        Err(text(output.stderr))
    }
}

#[tokio::test]
async fn an_analyst_who_was_let_in_asks_the_questions_of_the_page() {
    let scratch = Scratch::for_test().await;
    let writer = Writer::connect(&scratch.url()).await.unwrap();
    for projection in [Projection::Directory, Projection::Content, Projection::Downloads] {
        writer.prepare(projection, 1, "1").await.unwrap();
    }
    let [one, other] = [Uuid::from_u128(1), Uuid::from_u128(2)];
    for tenant in [one, other] {
        let rows = format!(
            "INSERT INTO directory_1.tenants (tenant, name, created_at, version) VALUES ('{tenant}', 't', now(), 1)"
        );
        scratch.execute(&rows).await.unwrap();
    }
    // Roles are of the whole server, and others test there too.
    let role = format!("ada_{}", Uuid::now_v7().simple());
    // As on an installation: nobody connects who was not let in.
    let database = scratch.url().rsplit('/').next().unwrap().to_owned();
    let closed = format!("REVOKE CONNECT ON DATABASE {database} FROM PUBLIC");
    scratch.execute(&closed).await.unwrap();
    let letting_in = statements("### Letting an analyst in")
        .replace("DATABASE annals", &format!("DATABASE {database}"))
        .replace("ada", &role)
        .replace("'…'", "'lovelace'")
        .replace("7b0c…", &one.to_string());
    assert!(
        letting_in.contains("CREATE ROLE") && letting_in.contains("INSERT"),
        "{letting_in}"
    );
    psql(&scratch.url(), &letting_in).unwrap();
    let url = scratch
        .reader_url()
        .replace("annals_scratch_reader:reader", &format!("{role}:lovelace"));

    let questions: Vec<_> = statements("### Examples")
        .split(";\n")
        .filter(|it| !it.trim().is_empty())
        .collect();
    assert_eq!(questions.len(), 3, "{questions:?}");
    for question in questions {
        psql(&url, question).unwrap_or_else(|error| panic!("{question}\n{error}"));
    }
    assert_eq!(
        psql(&url, "SELECT tenant FROM live.tenants").unwrap(),
        one.to_string()
    );
    assert_eq!(psql(&url, "SHOW statement_timeout").unwrap(), "1min");
    for (statement, why) in [
        ("SELECT * FROM directory_1.tenants", "permission denied"),
        ("SELECT * FROM annals.analysts", "permission denied"),
        ("SELECT secret_hash FROM live.keys", "does not exist"),
        ("DELETE FROM live.tenants", "permission denied"),
        (
            "SET TRANSACTION READ WRITE; DELETE FROM live.tenants",
            "permission denied",
        ),
        (
            "SET TRANSACTION READ WRITE; CREATE TABLE live.mine (n integer)",
            "permission denied",
        ),
    ] {
        let refused = psql(&url, statement).unwrap_err();
        assert!(refused.contains(why), "{statement}: {refused}");
    }
    let everything = format!("INSERT INTO annals.analysts (role) VALUES ('{role}')");
    scratch.execute(&everything).await.unwrap();
    assert_eq!(psql(&url, "SELECT count(*) FROM live.tenants").unwrap(), "2");
    let gone = format!("DROP OWNED BY {role}; DROP ROLE {role}");
    scratch.execute(&gone).await.unwrap();
    scratch.erase().await.unwrap();
}
