//! Sessions that are still open: what an event of a visitor belongs to, and when a session is let go.
//!
//! Everything here depends on the order of the partition's log alone. An event joins a session of the same
//! tenant, site and visitor when it lies at most 30 minutes before its earliest or after its latest event;
//! of several the nearest one, of equals the one that was opened first. Sessions are never merged, because
//! rows that name them are written already.
//!
//! Longer than a file should be: a session and the table of the open ones know each other's insides, for speed.

use std::{collections::HashMap, hash::Hasher};

use foldhash::fast::RandomState;
use read_models::visits::rows::{SessionColumns, SessionRow, UTM};
use siphasher::sip::SipHasher13;
use uuid::Uuid;

use super::decode::{Visit, What};

/// A session ends after this long without an event: 30 minutes, as in Plausible and Google Analytics.
pub const INACTIVITY: i64 = 30 * 60 * 1_000_000;

/// At most so many sessions of a partition are open; beyond, the one that was quiet for longest is let go.
/// With 300 bytes each that is 20 MB.
pub const OPEN: usize = 65_536;

/// Nor are the texts of the open ones longer than this together, in bytes: whoever sends visits chooses their length.
pub const OPEN_TEXTS: usize = 32 * 1024 * 1024;

/// A session may be let go when none of the partition's last so many events belonged to it …
pub const QUIET_EVENTS: u64 = 16_384;

/// … and the latest time seen in the partition is this far beyond its own. Both, because an import of old
/// visits stands between live ones in the same partition, and times alone would end all its sessions at once.
pub const QUIET_TIME: i64 = 2 * INACTIVITY;

/// Whose session it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) tenant: Uuid,
    pub(super) site: Uuid,
    pub(super) visitor: u64,
}

/// A session in its present state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) key: Key,
    pub(super) id: u64,
    /// Time of the event that opened it.
    pub(super) opened: i64,
    pub(super) start: i64,
    pub(super) last: i64,
    pub(super) pageviews: u32,
    pub(super) events: u32,
    /// Page views and interactive custom events.
    pub(super) interactive: u32,
    /// Times of the events that origin, entry page and exit page come from.
    pub(super) origin_at: i64,
    pub(super) entry_at: i64,
    pub(super) exit_at: i64,
    pub(super) import: Option<Uuid>,
    pub(super) texts: Texts,
    /// Offset of the last record that changed it.
    pub(super) offset: u64,
    /// Number of the last event that changed it, counted over the partition.
    pub(super) touched: u64,
    /// Whether it changed since its row was last handed over.
    pub(super) dirty: bool,
}

/// The texts of a session in one allocation: tens of thousands of sessions are open.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Texts {
    pub(super) all: Box<str>,
    pub(super) ends: [u32; TEXTS],
}

/// How many texts a session has.
pub(super) const TEXTS: usize = 13;

impl Texts {
    fn new(texts: [&str; TEXTS]) -> Self {
        let mut ends = [0; TEXTS];
        let mut end = 0;
        for (place, text) in texts.iter().enumerate() {
            end += u32::try_from(text.len()).unwrap_or(0);
            ends[place] = end;
        }
        Self {
            all: texts.concat().into_boxed_str(),
            ends,
        }
    }

    pub(super) fn get(&self) -> [&str; TEXTS] {
        let mut texts = [""; TEXTS];
        let mut from = 0;
        for (place, end) in self.ends.iter().enumerate() {
            let end = *end as usize;
            texts[place] = self.all.get(from..end).unwrap_or("");
            from = end;
        }
        texts
    }
}

/// Places of what changes after a session was opened; the others are its origin.
const ENTRY: usize = 0;
const EXIT: usize = 1;

/// Entry and exit page, then the origin: host, referrer, source, device, browser, os, campaign.
fn texts<'a>(entry: &'a str, exit: &'a str, visit: &'a Visit<'_>) -> [&'a str; TEXTS] {
    let [source, medium, campaign, content, term] = UTM.map(|name| visit.utm.get(name));
    [
        entry,
        exit,
        visit.hostname.as_ref(),
        visit.referrer.as_ref(),
        visit.source.as_ref(),
        visit.device.as_ref(),
        visit.browser.as_ref(),
        visit.os.as_ref(),
        source,
        medium,
        campaign,
        content,
        term,
    ]
}

impl Session {
    fn open(key: Key, visit: &Visit<'_>, offset: u64) -> Self {
        Self {
            key,
            id: identity(&key, visit.id),
            opened: visit.time,
            start: visit.time,
            last: visit.time,
            pageviews: 0,
            events: 0,
            interactive: 0,
            origin_at: visit.time,
            entry_at: i64::MAX,
            exit_at: i64::MIN,
            import: visit.import.map(|(import, _)| import),
            texts: Texts::new(texts("", "", visit)),
            offset,
            touched: 0,
            dirty: false,
        }
    }

