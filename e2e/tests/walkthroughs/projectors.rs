//! Two projectors share the partitions under load; one of them is killed, or frozen until the other has taken over.

use std::{collections::BTreeSet, time::Duration};

use e2e::{
    installation::{Installation, LogKind, Role},
    wait,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::{PATIENCE, sample};

const ONE: Role = Role::Projector;
const TWO: Role = Role::AnotherProjector;
/// The directory, eight of the ledger for content and for downloads, visits and the facts as wholes.
const UNITS: usize = 1 + 8 + 8 + 2;
const TENANTS: usize = 6;
/// Of one round of all tenants.
const PACE: Duration = Duration::from_millis(50);

/// Somebody who writes all the time, of several tenants.
struct Load {
    keys: Vec<String>,
    stop: CancellationToken,
    /// Of each tenant so many pieces and page views were acknowledged.
    writing: JoinHandle<usize>,
}

impl Load {
    async fn start(annals: &Installation) -> Self {
        let mut keys = Vec::new();
        for number in 0..TENANTS {
            let key = annals.tenant(&format!("tenant {number}"), &site(number)).await;
            keys.push(key.unwrap());
        }
        let stop = CancellationToken::new();
        let writing = write(annals.command_address(), keys.clone(), stop.clone());
        Self {
            writing: tokio::spawn(writing),
            keys,
            stop,
        }
    }

    /// Stops it, and waits until all of it is shown, once.
    async fn shown(self, annals: &Installation) {
        self.stop.cancel();
        let count = self.writing.await.unwrap();
        assert!(count > 0);
        for (number, key) in self.keys.iter().enumerate() {
            sample::posts_shown(annals, key, &site(number), count as u64).await;
            sample::pageviews_shown(annals, key, &site(number), count as u64).await;
        }
    }
}

fn site(number: usize) -> String {
    format!("site{number}.example")
}

/// A piece and a page view of each tenant, again and again; how often that was done.
async fn write(address: String, keys: Vec<String>, stop: CancellationToken) -> usize {
    let client = reqwest::Client::new();
    let (mut count, mut pace) = (0, tokio::time::interval(PACE));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(pace.tick()).await.is_some() {
        for (number, key) in keys.iter().enumerate() {
            let (site, slug) = (site(number), format!("piece-{count}"));
            let piece = json!({"site": site, "kind": "post", "title": slug, "slug": slug, "body": "Words."});
            let posted = client
                .post(format!("http://{address}/api/v1/content"))
                .bearer_auth(key)
                .json(&piece);
            assert_eq!(posted.send().await.unwrap().status(), StatusCode::CREATED);
            let view = json!({"n": "pageview", "u": format!("https://{site}/{slug}"), "d": site});
            let seen = client
                .post(format!("http://{address}/api/event"))
                .header(
                    "user-agent",
                    "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0",
                )
                .json(&view);
            assert_eq!(seen.send().await.unwrap().status(), StatusCode::ACCEPTED);
        }
        count += 1;
    }
    count
}

/// What a process fills, as it says of its readiness; none while something of it is not well, or it does not answer.
async fn units(annals: &Installation, role: Role) -> Option<BTreeSet<String>> {
    let address = annals.address(&[role]);
    let asked = annals.command_at(&address, Method::GET, "/readyz", "", Value::Null);
    let answer = tokio::time::timeout(Duration::from_secs(2), asked)
        .await
        .ok()?
        .ok()?;
    let checks = answer.body["checks"].as_object()?;
    let filled = checks.iter().filter(|(name, _)| name.contains(" generation "));
    filled
        .map(|(name, check)| (check["state"] == "ok").then(|| name.clone()))
        .collect()
}

/// Waits until each unit is filled by one of these, and each has some.
async fn dealt(annals: &Installation, what: &str, roles: &[Role]) {
    wait::until(what, PATIENCE, async || {
        let (mut all, mut count) = (BTreeSet::new(), 0);
        for role in roles {
            let units = units(annals, *role).await.filter(|units| !units.is_empty())?;
            count += units.len();
            all.extend(units);
        }
        (all.len() == UNITS && count == UNITS).then_some(())
    })
    .await
    .unwrap_or_else(|error| panic!("{error}:\n{}\n{}", annals.said(ONE), annals.said(TWO)));
}

async fn two() -> (Installation, Load) {
    let mut annals = crate::prepared(LogKind::Kafka).await;
    annals.set("ANNALS_LEDGER_PARTITIONS", "8");
    annals.start().await.unwrap();
    let load = Load::start(&annals).await;
    dealt(&annals, "one to fill all", &[ONE]).await;
    annals.spawn(TWO).unwrap();
    dealt(&annals, "two to share", &[ONE, TWO]).await;
    (annals, load)
}

/// Every row is what the log says; asked of whoever does operators' work, who may be busy.
async fn verified(annals: &Installation, role: Role) {
    let said = wait::until("verification to come to a result", PATIENCE, async || {
        let asked = { annals.annals(annals.operator_key(), &["verify"]) }
            .env(
                "ANNALS_PROJECTOR_URL",
                format!("http://{}", annals.address(&[role])),
            )
            .output();
        let output = asked.await.unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        if said.contains("try again") {
            return None;
        }
        assert!(output.status.success(), "{said}");
        Some(said)
    });
    let said = said.await.unwrap();
    assert_eq!(said.matches(": equal, ").count(), 5, "{said}");
}

#[tokio::test]
async fn a_projector_that_is_killed_is_replaced_by_the_other_and_comes_back() {
    let (mut annals, load) = two().await;
    annals.kill(ONE).await.unwrap();
    dealt(&annals, "the other to fill all", &[TWO]).await;
    verified(&annals, TWO).await;
    annals.spawn(ONE).unwrap();
    dealt(&annals, "two to share again", &[ONE, TWO]).await;
    // In order, too.
    assert!(annals.stop_one(TWO).await.unwrap().success());
    dealt(&annals, "the first to fill all", &[ONE]).await;
    load.shown(&annals).await;
    verified(&annals, ONE).await;
    crate::finish(annals).await;
}

#[tokio::test]
async fn a_projector_that_is_frozen_is_replaced_by_the_other_and_gets_its_share_when_it_wakes() {
    let (annals, load) = two().await;
    let before = units(&annals, ONE).await;
    annals.signal(ONE, "-STOP").await.unwrap();
    dealt(&annals, "the other to fill all", &[TWO]).await;
    // It goes on at once with what it believes to be its own.
    annals.signal(ONE, "-CONT").await.unwrap();
    dealt(&annals, "two to share again", &[ONE, TWO]).await;
    // The same ones: who is who has not changed.
    assert_eq!(units(&annals, ONE).await, before);
    load.shown(&annals).await;
    for role in [ONE, TWO] {
        verified(&annals, role).await;
    }
    crate::finish(annals).await;
}
