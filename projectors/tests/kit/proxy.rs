//! Stands between a projector and PostgreSQL, counts what it says, and ends or freezes it at one of its words: as if the
//! process were killed, or stopped, between two steps.
#![expect(unreachable_pub, reason = "a part of each test that is a crate of its own")]

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};
use tokio_util::task::AbortOnDropHandle;

/// What happens at that word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was never said.
    Unsaid,
    /// It was said, and done, and nobody heard the answer.
    Unheard,
    /// Neither it nor anything after it is passed on, until it is thawed.
    Frozen,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Now {
    Passing,
    Ended,
    Frozen,
}

/// A proxy.
pub struct Proxy {
    /// The database through it.
    pub url: String,
    shared: Arc<Shared>,
    _accepting: AbortOnDropHandle<()>,
}

struct Shared {
    server: String,
    /// Words that were said, on all connections together.
    said: AtomicUsize,
    last: usize,
    end: End,
    now: watch::Sender<Now>,
}

impl Proxy {
    /// In front of the database of this URL; so many words are passed on.
    pub async fn start(url: &str, words: usize, end: End) -> Self {
        let (before, rest) = url.split_once('@').unwrap();
        let (server, database) = rest.split_once('/').unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let through = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            server: server.to_owned(),
            said: AtomicUsize::new(0),
            last: words,
            end,
            now: watch::Sender::new(Now::Passing),
        });
        let accepting = shared.clone();
        let accepting = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let shared = accepting.clone();
                connections.spawn(async move { shared.connection(client).await });
            }
        });
        Self {
            url: format!("{before}@{through}/{database}"),
            shared,
            _accepting: AbortOnDropHandle::new(accepting),
        }
    }

    /// Completes at the word.
    pub async fn reached(&self) {
        let mut now = self.shared.now.subscribe();
        let _ = now.wait_for(|now| *now != Now::Passing).await;
    }

    /// Whether it was reached.
    pub fn is_reached(&self) -> bool {
        *self.shared.now.borrow() != Now::Passing
    }

    /// What was frozen goes on.
    pub fn thaw(&self) {
        self.shared.now.send_replace(Now::Passing);
    }
}

impl Shared {
    async fn connection(&self, client: TcpStream) -> io::Result<()> {
        let server = TcpStream::connect(&self.server).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let (unheard, hushed) = watch::channel(false);
        let answers = tokio::spawn(answers(from_server, to_client, hushed, self.now.subscribe()));
        let answers = AbortOnDropHandle::new(answers);
        let mut now = self.now.subscribe();
        tokio::select! {
            said = self.words(from_client, to_server, unheard, answers) => said,
            _ = now.wait_for(|now| *now == Now::Ended) => Ok(()),
        }
    }

    /// Passes words on: all that is said up to a point where an answer is expected.
    async fn words(
        &self,
        mut client: OwnedReadHalf,
        mut server: OwnedWriteHalf,
        unheard: watch::Sender<bool>,
        answers: AbortOnDropHandle<io::Result<OwnedWriteHalf>>,
    ) -> io::Result<()> {
        // The first messages have no type: a wish for TLS, perhaps, and who is there.
        loop {
            let mut message = vec![0; 8];
            client.read_exact(&mut message).await?;
            let (length, code) = (number(&message[..4]), number(&message[4..]));
            message.resize(length, 0);
            client.read_exact(&mut message[8..]).await?;
            server.write_all(&message).await?;
            const TLS: usize = 80_877_103;
            if code != TLS {
                break;
            }
        }
        let mut word = Vec::new();
        loop {
            let mut head = [0; 5];
            client.read_exact(&mut head).await?;
            let at = word.len() + 5;
            word.extend(head);
            word.resize(at + number(&head[1..]) - 4, 0);
            client.read_exact(&mut word[at..]).await?;
            const SYNC: u8 = b'S';
            const QUERY: u8 = b'Q';
            if head[0] == SYNC || head[0] == QUERY {
                if self.said.fetch_add(1, Ordering::SeqCst) == self.last {
                    return self.at_the_word(&word, server, client, unheard, answers).await;
                }
            } else if matches!(head[0], b'P' | b'B' | b'D' | b'E' | b'C') {
                continue;
            }
            let mut now = self.now.subscribe();
            let _ = now.wait_for(|now| *now != Now::Frozen).await;
            server.write_all(&word).await?;
            word.clear();
        }
    }

    async fn at_the_word(
        &self,
        word: &[u8],
        mut server: OwnedWriteHalf,
        mut client: OwnedReadHalf,
        unheard: watch::Sender<bool>,
        answers: AbortOnDropHandle<io::Result<OwnedWriteHalf>>,
    ) -> io::Result<()> {
        match self.end {
            End::Unsaid => {
                self.now.send_replace(Now::Ended);
            }
            End::Unheard => {
                unheard.send_replace(true);
                server.write_all(word).await?;
                let _open = answers.await??;
                self.now.send_replace(Now::Ended);
            }
            End::Frozen => {
                self.now.send_replace(Now::Frozen);
                let mut now = self.now.subscribe();
                let _ = now.wait_for(|now| *now == Now::Passing).await;
                server.write_all(word).await?;
                tokio::io::copy(&mut client, &mut server).await?;
            }
        }
        Ok(())
    }
}

/// Passes answers on; once they are hushed it ends at the next point where the server is ready for more, and gives
/// back what the client still takes for open.
async fn answers(
    mut server: OwnedReadHalf,
    mut client: OwnedWriteHalf,
    hushed: watch::Receiver<bool>,
    mut now: watch::Receiver<Now>,
) -> io::Result<OwnedWriteHalf> {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let read = server.read(&mut bytes).await?;
        if read == 0 {
            return Ok(client);
        }
        let _ = now.wait_for(|now| *now != Now::Frozen).await;
        if !*hushed.borrow() {
            client.write_all(&bytes[..read]).await?;
        } else if matches!(bytes[..read], [.., b'Z', 0, 0, 0, 5, _]) {
            return Ok(client);
        }
    }
}

fn number(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .fold(0, |number, byte| number << 8 | usize::from(*byte))
}
