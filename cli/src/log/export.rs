//! `annals log export`: the log as text, in a folder.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use event_log::{Log, Offset, Partition, Stored, Topic, export};
use serde_json::Value;
use tokio::sync::mpsc;

use super::{PATIENCE, Place, all, embedded};
use crate::{
    client::{Client, Connection, Problem, Request},
    progress::Progress,
};

/// Which partitions, from where, and where to.
#[derive(Debug, clap::Args)]
pub(super) struct Export {
    /// The folder to write into; made when absent.
    folder: PathBuf,
    /// Only these partitions, such as ledger/0; otherwise all.
    partitions: Vec<Place>,
    /// The folder of an embedded log that no process has open.
    #[arg(long, value_name = "FOLDER")]
    offline: Option<PathBuf>,
    #[command(flatten)]
    connection: Connection,
}

/// Pieces that wait to be written.
const WAITING: usize = 16;
/// How much of a file's end is looked at together.
const PIECE: u64 = 64 * 1024;

impl Export {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        fs::create_dir_all(&self.folder).with_context(|| format!("cannot make {}", self.folder.display()))?;
        match &self.offline {
            Some(folder) => self.offline(folder).await,
            None => self.online().await,
        }
    }

    async fn online(self) -> anyhow::Result<()> {
        let client = Client::new(&self.connection, PATIENCE)?;
        let places = match self.partitions.is_empty() {
            true => all(&client).await?,
            false => self.partitions,
        };
        for (place, end) in ends(&client, places).await? {
            let mut sink = Sink::open(&self.folder, &place)?;
            let progress = sink.progress(end);
            let path = format!(
                "api/v1/log/{}/{}/records?from={}",
                place.topic,
                place.index,
                sink.from()
            );
            let mut ended = false;
            let write = |line: &[u8]| -> anyhow::Result<()> {
                if let Some(offset) = offset(line) {
                    if offset >= end {
                        return Err(Enough.into());
                    }
                    progress.add(sink.write(line)?);
                    return Ok(());
                }
                let last: Value = serde_json::from_slice(line)?;
                if last["problem"].is_object() {
                    let problem: Problem = serde_json::from_value(last["problem"].clone())?;
                    anyhow::bail!("{problem}");
                }
                ended = last["end"].is_u64();
                Ok(())
            };
            let written = client.texts(Request::operator(path), write).await;
            sink.finish()?;
            let written = written.or_else(|error| {
                ended = error.is::<Enough>();
                if ended { Ok(()) } else { Err(error) }
            });
            let again = || format!("{place} is not complete; the same command goes on where it stopped");
            written.map_err(|error| match error.is::<Foreign>() {
                true => error,
                false => error.context(again()),
            })?;
            sink.agrees()?;
            anyhow::ensure!(ended, "the answer ended early: {}", again());
            progress.finish();
        }
        Ok(())
    }

    async fn offline(&self, folder: &Path) -> anyhow::Result<()> {
        let log = Log::open_existing(embedded(folder)).await?;
        let everything = || Topic::ALL.into_iter().flat_map(|topic| log.all(topic));
        for partition in everything() {
            let place = Place::from(partition);
            if self.partitions.is_empty() || self.partitions.contains(&place) {
                copy(&log, partition, Sink::open(&self.folder, &place)?).await?;
            }
        }
        log.close().await;
        Ok(())
    }
}

/// Where each partition ends now; what is appended later is not exported. The directory is asked last, for the others
/// name its sites; the ledger before visits, so that of an import that it calls complete no visit is missing.
async fn ends(client: &Client, places: Vec<Place>) -> anyhow::Result<Vec<(Place, Offset)>> {
    let mut ends = Vec::new();
    for topic in ["ledger", "visits", "directory"] {
        for place in places.iter().filter(|place| place.topic == topic) {
            let page = place.read(client, Some(0), 1).await?;
            let end = page["end"].as_u64();
            let end = end.with_context(|| format!("the answer does not say where {place} ends"))?;
            ends.push((place.clone(), end));
        }
    }
    Ok(ends)
}

