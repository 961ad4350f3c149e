//! The fold of one partition of visits: records in, rows of events and sessions out. Pure: no clock, no I/O.
//!
//! It keeps what the rows of later events depend on: the ids of the last events (a retry counts once), how
//! far each import has come, and the sessions that are still open. All of it is a function of the partition's
//! records up to an offset, so that live, restarted and rebuilt give the same rows, however the records were
//! cut into batches. Reading order: this file, [`decode`], [`session`], `recent.rs`, `snapshot.rs`.

pub mod decode;
mod recent;
pub mod session;
mod snapshot;

use event_log::{Record, Verdict, Why};
use read_models::visits::{
    ranges::Unread,
    rows::{EventColumns, EventRow, Place, REVENUE_SCALE, SessionColumns, UTM, mark},
};

pub use self::recent::REMEMBERED;
pub use self::snapshot::NotASnapshot;
use self::{
    decode::{Bad, Visit, What},
    recent::{Marks, Recent},
    session::Open,
};

/// Names this fold: rows are the same only where it is. Changed with every change of what it does, which
/// makes a new generation.
pub const FOLD: &str = "visits 4";

/// [`FOLD`] with the events that it can read: a release that knows more of them folds anew what this one has parked.
pub fn fold_of_events() -> String {
    let names = events::Event::schemas().into_iter().map(|(name, _)| name);
    let visits: Vec<_> = names.filter(|name| name.starts_with("visit.")).collect();
    format!("{FOLD}: {}", visits.join(" "))
}

/// The name of a page view in the table.
pub const PAGEVIEW: &str = "pageview";
/// The name of engagement in the table.
pub const ENGAGEMENT: &str = "engagement";

/// Times that ClickHouse's dates can tell apart: 1970-01-02 to 2099-12-31. Others are brought to the nearest.
const TIMES: std::ops::RangeInclusive<i64> = 86_400_000_000..=4_102_444_799_999_999;

/// So many traces are named where a piece is written.
const TRACES: usize = 8;

/// The fold of one partition up to an offset.
#[derive(Debug, Clone)]
pub struct Fold {
    partition: u32,
    next_offset: u64,
    /// Events kept so far.
    events: u64,
    /// The latest time of them.
    latest: i64,
    recent: Recent,
    marks: Marks,
    open: Open,
}

/// Rows of a range of a partition's records, ready to be written.
#[derive(Debug, Clone, Default)]
pub struct Piece {
    /// The first offset of the range.
    pub from: u64,
    /// The first offset after it.
    pub to: u64,
    /// Rows of `events`.
    pub events: EventColumns,
    /// Rows of `sessions`; complete when [`Fold::finish`] gave the piece.
    pub sessions: SessionColumns,
    /// The marks of its events, summed.
    pub fingerprint: u64,
    /// When its latest record was appended, microseconds since 1970; whoever reads the log says it.
    pub last_time: Option<i64>,
    /// Events that were there before.
    pub repeated: u64,
    /// Records that mean nothing: not ours.
    pub void: Vec<(u64, Why)>,
    /// Events that cannot be read, one entry for each tenant of a record: parked.
    pub parked: Vec<Unread>,
    /// What stands in records of visits and is no event of a visit: passed over, like a void record.
    pub odd: Vec<(u64, Bad)>,
    /// Ids of the first few traces that its events belong to.
    pub traces: Vec<String>,
}

impl Fold {
    /// The fold of a partition before its first record.
    pub fn new(partition: u32) -> Self {
        Self {
            partition,
            next_offset: 0,
            events: 0,
            latest: i64::MIN,
            recent: Recent::default(),
            marks: Marks::default(),
            open: Open::default(),
        }
    }

    /// The first offset that is not folded.
    pub fn next_offset(&self) -> u64 {
        self.next_offset
    }

    /// An empty piece that begins where this fold stands.
    pub fn begin(&self) -> Piece {
        Piece {
            from: self.next_offset,
            to: self.next_offset,
            ..Piece::default()
        }
    }

    /// Folds the next record; its rows go into the piece. No record stops it: visits have no order between
    /// aggregates that an unread one could break.
    pub fn apply(&mut self, offset: u64, record: &Record, piece: &mut Piece) {
        match event_log::visits::admit(offset, record) {
            Verdict::Visits => {
                let read = decode::decode(&record.value);
                self.visits(offset, &read.visits, piece);
                piece
                    .parked
                    .extend(read.bad.into_iter().map(|(tenant, bad)| Unread {
                        tenant,
                        offset,
                        index: bad.index,
                        reason: bad.to_string(),
                    }));
                piece.odd.extend(read.odd.map(|odd| (offset, odd)));
            }
            Verdict::Void(why) => piece.void.push((offset, why)),
            Verdict::Genesis(_) | Verdict::Claimed(_) | Verdict::Commit(_) => {}
        }
        self.next_offset = offset + 1;
        piece.to = self.next_offset;
    }

