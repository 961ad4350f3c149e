//! `./dev test faults`: load, faults, and a checker that believes nobody.
//!
//! Two to four command-apis, two projectors and a query-api on real engines; clients that write, retry and read; trouble at
//! random from a seed. When it is over, the log is exported, its history is derived by a program that shares no code
//! with Annals, and what clients were told is compared with it ([`checker`]); then the tables are, by `annals verify`.

pub mod checker;
pub mod clients;
pub mod clocks;
pub mod engines;
pub mod history;
pub mod ledger;
pub mod network;
pub mod proxy;
pub mod rebuilds;
pub mod trouble;
pub mod ways;

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    engines::Engines,
    installation::{Installation, LogKind, Role},
    wait,
};
use clients::{Tenant, World};
use clocks::Clocks;
use ledger::Ledger;
use rebuilds::Operator;
use trouble::Trouble;

const TENANTS: usize = 3;
/// Clients of each tenant.
const CLIENTS: usize = 4;
/// As many as a plan may want.
const WRITERS: [Role; 4] = [
    Role::Command,
    Role::AnotherCommand,
    Role::ThirdCommand,
    Role::FourthCommand,
];
const READERS: [Role; 3] = [Role::Projector, Role::AnotherProjector, Role::Query];
/// How soon after the last fault everything serves, and shows, what was written.
const RECOVERY: Duration = Duration::from_secs(120);

/// What to do, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Of all randomness; what the scheduler does with it is not repeated.
    pub seed: u64,
    /// How long there is trouble.
    pub duration: Duration,
    /// Command-apis, two to four.
    pub processes: usize,
}

/// Makes load and trouble, then checks.
///
/// # Errors
/// A promise is broken: the text says which and by what, and the history is in a file that it names. Or something
/// does not come back.
pub async fn run(engines: &Engines, binary: &Path, plan: Plan) -> anyhow::Result<checker::Looked> {
    println!("seed {}, {:.0} s", plan.seed, plan.duration.as_secs_f64());
    let writers = WRITERS
        .get(..plan.processes)
        .filter(|writers| writers.len() > 1)
        .context("two to four command-apis")?;
    let roles = [writers, &READERS].concat();
    let served = self::engines::Engines::new().await?;
    let (ways, through) = served.ways(engines).await?;
    let mut annals = Installation::new(&through, binary.to_owned(), LogKind::Kafka).await?;
    annals.set("ANNALS_SESSION_SECONDS", "6");
    if served.brokers.len() == 3 {
        // Else topics have one replica, in development.
        annals.set("ANNALS_KAFKA_REPLICATION", "3");
    }
    let clocks = Clocks::new(&mut annals, &roles).await?;
    for role in &roles {
        annals.spawn(*role)?;
    }
    for role in &roles {
        annals.ready(*role).await?;
    }
    let mut tenants = Vec::new();
    for number in 0..TENANTS {
        let site = format!("site{number}.example");
        let key = annals.tenant(&format!("tenant {number}"), &site).await?;
        tenants.push(Tenant::new(key, site));
    }
    let addresses = writers.iter().map(|role| annals.address(&[*role])).collect();
    let world = Arc::new(World::new(tenants, addresses, annals.query_address()));

    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let mut clients = Vec::new();
    for number in 0..TENANTS * CLIENTS {
        let seed = plan.seed.wrapping_add(number as u64 + 1);
        let writing = clients::write(world.clone(), number % TENANTS, seed, stop.clone());
        clients.push(tasks.spawn(writing));
    }
    let mut trouble = Trouble::new(
        plan.seed,
        world.clone(),
        served,
        ways,
        clocks,
        Operator::new(&annals)?,
        writers,
    );
    let over = CancellationToken::new();
    let ending = over.clone();
    tasks.spawn(async move {
        tokio::time::sleep(plan.duration).await;
        ending.cancel();
    });
    let made = trouble.make(&mut annals, &over).await;
    let outcome = match made {
        Ok(()) => {
            let recovered = recovered(&mut annals, &trouble, &world).await;
            let built = match recovered {
                // What clients write meanwhile, the next generation must have when it answers.
                Ok(()) => Operator::new(&annals)?.built(RECOVERY).await,
                Err(error) => Err(error),
            };
            stop.cancel();
            for client in clients {
                client.await??;
            }
            match built {
                Ok(kept) => match none_panicked(&annals, &roles) {
                    Ok(()) => checked(&annals, &world, &kept).await,
                    Err(error) => Err(error),
                },
                Err(error) => Err(error),
            }
        }
        Err(error) => Err(error),
    };
    stop.cancel();
    match outcome {
        Ok(looked) => {
            annals.stop().await?;
            annals.erase().await?;
            Ok(looked)
        }
        Err(error) => {
            let folder = tempfile::tempdir()?.keep();
            world.history.write(&folder.join("history.ndjson"))?;
            for role in roles {
                std::fs::copy(annals.log_file(role), folder.join(format!("{role:?}.log")))?;
            }
            let status = annals.annals(annals.operator_key(), &["status"]).output().await?;
            std::fs::write(folder.join("status"), [status.stdout, status.stderr].concat())?;
            Err(error.context(format!(
                "seed {}; the history and what the processes said are in {}",
                plan.seed,
                folder.display()
            )))
        }
    }
}

