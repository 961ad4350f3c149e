//! What the tests of the projectors share: a log of one's own, a database of one's own, and made-up histories.
//!
//! Longer than a file should be: each test takes it in as a whole.
#![expect(
    dead_code,
    unreachable_pub,
    reason = "each test uses some of it, as a crate of its own"
)]

use std::{collections::BTreeMap, time::Duration};

use event_log::{Commit, KafkaConfig, Log, LogConfig, Partition, State, Store, genesis::Claim};
use events::{
    ContentId, DownloadId, Envelope, Event, EventId, PrincipalId, Recorded, SiteId, TenantId, Timestamp,
    VisitorId, content, download,
    visit::{PageViewed, Visit},
};
use projectors::runner::{
    Batch, Gather, Sink, Windows,
    feed::{Fed, Feed},
    postgres::{Fold, PostgresSink},
};
use read_models::{Checkpoint, Projection, Tables, Writer, scratch::Scratch};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Asks again and again until there is an answer.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "waited in vain for {what}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// All projections, running.
pub struct Running {
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), projectors::Error>>,
}

impl Running {
    pub fn start(dependencies: projectors::run::Dependencies, config: projectors::Config) -> Self {
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(projectors::run(dependencies, config, shutdown.clone()));
        Self { shutdown, task }
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }
}

/// What a projection's rows depend on, as this release has it.
pub async fn fold(writer: &Writer, projection: Projection) -> String {
    match projection {
        Projection::Directory | Projection::Downloads => "1".to_owned(),
        Projection::Content => projectors::content::ContentFold::VERSION.to_owned(),
        Projection::Visits | Projection::ContentFacts => {
            let known = writer.generations(Some(projection)).await.unwrap();
            known[0].fold_hash.clone()
        }
    }
}

/// Aggregates that may be parked.
pub const LIMIT: usize = 20;

/// A log with one partition of each topic; in a folder, unless it says otherwise.
pub struct TestLog {
    pub log: Log,
    pub directory: Appender,
    pub ledger: Appender,
    _folder: TempDir,
}

/// Writes commits to a partition as its only writer.
pub struct Appender {
    log: Log,
    partition: Partition,
    state: State,
    tenant_seq: BTreeMap<TenantId, u64>,
    clock: i64,
}

impl TestLog {
    pub async fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().to_owned();
        Self::open(Store::Embedded { dir }, folder).await
    }

    /// The same on a Kafka cluster, as topics that nobody else has.
    pub async fn on_kafka() -> Self {
        let kafka = KafkaConfig {
            brokers: std::env::var("ANNALS_TEST_KAFKA").expect("no ANNALS_TEST_KAFKA: run ./dev test"),
            prefix: format!("projectors-{}", Uuid::now_v7().simple()),
            replication: None,
        };
        Self::open(Store::Kafka(kafka), tempfile::tempdir().unwrap()).await
    }

    async fn open(store: Store, folder: TempDir) -> Self {
        let config = LogConfig {
            store,
            ledger_partitions: Some(1),
            visits_partitions: Some(1),
            development: true,
        };
        let log = Log::open(config).await.unwrap();
        let directory = Appender::claim(log.clone(), Partition::DIRECTORY).await;
        let ledger = Appender::claim(log.clone(), Partition::ledger(0)).await;
        Self {
            log,
            directory,
            ledger,
            _folder: folder,
        }
    }
}

impl TestLog {
    /// A log that is there already: nothing is appended to it.
    pub fn of(log: Log, folder: TempDir) -> Self {
        let idle = |partition| Appender {
            log: log.clone(),
            partition,
            state: State::default(),
            tenant_seq: BTreeMap::new(),
            clock: 0,
        };
        Self {
            directory: idle(Partition::DIRECTORY),
            ledger: idle(Partition::ledger(0)),
            log,
            _folder: folder,
        }
    }
}

impl Appender {
    pub async fn claim(log: Log, partition: Partition) -> Self {
        let genesis = log.reader(partition, 0).unwrap().next().await.unwrap();
        let mut state = State::default();
        state.admit(0, &genesis.records[0].record);
        let claim = Claim {
            owner: "test".into(),
            time: Timestamp::from_micros(0).unwrap(),
        };
        let record = claim.to_record(1);
        let offset = log.append(partition, record.clone()).await.unwrap();
        state.admit(offset, &record);
        Self {
            log,
            partition,
            state,
            tenant_seq: BTreeMap::new(),
            clock: 1_700_000_000_000_000,
        }
    }

