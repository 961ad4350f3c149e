//! Admission: one test for each rule, then properties over interleavings of two writers.

use bytes::Bytes;
use proptest::prelude::*;

use super::{Malformed, State, Verdict, Why};
use crate::{
    genesis::{Claim, Genesis, LogId},
    partition::Partition,
    record::{BATCH, Headers, JSON, Record},
    visits,
    writer::tests::commit,
};

fn genesis() -> Record {
    Genesis::new(LogId(uuid::Uuid::nil()), Partition::ledger(0), 4).to_record()
}

fn claim(owner: &str, epoch: u64) -> Record {
    Claim {
        owner: owner.to_owned(),
        time: events::Timestamp::from_micros(0).expect("in range"),
    }
    .to_record(epoch)
}

fn seal(number: u64, at: &State) -> (Record, State) {
    commit(number).prepare().expect("small").seal(at)
}

/// A partition that was claimed once.
fn begun() -> (State, Vec<Record>) {
    let log = vec![genesis(), claim("a", 1)];
    let mut state = State::default();
    assert!(matches!(state.admit(0, &log[0]), Verdict::Genesis(_)));
    assert!(matches!(state.admit(1, &log[1]), Verdict::Claimed(_)));
    (state, log)
}

fn void(state: &State, offset: u64, record: &Record) -> Why {
    let mut after = *state;
    let verdict = after.admit(offset, record);
    assert_eq!(after, *state, "a void record changes nothing");
    let Verdict::Void(why) = verdict else {
        panic!("{verdict:?}")
    };
    why
}

fn with_header(record: &Record, name: &str, value: Option<&str>) -> Record {
    let kept = record.headers.iter().filter(|(this, _)| *this != name.as_bytes());
    let added = value.map(|value| (name.as_bytes(), value.as_bytes()));
    Record {
        headers: Headers::new(kept.chain(added)),
        ..record.clone()
    }
}

#[test]
fn a_commit_of_the_current_epoch_with_the_next_number_and_the_right_hash_is_admitted() {
    let (mut state, _) = begun();
    for number in 1..=3 {
        let (record, after) = seal(number, &state);
        let Verdict::Commit(headers) = state.admit(10 + number, &record) else {
            panic!("void")
        };
        assert_eq!(
            (headers.epoch, headers.seq, headers.hash),
            (1, number, after.hash)
        );
        assert_eq!(state, after);
    }
}

#[test]
fn a_claim_counts_only_with_the_next_epoch() {
    let (state, _) = begun();
    assert_eq!(
        void(&state, 2, &claim("b", 1)),
        Why::Epoch {
            found: 1,
            expected: 2
        }
    );
    assert_eq!(
        void(&state, 2, &claim("b", 3)),
        Why::Epoch {
            found: 3,
            expected: 2
        }
    );
    let mut state = state;
    let verdict = state.admit(2, &claim("b", 2));
    let Verdict::Claimed(claimed) = verdict else {
        panic!("{verdict:?}")
    };
    assert_eq!(
        (claimed.epoch, claimed.claim.map(|claim| claim.owner)),
        (2, Some("b".to_owned()))
    );
    assert_eq!((state.epoch, state.seq), (2, 0));
}

#[test]
fn an_old_epoch_a_used_number_a_skipped_number_and_a_wrong_hash_are_void() {
    let (state, _) = begun();
    let (first, after) = seal(1, &state);
    assert_eq!(
        void(&after, 3, &first),
        Why::Seq {
            found: 1,
            expected: 2
        }
    );
    let (second, _) = seal(2, &after);
    assert_eq!(
        void(&state, 3, &second),
        Why::Seq {
            found: 2,
            expected: 1
        }
    );
    let mut next = after;
    next.admit(3, &claim("b", 2));
    assert_eq!(
        void(&next, 4, &second),
        Why::Epoch {
            found: 1,
            expected: 2
        }
    );
    let edited = Record {
        value: Bytes::from_static(b"[]"),
        ..first.clone()
    };
    assert_eq!(void(&state, 2, &edited), Why::Hash);
    let elsewhere = State {
        hash: crate::Hash([1; 32]),
        ..state
    };
    assert_eq!(void(&elsewhere, 2, &first), Why::Hash);
}

/// An append that failed leaves a gap in the numbers, and what was under way behind it; a commit that was taken out of
/// the log leaves all that its epoch brought after it.
#[test]
fn a_number_far_ahead_of_what_is_admitted_is_no_failed_append() {
    let (state, _) = begun();
    let ahead = |numbers: u64| Why::Seq {
        found: 2 + numbers,
        expected: 2,
    };
    assert!(!ahead(8_192).is_damage());
    assert!(ahead(100_000).is_damage());
    let mut lost = state;
    let (_, mut tail) = seal(1, &state);
    for number in 2..20_000 {
        let (record, after) = seal(number, &tail);
        tail = after;
        let Verdict::Void(why) = lost.admit(number + 10, &record) else {
            panic!("admitted")
        };
        assert_eq!(why.is_damage(), number > 1 + 4 * 4_096, "{why}");
    }
}

