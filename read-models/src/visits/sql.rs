//! A question as SQL. Whatever a caller wrote is bound as a parameter; only words of ours are spliced.
//!
//! Two halves are counted apart and then added up by dimensions:
//! - of events: visitors, page views, events. A visitor counts once for each local day, so that over
//!   several days the figure is the sum of the daily ones, whatever a salt outlived.
//! - of visits: visits, bounces, views, seconds. Without a dimension of events a visit belongs to the time
//!   of its start; with one, to every group in which it has an event, at that event's time.

use uuid::Uuid;

use super::Site;
use super::query::{Bucket, Dimension, Direction, Filter, Key, Match, Metric, Operator, StatsQuery};
use super::range::Resolved;

/// SQL with what is bound to it.
#[derive(Debug, Clone, Default)]
pub struct Statement {
    /// With `{name:Type}` for each parameter.
    pub sql: String,
    params: Vec<(String, Param)>,
}

#[derive(Debug, Clone)]
enum Param {
    Text(String),
    Texts(Vec<String>),
    Uuid(Uuid),
    Number(i64),
}

impl Statement {
    /// The statement with its parameters, ready to be asked.
    pub fn query(&self, client: &clickhouse::Client) -> clickhouse::query::Query {
        self.params
            .iter()
            .fold(client.query_raw(&self.sql), |query, (name, param)| match param {
                Param::Text(text) => query.param(name, text),
                Param::Texts(texts) => query.param(name, texts),
                Param::Uuid(uuid) => query.param(name, uuid.to_string()),
                Param::Number(number) => query.param(name, number),
            })
    }

    fn bind(&mut self, prefix: char, kind: &str, param: Param) -> String {
        let name = format!("{prefix}{}", self.params.len());
        let place = format!("{{{name}:{kind}}}");
        self.params.push((name, param));
        place
    }

    fn named(&mut self, name: &str, param: Param) {
        self.params.push((name.to_owned(), param));
    }
}

const EVENT_SCOPE: &str = "e.tenant = {tenant:UUID} AND e.site = {site:UUID} \
     AND e.time >= fromUnixTimestamp64Micro({from:Int64}, 'UTC') \
     AND e.time < fromUnixTimestamp64Micro({to:Int64}, 'UTC') AND e.name != 'engagement'";

/// A session's `opened` is never before its `start`, so the index may skip what was opened before.
const STARTED_SCOPE: &str = "s.tenant = {tenant:UUID} AND s.site = {site:UUID} \
     AND s.opened >= fromUnixTimestamp64Micro({from:Int64}, 'UTC') \
     AND s.start >= fromUnixTimestamp64Micro({from:Int64}, 'UTC') \
     AND s.start < fromUnixTimestamp64Micro({to:Int64}, 'UTC')";

/// Sessions that may hold an event of the range.
const JOINED_SESSIONS: &str = "(SELECT session, start, source, referrer, device, browser, os, entry_page, exit_page, \
     utm_source, utm_medium, utm_campaign, utm_content, utm_term, is_bounce, pageviews, duration \
     FROM sessions FINAL WHERE tenant = {tenant:UUID} AND site = {site:UUID} \
     AND last >= fromUnixTimestamp64Micro({from:Int64}, 'UTC') \
     AND start < fromUnixTimestamp64Micro({to:Int64}, 'UTC')) AS s ON e.session = s.session";

/// The rows that a query asks for.
pub fn rows(site: &Site, query: &StatsQuery, range: &Resolved) -> Statement {
    let mut statement = groups(site, query, range);
    let order: Vec<String> = query
        .order_by
        .iter()
        .map(|(key, direction)| ordered(*key, *direction))
        .collect();
    // Equal rows have an order too, or pages would overlap.
    let ties = (0..query.dimensions.len()).map(|place| format!("d{place} ASC"));
    let order: Vec<String> = order.into_iter().chain(ties).collect();
    let limit = statement.bind('p', "UInt32", Param::Number(query.pagination.limit.into()));
    let offset = statement.bind('p', "UInt32", Param::Number(query.pagination.offset.into()));
    statement.sql += &format!("\nORDER BY {}\nLIMIT {limit} OFFSET {offset}", order.join(", "));
    statement
}

