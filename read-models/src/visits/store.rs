//! What the projector does to one generation's tables: fences, inserts, counting, deleting.
//!
//! The steps and their order are those of the range protocol; the state machine that decides on them is
//! `projectors/src/runner/clickhouse.rs`. Nothing here decides anything.

use std::{collections::HashMap, time::Duration};

use clickhouse::{Client, Row};
use serde::Deserialize;

use super::rows::{EventColumns, SessionColumns};
use crate::clickhouse::{Error, Generation, Limits, Writer, is_fenced, within};

/// One generation of `visits`, to be written.
#[derive(Clone)]
pub struct Store {
    client: Client,
    name: String,
    limits: Limits,
}

/// Which attempt of which owner an insert is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Insert {
    /// Text that no other attempt has: generation, ranges, attempt. It is the deduplication token and the
    /// end of the query id.
    pub token: String,
    /// The partitions that the rows come from, each with the fence that must still be the highest.
    pub fences: Vec<(u32, u64)>,
}

/// Why an insert is not known to have taken place.
#[derive(Debug, thiserror::Error)]
pub enum InsertError {
    /// A newer owner has written its fence; nothing was inserted.
    #[error("another projector has taken over")]
    Fenced,
    /// It may be there, in part or not at all.
    #[error("the outcome of an insert is unknown")]
    Unknown(#[source] Error),
}

/// What stands in the tables of a range of a partition's offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Row, Deserialize)]
pub struct Found {
    /// Rows of `events`.
    pub rows: u64,
    /// Their marks, summed; see [`super::rows::mark`].
    pub fingerprint: u64,
    /// Sessions with a version in the range.
    pub sessions: u64,
}

impl Writer {
    /// The tables of one generation of `visits`, to be written.
    pub fn visits_store(&self, generation: Generation) -> Store {
        let client = self.visits(generation);
        let name = client.database().unwrap_or_default().to_owned();
        Store {
            client,
            name,
            limits: self.limits(),
        }
    }
}

impl Store {
    /// The highest fence of each partition that has one.
    ///
    /// # Errors
    /// When ClickHouse does not answer.
    pub async fn fences(&self) -> Result<HashMap<u32, u64>, Error> {
        let asking = self
            .client
            .query_raw("SELECT log_partition, max(fence) FROM fences GROUP BY log_partition")
            .fetch_all::<(u32, u64)>();
        let what = || "which fences there are".to_owned();
        let found = within(self.limits.write, what, asking).await?;
        Ok(found.into_iter().collect())
    }

    /// Makes these fences the highest of their partitions.
    ///
    /// # Errors
    /// When ClickHouse does not answer.
    pub async fn write_fences(&self, fences: &[(u32, u64)], owner: &str) -> Result<(), Error> {
        let (partitions, numbers): (Vec<_>, Vec<_>) = fences.iter().copied().unzip();
        let writing = self
            .client
            .query_raw(
                "INSERT INTO fences (log_partition, fence, owner) \
                 SELECT pair.1, pair.2, {owner:String} FROM \
                 (SELECT arrayJoin(arrayZip({partitions:Array(UInt32)}, {fences:Array(UInt64)})) AS pair)",
            )
            .param("partitions", partitions)
            .param("fences", numbers)
            .param("owner", owner)
            .execute();
        within(self.limits.write, || "the writing of fences".to_owned(), writing).await
    }