    /// How far an event is from it; none when it is too far to belong to it.
    fn distance(&self, time: i64) -> Option<i64> {
        let distance = (self.start - time).max(time - self.last).max(0);
        (distance <= INACTIVITY).then_some(distance)
    }

    fn add(&mut self, visit: &Visit<'_>) {
        self.start = self.start.min(visit.time);
        self.last = self.last.max(visit.time);
        let (view, interactive) = match &visit.what {
            What::PageView => (true, true),
            What::Custom { interactive, .. } => (false, *interactive),
            What::Engagement { .. } => return,
        };
        self.events = self.events.saturating_add(1);
        self.pageviews = self.pageviews.saturating_add(view.into());
        self.interactive = self.interactive.saturating_add(interactive.into());
        let entry = view && visit.time < self.entry_at;
        let exit = view && visit.time >= self.exit_at;
        let origin = visit.time < self.origin_at;
        if !(entry || exit || origin) {
            return;
        }
        let page = visit.pathname.as_ref();
        let mut now = self.texts.get();
        if origin {
            self.origin_at = visit.time;
            now = texts(now[ENTRY], now[EXIT], visit);
        }
        if entry {
            self.entry_at = visit.time;
            now[ENTRY] = page;
        }
        if exit {
            self.exit_at = visit.time;
            now[EXIT] = page;
        }
        self.texts = Texts::new(now);
    }

    fn push(&self, partition: u32, rows: &mut SessionColumns) {
        let [
            entry_page,
            exit_page,
            hostname,
            referrer,
            source,
            device,
            browser,
            os,
            utm_source,
            utm_medium,
            utm_campaign,
            utm_content,
            utm_term,
        ] = self.texts.get();
        rows.push(&SessionRow {
            tenant: self.key.tenant,
            site: self.key.site,
            opened: self.opened,
            session: self.id,
            visitor: self.key.visitor,
            start: self.start,
            last: self.last,
            pageviews: self.pageviews,
            events: self.events,
            is_bounce: self.interactive < 2,
            hostname,
            entry_page,
            exit_page,
            referrer,
            source,
            device,
            browser,
            os,
            utm: [utm_source, utm_medium, utm_campaign, utm_content, utm_term],
            import: self.import,
            partition,
            offset: self.offset,
        });
    }
}

/// The same in every generation, since it is made from the session's first event in the log. Never 0.
fn identity(key: &Key, first: Uuid) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(0x616e_6e61_6c73, 0x7365_7373_696f_6e73);
    hasher.write(key.tenant.as_bytes());
    hasher.write(key.site.as_bytes());
    hasher.write_u64(key.visitor.to_be());
    hasher.write(first.as_bytes());
    hasher.finish().max(1)
}

/// No session: the end of a list.
const NONE: u32 = u32::MAX;

/// A session in its place, chained by when it was touched and with the others of its visitor.
#[derive(Debug, Clone)]
struct Slot {
    session: Session,
    older: u32,
    newer: u32,
    sibling: u32,
}

/// The open sessions of a partition.
#[derive(Debug, Clone)]
pub(super) struct Open {
    /// Nobody outside chooses a visitor's hash, which is salted: a quick hash does.
    by_key: HashMap<Key, u32, RandomState>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    oldest: u32,
    newest: u32,
    dirty: Vec<u32>,
    /// Bytes of the texts of all of them.
    texts: usize,
}

impl Default for Open {
    fn default() -> Self {
        Self {
            by_key: HashMap::default(),
            slots: Vec::new(),
            free: Vec::new(),
            oldest: NONE,
            newest: NONE,
            dirty: Vec::new(),
            texts: 0,
        }
    }
}

impl Open {
    /// The session that an event belongs to, with the event in it. Engagement opens none: someone who left a
    /// page open for hours and then closes it is not a new visit.
    pub(super) fn add(&mut self, visit: &Visit<'_>, offset: u64, number: u64) -> Option<u64> {
        let key = Key {
            tenant: visit.tenant,
            site: visit.site,
            visitor: visit.visitor,
        };
        let place = match (self.nearest(&key, visit.time), &visit.what) {
            (Some(place), _) => {
                self.unlink(place);
                place
            }
            (None, What::Engagement { .. }) => return None,
            (None, What::PageView | What::Custom { .. }) => self.insert(Session::open(key, visit, offset)),
        };
        self.link_newest(place);
        let session = &mut self.slots[place as usize].session;
        self.texts -= session.texts.all.len();
        session.add(visit);
        self.texts += session.texts.all.len();
        session.offset = offset;
        session.touched = number;
        if !std::mem::replace(&mut session.dirty, true) {
            self.dirty.push(place);
        }
        Some(self.slots[place as usize].session.id)
    }

