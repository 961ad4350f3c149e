//! The log as verification reads it: admitted records, and events as they stand there, in JSON.

use std::borrow::Cow;

use bytes::Bytes;
use event_log::{Log, Offset, Partition, ReadError, Reader, State, Verdict, visits};
use events::Timestamp;
use read_models::{
    Projection,
    standing::{Place, tables},
};
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};
use uuid::Uuid;

use super::rows::Expected;

/// A partition, read once from its beginning.
pub(super) struct Walk {
    log: Log,
    partition: Partition,
    reader: Option<Reader>,
    state: State,
    next: Offset,
    /// Read, and not handed over yet.
    kept: std::collections::VecDeque<event_log::Stored>,
    /// Before this offset the log holds nothing that was not read.
    looked_to: Offset,
}

/// What was read at once.
pub(super) struct Records {
    /// How many records, counting or not.
    pub(super) passed: u64,
    /// Those that count and hold events.
    pub(super) admitted: Vec<Admitted>,
}

/// A record that counts.
pub(super) struct Admitted {
    pub(super) offset: Offset,
    /// The tenant's own sequence number of a commit; 0 of visits.
    pub(super) tenant_seq: u64,
    value: Bytes,
}

/// An event as it stands in the log.
#[derive(Deserialize)]
pub(super) struct Raw<'a> {
    #[serde(rename = "type", borrow)]
    pub(super) kind: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) subject: Cow<'a, str>,
    pub(super) id: Uuid,
    pub(super) tenant: Uuid,
    time: Timestamp,
    #[serde(borrow)]
    aggregateversion: Option<Cow<'a, str>>,
    #[serde(borrow)]
    actor: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// An event that is passed over is a version of its aggregate, and nothing more.
pub(super) fn skip(text: &str, expected: &mut Expected) {
    #[derive(Deserialize)]
    struct Stub<'a> {
        #[serde(borrow)]
        subject: Cow<'a, str>,
        tenant: Uuid,
    }
    let Ok(Stub { subject, tenant }) = read(text) else {
        return;
    };
    let Ok(subject) = Uuid::try_parse(&subject) else {
        return;
    };
    let [content, ..] = tables(Projection::Content) else {
        return;
    };
    let [download] = tables(Projection::Downloads) else {
        return;
    };
    for (table, column) in [(content, "content"), (download, "download")] {
        let key = expected.key(table, [("tenant", tenant.into()), (column, subject.into())]);
        if let Some(mut row) = expected.get(table, key).cloned() {
            let version = row.get("version").and_then(Value::as_i64).unwrap_or_default();
            row.set("version", version + 1);
            expected.put(table, key, row);
        }
    }
}

/// An event, its place, and its data.
pub(super) struct Happened<'a> {
    pub(super) kind: &'a str,
    pub(super) subject: &'a str,
    pub(super) tenant: String,
    /// Microseconds since 1970.
    pub(super) time: i64,
    pub(super) version: Option<i64>,
    /// A text, or null.
    pub(super) actor: Value,
    pub(super) data: Map<String, Value>,
    pub(super) place: Place,
    pub(super) tenant_seq: u64,
}

impl Walk {
    pub(super) fn new(log: &Log, partition: Partition) -> Self {
        Self {
            log: log.clone(),
            partition,
            reader: None,
            state: State::default(),
            next: 0,
            kept: std::collections::VecDeque::new(),
            looked_to: 0,
        }
    }

    pub(super) const fn partition(&self) -> Partition {
        self.partition
    }

    /// The next records before this offset; none when it is reached.
    pub(super) async fn next(&mut self, until: Offset) -> Result<Option<Records>, ReadError> {
        if self.next >= until {
            return Ok(None);
        }
        if self.kept.is_empty() {
            let reader = match &mut self.reader {
                Some(reader) => reader,
                None => self.reader.insert(self.log.reader(self.partition, self.next)?),
            };
            let batch = reader.next().await?;
            self.looked_to = batch.next;
            self.kept.extend(batch.records);
        }
        let mut records = Records {
            passed: 0,
            admitted: Vec::new(),
        };
        while let Some(stored) = self.kept.pop_front_if(|stored| stored.offset < until) {
            let verdict = if self.partition.topic.is_fenced() {
                self.state.admit(stored.offset, &stored.record)
            } else {
                visits::admit(stored.offset, &stored.record)
            };
            let tenant_seq = match verdict {
                Verdict::Commit(headers) => Some(headers.tenant_seq),
                Verdict::Visits => Some(0),
                Verdict::Genesis(_) | Verdict::Claimed(_) | Verdict::Void(_) => None,
            };
            records.passed += stored.offset + 1 - self.next;
            self.next = stored.offset + 1;
            if let Some(tenant_seq) = tenant_seq {
                records.admitted.push(Admitted {
                    offset: stored.offset,
                    tenant_seq,
                    value: stored.record.value,
                });
            }
        }
        // A log may have gaps in its offsets: nothing stands between here and there.
        let seen_to = self.kept.front().map_or(self.looked_to, |first| first.offset);
        let seen_to = seen_to.min(until);
        records.passed += seen_to.saturating_sub(self.next);
        self.next = self.next.max(seen_to);
        Ok(Some(records))
    }
}