/// Waits until all serve again: progress when faults stop.
async fn recovered(annals: &mut Installation, trouble: &Trouble, world: &World) -> anyhow::Result<()> {
    for role in trouble.roles() {
        let ready = wait::until(
            "a process to be ready after the last fault",
            RECOVERY,
            async || {
                let supervised = trouble.supervise(annals);
                if supervised.is_ok() && !annals.is_ready(role).await {
                    return None;
                }
                Some(supervised)
            },
        );
        ready.await.with_context(|| format!("{role:?}"))??;
    }
    for tenant in &world.tenants {
        let slug = format!("last-{}", uuid::Uuid::now_v7());
        let body = serde_json::json!({"site": tenant.site, "kind": "post", "title": slug, "slug": slug});
        let mut last = String::new();
        let written = wait::until("a command to be acknowledged", RECOVERY, async || {
            let answer = annals
                .command(
                    reqwest::Method::POST,
                    "/api/v1/content",
                    &tenant.key,
                    body.clone(),
                )
                .await;
            last = format!("{answer:?}");
            answer.ok().filter(|answer| answer.status.as_u16() == 201)
        })
        .await;
        let written = written.with_context(|| last.clone())?;
        let path = format!(
            "/api/v1/content/{}",
            written.body["id"].as_str().unwrap_or_default()
        );
        let read = wait::until("a piece to be shown", RECOVERY, async || {
            let answer = annals
                .query(&path, &tenant.key, written.position.as_deref())
                .await;
            last = format!("{answer:?}");
            answer.ok().filter(|answer| answer.status.as_u16() == 200)
        })
        .await;
        read.with_context(|| last.clone())?;
    }
    Ok(())
}

/// A panic may end a task and not its process.
fn none_panicked(annals: &Installation, roles: &[Role]) -> anyhow::Result<()> {
    for role in roles {
        let said = std::fs::read_to_string(annals.log_file(*role))?;
        let panicked = said.lines().find(|line| line.contains("panicked"));
        anyhow::ensure!(panicked.is_none(), "{role:?}: {panicked:?}");
    }
    Ok(())
}

/// The log, the history and the tables.
async fn checked(
    annals: &Installation,
    world: &World,
    kept: &[(&str, String)],
) -> anyhow::Result<checker::Looked> {
    let ledger = ledger(annals).await?;
    let (looked, violations) = checker::check(&world.history.entries(), &ledger);
    println!("{looked:?}, {} void records", ledger.void);
    let shown: Vec<_> = violations
        .iter()
        .take(5)
        .map(|violation| format!("{}: {}", violation.what, violation.why))
        .collect();
    anyhow::ensure!(
        violations.is_empty(),
        "{} violations, such as\n{}",
        violations.len(),
        shown.join("\n\n")
    );
    said(annals, &["verify"]).await?;
    for (projection, generation) in kept {
        said(annals, &["verify", projection, "--generation", generation]).await?;
    }
    println!("{} generations are kept, each as the log says", kept.len());
    Ok(looked)
}

/// The log as it stands: verified, exported, and read by a program that shares no code with Annals.
///
/// # Errors
/// It is not in order.
pub async fn ledger(annals: &Installation) -> anyhow::Result<Ledger> {
    let folder = tempfile::tempdir()?;
    let export = folder.path().join("export");
    let shown = export.to_str().context("a folder whose name is no text")?;
    said(annals, &["log", "verify"]).await?;
    said(annals, &["log", "export", shown]).await?;
    Ledger::read(&export).await
}

async fn said(annals: &Installation, arguments: &[&str]) -> anyhow::Result<()> {
    let output = annals.annals(annals.operator_key(), arguments).output().await?;
    let said = [output.stdout, output.stderr].concat();
    anyhow::ensure!(
        output.status.success(),
        "annals {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&said)
    );
    Ok(())
}
