//! The tables: every row that a query reads, its migration, its writer and its reader.

#![forbid(unsafe_code)]

pub mod clickhouse;
pub mod facts;
pub mod visits;
