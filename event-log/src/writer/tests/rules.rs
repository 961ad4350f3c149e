//! One test for each rule of a writer.

use events::{Envelope, EventId, Recorded, TenantId, directory::TenantCreated};
use uuid::Uuid;

use crate::{
    admission::State,
    commit::Commit,
    genesis::{Claim, Genesis, LogId},
    hash::Hash,
    log::{AppendError, ReadError},
    partition::{Offset, Partition},
    record::Record,
    writer::{Down, Effect, Writer},
};

/// A commit of one event that carries this number.
pub(crate) fn commit(number: u64) -> Commit {
    let tenant = TenantId::new(Uuid::from_u128(7));
    let envelope = Envelope {
        id: EventId::new(Uuid::from_u128(u128::from(number))),
        subject: tenant.to_string(),
        time: events::Timestamp::from_micros(0).expect("in range"),
        tenant,
        aggregate_version: Some(1),
        actor: None,
        causation: None,
        correlation: None,
        traceparent: None,
    };
    let event = TenantCreated { name: "a".to_owned() }.into();
    Commit {
        tenant,
        tenant_seq: 1,
        command: None,
        events: vec![Recorded { envelope, event }],
    }
}

fn claim(owner: &str, epoch: u64) -> Record {
    let time = events::Timestamp::from_micros(0).expect("in range");
    Claim {
        owner: owner.to_owned(),
        time,
    }
    .to_record(epoch)
}

/// A writer, and a log that does what the test says.
struct Bench {
    writer: Writer<u64>,
    log: Vec<Record>,
}

impl Bench {
    fn new() -> Self {
        let genesis = Genesis::new(LogId(Uuid::nil()), Partition::ledger(0), 1).to_record();
        Self {
            writer: Writer::new("me", 0, State::default()),
            log: vec![genesis],
        }
    }

    fn serving() -> Self {
        let mut bench = Self::new();
        bench.writer.assigned();
        bench.answer_end();
        bench.feed();
        let effects = bench.effects();
        let Some(&Effect::AppendClaim { id, epoch }) = effects.last() else {
            panic!("{effects:?}")
        };
        let at = bench.land(claim("me", epoch));
        bench.writer.appended(id, Ok(at));
        bench.feed();
        assert_eq!(bench.effects().last(), Some(&Effect::Serving { epoch: 1 }));
        bench
    }

    fn effects(&mut self) -> Vec<Effect<u64>> {
        std::iter::from_fn(|| self.writer.effect()).collect()
    }

    fn land(&mut self, record: Record) -> Offset {
        self.log.push(record);
        self.log.len() as Offset - 1
    }

    fn append(&mut self, number: u64) -> (u64, Record) {
        self.writer
            .append(commit(number).prepare().expect("small"), number)
            .expect("serving");
        let effects = self.effects();
        let [Effect::AppendCommit { id, record }] = &effects[..] else {
            panic!("{effects:?}")
        };
        (*id, record.clone())
    }

    fn answer_end(&mut self) {
        for effect in self.effects() {
            if let Effect::ReadEnd { query, .. } = effect {
                self.writer.ended(query, Ok(self.log.len() as Offset));
            }
        }
    }

    fn feed(&mut self) {
        while let Some(to) = self.writer.wanted() {
            let next = self.writer.admitted().0;
            assert!(to <= self.log.len() as Offset, "wants {to}, which is not there");
            self.writer.read(next, &self.log[next as usize].clone());
        }
    }
}

fn unknown() -> Result<Offset, AppendError> {
    Err(AppendError::Unknown("timed out".to_owned()))
}

#[test]
fn rule_1_it_folds_first_and_serves_only_once_its_claim_is_read() {
    let mut bench = Bench::new();
    bench.writer.assigned();
    assert!(matches!(bench.effects()[..], [Effect::ReadEnd { .. }]));
    let mut bench = Bench::new();
    bench.writer.assigned();
    bench.answer_end();
    assert!(matches!(bench.effects()[..], [Effect::ReadTo { from: 0, to: 1 }]));
    bench.feed();
    let effects = bench.effects();
    let Some(&Effect::AppendClaim { id, epoch: 1 }) = effects.last() else {
        panic!("{effects:?}")
    };
    let at = bench.land(claim("me", 1));
    bench.writer.appended(id, Ok(at));
    assert!(!bench.writer.is_serving(), "the claim was not read yet");
    bench.feed();
    assert!(bench.writer.is_serving());
}