/// How many rows there are, whatever the page.
pub fn total(site: &Site, query: &StatsQuery, range: &Resolved) -> Statement {
    let mut statement = groups(site, query, range);
    statement.sql = format!("SELECT count() FROM (\n{}\n)", statement.sql);
    statement
}

/// When the first visit of a site was.
pub fn first_visit(site: &Site) -> Statement {
    let mut statement = Statement {
        sql: "SELECT toUnixTimestamp64Micro(time) FROM events \
              WHERE tenant = {tenant:UUID} AND site = {site:UUID} ORDER BY time LIMIT 1"
            .to_owned(),
        params: Vec::new(),
    };
    statement.named("tenant", Param::Uuid(site.tenant));
    statement.named("site", Param::Uuid(site.id));
    statement
}

/// A statement of a file, bound to a site and a range.
pub(super) fn scoped(sql: &str, site: &Site, range: &Resolved) -> Statement {
    let mut statement = Statement {
        sql: sql.to_owned(),
        params: Vec::new(),
    };
    statement.named("tenant", Param::Uuid(site.tenant));
    statement.named("site", Param::Uuid(site.id));
    statement.named("from", Param::Number(range.from.timestamp_micros()));
    statement.named("to", Param::Number(range.to.timestamp_micros()));
    statement.named("timezone", Param::Text(site.timezone.name().to_owned()));
    statement
}

impl Statement {
    /// One more number, for statements of files.
    pub(super) fn with_number(mut self, name: &str, number: i64) -> Self {
        self.named(name, Param::Number(number));
        self
    }
}

fn ordered(key: Key, direction: Direction) -> String {
    match key {
        Key::Metric(place) => format!("m{place} {}", direction.name()),
        Key::Dimension(place) => format!("d{place} {}", direction.name()),
    }
}

/// Every group with its metrics, in no order.
fn groups(site: &Site, query: &StatsQuery, range: &Resolved) -> Statement {
    let mut statement = scoped("", site, range);
    let of_events = query.metrics.iter().any(|metric| counts_events(*metric));
    let of_visits = query.metrics.iter().any(|metric| !counts_events(*metric));
    let mut halves = Vec::new();
    if of_events {
        halves.push(events_half(&mut statement, query, range));
    }
    if of_visits {
        halves.push(visits_half(&mut statement, query, range));
    }
    let dimensions: Vec<String> = (0..query.dimensions.len())
        .map(|place| format!("d{place}"))
        .collect();
    let metrics = query
        .metrics
        .iter()
        .enumerate()
        .map(|(place, metric)| format!("{} AS m{place}", figure(*metric)));
    let columns: Vec<String> = dimensions.iter().cloned().chain(metrics).collect();
    statement.sql = format!(
        "SELECT {}\nFROM (\n{}\n)",
        columns.join(", "),
        halves.join("\nUNION ALL\n")
    );
    if !dimensions.is_empty() {
        statement.sql += &format!("\nGROUP BY {}", dimensions.join(", "));
    }
    statement
}

const fn counts_events(metric: Metric) -> bool {
    match metric {
        Metric::Visitors | Metric::Pageviews | Metric::Events => true,
        Metric::Visits | Metric::ViewsPerVisit | Metric::BounceRate | Metric::VisitDuration => false,
    }
}