impl Admitted {
    /// Its events, when all of them can be read.
    pub(super) fn whole(&self) -> Option<Vec<Raw<'_>>> {
        serde_json::from_slice(&self.value).ok()
    }

    /// Its events; one error for a value that is no list of events.
    pub(super) fn events(&self) -> Vec<Result<Raw<'_>, String>> {
        if let Some(events) = self.whole() {
            return events.into_iter().map(Ok).collect();
        }
        match serde_json::from_slice::<Vec<&RawValue>>(&self.value) {
            Ok(events) => events.into_iter().map(|event| read(event.get())).collect(),
            Err(error) => vec![Err(unfit(&error))],
        }
    }

    /// Whether an event is of one of these families. Nobody knows that of one that does not say its type.
    pub(super) fn is_of(&self, index: u32, families: &[&str]) -> bool {
        #[derive(Deserialize)]
        struct Stub<'a> {
            #[serde(rename = "type", borrow)]
            kind: Cow<'a, str>,
        }
        let texts = self.texts();
        let text = texts.get(index as usize).copied().unwrap_or_default();
        read::<Stub<'_>>(text).map_or(true, |stub| {
            families.iter().any(|family| stub.kind.starts_with(family))
        })
    }

    /// Its events as texts; none of a value that is no list.
    pub(super) fn texts(&self) -> Vec<&str> {
        let events = serde_json::from_slice::<Vec<&RawValue>>(&self.value).unwrap_or_default();
        events.into_iter().map(RawValue::get).collect()
    }
}

pub(super) fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| unfit(&error))
}

fn unfit(error: &serde_json::Error) -> String {
    format!("it cannot be read: {error}")
}

impl Raw<'_> {
    /// Microseconds since 1970.
    pub(super) const fn time(&self) -> i64 {
        self.time.micros()
    }

    /// Its data, as something that is read from JSON.
    pub(super) fn data<'a, T: Deserialize<'a>>(&'a self) -> Result<T, String> {
        read(self.data.get())
    }

    /// Folds it; an error when it cannot be read or cannot follow what is there: then it should have been parked.
    pub(super) fn fold(
        &self,
        place: Place,
        tenant_seq: u64,
        expected: &mut Expected,
        fold: super::Fold,
    ) -> Result<(), String> {
        let version = self.aggregateversion.as_deref().map(str::parse).transpose();
        let happened = Happened {
            kind: &self.kind,
            subject: &self.subject,
            tenant: self.tenant.to_string(),
            time: self.time(),
            version: version.map_err(|_| "its version is no number".to_owned())?,
            actor: self.actor.as_deref().map_or(Value::Null, Value::from),
            data: self.data()?,
            place,
            tenant_seq,
        };
        fold(expected, &happened)
    }
}

impl Happened<'_> {
    /// A field of the data; null when it is absent.
    pub(super) fn field(&self, name: &str) -> Value {
        self.data.get(name).cloned().unwrap_or(Value::Null)
    }

    /// A time in the data, in microseconds since 1970.
    pub(super) fn instant(&self, name: &str) -> Result<Value, String> {
        let text = self.data.get(name).and_then(Value::as_str).unwrap_or_default();
        let time: Timestamp = text.parse().map_err(|_| format!("{name} is no time: {text:?}"))?;
        Ok(Value::from(time.micros()))
    }

    /// Its subject, an id in its usual form.
    pub(super) fn id(&self) -> Result<String, String> {
        let id = Uuid::try_parse(self.subject).map_err(|_| format!("{:?} is no id", self.subject))?;
        Ok(id.to_string())
    }

    /// What comes behind the family's name: `published.v1` of `content.published.v1`.
    pub(super) fn of(&self, family: &str) -> Option<&str> {
        self.kind.strip_prefix(family)?.strip_prefix('.')
    }
}
