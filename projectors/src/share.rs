//! Who fills what, where several projectors run on the same tables.
//!
//! Each says once a second that it is there and hears who else is ([`read_models::members`]), and works out alone what
//! that makes its own: of each unit the living projector with the highest weight (rendezvous hashing: Thaler and
//! Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", 1998). So whoever comes or goes moves only what it
//! gets or had. Nothing rests on it: of two that believe the same, fences let one write.

use std::{future::Future, hash::Hasher as _, time::Duration};

use event_log::Partition;
use read_models::{
    Error, Projection,
    members::{Member, Presence},
};
use service::health::Health;
use siphasher::sip::SipHasher13;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::runner::feed::chain;

/// How often a projector says that it is there.
const BEAT: Duration = Duration::from_secs(1);

/// How long it waits for an answer to that.
const PATIENCE: Duration = Duration::from_secs(3);

/// After which silence others do its work, and after which when its connection is gone too, as that of a process that
/// was killed. (A connection may also be lost by chance: it is made anew at the next beat.)
const SESSION: Duration = Duration::from_secs(6);
const CUT_OFF: Duration = Duration::from_secs(2);

/// How long one that could not be heard of leaves everything as it was: others could not be heard of either, perhaps.
const SETTLING: Duration = Duration::from_secs(3);

/// The name under which health says whether it is heard of.
const NAME: &str = "other projectors";

/// A part of a generation that one projector fills at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unit {
    /// One partition.
    Partition(u32),
    /// All of them; and what is done once: proof, switch, indexes.
    Whole,
}

/// Who is there, as far as this process knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Share {
    me: Uuid,
    /// Nobody before the first of them was heard of; with this one from then on.
    members: Vec<Member>,
}

impl Unit {
    /// The units that a generation is filled in. A block in ClickHouse covers ranges of all partitions, and is recorded
    /// as one insert: whoever completes it after a crash must hold them all.
    pub(crate) fn of(
        projection: Projection,
        partitions: impl Iterator<Item = Partition>,
    ) -> impl Iterator<Item = Self> {
        let (each, whole) = match projection {
            Projection::Directory | Projection::Content | Projection::Downloads => (Some(partitions), None),
            Projection::Visits | Projection::ContentFacts => (None, Some(Self::Whole)),
        };
        let each = each.into_iter().flatten();
        each.map(|partition| Self::Partition(partition.index))
            .chain(whole)
    }

    /// Whether it has this partition.
    pub(crate) fn has(self, partition: Partition) -> bool {
        match self {
            Self::Partition(index) => partition.index == index,
            Self::Whole => true,
        }
    }
}

impl Share {
    /// Nobody was heard of yet, so nothing is ours.
    pub(crate) const fn unknown(me: Uuid) -> Self {
        Self {
            me,
            members: Vec::new(),
        }
    }

    /// With these others.
    pub(crate) fn with(me: &Member, mut others: Vec<Member>) -> Self {
        others.push(me.clone());
        Self {
            me: me.id,
            members: others,
        }
    }

    /// Whether a unit of a generation that this fold made is this process's.
    pub(crate) fn is_ours(&self, of: (Projection, i32), hash: &str, unit: Unit) -> bool {
        owner(&self.members, of, hash, unit) == Some(self.me)
    }
}

/// Whose a unit is: none, when nobody makes such tables.
fn owner(members: &[Member], of: (Projection, i32), hash: &str, unit: Unit) -> Option<Uuid> {
    let able = members.iter().filter(|member| member.fills(of.0, hash));
    able.map(|member| member.id)
        .max_by_key(|id| (weight(*id, of, unit), *id))
}

/// The same in every build and release, or two of them would both leave a unit to the other.
fn weight(member: Uuid, (projection, generation): (Projection, i32), unit: Unit) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(member.as_bytes());
    hasher.write(projection.name().as_bytes());
    hasher.write(&generation.to_be_bytes());
    match unit {
        Unit::Partition(index) => hasher.write(&index.to_be_bytes()),
        Unit::Whole => hasher.write(b"whole"),
    }
    hasher.finish()
}