#[test]
fn rule_1_a_claim_that_another_beat_is_not_served() {
    let mut bench = Bench::new();
    bench.writer.assigned();
    bench.answer_end();
    bench.feed();
    let effects = bench.effects();
    let Some(Effect::AppendClaim { id, epoch: 1 }) = effects.last() else {
        panic!("{effects:?}")
    };
    bench.land(claim("other", 1));
    let at = bench.land(claim("me", 1));
    bench.writer.appended(*id, Ok(at));
    bench.feed();
    assert_eq!(
        bench.writer.down(),
        Some(&Down::ClaimVoid {
            epoch: 1,
            owner: Some("other".to_owned())
        })
    );
}

#[test]
fn rule_2_a_failed_append_ends_the_epoch_even_when_it_is_definite() {
    for error in [
        AppendError::Not("full".to_owned()),
        AppendError::Unknown("timed out".to_owned()),
    ] {
        let mut bench = Bench::serving();
        let (id, _) = bench.append(1);
        bench.writer.appended(id, Err(error));
        assert!(!bench.writer.is_serving());
        let effects = bench.effects();
        assert!(
            matches!(
                effects[..],
                [Effect::Recovering { .. }, Effect::AppendClaim { epoch: 2, .. }]
            ),
            "{effects:?}"
        );
    }
}

#[test]
fn rule_3_the_head_of_the_queue_is_acknowledged_when_its_offset_follows() {
    let mut bench = Bench::serving();
    let ((first, a), (second, b)) = (bench.append(1), bench.append(2));
    let (a, b) = (bench.land(a), bench.land(b));
    bench.writer.appended(second, Ok(b));
    assert_eq!(bench.effects(), [], "the head has not reported");
    bench.writer.appended(first, Ok(a));
    let done = [
        Effect::Acknowledge { ticket: 1, offset: a },
        Effect::Acknowledge { ticket: 2, offset: b },
    ];
    assert_eq!(bench.effects(), done);
}

#[test]
fn rule_3_a_gap_is_read_and_admission_decides() {
    let mut bench = Bench::serving();
    let (id, record) = bench.append(1);
    bench.land(Record::default()); // someone's garbage
    let at = bench.land(record);
    bench.writer.appended(id, Ok(at));
    assert_eq!(
        bench.effects(),
        [Effect::ReadTo { from: 2, to: 4 }],
        "not acknowledged before the gap is read"
    );
    bench.feed();
    let effects = bench.effects();
    assert!(
        matches!(
            effects[..],
            [
                Effect::Void { offset: 2, .. },
                Effect::Acknowledge { ticket: 1, offset: 3 }
            ]
        ),
        "{effects:?}"
    );
}

#[test]
fn rule_3_a_claim_in_the_gap_means_that_nothing_is_acknowledged() {
    let mut bench = Bench::serving();
    let (id, record) = bench.append(1);
    bench.land(claim("other", 2));
    let at = bench.land(record);
    bench.writer.appended(id, Ok(at));
    bench.feed();
    let effects = bench.effects();
    assert!(
        !effects
            .iter()
            .any(|effect| matches!(effect, Effect::Acknowledge { .. })),
        "{effects:?}"
    );
    assert!(
        effects.contains(&Effect::Refuse {
            ticket: 1,
            unknown: false
        }),
        "{effects:?}"
    );
    assert_eq!(
        bench.writer.down(),
        Some(&Down::HigherEpoch {
            epoch: 2,
            owner: Some("other".to_owned())
        })
    );
}

#[test]
fn rule_4_after_an_unknown_outcome_the_log_says_what_happened() {
    let mut bench = Bench::serving();
    let ((first, a), (second, _), (third, c)) = (bench.append(1), bench.append(2), bench.append(3));
    let a = bench.land(a); // it landed though nobody said so; the second was lost
    bench.writer.appended(first, unknown());
    let effects = bench.effects();
    let Some(Effect::AppendClaim { id, epoch: 2 }) = effects.last() else {
        panic!("{effects:?}")
    };
    let third_at = bench.land(c);
    bench.writer.appended(second, unknown());
    bench.writer.appended(third, Ok(third_at));
    assert_eq!(
        bench.effects(),
        [],
        "nothing is answered before the claim is read"
    );
    let at = bench.land(claim("me", 2));
    bench.writer.appended(*id, Ok(at));
    bench.feed();
    let effects = bench.effects();
    let told: Vec<_> = effects
        .iter()
        .filter(|effect| !matches!(effect, Effect::ReadTo { .. } | Effect::Void { .. }))
        .collect();
    assert_eq!(
        told,
        [
            &Effect::Acknowledge { ticket: 1, offset: a },
            &Effect::Forget { next: at + 1 },
            &Effect::Serving { epoch: 2 },
            &Effect::Redecide { ticket: 2 },
            &Effect::Redecide { ticket: 3 },
        ]
    );
}

