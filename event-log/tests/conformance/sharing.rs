//! Several processes on one cluster: who is to serve what, and who says that he does.

use std::collections::BTreeSet;

use event_log::{
    Assignment, Hint, Log, Membership, Owners, Partition, Topic,
    ownership::{Role, SESSION},
};
use events::feature;
use tokio::sync::watch;

use crate::{
    embedded::Folder,
    kafka::Cluster,
    suite::{Bench, open, within},
};

fn all(log: &Log) -> BTreeSet<Partition> {
    log.all(Topic::Directory).chain(log.all(Topic::Ledger)).collect()
}

fn join(log: &Log) -> (Membership, watch::Receiver<Assignment>) {
    let membership = log.join(SESSION).expect("joins");
    let assignment = membership.assignment();
    (membership, assignment)
}

/// Waits until these share all partitions, none of them twice, and each has one.
async fn shared(log: &Log, members: &mut [&mut watch::Receiver<Assignment>]) {
    let wanted = all(log);
    loop {
        let parts: Vec<_> = members.iter().map(|it| it.borrow().partitions.clone()).collect();
        let sum: usize = parts.iter().map(BTreeSet::len).sum();
        let union: BTreeSet<_> = parts.iter().flatten().copied().collect();
        if union == wanted && sum == wanted.len() && parts.iter().all(|part| !part.is_empty()) {
            return;
        }
        let changed = members.iter_mut().map(|member| Box::pin(member.changed()));
        let (changed, ..) = futures::future::select_all(changed).await;
        changed.expect("it is a member");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_share_all_partitions_and_what_one_leaves_the_other_gets() {
    within(async {
        let bench = Cluster::new();
        let (one, two) = (open(&bench).await, open(&bench).await);
        let (first, mut of_first) = join(&one);
        shared(&one, &mut [&mut of_first]).await;
        assert_eq!(first.confirmed().await, Some(of_first.borrow().clone()));
        let (second, mut of_second) = join(&two);
        shared(&one, &mut [&mut of_first, &mut of_second]).await;
        assert!(of_first.borrow().version > 1);
        assert!(first.leave().await, "there is another one");
        assert_eq!(first.confirmed().await, None, "whoever has left has nothing");
        shared(&one, &mut [&mut of_second]).await;
        assert_eq!(second.confirmed().await, Some(of_second.borrow().clone()));
        assert!(!second.leave().await, "there is nobody else");
        one.close().await;
        two.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_stands_aside_has_nothing_until_it_takes_part_again() {
    within(async {
        let bench = Cluster::new();
        let (one, two) = (open(&bench).await, open(&bench).await);
        let ((first, mut of_first), (_second, mut of_second)) = (join(&one), join(&two));
        shared(&one, &mut [&mut of_first, &mut of_second]).await;
        first.stand_aside(true).await;
        shared(&one, &mut [&mut of_second]).await;
        of_first
            .wait_for(|now| now.partitions.is_empty())
            .await
            .expect("it is a client still");
        assert_eq!(first.confirmed().await, None);
        first.stand_aside(false).await;
        shared(&one, &mut [&mut of_first, &mut of_second]).await;
        one.close().await;
        two.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_brokers_name_the_processes_that_write_and_those_that_project() {
    within(async {
        let bench = Cluster::new();
        let (one, two) = (open(&bench).await, open(&bench).await);
        assert_eq!(one.processes().await, Ok(vec![]), "nobody takes part");
        let ((first, mut of_first), (_second, mut of_second)) = (join(&one), join(&two));
        shared(&one, &mut [&mut of_first, &mut of_second]).await;
        let reader = one.attend().expect("attends");
        let mut of_reader = reader.assignment();
        of_reader.wait_for(|now| now.version > 0).await.expect("attends");
        let processes = two.processes().await.expect("told");
        let count = |role| processes.iter().filter(|process| process.role == role).count();
        assert_eq!((count(Role::Writer), count(Role::Projector)), (2, 1));
        assert!(processes.iter().all(|process| process.level == feature::KNOWN));
        assert!(
            first.leave().await,
            "readers are not counted as writers, but the second is"
        );
        drop(reader);
        one.close().await;
        two.close().await;
    })
    .await;
}

#[tokio::test]
async fn the_only_process_of_an_embedded_log_is_assigned_everything_at_once() {
    let bench = Folder::new();
    let log = open(&bench).await;
    let (membership, assignment) = join(&log);
    assert_eq!(assignment.borrow().partitions, all(&log));
    assert_eq!(membership.confirmed().await, Some(assignment.borrow().clone()));
    assert!(!membership.leave().await);
    assert!(log.owners().known().borrow().complete);
    log.close().await;
}

fn hint(log: &Log, epoch: u64, owner: &str) -> Hint {
    Hint {
        log: log.id(),
        epoch,
        owner: owner.to_owned(),
        url: Some(format!("http://{owner}.example")),
        released: false,
    }
}

/// Waits until whoever follows knows this.
async fn knows(owners: &Owners, partition: Partition, hint: &Hint, buried: bool) {
    let mut known = owners.known();
    let told = known.wait_for(|hints| {
        hints
            .of(partition)
            .is_some_and(|known| known.hint == *hint && known.buried == buried)
    });
    told.await.expect("followed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_late_hint_of_a_zombie_changes_nothing_and_is_noticed() {
    within(async {
        let bench = Cluster::new();
        let (one, two) = (open(&bench).await, open(&bench).await);
        let (first, second) = (one.owners(), two.owners());
        let mut known = first.known();
        known.wait_for(|hints| hints.complete).await.expect("followed");
        let partition = Partition::ledger(1);
        let (old, new) = (hint(&one, 1, "old"), hint(&one, 2, "new"));
        first.tell(partition, &old).await.expect("told");
        knows(&second, partition, &old, false).await;
        second.tell(partition, &new).await.expect("told");
        knows(&first, partition, &new, false).await;
        first.tell(partition, &old).await.expect("told");
        for owners in [&first, &second, &two.owners()] {
            knows(owners, partition, &new, true).await;
        }
        second.tell(partition, &new).await.expect("told");
        knows(&first, partition, &new, false).await;
        one.close().await;
        two.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_installation_that_has_no_topic_of_hints_is_given_one() {
    within(async {
        let bench = Cluster::new();
        open(&bench).await.close().await;
        bench.remove("owners").await;
        let log = open(&bench).await;
        assert_eq!(bench.setting("owners", "cleanup.policy").await, "compact");
        let owners = log.owners();
        let told = hint(&log, 1, "one");
        owners.tell(Partition::DIRECTORY, &told).await.expect("told");
        knows(&owners, Partition::DIRECTORY, &told, false).await;
        log.close().await;
    })
    .await;
}
