//! Cases of the fenced ledger, driven as command-api drives it.

use event_log::{
    Commit, CommitHeaders, Log, Offset, Partition, Record, State, Verdict,
    driver::{Decider, Decision, Options, Outcome, Rewound, Start, Status, Unapplied, drive},
    log::Disturbance,
    view::view,
};
use events::{Envelope, EventId, Recorded, TenantId, directory::TenantCreated};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};
use uuid::Uuid;

use crate::suite::{Bench, open, read};

const LEDGER: Partition = Partition::ledger(0);

/// Commands have numbers; each happens once; an even number is refused.
pub(crate) struct Numbers {
    done: Vec<u64>,
    /// More it cannot keep.
    most: usize,
}

pub(crate) type Reply = Outcome<Answer>;

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Appended.
    Done,
    /// Was done before.
    Again,
    /// Refused, after so many were done.
    Refused(usize),
}

pub(crate) trait Offsets {
    fn offset(&self) -> Option<Offset>;
}

impl Offsets for Reply {
    fn offset(&self) -> Option<Offset> {
        if let Outcome::Admitted { offset, .. } = self {
            Some(*offset)
        } else {
            None
        }
    }
}

impl Decider for Numbers {
    type Request = (u64, oneshot::Sender<Reply>);
    type Answer = Answer;

    fn apply(&mut self, _: Offset, commit: &CommitHeaders, record: &Record) -> Result<(), Unapplied> {
        let commit =
            Commit::decode(commit, record).map_err(|error| Unapplied::Unreadable(error.to_string()))?;
        if let Some(why) = self.broken() {
            return Err(Unapplied::Unkept(why));
        }
        self.done.push(number(&commit));
        Ok(())
    }

    fn forget(&mut self) -> Rewound {
        self.done.clear();
        Rewound::To(0, State::default())
    }

    fn broken(&mut self) -> Option<String> {
        (self.done.len() >= self.most).then(|| "no room".to_owned())
    }

    fn decide(&mut self, (number, _): &mut Self::Request) -> Decision<Answer> {
        if self.done.contains(number) {
            return Decision::Answer(Answer::Again);
        }
        if *number % 2 == 0 {
            return Decision::Answer(Answer::Refused(self.done.len()));
        }
        self.done.push(*number);
        Decision::Append(commit(*number).prepare().expect("small"), Answer::Done)
    }

    fn answer(&mut self, (_, reply): Self::Request, outcome: Reply) {
        let _ = reply.send(outcome);
    }
}

fn commit(number: u64) -> Commit {
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
        tenant_seq: number,
        command: None,
        events: vec![Recorded { envelope, event }],
    }
}

fn number(commit: &Commit) -> u64 {
    commit.events[0].envelope.id.uuid().as_u128() as u64
}

/// A partition that is served.
pub(crate) struct Served {
    requests: mpsc::Sender<(u64, oneshot::Sender<Reply>)>,
    pub(crate) status: watch::Receiver<Status>,
}

impl Served {
    pub(crate) fn ask(&self, number: u64) -> oneshot::Receiver<Reply> {
        let (reply, answer) = oneshot::channel();
        self.requests.try_send((number, reply)).expect("room");
        answer
    }

    pub(crate) async fn command(&self, number: u64) -> Reply {
        self.ask(number).await.expect("answered")
    }

    pub(crate) async fn until(&mut self, wanted: impl Fn(&Status) -> bool) {
        self.status.wait_for(wanted).await.expect("driven");
    }
}

/// Drives a partition and waits until it is served.
pub(crate) async fn serve(log: &Log, partition: Partition, owner: &str) -> (JoinHandle<Numbers>, Served) {
    serve_at_most(log, partition, owner, usize::MAX).await
}

async fn serve_at_most(
    log: &Log,
    partition: Partition,
    owner: &str,
    most: usize,
) -> (JoinHandle<Numbers>, Served) {
    let (task, mut served) = begin_at_most(log, partition, owner, most);
    served
        .until(|status| matches!(status, Status::Serving { .. }))
        .await;
    (task, served)
}