    /// Goes on at this offset: what stands between is no record. Tells whether that is any further.
    pub fn pass(&mut self, to: u64, piece: &mut Piece) -> bool {
        let further = to > self.next_offset;
        self.next_offset = self.next_offset.max(to);
        piece.to = self.next_offset;
        further
    }

    /// Completes a piece: the sessions that its events changed are in it, each in its present state.
    #[must_use]
    pub fn finish(&mut self, mut piece: Piece) -> Piece {
        self.open.hand_over(self.partition, &mut piece.sessions);
        piece
    }

    fn visits(&mut self, offset: u64, visits: &[(u32, Visit<'_>)], piece: &mut Piece) {
        // Before their rows are made: ids are remembered all over the memory, and the processor waits for several places
        // at a time when it has nothing else to do between them.
        let new: Vec<bool> = visits.iter().map(|(_, visit)| self.is_new(visit)).collect();
        for ((index, visit), new) in visits.iter().zip(new) {
            if !new {
                piece.repeated += 1;
                continue;
            }
            let place = Place {
                partition: self.partition,
                offset,
                index: *index,
            };
            self.keep(visit, place, piece);
        }
    }

    fn is_new(&mut self, visit: &Visit<'_>) -> bool {
        match visit.import {
            Some((import, line)) => self.marks.is_new(import, line) && self.recent.is_other(visit),
            None => self.recent.is_new(visit),
        }
    }

    fn keep(&mut self, visit: &Visit<'_>, place: Place, piece: &mut Piece) {
        let clamped;
        let visit = if TIMES.contains(&visit.time) {
            visit
        } else {
            clamped = Visit {
                time: visit.time.clamp(*TIMES.start(), *TIMES.end()),
                ..visit.clone()
            };
            &clamped
        };
        self.events += 1;
        self.latest = self.latest.max(visit.time);
        let session = self.open.add(visit, place.offset, self.events).unwrap_or(0);
        piece.events.push(&row(visit, session, place), visit.props.iter());
        piece.fingerprint = piece.fingerprint.wrapping_add(mark(visit.id, place));
        if piece.traces.len() < TRACES
            && let Some(trace) = visit.traceparent.as_ref().split('-').nth(1)
            && !piece.traces.iter().any(|known| known == trace)
        {
            piece.traces.push(trace.to_owned());
        }
        self.open
            .let_go(self.events, self.latest, self.partition, &mut piece.sessions);
    }
}

fn row<'a>(visit: &'a Visit<'_>, session: u64, place: Place) -> EventRow<'a> {
    let (name, interactive, revenue, currency, engaged_ms, scroll_depth) = match &visit.what {
        What::PageView => (PAGEVIEW, true, None, "", 0, None),
        What::Custom {
            name,
            interactive,
            revenue,
        } => {
            let (amount, currency) = revenue.as_ref().map_or(("", ""), |(amount, currency)| {
                (amount.as_ref(), currency.as_ref())
            });
            (name.as_ref(), *interactive, decimal(amount), currency, 0, None)
        }
        What::Engagement {
            engaged_ms,
            scroll_depth,
        } => (ENGAGEMENT, false, None, "", *engaged_ms, *scroll_depth),
    };
    EventRow {
        tenant: visit.tenant,
        site: visit.site,
        time: visit.time,
        name,
        visitor: visit.visitor,
        session,
        hostname: visit.hostname.as_ref(),
        pathname: visit.pathname.as_ref(),
        referrer: visit.referrer.as_ref(),
        source: visit.source.as_ref(),
        device: visit.device.as_ref(),
        browser: visit.browser.as_ref(),
        os: visit.os.as_ref(),
        utm: UTM.map(|name| visit.utm.get(name)),
        content: visit.content,
        revenue,
        currency,
        interactive,
        engaged_ms,
        scroll_depth,
        import: visit.import,
        id: visit.id,
        place,
    }
}

/// A decimal text times 10⁹; digits beyond are cut off. None for what is no decimal number of up to 29 digits
/// before the point.
fn decimal(text: &str) -> Option<i128> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = !whole.is_empty()
        && whole
            .bytes()
            .chain(fraction.bytes())
            .all(|byte| byte.is_ascii_digit());
    if !plain || whole.trim_start_matches('0').len() > 29 {
        return None;
    }
    let fraction = format!("{fraction:0<REVENUE_SCALE$}");
    let number: i128 = format!("{whole}{}", &fraction[..REVENUE_SCALE]).parse().ok()?;
    Some(if negative { -number } else { number })
}

#[cfg(test)]
mod tests;
