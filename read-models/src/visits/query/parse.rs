//! From a body to a question: every field looked at, every fault collected.
//!
//! Longer than a file should be: one small function for each field, which say how they are refused alike.

mod range;

use serde_json::{Map, Value};

use self::range::{DATE_RANGES, date_range};
use super::{
    Dimension, Direction, EVENT_FIELDS, Filter, Include, Invalid, Key, Match, Metric, Operator, PROP_PREFIX,
    Pagination, StatsQuery, TIME_DIMENSIONS, VISIT_FIELDS,
};

const FIELDS: [&str; 8] = [
    "site_id",
    "metrics",
    "date_range",
    "dimensions",
    "filters",
    "order_by",
    "include",
    "pagination",
];
const OPERATORS: &str = "is, is_not, contains, contains_not, and, or, not";

/// Filters are read and rendered by recursion, so their depth is bounded, and their number with it.
const DEPTH: usize = 16;
const FILTERS: usize = 100;
const VALUES: usize = 1_000;
/// A parameter of ClickHouse's has at most 128 KiB, escapes and quotes included.
const VALUES_BYTES: usize = 56 * 1024;
const DIMENSIONS: usize = 8;
const METRICS: usize = 20;
const PROP_NAME: usize = 300;

/// Collects what is wrong while the rest is still looked at.
#[derive(Default)]
struct Faults {
    found: Vec<Invalid>,
    filters: usize,
}

impl Faults {
    fn add(&mut self, pointer: impl Into<String>, detail: impl Into<String>) {
        self.found.push(Invalid {
            pointer: pointer.into(),
            detail: detail.into(),
        });
    }
}

pub(super) fn query(body: &Value) -> Result<StatsQuery, Vec<Invalid>> {
    let mut faults = Faults::default();
    let empty = Map::new();
    let Value::Object(body) = body else {
        faults.add("", "expected an object with site_id, metrics and date_range");
        return Err(faults.found);
    };
    unknown_fields(body, &FIELDS, "", &mut faults);

    let site_id = match body.get("site_id") {
        Some(Value::String(domain)) if !domain.is_empty() => domain.clone(),
        Some(_) => fault(&mut faults, "/site_id", "expected the site's domain, a text"),
        None => fault(&mut faults, "/site_id", "missing; name the site's domain"),
    };
    let metrics = list(body, "metrics", METRICS, &mut faults);
    if metrics.is_empty() {
        faults.add(
            "/metrics",
            format!("name at least one metric: {}", metric_names()),
        );
    }
    let metrics = each(metrics, "/metrics", &mut faults, metric);
    let dimensions = each(
        list(body, "dimensions", DIMENSIONS, &mut faults),
        "/dimensions",
        &mut faults,
        dimension,
    );
    let filters = each(
        list(body, "filters", FILTERS, &mut faults),
        "/filters",
        &mut faults,
        |value, at, faults| filter(value, at, 1, faults),
    );
    let date_range = match body.get("date_range") {
        Some(value) => date_range(value, &mut faults),
        None => {
            faults.add("/date_range", format!("missing; expected {DATE_RANGES}"));
            None
        }
    };
    let order = list(body, "order_by", METRICS, &mut faults);
    let order_by = each(order, "/order_by", &mut faults, |value, at, faults| {
        order_entry(value, at, &metrics, &dimensions, faults)
    });
    let include = include(object(body, "include", &empty, &mut faults), &mut faults);
    let pagination = pagination(object(body, "pagination", &empty, &mut faults), &mut faults);
    if include.time_labels
        && !dimensions
            .iter()
            .any(|dimension| matches!(dimension, Dimension::Time(_)))
    {
        faults.add(
            "/include/time_labels",
            "needs a dimension of time: time, time:hour, time:day, time:week or time:month",
        );
    }

    match (faults.found.is_empty(), date_range) {
        (true, Some(date_range)) => {
            let order_by = if order_by.is_empty() {
                default_order(&dimensions)
            } else {
                order_by
            };
            let filters_as_given = body
                .get("filters")
                .filter(|filters| !filters.is_null())
                .cloned()
                .unwrap_or_else(|| Value::Array(Vec::new()));
            Ok(StatsQuery {
                site_id,
                metrics,
                date_range,
                dimensions,
                filters,
                order_by,
                include,
                pagination,
                filters_as_given,
            })
        }
        _ => Err(faults.found),
    }
}

