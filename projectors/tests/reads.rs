//! The log is read once for all projections that keep up with it, whatever one of them waits for.
#![expect(clippy::unwrap_used, reason = "a test may stop")]

#[path = "kit/kit.rs"]
mod kit;
#[path = "kit/world.rs"]
mod world;

use event_log::{Partition, Record};
use events::download;
use kit::{Made, Running, TestLog, drafted, piece, tenant, until};
use projectors::runner::Until;
use read_models::{Projection, Writer};
use world::World;

const OF_LEDGER: [Projection; 3] = [
    Projection::Content,
    Projection::Downloads,
    Projection::ContentFacts,
];

/// Records of the ledger that this process has read and decoded to fold them.
fn read() -> u64 {
    let families = prometheus::gather();
    let counters = families
        .iter()
        .filter(|family| family.name() == "annals_projector_records_read_total")
        .flat_map(|family| family.get_metric());
    let of_ledger = counters.filter(|counter| counter.get_label().iter().any(|it| it.value() == "ledger"));
    of_ledger.map(|it| it.get_counter().get_value() as u64).sum()
}

fn draft(n: u128) -> Made {
    let draft = drafted(n, &format!("slug-{n}")).into();
    (tenant(0), vec![(piece(n).to_string(), 1, draft)])
}

async fn reached(writer: &Writer, projections: &[Projection], end: u64) {
    for projection in projections {
        until(&format!("{projection} to be at {end}"), async || {
            (writer.positions(*projection, 1).await.ok()? == [end]).then_some(())
        })
        .await;
    }
}

/// The counter is the process': one test at a time.
static COUNTING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_read_once_for_all_that_keep_up_and_who_does_not_holds_up_no_other() {
    let _counting = COUNTING.lock().await;
    read_once(World::make().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn also_on_kafka() {
    let _counting = COUNTING.lock().await;
    read_once(World::on(TestLog::on_kafka().await).await).await;
}

async fn read_once(mut world: World) {
    let before = read();

    // A first start: all of them begin at the log's beginning.
    world.live(21).await;
    world.log.ledger.garbage().await;
    let ledger = Partition::ledger(0);
    let mut end = world.log.log.end(ledger).await.unwrap();
    let running = Running::start(world.dependencies(Until::Shutdown), world.config());
    let writer = until("the tables", async || {
        let writer = world.writer().await;
        (writer.generations(None).await.ok()?.len() == Projection::ALL.len()).then_some(writer)
    })
    .await;
    reached(&writer, &OF_LEDGER, end).await;
    assert_eq!(read() - before, end);

    // As commands come: alone, and many at once.
    for burst in [1, 1, 300, 1, 20] {
        let drafts = (0..burst).map(|n| draft(u128::from(end) * 1_000 + n));
        end = world.log.ledger.commits(drafts.collect()).await;
        reached(&writer, &OF_LEDGER, end).await;
        assert_eq!(read() - before, end);
    }

    // Downloads wait for a disk that is full; the others get more than is kept for them.
    let refuses = "CREATE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN RAISE EXCEPTION 'not now' USING ERRCODE = '53100'; END $$;
         CREATE TRIGGER fails BEFORE INSERT ON downloads_1.downloads FOR EACH ROW EXECUTE FUNCTION fails()";
    world.control.execute(refuses).await.unwrap();
    let stands_at = end;
    let queued = download::Queued {
        title: "a download".into(),
        url: "https://example.org".into(),
        author: None,
        format: None,
        sha256: None,
        priority: 1,
    };
    let queued = vec![(piece(7).to_string(), 1, queued.into())];
    world.log.ledger.commit(tenant(0), queued).await;
    let others = [Projection::Content, Projection::ContentFacts];
    for n in 0..12 {
        let nothing = Record {
            value: vec![0xff; 4 << 20].into(),
            ..Record::default()
        };
        world.log.log.append(ledger, nothing).await.unwrap();
        end = world.log.ledger.commits(vec![draft(900_000 + n)]).await;
        reached(&writer, &others, end).await;
    }
    assert_eq!(
        writer.positions(Projection::Downloads, 1).await.unwrap(),
        [stands_at]
    );

    // When there is room again, they come to where the others are, and go along with them.
    world
        .control
        .execute("DROP TRIGGER fails ON downloads_1.downloads")
        .await
        .unwrap();
    reached(&writer, &OF_LEDGER, end).await;
    let (mut in_a_row, mut commits) = (0, 0..100);
    while in_a_row < 5 {
        let n = commits
            .next()
            .expect("to read together again, within 100 commits");
        let already = read();
        end = world.log.ledger.commits(vec![draft(950_000 + n)]).await;
        reached(&writer, &OF_LEDGER, end).await;
        in_a_row = if read() - already == 1 { in_a_row + 1 } else { 0 };
    }
    running.stop().await;

    // And it was read well.
    world.fold().await;
    for projection in OF_LEDGER {
        let (outcome, differences) = world.verify(projection).await;
        assert!(outcome.equal, "{projection}: {differences:#?}");
    }
    world.erase().await;
}
