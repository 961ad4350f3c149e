//! A log with everything in it, all projections folded from it, and hands that damage the tables.
#![expect(unreachable_pub, reason = "a part of each test that is a crate of its own")]

use std::collections::BTreeMap;

use event_log::Partition;
use events::{
    Envelope, Event, EventId, ImportId, KeyId, PrincipalId, Recorded, SiteId, TenantId, Timestamp, VisitorId,
    Whole, directory,
    visit::{CustomEventRecorded, EngagementRecorded, ImportLine, PageViewed, Revenue, Visit},
};
use projectors::{
    Config,
    run::Dependencies,
    runner::Until,
    verify::{Difference, Outcome, Told, Verifier, Wanted},
};
use read_models::{Projection, Writer, clickhouse::scratch::Scratch as Rows, scratch::Scratch as Control};
use service::health::Health;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::kit::{self, Step, TestLog, history, site, tenant};

const NOON: i64 = 1_431_864_000_000_000;

pub struct World {
    pub log: TestLog,
    pub control: Control,
    pub rows: Rows,
    pub health: Health,
    /// Visits made so far; their ids count on.
    visits: u64,
}

/// Numbers that look random and are the same each time.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

impl World {
    pub async fn make() -> Self {
        Self::on(TestLog::make().await).await
    }

    pub async fn on(log: TestLog) -> Self {
        Self {
            log,
            control: Control::for_test().await,
            rows: Rows::for_test(),
            health: Health::new(),
            visits: 0,
        }
    }

    pub fn config(&self) -> Config {
        Config {
            clickhouse_user: self.rows.writer.user.clone(),
            clickhouse_password: self.rows.writer.password.clone(),
            parking_limit: 1_000,
            ..kit::config(&self.control)
        }
    }

    pub fn dependencies(&self, until: Until) -> Dependencies {
        Dependencies {
            log: self.log.log.clone(),
            clickhouse_url: self.rows.writer.url.clone(),
            clickhouse_prefix: self.rows.writer.prefix.clone(),
            health: self.health.clone(),
            until,
        }
    }

    /// Folds everything that is in the log now.
    pub async fn fold(&self) {
        projectors::run(
            self.dependencies(Until::CaughtUp),
            self.config(),
            CancellationToken::new(),
        )
        .await
        .unwrap();
    }

    /// A history of everything: who exists, what was written and queued, who came by.
    pub async fn live(&mut self, seed: u64) {
        let mut numbers = Numbers(seed);
        self.directory().await;
        let mut steps: Vec<Step> = (0..300)
            .map(|_| (numbers.below(256) as u8, numbers.below(256) as u8))
            .collect();
        // Events that cannot be projected, and some that wait behind them.
        steps.extend([(1, 0), (1, 255), (1, 3), (2, 0), (2, 250), (2, 5)]);
        self.log.ledger.commits(history(&steps)).await;
        self.visits(&mut numbers, 600).await;
        self.strange_visits(&mut numbers).await;
        self.visits(&mut numbers, 30).await;
    }

