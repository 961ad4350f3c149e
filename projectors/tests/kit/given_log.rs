//! Given this log, the tables in ClickHouse read so. It is folded once as a whole, and by processes that begin anew
//! after each record; visits are sent to that one twice each. Both must read the same.
#![expect(unreachable_pub, reason = "a part of each test that is a crate of its own")]

use event_log::Partition;
use events::Recorded;
use read_models::{Projection, standing::Row};
use serde_json::Value;

use super::{
    kit::{Made, tenant},
    rows::rows,
    world::World,
};

/// Tables after the same log in two ways.
pub struct GivenLog {
    whole: World,
    in_pieces: World,
    projection: Projection,
}

/// Records of visits, of one tenant.
pub async fn given_visits(records: Vec<Vec<Recorded>>) -> GivenLog {
    let given = GivenLog::new(Projection::Visits).await;
    for record in &records {
        let record = event_log::visits::encode(tenant(0), record);
        append(&given.whole, &record).await;
        for _ in 0..2 {
            append(&given.in_pieces, &record).await;
            given.in_pieces.fold().await;
        }
    }
    given.whole.fold().await;
    given
}

async fn append(world: &World, record: &event_log::Record) {
    let appending = world.log.log.append(Partition::visits(0), record.clone());
    appending.await.unwrap();
}

/// What statistics know of content, after these commits.
pub async fn given_facts(history: Vec<Made>) -> GivenLog {
    let mut given = GivenLog::new(Projection::ContentFacts).await;
    for made in history {
        given.whole.log.ledger.commits(vec![made.clone()]).await;
        given.in_pieces.log.ledger.commits(vec![made]).await;
        given.in_pieces.fold().await;
    }
    given.whole.fold().await;
    given
}

impl GivenLog {
    async fn new(projection: Projection) -> Self {
        Self {
            whole: World::make().await,
            in_pieces: World::make().await,
            projection,
        }
    }

    /// A table has these rows, in the order of its key; of each only the columns that are named are looked at.
    pub async fn reads(self, table: &str, expected: &[Value]) -> Self {
        for (how, world) in [("as a whole", &self.whole), ("in pieces", &self.in_pieces)] {
            let mut tables = rows(world, self.projection).await;
            let rows = tables.remove(table);
            let rows = rows.unwrap_or_else(|| panic!("there is no table {table}"));
            let rows: Vec<Row> = rows.into_values().collect();
            assert_eq!(rows.len(), expected.len(), "{table}, {how}: {rows:#?}");
            for (row, expected) in rows.iter().zip(expected) {
                for (column, value) in expected.as_object().unwrap() {
                    assert_eq!(row.get(column), Some(value), "{table}.{column}, {how}: {row:#?}");
                }
            }
        }
        self
    }

    /// Drops the tables.
    pub async fn end(self) {
        self.whole.erase().await;
        self.in_pieces.erase().await;
    }
}
