//! A subject is erased: its name opens no more, nobody else's is touched, and the log has the last word.

use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use crate::world::{OPERATOR, Process, Tenant, World, key_store, until};

impl Process {
    /// A principal with a name, and its key.
    async fn named(&self, tenant: &Tenant, name: &str) -> Uuid {
        let body = json!({"scopes": ["read"], "name": name});
        let issued = self
            .post("/api/v1/keys", &tenant.key, &body)
            .send()
            .await
            .expect(201);
        issued.body["principal"].as_str().unwrap().parse().unwrap()
    }
}

fn at(subject: Uuid) -> String {
    format!("/api/v1/subjects/{subject}/erase")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_is_erased_by_its_admin_or_an_operator_and_by_nobody_else() {
    let world = World::new().await;
    let (api, ours, theirs) = (
        &world.process,
        world.process.tenant().await,
        world.process.tenant().await,
    );
    let (ada, bob) = (api.named(&ours, "Ada").await, api.named(&ours, "Bob").await);
    let before = world.commits().await;
    api.call(Method::POST, &at(ada))
        .send()
        .await
        .problem(401, "unauthorized");
    let reader = api.issue(&ours.id, &["read", "content:write"]).await;
    api.call(Method::POST, &at(ada))
        .key(&reader)
        .send()
        .await
        .problem(403, "forbidden");
    for subject in [ada.to_string(), Uuid::now_v7().to_string(), "x".to_owned()] {
        let path = format!("/api/v1/subjects/{subject}/erase");
        api.call(Method::POST, &path)
            .key(&theirs.key)
            .send()
            .await
            .problem(404, "not-found");
    }
    api.call(Method::POST, &at(Uuid::now_v7()))
        .key(OPERATOR)
        .send()
        .await
        .problem(404, "not-found");
    // Only the key for the reader was made meanwhile.
    assert_eq!(world.commits().await, before + 1);

    let erase = |subject: Uuid, key: &str| {
        api.call(Method::POST, &at(subject))
            .key(key)
            .header("idempotency-key", "erase")
            .send()
    };
    let erased = erase(ada, &ours.key).await.expect(200);
    assert_eq!(erased.body, json!({"id": ada, "status": "erased", "version": 2}));
    assert_eq!(erased.headers["etag"], "\"2\"");
    assert_eq!(erase(ada, &ours.key).await.expect(200).body, erased.body);
    let again = api
        .call(Method::POST, &at(ada))
        .key(OPERATOR)
        .json(&json!({}))
        .send()
        .await
        .expect(200);
    assert_eq!(again.headers["etag"], "\"2\"");
    assert_eq!(world.commits().await, before + 2, "one event");
    let tenant = ours.id.parse().unwrap();
    let seal = async |subject: Uuid| key_store().await.seal(tenant, subject, "again").await;
    assert!(seal(ada).await.is_err());
    seal(bob).await.unwrap();
    let new_key = json!({"scopes": ["read"], "principal": ada, "name": "Ada"});
    api.post("/api/v1/keys", &ours.key, &new_key)
        .send()
        .await
        .problem(409, "principal-erased");
    let new_key = json!({"scopes": ["read"], "principal": ada});
    api.post("/api/v1/keys", &ours.key, &new_key)
        .send()
        .await
        .problem(409, "principal-erased");
}

/// The event is in the log and its key is not destroyed: so it is after a crash in between, and after the restoring
/// of a key store. Whoever reads the directory destroys it, without being asked.
#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_in_the_log_is_carried_out_by_whoever_reads_it() {
    let world = World::new().await;
    let tenant = world.process.tenant().await;
    let ada = world.process.named(&tenant, "Ada").await;
    let directory = event_log::Partition::DIRECTORY;
    let mut writer = crate::writer::Writer::of(&world.log, directory).await;
    let record = writer.seal(crate::writer::erasure(tenant.id.parse().unwrap(), ada));
    assert!(
        key_store()
            .await
            .seal(tenant.id.parse().unwrap(), ada, "still")
            .await
            .is_ok()
    );
    writer.append(record).await;
    until("the key is destroyed", async || {
        let sealed = key_store()
            .await
            .seal(tenant.id.parse().unwrap(), ada, "again")
            .await;
        sealed.is_err().then_some(())
    })
    .await;
}
