//! Visits and their sessions, folded again, one partition at a time, as `events` and `sessions` are documented.
//!
//! A visit counts once among the last ids of its partition, in which lines of imports have no place: such a line counts
//! when it is above the import's mark. It belongs to the nearest session of its visitor that is at most half an hour
//! away. A session is let go when it was quiet for long enough, by the log's own count and times, never by a clock.
//!
//! Longer than a file should be: a second fold of visits that shares nothing with the first, read in one go beside the
//! documents that it follows.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    hash::Hasher as _,
    ops::Range,
};

use event_log::{Partition, Topic};
use events::{VisitorId, visit::ImportLine};
use futures::{stream, stream::StreamExt as _};
use read_models::{
    Projection,
    standing::{Place, Row, Rows, Standing, Table, tables},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use siphasher::sip::SipHasher13;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::{
    Error, Progress, Short, Verifier,
    difference::Difference,
    in_background,
    look::{Comparison, Findings, Left, Look},
    rows::{Expected, Making},
    sums::Sums,
    walk::{Admitted, Raw, Walk, read},
};
use crate::visits::{
    REMEMBERED,
    session::{INACTIVITY, OPEN, OPEN_TEXTS, QUIET_EVENTS, QUIET_TIME},
};

const EVENTS: &Table = &tables(Projection::Visits)[0];
const SESSIONS: &Table = &tables(Projection::Visits)[1];

/// Rows of events that are compared at a time, in bytes.
const CHUNK: usize = 32 << 20;

/// 1970-01-02 to 2099-12-31: the times that the tables can hold.
const TIMES: (i64, i64) = (86_400_000_000, 4_102_444_799_999_999);

/// Compares a slice of every partition.
pub(super) async fn compare(
    verifier: &Verifier,
    standing: &Standing,
    expected: Expected,
    findings: &mut Findings,
    progress: &Progress,
) -> Result<(), Short> {
    let (at_once, nothing_found) = (verifier.at_once(Topic::Visits, progress), findings.empty());
    let mut places = std::mem::take(&mut findings.places);
    let parts = verifier.log.all(Topic::Visits).map(|partition| {
        let next = standing.next_offset(partition.index);
        let parked = standing.parked.iter().chain(&standing.skipped);
        let parked = parked.filter(|(at, ..)| *at == partition.index);
        let parked = parked.map(|(_, offset, _)| *offset).collect();
        let only = places.remove(&partition.index);
        let fold = Fold::new(partition.index, &expected, parked, only.unwrap_or_default());
        let part = Part {
            verifier: verifier.clone(),
            generation: standing.generation,
            partition,
            walk: Walk::new(&verifier.log, partition),
            findings: nothing_found.empty(),
            progress: progress.clone(),
            budget: verifier.budget / 2 / at_once,
            until: standing.end_of(partition.index, u64::MAX),
        };
        // Of its own, because comparing rows takes as long as folding them.
        async move { AbortOnDropHandle::new(tokio::spawn(part.compare(fold, next))).await }
    });
    let mut parts = stream::iter(parts).buffer_unordered(at_once);
    while let Some(part) = parts.next().await {
        findings.join(part.map_err(|_| Error::Panicked)??);
    }
    // Rows of a partition that the log does not have.
    let condition = format!("log_partition >= {}", verifier.log.all(Topic::Visits).count());
    for table in [EVENTS, SESSIONS] {
        let rows = verifier.rows.rows(
            Projection::Visits,
            standing.generation,
            table,
            expected.slice,
            &condition,
        );
        let mut seen = Comparison::of(table, &expected);
        seen.all(rows.await?, progress, 0, |_| false).await?;
        findings.take(seen.finish());
    }
    Ok(())
}

/// A partition that is being compared.
struct Part {
    verifier: Verifier,
    generation: i32,
    partition: Partition,
    walk: Walk,
    findings: Findings,
    progress: Progress,
    /// What its events may take, and its sessions, in bytes.
    budget: usize,
    /// The first offset that is left out of a generation that stays where it is.
    until: u64,
}

impl Part {
    async fn compare(mut self, mut fold: Fold, next: u64) -> Result<Findings, Short> {
        let first = fold.events.is_first_look();
        let again = first.then(|| fold.again());
        fold.sums = first.then(|| Sums::up_to(next));
        let mut fold = self.walk(fold, next).await?;
        self.compare_events(&mut fold, next).await?;
        self.look_beyond(&fold).await?;
        let differing = self.compare_sums(&mut fold, next).await?;
        self.compare_sessions(fold, next).await?;
        if let Some(mut fold) = again
            && !differing.is_empty()
        {
            self.findings
                .places
                .insert(self.partition.index, differing.clone());
            fold.only = differing;
            self.find(fold, next).await?;
        }
        Ok(self.findings)
    }

    /// Compares how many events there are at neighbouring offsets, and the sums of their fingerprints, which takes one
    /// reading of the table and next to no memory. Where they differ.
    async fn compare_sums(&mut self, fold: &mut Fold, next: u64) -> Result<Vec<Range<u64>>, Short> {
        let Some(expected) = fold.sums.take() else {
            return Ok(Vec::new());
        };
        let mut found = Sums::up_to(next);
        let nothing = fold.events.empty();
        let mut seen = Comparison::of(EVENTS, &nothing);
        let condition = format!("log_partition = {} AND log_offset < {next}", self.partition.index);
        let rows = self.rows(EVENTS, &nothing, &condition).await?;
        seen.pass(rows, &self.progress, |row| {
            found.add(row.version.1, row.printed.whole)
        })
        .await?;
        self.findings.take(seen.finish());
        Ok(expected.differing(&found))
    }

    /// Finds which events differ: the log is folded again, and compared row by row at these offsets alone.
    async fn find(&mut self, fold: Fold, next: u64) -> Result<(), Short> {
        let before = (self.findings.rows, self.findings.suspects.len());
        self.walk = Walk::new(&self.verifier.log, self.partition);
        self.progress.more(next);
        let mut fold = self.walk(fold, next).await?;
        self.compare_events(&mut fold, next).await?;
        // They were counted already.
        self.findings.rows = before.0;
        if self.findings.suspects.len() == before.1 {
            tracing::warn!(partition = %self.partition, "events were not what the log says at a first look, and were at the second");
        }
        Ok(())
    }

    /// Finds events at offsets that the log does not have.
    async fn look_beyond(&mut self, fold: &Fold) -> Result<(), Short> {
        let expected = fold.events.empty();
        let mut seen = Comparison::of(EVENTS, &expected);
        let from = self.end().await?;
        let condition = format!(
            "log_partition = {} AND log_offset >= {from}",
            self.partition.index
        );
        let rows = self.rows(EVENTS, &expected, &condition).await?;
        let found = seen.all(rows, &self.progress, self.budget, |_| true).await?;
        let mut look = seen.finish();
        // Some may have been written since.
        let end = self.end().await?;
        for left in found.into_iter().filter(|left| left.version.1 >= end) {
            look.nowhere(left);
        }
        self.findings.take(look);
        Ok(())
    }

    /// The first offset that is in no table.
    async fn end(&self) -> Result<u64, Error> {
        let end = self.verifier.log.end(self.partition).await?;
        Ok(end.min(self.until))
    }

    /// Folds up to an offset, and compares events on the way.
    async fn walk(&mut self, mut fold: Fold, until: u64) -> Result<Fold, Short> {
        while let Some(records) = self.walk.next(until).await? {
            let count = records.passed;
            let work = move || {
                let events = records.admitted.iter().map(|record| fold.record(record)).sum();
                (fold, events)
            };
            let events;
            (fold, events) = in_background(work).await?;
            self.progress.passed(count, events).await?;
            for unfit in std::mem::take(&mut fold.unfit) {
                self.findings.differs(unfit);
            }
            if fold.sessions.held() > self.budget {
                return Err(Short::Full);
            }
            if fold.events.held() > CHUNK.min(self.budget) {
                let to = fold.next;
                self.compare_events(&mut fold, to).await?;
            }
        }
        Ok(fold)
    }

    /// Compares the events before an offset that were not compared yet.
    async fn compare_events(&mut self, fold: &mut Fold, to: u64) -> Result<(), Short> {
        let from = std::mem::replace(&mut fold.compared, to);
        let places = fold.only.iter().map(|it| it.start.max(from)..it.end.min(to));
        let places: Vec<String> = places
            .filter(|it| !it.is_empty())
            .map(|it| format!("log_offset >= {} AND log_offset < {}", it.start, it.end))
            .collect();
        if places.is_empty() {
            return Ok(());
        }
        let empty = fold.events.empty();
        let expected = std::mem::replace(&mut fold.events, empty);
        let mut seen = Comparison::of(EVENTS, &expected);
        let condition = format!(
            "log_partition = {} AND ({})",
            self.partition.index,
            places.join(" OR ")
        );
        let rows = self.rows(EVENTS, &expected, &condition).await?;
        seen.all(rows, &self.progress, 0, |_| false).await?;
        self.findings.take(seen.finish());
        Ok(())
    }

    /// Compares sessions: each at the version that the table has.
    async fn compare_sessions(&mut self, mut fold: Fold, next: u64) -> Result<(), Short> {
        fold.put_open();
        if fold.sessions.held() > self.budget {
            return Err(Short::Full);
        }
        let mut later: HashMap<u64, Vec<Left>> = HashMap::new();
        let mut seen = Comparison::of(SESSIONS, &fold.sessions);
        let condition = format!("log_partition = {}", self.partition.index);
        let rows = self.rows(SESSIONS, &fold.sessions, &condition).await?;
        for left in seen
            .all(rows, &self.progress, self.budget, |(_, offset)| offset >= next)
            .await?
        {
            later.entry(left.version.1).or_default().push(left);
        }
        let look = seen.finish();
        self.findings.take(look);
        let Some(last) = later.keys().max().copied() else {
            return Ok(());
        };
        // What went on after the checkpoint is compared as the fold comes by; events of that time are not.
        let end = self.end().await?;
        fold.later = later;
        fold.beyond = true;
        let mut fold = self.walk(fold, end.min(last + 1)).await?;
        for left in fold.later.into_values().flatten() {
            fold.look.nowhere(left);
        }
        self.findings.take(fold.look);
        Ok(())
    }

    async fn rows(
        &self,
        table: &'static Table,
        expected: &Expected,
        condition: &str,
    ) -> Result<Rows<'static>, Error> {
        let (rows, slice) = (&self.verifier.rows, expected.slice);
        let rows = rows.rows(Projection::Visits, self.generation, table, slice, condition);
        Ok(rows.await?)
    }
}

