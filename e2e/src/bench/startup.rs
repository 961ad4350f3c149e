//! Start-up by number of commits, with what a process may find: nothing but the log, a disk of its own, a snapshot.
//! And what an aggregate takes, on the disk and in memory.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use command_api::{
    command::Expected,
    partition::{
        Command,
        idempotency::Kept,
        state::{Change, Decision, State, fold},
    },
};
use event_log::{Claim, Commit, Log, LogConfig, Partition, StateStores, Store, Verdict};
use events::{
    ContentId, Envelope, EventId, Recorded, SiteId, TenantId, Timestamp,
    content::{self, Body, Draft, Kind, Metadata, Revision, Tags, Title},
    tenant,
};
use uuid::Uuid;

use super::{
    Bench,
    footprint::{current_megabytes, peak_megabytes},
    report::{Report, count},
};
use crate::installation::{Installation, LogKind, Role};

/// Commits of each piece: drafted, revised, published, revised.
const EACH: u64 = 4;
const TENANTS: u64 = 16;
/// Appends under way while a log is filled.
const UNDER_WAY: usize = 512;
/// How long a start may take.
const LONGEST: Duration = Duration::from_secs(600);
const PARTITION: Partition = Partition::ledger(0);

/// Runs the phase.
///
/// # Errors
/// Something does not start.
pub async fn run(bench: &Bench, report: &mut Report, sizes: &[u64]) -> anyhow::Result<()> {
    report.section(
        "Start-up",
        &format!(
            "`serve --role command` until it is ready, on an embedded log with one partition of the ledger and so many \
             commits in it, {EACH} of each piece of content (bodies of 600 bytes, {TENANTS} tenants): from the log alone; \
             from its own disk (ANNALS_STATE_DIR); and from a snapshot in a folder, as on a new machine. Memory is what was \
             resident at most until then.",
        ),
    );
    report.table(&[
        "commits",
        "from the log s",
        "memory MB",
        "own disk s",
        "memory MB",
        "from a snapshot s",
        "memory MB",
        "snapshot MB",
        "its bytes/piece",
        "disk bytes/piece",
        "memory bytes/piece",
    ]);
    for commits in sizes {
        size(bench, report, *commits).await?;
    }
    Ok(())
}

async fn size(bench: &Bench, report: &mut Report, commits: u64) -> anyhow::Result<()> {
    let mut installation = Installation::new(&bench.engines, bench.binary.clone(), LogKind::Embedded).await?;
    fill(&installation.log_folder(), commits).await?;
    let folder = installation.log_folder();
    let folder = folder.parent().context("the log lies in a folder")?;
    let (state, snapshots) = (folder.join("state-command"), folder.join("snapshots"));
    let forget = || std::fs::remove_dir_all(&state);
    let pieces = commits as f64 / EACH as f64;

    // What the rows of all pieces take when all of them are in memory, and when nearly none are.
    let mut resident = Vec::new();
    for cache in ["1", "2048"] {
        installation.set("ANNALS_STATE_CACHE_MIB", cache);
        start(&mut installation).await?;
        let pid = installation.pid(Role::Command);
        resident.push(pid.and_then(current_megabytes).context("no /proc")?);
        installation.stop().await?;
        forget()?;
    }
    installation.set("ANNALS_STATE_CACHE_MIB", "32");

    let log = start(&mut installation).await?;
    installation.stop().await?;
    let disk = start(&mut installation).await?;
    installation.stop().await?;

    let url = format!("file://{}", snapshots.display());
    installation.set("ANNALS_SNAPSHOTS", &url);
    installation.set("ANNALS_SNAPSHOT_COMMITS", "1");
    start(&mut installation).await?;
    let written = written(&snapshots).await?;
    installation.stop().await?;
    forget()?;
    let snapshot = start(&mut installation).await?;
    installation.stop().await?;
    let on_disk = bytes(&state.join("keyspaces"))?;
    installation.erase().await?;

    let mut row = vec![count(commits as f64)];
    for (seconds, megabytes) in [log, disk, snapshot] {
        row.extend([format!("{seconds:.2}"), format!("{megabytes:.0}")]);
    }
    row.push(format!("{:.1}", written as f64 / 1_048_576.0));
    let in_memory = (resident[1] - resident[0]) * 1_048_576.0;
    for all in [written as f64, on_disk as f64, in_memory] {
        row.push(count(all / pieces));
    }
    report.row(&row);
    if commits == 1_000_000 {
        report.at_most(
            "start with 1,000,000 commits, from a snapshot, s",
            snapshot.0,
            2.0,
        );
    }
    Ok(())
}

