//! What is read is what was written or nothing; what a crash leaves is nothing; what is not needed goes.

use std::{collections::BTreeMap, fs, io, path};

use events::EventId;
use object_store::{ObjectStoreExt, memory::InMemory};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::{
    genesis::LogId,
    hash::Hash,
    partition::Partition,
    state_store::{Row, StateStore, StateStores},
};

const LOG: LogId = LogId(Uuid::from_u128(1));

fn standing(at: Offset) -> Standing {
    let event = EventId::new(Uuid::from_u128(at.into()));
    Standing { at, event }
}

fn head(fold: &str, at: Offset) -> Head {
    Head {
        identity: Identity {
            log: LOG,
            partition: Partition::ledger(3).to_string(),
            fold: fold.to_owned(),
        },
        standing: standing(at),
        state: State {
            epoch: 2,
            seq: 5,
            hash: Hash([7; 32]),
        },
        before: (at > 4).then(|| standing(at - 4)),
    }
}

fn rows() -> impl Strategy<Value = BTreeMap<Vec<u8>, Vec<u8>>> {
    let bytes = |length| proptest::collection::vec(any::<u8>(), length);
    proptest::collection::btree_map(bytes(1..40), bytes(0..3_000), 0..300)
}

fn written(rows: &BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let all = rows.iter().map(|(key, value)| Ok((key.clone(), value.clone())));
    let take = |piece: Vec<u8>| {
        bytes.extend(piece);
        Ok::<_, StateError>(())
    };
    let count = format::write(&head("1", 9), all, take).unwrap();
    assert_eq!(count, rows.len() as u64);
    bytes
}

fn fits(bytes: &[u8], piece: usize) -> bool {
    let mut checked = format::Checked::new();
    bytes.chunks(piece).for_each(|piece| checked.take(piece));
    checked.fits()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn what_is_read_is_what_was_written(rows in rows(), piece in 1_usize..5_000) {
        let bytes = written(&rows);
        prop_assert!(fits(&bytes, piece));
        let (read_head, read) = format::read(&bytes[..]).unwrap();
        prop_assert_eq!(read_head, head("1", 9));
        let read: BTreeMap<_, _> = read.collect::<io::Result<_>>().unwrap();
        prop_assert_eq!(read, rows);
    }

    #[test]
    fn a_bit_that_differs_or_is_missing_is_noticed(
        rows in rows(), at in any::<prop::sample::Index>(), bit in 0_u8..8, cut in any::<bool>()
    ) {
        let mut bytes = written(&rows);
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] ^= 1_u8 << bit;
        }
        prop_assert!(!fits(&bytes, 1_000));
        // Nor does it end the process of whoever reads on all the same.
        if let Ok((_, rows)) = format::read(&bytes[..]) {
            rows.for_each(drop);
        }
    }
}

fn store(stores: &StateStores) -> StateStore {
    stores.store(LOG, Partition::ledger(3), "1").unwrap()
}

fn row(number: u32) -> Row {
    ([&[1], &number.to_be_bytes()[..]].concat(), vec![9; 100])
}

fn copy(from: &path::Path, to: &path::Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => copy(&entry.path(), &to),
            _ => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}

#[test]
fn a_store_that_is_filled_holds_the_rows_and_no_others_whenever_the_process_ends() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let stores = StateStores::open(Some(&at("own"))).unwrap();
    let mut filled = store(&stores);
    // What a start does to a store that it cannot use, and what was there.
    filled.clear().unwrap();
    let old = [(vec![5, 5], Some(vec![5])), (row(7).0, Some(vec![5]))];
    filled.write(old.into_iter(), standing(1)).unwrap();
    let rows = (0..10_000).map(|number| {
        if number % 5_000 == 0 {
            copy(&at("own"), &at(&format!("at {number}")));
        }
        Ok::<_, StateError>(row(number))
    });
    filled.refill(standing(20), Some(standing(15)), rows).unwrap();
    copy(&at("own"), &at("filled"));
    let change = [(row(7).0, None)];
    filled.write(change.into_iter(), standing(30)).unwrap();
    copy(&at("own"), &at("after"));

    for number in [0, 5_000] {
        let stores = StateStores::open(Some(&at(&format!("at {number}")))).unwrap();
        let left = store(&stores);
        assert_eq!(left.standing().unwrap(), None);
        assert_eq!(left.prefix(&[]).count(), 0);
    }
    for (name, stands, before, count) in [("filled", 20, 15, 10_000), ("after", 30, 20, 9_999)] {
        let stores = StateStores::open(Some(&at(name))).unwrap();
        let left = store(&stores);
        let view = left.view().unwrap().unwrap();
        assert_eq!(
            (view.standing, view.before),
            (standing(stands), Some(standing(before))),
            "{name}"
        );
        assert_eq!(view.rows().count(), count, "{name}");
    }
}