/// A visit as it stands in the log.
#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow)]
    visit: Visit<'a>,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(default)]
    interactive: bool,
    revenue: Option<Revenue>,
    #[serde(default)]
    engaged_ms: u32,
    scroll_depth: Option<u8>,
}

#[derive(Deserialize)]
struct Visit<'a> {
    site: Uuid,
    visitor: VisitorId,
    #[serde(borrow)]
    pathname: Cow<'a, str>,
    content: Option<Uuid>,
    import: Option<ImportLine>,
    #[serde(borrow)]
    hostname: Option<Cow<'a, str>>,
    #[serde(borrow)]
    referrer: Option<Cow<'a, str>>,
    #[serde(borrow)]
    source: Option<Cow<'a, str>>,
    #[serde(borrow)]
    device: Option<Cow<'a, str>>,
    #[serde(borrow)]
    browser: Option<Cow<'a, str>>,
    #[serde(borrow)]
    os: Option<Cow<'a, str>>,
    #[serde(default)]
    utm: Map<String, Value>,
    #[serde(default = "nothing")]
    props: Value,
}

fn nothing() -> Value {
    Value::Object(Map::new())
}

#[derive(Deserialize)]
struct Revenue {
    amount: String,
    currency: String,
}

/// What says that something is a visit.
#[derive(Deserialize)]
struct Stub<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(rename = "tenant")]
    _tenant: Uuid,
}