/// A metric from what both halves counted.
const fn figure(metric: Metric) -> &'static str {
    match metric {
        Metric::Visitors => "sum(n_visitors)",
        Metric::Pageviews => "sum(n_pageviews)",
        Metric::Events => "sum(n_events)",
        Metric::Visits => "sum(n_visits)",
        Metric::ViewsPerVisit => "round(if(sum(n_visits) = 0, 0, sum(n_views) / sum(n_visits)), 2)",
        Metric::BounceRate => "round(if(sum(n_visits) = 0, 0, 100 * sum(n_bounces) / sum(n_visits)), 2)",
        Metric::VisitDuration => "toUInt64(round(if(sum(n_visits) = 0, 0, sum(n_seconds) / sum(n_visits))))",
    }
}

fn events_half(statement: &mut Statement, query: &StatsQuery, range: &Resolved) -> String {
    let dimensions = dimensions(statement, query, range, "e.time");
    let from = events_from(query);
    let filters = filters(statement, &query.filters);
    format!(
        "SELECT {}uniqExact(toDate(e.time, {{timezone:String}}), e.visitor) AS n_visitors, \
         countIf(e.name = 'pageview') AS n_pageviews, count() AS n_events, \
         toUInt64(0) AS n_visits, toUInt64(0) AS n_bounces, toUInt64(0) AS n_views, toUInt64(0) AS n_seconds\n\
         FROM {from}\nWHERE {EVENT_SCOPE}{filters}{}",
        selected(&dimensions),
        grouped(&dimensions),
    )
}

const VISIT_FIGURES: &str = "toUInt64(0) AS n_visitors, toUInt64(0) AS n_pageviews, toUInt64(0) AS n_events, \
     count() AS n_visits, countIf(s.is_bounce) AS n_bounces, sum(s.pageviews) AS n_views, \
     sum(s.duration) AS n_seconds";

fn visits_half(statement: &mut Statement, query: &StatsQuery, range: &Resolved) -> String {
    let filtered_by_events = query
        .filters
        .iter()
        .any(|filter| filter.any(Dimension::is_of_event));
    if query.dimensions.iter().any(Dimension::is_of_event) {
        let dimensions = dimensions(statement, query, range, "e.time");
        let from = events_from(query);
        let filters = filters(statement, &query.filters);
        let places: Vec<String> = (0..dimensions.len()).map(|place| format!("d{place}")).collect();
        return format!(
            "SELECT {places}, {VISIT_FIGURES}\nFROM (SELECT DISTINCT {}e.session AS session FROM {from}\n\
             WHERE {EVENT_SCOPE} AND e.session != 0{filters}) AS e\n\
             INNER JOIN {JOINED_SESSIONS}\nGROUP BY {places}",
            selected(&dimensions),
            places = places.join(", "),
        );
    }
    let dimensions = dimensions(statement, query, range, "s.start");
    let filters = filters(statement, &query.filters);
    let filters = if filtered_by_events {
        let from = events_from(query);
        format!(" AND s.session IN (SELECT e.session FROM {from} WHERE {EVENT_SCOPE}{filters})")
    } else {
        filters
    };
    format!(
        "SELECT {}{VISIT_FIGURES}\nFROM sessions AS s FINAL\nWHERE {STARTED_SCOPE}{filters}{}",
        selected(&dimensions),
        grouped(&dimensions),
    )
}

/// Events, with their sessions where something of the visit is asked.
fn events_from(query: &StatsQuery) -> String {
    let of_visit = query.dimensions.iter().any(Dimension::is_of_visit)
        || query
            .filters
            .iter()
            .any(|filter| filter.any(Dimension::is_of_visit));
    if of_visit {
        format!("events AS e INNER JOIN {JOINED_SESSIONS}")
    } else {
        "events AS e".to_owned()
    }
}

fn dimensions(statement: &mut Statement, query: &StatsQuery, range: &Resolved, time: &str) -> Vec<String> {
    query
        .dimensions
        .iter()
        .map(|dimension| expression(statement, dimension, range, time))
        .collect()
}

fn selected(dimensions: &[String]) -> String {
    dimensions
        .iter()
        .enumerate()
        .map(|(place, expression)| format!("{expression} AS d{place}, "))
        .collect()
}

