//! A broker that is so busy that it closes connections, as a proxy on the way to it plays one.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use event_log::{KafkaConfig, Log, Store};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::Instant,
};

use crate::{
    kafka::Cluster,
    suite::{Bench as _, config, within},
};

/// How often somebody who wants to read is cut off.
const TIMES: usize = 3;
/// How long nobody gets in then: long enough for a client to have no connection left.
const CLOSED: Duration = Duration::from_millis(300);
/// What a request to read records is called in Kafka's protocol.
const FETCH: [u8; 2] = [0, 1];

/// The port of a broker's listener: a proxy's, or the one behind it.
fn port(name: &str) -> u16 {
    let state = std::env::var("ANNALS_TEST_STATE").expect("ANNALS_TEST_STATE is not set: run ./dev test");
    let file = PathBuf::from(state).join("ports").join(name);
    let text = std::fs::read_to_string(&file).expect("a port of the broker");
    text.trim().parse().expect("a number")
}

/// The way that the broker tells clients to come who come this way. Whoever fetches is cut off, and all others too.
struct Way {
    address: String,
    cuts: Arc<AtomicUsize>,
    proxy: tokio::task::JoinHandle<()>,
}

impl Way {
    async fn new() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port("kafka1-proxy")))
            .await
            .expect("the port is free");
        let (address, behind) = (listener.local_addr().expect("bound"), port("kafka1-behind-proxy"));
        let cuts = Arc::new(AtomicUsize::new(0));
        let counted = cuts.clone();
        let proxy = tokio::spawn(async move {
            let open_from = watch::Sender::new(Instant::now());
            while let Ok((here, _)) = listener.accept().await {
                if Instant::now() >= *open_from.borrow()
                    && let Ok(there) = TcpStream::connect(("127.0.0.1", behind)).await
                {
                    tokio::spawn(pass(here, there, open_from.clone(), counted.clone()));
                }
            }
        });
        Self {
            address: address.to_string(),
            cuts,
            proxy,
        }
    }
}

async fn pass(
    mut here: TcpStream,
    mut there: TcpStream,
    open_from: watch::Sender<Instant>,
    cuts: Arc<AtomicUsize>,
) {
    let mut cut = open_from.subscribe();
    let (mut asked, mut answered) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            _ = cut.changed() => return,
            count = here.read(&mut asked) => {
                let Ok(count @ 1..) = count else { return };
                // Length, then the kind of request; a client that opens a log sends one at a time.
                let fetches = asked[..count].get(4..6) == Some(&FETCH);
                if fetches && cuts.load(Ordering::SeqCst) < TIMES {
                    cuts.fetch_add(1, Ordering::SeqCst);
                    open_from.send_replace(Instant::now() + CLOSED);
                    return;
                }
                if there.write_all(&asked[..count]).await.is_err() {
                    return;
                }
            }
            count = there.read(&mut answered) => {
                let Ok(count @ 1..) = count else { return };
                if here.write_all(&answered[..count]).await.is_err() {
                    return;
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_is_opened_though_a_busy_broker_closes_connections() {
    within(async {
        let bench = Cluster::new();
        // It is there already: what is opened below only reads.
        let log = Log::open(config(bench.store())).await.expect("opens");
        let id = log.id();
        log.close().await;
        let way = Way::new().await;
        let Store::Kafka(direct) = bench.store() else {
            panic!("a cluster is on Kafka");
        };
        let kafka = KafkaConfig {
            brokers: way.address.clone(),
            ..direct
        };
        let log = Log::open_existing(config(Store::Kafka(kafka))).await;
        let log = log.expect("opens, after a few attempts");
        assert_eq!(log.id(), id);
        assert_eq!(way.cuts.load(Ordering::SeqCst), TIMES, "nobody was cut off");
        log.close().await;
        way.proxy.abort();
    })
    .await;
}
