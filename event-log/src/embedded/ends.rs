//! Up to where each partition was acknowledged, beside the store.
//!
//! After a crash the store cuts its journal where that makes no sense any more. So it has to, for the tail that was
//! never acknowledged; but a damaged byte further in front looks the same, and would take all that follows with it,
//! without a word. So what is on the disk is noted here before it is acknowledged, and asked for when the folder is
//! opened. Nothing waits for this file to be on the disk: it is never ahead of the journal, and what a crash of the
//! machine takes from it is a moment of care.
//!
//! One u64 little-endian for each partition, at a place that its name gives; 0, or a file that is too short: nothing
//! is known.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use crate::{
    partition::{Offset, Partition, Topic},
    slot::SLOTS,
};

const NAME: &str = "acknowledged";
const WIDTH: usize = size_of::<Offset>();

/// The open file.
pub(super) struct Ends {
    file: File,
    path: PathBuf,
}

impl Ends {
    /// Opens the file of a log's folder, or makes it.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let path = dir.join(NAME);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)?;
        Ok(Self { file, path })
    }

    /// Where it is, for people.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Every partition that is known, with the end that was acknowledged.
    pub(super) fn known(&self) -> io::Result<Vec<(Partition, Offset)>> {
        let mut bytes = Vec::new();
        (&self.file).read_to_end(&mut bytes)?;
        let (ends, _) = bytes.as_chunks::<WIDTH>();
        let all = Topic::ALL
            .into_iter()
            .flat_map(|topic| (0..SLOTS.into()).map(move |index| Partition { topic, index }));
        let known = all.zip(ends.iter().map(|end| Offset::from_le_bytes(*end)));
        Ok(known.filter(|(_, end)| *end > 0).collect())
    }

    /// Notes that everything before `end` is on the disk.
    pub(super) fn note(&self, partition: Partition, end: Offset) -> io::Result<()> {
        self.file.write_all_at(&end.to_le_bytes(), place(partition))
    }
}

fn place(Partition { topic, index }: Partition) -> u64 {
    let topic = match topic {
        Topic::Directory => 0,
        Topic::Ledger => 1,
        Topic::Visits => 2,
    };
    (topic * u64::from(SLOTS) + u64::from(index)) * WIDTH as u64
}