    /// A record of a visit among what cannot be read and what is nobody's, and one of nothing at all.
    async fn strange_visits(&mut self, numbers: &mut Numbers) {
        let mut record = event_log::visits::encode(tenant(0), &[self.visit(numbers)]);
        let visit = String::from_utf8(record.value.to_vec()).unwrap();
        let visit = visit.trim_start_matches('[').trim_end_matches(']');
        let unread = |version: &str| {
            format!(
                r#"{{"type":"visit.page-viewed.{version}","tenant":"{}"}}"#,
                tenant(0)
            )
        };
        let (one, other) = (unread("v1"), unread("v9"));
        record.value = format!(r#"[{one},{visit},{other},{{"odd":1}}]"#).into();
        let mut nothing = event_log::visits::encode(tenant(0), &[]);
        nothing.value = b"no JSON at all"[..].into();
        for record in [record, nothing] {
            self.log.log.append(Partition::visits(0), record).await.unwrap();
        }
    }

    async fn directory(&mut self) {
        let key: KeyId = "k7Qm2ZxA".parse().unwrap();
        let other: KeyId = "k7Qm2ZxB".parse().unwrap();
        let owner = tenant(0);
        let issued = |key: &KeyId| -> Event {
            directory::KeyIssued {
                key: key.clone(),
                principal: PrincipalId::new(Uuid::from_u128(5)),
                secret_hash: events::Sha256([7; 32]),
                scopes: vec![directory::Scope::Read, directory::Scope::ContentWrite],
            }
            .into()
        };
        let created = directory::TenantCreated { name: "acme".into() };
        let site_created = directory::SiteCreated {
            domain: "example.org".into(),
            name: None,
            timezone: "Europe/Vienna".into(),
        };
        let sealed = events::Sealed {
            kid: Uuid::from_u128(6),
            alg: "xchacha20poly1305".into(),
            nonce: "AAECAwQFBgcICQoLDA0ODxAREhMUFRYX".into(),
            ct: "c2VhbGVk".into(),
        };
        let principal = directory::PrincipalCreated {
            name: Some(sealed.clone()),
        };
        let another = directory::PrincipalCreated { name: Some(sealed) };
        let log = &mut self.log.directory;
        log.commit(owner, vec![(owner.to_string(), 1, created.into())])
            .await;
        log.commit(owner, vec![(site(0).to_string(), 1, site_created.into())])
            .await;
        let id = Uuid::from_u128(5).to_string();
        let keys = [(&key, 1), (&other, 1)].map(|(key, version)| (key.to_string(), version, issued(key)));
        log.commit(owner, vec![(id.clone(), 1, principal.into())]).await;
        log.commit(owner, vec![(Uuid::from_u128(7).to_string(), 1, another.into())])
            .await;
        log.commit(owner, keys.into()).await;
        log.commit(owner, vec![(id, 2, directory::PrincipalErased {}.into())])
            .await;
        let revoked = directory::KeyRevoked { key: key.clone() };
        log.commit(owner, vec![(key.to_string(), 2, revoked.into())])
            .await;
    }

    /// So many visits, out of order, of few visitors, some of them repeated.
    pub async fn visits(&mut self, numbers: &mut Numbers, count: u64) {
        for _ in 0..count / 3 {
            let events: Vec<Recorded> = (0..3).map(|_| self.visit(numbers)).collect();
            let record = event_log::visits::encode(tenant(0), &events);
            self.log.log.append(Partition::visits(0), record).await.unwrap();
        }
    }

    fn visit(&mut self, numbers: &mut Numbers) -> Recorded {
        // Now and then an earlier id again.
        let number = if self.visits > 10 && numbers.below(12) == 0 {
            self.visits - numbers.below(9)
        } else {
            self.visits += 1;
            self.visits
        };
        let visitor = numbers.below(15);
        let minute = number as i64 / 4 + numbers.below(50) as i64;
        let optional = |numbers: &mut Numbers, text: &str| (numbers.below(3) == 0).then(|| text.to_owned());
        let visit = Visit {
            site: site(u128::from(visitor % 2)),
            visitor: VisitorId::new(visitor + (1 << 63)),
            hostname: "example.org".into(),
            pathname: format!("/{}", numbers.below(9)),
            referrer: optional(numbers, "other.example/x"),
            source: optional(numbers, "Google"),
            device: optional(numbers, "Mobile"),
            browser: optional(numbers, "Firefox \"q\" \\ ü"),
            os: optional(numbers, "Linux"),
            utm: optional(numbers, "news")
                .map(|text| ("campaign".to_owned(), text))
                .into_iter()
                .collect(),
            content: (numbers.below(5) == 0).then(|| kit::piece(1)),
            props: BTreeMap::from([("a\nb".to_owned(), "c'd".to_owned())]),
            import: (numbers.below(6) == 0).then(|| ImportLine {
                id: ImportId::new(Uuid::from_u128(9)),
                line: Whole(number),
            }),
        };
        let event: Event = match numbers.below(6) {
            0 => CustomEventRecorded {
                visit,
                name: "Signup".into(),
                interactive: numbers.below(2) == 0,
                revenue: (numbers.below(2) == 0).then(|| Revenue {
                    amount: "-012.340".into(),
                    currency: "EUR".into(),
                }),
            }
            .into(),
            1 => EngagementRecorded {
                visit,
                engaged_ms: 1200,
                scroll_depth: Some(40),
            }
            .into(),
            _ => PageViewed { visit }.into(),
        };
        Recorded {
            envelope: Envelope {
                id: EventId::new(Uuid::from_u128(u128::from(number))),
                subject: SiteId::new(Uuid::from_u128(2)).to_string(),
                time: Timestamp::from_micros(NOON + minute * 60_000_000 + number as i64).unwrap(),
                tenant: TenantId::new(Uuid::from_u128(1)),
                aggregate_version: None,
                actor: None,
                causation: None,
                correlation: None,
                traceparent: None,
            },
            event,
        }
    }

    pub async fn writer(&self) -> Writer {
        Writer::connect(&self.control.url()).await.unwrap()
    }

    pub async fn verifier(&self) -> Verifier {
        Verifier::new(self.log.log.clone(), self.writer().await, self.rows.writer())
    }

    /// What verification says of the live generation.
    pub async fn verify(&self, projection: Projection) -> (Outcome, Vec<Difference>) {
        verified(&self.verifier().await, projection, None).await
    }

    pub async fn erase(self) {
        self.rows.erase().await.unwrap();
        self.control.erase().await.unwrap();
    }
}

/// What verification says of a generation: the outcome, and what it told on the way.
pub async fn verified(
    verifier: &Verifier,
    projection: Projection,
    generation: Option<i32>,
) -> (Outcome, Vec<Difference>) {
    let (tell, mut told) = mpsc::channel(1);
    let wanted = Wanted {
        projection,
        generation,
        sample: None,
    };
    // The sender goes when it has ended: also an error ends the telling.
    let verify = async move { verifier.verify(wanted, &tell).await.unwrap() };
    let (outcome, differences) = tokio::join!(verify, async {
        let mut differences = Vec::new();
        loop {
            match told.recv().await {
                Some(Told::Difference(difference)) => differences.push(*difference),
                Some(Told::Progress { records, of, .. }) => assert!(records <= of),
                Some(Told::Result(_)) => return differences,
                None => panic!("no result"),
            }
        }
    });
    (outcome, differences)
}