fn grouped(dimensions: &[String]) -> String {
    let places: Vec<String> = (0..dimensions.len()).map(|place| format!("d{place}")).collect();
    if places.is_empty() {
        String::new()
    } else {
        format!("\nGROUP BY {}", places.join(", "))
    }
}

fn expression(statement: &mut Statement, dimension: &Dimension, range: &Resolved, time: &str) -> String {
    match dimension {
        Dimension::Time(bucket) => match range.bucket(*bucket) {
            Bucket::Automatic | Bucket::Hour => {
                format!("formatDateTime({time}, '%Y-%m-%d %H:00:00', {{timezone:String}})")
            }
            Bucket::Day => format!("toString(toDate({time}, {{timezone:String}}))"),
            Bucket::Week => format!("toString(toStartOfWeek({time}, 1, {{timezone:String}}))"),
            Bucket::Month => format!("toString(toStartOfMonth({time}, {{timezone:String}}))"),
        },
        Dimension::Event(field) => value_of(&format!("e.{}", field.column), field.absent),
        Dimension::Visit(field) => value_of(&format!("s.{}", field.column), field.absent),
        Dimension::Prop(name) => {
            let name = statement.bind('n', "String", Param::Text(name.clone()));
            value_of(&format!("e.props[{name}]"), NO_PROP)
        }
    }
}

/// What is answered for a property that an event does not have.
const NO_PROP: &str = "(none)";

fn value_of(column: &str, absent: &str) -> String {
    if absent.is_empty() {
        format!("toString({column})")
    } else {
        format!("if({column} = '', '{absent}', toString({column}))")
    }
}

fn filters(statement: &mut Statement, filters: &[Filter]) -> String {
    filters
        .iter()
        .map(|filter| format!(" AND {}", condition(statement, filter)))
        .collect()
}

fn condition(statement: &mut Statement, filter: &Filter) -> String {
    let all = |statement: &mut Statement, parts: &[Filter], word: &str| {
        let parts: Vec<String> = parts.iter().map(|part| condition(statement, part)).collect();
        format!("({})", parts.join(word))
    };
    match filter {
        Filter::Match(leaf) => comparison(statement, leaf),
        Filter::And(parts) => all(statement, parts, " AND "),
        Filter::Or(parts) => all(statement, parts, " OR "),
        Filter::Not(part) => format!("NOT {}", condition(statement, part)),
    }
}

fn comparison(statement: &mut Statement, leaf: &Match) -> String {
    let (column, absent) = match &leaf.dimension {
        Dimension::Event(field) => (format!("e.{}", field.column), field.absent),
        Dimension::Visit(field) => (format!("s.{}", field.column), field.absent),
        Dimension::Prop(name) => {
            let name = statement.bind('n', "String", Param::Text(name.clone()));
            (format!("e.props[{name}]"), NO_PROP)
        }
        // Refused when the body is read.
        Dimension::Time(_) => return "1".to_owned(),
    };
    let exact = matches!(leaf.operator, Operator::Is | Operator::IsNot);
    // "(not set)" and the like are what an empty column is called; an exact "" means it as well.
    let named = |value: &String| {
        if exact && value.is_empty() {
            absent.to_owned()
        } else {
            value.clone()
        }
    };
    let mut value = value_of(&column, absent);
    let mut values: Vec<String> = leaf.values.iter().map(named).collect();
    if !leaf.case_sensitive {
        value = format!("lowerUTF8({value})");
        values = values.iter().map(|value| value.to_lowercase()).collect();
    }
    let values = statement.bind('v', "Array(String)", Param::Texts(values));
    match leaf.operator {
        Operator::Is => format!("has({values}, {value})"),
        Operator::IsNot => format!("NOT has({values}, {value})"),
        Operator::Contains => format!("arrayExists(part -> position({value}, part) > 0, {values})"),
        Operator::ContainsNot => format!("NOT arrayExists(part -> position({value}, part) > 0, {values})"),
    }
}
