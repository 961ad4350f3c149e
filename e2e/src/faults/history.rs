//! What clients sent and what they were told: all that the checker knows beside the log.

use std::{
    collections::BTreeMap,
    io::Write as _,
    path::Path,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

/// What is asked of a piece.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Command {
    /// Make it, with this slug.
    Draft {
        /// Of a small set, so that writers get in each other's way.
        slug: String,
    },
    /// Give it another slug and title, in one command.
    Rename {
        /// As in a draft.
        slug: String,
    },
    /// Give it another title, of this version or of whichever.
    Retitle {
        /// `If-Match`.
        version: Option<u64>,
    },
    /// Let anyone read it.
    Publish,
    /// Take it back.
    Unpublish,
    /// Put it away for ever.
    Archive,
}

/// One request with a command.
#[derive(Debug, Clone, Serialize)]
pub struct Attempt {
    /// Of the command, alike in all its attempts; a title says it.
    pub mark: String,
    /// Whose.
    pub tenant: usize,
    /// Of which piece; none for a draft.
    pub piece: Option<Uuid>,
    /// What is asked.
    pub command: Command,
    /// Whether it has an Idempotency-Key.
    pub keyed: bool,
    /// The process that was asked.
    pub asked: String,
    /// Microseconds since the beginning.
    pub sent: u64,
    /// The same; when the answer was there, or was no longer waited for.
    pub done: u64,
    /// What was told.
    pub outcome: Outcome,
}

/// How a command ended, for its client.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum Outcome {
    /// It is acknowledged.
    Done(Done),
    /// It was refused for good.
    Refused {
        /// Of HTTP.
        status: u16,
        /// The problem's name.
        problem: String,
    },
    /// Nobody said.
    Unknown(String),
}

/// An acknowledgement.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Done {
    /// Of HTTP.
    pub status: u16,
    /// The partition of the ledger.
    pub partition: u32,
    /// The offset of its commit.
    pub offset: u64,
    /// The piece.
    pub piece: Uuid,
    /// Its version.
    pub version: u64,
    /// Its headers that say something of what was done.
    pub headers: BTreeMap<String, String>,
    /// The whole answer.
    pub body: Value,
}

/// A question after a write of one's own, with its position.
#[derive(Debug, Clone, Serialize)]
pub struct Read {
    /// Of which piece.
    pub piece: Uuid,
    /// What the same client has written before.
    pub written: u64,
    /// Microseconds since the beginning.
    pub sent: u64,
    /// The same.
    pub done: u64,
    /// Of HTTP; 0 when there was no answer.
    pub status: u16,
    /// Version and title, when it was answered.
    pub found: Option<(u64, String)>,
}

/// A page view or a download, sent once.
#[derive(Debug, Clone, Serialize)]
pub struct Beside {
    /// The view's path, or the download's title: no other has it.
    pub mark: String,
    /// Whether it was acknowledged, as something that counts.
    pub acknowledged: bool,
}

/// A line of the history.
#[derive(Debug, Clone, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Entry {
    Attempt(Attempt),
    Read(Read),
    Beside(Beside),
    Trouble { at: u64, what: String },
}

/// Everything that happened, in the order in which it ended.
#[derive(Debug)]
pub struct History {
    began: Instant,
    entries: Mutex<Vec<Entry>>,
}

impl Default for History {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            entries: Mutex::default(),
        }
    }
}

impl History {
    /// Microseconds since the beginning.
    pub fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Keeps a line.
    pub fn keep(&self, entry: Entry) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.push(entry);
    }

    /// Keeps and says what was done to the installation.
    pub fn trouble(&self, what: String) {
        let at = self.now();
        println!("{:8.3} s  {what}", at as f64 / 1e6);
        self.keep(Entry::Trouble { at, what });
    }

    /// Everything so far.
    pub fn entries(&self) -> Vec<Entry> {
        self.entries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Writes it, a line of JSON an entry.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
        for entry in self.entries() {
            serde_json::to_writer(&mut file, &entry)?;
            file.write_all(b"\n")?;
        }
        file.flush()?;
        Ok(())
    }
}