#[test]
fn rule_4_a_claim_whose_outcome_is_unknown_is_claimed_again_after_reading() {
    let mut bench = Bench::serving();
    let (id, _) = bench.append(1);
    bench.writer.appended(id, unknown());
    let effects = bench.effects();
    let Some(Effect::AppendClaim { id: lost, .. }) = effects.last() else {
        panic!("{effects:?}")
    };
    bench.writer.appended(*lost, unknown());
    bench.answer_end();
    let effects = bench.effects();
    let Some(Effect::AppendClaim { id, epoch: 2 }) = effects.last() else {
        panic!("{effects:?}")
    };
    // Now the first claim arrives after all, before the second: it is our own, so we claim a third time.
    bench.land(claim("me", 2));
    let at = bench.land(claim("me", 2));
    bench.writer.appended(*id, Ok(at));
    bench.feed();
    let effects = bench.effects();
    let Some(Effect::AppendClaim { id, epoch: 3 }) = effects.last() else {
        panic!("{effects:?}")
    };
    let at = bench.land(claim("me", 3));
    bench.writer.appended(*id, Ok(at));
    bench.feed();
    assert!(bench.effects().contains(&Effect::Redecide { ticket: 1 }));
}

#[test]
fn rule_5_an_answer_waits_for_what_it_was_decided_on_and_for_the_end() {
    let mut bench = Bench::serving();
    let (id, record) = bench.append(1);
    bench.writer.hold(2).expect("serving");
    let at = bench.land(record);
    bench.answer_end();
    assert_eq!(bench.effects(), [], "the commit before it is not admitted yet");
    bench.writer.appended(id, Ok(at));
    let done = [
        Effect::Acknowledge {
            ticket: 1,
            offset: at,
        },
        Effect::Answer {
            ticket: 2,
            next: at + 1,
        },
    ];
    assert_eq!(bench.effects(), done);
}

#[test]
fn rule_5_a_read_that_began_before_the_request_proves_nothing_for_it() {
    let mut bench = Bench::serving();
    bench.writer.hold(1).expect("serving");
    let effects = bench.effects();
    let [Effect::ReadEnd { query, .. }] = effects[..] else {
        panic!("{effects:?}")
    };
    bench.writer.hold(2).expect("serving");
    bench.writer.hold(3).expect("serving");
    assert_eq!(bench.effects(), [], "one read at a time");
    bench.writer.ended(query, Ok(2));
    let effects = bench.effects();
    let [
        Effect::ReadEnd { query, .. },
        Effect::Answer { ticket: 1, next: 2 },
    ] = effects[..]
    else {
        panic!("{effects:?}")
    };
    bench.writer.ended(query, Ok(2));
    let both = [
        Effect::Answer { ticket: 2, next: 2 },
        Effect::Answer { ticket: 3, next: 2 },
    ];
    assert_eq!(bench.effects(), both, "one read serves all that wait");
}

#[test]
fn rule_5_an_end_beyond_our_own_is_read_before_the_answer() {
    let mut bench = Bench::serving();
    bench.writer.hold(1).expect("serving");
    bench.land(claim("other", 2));
    bench.answer_end();
    assert_eq!(bench.effects(), [Effect::ReadTo { from: 2, to: 3 }]);
    bench.feed();
    assert!(bench.effects().contains(&Effect::Refuse {
        ticket: 1,
        unknown: false
    }));
}

#[test]
fn claims_that_fail_again_and_again_are_made_with_more_patience_each_time() {
    let mut bench = Bench::new();
    bench.writer.assigned();
    let mut attempts = Vec::new();
    for _ in 0..5 {
        let effects = bench.effects();
        let Some(&Effect::ReadEnd { query, attempt }) = effects.last() else {
            panic!("{effects:?}")
        };
        attempts.push(attempt);
        bench.writer.ended(query, Ok(1));
        bench.feed();
        let effects = bench.effects();
        let Some(&Effect::AppendClaim { id, .. }) = effects.last() else {
            panic!("{effects:?}")
        };
        bench
            .writer
            .appended(id, Err(AppendError::Not("stopped".to_owned())));
    }
    assert_eq!(attempts, [0, 1, 2, 3, 4]);
}

#[test]
fn an_offset_without_a_record_does_not_hold_it_up() {
    let mut bench = Bench::new();
    bench.writer.assigned();
    let effects = bench.effects();
    let Some(&Effect::ReadEnd { query, .. }) = effects.last() else {
        panic!("{effects:?}")
    };
    // The genesis, and a stranger's transaction marker.
    bench.writer.ended(query, Ok(2));
    bench.writer.read(0, &bench.log[0]);
    assert_eq!(bench.writer.wanted(), Some(2));
    bench.writer.passed(2);
    let effects = bench.effects();
    assert!(
        matches!(effects.last(), Some(Effect::AppendClaim { epoch: 1, .. })),
        "{effects:?}"
    );
    assert_eq!(bench.writer.admitted().0, 2);
}