    /// Ends inserts and deletions that a predecessor left running, and waits until they have ended. One that
    /// began before the fence was written knows nothing of it; one that begins later is refused by it.
    ///
    /// # Errors
    /// When ClickHouse does not answer, or a deletion does not end within 30 seconds.
    pub async fn stop_predecessors(&self) -> Result<(), Error> {
        let statement = format!(
            "KILL QUERY WHERE startsWith(query_id, 'annals-write-{}-') SYNC FORMAT Null",
            self.name
        );
        let killing = self.client.query_raw(&statement).execute();
        within(
            self.limits.write,
            || "the ending of a predecessor's inserts".to_owned(),
            killing,
        )
        .await?;
        // Of a deletion only the waiting is a query; it goes on without it.
        let ended = async {
            loop {
                let running: u64 = self
                    .client
                    .query_raw("SELECT count() FROM system.mutations WHERE database = currentDatabase() AND NOT is_done")
                    .fetch_one()
                    .await?;
                if running == 0 {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let what = || "that a predecessor's deletions have ended".to_owned();
        within(Duration::from_secs(30), what, ended).await
    }

    /// What stands there of a partition, from an offset on and before another.
    ///
    /// # Errors
    /// When ClickHouse does not answer.
    pub async fn found(&self, partition: u32, from: u64, before: u64) -> Result<Found, Error> {
        let counting = self
            .client
            .query_raw(include_str!("found.sql"))
            .param("partition", partition)
            .param("from", from)
            .param("before", before)
            .fetch_one();
        let what = || format!("what stands there of partition {partition} from offset {from} on");
        within(self.limits.write, what, counting).await
    }

    /// Deletes the events of a partition from an offset on, and waits until they are gone; while the fence is
    /// the highest, else nothing. What is inserted later than this begins is never touched by it.
    ///
    /// Sessions stay: a row of theirs is a function of the log up to its version, so the events that made
    /// it will make it again, and until then it is only ahead of its time.
    ///
    /// # Errors
    /// When ClickHouse does not answer.
    pub async fn delete_from(&self, partition: u32, from: u64, fence: u64) -> Result<(), Error> {
        let statement = format!(
            "DELETE FROM events WHERE log_partition = {{partition:UInt32}} AND log_offset >= {{from:UInt64}} \
             AND NOT ({}) \
             SETTINGS lightweight_deletes_sync = 2, mutations_execute_subqueries_on_initiator = 1",
            fenced(&[(partition, fence)])
        );
        let deleting = self
            .client
            .query_raw(&statement)
            .with_setting(
                "query_id",
                format!("annals-write-{}-delete-{partition}-{from}-{fence}", self.name),
            )
            .param("partition", partition)
            .param("from", from)
            .execute();
        let what = || format!("a deletion of partition {partition} from offset {from} on");
        within(self.limits.write, what, deleting).await
    }

    /// Inserts rows of `sessions`; before the events of the same range, so that events which are there
    /// have their sessions.
    ///
    /// # Errors
    /// See [`InsertError`].
    pub async fn insert_sessions(&self, insert: &Insert, blocks: Vec<Vec<u8>>) -> Result<(), InsertError> {
        self.insert("sessions", SessionColumns::structure(), insert, blocks)
            .await
    }

    /// Inserts rows of `events` as one block: all of them or none.
    ///
    /// # Errors
    /// See [`InsertError`].
    pub async fn insert_events(&self, insert: &Insert, blocks: Vec<Vec<u8>>) -> Result<(), InsertError> {
        self.insert("events", EventColumns::structure(), insert, blocks)
            .await
    }

    async fn insert(
        &self,
        table: &str,
        (names, structure): (&str, &str),
        insert: &Insert,
        blocks: Vec<Vec<u8>>,
    ) -> Result<(), InsertError> {
        if blocks.is_empty() {
            return Ok(());
        }
        let names = names.trim_end_matches(", ");
        let structure = structure.trim_end_matches(", ").replace('\'', "\\'");
        let statement = format!(
            "INSERT INTO {table} ({names}) SELECT {names} FROM input('{structure}') \
             WHERE throwIf({}, 'fenced') = 0 FORMAT Native",
            fenced(&insert.fences),
        );
        let token = format!("{table}-{}", insert.token);
        let mut sending = self
            .client
            .insert_formatted_with(statement)
            .with_setting("async_insert", "0")
            .with_setting("insert_deduplicate", "1")
            .with_setting("insert_deduplication_token", &token)
            .with_setting("query_id", format!("annals-write-{}-{token}", self.name))
            // One block, so one part, so all or nothing: an insert never has a million rows.
            .with_setting("max_insert_threads", "1")
            .with_setting("min_insert_block_size_rows", "1000000")
            .with_setting("min_insert_block_size_bytes", "0")
            // The answer comes when the rows are in the table, and with the error's own status.
            .with_setting("wait_end_of_query", "1");
        let outcome = async {
            for block in blocks {
                sending.send(block.into()).await?;
            }
            sending.end().await
        };
        let what = || format!("an insert into {table} of {}", self.name);
        within(self.limits.write, what, outcome).await.map_err(|error| {
            if is_fenced(&error) {
                InsertError::Fenced
            } else {
                InsertError::Unknown(error)
            }
        })
    }
}

/// An expression that is true when one of these fences is no longer the highest of its partition.
fn fenced(fences: &[(u32, u64)]) -> String {
    let mut fences = fences.to_vec();
    fences.sort_unstable();
    let list = |item: fn(&(u32, u64)) -> String| fences.iter().map(item).collect::<Vec<_>>().join(", ");
    format!(
        "(SELECT arraySort(groupArray((log_partition, highest))) FROM \
         (SELECT log_partition, max(fence) AS highest FROM fences WHERE log_partition IN ({}) \
         GROUP BY log_partition)) != [{}]",
        list(|(partition, _)| partition.to_string()),
        list(|(partition, fence)| format!("(toUInt32({partition}), toUInt64({fence}))")),
    )
}