fn fault(faults: &mut Faults, pointer: &str, detail: &str) -> String {
    faults.add(pointer, detail);
    String::new()
}

/// By time ascending where time is asked for, then by the first metric descending.
fn default_order(dimensions: &[Dimension]) -> Vec<(Key, Direction)> {
    let time = dimensions
        .iter()
        .position(|dimension| matches!(dimension, Dimension::Time(_)));
    let time = time.map(|place| (Key::Dimension(place), Direction::Asc));
    time.into_iter()
        .chain([(Key::Metric(0), Direction::Desc)])
        .collect()
}

fn unknown_fields(object: &Map<String, Value>, known: &[&str], at: &str, faults: &mut Faults) {
    for name in object.keys().filter(|name| !known.contains(&name.as_str())) {
        faults.add(
            format!("{at}/{}", escaped(name)),
            format!("unknown field; there are {}", known.join(", ")),
        );
    }
}

/// A name inside a JSON pointer, cut where it is unreasonably long.
fn escaped(name: &str) -> String {
    name.chars()
        .take(100)
        .collect::<String>()
        .replace('~', "~0")
        .replace('/', "~1")
}

/// A caller's text inside a detail, cut where it is unreasonably long.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 80 {
        text
    } else {
        format!("{}…", text.chars().take(80).collect::<String>())
    }
}

fn list<'a>(body: &'a Map<String, Value>, name: &str, most: usize, faults: &mut Faults) -> &'a [Value] {
    match body.get(name) {
        None | Some(Value::Null) => &[],
        Some(Value::Array(values)) if values.len() <= most => values,
        Some(Value::Array(values)) => {
            faults.add(
                format!("/{name}"),
                format!("has {} entries, at most {most} are answered", values.len()),
            );
            &values[..most]
        }
        Some(_) => {
            faults.add(format!("/{name}"), "expected a list");
            &[]
        }
    }
}

fn object<'a>(
    body: &'a Map<String, Value>,
    name: &str,
    empty: &'a Map<String, Value>,
    faults: &mut Faults,
) -> &'a Map<String, Value> {
    match body.get(name) {
        None | Some(Value::Null) => empty,
        Some(Value::Object(object)) => object,
        Some(_) => {
            faults.add(format!("/{name}"), "expected an object");
            empty
        }
    }
}

/// Reads every entry, also behind a faulty one.
fn each<T>(
    values: &[Value],
    at: &str,
    faults: &mut Faults,
    mut read: impl FnMut(&Value, &str, &mut Faults) -> Option<T>,
) -> Vec<T> {
    let read = |(place, value)| read(value, &format!("{at}/{place}"), faults);
    values.iter().enumerate().filter_map(read).collect()
}

fn metric_names() -> String {
    Metric::ALL.map(Metric::name).join(", ")
}

fn metric(value: &Value, at: &str, faults: &mut Faults) -> Option<Metric> {
    let found = Metric::ALL
        .into_iter()
        .find(|metric| value.as_str() == Some(metric.name()));
    if found.is_none() {
        faults.add(
            at,
            format!("unknown metric {}; there are {}", shown(value), metric_names()),
        );
    }
    found
}

fn dimension(value: &Value, at: &str, faults: &mut Faults) -> Option<Dimension> {
    let found = value.as_str().and_then(known_dimension);
    if found.is_none() {
        let names = Dimension::names().join(", ");
        faults.add(
            at,
            format!("unknown dimension {}; there are {names}", shown(value)),
        );
    }
    found
}