#[test]
fn nothing_counts_before_the_genesis_and_no_second_one_after_it() {
    let fresh = State::default();
    // With epoch 0 and number 1 this would follow, were there a genesis; the headers forbid an epoch of 0.
    let (record, _) = seal(1, &fresh);
    assert!(matches!(
        void(&fresh, 0, &record),
        Why::Malformed(Malformed::Form {
            header: "annals-epoch",
            ..
        })
    ));
    assert!(matches!(void(&fresh, 0, &claim("a", 1)), Why::Genesis(_)));
    assert!(matches!(void(&fresh, 1, &genesis()), Why::Genesis(_)));
    let (state, _) = begun();
    assert!(matches!(void(&state, 0, &genesis()), Why::Genesis(_)));
}

#[test]
fn headers_have_one_form() {
    let (state, _) = begun();
    let (record, _) = seal(1, &state);
    for (header, value) in [
        ("annals-epoch", "01"),
        ("annals-epoch", "+1"),
        ("annals-epoch", ""),
        ("annals-seq", "0"),
        ("annals-seq", "18446744073709551616"),
        ("annals-tenant-seq", "1 "),
        ("annals-kind", "Commit"),
        ("content-type", JSON),
        ("annals-command", "key=00;request=00"),
        ("annals-hash", "AA"),
    ] {
        let changed = with_header(&record, header, Some(value));
        let found = value.to_owned();
        assert_eq!(
            void(&state, 2, &changed),
            Why::Malformed(Malformed::Form { header, found })
        );
    }
    for header in [
        "annals-epoch",
        "annals-seq",
        "annals-tenant-seq",
        "annals-kind",
        "content-type",
        "annals-hash",
    ] {
        assert_eq!(
            void(&state, 2, &with_header(&record, header, None)),
            Why::Malformed(Malformed::Missing(header))
        );
    }
    let twice = Headers::new(
        record
            .headers
            .iter()
            .chain([(b"annals-seq".as_slice(), b"1".as_slice())]),
    );
    let twice = Record {
        headers: twice,
        ..record
    };
    assert_eq!(
        void(&state, 2, &twice),
        Why::Malformed(Malformed::Twice("annals-seq"))
    );
    let numbered = with_header(&claim("b", 2), "annals-seq", Some("1"));
    assert_eq!(
        void(&state, 2, &numbered),
        Why::Malformed(Malformed::OutOfPlace("annals-seq"))
    );
}

#[test]
fn headers_of_others_and_the_order_of_headers_do_not_matter() {
    let (state, _) = begun();
    let (record, after) = seal(1, &state);
    let mut all: Vec<_> = record.headers.iter().collect();
    all.reverse();
    all.push((b"x-mirrored-by", b"\xff\x00"));
    let moved = Record {
        headers: Headers::new(all),
        ..record
    };
    let mut state = state;
    assert!(matches!(state.admit(2, &moved), Verdict::Commit(_)));
    assert_eq!(state, after);
}

#[test]
fn garbage_is_void_and_visits_belong_elsewhere() {
    let (state, _) = begun();
    assert_eq!(
        void(&state, 2, &Record::default()),
        Why::Malformed(Malformed::Missing("annals-kind"))
    );
    let visits = visits::encode(commit(1).tenant, &commit(1).events);
    assert_eq!(void(&state, 2, &visits), Why::Topic);
    assert_eq!(visits::admit(5, &visits), Verdict::Visits);
    assert_eq!(visits::admit(5, &claim("a", 1)), Verdict::Void(Why::Topic));
    assert!(matches!(
        visits::admit(0, &visits),
        Verdict::Void(Why::Genesis(_))
    ));
    let batch = Headers::new([(b"content-type".as_slice(), BATCH.as_bytes())]);
    let unkind = Record {
        headers: batch,
        ..Record::default()
    };
    assert!(matches!(
        visits::admit(5, &unkind),
        Verdict::Void(Why::Malformed(Malformed::Missing("annals-kind")))
    ));
}

/// What two writers may do to a partition, rules or no rules.
#[derive(Debug, Clone)]
enum Step {
    /// Claims the epoch after the one that the writer knows of.
    Claim(usize),
    /// Appends the next commit of what the writer believes.
    Commit(usize),
    /// Learns what is in history.
    Learn(usize),
    /// An earlier record lands again.
    Again(usize),
    /// Somebody's garbage.
    Garbage(Vec<u8>),
}

fn steps() -> impl Strategy<Value = Vec<(Step, usize)>> {
    let step = prop_oneof![
        1 => (0..2_usize).prop_map(Step::Claim),
        8 => (0..2_usize).prop_map(Step::Commit),
        2 => (0..2_usize).prop_map(Step::Learn),
        2 => any::<usize>().prop_map(Step::Again),
        1 => prop::collection::vec(any::<u8>(), 0..20).prop_map(Step::Garbage),
    ];
    // Beside each step, by how much its record is delayed.
    prop::collection::vec((step, 0..6_usize), 0..120)
}

