//! Snapshots: whoever has no disk of its own goes on from them, and whatever is wrong with one costs a warning and a
//! longer start.

use std::{
    fs, io,
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::{Mutex, Once as First},
};

use command_api::{
    Config,
    partition::{idempotency, state},
};
use event_log::{Claim, Partition, Record, Snapshots, StateStores, record::Stated};
use futures::future::join_all;
use reqwest::Url;
use serde_json::json;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::{
    state::{copy, replace},
    world::{Answer, Process, Tenant, World, config, embedded, until},
};

/// Lines of the log that name snapshots, of all tests here.
static TOLD: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Listener;

impl io::Write for Listener {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line).into_owned();
        if text.contains("snapshot") {
            TOLD.lock().unwrap().push(text);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How many lines were told that contain all this.
pub(crate) fn told(words: &[&str]) -> usize {
    let told = TOLD.lock().unwrap();
    let fits = |line: &&String| words.iter().all(|word| line.contains(word));
    told.iter().filter(fits).count()
}

/// Where snapshots are kept.
pub(crate) struct Kept(TempDir);

impl Kept {
    pub(crate) fn new() -> Self {
        static LISTENING: First = First::new();
        LISTENING.call_once(|| {
            let listening = tracing_subscriber::fmt()
                .with_ansi(false)
                .with_max_level(tracing_subscriber::filter::LevelFilter::INFO)
                .with_writer(|| Listener);
            listening.init();
        });
        Self(TempDir::new().unwrap())
    }

    /// One is written after every commit.
    pub(crate) fn config(&self) -> Config {
        Config {
            snapshots: Some(self.url()),
            snapshot_commits: NonZeroU32::new(1).unwrap(),
            ..config()
        }
    }

    fn url(&self) -> Url {
        Url::from_directory_path(self.0.path()).unwrap()
    }

    fn folder(&self, world: &World, partition: Partition, fold: &str) -> PathBuf {
        let partition = partition.to_string().replace('/', "-");
        self.0
            .path()
            .join(world.log.id().to_string())
            .join(partition)
            .join(fold)
    }

    /// Those of the tenant's partition, in order.
    fn files(&self, world: &World, tenant: &Tenant) -> Vec<PathBuf> {
        let Ok(files) = fs::read_dir(self.folder(world, place(world, tenant), &own_fold())) else {
            return Vec::new();
        };
        let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        files.retain(|file| file.extension().is_some_and(|extension| extension == "snapshot"));
        files.sort();
        files
    }
}

/// That of a process as it comes.
fn own_fold() -> String {
    state::fold(idempotency::Kept::hours(Config::default().idempotency_hours))
}

fn place(world: &World, tenant: &Tenant) -> Partition {
    world.log.ledger_partition(tenant.id.parse().unwrap())
}

/// A piece that was drafted once, under a key.
pub(crate) struct Once {
    pub(crate) tenant: Tenant,
    title: &'static str,
    first: Answer,
}

impl Once {
    pub(crate) async fn new(process: &Process, title: &'static str) -> Self {
        let tenant = process.tenant().await;
        let first = draft(process, &tenant, title, "once").await.expect(201);
        Self { tenant, title, first }
    }

    /// A retry has the first answer, and the slug is taken for anybody else.
    pub(crate) async fn is_known(&self, process: &Process) {
        let again = draft(process, &self.tenant, self.title, "once").await.expect(201);
        assert_eq!(again.text, self.first.text);
        for header in ["etag", "location", "annals-position"] {
            assert_eq!(again.header(header), self.first.header(header), "{header}");
        }
        let other = draft(process, &self.tenant, self.title, "another").await;
        other.problem(409, "slug-taken");
    }
}

async fn draft(process: &Process, tenant: &Tenant, title: &str, key: &str) -> Answer {
    let body = json!({"site": tenant.domain, "kind": "post", "title": title});
    let call = process.post("/api/v1/content", &tenant.key, &body);
    call.header("idempotency-key", key).send().await
}

fn forget(dir: &Path) {
    fs::remove_dir_all(dir.join("state")).unwrap();
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_without_its_disk_goes_on_from_the_last_snapshot_or_without_any() {
    let kept = Kept::new();
    let world = World::with(kept.config()).await;
    let once = Once::new(&world.process, "Once").await;
    // Enough to be written to the disk.
    for from in (0..).map(|number| number * 64) {
        let many = (from..from + 64).map(|number| {
            let body =
                json!({"site": once.tenant.domain, "kind": "post", "title": format!("piece {number}")});
            world
                .process
                .post("/api/v1/content", &once.tenant.key, &body)
                .send()
        });
        join_all(many)
            .await
            .into_iter()
            .for_each(|answer| drop(answer.expect(201)));
        if from > 1_024 {
            break;
        }
    }
    until("a snapshot is written in the background", async || {
        (!kept.files(&world, &once.tenant).is_empty()).then_some(())
    })
    .await;
    let (log, partition) = (
        world.log.id().to_string(),
        place(&world, &once.tenant).to_string(),
    );
    let loaded = || told(&[&log, &partition, "loaded a snapshot"]);
    let old = TempDir::new().unwrap();
    let world = world
        .restart_after(|dir| {
            copy(&dir.join("state"), old.path()).unwrap();
            forget(dir);
        })
        .await;
    assert_eq!(loaded(), 1);
    once.is_known(&world.process).await;

    // It was not behind, so its own disk is preferred; far behind, it is not.
    let world = world.restart().await;
    assert_eq!(loaded(), 1);
    for title in ["Two", "Three", "Four"] {
        draft(&world.process, &once.tenant, title, title)
            .await
            .expect(201);
    }
    let world = world
        .restart_after(|dir| replace(old.path(), &dir.join("state")))
        .await;
    assert_eq!(loaded(), 2);
    draft(&world.process, &once.tenant, "Four", "another")
        .await
        .problem(409, "slug-taken");
    assert!((1..=3).contains(&kept.files(&world, &once.tenant).len()));

    let world = world
        .restart_after(|dir| {
            forget(dir);
            fs::remove_dir_all(kept.0.path().join(&log)).unwrap();
        })
        .await;
    assert_eq!(loaded(), 2);
    once.is_known(&world.process).await;
    draft(&world.process, &once.tenant, "Four", "another")
        .await
        .problem(409, "slug-taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_fails_while_it_is_loaded_leaves_nothing_to_go_on_from() {
    let kept = Kept::new();
    let world = World::with(kept.config()).await;
    let once = Once::new(&world.process, "Once").await;
    let log = world.log.id().to_string();
    let old = TempDir::new().unwrap();
    let world = world
        .restart_after(|dir| copy(&dir.join("state"), old.path()).unwrap())
        .await;
    let titles = ["Two", "Three", "Four"];
    for title in titles {
        draft(&world.process, &once.tenant, title, title)
            .await
            .expect(201);
    }
    let folder = kept.folder(&world, place(&world, &once.tenant), &own_fold());
    let mut newest = PathBuf::new();
    let world = world
        .restart_after(|dir| {
            replace(old.path(), &dir.join("state"));
            let mut files: Vec<_> = fs::read_dir(&folder)
                .unwrap()
                .map(|file| file.unwrap().path())
                .collect();
            files.sort();
            newest = files.pop().unwrap();
            // The first is no further than what is on the disk.
            files[1..].iter().for_each(|file| fs::remove_file(file).unwrap());
            // Its last row is in the store when it shows that there should be another one.
            let mut bytes = fs::read(&newest).unwrap();
            let checksum = bytes.len() - 32;
            bytes[checksum - 8] += 1;
            let sum = Sha256::digest(&bytes[..checksum]);
            bytes[checksum..].copy_from_slice(&sum);
            fs::write(&newest, bytes).unwrap();
        })
        .await;
    assert_eq!(told(&[&log, name(&newest), "passing over", "number of rows"]), 1);
    once.is_known(&world.process).await;
    for title in titles {
        draft(&world.process, &once.tenant, title, "another")
            .await
            .problem(409, "slug-taken");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_or_another_s_is_passed_over_with_a_warning_and_the_next_older_one_is_taken() {
    let kept = Kept::new();
    let mut world = World::with(kept.config()).await;
    let once = Once::new(&world.process, "Once").await;
    let partition = place(&world, &once.tenant);
    let log = world.log.id().to_string();

    let others = World::with(kept.config()).await;
    let other = loop {
        let other = Once::new(&others.process, "Other").await;
        if place(&others, &other.tenant) == partition {
            break other;
        }
    };
    let others = others.restart().await;
    let foreign = fs::read(kept.files(&others, &other.tenant).pop().unwrap()).unwrap();
    others.process.stop().await;
    let other_fold = async |world: &World| {
        let standing = {
            let end = world.log.end(partition).await.unwrap();
            let batch = world
                .log
                .reader(partition, end - 1)
                .unwrap()
                .next()
                .await
                .unwrap();
            let record = &batch.records[0].record;
            let Ok(Stated::Commit(headers)) = record.stated() else {
                panic!("the last record is a commit")
            };
            let commit = event_log::Commit::decode(&headers, record).unwrap();
            event_log::state_store::Standing {
                at: end - 1,
                event: commit.events.last().unwrap().envelope.id,
            }
        };
        let stores = StateStores::open(None).unwrap();
        let store = stores.store(world.log.id(), partition, "another").unwrap();
        store
            .write([(vec![1], Some(vec![2]))].into_iter(), standing)
            .unwrap();
        let written = Snapshots::open(&kept.url()).unwrap();
        let written = written.write(&store, &world.log, partition, std::future::pending());
        let at = written.await.unwrap().unwrap().at;
        fs::read(
            kept.folder(world, partition, "another")
                .join(format!("{at:020}.snapshot")),
        )
        .unwrap()
    };

    type Damage = Box<dyn Fn(Vec<u8>) -> Vec<u8>>;
    let flipped: Damage = Box::new(|mut bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        bytes
    });
    let cut: Damage = Box::new(|bytes| bytes[..bytes.len() - 40].to_vec());
    let empty: Damage = Box::new(|_| Vec::new());
    let foreign: Damage = Box::new(move |_| foreign.clone());
    let cases = [
        ("flip", flipped, "damaged or cut short"),
        ("cut", cut, "damaged or cut short"),
        ("nothing", empty, "damaged or cut short"),
        ("foreign", foreign, "it is of log"),
    ];
    let folder = kept.folder(&world, partition, &own_fold());
    let (mut titles, mut fold, mut loaded) = (Vec::new(), Vec::new(), 0);
    world = world.restart().await;
    for (title, damage, why) in cases {
        draft(&world.process, &once.tenant, title, title)
            .await
            .expect(201);
        titles.push(title);
        fold = other_fold(&world).await;
        let mut newest = PathBuf::new();
        world = world
            .restart_after(|dir| {
                // The first is good; those between were damaged here before.
                let mut files: Vec<_> = fs::read_dir(&folder)
                    .unwrap()
                    .map(|file| file.unwrap().path())
                    .collect();
                files.sort();
                newest = files.pop().unwrap();
                files[1..].iter().for_each(|file| fs::remove_file(file).unwrap());
                let bytes = fs::read(&newest).unwrap();
                fs::write(&newest, damage(bytes)).unwrap();
                forget(dir);
            })
            .await;
        assert_eq!(told(&[&log, name(&newest), "passing over", why]), 1, "{title}");
        loaded += 1;
        let now = told(&[&log, &partition.to_string(), "loaded a snapshot"]);
        assert_eq!(now, loaded, "the older one, after {title}");
        once.is_known(&world.process).await;
        for title in &titles {
            draft(&world.process, &once.tenant, title, "another")
                .await
                .problem(409, "slug-taken");
        }
    }

    // None that is good: one of another fold, and what a crash left of one.
    let newest = kept.files(&world, &once.tenant).pop().unwrap();
    let before = told(&[&log, "loaded a snapshot"]);
    let world = world
        .restart_after(|dir| {
            let good = fs::read(&newest).unwrap();
            fs::remove_dir_all(kept.0.path().join(&log)).unwrap();
            fs::create_dir_all(&folder).unwrap();
            fs::write(&newest, &fold).unwrap();
            let begun = newest.with_extension("snapshot#1");
            fs::write(begun, &good[..good.len() / 2]).unwrap();
            forget(dir);
        })
        .await;
    assert_eq!(told(&[&log, name(&newest), "passing over", "fold another"]), 1);
    assert_eq!(told(&[&log, "loaded a snapshot"]), before);
    once.is_known(&world.process).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_log_does_not_hold_as_admitted_is_passed_over() {
    let kept = Kept::new();
    let world = World::with(kept.config()).await;
    let once = Once::new(&world.process, "Once").await;
    let partition = place(&world, &once.tenant);
    let log = world.log.id().to_string();
    let earlier = TempDir::new().unwrap();
    let world = world
        .restart_after(|dir| copy(&dir.join("log"), earlier.path()).unwrap())
        .await;
    // What only this process believes: in the log that all others read, a rival's claim came first.
    draft(&world.process, &once.tenant, "Never", "never")
        .await
        .expect(201);
    let end = world.log.end(partition).await.unwrap();
    let batch = world
        .log
        .reader(partition, end - 1)
        .unwrap()
        .next()
        .await
        .unwrap();
    let record: Record = batch.records[0].record.clone();
    let Ok(Stated::Commit(headers)) = record.stated() else {
        panic!("the last record is a commit")
    };
    let claim = Claim {
        owner: "a rival".to_owned(),
        time: chrono::Utc::now().into(),
    };
    let snapshot = format!("{:020}.snapshot", end - 1);
    let mut world = world;
    for (is_there, why) in [(false, "the log ends at"), (true, "is void")] {
        let speculative = kept.folder(&world, partition, &own_fold()).join(&snapshot);
        let kept_aside = earlier.path().with_extension("snapshot");
        world = world
            .restart_with(async |dir| {
                // Only after its end is it written for sure; afterwards it is to be there as it was.
                if is_there {
                    fs::copy(&kept_aside, &speculative).unwrap();
                } else {
                    fs::copy(&speculative, &kept_aside).unwrap();
                }
                replace(earlier.path(), &dir.join("log"));
                forget(dir);
                if is_there {
                    let log = embedded(dir.join("log")).await;
                    log.append(partition, claim.to_record(headers.epoch))
                        .await
                        .unwrap();
                    assert_eq!(log.append(partition, record.clone()).await, Ok(end - 1));
                    log.close().await;
                }
            })
            .await;
        assert_eq!(told(&[&log, &snapshot, "passing over", why]), 1, "{why}");
        let again = draft(&world.process, &once.tenant, "Never", "never").await;
        if is_there {
            // No writer makes such a record after such a claim: nothing is written on top of it.
            again.problem(503, "not-served");
            let standing = format!("{:?}", world.process.app.standing(partition));
            assert!(standing.contains("history is damaged"), "{standing}");
        } else {
            once.is_known(&world.process).await;
            again.expect(201);
        }
    }
    assert!(told(&[&log, &partition.to_string(), "loaded a snapshot"]) >= 1);
    fs::remove_file(earlier.path().with_extension("snapshot")).unwrap();
}