#[test]
fn a_store_that_lost_what_it_was_filled_with_holds_nothing() {
    let stores = StateStores::open(None).unwrap();
    let mut filled = store(&stores);
    let rows = (0..10).map(|number| Ok::<_, StateError>(row(number)));
    filled.refill(standing(20), None, rows).unwrap();
    filled.write(std::iter::empty(), standing(30)).unwrap();
    let broken = StateError::damaged("a row that cannot be read");
    let rows = [Ok(row(1)), Err(broken)].into_iter();
    assert!(filled.refill(standing(40), None, rows).is_err());
    assert_eq!(filled.standing().unwrap(), None);
    assert_eq!(store(&stores).prefix(&[]).count(), 0);

    let rows = (0..10).map(|number| Ok::<_, StateError>(row(number)));
    filled.refill(standing(20), None, rows).unwrap();
    let stands = |store: &StateStore| store.standing().unwrap();
    assert_eq!(stands(&filled), Some(standing(20)));
    filled.lose_filling().unwrap();
    assert_eq!(stands(&filled), None);
    assert_eq!(store(&stores).prefix(&[]).count(), 0, "it is made anew");
}

#[tokio::test]
async fn the_last_few_are_kept_and_those_of_other_folds_for_a_while() {
    let snapshots = Snapshots(Arc::new(Opened {
        store: Box::new(InMemory::new()),
        folder: Path::from("some/where"),
        shown: "memory:///some/where".to_owned(),
        writing: Semaphore::new(1),
    }));
    let put = async |fold: &str, at: Offset| {
        let path = snapshots.path(&head(fold, at).identity, at);
        snapshots.0.store.put(&path, "x".into()).await.unwrap();
    };
    let left = async |fold: &str| -> Vec<Offset> {
        let found = snapshots.list(&head(fold, 0).identity).await.unwrap();
        found.into_iter().map(|found| found.at).collect()
    };
    // After the log was cut back the last ones written are not the furthest.
    for at in [100, 200, 10, 20, 30] {
        put("1", at).await;
    }
    put("0", 90).await;
    put("2", 90).await;
    let now: Timestamp = chrono::Utc::now().into();
    let identity = head("1", 0).identity;
    snapshots.prune(&identity, now).await.unwrap();
    assert_eq!(left("1").await, [30, 20, 10]);
    assert_eq!((left("0").await, left("2").await), (vec![90], vec![90]));
    snapshots
        .prune(&identity, now.plus_micros(8 * 86_400_000_000))
        .await
        .unwrap();
    assert_eq!(left("1").await, [30, 20, 10]);
    assert_eq!((left("0").await, left("2").await), (vec![], vec![]));
}

#[test]
fn a_url_with_secrets_or_of_nothing_known_is_refused() {
    let refused = |url: &str| Snapshots::open(&url.parse().unwrap()).err().unwrap().to_string();
    let told = refused("s3://key:secret@bucket/prefix");
    assert!(
        told.contains("AWS_ACCESS_KEY_ID") && !told.contains("secret"),
        "{told}"
    );
    assert!(refused("ftp://host/folder").contains("ftp://host/folder"));
    #[cfg(not(feature = "s3"))]
    assert!(refused("s3://bucket/prefix").contains("without S3"));
    Snapshots::open(&"file:///tmp/nobody".parse().unwrap()).unwrap();
}
