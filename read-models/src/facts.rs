//! What statistics know about content: the table of the projection `content_facts`.
//!
//! Rows are complete states, versioned by the offset that made them: writing one again changes nothing.

use std::collections::BTreeSet;

use clickhouse::{Client, Row};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clickhouse::{Error, Generation, Limits, Writer, native::native_columns, within};

/// The state of one piece of content. Its row's version is the offset of the last commit that changed it.
#[derive(Debug, Clone, PartialEq, Eq, Row, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the columns are documented in the migration")]
pub struct Fact {
    #[serde(with = "clickhouse::serde::uuid")]
    pub tenant: Uuid,
    #[serde(with = "clickhouse::serde::uuid")]
    pub site: Uuid,
    #[serde(with = "clickhouse::serde::uuid")]
    pub content: Uuid,
    pub kind: String,
    pub slug: String,
    pub title: String,
    pub status: String,
    pub path: String,
    pub aliases: Vec<String>,
    pub paths: Vec<String>,
    pub former: Vec<String>,
    /// Microseconds since 1970, UTC.
    pub published_at: Option<i64>,
    pub log_partition: u32,
    pub log_offset: u64,
}

native_columns! {
    /// Rows of `facts`, column by column.
    FactColumns {
        tenant: column "UUID",
        site: column "UUID",
        content: column "UUID",
        kind: column "String",
        slug: column "String",
        title: column "String",
        status: column "String",
        path: column "String",
        aliases: lists "Array(String)",
        paths: lists "Array(String)",
        former: lists "Array(String)",
        published_at: column "Nullable(DateTime64(6, 'UTC'))",
        log_partition: column "UInt32",
        log_offset: column "UInt64",
    }
}

impl FactColumns {
    /// Appends a row.
    pub fn push(&mut self, fact: &Fact) {
        self.rows += 1;
        self.tenant.uuid(fact.tenant);
        self.site.uuid(fact.site);
        self.content.uuid(fact.content);
        self.kind.text(&fact.kind);
        self.slug.text(&fact.slug);
        self.title.text(&fact.title);
        self.status.text(&fact.status);
        self.path.text(&fact.path);
        self.aliases.array(fact.aliases.iter().map(String::as_str));
        self.paths.array(fact.paths.iter().map(String::as_str));
        self.former.array(fact.former.iter().map(String::as_str));
        self.published_at.optional_micros(fact.published_at);
        self.log_partition.u32(fact.log_partition);
        self.log_offset.u64(fact.log_offset);
    }
}

/// Pieces that are asked for at a time: a parameter of a question has at most 128 KiB, an id in a list 39 bytes.
const ASKED_FOR: usize = 2_000;

/// One generation of `content_facts`, to be written.
#[derive(Clone)]
pub struct FactStore {
    client: Client,
    limits: Limits,
}

impl Writer {
    /// The table of one generation of `content_facts`, to be written.
    pub fn fact_store(&self, generation: Generation) -> FactStore {
        FactStore {
            client: self.facts(generation),
            limits: self.limits(),
        }
    }
}

impl FactStore {
    /// The present state of these pieces, each with its tenant; those that there is nothing of are left out.
    ///
    /// # Errors
    /// When ClickHouse does not answer.
    pub async fn present(&self, pieces: &BTreeSet<(Uuid, Uuid)>) -> Result<Vec<Fact>, Error> {
        let (mut present, pieces) = (Vec::new(), pieces.iter().collect::<Vec<_>>());
        for pieces in pieces.chunks(ASKED_FOR) {
            let tenants: BTreeSet<String> = pieces.iter().map(|(tenant, _)| tenant.to_string()).collect();
            let tenants: Vec<String> = tenants.into_iter().collect();
            let pieces: Vec<String> = pieces.iter().map(|(_, piece)| piece.to_string()).collect();
            let asking = self
                .client
                .query_raw(include_str!("facts/present.sql"))
                .param("tenants", tenants)
                .param("pieces", pieces)
                .fetch_all();
            present.extend(within(self.limits.query, || "the present facts".to_owned(), asking).await?);
        }
        Ok(present)
    }

    /// Writes rows, and waits until they are in the table.
    ///
    /// # Errors
    /// When ClickHouse does not answer.
    pub async fn write(&self, facts: &FactColumns) -> Result<(), Error> {
        if facts.rows() == 0 {
            return Ok(());
        }
        let names = FactColumns::NAMES.trim_end_matches(", ");
        let structure = FactColumns::STRUCTURE.trim_end_matches(", ").replace('\'', "\\'");
        let statement =
            format!("INSERT INTO facts ({names}) SELECT {names} FROM input('{structure}') FORMAT Native");
        let mut sending = self
            .client
            .insert_formatted_with(statement)
            .with_setting("async_insert", "0")
            .with_setting("wait_end_of_query", "1");
        let writing = async {
            sending.send(facts.block().into()).await?;
            sending.end().await
        };
        within(self.limits.write, || "an insert of facts".to_owned(), writing).await
    }
}