/// Whether the domain can read an event; asked only of records that have something parked.
fn is_readable(text: &str) -> bool {
    events::envelope::decode(format!("[{text}]").as_bytes()).is_ok()
}

type Key = (Uuid, Uuid, u64);

/// A session that may go on.
struct Session {
    id: u64,
    opened: i64,
    start: i64,
    last: i64,
    pageviews: u32,
    events: u32,
    interactive: u32,
    /// Times of the events that origin, first and last page come from.
    times: [i64; 3],
    pages: [String; 2],
    origin: Origin<Box<str>>,
    import: Option<Uuid>,
    offset: u64,
    touched: u64,
}

/// A partition, folded up to an offset.
struct Fold {
    partition: u32,
    /// Offsets of records with events that cannot be read: one entry stands for all of a record.
    parked: HashSet<u64>,
    /// The first offset that is not folded.
    next: u64,
    ids: HashSet<(Uuid, Uuid, Uuid)>,
    order: VecDeque<(Uuid, Uuid, Uuid)>,
    marks: HashMap<Uuid, u64>,
    open: HashMap<Key, Vec<Session>>,
    by_touch: BTreeMap<u64, Key>,
    /// Bytes of the texts of open sessions.
    texts: usize,
    /// Visits that counted.
    number: u64,
    latest: i64,
    /// Events from here on are to be compared.
    compared: u64,
    /// At which offsets they are compared row by row.
    only: Vec<Range<u64>>,
    /// What they are compared by everywhere; at the first look.
    sums: Option<Sums>,
    /// Whether the checkpoint was passed: only sessions are of interest.
    beyond: bool,
    events: Expected,
    /// Sessions that were let go.
    sessions: Expected,
    unfit: Vec<Difference>,
    /// Whether those are to be named: once.
    names_unfit: bool,
    /// Sessions that are to be compared when their version is reached.
    later: HashMap<u64, Vec<Left>>,
    look: Look,
}