    /// Time of the last commit.
    pub fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.clock).unwrap()
    }

    /// Appends a commit; gives the position after it.
    pub async fn commit(&mut self, tenant: TenantId, events: Vec<(String, u64, Event)>) -> u64 {
        let record = self.sealed(tenant, events);
        self.log.append(self.partition, record).await.unwrap() + 1
    }

    /// Appends several commits without waiting for each.
    pub async fn commits(&mut self, commits: Vec<Made>) -> u64 {
        let mut last = None;
        for chunk in commits.chunks(200) {
            let appending: Vec<_> = chunk
                .iter()
                .map(|(tenant, events)| {
                    let record = self.sealed(*tenant, events.clone());
                    self.log.append(self.partition, record)
                })
                .collect();
            for append in appending {
                last = Some(append.await.unwrap());
            }
        }
        last.unwrap() + 1
    }

    /// Appends a commit of this text, which need not be any event that this release knows; as LEDGER.md says.
    pub async fn raw(&mut self, tenant: TenantId, value: &str) -> u64 {
        let seq = self.tenant_seq.entry(tenant).or_default();
        *seq += 1;
        let headers = [
            ("content-type", "application/cloudevents-batch+json".to_owned()),
            ("annals-kind", "commit".to_owned()),
            ("annals-epoch", self.state.epoch.to_string()),
            ("annals-seq", (self.state.seq + 1).to_string()),
            ("annals-tenant-seq", seq.to_string()),
        ];
        let mut hash = Sha256::new();
        hash.update(self.state.hash.0);
        for (name, value) in &headers {
            for part in [name.as_bytes(), value.as_bytes()] {
                hash.update(u32::try_from(part.len()).unwrap().to_be_bytes());
                hash.update(part);
            }
        }
        hash.update(u64::try_from(value.len()).unwrap().to_be_bytes());
        hash.update(value);
        let digest = hex::encode(hash.finalize());
        let pairs = headers
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let record = event_log::Record {
            key: None,
            headers: event_log::Headers::new(pairs.chain([("annals-hash".as_bytes(), digest.as_bytes())])),
            value: value.to_owned().into(),
        };
        let offset = self.log.append(self.partition, record.clone()).await.unwrap();
        let verdict = self.state.admit(offset, &record);
        assert!(matches!(verdict, event_log::Verdict::Commit(_)), "{verdict:?}");
        offset + 1
    }

    /// Appends something that is not ours.
    pub async fn garbage(&mut self) -> u64 {
        let record = event_log::Record {
            key: None,
            headers: event_log::Headers::new([(&b"content-type"[..], &b"text/plain"[..])]),
            value: vec![0xff, 0, 1].into(),
        };
        self.log.append(self.partition, record).await.unwrap() + 1
    }

    fn sealed(&mut self, tenant: TenantId, events: Vec<(String, u64, Event)>) -> event_log::Record {
        let seq = self.tenant_seq.entry(tenant).or_default();
        *seq += 1;
        self.clock += 1_000_000;
        let recorded = |(subject, version, event)| Recorded {
            envelope: Envelope {
                id: EventId::new(Uuid::now_v7()),
                subject,
                time: Timestamp::from_micros(self.clock).unwrap(),
                tenant,
                aggregate_version: Some(version),
                actor: Some(PrincipalId::new(Uuid::from_u128(5))),
                causation: None,
                correlation: None,
                traceparent: None,
            },
            event,
        };
        let events = events.into_iter().map(recorded).collect();
        let commit = Commit {
            tenant,
            tenant_seq: *seq,
            command: None,
            events,
        };
        let (record, state) = commit.prepare().unwrap().seal(&self.state);
        self.state = state;
        record
    }
}

pub fn tenant(n: u128) -> TenantId {
    TenantId::new(Uuid::from_u128(0x7e_0000 + n))
}

pub fn site(n: u128) -> SiteId {
    SiteId::new(Uuid::from_u128(0x51_0000 + n))
}

pub fn piece(n: u128) -> ContentId {
    ContentId::new(Uuid::from_u128(0xc0_0000 + n))
}

pub fn drafted(n: u128, slug: &str) -> content::Drafted {
    content::Drafted {
        site: site(0),
        kind: content::Kind::Post,
        title: format!("Piece {n}"),
        slug: slug.into(),
        body: "A body of words, \"quoted\" and \\ escaped.".into(),
        summary: None,
        tags: vec!["a, b".into(), "c\"d\\".into()],
        featured: n.is_multiple_of(2),
        language: Some("en".into()),
        metadata: json!({"n": 1}).as_object().unwrap().clone(),
    }
}