fn begin_at_most(log: &Log, partition: Partition, owner: &str, most: usize) -> (JoinHandle<Numbers>, Served) {
    let (requests, receiver) = mpsc::channel(10_000);
    let (sender, status) = watch::channel(Status::Starting);
    let done = Vec::new();
    let numbers = Numbers { done, most };
    let driving = drive(
        log.clone(),
        partition,
        Start::default(),
        numbers,
        receiver,
        sender,
        Options::new(owner),
    );
    (tokio::spawn(driving), Served { requests, status })
}

/// Admitted commands, as a stranger reads them.
async fn history(log: &Log) -> Vec<(Offset, u64)> {
    let end = log.end(LEDGER).await.expect("an end");
    let mut state = State::default();
    let all = read(&mut log.reader(LEDGER, 0).expect("reader"), end as usize).await;
    all.iter()
        .filter_map(|stored| {
            let Verdict::Commit(headers) = state.admit(stored.offset, &stored.record) else {
                return None;
            };
            Some((
                stored.offset,
                number(&Commit::decode(&headers, &stored.record).expect("ours")),
            ))
        })
        .collect()
}

pub(crate) async fn who_cannot_keep_more_answers_what_is_under_way_and_gives_up(bench: impl Bench) {
    let log = open(&bench).await;
    let (task, mut served) = serve_at_most(&log, LEDGER, "a", 50).await;
    let odd = |place: u64| 2 * place + 1;
    let answers: Vec<_> = (0..100).map(|place| served.ask(odd(place))).collect();
    for (place, answer) in (0..).zip(answers) {
        let outcome = answer.await.expect("answered");
        if place < 50 {
            assert_eq!(outcome.offset(), Some(2 + place));
        } else {
            assert_eq!(outcome, Outcome::NotServing("no room".to_owned()));
        }
    }
    served
        .until(|status| *status == Status::Unkept("no room".to_owned()))
        .await;
    let kept = (0..50).map(|place| (2 + place, odd(place)));
    assert_eq!(history(&log).await, kept.collect::<Vec<_>>());
    drop(served);
    task.await.expect("ends");
    log.close().await;
}

/// As on a full disk: others may have room, so it claims nothing.
pub(crate) async fn who_cannot_keep_what_stands_there_leaves_it_to_others(bench: impl Bench) {
    let log = open(&bench).await;
    let (task, served) = serve(&log, LEDGER, "a").await;
    for place in 0..60 {
        assert!(served.command(2 * place + 1).await.offset().is_some());
    }
    drop(served);
    task.await.expect("ends");
    let end = log.end(LEDGER).await.expect("an end");
    let (full_task, mut full) = begin_at_most(&log, LEDGER, "full", 50);
    full.until(|status| matches!(status, Status::Unkept(_))).await;
    let told = full.status.borrow().clone();
    let expected = "what ledger/0 offset 52 makes cannot be kept: no room";
    assert_eq!(told, Status::Unkept(expected.to_owned()));
    assert!(matches!(full.command(999).await, Outcome::NotServing(why) if why == expected));
    let (task, served) = serve(&log, LEDGER, "other").await;
    assert_eq!(*served.status.borrow(), Status::Serving { epoch: 2 });
    assert_eq!(served.command(999).await.offset(), Some(end + 1));
    assert_eq!(*full.status.borrow(), told);
    drop((served, full));
    task.await.expect("ends");
    full_task.await.expect("ends");
    log.close().await;
}