impl Fold {
    fn new(partition: u32, expected: &Expected, parked: HashSet<u64>, only: Vec<Range<u64>>) -> Self {
        Self {
            partition,
            parked,
            next: 0,
            ids: HashSet::new(),
            order: VecDeque::new(),
            marks: HashMap::new(),
            open: HashMap::new(),
            by_touch: BTreeMap::new(),
            texts: 0,
            number: 0,
            latest: i64::MIN,
            compared: 0,
            only,
            sums: None,
            beyond: false,
            events: expected.empty(),
            sessions: expected.empty(),
            unfit: Vec::new(),
            names_unfit: expected.is_first_look(),
            later: HashMap::new(),
            look: Look::at(expected),
        }
    }

    /// The same before anything was folded, for a second reading.
    fn again(&self) -> Self {
        Self {
            names_unfit: false,
            ..Self::new(self.partition, &self.events, self.parked.clone(), Vec::new())
        }
    }

    /// Folds a record; says how many events it holds.
    fn record(&mut self, record: &Admitted) -> u64 {
        let count = match record.whole() {
            Some(events) if !self.parked.contains(&record.offset) => {
                for (index, event) in (0..).zip(&events) {
                    if event.kind.starts_with("visit.") {
                        self.event((self.partition, record.offset, index), Ok(event));
                    }
                }
                events.len()
            }
            Some(_) | None => self.one_by_one(record),
        };
        self.next = record.offset + 1;
        for left in self.later.remove(&record.offset).unwrap_or_default() {
            self.put_again(&left.row);
            self.look.later(&self.sessions, left);
        }
        count as u64
    }

    /// Events of a record that has some that cannot be read.
    fn one_by_one(&mut self, record: &Admitted) -> usize {
        let parked = self.parked.contains(&record.offset);
        let texts = record.texts();
        let count = texts.len();
        for (index, text) in (0..).zip(texts) {
            // What does not even say that it is a visit, and whose, is nobody's.
            let is_of_a_visit = read::<Stub<'_>>(text).is_ok_and(|stub| stub.kind.starts_with("visit."));
            if is_of_a_visit && (!parked || is_readable(text)) {
                let event = read::<Raw<'_>>(text);
                self.event((self.partition, record.offset, index), event.as_ref());
            }
        }
        count
    }

