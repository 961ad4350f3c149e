//! Given these events, the tables read so: the form of a projection's test. Each is also projected in any cut, and every
//! piece of it twice, and must read the same.
#![expect(unreachable_pub, reason = "a part of each test that is a crate of its own")]

use projectors::runner::{Sink as _, SinkError, postgres::Fold};
use read_models::{
    Topic,
    standing::{Row, Slice, tables},
};
use serde_json::Value;

use super::kit::{Made, TestLog, TestTables, ranges};

/// Tables after a history.
pub struct Given<F: Fold> {
    tables: TestTables<F>,
}

/// Projects a history, once as a whole and then in every cut, each piece twice.
pub async fn given<F: Fold>(history: Vec<Made>) -> Given<F> {
    let mut log = TestLog::make().await;
    let events: usize = history.iter().map(|(_, events)| events.len()).sum();
    match F::PROJECTION.topic() {
        Topic::Directory => log.directory.commits(history).await,
        Topic::Ledger => log.ledger.commits(history).await,
        Topic::Visits => panic!("visits are appended otherwise: see world.rs"),
    };
    let tables = TestTables::<F>::make().await;
    tables.catch_up(&log.log, usize::MAX).await;
    let whole = tables.holds().await;
    for cut in 1..=events {
        tables.again().await;
        loop {
            let (mut sink, checkpoint) = tables.taken_over().await;
            let Some(batch) = ranges(&log.log, &checkpoint, cut).await.into_iter().next() else {
                break;
            };
            sink.write(vec![batch.clone()]).await.unwrap();
            let twice = sink.write(vec![batch]).await;
            assert!(
                matches!(twice, Err(SinkError::Fenced)),
                "a piece counts twice: {twice:?}"
            );
        }
        assert_eq!(whole, tables.holds().await, "cut into pieces of {cut} events");
    }
    Given { tables }
}

impl<F: Fold> Given<F> {
    /// A table has these rows, in the order of its key; of each only the columns that are named are looked at.
    pub async fn reads(self, table: &str, expected: &[Value]) -> Self {
        let known = tables(F::PROJECTION).iter().find(|it| it.name == table);
        let known = known.unwrap_or_else(|| panic!("there is no table {table}"));
        let mut standing = self.tables.writer.standing(F::PROJECTION, None).await.unwrap();
        let rows = standing.rows(known, Slice::WHOLE).await.unwrap();
        let mut rows: Vec<Row> = rows.all().await.unwrap();
        standing.end().await.unwrap();
        rows.sort_by_key(|row| known.name_of(row));
        assert_eq!(rows.len(), expected.len(), "{table}: {rows:#?}");
        for (row, expected) in rows.iter().zip(expected) {
            for (column, value) in expected.as_object().unwrap() {
                assert_eq!(row.get(column), Some(value), "{table}.{column}: {row:#?}");
            }
        }
        self
    }

    /// Drops the tables.
    pub async fn end(self) {
        self.tables.scratch.erase().await.unwrap();
    }
}