pub(crate) async fn commands_are_answered_from_admitted_history(bench: impl Bench) {
    let log = open(&bench).await;
    let (task, served) = serve(&log, LEDGER, "a").await;
    let answers: Vec<_> = (0..2_000).map(|number| served.ask(number)).collect();
    for (number, answer) in (0..).zip(answers) {
        let outcome = answer.await.expect("answered");
        match number % 2 {
            1 => assert_eq!(
                outcome,
                Outcome::Admitted {
                    answer: Answer::Done,
                    offset: 2 + number / 2
                }
            ),
            _ => {
                let Outcome::Settled {
                    answer: Answer::Refused(after),
                    next,
                } = outcome
                else {
                    panic!("{outcome:?}")
                };
                assert_eq!(after as u64, number / 2, "decided on all before it");
                assert!(next >= 2 + number / 2);
            }
        }
    }
    assert!(matches!(
        served.command(1).await,
        Outcome::Settled {
            answer: Answer::Again,
            ..
        }
    ));
    let commands: Vec<_> = history(&log)
        .await
        .into_iter()
        .map(|(_, number)| number)
        .collect();
    assert_eq!(commands, (0..1_000).map(|n| 2 * n + 1).collect::<Vec<_>>());
    drop(served);
    task.await.expect("ends");
    // A second start folds the history and goes on in the next epoch.
    let (task, served) = serve(&log, LEDGER, "a2").await;
    assert_eq!(*served.status.borrow(), Status::Serving { epoch: 2 });
    assert!(matches!(
        served.command(999).await,
        Outcome::Settled {
            answer: Answer::Again,
            ..
        }
    ));
    drop(served);
    assert_eq!(task.await.expect("ends").done.len(), 1_000);
    log.close().await;
}

pub(crate) async fn a_second_writer_takes_over_and_the_first_steps_down(bench: impl Bench) {
    let log = open(&bench).await;
    let (first_task, mut first) = serve(&log, LEDGER, "first").await;
    assert!(first.command(1).await.offset().is_some());
    let (second_task, second) = serve(&log, LEDGER, "second").await;
    assert!(second.command(3).await.offset().is_some());
    // The first does not know yet; neither a commit nor a refusal of its own may be given.
    let (append, refusal) = (first.ask(5), first.ask(4));
    assert!(matches!(append.await.expect("answered"), Outcome::NotServing(why) if why.contains("second")));
    assert!(matches!(refusal.await.expect("answered"), Outcome::NotServing(_)));
    first
        .until(|status| matches!(status, Status::SteppedDown(_)))
        .await;
    assert!(matches!(first.command(7).await, Outcome::NotServing(_)));
    assert!(second.command(9).await.offset().is_some());
    let commands: Vec<_> = history(&log)
        .await
        .into_iter()
        .map(|(_, number)| number)
        .collect();
    assert_eq!(commands, [1, 3, 9]);
    drop((first, second));
    let (first, second) = (first_task.await.expect("ends"), second_task.await.expect("ends"));
    assert_eq!((first.done, second.done), (vec![1], vec![1, 3, 9]));
    log.close().await;
}

pub(crate) async fn an_unknown_outcome_is_learnt_from_the_log(bench: impl Bench) {
    let log = open(&bench).await;
    // The 10th record lands and is reported unknown; the 20th is lost; the 30th is definitely refused.
    let count = std::sync::atomic::AtomicU32::new(0);
    let disturbed = log.disturbed(move |partition, _| {
        if partition != LEDGER {
            return Disturbance::None;
        }
        match count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            10 => Disturbance::LandsUnknown,
            20 => Disturbance::LostUnknown,
            30 => Disturbance::Refused,
            _ => Disturbance::None,
        }
    });
    let (task, served) = serve(&disturbed, LEDGER, "a").await;
    let answers: Vec<_> = (0..100)
        .map(|number| (2 * number + 1, served.ask(2 * number + 1)))
        .collect();
    let mut acknowledged = Vec::new();
    for (number, answer) in answers {
        let outcome = answer.await.expect("answered");
        let Outcome::Admitted {
            answer: Answer::Done,
            offset,
        } = outcome
        else {
            panic!("{number}: {outcome:?}")
        };
        acknowledged.push((offset, number));
    }
    let history = history(&log).await;
    assert_eq!(history.len(), 100, "each command happened once");
    acknowledged.sort_unstable();
    assert_eq!(acknowledged, history);
    assert!(matches!(*served.status.borrow(), Status::Serving { epoch } if epoch > 1));
    drop(served);
    let done = task.await.expect("ends").done;
    assert_eq!(
        done,
        history.iter().map(|(_, number)| *number).collect::<Vec<_>>()
    );
    log.close().await;
}