/// Starts it; seconds until it is ready, and the most memory that it has had.
async fn start(installation: &mut Installation) -> anyhow::Result<(f64, f64)> {
    let begun = Instant::now();
    installation.spawn(Role::Command)?;
    // It gives up after a minute, and a debug build takes longer.
    while let Err(error) = installation.ready(Role::Command).await {
        let waited = begun.elapsed();
        if waited > LONGEST || installation.has_ended(Role::Command)?.is_some() {
            return Err(error);
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    let megabytes = installation.pid(Role::Command).and_then(peak_megabytes);
    Ok((seconds, megabytes.context("no /proc")?))
}

/// The bytes of the snapshot, when it is there.
async fn written(folder: &Path) -> anyhow::Result<u64> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        // A folder that changes while it is looked at is looked at again.
        let found = files(folder).unwrap_or_default();
        if let Some((path, bytes)) = found.first()
            && path.extension().is_some_and(|extension| extension == "snapshot")
        {
            return Ok(*bytes);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("waited a minute for a snapshot in {}", folder.display())
}

fn bytes(folder: &Path) -> std::io::Result<u64> {
    Ok(files(folder)?.iter().map(|(_, bytes)| bytes).sum())
}

fn files(folder: &Path) -> std::io::Result<Vec<(PathBuf, u64)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(files(&entry.path())?);
        } else {
            found.push((entry.path(), entry.metadata()?.len()));
        }
    }
    Ok(found)
}

/// Makes a log of one partition with so many commits, as its owner would write them.
async fn fill(folder: &Path, commits: u64) -> anyhow::Result<()> {
    let log = LogConfig {
        store: Store::Embedded {
            dir: folder.to_owned(),
        },
        ledger_partitions: Some(1),
        visits_partitions: Some(1),
        development: true,
    };
    let log = Log::open(log).await?;
    let mut admission = event_log::State::default();
    for stored in log.reader(PARTITION, 0)?.next().await?.records {
        admission.admit(stored.offset, &stored.record);
    }
    let claim = Claim {
        owner: "bench".to_owned(),
        time: now(),
    };
    let claim = claim.to_record(1);
    let at = log.append(PARTITION, claim.clone()).await?;
    anyhow::ensure!(matches!(admission.admit(at, &claim), Verdict::Claimed(_)));

    let stores = StateStores::open(None)?;
    let kept = Kept::hours(24);
    let store = stores.store(log.id(), PARTITION, &fold(kept))?;
    let mut state = State::new(store, 64 * 1024 * 1024, kept)?;
    let mut under_way = VecDeque::new();
    for number in 0..commits {
        let commit = commit(&state, number)?;
        let (record, next) = commit.prepare()?.seal(&admission);
        admission = next;
        if under_way.len() == UNDER_WAY
            && let Some(first) = under_way.pop_front()
        {
            let _: u64 = Box::pin(first).await?;
        }
        under_way.push_back(log.append(PARTITION, record));
        state.apply(at + 1 + number, &commit, None)?;
    }
    for appending in under_way {
        appending.await?;
    }
    anyhow::ensure!(log.end(PARTITION).await? == at + 1 + commits);
    log.close().await;
    Ok(())
}

fn commit(state: &State, number: u64) -> anyhow::Result<Commit> {
    // Pieces are worked on one beside another, as people do.
    let (piece, step) = (number / EACH / 64 * 64 + number % 64, number / 64 % EACH);
    let tenant = TenantId::new(Uuid::from_u128(u128::from(piece % TENANTS) + 1));
    // As hard to shorten as those that people have.
    let id = ContentId::new(Uuid::new_v5(&Uuid::NAMESPACE_OID, &piece.to_be_bytes()));
    let title = |text: &str| Title::new(&format!("{text} {piece}"));
    let body = || Body::new(format!("Body {piece} of some six hundred bytes, in state {step}. ").repeat(12));
    let command = match step {
        0 => content::Command::Draft(Box::new(Draft {
            site: SiteId::new(Uuid::from_u128(7)),
            kind: Kind::Post,
            title: title("Piece")?,
            slug: format!("the-slug-of-piece-{piece}").parse()?,
            body: body()?,
            summary: None,
            tags: Tags::new(["bench"])?,
            featured: false,
            language: None,
            metadata: Metadata::default(),
        })),
        2 => content::Command::Publish { at: None },
        _ => content::Command::Revise(Box::new(Revision {
            title: Some(title(&format!("Revised {step}"))?),
            body: Some(body()?),
            ..Revision::default()
        })),
    };
    let at = state.commit_time(now());
    let command = Command::Tenant(tenant::Command::Content(id, command));
    let decided = state.decide(tenant, command, &Expected::Any, at);
    let Ok(Decision::Commit(changes)) = decided else {
        anyhow::bail!("commit {number} is refused: {decided:?}")
    };
    let recorded = |change: Change| Recorded {
        envelope: Envelope {
            id: EventId::new(Uuid::now_v7()),
            subject: change.subject,
            time: at,
            tenant,
            aggregate_version: Some(change.version),
            actor: None,
            causation: None,
            correlation: None,
            traceparent: None,
        },
        event: change.event,
    };
    Ok(Commit {
        tenant,
        tenant_seq: state.next_seq(tenant)?,
        command: None,
        events: changes.into_iter().map(recorded).collect(),
    })
}

fn now() -> Timestamp {
    chrono::Utc::now().into()
}