/// A page that a visitor came to so many minutes after noon.
pub fn viewed(id: u128, visitor: u64, minute: i64, path: &str) -> Recorded {
    const NOON: i64 = 1_431_864_000_000_000;
    let visit = Visit {
        site: site(0),
        visitor: VisitorId::new(visitor),
        hostname: "example.org".into(),
        pathname: path.into(),
        referrer: None,
        source: None,
        device: None,
        browser: None,
        os: None,
        utm: BTreeMap::new(),
        content: None,
        props: BTreeMap::new(),
        import: None,
    };
    Recorded {
        envelope: Envelope {
            id: EventId::new(Uuid::from_u128(id)),
            subject: site(0).to_string(),
            time: Timestamp::from_micros(NOON + minute * 60_000_000).unwrap(),
            tenant: tenant(0),
            aggregate_version: None,
            actor: None,
            causation: None,
            correlation: None,
            traceparent: None,
        },
        event: PageViewed { visit }.into(),
    }
}

/// A commit: whose, and of each event its aggregate, the version after it, and what happened.
pub type Made = (TenantId, Vec<(String, u64, Event)>);

/// One step of a made-up history: which aggregate, and what a number makes happen to it.
pub type Step = (u8, u8);

/// Turns steps into commits that keep the rules of versions, and some events that cannot be projected.
pub fn history(steps: &[Step]) -> Vec<Made> {
    let mut versions: BTreeMap<(TenantId, String), u64> = BTreeMap::new();
    let mut slugs: BTreeMap<String, String> = BTreeMap::new();
    let mut next = |tenant: TenantId, subject: &str| {
        let version = versions.entry((tenant, subject.to_owned())).or_default();
        *version += 1;
        *version
    };
    let mut commits = Vec::new();
    for (n, (which, what)) in steps.iter().enumerate() {
        let owner = tenant(u128::from(which % 3));
        if which % 2 == 0 {
            let subject = piece(u128::from(which % 12)).to_string();
            let version = next(owner, &subject);
            let slug = slugs
                .entry(subject.clone())
                .or_insert_with(|| format!("slug-{}", which % 4))
                .clone();
            let event: Event = if version == 1 {
                drafted(u128::from(*which), &slug).into()
            } else {
                match what % 12 {
                    0 => content::Revised {
                        title: Some(format!("Title {n}")),
                        ..Default::default()
                    }
                    .into(),
                    1 => content::Revised {
                        body: Some(format!("Body {n}")),
                        ..Default::default()
                    }
                    .into(),
                    2 | 3 => {
                        let to = format!("slug-{}", what % 5);
                        slugs.insert(subject.clone(), to.clone());
                        content::SlugChanged { from: slug, to }.into()
                    }
                    4 => content::Scheduled {
                        at: Timestamp::from_micros(1).unwrap(),
                    }
                    .into(),
                    5 | 6 => content::Published {
                        at: Timestamp::from_micros(n as i64).unwrap(),
                    }
                    .into(),
                    7 => content::Unpublished {}.into(),
                    8 => content::Archived {}.into(),
                    9 => content::Revised {
                        summary: Some(content::Optional {
                            is: (what % 2 == 0).then(|| "short".into()),
                        }),
                        tags: Some(vec![format!("t{n}")]),
                        metadata: Some(json!({"path": format!("/p/{n}")}).as_object().unwrap().clone()),
                        ..Default::default()
                    }
                    .into(),
                    // What no table takes.
                    10 if *what > 240 => content::Revised {
                        title: Some("\0".into()),
                        ..Default::default()
                    }
                    .into(),
                    _ => content::Revised {
                        featured: Some(what % 2 == 0),
                        ..Default::default()
                    }
                    .into(),
                }
            };
            commits.push((owner, vec![(subject, version, event)]));
        } else {
            let download =
                |n: u8| DownloadId::new(Uuid::from_u128(0xd0_0000 + u128::from(n % 10))).to_string();
            let subject = download(*which);
            let version = next(owner, &subject);
            let event: Event = if version == 1 {
                download::Queued {
                    title: format!("Download {n}"),
                    url: "https://example.org/x".into(),
                    author: None,
                    format: None,
                    sha256: None,
                    priority: i32::from(*what),
                }
                .into()
            } else {
                match what % 6 {
                    0 => download::Started {}.into(),
                    1 => download::Completed {
                        size: None,
                        sha256: None,
                    }
                    .into(),
                    2 => download::Failed {
                        reason: format!("reason {n}"),
                    }
                    .into(),
                    3 => download::Cancelled {}.into(),
                    4 => download::Retried {}.into(),
                    _ => download::Reprioritised {
                        priority: i32::from(*what),
                    }
                    .into(),
                }
            };
            // A gap in the versions cannot be projected either.
            let version = if *what == 255 { version + 7 } else { version };
            commits.push((owner, vec![(subject, version, event)]));
        }
    }
    commits
}