    /// Lets go of what is quiet, by the partition's count of events and its latest time; what had changed is
    /// handed over first.
    pub(super) fn let_go(&mut self, number: u64, latest: i64, partition: u32, rows: &mut SessionColumns) {
        while self.oldest != NONE {
            let session = &self.slots[self.oldest as usize].session;
            let quiet =
                session.touched + QUIET_EVENTS < number && session.last < latest.saturating_sub(QUIET_TIME);
            if !quiet && self.len() <= OPEN && self.texts <= OPEN_TEXTS {
                return;
            }
            let place = self.oldest;
            if session.dirty {
                session.push(partition, rows);
            }
            self.remove(place);
        }
    }

    /// Hands over every session that changed since this was last called.
    pub(super) fn hand_over(&mut self, partition: u32, rows: &mut SessionColumns) {
        for place in std::mem::take(&mut self.dirty) {
            let session = &mut self.slots[place as usize].session;
            // A place may have been let go and taken by another since.
            if std::mem::take(&mut session.dirty) {
                session.push(partition, rows);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// All of them, the one that was touched longest ago first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Session> {
        let first = (self.oldest != NONE).then_some(self.oldest);
        std::iter::successors(first, |place| {
            Some(self.slots[*place as usize].newer).filter(|newer| *newer != NONE)
        })
        .map(|place| &self.slots[place as usize].session)
    }

    /// Puts back what [`Open::iter`] gave, in that order.
    pub(super) fn restore(&mut self, session: Session) {
        let place = self.insert(session);
        self.link_newest(place);
    }

    /// Of equally near ones the one that was opened first: its identity does not tell, the order in the
    /// visitor's chain would not survive a snapshot, so its opening time and then its identity decide.
    fn nearest(&self, key: &Key, time: i64) -> Option<u32> {
        let first = self.by_key.get(key).copied();
        std::iter::successors(first, |place| {
            Some(self.slots[*place as usize].sibling).filter(|next| *next != NONE)
        })
        .filter_map(|place| {
            let session = &self.slots[place as usize].session;
            session
                .distance(time)
                .map(|distance| (distance, session.opened, session.id, place))
        })
        .min()
        .map(|(_, _, _, place)| place)
    }

    fn insert(&mut self, session: Session) -> u32 {
        let key = session.key;
        self.texts += session.texts.all.len();
        let sibling = self.by_key.get(&key).copied().unwrap_or(NONE);
        let slot = Slot {
            session,
            older: NONE,
            newer: NONE,
            sibling,
        };
        let place = match self.free.pop() {
            Some(place) => {
                self.slots[place as usize] = slot;
                place
            }
            None => {
                self.slots.push(slot);
                u32::try_from(self.slots.len() - 1).unwrap_or(NONE)
            }
        };
        self.by_key.insert(key, place);
        place
    }

    fn remove(&mut self, place: u32) {
        self.unlink(place);
        let key = self.slots[place as usize].session.key;
        let sibling = self.slots[place as usize].sibling;
        match self.by_key.get(&key).copied() {
            Some(first) if first == place && sibling == NONE => {
                self.by_key.remove(&key);
            }
            Some(first) if first == place => {
                self.by_key.insert(key, sibling);
            }
            Some(mut before) => {
                while self.slots[before as usize].sibling != place {
                    before = self.slots[before as usize].sibling;
                }
                self.slots[before as usize].sibling = sibling;
            }
            None => {}
        }
        let slot = &mut self.slots[place as usize];
        slot.session.dirty = false;
        self.texts -= std::mem::take(&mut slot.session.texts).all.len();
        self.free.push(place);
    }

    fn link_newest(&mut self, place: u32) {
        let newest = std::mem::replace(&mut self.newest, place);
        self.slots[place as usize].older = newest;
        self.slots[place as usize].newer = NONE;
        if newest == NONE {
            self.oldest = place
        } else {
            self.slots[newest as usize].newer = place
        }
    }

    fn unlink(&mut self, place: u32) {
        let Slot { older, newer, .. } = self.slots[place as usize];
        if older == NONE {
            self.oldest = newer
        } else {
            self.slots[older as usize].newer = newer
        }
        if newer == NONE {
            self.newest = older
        } else {
            self.slots[newer as usize].older = older
        }
    }
}
