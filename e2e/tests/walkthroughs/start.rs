//! A process that starts before its engines waits for them, but neither for ever nor for what will not come.

use e2e::{
    engines::Engines,
    installation::{Installation, LogKind, Role, free_port},
    wait,
};
use tokio::net::{TcpListener, TcpStream};

use crate::PATIENCE;

/// The address of an engine that is not there yet: a way to the real one that is opened later.
struct Late {
    port: u16,
    engine: String,
}

impl Late {
    fn of(engine: &str) -> Self {
        Self {
            port: free_port().unwrap(),
            engine: engine.to_owned(),
        }
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The engine is there from now on.
    async fn come(self) {
        let listener = TcpListener::bind(self.address()).await.unwrap();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let engine = self.engine.clone();
                tokio::spawn(async move {
                    let mut engine = TcpStream::connect(engine).await?;
                    tokio::io::copy_bidirectional(&mut client, &mut engine).await
                });
            }
        });
    }
}

/// Host and port of a URL, and the same URL with others.
fn address_of(url: &str) -> &str {
    let rest = url.rsplit_once('@').map_or(url, |(_, rest)| rest);
    rest.split_once('/').map_or(rest, |(address, _)| address)
}

async fn says(annals: &Installation, role: Role, text: &str) {
    wait::until(text, PATIENCE, async || {
        annals.said(role).contains(text).then_some(())
    })
    .await
    .unwrap_or_else(|error| panic!("{error}:\n{}", annals.said(role)));
}

async fn ends(annals: &mut Installation, role: Role) -> String {
    wait::until("the process to end", PATIENCE, async || {
        annals.has_ended(role).unwrap().map(drop)
    })
    .await
    .unwrap();
    annals.said(role)
}

#[tokio::test]
async fn a_process_waits_for_engines_that_come_later() {
    let mut annals = crate::prepared(LogKind::Kafka).await;
    let kafka = Late::of(&Engines::from_environment().unwrap().kafka);
    let keys = annals.keys_database();
    let postgres = Late::of(address_of(&keys));
    annals.set("ANNALS_KAFKA_BROKERS", &kafka.address());
    annals.set(
        "ANNALS_KEYSTORE_URL",
        &keys.replace(address_of(&keys), &postgres.address()),
    );
    for role in [Role::Command, Role::Projector] {
        annals.spawn(role).unwrap();
    }
    says(&annals, Role::Command, "PostgreSQL with the key store").await;
    postgres.come().await;
    for role in [Role::Command, Role::Projector] {
        says(&annals, role, "Kafka").await;
        assert!(!annals.is_ready(role).await && annals.has_ended(role).unwrap().is_none());
    }
    kafka.come().await;
    for role in [Role::Command, Role::Projector] {
        annals.ready(role).await.unwrap();
    }
    annals.tenant("early", "early.example").await.unwrap();
    crate::finish(annals).await;
}

#[tokio::test]
async fn a_process_does_not_wait_for_ever() {
    let mut annals = crate::prepared(LogKind::Embedded).await;
    let keys = annals.keys_database();
    let nobody = Late::of("nobody");
    annals.set(
        "ANNALS_KEYSTORE_URL",
        &keys.replace(address_of(&keys), &nobody.address()),
    );
    annals.set("ANNALS_START_SECONDS", "1");
    annals.spawn(Role::All).unwrap();
    let said = ends(&mut annals, Role::All).await;
    assert!(
        said.contains(
            "PostgreSQL with the key store was not there within 1 s of the start (ANNALS_START_SECONDS)"
        ),
        "{said}"
    );
    annals.erase().await.unwrap();
}

#[tokio::test]
async fn what_waiting_does_not_mend_is_told_at_once() {
    for setting in ["ANNALS_KEYSTORE_URL", "ANNALS_POSTGRES_URL"] {
        let mut annals = crate::prepared(LogKind::Embedded).await;
        let mistaken = format!("{}_mistaken", annals.database());
        annals.set(setting, &mistaken);
        annals.set("ANNALS_START_SECONDS", "100000");
        annals.spawn(Role::All).unwrap();
        let said = ends(&mut annals, Role::All).await;
        assert!(
            said.contains(setting) && said.contains("does not exist"),
            "{said}"
        );
        assert!(!said.contains("waiting"), "{said}");
        annals.erase().await.unwrap();
    }
}