/// A database and the tables of one projection in it.
pub struct TestTables<F> {
    pub scratch: Scratch,
    pub writer: Writer,
    pub tables: Tables,
    fold: std::marker::PhantomData<F>,
}

impl<F: Fold> TestTables<F> {
    pub async fn make() -> Self {
        let scratch = Scratch::for_test().await;
        let writer = Writer::connect(&scratch.url()).await.unwrap();
        let generation = writer.prepare(F::PROJECTION, 1, F::VERSION).await.unwrap();
        let tables = writer.tables(F::PROJECTION, generation.number, 2);
        Self {
            scratch,
            writer,
            tables,
            fold: std::marker::PhantomData,
        }
    }

    /// Empty tables again.
    pub async fn again(&self) {
        // A write that was killed may still come to its end, and leave what it wrote behind.
        for _ in 0..50 {
            self.tables.drop_all().await.unwrap();
            let made = self.writer.prepare(F::PROJECTION, 1, F::VERSION).await.unwrap();
            if made.fresh {
                return;
            }
        }
        panic!("the tables are never empty");
    }

    pub fn sink(&self) -> PostgresSink<F> {
        PostgresSink::new(self.writer.clone(), self.tables.clone(), 0, LIMIT)
    }

    /// A sink that holds the partition, and where it goes on.
    pub async fn taken_over(&self) -> (PostgresSink<F>, Checkpoint) {
        let mut sink = self.sink();
        let checkpoint = sink.take_over().await.unwrap()[0];
        (sink, checkpoint)
    }

    /// Folds to the log's end, in ranges of so many events.
    pub async fn catch_up(&self, log: &Log, events: usize) {
        let (mut sink, checkpoint) = self.taken_over().await;
        for batch in ranges(log, &checkpoint, events).await {
            sink.write(vec![batch]).await.unwrap();
        }
    }

    /// Everything that the tables hold, and what is parked.
    pub async fn holds(&self) -> BTreeMap<String, Vec<String>> {
        let mut rows = read_models::verify::rows(&self.tables).await.unwrap();
        let (_, checkpoint) = self.taken_over().await;
        let parked = self.writer.parked(&checkpoint).await.unwrap();
        let mut parked: Vec<String> = parked
            .iter()
            .map(|it| format!("{} {}", it.tenant, it.subject))
            .collect();
        parked.sort();
        rows.insert("parked".into(), parked);
        rows
    }
}

/// A made-up event as it stands in a commit of text.
pub fn text(tenant: TenantId, subject: &str, name: &str, version: u64, data: &str) -> String {
    let id = Uuid::now_v7();
    format!(
        r#"[{{"specversion":"1.0","id":"{id}","source":"/annals","type":"{name}","subject":"{subject}","time":"2026-11-21T16:03:00.000000Z","tenant":"{tenant}","aggregateversion":"{version}","data":{data}}}]"#
    )
}

/// The ranges from a checkpoint to the log's end.
pub async fn ranges(log: &Log, checkpoint: &Checkpoint, events: usize) -> Vec<Batch> {
    let gather = Gather {
        events,
        bytes: usize::MAX,
        ranges: 1,
        pause: Duration::ZERO,
        stretch: Duration::ZERO,
    };
    let mut feed = Feed::new(&Windows::new(log.clone()), checkpoint, gather);
    let end = log.end(feed.partition()).await.unwrap();
    let mut ranges: Vec<Batch> = Vec::new();
    while ranges.last().map_or(checkpoint.next_offset, |range| range.next) < end {
        match feed.next().await {
            Fed::Batch(batch) => ranges.push(batch),
            Fed::Stopped { reason, .. } => panic!("{reason}"),
        }
    }
    ranges
}

/// The configuration of all projections on this database, without ClickHouse.
pub fn config(scratch: &Scratch) -> projectors::Config {
    projectors::Config {
        postgres_url: scratch.url(),
        postgres_reader_url: Some(scratch.reader_url()),
        clickhouse_user: String::new(),
        clickhouse_password: String::new(),
        parking_limit: LIMIT,
        keep_generations_hours: 0,
        views_every_seconds: 1,
        verify_rate: 0,
        verify_every_seconds: 1,
        keys_unconfirmed_seconds: 60,
        clickhouse_write_seconds: 120,
    }
}