    fn event(&mut self, place: Place, event: Result<&Raw<'_>, &String>) {
        let done = event.map_err(String::clone).and_then(|event| {
            let data = event.data()?;
            self.visit(place, event, &data)
        });
        if let Err(reason) = done
            && !self.beyond
            && self.names_unfit
        {
            let tenant = event.ok().map(|event| event.tenant);
            self.unfit.push(Difference::unfit(place, tenant, reason));
        }
    }

    fn visit(&mut self, place: Place, event: &Raw<'_>, data: &Data<'_>) -> Result<(), String> {
        let what = match event.kind.as_ref() {
            "visit.page-viewed.v1" => "pageview",
            "visit.custom-event-recorded.v1" => data.name.as_deref().ok_or("it has no name")?,
            "visit.engagement-recorded.v1" => "engagement",
            other => return Err(format!("{other} does not belong in a record of visits")),
        };
        let (view, engagement) = (
            event.kind == "visit.page-viewed.v1",
            event.kind == "visit.engagement-recorded.v1",
        );
        if let Some(import) = &data.visit.import {
            let (import, line) = (import.id.uuid(), import.line.0);
            if self.marks.get(&import).is_some_and(|mark| line <= *mark) {
                return Ok(());
            }
            self.marks.insert(import, line);
        }
        let id = (event.tenant, data.visit.site, event.id);
        if self.ids.contains(&id) {
            return Ok(());
        }
        // Lines of imports have their marks.
        if data.visit.import.is_none() {
            self.ids.insert(id);
            self.order.push_back(id);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        let time = event.time().clamp(TIMES.0, TIMES.1);
        self.number += 1;
        self.latest = self.latest.max(time);
        let key = (event.tenant, data.visit.site, data.visit.visitor.get());
        let interactive = view || data.interactive && !engagement;
        let session = self.session(key, event, data, time, place.1, [view, engagement, interactive]);
        let offset = place.1;
        let compared = self.sums.is_some() || self.only.iter().any(|it| it.contains(&offset));
        if !self.beyond && compared && self.events.slice.has(&key.2.to_string()) {
            let mut row = self.events.make(EVENTS);
            columns(&mut row, event, data, time, what, interactive, session, place);
            match &mut self.sums {
                Some(sums) => sums.add(offset, self.events.printed(row)),
                None => self.events.made(row),
            }
        }
        self.let_go();
        Ok(())
    }

    /// The session that a visit belongs to, with the visit in it; 0 for none.
    fn session(
        &mut self,
        key: Key,
        event: &Raw<'_>,
        data: &Data<'_>,
        time: i64,
        offset: u64,
        [view, engagement, interactive]: [bool; 3],
    ) -> u64 {
        let of_visitor = self.open.entry(key).or_insert_with(|| Vec::with_capacity(1));
        let nearest = of_visitor
            .iter()
            .enumerate()
            .map(|(place, it)| {
                let distance = (it.start - time).max(time - it.last).max(0);
                (distance, it.opened, it.id, place)
            })
            .filter(|(distance, ..)| *distance <= INACTIVITY)
            .min();
        let place = match nearest {
            Some((_, _, _, place)) => place,
            None if engagement => {
                if of_visitor.is_empty() {
                    self.open.remove(&key);
                }
                return 0;
            }
            None => {
                let session = Session::open(key, event, data, time);
                self.texts += session.texts();
                of_visitor.push(session);
                of_visitor.len() - 1
            }
        };
        let session = &mut of_visitor[place];
        self.texts -= session.texts();
        self.by_touch.remove(&session.touched);
        self.by_touch.insert(self.number, key);
        session.touched = self.number;
        session.offset = offset;
        session.start = session.start.min(time);
        session.last = session.last.max(time);
        if !engagement {
            session.events = session.events.saturating_add(1);
            session.pageviews = session.pageviews.saturating_add(view.into());
            session.interactive = session.interactive.saturating_add(interactive.into());
            let [origin, first, last] = &mut session.times;
            if time < *origin {
                *origin = time;
                session.origin = Origin::of(data);
            }
            if view && time < *first {
                *first = time;
                session.pages[0] = data.visit.pathname.to_string();
            }
            if view && time >= *last {
                *last = time;
                session.pages[1] = data.visit.pathname.to_string();
            }
        }
        self.texts += session.texts();
        session.id
    }

    /// Lets go of sessions that were quiet, the one that was touched longest ago first.
    fn let_go(&mut self) {
        while let Some((touched, key)) = self.by_touch.first_key_value().map(|(at, key)| (*at, *key)) {
            let Some(of_visitor) = self.open.get_mut(&key) else {
                self.by_touch.remove(&touched);
                continue;
            };
            let Some(place) = of_visitor.iter().position(|it| it.touched == touched) else {
                self.by_touch.remove(&touched);
                continue;
            };
            let quiet = touched + QUIET_EVENTS < self.number
                && of_visitor[place].last < self.latest.saturating_sub(QUIET_TIME);
            if !quiet && self.by_touch.len() <= OPEN && self.texts <= OPEN_TEXTS {
                return;
            }
            let session = of_visitor.swap_remove(place);
            self.texts -= session.texts();
            if of_visitor.is_empty() {
                self.open.remove(&key);
            }
            self.by_touch.remove(&touched);
            session.put(&mut self.sessions, key, self.partition);
        }
    }

    /// Puts the sessions that may go on beside those that were let go.
    fn put_open(&mut self) {
        for (key, sessions) in &self.open {
            for session in sessions {
                session.put(&mut self.sessions, *key, self.partition);
            }
        }
    }

    /// Puts a session that may go on as it is now; one that was let go is there already.
    fn put_again(&mut self, row: &Row) {
        let id = |column: &str| row.get(column)?.as_str()?.parse().ok();
        let number = |column: &str| row.get(column)?.as_u64();
        let key = || Some((id("tenant")?, id("site")?, number("visitor")?));
        let Some((key, session)) = key().zip(number("session")) else {
            return;
        };
        let mut open = self.open.get(&key).into_iter().flatten();
        if let Some(session) = open.find(|it| it.id == session) {
            session.put(&mut self.sessions, key, self.partition);
        }
    }
}

impl Session {
    fn open((tenant, site, visitor): Key, event: &Raw<'_>, data: &Data<'_>, time: i64) -> Self {
        // The number of a session is made of its first event, so that it is the same in every generation.
        let mut hasher = SipHasher13::new_with_keys(0x616e_6e61_6c73, 0x7365_7373_696f_6e73);
        hasher.write(tenant.as_bytes());
        hasher.write(site.as_bytes());
        hasher.write_u64(visitor.to_be());
        hasher.write(event.id.as_bytes());
        Self {
            id: hasher.finish().max(1),
            opened: time,
            start: time,
            last: time,
            pageviews: 0,
            events: 0,
            interactive: 0,
            times: [time, i64::MAX, i64::MIN],
            pages: Default::default(),
            origin: Origin::of(data),
            import: data.visit.import.as_ref().map(|import| import.id.uuid()),
            offset: 0,
            touched: 0,
        }
    }