/// What comes now is beyond the end.
#[derive(Debug, thiserror::Error)]
#[error("the end is reached")]
struct Enough;

/// The offset of a line that is a record.
fn offset(line: &[u8]) -> Option<Offset> {
    let rest = line.strip_prefix(b"{\"offset\":")?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    str::from_utf8(&rest[..digits]).ok()?.parse().ok()
}

async fn copy(log: &Log, partition: Partition, mut sink: Sink) -> anyhow::Result<()> {
    let (lines, mut pieces) = mpsc::channel::<Vec<u8>>(WAITING);
    let (from, end) = (sink.from(), log.end(partition).await?);
    let progress = sink.progress(end);
    let reading = async {
        let done = export::export(log, partition, from, &lines).await;
        drop(lines);
        done
    };
    let writing = async {
        while let Some(piece) = pieces.recv().await {
            progress.add(sink.write(&piece)?);
        }
        sink.finish()
    };
    let (read, written) = tokio::join!(reading, writing);
    read?;
    written?;
    sink.agrees()?;
    progress.finish();
    Ok(())
}

/// The file of a partition: `ledger-0.ndjson`.
pub(super) fn file(folder: &Path, place: &Place) -> PathBuf {
    folder.join(format!("{}-{}.ndjson", place.topic, place.index))
}

/// What is there is not of this log.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0} is the export of another log: its last record, at offset {1}, is not what this log has there. Nothing was written; \
     export into an empty folder"
)]
struct Foreign(String, Offset);

/// A partition's file, to be gone on with.
struct Sink {
    file: BufWriter<File>,
    path: PathBuf,
    /// Of which partition.
    of: String,
    /// The offset after the last whole line.
    next: Offset,
    /// What that line says, until the log has said the same: it could be another log's.
    last: Option<Stored>,
}

impl Sink {
    /// Opens or makes the file, and takes away a line that was not written to its end.
    fn open(folder: &Path, place: &Place) -> anyhow::Result<Self> {
        let path = file(folder, place);
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .with_context(|| format!("cannot write to {}", path.display()))?;
        let (whole, last) =
            standing(&mut file).with_context(|| format!("{} is no export", path.display()))?;
        let next = last.as_ref().map_or(0, |last| last.offset + 1);
        file.set_len(whole)?;
        file.seek(SeekFrom::Start(whole))?;
        let file = BufWriter::new(file);
        let of = place.to_string();
        Ok(Self {
            file,
            path,
            of,
            next,
            last,
        })
    }

    /// From where the log is to be read: the last record that is here comes again, to be compared.
    const fn from(&self) -> Offset {
        match self.last {
            Some(_) => self.next - 1,
            None => self.next,
        }
    }

    fn progress(&self, end: Offset) -> Progress {
        Progress::new(format!("records of {}", self.of), end, self.next)
    }

    /// Writes lines but for the one that is here already; says how many.
    fn write(&mut self, mut lines: &[u8]) -> anyhow::Result<u64> {
        if let Some(last) = self.last.take() {
            let (first, rest) = lines.split_at(
                lines
                    .iter()
                    .position(|byte| *byte == b'\n')
                    .map_or(lines.len(), |end| end + 1),
            );
            let found = export::from_line(first.trim_ascii_end()).map_err(anyhow::Error::msg)?;
            // A store that stamps what is put into it has other times.
            if (found.offset, &found.record) != (last.offset, &last.record) {
                return Err(Foreign(self.path.display().to_string(), last.offset).into());
            }
            lines = rest;
        }
        self.file
            .write_all(lines)
            .with_context(|| format!("cannot write to {}", self.path.display()))?;
        Ok(lines.iter().filter(|byte| **byte == b'\n').count() as u64)
    }

    /// After all of the log was read: whether it has what is here.
    fn agrees(&self) -> anyhow::Result<()> {
        let (path, next) = (self.path.display(), self.next);
        let ends_before = || {
            format!(
                "this log ends before {path} does, at offset {next}: it is the export of another one, or the log lost records"
            )
        };
        anyhow::ensure!(self.last.is_none(), ends_before());
        Ok(())
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        Ok(())
    }
}