/// Says that this projector is there and keeps `share` as it hears, until `done`; then says that it is gone.
pub(crate) async fn attend(
    me: Member,
    mut presence: Presence,
    share: watch::Sender<Share>,
    health: Health,
    done: CancellationToken,
) {
    let mut hearing = Hearing::default();
    loop {
        match in_time(presence.tell(SESSION, CUT_OFF)).await {
            Ok(others) => {
                health.forget(NAME);
                if hearing.counts(Instant::now()) {
                    hear(&share, Share::with(&me, others));
                }
            }
            Err(error) => {
                if hearing.is_lost() {
                    tracing::warn!(
                        error,
                        "other projectors are not told that this one is there: retrying"
                    );
                }
                health.degraded(
                    NAME,
                    "they are not told that this one is there, and may do its work; retrying",
                );
            }
        }
        if done.run_until_cancelled(tokio::time::sleep(BEAT)).await.is_none() {
            break;
        }
    }
    if let Err(error) = in_time(presence.leave()).await {
        tracing::debug!(error, "other projectors are not told that this one is gone");
    }
}

/// How well others are heard of.
#[derive(Debug, Default)]
struct Hearing {
    /// When they last were.
    last: Option<Instant>,
    /// Not since then, though asked for.
    lost: bool,
    /// Until when what is heard does not count.
    settling: Option<Instant>,
}

impl Hearing {
    /// They are heard of: whether that counts.
    fn counts(&mut self, now: Instant) -> bool {
        // Whatever kept this one from being heard may have kept others, who are still at work.
        if self
            .last
            .is_some_and(|last| self.lost || now.duration_since(last) > SESSION)
        {
            self.settling = Some(now + SETTLING);
        }
        (self.last, self.lost) = (Some(now), false);
        self.settling.is_none_or(|until| now >= until)
    }

    /// They are not heard of: whether they were until now.
    fn is_lost(&mut self) -> bool {
        !std::mem::replace(&mut self.lost, true)
    }
}

fn hear(share: &watch::Sender<Share>, heard: Share) {
    share.send_if_modified(|known| {
        let changed = *known != heard;
        if changed {
            let projectors = heard.members.len();
            tracing::info!(projectors, "so many projectors share the work");
            *known = heard;
        }
        changed
    });
}

