//! A question about visits: its words, and how a request's body becomes one.
//!
//! The form is that of Plausible's Stats API v2 (<https://plausible.io/docs/stats-api>). Whatever is not
//! known here is refused with a pointer to it and a list of what exists; nothing is passed over.

mod parse;

use chrono::{DateTime, NaiveDate, Utc};
use serde_json::Value;

/// What is wrong with a body, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// JSON pointer (RFC 6901) into the body.
    pub pointer: String,
    /// For people; names what exists.
    pub detail: String,
}

/// A question that can be asked.
#[derive(Debug, Clone, PartialEq)]
pub struct StatsQuery {
    /// The site's domain.
    pub site_id: String,
    /// At least one.
    pub metrics: Vec<Metric>,
    /// Of when.
    pub date_range: DateRange,
    /// What to group by.
    pub dimensions: Vec<Dimension>,
    /// All of them hold.
    pub filters: Vec<Filter>,
    /// Given, or by time ascending and the first metric descending.
    pub order_by: Vec<(Key, Direction)>,
    /// What else to answer.
    pub include: Include,
    /// Which rows to answer.
    pub pagination: Pagination,
    /// The filters as they came, for the answer.
    pub(crate) filters_as_given: Value,
}

/// What to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the API")]
pub enum Metric {
    Visitors,
    Visits,
    Pageviews,
    Events,
    ViewsPerVisit,
    BounceRate,
    VisitDuration,
}

impl Metric {
    /// Every metric that there is.
    pub const ALL: [Self; 7] = [
        Self::Visitors,
        Self::Visits,
        Self::Pageviews,
        Self::Events,
        Self::ViewsPerVisit,
        Self::BounceRate,
        Self::VisitDuration,
    ];

    /// As the API writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Visitors => "visitors",
            Self::Visits => "visits",
            Self::Pageviews => "pageviews",
            Self::Events => "events",
            Self::ViewsPerVisit => "views_per_visit",
            Self::BounceRate => "bounce_rate",
            Self::VisitDuration => "visit_duration",
        }
    }
}

/// What to group by, or to filter on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dimension {
    /// When.
    Time(Bucket),
    /// Of an event itself.
    Event(&'static Field),
    /// Of the visit that an event belongs to.
    Visit(&'static Field),
    /// What a site's own tracker adds under this name.
    Prop(String),
}

/// How long a bucket of time is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Bucket {
    /// Hours of one day, days of up to 92, months beyond.
    Automatic,
    Hour,
    Day,
    Week,
    Month,
}

/// A column that can be asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Field {
    /// As the API writes it.
    pub name: &'static str,
    /// As the table has it.
    pub(crate) column: &'static str,
    /// What to answer where the column is empty.
    pub(crate) absent: &'static str,
}

/// What an event's own dimensions are.
pub const EVENT_FIELDS: [Field; 3] = [
    Field {
        name: "event:page",
        column: "pathname",
        absent: "",
    },
    Field {
        name: "event:name",
        column: "name",
        absent: "",
    },
    Field {
        name: "event:hostname",
        column: "hostname",
        absent: "",
    },
];

const DIRECT: &str = "Direct / None";
const NOT_SET: &str = "(not set)";

/// What a visit's dimensions are.
pub const VISIT_FIELDS: [Field; 12] = [
    Field {
        name: "visit:source",
        column: "source",
        absent: DIRECT,
    },
    Field {
        name: "visit:referrer",
        column: "referrer",
        absent: DIRECT,
    },
    Field {
        name: "visit:device",
        column: "device",
        absent: NOT_SET,
    },
    Field {
        name: "visit:browser",
        column: "browser",
        absent: NOT_SET,
    },
    Field {
        name: "visit:os",
        column: "os",
        absent: NOT_SET,
    },
    Field {
        name: "visit:entry_page",
        column: "entry_page",
        absent: "",
    },
    Field {
        name: "visit:exit_page",
        column: "exit_page",
        absent: "",
    },
    Field {
        name: "visit:utm_source",
        column: "utm_source",
        absent: NOT_SET,
    },
    Field {
        name: "visit:utm_medium",
        column: "utm_medium",
        absent: NOT_SET,
    },
    Field {
        name: "visit:utm_campaign",
        column: "utm_campaign",
        absent: NOT_SET,
    },
    Field {
        name: "visit:utm_content",
        column: "utm_content",
        absent: NOT_SET,
    },
    Field {
        name: "visit:utm_term",
        column: "utm_term",
        absent: NOT_SET,
    },
];