/// As one that is longer than the broker takes by now.
pub(crate) async fn a_commit_that_the_log_never_takes_holds_up_no_other(bench: impl Bench) {
    const POISON: u64 = 41;
    let log = open(&bench).await;
    let id = EventId::new(Uuid::from_u128(POISON.into())).to_string();
    let disturbed = log.disturbed(move |partition, record| {
        let is_it = partition == LEDGER && String::from_utf8_lossy(&record.value).contains(&id);
        if is_it {
            Disturbance::Refused
        } else {
            Disturbance::None
        }
    });
    let (task, served) = serve(&disturbed, LEDGER, "a").await;
    assert!(served.command(1).await.offset().is_some());
    let (poison, others) = (served.ask(POISON), [served.ask(3), served.ask(5), served.ask(7)]);
    assert!(
        matches!(poison.await.expect("answered"), Outcome::NotServing(why) if why.contains("the log does not take it"))
    );
    for other in others {
        assert!(other.await.expect("answered").offset().is_some());
    }
    let commands: Vec<_> = history(&log)
        .await
        .into_iter()
        .map(|(_, number)| number)
        .collect();
    assert_eq!(commands, [1, 3, 5, 7]);
    let end = log.end(LEDGER).await.expect("an end");
    assert!(end < 40, "{end}: it is not tried for ever");
    drop(served);
    task.await.expect("ends");
    log.close().await;
}

pub(crate) async fn the_log_is_shown_as_people_read_it(bench: impl Bench) {
    let log = open(&bench).await;
    log.append(LEDGER, Record::default()).await.expect("appended");
    let (task, served) = serve(&log, LEDGER, "a").await;
    served.command(1).await;
    let all = view(&log, LEDGER, 0, 100, Start::default())
        .await
        .expect("a view");
    let verdicts: Vec<_> = all.lines.iter().map(|line| line.verdict).collect();
    assert_eq!(verdicts, ["genesis", "void", "claim", "commit"]);
    assert_eq!((all.next, all.end), (4, 4));
    assert!(
        all.lines[1]
            .why
            .as_ref()
            .is_some_and(|why| why.contains("annals-kind is missing"))
    );
    let commit = &all.lines[3];
    assert_eq!(
        (commit.epoch, commit.seq, commit.tenant_seq),
        (Some(1), Some(1), Some(1))
    );
    assert_eq!(
        commit.value.as_ref().expect("json")[0]["type"],
        "tenant.created.v1"
    );
    // A part of it says the same, from the genesis or from a known state.
    let (next, state) = (3, {
        let mut state = State::default();
        fold(&log, 3, &mut state).await;
        state
    });
    for known in [Start::default(), Start { next, state }, Start { next: 4, state }] {
        let part = view(&log, LEDGER, 3, 1, known).await.expect("a view");
        assert_eq!(part.lines.len(), 1);
        assert_eq!(
            (part.lines[0].verdict, &part.lines[0].hash),
            ("commit", &commit.hash)
        );
    }
    let beyond = view(&log, LEDGER, 10, 1, Start::default()).await.expect("a view");
    assert_eq!((beyond.lines.len(), beyond.next), (0, 4));
    drop(served);
    task.await.expect("ends");
    log.close().await;
}

async fn fold(log: &Log, to: Offset, state: &mut State) {
    for stored in read(&mut log.reader(LEDGER, 0).expect("reader"), to as usize)
        .await
        .iter()
        .take(to as usize)
    {
        state.admit(stored.offset, &stored.record);
    }
}