async fn in_time<T>(asked: impl Future<Output = Result<T, Error>>) -> Result<T, String> {
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(answer) => answer.map_err(|error| chain(&error)),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const PARTITIONS: u32 = 16;

    fn member(id: u128, hash: u8) -> Member {
        let fills = Projection::ALL.map(|it| (it.name().to_owned(), hash.to_string()));
        Member {
            id: Uuid::from_u128(id),
            fills: BTreeMap::from(fills),
        }
    }

    fn members() -> impl Strategy<Value = Vec<Member>> {
        let some = prop::collection::btree_map(any::<u128>(), 0..2_u8, 1..8);
        some.prop_map(|some| some.into_iter().map(|(id, hash)| member(id, hash)).collect())
    }

    /// Every unit of two generations of every projection, with the hash of the fold that made it.
    fn units() -> Vec<((Projection, i32), &'static str, Unit)> {
        let mut units = Vec::new();
        for projection in Projection::ALL {
            for (generation, hash) in [(1, "0"), (2, "1")] {
                let partitions = (0..PARTITIONS).map(Partition::ledger);
                let each = Unit::of(projection, partitions).chain([Unit::Whole]);
                units.extend(each.map(|unit| ((projection, generation), hash, unit)));
            }
        }
        units
    }

    proptest! {
        #[test]
        fn every_unit_has_one_owner_of_its_release_on_which_all_agree(members in members()) {
            for (of, hash, unit) in units() {
                let believers: Vec<&Member> = members
                    .iter()
                    .filter(|me| {
                        let others = members.iter().rev().filter(|it| it.id != me.id).cloned();
                        Share::with(me, others.collect()).is_ours(of, hash, unit)
                    })
                    .collect();
                let able = members.iter().any(|it| it.fills(of.0, hash));
                prop_assert_eq!(believers.len(), usize::from(able), "{:?} {:?}", of, unit);
                prop_assert!(believers.iter().all(|it| it.fills(of.0, hash)));
            }
        }

        #[test]
        fn whoever_comes_or_goes_moves_only_what_is_its_own(members in members(), which: prop::sample::Index) {
            let one = which.get(&members).clone();
            let mut others = members.clone();
            others.retain(|it| it.id != one.id);
            for (of, hash, unit) in units() {
                let (with, without) = (owner(&members, of, hash, unit), owner(&others, of, hash, unit));
                prop_assert!(with == without || with == Some(one.id), "{:?} {:?}", of, unit);
            }
        }
    }

    #[test]
    fn work_is_dealt_about_evenly() {
        let members: Vec<Member> = (1..=4).map(|id| member(id * 0x9e37_79b9, 0)).collect();
        let mut counts = BTreeMap::new();
        for partition in 0..4_000 {
            let unit = Unit::Partition(partition);
            *counts
                .entry(owner(&members, (Projection::Content, 1), "0", unit))
                .or_insert(0) += 1;
        }
        assert!(
            counts.len() == 4 && counts.values().all(|count| (850..1_150).contains(count)),
            "{counts:?}"
        );
    }

    /// Another number here means that releases disagree about who fills what, side by side.
    #[test]
    fn a_weight_is_the_same_for_ever() {
        let of = (Projection::Content, 3);
        let id = Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        assert_eq!(weight(id, of, Unit::Partition(7)), 15_285_507_579_236_309_667);
        assert_eq!(weight(id, of, Unit::Whole), 9_563_090_649_002_525_371);
    }

    /// As above: also which of the weights counts is the same in every release.
    #[test]
    fn an_owner_is_the_same_for_ever() {
        let members: Vec<Member> = (1..=3).map(|id| member(id, 0)).collect();
        let owners = (0..12).map(|partition| {
            let unit = Unit::Partition(partition);
            let owner = owner(&members, (Projection::Content, 3), "0", unit).unwrap();
            owner.as_u128()
        });
        assert_eq!(owners.collect::<Vec<_>>(), [1, 1, 2, 2, 3, 3, 2, 3, 1, 3, 1, 2]);
    }

    #[test]
    fn every_partition_is_in_one_unit_and_blocks_of_all_are_one() {
        for projection in Projection::ALL {
            let partitions = || (0..PARTITIONS).map(Partition::ledger);
            let units: Vec<_> = Unit::of(projection, partitions()).collect();
            for partition in partitions() {
                let having = units.iter().filter(|unit| unit.has(partition)).count();
                assert_eq!(having, 1, "{projection} {partition}");
            }
            let whole = matches!(projection, Projection::Visits | Projection::ContentFacts);
            assert_eq!(
                units.len(),
                if whole { 1 } else { PARTITIONS as usize },
                "{projection}"
            );
        }
    }

    #[test]
    fn who_could_not_be_heard_of_leaves_everything_as_it_was_for_a_while() {
        let (mut hearing, begin) = (Hearing::default(), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        // Nobody's work is taken before the first answer.
        assert!(hearing.is_lost() && hearing.counts(at(0)) && hearing.counts(at(1)));
        assert!(hearing.is_lost() && !hearing.is_lost(), "it is new once");
        for (second, counts) in [(2, false), (3, false), (4, false), (5, true), (6, true)] {
            assert_eq!(hearing.counts(at(second)), counts, "{second}");
        }
        // It was frozen, and did not notice.
        for (second, counts) in [(13, false), (15, false), (16, true), (22, true)] {
            assert_eq!(hearing.counts(at(second)), counts, "{second}");
        }
    }

    #[test]
    fn before_anybody_was_heard_of_nothing_is_ours() {
        let share = Share::unknown(Uuid::from_u128(1));
        assert!(!share.is_ours((Projection::Content, 1), "0", Unit::Whole));
    }
}
