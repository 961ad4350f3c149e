//! What stands between Annals and an engine: a TCP proxy that can be slow, silent, or cut its connections.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp},
    sync::watch,
};
use tokio_util::task::AbortOnDropHandle;

/// What becomes of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// They go through.
    Fair,
    /// Each piece of them comes later than it was sent.
    Slow(Duration),
    /// They wait until the weather changes, in both directions; connections stay.
    Silent,
    /// The engine hears everything, and nobody hears the engine.
    Unheard,
}

/// Whom the weather meets. Of several processes, or of the connections of one, some get through and some do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Every connection.
    All,
    /// Every other one, in the order in which they were made.
    Half,
}

#[derive(Debug, Clone, Copy)]
struct State {
    weather: Weather,
    reach: Reach,
    /// How often connections were cut.
    cuts: u64,
}

/// A way to an engine. It ends when it is dropped.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    state: watch::Sender<State>,
    _accepting: AbortOnDropHandle<()>,
}

impl Proxy {
    /// Listens on a port of this machine (0: any) for who wants to go to an engine.
    ///
    /// # Errors
    /// The port is taken.
    pub async fn new(port: u16, engine: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let address = listener.local_addr()?;
        let (state, seen) = watch::channel(State {
            weather: Weather::Fair,
            reach: Reach::All,
            cuts: 0,
        });
        let accepting = tokio::spawn(async move {
            let mut unlucky = false;
            loop {
                // Out of file descriptors, for example: whoever wants to connect waits.
                let Ok((client, _)) = listener.accept().await else {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                };
                unlucky = !unlucky;
                // It ends with either side, at a cut, or with the proxy.
                tokio::spawn(carry(client, engine, unlucky, seen.clone()));
            }
        });
        Ok(Self {
            address,
            state,
            _accepting: AbortOnDropHandle::new(accepting),
        })
    }

    /// Lets the weather change.
    pub fn turn(&self, weather: Weather, reach: Reach) {
        self.state.send_modify(|state| {
            state.weather = weather;
            state.reach = reach;
        });
    }

    /// Ends all connections.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }
}

/// An engine that is away ends the connection, as it does itself when it is killed.
async fn carry(client: TcpStream, engine: SocketAddr, unlucky: bool, mut seen: watch::Receiver<State>) {
    let cuts = seen.borrow().cuts;
    let Ok(server) = TcpStream::connect(engine).await else {
        return;
    };
    // What is small is not to wait for more.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let weather = |seen: &watch::Receiver<State>| Sky {
        seen: seen.clone(),
        unlucky,
    };
    tokio::select! {
        _ = pass(from_client, to_server, weather(&seen), Direction::There) => {}
        _ = pass(from_server, to_client, weather(&seen), Direction::Back) => {}
        // Also when the proxy is no more.
        _ = seen.wait_for(|state| state.cuts != cuts) => {}
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    There,
    Back,
}

/// As one connection sees it.
struct Sky {
    seen: watch::Receiver<State>,
    unlucky: bool,
}

impl Sky {
    async fn hold(&mut self, direction: Direction) {
        let unlucky = self.unlucky;
        let held = |state: &State| {
            let meets = state.reach == Reach::All || unlucky;
            meets
                && match state.weather {
                    Weather::Silent => true,
                    Weather::Unheard => direction == Direction::Back,
                    Weather::Fair | Weather::Slow(_) => false,
                }
        };
        let delay = match *self.seen.borrow() {
            State {
                weather: Weather::Slow(delay),
                reach,
                ..
            } if reach == Reach::All || unlucky => delay,
            State { .. } => Duration::ZERO,
        };
        tokio::time::sleep(delay).await;
        // It ends with an error when the proxy is no more; then the connection ends too.
        let _ = self.seen.wait_for(|state| !held(state)).await;
    }
}

async fn pass(
    mut from: tcp::OwnedReadHalf,
    mut to: tcp::OwnedWriteHalf,
    mut sky: Sky,
    direction: Direction,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        sky.hold(direction).await;
        to.write_all(&buffer[..length]).await?;
    }
}
