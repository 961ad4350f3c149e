//! Announcing that the engine is ready, and ending it on SIGTERM or SIGINT.
//!
//! The engine ends when its own query does. So a signal kills that query; the engine then takes no new
//! connection, lets running statements finish, and returns. Whoever cannot wait sends the signal again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::http;

/// A running statement may take this long to finish; afterwards it is cut, as by a crash.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whether the end was asked for.
pub(crate) struct Stopper(Arc<AtomicBool>);

impl Stopper {
    pub(crate) fn was_asked(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// Starts the thread that announces readiness and then waits for signals.
pub(crate) fn on_signal(port: u16, password: String) -> anyhow::Result<Stopper> {
    let asked = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    // Installed here, not in the thread: from now on a signal is never missed and never fatal.
    let (terminate, interrupt) = {
        let _inside = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    let thread_asked = Arc::clone(&asked);
    std::thread::Builder::new()
        .name("stop".to_owned())
        .spawn(move || runtime.block_on(watch(port, password, terminate, interrupt, thread_asked)))
        .context("cannot start the thread that waits for signals")?;
    Ok(Stopper(asked))
}

async fn watch(
    port: u16,
    password: String,
    mut terminate: Signal,
    mut interrupt: Signal,
    asked: Arc<AtomicBool>,
) {
    let at_once = tokio::select! {
        () = announce(port) => false,
        () = either(&mut terminate, &mut interrupt) => true,
    };
    // Others may have found it ready before we did, and ask already.
    if at_once && !http::ping(port) {
        std::process::exit(0);
    }
    if !at_once {
        either(&mut terminate, &mut interrupt).await;
    }
    asked.store(true, Ordering::SeqCst);
    eprintln!("clickhouse-local: stopping; statements that run may finish");
    let kill = "KILL QUERY WHERE query LIKE 'SELECT sum(sleepEachRow(%' AND user = '' ASYNC";
    if let Err(error) = http::execute(port, &password, kill) {
        eprintln!("clickhouse-local: cannot end the engine's query, ending the process instead: {error}");
        std::process::exit(0);
    }
    tokio::select! {
        () = tokio::time::sleep(PATIENCE) => eprintln!("clickhouse-local: statements still run; they are cut now"),
        () = either(&mut terminate, &mut interrupt) => eprintln!("clickhouse-local: asked twice; statements are cut"),
    }
    std::process::exit(0);
}

/// Says on stderr when the engine answers; the launcher's caller polls `/ping` itself.
async fn announce(port: u16) {
    while !http::ping(port) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    eprintln!("clickhouse-local: ready on http://127.0.0.1:{port}");
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