/// The log that these steps leave.
fn log(steps: Vec<(Step, usize)>) -> Vec<Record> {
    let (state, mut log) = begun();
    let mut believed = [state; 2];
    let mut delayed: Vec<(usize, Record)> = Vec::new();
    let mut number = 0;
    for (now, (step, delay)) in steps.into_iter().enumerate() {
        let record = match step {
            Step::Claim(who) => {
                let epoch = believed[who].epoch + 1;
                let record = claim(["a", "b"][who], epoch);
                believed[who] = State {
                    epoch,
                    seq: 0,
                    hash: believed[who].hash.then(&record),
                };
                record
            }
            Step::Commit(who) => {
                number += 1;
                let (record, after) = seal(number, &believed[who]);
                believed[who] = after;
                record
            }
            Step::Learn(who) => {
                believed[who] = fold(&log).0;
                continue;
            }
            Step::Again(which) => log[which % log.len()].clone(),
            Step::Garbage(bytes) => Record {
                value: bytes.into(),
                ..Record::default()
            },
        };
        delayed.push((now + delay, record));
        log.extend(
            delayed
                .extract_if(.., |(due, _)| *due <= now)
                .map(|(_, record)| record),
        );
    }
    log.extend(delayed.into_iter().map(|(_, record)| record));
    log
}

/// Admission from zero: the state, and the offsets of admitted records.
fn fold(log: &[Record]) -> (State, Vec<u64>) {
    let mut state = State::default();
    let admitted = (0..)
        .zip(log)
        .filter(|(offset, record)| !matches!(state.admit(*offset, record), Verdict::Void(_)))
        .map(|(offset, _)| offset)
        .collect();
    (state, admitted)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_interleaving_gives_one_history_whose_epochs_have_one_writer_each(steps in steps()) {
        let log = log(steps);
        let mut state = State::default();
        let mut owner = None;
        let mut last = (0, 0);
        for (offset, record) in (0..).zip(&log) {
            match state.admit(offset, record) {
                Verdict::Claimed(claimed) => {
                    prop_assert_eq!(claimed.epoch, last.0 + 1);
                    last = (claimed.epoch, 0);
                    owner = claimed.claim;
                }
                Verdict::Commit(commit) => {
                    prop_assert!(owner.is_some());
                    prop_assert_eq!((commit.epoch, commit.seq), (last.0, last.1 + 1));
                    last = (commit.epoch, commit.seq);
                }
                Verdict::Genesis(_) => prop_assert_eq!(offset, 0),
                Verdict::Visits => prop_assert!(false, "no visits here"),
                Verdict::Void(_) => {}
            }
        }
    }

    #[test]
    fn folding_on_from_a_saved_state_equals_folding_from_zero(steps in steps(), cut in any::<prop::sample::Index>()) {
        let log = log(steps);
        let cut = cut.index(log.len() + 1);
        let (saved, mut admitted) = fold(&log[..cut]);
        let text = serde_json::to_string(&saved).expect("saved");
        let mut state: State = serde_json::from_str(&text).expect("loaded");
        prop_assert_eq!(state, saved);
        for (offset, record) in (cut as u64..).zip(&log[cut..]) {
            if !matches!(state.admit(offset, record), Verdict::Void(_)) {
                admitted.push(offset);
            }
        }
        prop_assert_eq!((state, admitted), fold(&log));
    }

    #[test]
    fn what_is_void_may_as_well_not_be_there(steps in steps()) {
        let log = log(steps);
        let (state, admitted) = fold(&log);
        let kept: Vec<_> = admitted.iter().map(|offset| log[*offset as usize].clone()).collect();
        let (again, all) = fold(&kept);
        prop_assert_eq!(again, state);
        prop_assert_eq!(all.len(), kept.len());
    }

    #[test]
    fn a_truncated_edited_or_reordered_log_is_noticed(
        steps in steps(),
        place in any::<prop::sample::Index>(),
        tamper in 0..4_u8,
    ) {
        let log = log(steps);
        let (state, admitted) = fold(&log);
        let kept: Vec<_> = admitted.iter().map(|offset| log[*offset as usize].clone()).collect();
        let place = place.index(kept.len());
        let mut tampered = kept.clone();
        match tamper {
            0 => tampered.truncate(place),
            1 => { tampered.remove(place); }
            2 => {
                let mut value = tampered[place].value.to_vec();
                let middle = value.len() / 2;
                value[middle] ^= 1;
                tampered[place].value = value.into();
            }
            _ => {
                let other = (place + 1) % kept.len();
                prop_assume!(kept[place] != kept[other]);
                tampered.swap(place, other);
            }
        }
        prop_assert_ne!(fold(&tampered).0.hash, state.hash);
    }
}
