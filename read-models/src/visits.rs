//! Visits: the tables of the projection `visits`, who writes them, and the questions asked of them.
//!
//! Reading order: [`rows`], [`store`] and [`ranges`] (what the projector writes), then the query side: [`query`] (the
//! words of a query and how a body becomes one), [`range`] (days of a time zone), [`sql`] (a query as SQL),
//! [`stats`] (asked and answered), [`realtime`], [`report`].

pub mod query;
pub mod range;
pub mod ranges;
pub mod realtime;
pub mod report;
pub mod rows;
pub mod sql;
pub mod stats;
pub mod store;

pub use query::{Invalid, StatsQuery};
pub use realtime::Realtime;
pub use report::{ContentReport, ContentRow};
pub use stats::StatsResult;

/// The site that a question is about, as the directory knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Whose it is: every question is asked within one tenant.
    pub tenant: uuid::Uuid,
    /// Which.
    pub id: uuid::Uuid,
    /// As callers name it.
    pub domain: String,
    /// Days of its statistics are days there.
    pub timezone: chrono_tz::Tz,
}