/// Dimensions of time, as the API writes them.
pub const TIME_DIMENSIONS: [(&str, Bucket); 5] = [
    ("time", Bucket::Automatic),
    ("time:hour", Bucket::Hour),
    ("time:day", Bucket::Day),
    ("time:week", Bucket::Week),
    ("time:month", Bucket::Month),
];

/// What a site's own properties begin with.
pub const PROP_PREFIX: &str = "event:props:";

impl Dimension {
    /// As the API writes it.
    pub fn name(&self) -> String {
        match self {
            Self::Time(bucket) => TIME_DIMENSIONS
                .iter()
                .find(|(_, known)| known == bucket)
                .map_or_else(String::new, |(name, _)| (*name).to_owned()),
            Self::Event(field) | Self::Visit(field) => field.name.to_owned(),
            Self::Prop(name) => format!("{PROP_PREFIX}{name}"),
        }
    }

    /// Every dimension that there is, for people.
    pub fn names() -> Vec<String> {
        let time = TIME_DIMENSIONS.iter().map(|(name, _)| (*name).to_owned());
        let fields = EVENT_FIELDS
            .iter()
            .chain(&VISIT_FIELDS)
            .map(|field| field.name.to_owned());
        time.chain(fields)
            .chain([format!("{PROP_PREFIX}<name>")])
            .collect()
    }

    pub(crate) fn is_of_visit(&self) -> bool {
        matches!(self, Self::Visit(_))
    }

    pub(crate) fn is_of_event(&self) -> bool {
        matches!(self, Self::Event(_) | Self::Prop(_))
    }
}

/// What must hold.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// A dimension compared with values, any of which will do.
    Match(Match),
    /// All of them hold.
    And(Vec<Filter>),
    /// One of them holds.
    Or(Vec<Filter>),
    /// It does not hold.
    Not(Box<Filter>),
}

/// A dimension compared with values.
#[derive(Debug, Clone, PartialEq)]
pub struct Match {
    /// How.
    pub operator: Operator,
    /// What.
    pub dimension: Dimension,
    /// With which.
    pub values: Vec<String>,
    /// Whether `A` is another letter than `a`.
    pub case_sensitive: bool,
}

impl Filter {
    /// Whether it asks anything of this kind of dimension.
    pub(crate) fn any(&self, of: fn(&Dimension) -> bool) -> bool {
        match self {
            Self::Match(leaf) => of(&leaf.dimension),
            Self::And(parts) | Self::Or(parts) => parts.iter().any(|part| part.any(of)),
            Self::Not(part) => part.any(of),
        }
    }
}

/// How a dimension is compared with values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the API")]
pub enum Operator {
    Is,
    IsNot,
    Contains,
    ContainsNot,
}

/// Of when, as asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DateRange {
    /// Today.
    Day,
    /// This many days, today the last of them.
    Days(u32),
    /// The present month.
    Month,
    /// This many months, the present one the last of them.
    Months(u32),
    /// The present year.
    Year,
    /// From the first visit to today.
    All,
    /// From the first of these days to the second, both included.
    Dates(NaiveDate, NaiveDate),
    /// From the first of these instants to the second, both seconds included.
    Instants(DateTime<Utc>, DateTime<Utc>),
}

/// What rows are ordered by: one of the query's own metrics or dimensions, by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Key {
    Metric(usize),
    Dimension(usize),
}

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Direction {
    Asc,
    Desc,
}

impl Direction {
    /// As the API writes it; SQL knows the same words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Asc => "asc",
            Self::Desc => "desc",
        }
    }
}

/// What else to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Include {
    /// Imported visits are events like others here, so they always count; the answer says so.
    pub imports: bool,
    /// Every bucket of the range, also those without a visit.
    pub time_labels: bool,
    /// How many rows there are beyond this page.
    pub total_rows: bool,
}

/// Which rows to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pagination {
    /// At most this many, 1 to 10,000.
    pub limit: u32,
    /// After this many.
    pub offset: u32,
}

impl Default for Pagination {
    fn default() -> Self {
        Self {
            limit: 10_000,
            offset: 0,
        }
    }
}

impl StatsQuery {
    /// A body as it came becomes a question.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with a pointer.
    pub fn parse(body: &Value) -> Result<Self, Vec<Invalid>> {
        parse::query(body)
    }

    pub(crate) fn time_bucket(&self) -> Option<Bucket> {
        self.dimensions.iter().find_map(|dimension| match dimension {
            Dimension::Time(bucket) => Some(*bucket),
            Dimension::Event(_) | Dimension::Visit(_) | Dimension::Prop(_) => None,
        })
    }
}