fn known_dimension(name: &str) -> Option<Dimension> {
    let time = TIME_DIMENSIONS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, bucket)| Dimension::Time(*bucket));
    let event = || {
        EVENT_FIELDS
            .iter()
            .find(|field| field.name == name)
            .map(Dimension::Event)
    };
    let visit = || {
        VISIT_FIELDS
            .iter()
            .find(|field| field.name == name)
            .map(Dimension::Visit)
    };
    let prop = || {
        let prop = name.strip_prefix(PROP_PREFIX)?;
        (1..=PROP_NAME)
            .contains(&prop.chars().count())
            .then(|| Dimension::Prop(prop.to_owned()))
    };
    time.or_else(event).or_else(visit).or_else(prop)
}

fn filter(value: &Value, at: &str, depth: usize, faults: &mut Faults) -> Option<Filter> {
    faults.filters += 1;
    if depth > DEPTH || faults.filters > FILTERS {
        if faults.filters <= FILTERS + 1 {
            faults.add(
                at,
                format!("filters are nested deeper than {DEPTH} or more than {FILTERS}"),
            );
        }
        return None;
    }
    let Some((operator, rest)) = value.as_array().and_then(|parts| parts.split_first()) else {
        faults.add(
            at,
            "expected [operator, dimension, values], or [\"and\" or \"or\", filters], or [\"not\", filter]",
        );
        return None;
    };
    let all = |faults: &mut Faults| match rest {
        [Value::Array(parts)] if !parts.is_empty() => {
            let read = |value: &Value, at: &str, faults: &mut Faults| filter(value, at, depth + 1, faults);
            Some(each(parts, &format!("{at}/1"), faults, read))
        }
        _ => {
            faults.add(
                format!("{at}/1"),
                "expected a list of at least one filter, and nothing after it",
            );
            None
        }
    };
    match operator.as_str() {
        Some("and") => all(faults).map(Filter::And),
        Some("or") => all(faults).map(Filter::Or),
        Some("not") => {
            if let [part] = rest {
                filter(part, &format!("{at}/1"), depth + 1, faults).map(|part| Filter::Not(Box::new(part)))
            } else {
                faults.add(format!("{at}/1"), "expected one filter, and nothing after it");
                None
            }
        }
        Some("is") => comparison(Operator::Is, rest, at, faults),
        Some("is_not") => comparison(Operator::IsNot, rest, at, faults),
        Some("contains") => comparison(Operator::Contains, rest, at, faults),
        Some("contains_not") => comparison(Operator::ContainsNot, rest, at, faults),
        _ => {
            faults.add(
                format!("{at}/0"),
                format!("unknown operator {}; there are {OPERATORS}", shown(operator)),
            );
            None
        }
    }
}

fn comparison(operator: Operator, rest: &[Value], at: &str, faults: &mut Faults) -> Option<Filter> {
    let (name, values, modifiers) = match rest {
        [name, values] => (name, values, None),
        [name, values, modifiers] => (name, values, Some(modifiers)),
        _ => {
            faults.add(
                at,
                "expected [operator, dimension, values], with modifiers behind them or nothing",
            );
            return None;
        }
    };
    let dimension = dimension(name, &format!("{at}/1"), faults);
    if matches!(dimension, Some(Dimension::Time(_))) {
        faults.add(format!("{at}/1"), "time is filtered by date_range");
        return None;
    }
    let values = texts(values, &format!("{at}/2"), faults);
    let case_sensitive =
        modifiers.is_none_or(|modifiers| case_sensitive(modifiers, &format!("{at}/3"), faults));
    Some(Filter::Match(Match {
        operator,
        dimension: dimension?,
        values: values?,
        case_sensitive,
    }))
}

