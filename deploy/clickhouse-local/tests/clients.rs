//! Ordinary clients work against the engine, and its users may do what they should and no more.

use std::process::Command;

use clickhouse::{Client, Row};
use serde::{Deserialize, Serialize};

/// A variable that `./dev test` sets. Without engines a test fails; it does not look as if it had passed.
fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: tests need real engines, run `./dev test -p clickhouse-local`")
    })
}

/// Who sends a statement.
#[derive(Clone, Copy)]
enum User {
    Writer,
    Reader,
    Analyst,
    /// The engine's own, without a password.
    Default,
}

impl User {
    fn name_and_password(self) -> (String, String) {
        let pair = |middle: &str| {
            let name = |what: &str| variable(&format!("ANNALS_TEST_CLICKHOUSE{middle}_{what}"));
            (name("USER"), name("PASSWORD"))
        };
        match self {
            Self::Writer => pair(""),
            Self::Reader => pair("_READER"),
            Self::Analyst => pair("_ANALYST"),
            Self::Default => ("default".to_owned(), String::new()),
        }
    }
}

/// Sends a statement with curl; the answer, or ClickHouse's error code.
fn curl(user: User, settings: &str, statement: &str) -> Result<String, u32> {
    let (name, password) = user.name_and_password();
    let output = Command::new("curl")
        .args([
            "-sS",
            "--user",
            &format!("{name}:{password}"),
            "--data-binary",
            statement,
        ])
        .arg(format!("{}/?{settings}", variable("ANNALS_TEST_CLICKHOUSE")))
        .output()
        .expect("curl can be started");
    assert!(
        output.status.success(),
        "curl: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let answer = String::from_utf8(output.stdout).expect("the answer is text");
    match answer
        .split_once("Code: ")
        .and_then(|(_, rest)| rest.split_once(". DB::Exception"))
    {
        Some((code, _)) => Err(code.parse().expect("a code is a number")),
        None => Ok(answer),
    }
}

/// A database of the test's own, dropped at its end.
struct Scratch(String);

impl Scratch {
    fn new(prefix: &str) -> Self {
        let name = format!("{prefix}_{:016x}", rand::random::<u64>());
        curl(User::Writer, "", &format!("CREATE DATABASE {name}")).expect("the writer makes databases");
        Self(name)
    }

    fn with_visits(prefix: &str) -> Self {
        let scratch = Self::new(prefix);
        let Self(name) = &scratch;
        let table = format!(
            "CREATE TABLE {name}.visits (path String, views UInt64) ENGINE = MergeTree ORDER BY path"
        );
        curl(User::Writer, "", &table).expect("the writer makes tables");
        scratch
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Best effort: the engine is thrown away with all its databases.
        let _ = curl(
            User::Writer,
            "",
            &format!("DROP DATABASE IF EXISTS {} SYNC", self.0),
        );
    }
}

const NOT_ENOUGH_PRIVILEGES: u32 = 497;
const READ_ONLY: u32 = 164;
const SETTING_OUT_OF_BOUNDS: u32 = 452;
const TOO_MANY_ROWS: u32 = 158;
const RESULT_TOO_LARGE: u32 = 396;
const TOO_SLOW: u32 = 159;
const OUT_OF_MEMORY: u32 = 241;
const WRONG_PASSWORD: u32 = 516;

#[test]
fn curl_inserts_and_selects() {
    let scratch = Scratch::with_visits("curl");
    let Scratch(name) = &scratch;
    let rows = format!(
        "INSERT INTO {name}.visits FORMAT JSONEachRow {{\"path\":\"/a\",\"views\":3}} {{\"path\":\"/b\",\"views\":4}}"
    );
    curl(User::Writer, "", &rows).expect("the writer inserts");
    let answer = curl(
        User::Reader,
        "",
        &format!("SELECT path, views FROM {name}.visits ORDER BY path FORMAT CSV"),
    );
    assert_eq!(answer.as_deref(), Ok("\"/a\",3\n\"/b\",4\n"));
}

#[derive(Debug, PartialEq, Row, Serialize, Deserialize)]
struct Visit {
    path: String,
    views: u64,
}

#[tokio::test]
async fn the_clickhouse_crate_inserts_and_selects() -> anyhow::Result<()> {
    let scratch = Scratch::with_visits("crate");
    let client = |user: User| {
        let (name, password) = user.name_and_password();
        let client = Client::default().with_url(variable("ANNALS_TEST_CLICKHOUSE"));
        client
            .with_user(name)
            .with_password(password)
            .with_database(&scratch.0)
    };
    let visits: Vec<Visit> = (0..1000)
        .map(|number| Visit {
            path: format!("/{number:04}"),
            views: number,
        })
        .collect();
    let mut insert = client(User::Writer).insert::<Visit>("visits").await?;
    for visit in &visits {
        insert.write(visit).await?;
    }
    insert.end().await?;

    let query = "SELECT path, views FROM visits WHERE views >= ? ORDER BY path";
    let read = client(User::Reader)
        .query(query)
        .bind(10_u64)
        .fetch_all::<Visit>()
        .await?;
    assert_eq!(read, visits[10..]);
    Ok(())
}

#[test]
fn the_python_client_inserts_and_selects() {
    let scratch = Scratch::with_visits("python");
    let output = Command::new(variable("ANNALS_TEST_PYTHON"))
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/client.py"))
        .arg(&scratch.0)
        .output()
        .expect("Python can be started");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn an_analyst_sees_live_views_and_nothing_behind_them() {
    let (hidden, live) = (Scratch::with_visits("hidden"), Scratch::new("live"));
    let (Scratch(hidden), Scratch(live)) = (&hidden, &live);
    curl(
        User::Writer,
        "",
        &format!("INSERT INTO {hidden}.visits VALUES ('/a', 3)"),
    )
    .expect("the writer inserts");
    // The view reads with its definer's eyes: the analyst has no grant on what is behind it.
    let view = format!(
        "CREATE VIEW {live}.visits SQL SECURITY DEFINER DEFINER = annals_writer AS SELECT * FROM {hidden}.visits"
    );
    curl(User::Writer, "", &view).expect("the writer makes views");

    let through = curl(
        User::Analyst,
        "",
        &format!("SELECT sum(views) FROM {live}.visits"),
    );
    assert_eq!(through.as_deref(), Ok("3\n"));
    let behind = curl(
        User::Analyst,
        "",
        &format!("SELECT sum(views) FROM {hidden}.visits"),
    );
    assert_eq!(behind, Err(NOT_ENOUGH_PRIVILEGES));
    let databases = curl(User::Analyst, "", "SHOW DATABASES").expect("an analyst may look around");
    assert!(
        databases.contains(live) && !databases.contains(hidden),
        "{databases}"
    );
}

#[test]
fn an_analyst_and_a_reader_write_nothing_and_leave_the_engine_by_no_door() {
    let scratch = Scratch::with_visits("live");
    let Scratch(name) = &scratch;
    for user in [User::Analyst, User::Reader] {
        for statement in [
            format!("INSERT INTO {name}.visits VALUES ('/a', 3)"),
            format!("ALTER TABLE {name}.visits DELETE WHERE 1"),
            format!("DROP TABLE {name}.visits"),
            format!("CREATE TABLE {name}.other (a UInt8) ENGINE = Memory"),
            "SYSTEM SHUTDOWN".to_owned(),
            "SYSTEM STOP LISTEN HTTP".to_owned(),
            "SELECT * FROM file('/etc/passwd', LineAsString)".to_owned(),
            "SELECT * FROM url('http://127.0.0.1/', LineAsString)".to_owned(),
            "SELECT * FROM remote('127.0.0.1', system.one)".to_owned(),
        ] {
            let code = curl(user, "", &statement).expect_err(&statement);
            assert!(
                [NOT_ENOUGH_PRIVILEGES, READ_ONLY].contains(&code),
                "{statement}: {code}"
            );
        }
    }
    let count = curl(User::Reader, "", &format!("SELECT count() FROM {name}.visits"));
    assert_eq!(count.as_deref(), Ok("0\n"));
}

#[test]
fn an_analysts_limits_hold_and_cannot_be_lifted() {
    let query = |settings: &str, statement: &str| curl(User::Analyst, settings, statement);
    for lifted in [
        "max_execution_time",
        "max_memory_usage",
        "max_memory_usage_for_user",
        "max_concurrent_queries_for_user",
        "max_temporary_data_on_disk_size_for_query",
        "max_temporary_data_on_disk_size_for_user",
        "max_result_rows",
        "max_rows_to_read",
    ] {
        for value in ["0", "99999999999"] {
            let code = query(&format!("{lifted}={value}"), "SELECT 1");
            assert_eq!(code, Err(SETTING_OUT_OF_BOUNDS), "{lifted}={value}");
        }
    }
    assert_eq!(query("readonly=0", "SELECT 1"), Err(READ_ONLY));
    assert_eq!(
        query("result_overflow_mode=break", "SELECT 1"),
        Err(SETTING_OUT_OF_BOUNDS)
    );
    assert_eq!(
        query("", "SELECT number FROM numbers(1000001) FORMAT Null"),
        Err(RESULT_TOO_LARGE)
    );
    assert_eq!(
        query(
            "max_rows_to_read=10",
            "SELECT count() FROM numbers(11) WHERE number % 2"
        ),
        Err(TOO_MANY_ROWS)
    );
    let slow = "SELECT count() FROM numbers(1000000000) WHERE sleepEachRow(0.01)";
    assert_eq!(
        query("max_execution_time=1&max_block_size=10", slow),
        Err(TOO_SLOW)
    );
    let large = "SELECT uniqExact(number, number + 1) FROM numbers(100000000)";
    assert_eq!(query("max_memory_usage=10000000", large), Err(OUT_OF_MEMORY));
}

#[test]
fn the_engines_own_user_reads_no_table_and_strangers_do_not_enter() {
    let scratch = Scratch::with_visits("hidden");
    let table = format!("{}.visits", scratch.0);
    assert_eq!(
        curl(User::Default, "", &format!("SELECT * FROM {table}")),
        Err(NOT_ENOUGH_PRIVILEGES)
    );
    assert_eq!(
        curl(User::Default, "", "SYSTEM SHUTDOWN"),
        Err(NOT_ENOUGH_PRIVILEGES)
    );
    let (name, _) = User::Writer.name_and_password();
    assert_eq!(
        curl(User::Default, &format!("user={name}&password=guess"), "SELECT 1").err(),
        Some(WRONG_PASSWORD)
    );
}

#[test]
fn an_insert_is_in_the_table_when_it_is_answered() {
    let scratch = Scratch::with_visits("sync");
    let Scratch(name) = &scratch;
    let setting = curl(User::Writer, "", "SELECT getSetting('async_insert')");
    assert_eq!(setting.as_deref(), Ok("false\n"));
    for expected in 1..=20 {
        curl(
            User::Writer,
            "",
            &format!("INSERT INTO {name}.visits VALUES ('/a', 1)"),
        )
        .expect("the writer inserts");
        let count = curl(User::Reader, "", &format!("SELECT count() FROM {name}.visits"));
        assert_eq!(count, Ok(format!("{expected}\n")));
    }
}
