//! What the tables hold.
#![expect(unreachable_pub, reason = "a part of each test that is a crate of its own")]

use std::collections::BTreeMap;

use read_models::{
    Projection,
    standing::{Row, Slice, tables},
};

use super::world::World;

/// Every row of every table of a projection, by table and key.
pub async fn rows(world: &World, projection: Projection) -> BTreeMap<&'static str, BTreeMap<String, Row>> {
    let (control, clickhouse) = (world.writer().await, world.rows.writer());
    let mut found = BTreeMap::new();
    let mut standing = control.standing(projection, None).await.unwrap();
    for table in tables(projection) {
        let mut of_table = BTreeMap::new();
        let rows = match projection {
            Projection::Directory | Projection::Content | Projection::Downloads => {
                standing.rows(table, Slice::WHOLE).await.unwrap()
            }
            Projection::Visits | Projection::ContentFacts => {
                let generation = standing.generation;
                let asked = clickhouse.rows(projection, generation, table, Slice::WHOLE, "1");
                asked.await.unwrap()
            }
        };
        for row in rows.all().await.unwrap() {
            let twice = of_table.insert(table.name_of(&row), row);
            assert_eq!(twice, None, "a row is there twice");
        }
        found.insert(table.name, of_table);
    }
    standing.end().await.unwrap();
    found
}
