//! The key store on a real PostgreSQL: a database of its own for each test.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use events::{ImportId, SiteId, TenantId, Timestamp, VisitorId};
use key_store::{ConnectError, KeyStore, KeyStoreError, MasterKey, Salt};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use uuid::Uuid;

/// A database that is dropped by its name at the end of a test.
struct Database {
    admin: String,
    name: String,
    url: String,
}

impl Database {
    async fn new() -> Self {
        let admin = std::env::var("ANNALS_TEST_POSTGRES").expect("no ANNALS_TEST_POSTGRES: run ./dev test");
        let name = format!("keystore_{}", Uuid::new_v4().simple());
        let mut connection = PgConnection::connect(&admin).await.unwrap();
        connection
            .execute(AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .await
            .unwrap();
        let (server, _) = admin.rsplit_once('/').unwrap();
        Self {
            url: format!("{server}/{name}"),
            admin,
            name,
        }
    }

    async fn store(&self) -> KeyStore {
        KeyStore::connect(&self.url, master("a")).await.unwrap()
    }

    /// Does what only time does otherwise.
    async fn execute(&self, sql: &'static str) -> u64 {
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        connection.execute(sql).await.unwrap().rows_affected()
    }

    async fn drop(self) {
        let mut connection = PgConnection::connect(&self.admin).await.unwrap();
        connection
            .execute(AssertSqlSafe(format!("DROP DATABASE {} WITH (FORCE)", self.name)))
            .await
            .unwrap();
    }
}

fn master(digit: &str) -> MasterKey {
    digit.repeat(64).parse().unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// What can be seen of a salt: the id that it gives.
fn seen(salt: &Salt) -> VisitorId {
    salt.visitor(SiteId::new(Uuid::nil()), "192.0.2.1".parse().unwrap(), "Firefox")
}

#[tokio::test]
async fn a_days_salt_is_one_for_all_processes_and_another_on_the_next_day() {
    let database = Database::new().await;
    let (one, two) = tokio::join!(database.store(), async { database.store().await });
    let (morning, evening) = (at("2026-11-21T00:00:00Z"), at("2026-11-21T23:59:59Z"));
    let (first, second) = tokio::join!(one.day_salt(morning), two.day_salt(evening));
    assert_eq!(seen(&first.clone().unwrap()), seen(&second.unwrap()));
    assert_ne!(
        seen(&first.unwrap()),
        seen(&one.day_salt(at("2026-11-22T00:00:00Z")).await.unwrap())
    );
    database.drop().await;
}

#[tokio::test]
async fn a_days_salt_is_destroyed_after_48_hours_and_a_late_visit_gets_a_new_one() {
    let database = Database::new().await;
    let day = at("2026-11-21T12:00:00Z");
    let before = seen(&database.store().await.day_salt(day).await.unwrap());
    database
        .execute("UPDATE keystore.day_salts SET created_at = now() - interval '47 hours'")
        .await;
    let store = database.store().await;
    assert_eq!(
        before,
        seen(&store.day_salt(day).await.unwrap()),
        "still there after 47 hours"
    );
    assert_eq!(store.destroy_old_salts().await.unwrap(), 0);

    database
        .execute("UPDATE keystore.day_salts SET created_at = now() - interval '49 hours'")
        .await;
    let after = seen(&database.store().await.day_salt(day).await.unwrap());
    assert_ne!(before, after, "void after 48 hours, even when nobody deleted it");

    database
        .execute("UPDATE keystore.day_salts SET created_at = now() - interval '49 hours'")
        .await;
    assert_eq!(store.destroy_old_salts().await.unwrap(), 1);
    assert_eq!(database.execute("SELECT FROM keystore.day_salts").await, 0);
    database.drop().await;
}

#[tokio::test]
async fn an_imports_salt_lives_until_the_import_is_complete() {
    let database = Database::new().await;
    let import = ImportId::new(Uuid::new_v4());
    let day = at("2015-05-17T10:00:00Z");
    let store = database.store().await;
    let tenant = TenantId::new(Uuid::new_v4());
    let salt =
        async |store: &KeyStore, import| seen(&store.import_salt(tenant, import).await.unwrap().of_day(day));
    let before = salt(&store, import).await;
    let other = database.store().await;
    assert_eq!(before, salt(&other, import).await);
    let another = ImportId::new(Uuid::new_v4());
    assert_ne!(before, salt(&store, another).await);

    let mut known = [import, another].map(|import| (tenant, import));
    known.sort_by_key(|(_, import)| import.uuid());
    let old = async |seconds, after, limit| {
        let age = std::time::Duration::from_secs(seconds);
        store.old_import_salts(age, after, limit).await.unwrap()
    };
    assert_eq!(old(0, None, 9).await, known);
    assert_eq!(old(0, None, 1).await, known[..1]);
    assert_eq!(old(0, Some(known[0].1), 9).await, known[1..]);
    assert_eq!(old(3_600, None, 9).await, []);

    store.destroy_import_salt(import).await.unwrap();
    store.destroy_import_salt(import).await.unwrap();
    assert_ne!(before, salt(&store, import).await);
    database.drop().await;
}

#[tokio::test]
async fn a_sealed_field_opens_until_its_subject_is_erased() {
    let database = Database::new().await;
    let store = database.store().await;
    let (tenant, subject) = (TenantId::new(Uuid::new_v4()), Uuid::new_v4());
    let sealed = store.seal(tenant, subject, "Ada Lovelace").await.unwrap();
    let again = store.seal(tenant, subject, "Ada Lovelace").await.unwrap();
    assert_eq!(sealed.kid, again.kid);
    assert_ne!(sealed.ct, again.ct, "equal texts do not look equal");
    assert_eq!(
        store.open(&sealed).await.unwrap().unwrap().as_str(),
        "Ada Lovelace"
    );

    let mut changed = sealed.clone();
    changed
        .ct
        .replace_range(..1, if sealed.ct.starts_with('A') { "B" } else { "A" });
    assert!(matches!(
        store.open(&changed).await,
        Err(KeyStoreError::Malformed(_))
    ));

    assert_eq!(
        store
            .destroy_subjects(&[(tenant, subject), (tenant, subject)])
            .await
            .unwrap(),
        1
    );
    assert_eq!(store.destroy_subjects(&[(tenant, subject)]).await.unwrap(), 0);
    assert_eq!(store.destroy_subjects(&[]).await.unwrap(), 0);
    assert_eq!(store.open(&sealed).await.unwrap(), None);
    assert!(
        matches!(store.seal(tenant, subject, "Ada").await, Err(KeyStoreError::Erased(who)) if who == subject)
    );
    database.drop().await;
}

#[tokio::test]
async fn who_was_erased_before_anything_was_sealed_gets_no_key_later() {
    let database = Database::new().await;
    let store = database.store().await;
    let (tenant, subject) = (TenantId::new(Uuid::new_v4()), Uuid::new_v4());
    assert_eq!(store.destroy_subjects(&[(tenant, subject)]).await.unwrap(), 1);
    assert!(matches!(
        store.seal(tenant, subject, "Ada").await,
        Err(KeyStoreError::Erased(_))
    ));
    database.drop().await;
}

/// Property: after any erasures, exactly what was sealed for somebody else opens.
#[test]
fn an_erasure_touches_no_other_subject_and_no_other_tenant() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let database = runtime.block_on(Database::new());
    let store = runtime.block_on(database.store());
    let config = Config {
        cases: 32,
        failure_persistence: None,
        ..Config::default()
    };
    // The same few subjects in a few tenants: what is erased in one stands in another.
    let places = || (0..3_usize, 0..4_usize);
    let given = (
        prop::collection::vec(places(), 1..20),
        prop::collection::vec(prop::collection::vec(places(), 0..4), 0..4),
    );
    let outcome = TestRunner::new(config).run(&given, |(sealed, erased)| {
        let tenants: [TenantId; 3] = std::array::from_fn(|_| TenantId::new(Uuid::new_v4()));
        let subjects: [Uuid; 4] = std::array::from_fn(|_| Uuid::new_v4());
        runtime.block_on(async {
            let mut fields = Vec::new();
            for (tenant, subject) in sealed {
                let text = format!("{tenant} {subject}");
                let field = store
                    .seal(tenants[tenant], subjects[subject], &text)
                    .await
                    .unwrap();
                fields.push(((tenant, subject), text, field));
            }
            for together in &erased {
                let together: Vec<_> = together
                    .iter()
                    .map(|(tenant, subject)| (tenants[*tenant], subjects[*subject]))
                    .collect();
                store.destroy_subjects(&together).await.unwrap();
            }
            let gone = |place| erased.iter().flatten().any(|erased| *erased == place);
            for (place, text, field) in fields {
                let opened = store.open(&field).await.unwrap();
                prop_assert_eq!(
                    opened.map(|opened| opened.to_string()),
                    (!gone(place)).then_some(text)
                );
            }
            Ok(())
        })
    });
    outcome.unwrap();
    runtime.block_on(database.drop());
}

#[tokio::test]
async fn a_key_of_one_subject_does_not_open_anothers_field() {
    let database = Database::new().await;
    let store = database.store().await;
    let tenant = TenantId::new(Uuid::new_v4());
    let one = store.seal(tenant, Uuid::new_v4(), "one").await.unwrap();
    let mut crossed = store.seal(tenant, Uuid::new_v4(), "two").await.unwrap();
    crossed.kid = one.kid;
    assert!(store.open(&crossed).await.is_err());
    database.drop().await;
}

#[tokio::test]
async fn the_installations_hash_outlives_a_restart_and_is_no_others() {
    let (database, other) = (Database::new().await, Database::new().await);
    let hash = database.store().await.keyed_hash("idempotency", &[b"a", b"bc"]);
    assert_eq!(
        hash,
        database.store().await.keyed_hash("idempotency", &[b"a", b"bc"])
    );
    assert_ne!(
        hash,
        database.store().await.keyed_hash("idempotency", &[b"ab", b"c"])
    );
    assert_ne!(hash, database.store().await.keyed_hash("request", &[b"a", b"bc"]));
    assert_ne!(
        hash,
        other.store().await.keyed_hash("idempotency", &[b"a", b"bc"])
    );
    database.drop().await;
    other.drop().await;
}

#[tokio::test]
async fn another_master_key_is_refused_at_start() {
    let database = Database::new().await;
    database.store().await.ping().await.unwrap();
    let refused = KeyStore::connect(&database.url, master("b")).await;
    assert!(matches!(refused, Err(ConnectError::WrongMasterKey)));
    database.drop().await;
}
