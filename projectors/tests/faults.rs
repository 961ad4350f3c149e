//! What must not harm: a late projector, tables that were deleted, events that do not fit, records of others.
#![expect(clippy::unwrap_used, reason = "a test may stop")]

#[path = "kit/kit.rs"]
mod kit;

use std::time::{Duration, Instant};

use event_log::Partition;
use events::{content, directory, download};
use kit::{TestLog, TestTables, drafted, piece, ranges, site, tenant, text};
use projectors::{
    content::ContentFold,
    directory::DirectoryFold,
    downloads::DownloadsFold,
    run::Dependencies,
    runner::{
        Gather, Plan, Sink, SinkError, Throttle, Until, Windows, drive,
        feed::{Fed, Feed},
        postgres::PostgresSink,
    },
};
use read_models::{
    Advance, Projection, Reader, Writer,
    content::list::{Filter, Page, Sort, list},
    progress::{Part, WaitError, Wanted},
    scratch::Scratch,
    status::PartitionStatus,
};
use service::health::Health;
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread")]
async fn a_late_projector_can_neither_write_nor_judge() {
    let tables = TestTables::<ContentFold>::make().await;
    let mut log = TestLog::make().await;
    log.ledger
        .commit(tenant(0), vec![(piece(0).to_string(), 1, drafted(0, "a").into())])
        .await;
    let (mut late, checkpoint) = tables.taken_over().await;
    let (mut now, _) = tables.taken_over().await;
    let batch = ranges(&log.log, &checkpoint, 9).await;
    assert!(matches!(late.write(batch.clone()).await, Err(SinkError::Fenced)));
    assert_eq!(tables.holds().await["content"].len(), 0);
    // `holds` took over: so did whoever looked last.
    assert!(matches!(now.write(batch.clone()).await, Err(SinkError::Fenced)));
    let (mut holder, _) = tables.taken_over().await;
    holder.write(batch.clone()).await.unwrap();
    // The same range again is not the one that follows.
    assert!(matches!(holder.write(batch).await, Err(SinkError::Fenced)));
    assert_eq!(tables.holds().await["content"].len(), 1);
    tables.scratch.erase().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_event_stops_only_its_own_aggregate() {
    let tables = TestTables::<DownloadsFold>::make().await;
    let mut log = TestLog::make().await;
    let queued = |title: &str| download::Queued {
        title: title.into(),
        url: "https://example.org".into(),
        author: None,
        format: None,
        sha256: None,
        priority: 1,
    };
    let [bad, refused, good] = [piece(1), piece(2), piece(3)].map(|id| id.to_string());
    // One commit of three: what the tables refuse is found among its neighbours.
    let three = vec![
        (bad.clone(), 1, queued("bad").into()),
        (refused.clone(), 1, queued("no \0 table takes this").into()),
        (good.clone(), 1, queued("good").into()),
    ];
    log.ledger.commit(tenant(0), three).await;
    // Data that do not fit their type.
    log.ledger
        .raw(tenant(0), &text(tenant(0), &bad, "download.failed.v1", 2, "{}"))
        .await;
    for id in [&bad, &refused, &good] {
        log.ledger
            .commit(
                tenant(0),
                vec![(
                    id.clone(),
                    if *id == bad { 3 } else { 2 },
                    download::Started {}.into(),
                )],
            )
            .await;
    }
    // A bad event of another projection's family is none of ours.
    log.ledger
        .raw(
            tenant(0),
            &text(tenant(0), &piece(9).to_string(), "content.published.v1", 1, "{}"),
        )
        .await;
    log.ledger.garbage().await;
    tables.catch_up(&log.log, 100).await;
    let holds = tables.holds().await;
    assert_eq!(holds["parked"].len(), 2, "{holds:?}");
    let running = |id: &str| {
        holds["downloads"]
            .iter()
            .any(|row| row.contains(id) && row.contains("running"))
    };
    let known = |id: &str| holds["downloads"].iter().any(|row| row.contains(id));
    assert!(
        running(&good) && known(&bad) && !running(&bad) && !known(&refused),
        "{holds:?}"
    );
    tables.scratch.erase().await.unwrap();
}

/// Nothing but being parked keeps events of the directory back: none of them counts the versions before it.
#[tokio::test(flavor = "multi_thread")]
async fn what_follows_a_parked_event_of_its_aggregate_waits_though_it_would_fit() {
    let tables = TestTables::<DirectoryFold>::make().await;
    let mut log = TestLog::make().await;
    let [bad, good] = [site(1), site(2)].map(|id| id.to_string());
    log.directory
        .raw(tenant(0), &text(tenant(0), &bad, "site.created.v1", 1, "{}"))
        .await;
    for id in [&bad, &good] {
        let created = directory::SiteCreated {
            domain: format!("{id}.example"),
            name: None,
            timezone: "UTC".into(),
        };
        let event = (id.clone(), 2, created.into());
        log.directory.commit(tenant(0), vec![event]).await;
    }
    // In one batch, where it was parked a moment ago; and in several, where it stands among the parked.
    for events in [usize::MAX, 1] {
        tables.again().await;
        tables.catch_up(&log.log, events).await;
        let holds = tables.holds().await;
        assert_eq!((holds["sites"].len(), holds["parked"].len()), (1, 1), "{holds:?}");
        assert!(holds["sites"][0].contains(&good), "{holds:?}");
    }
    tables.scratch.erase().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn more_parked_aggregates_than_the_limit_stop_the_partition() {
    let tables = TestTables::<DownloadsFold>::make().await;
    let mut log = TestLog::make().await;
    for n in 0..=kit::LIMIT {
        let id = piece(n as u128).to_string();
        log.ledger
            .commit(tenant(0), vec![(id, 1, download::Started {}.into())])
            .await;
    }
    let (mut sink, checkpoint) = tables.taken_over().await;
    let all = ranges(&log.log, &checkpoint, usize::MAX).await;
    let SinkError::Stop(reason) = sink.write(all).await.unwrap_err() else {
        panic!("it went on")
    };
    assert!(reason.contains("20 aggregates are parked"), "{reason}");
    // Nothing of the batch was written, so nothing is parked.
    assert_eq!(tables.holds().await["parked"].len(), 0);
    tables.scratch.erase().await.unwrap();
}

/// Whoever looks at a projection that has stopped sees how far behind it is, not how far it was.
#[tokio::test(flavor = "multi_thread")]
async fn the_lag_of_a_projection_that_has_stopped_grows() {
    let tables = TestTables::<DownloadsFold>::make().await;
    let mut log = TestLog::make().await;
    let shutdown = CancellationToken::new();
    let plan = Plan {
        windows: Windows::new(log.log.clone()),
        gather: Gather::AT_ONCE,
        throttle: Throttle::default(),
        until: Until::Shutdown,
        health: Health::new().register("downloads"),
        shutdown: shutdown.clone(),
    };
    let driving = tokio::spawn(drive(tables.sink(), plan));
    let reader = Reader::connect(&tables.scratch.reader_url(), 1).unwrap();
    let until = async |what: &str, holds: &dyn Fn(&PartitionStatus) -> bool| {
        let deadline = in_time();
        loop {
            let found = read_models::status::projections(&reader).await.unwrap();
            match found
                .into_iter()
                .find(|row| row.projection == "downloads" && holds(row))
            {
                Some(row) => return row,
                None => assert!(Instant::now() < deadline, "waited in vain until {what}"),
            }
        }
    };
    for n in 0..=kit::LIMIT {
        let id = piece(n as u128).to_string();
        log.ledger
            .commit(tenant(0), vec![(id, 1, download::Started {}.into())])
            .await;
    }
    let stopped = until("it has stopped", &|row| row.stopped.is_some()).await;
    let mut end = 0;
    for n in 100..103 {
        let id = piece(n).to_string();
        end = log
            .ledger
            .commit(tenant(0), vec![(id, 1, download::Started {}.into())])
            .await;
    }
    let end = i64::try_from(end).unwrap();
    let behind = until("the log's end is told", &|row| row.log_end == end).await;
    assert!(behind.lag_events > 2 && behind.next_offset == stopped.next_offset);
    assert!(behind.lag_seconds > 0.0, "{behind:?}");
    shutdown.cancel();
    driving.await.unwrap();
    tables.scratch.erase().await.unwrap();
}

/// A runner of downloads at work, and the database as an administrator sees it.
struct Downloads {
    tables: TestTables<DownloadsFold>,
    log: TestLog,
    reader: Reader,
    shutdown: CancellationToken,
    driving: tokio::task::JoinHandle<()>,
    pieces: u128,
}

impl Downloads {
    async fn new() -> Self {
        let (tables, log) = (TestTables::<DownloadsFold>::make().await, TestLog::make().await);
        let reader = Reader::connect(&tables.scratch.reader_url(), 1).unwrap();
        let shutdown = CancellationToken::new();
        let plan = Plan {
            windows: Windows::new(log.log.clone()),
            gather: Gather::AT_ONCE,
            throttle: Throttle::default(),
            until: Until::Shutdown,
            health: Health::new().register("downloads"),
            shutdown: shutdown.clone(),
        };
        Self {
            driving: tokio::spawn(drive(tables.sink(), plan)),
            tables,
            log,
            reader,
            shutdown,
            pieces: 0,
        }
    }

    async fn queue(&mut self) -> i64 {
        self.pieces += 1;
        let queued = download::Queued {
            title: "a download".into(),
            url: "https://example.org".into(),
            author: None,
            format: None,
            sha256: None,
            priority: 1,
        };
        let event = (piece(self.pieces).to_string(), 1, queued.into());
        let end = self.log.ledger.commit(tenant(0), vec![event]).await;
        i64::try_from(end).unwrap()
    }

    /// Waits until the checkpoint is there, and says how many rows are in the table.
    async fn shown(&self, end: i64) -> usize {
        let deadline = in_time();
        loop {
            let found = read_models::status::projections(&self.reader).await.unwrap();
            if found
                .iter()
                .any(|row| row.projection == "downloads" && row.next_offset == end)
            {
                break;
            }
            assert!(Instant::now() < deadline, "waited for {end}: {found:?}");
        }
        let rows = read_models::verify::rows(&self.tables.tables).await.unwrap();
        rows["downloads"].len()
    }

    async fn execute(&self, statements: &str) {
        self.tables.scratch.execute(statements).await.unwrap();
    }

    async fn finish(self) {
        self.shutdown.cancel();
        self.driving.await.unwrap();
        self.tables.scratch.erase().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_back_at_an_older_state_is_filled_again() {
    let mut running = Downloads::new().await;
    let end = running.queue().await;
    assert_eq!(running.shown(end).await, 1);
    running
        .execute(
            "CREATE TABLE checkpoints_then AS TABLE annals.checkpoints;
             CREATE TABLE downloads_then AS TABLE downloads_1.downloads",
        )
        .await;
    let end = running.queue().await;
    assert_eq!(running.shown(end).await, 2);
    running
        .execute(
            "BEGIN;
             DELETE FROM annals.checkpoints; INSERT INTO annals.checkpoints TABLE checkpoints_then;
             DELETE FROM downloads_1.downloads; INSERT INTO downloads_1.downloads TABLE downloads_then;
             COMMIT",
        )
        .await;
    let end = running.queue().await;
    assert_eq!(running.shown(end).await, 3);
    running.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_fenced_off_goes_on_when_the_other_is_silent() {
    let mut running = Downloads::new().await;
    let end = running.queue().await;
    assert_eq!(running.shown(end).await, 1);
    let (mut other, checkpoint) = running.tables.taken_over().await;
    let end = running.queue().await;
    other
        .write(ranges(&running.log.log, &checkpoint, 9).await)
        .await
        .unwrap();
    assert_eq!(running.shown(end).await, 2);
    drop(other);
    running
        .execute("UPDATE annals.checkpoints SET updated_at = now() - interval '1 minute'")
        .await;
    let end = running.queue().await;
    assert_eq!(running.shown(end).await, 3);
    running.finish().await;
}

/// Between two statements of a write, as a process that was stopped or whose machine hangs: it holds the checkpoint's
/// lock and says nothing more.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_frozen_in_the_middle_of_a_write_does_not_hold_the_partition_for_ever() {
    let tables = TestTables::<DownloadsFold>::make().await;
    let mut log = TestLog::make().await;
    let queued = download::Queued {
        title: "a download".into(),
        url: "https://example.org".into(),
        author: None,
        format: None,
        sha256: None,
        priority: 1,
    };
    log.ledger
        .commit(tenant(0), vec![(piece(1).to_string(), 1, queued.into())])
        .await;
    let (_, checkpoint) = tables.taken_over().await;
    let batch = ranges(&log.log, &checkpoint, 9).await.remove(0);
    let frozen = tables.tables.begin(&checkpoint).await.unwrap();
    let other = Writer::connect(&tables.scratch.url()).await.unwrap();
    let its = other.tables(Projection::Downloads, 1, 2);
    let mut now = PostgresSink::<DownloadsFold>::new(other.clone(), its, 0, kit::LIMIT);
    // No attempt waits for long: others have to get at the connections too.
    let taken_over = kit::until("the partition", async || now.take_over().await.ok());
    let taken_over = tokio::time::timeout(Duration::from_secs(60), taken_over).await;
    taken_over.expect("an attempt that ends");
    now.write(vec![batch.clone()]).await.unwrap();
    // It wakes up, and goes on where it stood.
    let late = Advance {
        next_offset: batch.next,
        epoch: 1,
        seq: 1,
        hash: [7; 32],
        log_end: batch.next,
        last_time: None,
    };
    frozen.commit(&late).await.expect_err("it holds nothing any more");
    let (_, after) = tables.taken_over().await;
    assert_eq!((after.next_offset, after.hash == [7; 32]), (batch.next, false));
    assert_eq!(tables.holds().await["downloads"].len(), 1);
    other.close().await;
    tables.scratch.erase().await.unwrap();
}

/// Each round it is killed a little later, in the midst of whatever it does: a write is there as a whole, or not.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_is_cut_off_at_any_moment_is_there_as_a_whole_or_not() {
    let mut log = TestLog::make().await;
    let tables = TestTables::<ContentFold>::make().await;
    let steps: Vec<kit::Step> = (0..=255_u8)
        .map(|n| (n.wrapping_mul(37), n.wrapping_mul(101)))
        .collect();
    for (round, commits) in (0..).zip(kit::history(&steps).chunks(8)) {
        log.ledger.commits(commits.to_vec()).await;
        let plan = Plan {
            windows: Windows::new(log.log.clone()),
            gather: Gather::AT_ONCE,
            throttle: Throttle::default(),
            until: Until::CaughtUp,
            health: Health::new().register("content"),
            shutdown: CancellationToken::new(),
        };
        // Dropping it is what a kill looks like from outside: what was sent may still take place.
        let _ = tokio::time::timeout(Duration::from_millis(round), drive(tables.sink(), plan)).await;
    }
    tables.catch_up(&log.log, usize::MAX).await;
    let other = TestTables::<ContentFold>::make().await;
    other.catch_up(&log.log, usize::MAX).await;
    assert_eq!(tables.holds().await, other.holds().await);
    other.scratch.erase().await.unwrap();
    tables.scratch.erase().await.unwrap();
}

/// Nothing is parked, and the trigger of a test was called so often.
const TRIED_AGAIN: &str = "DO $$ BEGIN
    IF EXISTS (SELECT 1 FROM annals.parked_aggregates) THEN RAISE EXCEPTION 'something is parked'; END IF;
    IF (SELECT last_value FROM attempts) <> ATTEMPTS THEN RAISE EXCEPTION 'it was not tried so often'; END IF;
    END $$";

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_and_whatever_else_may_pass_is_waited_for_and_parks_nothing() {
    let mut running = Downloads::new().await;
    let end = running.queue().await;
    assert_eq!(running.shown(end).await, 1);
    // No space, no memory, a serialization failure, a lock that was not given, a statement that was cut off.
    running
        .execute(
            "CREATE SEQUENCE attempts;
             CREATE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS $$
             DECLARE
                 codes text[] := ARRAY['53100', '53200', '40001', '55P03', '57014'];
                 attempt bigint := nextval('public.attempts');
             BEGIN
                 IF attempt > 5 THEN RETURN NEW; END IF;
                 RAISE EXCEPTION 'not now' USING ERRCODE = codes[attempt];
             END $$;
             CREATE TRIGGER fails BEFORE INSERT ON downloads_1.downloads FOR EACH ROW EXECUTE FUNCTION fails()",
        )
        .await;
    let end = running.queue().await;
    assert_eq!(running.shown(end).await, 2);
    running.execute(&TRIED_AGAIN.replace("ATTEMPTS", "6")).await;
    running.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadlock_is_waited_for_and_parks_nothing() {
    let mut running = Downloads::new().await;
    let end = running.queue().await;
    assert_eq!(running.shown(end).await, 1);
    // The runner holds the checkpoint and comes to want what the other one holds, who waits for the checkpoint. It
    // does so when the other one has looked for a deadlock and found none, so that it is the runner who finds it.
    running
        .execute(
            "CREATE SEQUENCE attempts;
             CREATE FUNCTION meets() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
                 IF nextval('public.attempts') > 1 THEN RETURN NEW; END IF;
                 WHILE NOT EXISTS (
                     SELECT 1 FROM pg_locks WHERE NOT granted AND waitstart < clock_timestamp() - interval '1500 ms'
                     AND pg_backend_pid() = ANY (pg_blocking_pids(pid))
                 ) LOOP
                     PERFORM pg_sleep(0.02);
                 END LOOP;
                 PERFORM pg_advisory_xact_lock(7);
                 RETURN NEW;
             END $$;
             CREATE TRIGGER meets BEFORE INSERT ON downloads_1.downloads FOR EACH ROW EXECUTE FUNCTION meets()",
        )
        .await;
    let other = "BEGIN;
        SELECT pg_advisory_xact_lock(7);
        DO $$ BEGIN
            WHILE NOT (SELECT is_called FROM attempts) LOOP PERFORM pg_sleep(0.02); END LOOP;
        END $$;
        SELECT fence FROM annals.checkpoints WHERE projection = 'downloads' FOR UPDATE;
        COMMIT";
    let found = "DO $$ BEGIN
        IF (SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()) = 0
        THEN RAISE EXCEPTION 'not yet'; END IF; END $$";
    let end = running.queue().await;
    running.execute(other).await;
    assert_eq!(running.shown(end).await, 2);
    let scratch = &running.tables.scratch;
    kit::until("a deadlock to be counted", async || {
        scratch.execute(found).await.ok()
    })
    .await;
    running.execute(&TRIED_AGAIN.replace("ATTEMPTS", "2")).await;
    running.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_a_future_version_stops_the_partition_after_what_came_before() {
    let tables = TestTables::<ContentFold>::make().await;
    let mut log = TestLog::make().await;
    log.ledger
        .commit(tenant(0), vec![(piece(0).to_string(), 1, drafted(0, "a").into())])
        .await;
    let next = log
        .ledger
        .raw(tenant(0), &text(tenant(0), "x", "content.drafted.v2", 1, "{}"))
        .await;
    let (_, checkpoint) = tables.taken_over().await;
    let mut feed = Feed::new(&Windows::new(log.log.clone()), &checkpoint, Gather::AT_ONCE);
    let mut before = 0;
    let reason = loop {
        match feed.next().await {
            Fed::Batch(batch) => before += batch.events,
            Fed::Stopped { reason, .. } => break reason,
        }
    };
    assert_eq!(before, 1);
    assert!(
        reason.contains(&format!("offset {}", next - 1)) && reason.contains("content.drafted.v2"),
        "{reason}"
    );
    tables.scratch.erase().await.unwrap();
}

/// All projections as a process runs them.
struct Running {
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), projectors::Error>>,
}

impl Running {
    fn start(scratch: &Scratch, log: &TestLog, health: &Health) -> Self {
        // Nobody is there: what PostgreSQL holds does not depend on it.
        Self::with(scratch, log, health, "http://127.0.0.1:1".into())
    }

    fn with(scratch: &Scratch, log: &TestLog, health: &Health, clickhouse_url: String) -> Self {
        let shutdown = CancellationToken::new();
        let dependencies = Dependencies {
            log: log.log.clone(),
            clickhouse_url,
            clickhouse_prefix: String::new(),
            health: health.clone(),
            until: Until::Shutdown,
        };
        let task = tokio::spawn(projectors::run(
            dependencies,
            kit::config(scratch),
            shutdown.clone(),
        ));
        Self { shutdown, task }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }
}

fn in_time() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

async fn wait_for(reader: &Reader, projection: Projection, next_offset: u64) -> Result<(), WaitError> {
    let parts = [Part {
        topic: projection.topic(),
        partition: 0,
        next_offset,
    }];
    let live = reader.progress().until_live(projection);
    tokio::time::timeout_at(in_time().into(), live)
        .await
        .expect("a live generation within 30 s");
    reader
        .progress()
        .wait(
            projection,
            &Wanted {
                parts: &parts,
                ..Wanted::default()
            },
            in_time(),
        )
        .await?;
    // Tables that are filled again answer when they have all of the log, which may be known a moment later.
    let live = reader.progress().until_live(projection);
    tokio::time::timeout_at(in_time().into(), live)
        .await
        .expect("tables that answer within 30 s");
    Ok(())
}

async fn titles(reader: &Reader) -> Vec<String> {
    let snapshot = reader.live(Projection::Content).unwrap();
    let filter = Filter {
        tenant: tenant(0).uuid(),
        ..Filter::default()
    };
    let rows = list(
        &snapshot,
        &filter,
        Sort::parse("title").unwrap(),
        &Page::Skip(0),
        100,
    )
    .await
    .unwrap();
    rows.into_iter().map(|row| row.title).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_is_filled_from_the_log_again() {
    let scratch = Scratch::for_test().await;
    let mut log = TestLog::make().await;
    let mut next = 0;
    for n in 0..5 {
        next = log
            .ledger
            .commit(tenant(0), vec![(piece(n).to_string(), 1, drafted(n, "a").into())])
            .await;
    }
    let health = Health::new();
    let reader = Reader::connect(&scratch.reader_url(), 2).unwrap();
    let running = Running::start(&scratch, &log, &health);
    wait_for(&reader, Projection::Content, next).await.unwrap();
    let before = titles(&reader).await;
    assert_eq!(before.len(), 5);
    running.stop().await;

    // The tables, but not the checkpoints; then everything.
    let writer = Writer::connect(&scratch.url()).await.unwrap();
    for everything in [false, true] {
        if everything {
            writer.forget().await.unwrap();
        } else {
            writer.tables(Projection::Content, 1, 1).drop_all().await.unwrap();
        }
        next = log
            .ledger
            .commit(
                tenant(0),
                vec![(
                    piece(9).to_string(),
                    if everything { 2 } else { 1 },
                    if everything {
                        content::Unpublished {}.into()
                    } else {
                        drafted(9, "z").into()
                    },
                )],
            )
            .await;
        let running = Running::start(&scratch, &log, &health);
        wait_for(&reader, Projection::Content, next).await.unwrap();
        let after = titles(&reader).await;
        assert_eq!(after[..5], before[..]);
        assert_eq!(after.len(), 6);
        running.stop().await;
    }
    scratch.erase().await.unwrap();
}

/// As one that is frozen: it takes connections and questions, and never says anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_clickhouse_that_does_not_answer_holds_up_neither_the_rest_nor_the_end() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let taking = tokio::spawn(async move {
        let mut taken = Vec::new();
        while let Ok((connection, _)) = silent.accept().await {
            taken.push(connection);
        }
    });
    let scratch = Scratch::for_test().await;
    let mut log = TestLog::make().await;
    let drafted = (piece(1).to_string(), 1, drafted(1, "a").into());
    let next = log.ledger.commit(tenant(0), vec![drafted]).await;
    let reader = Reader::connect(&scratch.reader_url(), 2).unwrap();
    let running = Running::with(&scratch, &log, &Health::new(), url);
    wait_for(&reader, Projection::Content, next).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(20), running.stop());
    ended.await.expect("it ends though nothing answers");
    taking.abort();
    scratch.erase().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_another_log_are_refused() {
    let scratch = Scratch::for_test().await;
    let (one, other) = (TestLog::make().await, TestLog::make().await);
    let health = Health::new();
    let reader = Reader::connect(&scratch.reader_url(), 1).unwrap();
    let running = Running::start(&scratch, &one, &health);
    wait_for(&reader, Projection::Downloads, 1).await.unwrap();
    running.stop().await;
    let refused = Running::start(&scratch, &other, &health)
        .task
        .await
        .unwrap()
        .unwrap_err();
    let projectors::Error::ReadModels(refused) = refused;
    assert!(refused.to_string().contains("made from log"), "{refused}");
    scratch.erase().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_the_log_does_not_have_is_beyond_its_end() {
    let scratch = Scratch::for_test().await;
    let log = TestLog::make().await;
    let reader = Reader::connect(&scratch.reader_url(), 1).unwrap();
    let running = Running::start(&scratch, &log, &Health::new());
    let end = log.log.end(Partition::ledger(0)).await.unwrap();
    wait_for(&reader, Projection::Content, end).await.unwrap();
    let beyond = wait_for(&reader, Projection::Content, end + 1).await;
    assert!(matches!(beyond, Err(WaitError::BeyondEnd { .. })), "{beyond:?}");
    running.stop().await;
    scratch.erase().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_drops_every_connection_is_waited_for() {
    let scratch = Scratch::for_test().await;
    let mut log = TestLog::make().await;
    let health = Health::new();
    let reader = Reader::connect(&scratch.reader_url(), 2).unwrap();
    let running = Running::start(&scratch, &log, &health);
    let mut next = 0;
    for n in 0..8 {
        next = log
            .ledger
            .commit(tenant(0), vec![(piece(n).to_string(), 1, drafted(n, "a").into())])
            .await;
        scratch.disconnect_all().await.unwrap();
    }
    wait_for(&reader, Projection::Content, next).await.unwrap();
    assert_eq!(titles(&reader).await.len(), 8);
    running.stop().await;
    scratch.erase().await.unwrap();
}