fn texts(values: &Value, at: &str, faults: &mut Faults) -> Option<Vec<String>> {
    let texts = values
        .as_array()
        .filter(|values| (1..=VALUES).contains(&values.len()))
        .and_then(|values| {
            values
                .iter()
                .map(|value| value.as_str().map(str::to_owned))
                .collect::<Option<Vec<_>>>()
        });
    if texts.is_none() {
        faults.add(
            at,
            format!("expected a list of texts, at least one and at most {VALUES}"),
        );
    }
    // With its quotes and its comma; an escape makes two of one.
    let bytes: usize = texts.iter().flatten().map(|text| text.len() + 3).sum();
    if bytes > VALUES_BYTES {
        faults.add(
            at,
            format!("has texts of more than {VALUES_BYTES} bytes together, quotes and commas included"),
        );
    }
    texts
}

fn case_sensitive(modifiers: &Value, at: &str, faults: &mut Faults) -> bool {
    let Value::Object(modifiers) = modifiers else {
        faults.add(at, "expected an object such as {\"case_sensitive\": false}");
        return true;
    };
    unknown_fields(modifiers, &["case_sensitive"], at, faults);
    flag(modifiers, "case_sensitive", at, true, faults)
}

fn flag(object: &Map<String, Value>, name: &str, at: &str, absent: bool, faults: &mut Faults) -> bool {
    match object.get(name) {
        None => absent,
        Some(Value::Bool(flag)) => *flag,
        Some(_) => {
            faults.add(format!("{at}/{name}"), "expected true or false");
            absent
        }
    }
}

fn include(object: &Map<String, Value>, faults: &mut Faults) -> Include {
    unknown_fields(
        object,
        &["imports", "time_labels", "total_rows"],
        "/include",
        faults,
    );
    let mut flag = |name| flag(object, name, "/include", false, faults);
    Include {
        imports: flag("imports"),
        time_labels: flag("time_labels"),
        total_rows: flag("total_rows"),
    }
}

fn pagination(object: &Map<String, Value>, faults: &mut Faults) -> Pagination {
    unknown_fields(object, &["limit", "offset"], "/pagination", faults);
    let Pagination { limit, offset } = Pagination::default();
    let mut number = |name: &str, least: u64, most: u64, absent: u32| match object.get(name) {
        None => absent,
        Some(value) => match value.as_u64().filter(|number| (least..=most).contains(number)) {
            Some(number) => u32::try_from(number).unwrap_or(absent),
            None => {
                faults.add(
                    format!("/pagination/{name}"),
                    format!("expected a whole number from {least} to {most}"),
                );
                absent
            }
        },
    };
    Pagination {
        limit: number("limit", 1, 10_000, limit),
        offset: number("offset", 0, 1_000_000_000, offset),
    }
}

fn order_entry(
    value: &Value,
    at: &str,
    metrics: &[Metric],
    dimensions: &[Dimension],
    faults: &mut Faults,
) -> Option<(Key, Direction)> {
    let Some([name, direction]) = value.as_array().map(Vec::as_slice) else {
        faults.add(at, "expected [metric or dimension, \"asc\" or \"desc\"]");
        return None;
    };
    let text = name.as_str().unwrap_or_default();
    let key = metrics
        .iter()
        .position(|metric| metric.name() == text)
        .map(Key::Metric);
    let key = key.or_else(|| {
        dimensions
            .iter()
            .position(|known| known.name() == text)
            .map(Key::Dimension)
    });
    if key.is_none() {
        let asked = metrics.iter().map(|metric| metric.name().to_owned());
        let asked: Vec<_> = asked.chain(dimensions.iter().map(Dimension::name)).collect();
        faults.add(
            format!("{at}/0"),
            format!(
                "{} is not in this query; there are {}",
                shown(name),
                asked.join(", ")
            ),
        );
    }
    let direction = match direction.as_str() {
        Some("asc") => Some(Direction::Asc),
        Some("desc") => Some(Direction::Desc),
        _ => {
            faults.add(
                format!("{at}/1"),
                format!("unknown direction {}; there are asc, desc", shown(direction)),
            );
            None
        }
    };
    Some((key?, direction?))
}