    fn texts(&self) -> usize {
        let pages: usize = self.pages.iter().map(String::len).sum();
        pages + self.origin.0.iter().map(|text| text.len()).sum::<usize>()
    }

    fn put(&self, rows: &mut Expected, (tenant, site, visitor): Key, partition: u32) {
        if !rows.slice.has(&visitor.to_string()) {
            return;
        }
        let mut row = rows.make(SESSIONS);
        let seconds = u32::try_from(self.last.saturating_sub(self.start) / 1_000_000);
        self.origin.columns(&mut row);
        row.add("tenant", tenant);
        row.add("site", site);
        row.add("opened", self.opened);
        row.add("session", self.id);
        row.add("visitor", visitor);
        row.add("start", self.start);
        row.add("last", self.last);
        row.add("duration", seconds.unwrap_or_default());
        row.add("pageviews", self.pageviews);
        row.add("events", self.events);
        row.add("is_bounce", self.interactive < 2);
        row.add("entry_page", self.pages[0].as_str());
        row.add("exit_page", self.pages[1].as_str());
        row.add("import", self.import);
        row.add("log_partition", partition);
        row.add("log_offset", self.offset);
        rows.made(row);
    }
}

/// Where a visit came from: the texts of these columns, empty for what is absent.
struct Origin<T>([T; 11]);

const ORIGIN: [&str; 11] = [
    "hostname",
    "referrer",
    "source",
    "device",
    "browser",
    "os",
    "utm_source",
    "utm_medium",
    "utm_campaign",
    "utm_content",
    "utm_term",
];

impl<'a> Origin<&'a str> {
    fn said(data: &'a Data<'_>) -> Self {
        let said = &data.visit;
        let text = |text: &'a Option<Cow<'_, str>>| text.as_deref().unwrap_or_default();
        let utm = |name| said.utm.get(name).and_then(Value::as_str).unwrap_or_default();
        Self([
            text(&said.hostname),
            text(&said.referrer),
            text(&said.source),
            text(&said.device),
            text(&said.browser),
            text(&said.os),
            utm("source"),
            utm("medium"),
            utm("campaign"),
            utm("content"),
            utm("term"),
        ])
    }
}

impl Origin<Box<str>> {
    fn of(data: &Data<'_>) -> Self {
        let Origin(said) = Origin::said(data);
        Self(said.map(Into::into))
    }
}

impl<T: AsRef<str>> Origin<T> {
    fn columns(&self, row: &mut Making) {
        for (column, text) in ORIGIN.into_iter().zip(&self.0) {
            row.add(column, text.as_ref());
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "what a row is made of")]
fn columns(
    row: &mut Making,
    event: &Raw<'_>,
    data: &Data<'_>,
    time: i64,
    what: &str,
    interactive: bool,
    session: u64,
    (partition, offset, index): Place,
) {
    let import = data.visit.import.as_ref();
    let revenue = data.revenue.as_ref();
    let amount = revenue.and_then(|revenue| decimal(&revenue.amount));
    Origin::said(data).columns(row);
    row.add("tenant", event.tenant);
    row.add("site", data.visit.site);
    row.add("time", time);
    row.add("name", what);
    row.add("visitor", data.visit.visitor.get());
    row.add("session", session);
    row.add("pathname", data.visit.pathname.as_ref());
    row.add("content", data.visit.content);
    row.add("props", &data.visit.props);
    row.add("revenue", amount.as_deref());
    row.add(
        "currency",
        revenue.map_or("", |revenue| revenue.currency.as_str()),
    );
    row.add("interactive", interactive);
    row.add("engaged_ms", data.engaged_ms);
    row.add("scroll_depth", data.scroll_depth.map(u32::from));
    row.add("import", import.map(|import| import.id.uuid()));
    row.add("import_line", import.map_or(0, |import| import.line.0));
    row.add("id", event.id);
    row.add("log_partition", partition);
    row.add("log_offset", offset);
    row.add("log_index", index);
}

/// A decimal number as the table's type holds it, nine digits after the point, in its shortest form; none for what
/// is no such number.
fn decimal(text: &str) -> Option<String> {
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let whole =
        (!whole.is_empty() && plain(whole) && plain(fraction)).then(|| whole.trim_start_matches('0'))?;
    if whole.len() > 29 {
        return None;
    }
    let cut: String = fraction.chars().take(9).collect();
    let (whole, fraction) = (
        if whole.is_empty() { "0" } else { whole },
        cut.trim_end_matches('0'),
    );
    Some(match (whole, fraction) {
        ("0", "") => "0".to_owned(),
        (whole, "") => format!("{sign}{whole}"),
        (whole, fraction) => format!("{sign}{whole}.{fraction}"),
    })
}

#[cfg(test)]
mod tests {
    use super::decimal;

    #[test]
    fn a_decimal_number_has_one_form() {
        for (text, form) in [
            ("12.50", Some("12.5")),
            ("-0.00", Some("0")),
            ("007", Some("7")),
            (".5", None),
            ("-1.0000000019", Some("-1.000000001")),
            ("1e3", None),
        ] {
            assert_eq!(decimal(text).as_deref(), form, "{text}");
        }
    }
}