#[test]
fn rule_6_after_stepping_down_it_claims_only_when_it_is_assigned_again() {
    let mut bench = Bench::serving();
    bench.land(claim("other", 2));
    bench.writer.hold(1).expect("serving");
    bench.answer_end();
    bench.feed();
    assert!(bench.writer.down().is_some());
    assert!(
        bench
            .writer
            .append(commit(1).prepare().expect("small"), 1)
            .is_err()
    );
    bench.effects();
    bench.writer.assigned();
    bench.answer_end();
    let effects = bench.effects();
    assert!(
        matches!(effects[..], [Effect::AppendClaim { epoch: 3, .. }]),
        "{effects:?}"
    );
}

#[test]
fn rule_7_what_cannot_be_read_gives_the_partition_up() {
    let mut bench = Bench::serving();
    bench.writer.unreadable("content.teleported.v1");
    assert_eq!(
        bench.writer.down(),
        Some(&Down::Unreadable("content.teleported.v1".to_owned()))
    );
}

#[test]
fn rule_7_nothing_is_written_on_top_of_damage_unless_a_person_has_accepted_it() {
    let mut begun = Bench::new();
    begun.land(claim("other", 1));
    let mut state = State::default();
    for (offset, record) in (0..).zip(&begun.log) {
        state.admit(offset, record);
    }
    let of_another_history = State {
        hash: Hash([9; 32]),
        ..state
    };
    let of_an_epoch_that_nobody_began = State { epoch: 5, ..state };
    for wrong in [of_another_history, of_an_epoch_that_nobody_began] {
        let (record, _) = commit(1).prepare().expect("small").seal(&wrong);
        let claims = |writer: Writer<u64>| {
            let log = [begun.log.clone(), vec![record.clone(), claim("late", 1)]].concat();
            let mut bench = Bench { writer, log };
            bench.writer.assigned();
            bench.answer_end();
            bench.feed();
            let claims = |effect: &Effect<u64>| matches!(effect, Effect::AppendClaim { epoch: 2, .. });
            (bench.effects().iter().any(claims), bench.writer)
        };
        let (claimed, writer) = claims(Writer::new("me", 0, State::default()));
        assert!(!claimed);
        let Some(Down::Damaged { offset: 2, why }) = writer.down() else {
            panic!("{:?}", writer.down())
        };
        assert!(why.is_damage());
        assert_eq!(writer.admitted(), (2, state), "it is met again");
        let (claimed, _) = claims(Writer::new("me", 0, State::default()).accepting(vec![2]));
        assert!(claimed);
    }
}

#[test]
fn a_log_that_lost_what_was_read_from_it_is_not_served() {
    let mut bench = Bench::serving();
    bench.writer.hold(1).expect("serving");
    for _ in 0..100 {
        for effect in bench.effects() {
            if let Effect::ReadEnd { query, .. } = effect {
                bench.writer.ended(query, Ok(1));
            }
        }
    }
    assert_eq!(bench.writer.down(), Some(&Down::Truncated { next: 2, end: 1 }));
}

#[test]
fn a_log_that_lost_what_was_read_is_not_served_either_when_an_append_tells_it() {
    let mut bench = Bench::serving();
    let (id, record) = bench.append(1);
    let at = bench.land(record);
    bench.writer.appended(id, Ok(at));
    bench.effects();
    let next = bench.writer.admitted().0;
    // It is cut off behind the genesis.
    let (id, _) = bench.append(2);
    bench.writer.appended(id, Ok(1));
    let effects = bench.effects();
    let Some(&Effect::AppendClaim { id, .. }) = effects.last() else {
        panic!("{effects:?}")
    };
    bench.writer.appended(id, Ok(2));
    assert_eq!(bench.writer.down(), Some(&Down::Truncated { next, end: 2 }));
}

#[test]
fn an_end_that_cannot_be_read_is_asked_for_again_with_more_patience() {
    let mut bench = Bench::new();
    bench.writer.assigned();
    for expected in 0..3 {
        let effects = bench.effects();
        let [Effect::ReadEnd { query, attempt }] = effects[..] else {
            panic!("{effects:?}")
        };
        assert_eq!(attempt, expected);
        bench
            .writer
            .ended(query, Err(ReadError::NoPartition(Partition::ledger(0))));
    }
}
