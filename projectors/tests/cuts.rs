//! Any cut of a log with everything in it, with restarts and kills in between, gives in every table what verification
//! folds for itself. (`replay.rs` tries many more cuts of the ledger, in PostgreSQL alone.)
#![expect(clippy::unwrap_used, reason = "a test may stop")]

#[path = "kit/kit.rs"]
mod kit;
#[path = "kit/world.rs"]
mod world;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kit::{LIMIT, ranges};
use projectors::{
    content::ContentFold,
    directory::DirectoryFold,
    downloads::DownloadsFold,
    runner::{
        Gather, Plan, Sink, Throttle, Until, Windows,
        clickhouse::{Engines, Failure, Stops, facts::FactsSink, one_run},
        postgres::{Fold, PostgresSink},
    },
};
use read_models::{Projection, Writer};
use tokio_util::sync::CancellationToken;
use world::{Numbers, World};

/// Folds to the log's end through sinks that are made anew after a few pieces each, some of them killed in the midst of
/// a write.
async fn in_pieces<S: Sink>(world: &World, numbers: &mut Numbers, mut make: impl FnMut() -> S) {
    for patience in 0_u64.. {
        let mut sink = make();
        let [checkpoint] = sink.take_over().await.unwrap()[..] else {
            panic!("one partition of each topic")
        };
        let events = 1 + numbers.below(60) as usize;
        let pieces = ranges(&world.log.log, &checkpoint, events).await;
        if pieces.is_empty() {
            return;
        }
        let last = numbers.below(4);
        for (n, piece) in (0..).zip(pieces) {
            let write = sink.write(vec![piece]);
            if n == last {
                // Later each time, so that it comes to an end.
                let micros = numbers.below(20_000) + 500 * patience;
                let _ = tokio::time::timeout(Duration::from_micros(micros), write).await;
                break;
            }
            write.await.unwrap();
        }
    }
}

/// Projects what is in the log of visits, by runs that end at any step or moment; each goes on from the state that the
/// last one kept.
async fn visits_in_runs(world: &World, writer: &Writer, numbers: &mut Numbers) {
    let engines = Engines {
        log: world.log.log.clone(),
        control: writer.clone(),
        rows: world.rows.writer(),
        generation: 1,
        owner: "test".to_owned(),
        parking_limit: world.config().parking_limit,
        keep_every: 1 + numbers.below(80) as usize,
    };
    let plan = Plan {
        windows: Windows::new(world.log.log.clone()),
        gather: Gather::AT_ONCE,
        throttle: Throttle::default(),
        until: Until::CaughtUp,
        health: world.health.register("visits"),
        shutdown: CancellationToken::new(),
    };
    for _ in 0..numbers.below(4) {
        let (steps, last) = (AtomicU64::new(0), numbers.below(20));
        let stops: Stops = Arc::new(move |_| steps.fetch_add(1, Ordering::Relaxed) == last);
        let moment = Duration::from_micros(numbers.below(200_000));
        match tokio::time::timeout(moment, one_run(&engines, &plan, Some(stops))).await {
            Err(_) | Ok(Ok(()) | Err(Failure::Stopped(_))) => {}
            Ok(Err(failure)) => panic!("{failure:?}"),
        }
    }
    if numbers.below(2) == 0 {
        one_run(&engines, &plan, None).await.unwrap();
    }
}

async fn any_cut_reads_as_the_log_does(seed: u64) {
    println!("seed {seed}");
    let (mut world, mut numbers) = (World::make().await, Numbers(seed));
    // The tables of a log in which nothing has happened.
    world.fold().await;
    let writer = world.writer().await;
    world.live(seed).await;
    for _ in 0..4 {
        visits_in_runs(&world, &writer, &mut numbers).await;
        let more = 3 * (1 + numbers.below(30));
        world.visits(&mut numbers, more).await;
    }
    visits_in_runs(&world, &writer, &mut numbers).await;
    let (control, rows) = (writer.clone(), world.rows.writer());
    let facts = || FactsSink::new(control.clone(), rows.clone(), 1, 1, LIMIT);
    in_pieces(&world, &mut numbers, facts).await;
    postgres::<DirectoryFold>(&world, &writer, &mut numbers).await;
    postgres::<ContentFold>(&world, &writer, &mut numbers).await;
    postgres::<DownloadsFold>(&world, &writer, &mut numbers).await;
    // Whatever the last runs left of the visits.
    world.fold().await;
    for projection in Projection::ALL {
        let (outcome, differences) = world.verify(projection).await;
        assert!(
            outcome.equal && outcome.rows > 0,
            "seed {seed}, {projection}: {outcome:?} {differences:#?}"
        );
    }
    writer.close().await;
    world.erase().await;
}

async fn postgres<F: Fold>(world: &World, writer: &Writer, numbers: &mut Numbers) {
    let tables = writer.tables(F::PROJECTION, 1, 2);
    let make = || PostgresSink::<F>::new(writer.clone(), tables.clone(), 0, LIMIT);
    in_pieces(world, numbers, make).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_cut_of_everything_reads_as_the_log_does() {
    for _ in 0..5 {
        any_cut_reads_as_the_log_does(uuid::Uuid::new_v4().as_u64_pair().0).await;
    }
}
