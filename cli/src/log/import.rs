//! `annals log import`: an export put into another store.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use event_log::{
    Genesis, KafkaConfig, LogConfig, LogId, Partition, Store, Stored, Topic, export,
    restore::{Restored, Target},
};

use super::{
    Place,
    export::{end, file},
};
use crate::progress::Progress;

/// What goes where.
#[derive(Debug, clap::Args)]
pub(super) struct Import {
    /// The folder that `annals log export` wrote.
    folder: PathBuf,
    /// Into an embedded log in this folder.
    #[arg(
        long,
        value_name = "FOLDER",
        required_unless_present = "into_kafka",
        conflicts_with = "into_kafka"
    )]
    into_folder: Option<PathBuf>,
    /// Into a Kafka cluster: host:port, several separated by commas.
    #[arg(long, value_name = "BROKERS")]
    into_kafka: Option<String>,
    /// What the names of its topics begin with.
    #[arg(long, default_value = "annals")]
    prefix: String,
    /// Take topics that may lose records, and make them with one replica.
    #[arg(long)]
    development: bool,
    /// As another log, under this id: a UUID that no log has. Positions and checkpoints of the old one mean nothing
    /// to it.
    #[arg(long, value_name = "UUID")]
    new_id: Option<uuid::Uuid>,
}

impl Import {
    /// Whether every record is one that a writer may have made.
    pub(super) async fn run(self) -> anyhow::Result<bool> {
        let directory = self.genesis(Partition::DIRECTORY)?;
        let ledger = self.genesis(Partition::ledger(0))?;
        let visits = self.genesis(Partition::visits(0))?;
        anyhow::ensure!(
            directory.log == ledger.log && directory.log == visits.log,
            "the files in {} are of several logs",
            self.folder.display()
        );
        let target = Target::open(&LogConfig {
            store: self.store(),
            ledger_partitions: Some(ledger.partitions),
            visits_partitions: Some(visits.partitions),
            development: self.development,
        })
        .await?;
        // The directory last: without it no process takes the rest for a log.
        let topics = [
            (Topic::Visits, visits.partitions),
            (Topic::Ledger, ledger.partitions),
            (Topic::Directory, 1),
        ];
        let partitions = topics
            .into_iter()
            .flat_map(|(topic, count)| (0..count).map(move |index| Partition { topic, index }));
        let mut sound = Ok(true);
        for partition in partitions {
            if let Ok(before) = sound {
                sound = self.partition(&target, partition).await.map(|it| before && it);
            }
        }
        target.close().await;
        sound
    }

    fn store(&self) -> Store {
        match (&self.into_folder, &self.into_kafka) {
            (Some(dir), _) => Store::Embedded { dir: dir.clone() },
            (None, brokers) => Store::Kafka(KafkaConfig {
                brokers: brokers.clone().unwrap_or_default(),
                prefix: self.prefix.clone(),
                replication: None,
            }),
        }
    }

    async fn partition(&self, target: &Target, partition: Partition) -> anyhow::Result<bool> {
        let path = file(&self.folder, &Place::from(partition));
        let progress = Progress::new(format!("records of {partition}"), end(&path)?, 0);
        let (mut before, id) = (0, self.new_id.map(LogId));
        let done = |records: u64| {
            progress.add(records - before);
            before = records;
        };
        let restored = target.restore(partition, lines(&path)?, id, done).await;
        let Restored { after, damaged } =
            restored.with_context(|| format!("importing {}", path.display()))?;
        progress.finish();
        if partition.topic.is_fenced() {
            println!(
                "{partition}: epoch {}, number {}, hash {}",
                after.epoch, after.seq, after.hash
            );
        }
        if let Some(first) = damaged.first() {
            eprintln!(
                "{partition}: WRONG from offset {first} on: no writer made that record where it stands. The log was damaged, \
                 or {} was changed after the export; what depends on it counts for nothing. `annals log verify` of the log \
                 that it came from says which.",
                path.display()
            );
        }
        Ok(damaged.is_empty())
    }

    fn genesis(&self, partition: Partition) -> anyhow::Result<Genesis> {
        let path = file(&self.folder, &Place::from(partition));
        let first = lines(&path)?.next();
        let genesis = first
            .context("it is empty".to_owned())
            .and_then(|first| first.map_err(anyhow::Error::msg))
            .and_then(|first| Genesis::from_value(&first.record.value).map_err(anyhow::Error::msg));
        genesis.with_context(|| format!("{} is no export of {partition}", path.display()))
    }
}

/// The records of a file. A last line without an end was not written whole, and is none.
fn lines(path: &Path) -> anyhow::Result<impl Iterator<Item = Result<Stored, String>> + use<>> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut reader = BufReader::with_capacity(1024 * 1024, file);
    Ok(std::iter::from_fn(move || {
        let mut line = Vec::new();
        match reader.read_until(b'\n', &mut line) {
            Ok(_) if line.last() == Some(&b'\n') => Some(export::from_line(&line)),
            Ok(_) => None,
            Err(error) => Some(Err(error.to_string())),
        }
    }))
}