/// The offset after the last record in a partition's file.
pub(super) fn end(path: &Path) -> anyhow::Result<Offset> {
    let cannot = || format!("cannot read {}", path.display());
    let (_, last) = standing(&mut File::open(path).with_context(cannot)?).with_context(cannot)?;
    Ok(last.map_or(0, |last| last.offset + 1))
}

/// How long a file is up to the end of its last whole line, and the record that it says.
fn standing(file: &mut File) -> anyhow::Result<(u64, Option<Stored>)> {
    let (whole, last) = last_line(file)?;
    let last = last.map(|line| export::from_line(&line));
    let last = last.transpose().map_err(anyhow::Error::msg)?;
    Ok((whole, last))
}

/// How long the file is up to the end of its last whole line, and that line.
fn last_line(file: &mut File) -> std::io::Result<(u64, Option<Vec<u8>>)> {
    let (mut start, mut tail) = (file.seek(SeekFrom::End(0))?, Vec::new());
    loop {
        let ends = tail.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        let ends: Vec<usize> = ends.map(|(place, _)| place).collect();
        let whole = |end: usize| start + end as u64 + 1;
        match ends[..] {
            [.., before, end] => return Ok((whole(end), Some(tail[before + 1..end].to_vec()))),
            [end] if start == 0 => return Ok((whole(end), Some(tail[..end].to_vec()))),
            [] if start == 0 => return Ok((0, None)),
            _ => {}
        }
        let piece = start.min(PIECE.max(tail.len() as u64));
        start -= piece;
        let mut more = vec![0; usize::try_from(piece).unwrap_or_default()];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut more)?;
        more.append(&mut tail);
        tail = more;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_another_log_left_in_the_folder_is_not_gone_on_with() {
        let (one, other, folder) = (
            tempfile::tempdir().unwrap(),
            tempfile::tempdir().unwrap(),
            tempfile::tempdir().unwrap(),
        );
        let partition = Partition::DIRECTORY;
        let path = file(folder.path(), &Place::from(partition));
        let sink = || Sink::open(folder.path(), &Place::from(partition)).unwrap();
        let log = Log::open(embedded(one.path())).await.unwrap();
        copy(&log, partition, sink()).await.unwrap();
        let written = fs::read(&path).unwrap();
        assert!(!written.is_empty());
        copy(&log, partition, sink()).await.unwrap();
        assert_eq!(fs::read(&path).unwrap(), written, "again");
        // One that was written further than the log goes.
        let mut longer = written.clone();
        longer.extend_from_slice(
            &String::from_utf8(written.clone())
                .unwrap()
                .replacen(":0", ":1", 1)
                .into_bytes(),
        );
        fs::write(&path, &longer).unwrap();
        let refused = copy(&log, partition, sink()).await.unwrap_err().to_string();
        assert!(refused.contains("ends before"), "{refused}");
        log.close().await;

        fs::write(&path, &written).unwrap();
        let log = Log::open(embedded(other.path())).await.unwrap();
        let refused = copy(&log, partition, sink()).await.unwrap_err().to_string();
        assert!(refused.contains("the export of another log"), "{refused}");
        assert_eq!(fs::read(&path).unwrap(), written);
        log.close().await;
    }

    #[test]
    fn the_last_whole_line_is_found_wherever_it_ends() {
        let long = "x".repeat(200_000);
        for (text, whole, last) in [
            ("", 0, None),
            ("torn", 0, None),
            ("a\n", 2, Some("a")),
            ("a\nb\n", 4, Some("b")),
            ("a\nbc\ntorn", 5, Some("bc")),
            (&format!("a\n{long}\n{long}"), 200_003, Some(&long[..])),
        ] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            let found = last_line(&mut file).unwrap();
            assert_eq!(found, (whole, last.map(|last| last.as_bytes().to_vec())));
        }
    }
}
