//! What the fold must do, and that it does the same however the log is cut.
//!
//! Longer than a file should be: one test for each rule of the fold, over the same few visits.

use std::collections::BTreeMap;

use event_log::Record;
use events::{
    Envelope, EventId, ImportId, Recorded, SiteId, TenantId, Timestamp, VisitorId, Whole,
    visit::{CustomEventRecorded, EngagementRecorded, ImportLine, PageViewed, Revenue, Visit},
};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const MINUTE: i64 = 60_000_000;
const NOON: i64 = 1_431_864_000_000_000;

/// An event that a test writes.
#[derive(Debug, Clone)]
struct Happened {
    id: u128,
    visitor: u64,
    /// Minutes after noon.
    minute: i64,
    path: &'static str,
    source: Option<&'static str>,
    what: Did,
    import: Option<(u128, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Did {
    View,
    Act { interactive: bool },
    ReadOn,
}

fn view(id: u128, minute: i64, path: &'static str) -> Happened {
    Happened {
        id,
        visitor: 1,
        minute,
        path,
        source: None,
        what: Did::View,
        import: None,
    }
}

fn recorded(happened: &Happened) -> Recorded {
    let site = SiteId::new(Uuid::from_u128(2));
    let visit = Visit {
        site,
        visitor: VisitorId::new(happened.visitor),
        hostname: "example.org".to_owned(),
        pathname: happened.path.to_owned(),
        referrer: None,
        source: happened.source.map(str::to_owned),
        device: Some("Desktop".to_owned()),
        browser: Some("Firefox".to_owned()),
        os: Some("Linux".to_owned()),
        utm: BTreeMap::new(),
        content: None,
        props: BTreeMap::from([("plan \"x\"".to_owned(), "a\nb".to_owned())]),
        import: happened.import.map(|(import, line)| ImportLine {
            id: ImportId::new(Uuid::from_u128(import)),
            line: Whole(line),
        }),
    };
    let event = match happened.what {
        Did::View => PageViewed { visit }.into(),
        Did::Act { interactive } => CustomEventRecorded {
            visit,
            name: "Signup".to_owned(),
            interactive,
            revenue: Some(Revenue {
                amount: "19.99".to_owned(),
                currency: "EUR".to_owned(),
            }),
        }
        .into(),
        Did::ReadOn => EngagementRecorded {
            visit,
            engaged_ms: 1_000,
            scroll_depth: Some(50),
        }
        .into(),
    };
    Recorded {
        envelope: Envelope {
            id: EventId::new(Uuid::from_u128(happened.id)),
            subject: site.to_string(),
            time: Timestamp::from_micros(NOON + happened.minute * MINUTE).unwrap(),
            tenant: tenant(),
            aggregate_version: None,
            actor: None,
            causation: None,
            correlation: None,
            traceparent: None,
        },
        event,
    }
}

fn tenant() -> TenantId {
    TenantId::new(Uuid::from_u128(1))
}

fn record(events: &[Happened]) -> Record {
    event_log::visits::encode(tenant(), &events.iter().map(recorded).collect::<Vec<_>>())
}

/// A session as its row has it, with only what tests look at.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    id: u64,
    start: i64,
    last: i64,
    pageviews: u32,
    events: u32,
    bounce: bool,
    entry: String,
    exit: String,
    source: String,
}

/// The open sessions, by id.
fn sessions(fold: &Fold) -> Vec<Row> {
    let mut rows: Vec<Row> = fold
        .open
        .iter()
        .map(|session| {
            let minutes = |micros: i64| (micros - NOON) / MINUTE;
            let texts = session.texts.get();
            Row {
                id: session.id,
                start: minutes(session.start),
                last: minutes(session.last),
                pageviews: session.pageviews,
                events: session.events,
                bounce: session.interactive < 2,
                entry: texts[0].to_owned(),
                exit: texts[1].to_owned(),
                source: texts[4].to_owned(),
            }
        })
        .collect();
    rows.sort_by_key(|row| (row.start, row.id));
    rows
}

/// Folds each event as a record of its own.
fn fold(events: &[Happened]) -> (Fold, Piece) {
    let mut fold = Fold::new(0);
    let mut piece = fold.begin();
    for (offset, event) in events.iter().enumerate() {
        fold.apply(
            offset as u64 + 1,
            &record(std::slice::from_ref(event)),
            &mut piece,
        );
    }
    let piece = fold.finish(piece);
    (fold, piece)
}

#[test]
fn a_visit_is_a_session_with_entry_and_exit() {
    let first = Happened {
        source: Some("Google"),
        ..view(1, 0, "/")
    };
    let (fold, piece) = fold(&[first, view(2, 5, "/a"), view(3, 20, "/b")]);
    let rows = sessions(&fold);
    assert_eq!(rows.len(), 1);
    let Row {
        id: _,
        start,
        last,
        pageviews,
        events,
        bounce,
        entry,
        exit,
        source,
    } = rows[0].clone();
    assert_eq!((start, last, pageviews, events, bounce), (0, 20, 3, 3, false));
    assert_eq!(
        (entry.as_str(), exit.as_str(), source.as_str()),
        ("/", "/b", "Google")
    );
    assert_eq!((piece.events.rows(), piece.sessions.rows()), (3, 1));
}

#[test]
fn half_an_hour_without_an_event_ends_a_visit() {
    let (fold, _) = fold(&[view(1, 0, "/"), view(2, 30, "/a"), view(3, 61, "/b")]);
    let spans: Vec<_> = sessions(&fold)
        .iter()
        .map(|row| (row.start, row.last, row.bounce))
        .collect();
    assert_eq!(spans, [(0, 30, false), (61, 61, true)]);
}

#[test]
fn an_event_that_comes_late_changes_the_visit_that_it_belongs_to() {
    let late = Happened {
        source: Some("Google"),
        ..view(2, 0, "/first")
    };
    let (fold, _) = fold(&[view(1, 10, "/then"), late]);
    let rows = sessions(&fold);
    assert_eq!(rows.len(), 1);
    assert_eq!(
        (
            rows[0].entry.as_str(),
            rows[0].exit.as_str(),
            rows[0].source.as_str()
        ),
        ("/first", "/then", "Google")
    );
}

#[test]
fn an_event_between_two_visits_joins_the_nearer_one() {
    let (fold, _) = fold(&[view(1, 0, "/"), view(2, 50, "/b"), view(3, 22, "/between")]);
    let spans: Vec<_> = sessions(&fold).iter().map(|row| (row.start, row.last)).collect();
    assert_eq!(spans, [(0, 22), (50, 50)]);
}

#[test]
fn one_page_and_a_custom_event_are_no_bounce_unless_it_is_not_interactive() {
    for (interactive, bounce) in [(true, false), (false, true)] {
        let act = Happened {
            what: Did::Act { interactive },
            ..view(2, 1, "/")
        };
        let (fold, _) = fold(&[view(1, 0, "/"), act]);
        assert_eq!(sessions(&fold)[0].bounce, bounce);
    }
}

#[test]
fn engagement_prolongs_a_visit_and_opens_none() {
    let on = |id, minute| Happened {
        what: Did::ReadOn,
        ..view(id, minute, "/")
    };
    let (fold, piece) = fold(&[view(1, 0, "/"), on(2, 10), on(3, 300)]);
    let rows = sessions(&fold);
    assert_eq!((rows.len(), rows[0].last, rows[0].events), (1, 10, 1));
    assert_eq!(piece.events.rows(), 3);
}

#[test]
fn the_same_id_counts_once() {
    let (fold, piece) = fold(&[view(1, 0, "/"), view(1, 0, "/"), view(2, 1, "/")]);
    assert_eq!(
        (piece.events.rows(), piece.repeated, sessions(&fold)[0].pageviews),
        (2, 1, 2)
    );
}

#[test]
fn a_line_that_is_not_above_its_imports_mark_is_dropped() {
    let line = |id, line| Happened {
        import: Some((9, line)),
        ..view(id, 0, "/")
    };
    // The same lines again, under other ids: an import repeated a week later.
    let (_, piece) = fold(&[line(1, 0), line(2, 7), line(3, 0), line(4, 7), line(5, 8)]);
    assert_eq!((piece.events.rows(), piece.repeated), (3, 2));
}

#[test]
fn an_import_does_not_make_a_clients_retry_count_again() {
    let line = |line: u64| Happened {
        import: Some((9, line)),
        ..view(1_000_000 + u128::from(line), 0, "/")
    };
    let lines = (1..=REMEMBERED as u64 + 1).map(line);
    let events: Vec<_> = [view(1, 0, "/")]
        .into_iter()
        .chain(lines)
        .chain([view(1, 0, "/")])
        .collect();
    let (fold, piece) = fold(&events);
    assert_eq!((piece.events.rows(), piece.repeated), (REMEMBERED + 2, 1));
    // What is kept of it is the same.
    let mut again = Fold::restore(&fold.snapshot()).unwrap();
    let mut piece = again.begin();
    again.apply(9, &record(&[view(1, 0, "/"), line(1)]), &mut piece);
    assert_eq!((piece.events.rows(), piece.repeated), (0, 2));
}

#[test]
fn old_visits_among_new_ones_keep_their_sessions() {
    let years = 10 * 365 * 24 * 60_i64;
    let old = |id, minute: i64| Happened {
        visitor: 7,
        ..view(id, minute - years, "/old")
    };
    let (fold, _) = fold(&[
        view(1, 0, "/"),
        old(2, 0),
        view(3, 1, "/"),
        old(4, 5),
        view(5, 2, "/"),
    ]);
    let spans: Vec<_> = sessions(&fold).iter().map(|row| row.last - row.start).collect();
    assert_eq!(spans, [5, 2]);
}

#[test]
fn sessions_are_let_go_by_the_count_of_later_events() {
    let mut fold = Fold::new(0);
    let mut piece = fold.begin();
    for batch in 0..40_u64 {
        let events: Vec<Happened> = (0..1_000)
            .map(|index| {
                let number = batch * 1_000 + index;
                let visitor = if number == 0 { 1 } else { number + 100 };
                Happened {
                    visitor,
                    ..view(u128::from(number) + 1, i64::try_from(number / 100).unwrap(), "/")
                }
            })
            .collect();
        fold.apply(batch + 1, &record(&events), &mut piece);
    }
    assert!(fold.open.len() < 20_000, "{} are open", fold.open.len());
    let piece = fold.finish(piece);
    assert_eq!((piece.events.rows(), piece.sessions.rows()), (40_000, 40_000));
}

/// Whoever sends visits chooses their length.
#[test]
fn sessions_are_let_go_by_the_length_of_their_texts() {
    let path: &'static str = Box::leak(format!("/{}", "x".repeat(1_999)).into_boxed_str());
    let mut fold = Fold::new(0);
    let mut piece = fold.begin();
    for batch in 0..12_u64 {
        let events: Vec<Happened> = (0..1_000)
            .map(|index| Happened {
                visitor: 1 + batch * 1_000 + index,
                ..view(u128::from(batch * 1_000 + index) + 1, 0, path)
            })
            .collect();
        fold.apply(batch + 1, &record(&events), &mut piece);
    }
    // Entry and exit page of each, and some words.
    let most = super::session::OPEN_TEXTS / 4_000;
    assert!(
        (most - 200..=most).contains(&fold.open.len()),
        "{} are open",
        fold.open.len()
    );
    let kept = Fold::restore(&fold.snapshot()).unwrap();
    let again = |mut fold: Fold| {
        let mut piece = fold.begin();
        let events = [
            view(90_001, 1, "/"),
            Happened {
                visitor: 12_000,
                ..view(90_002, 1, "/")
            },
        ];
        fold.apply(13, &record(&events), &mut piece);
        fold.open.len()
    };
    assert_eq!(again(kept), again(fold));
}

#[test]
fn what_cannot_be_read_is_parked_and_its_neighbours_are_not() {
    let mut good = record(&[view(1, 0, "/"), view(2, 1, "/"), view(3, 2, "/")]);
    let text = String::from_utf8(good.value.to_vec()).unwrap();
    good.value = text
        .replacen("\"visitor\":\"0000000000000001\"", "\"visitor\":7", 1)
        .into();
    let mut garbage = record(&[view(4, 0, "/")]);
    garbage.value = b"\x00\xffnot json"[..].into();
    let mut fold = Fold::new(0);
    let mut piece = fold.begin();
    fold.apply(1, &good, &mut piece);
    fold.apply(2, &garbage, &mut piece);
    fold.apply(3, &Record::default(), &mut piece);
    let parked: Vec<_> = piece.parked.iter().map(|it| (it.offset, it.index)).collect();
    let odd: Vec<_> = piece.odd.iter().map(|(offset, it)| (*offset, it.index)).collect();
    assert_eq!(
        (piece.events.rows(), parked, odd, piece.void.len()),
        (2, vec![(1, 0)], vec![(2, 0)], 1)
    );
}

/// A record with this value, well-formed by its headers.
fn holding(value: &str) -> Record {
    let mut made = record(&[view(1, 0, "/")]);
    made.value = value.to_owned().into();
    made
}

#[test]
fn an_event_of_a_newer_release_is_parked_and_what_follows_is_folded() {
    let known = String::from_utf8(record(&[view(1, 0, "/"), view(2, 1, "/")]).value.to_vec()).unwrap();
    let newer = known.replacen("visit.page-viewed.v1", "visit.page-viewed.v9", 1);
    let mut fold = Fold::new(3);
    let mut piece = fold.begin();
    fold.apply(5, &holding(&newer), &mut piece);
    fold.apply(6, &record(&[view(3, 2, "/")]), &mut piece);
    assert_eq!(
        (fold.next_offset(), piece.events.rows(), piece.odd.len()),
        (7, 2, 0)
    );
    let [unread] = piece.parked.as_slice() else {
        panic!("{:?}", piece.parked)
    };
    assert_eq!((unread.offset, unread.index), (5, 0));
    assert!(
        unread.reason.contains("visit.page-viewed.v9"),
        "{}",
        unread.reason
    );
    // A release that can read it makes a new generation by that alone.
    assert!(
        fold_of_events().contains(" visit.page-viewed.v1"),
        "{}",
        fold_of_events()
    );
}

#[test]
fn what_is_nobodys_is_passed_over_however_much_of_it_there_is() {
    let long = format!("[{}]", vec!["{}"; 100_000].join(","));
    let other = r#"[{"type":"content.drafted.v1","tenant":"00000000-0000-0000-0000-000000000001"}]"#;
    let values = [
        "",
        "null",
        "{}",
        "[1, \"a\", [], {}]",
        &long,
        other,
        "[{\"type\":\"visit.page-viewed.v1\"}]",
    ];
    let mut fold = Fold::new(0);
    let mut piece = fold.begin();
    for (offset, value) in (1..).zip(values) {
        fold.apply(offset, &holding(value), &mut piece);
    }
    let counts: Vec<_> = piece.odd.iter().map(|(_, odd)| odd.count).collect();
    assert_eq!(counts, [1, 1, 1, 4, 100_000, 1, 1]);
    assert_eq!(
        (fold.next_offset(), piece.parked.len(), piece.events.rows()),
        (8, 0, 0)
    );
}

#[test]
fn one_record_is_parked_once_with_the_count_of_what_cannot_be_read() {
    let known = record(&[view(1, 0, "/"), view(2, 1, "/"), view(3, 2, "/")]);
    let newer = String::from_utf8(known.value.to_vec()).unwrap();
    let mut fold = Fold::new(0);
    let mut piece = fold.begin();
    fold.apply(1, &holding(&newer.replace(".v1", ".v2")), &mut piece);
    let [unread] = piece.parked.as_slice() else {
        panic!("{:?}", piece.parked)
    };
    assert!(
        unread.reason.ends_with("(and 2 more of this record)"),
        "{}",
        unread.reason
    );
    // Of each tenant once: visits of several share a record.
    assert_eq!(unread.tenant, tenant().uuid());
    let other = Uuid::from_u128(77);
    let of = |tenant: &str| format!("\"tenant\":\"{tenant}\"");
    let shared = newer.replacen(&of(&tenant().to_string()), &of(&other.to_string()), 1);
    let mut piece = fold.begin();
    fold.apply(2, &holding(&shared.replace(".v1", ".v2")), &mut piece);
    let mut parked: Vec<_> = piece.parked.iter().map(|it| (it.tenant, it.index)).collect();
    parked.sort_by_key(|(_, index)| *index);
    assert_eq!(parked, [(other, 0), (tenant().uuid(), 1)]);
}

#[test]
fn revenue_is_a_decimal_number() {
    assert_eq!(decimal("19.99"), Some(19_990_000_000));
    assert_eq!(decimal("-0.0000000019"), Some(-1));
    assert_eq!(decimal("7"), Some(7_000_000_000));
    for text in ["", ".", "1e3", "1,5", "--1", "123456789012345678901234567890"] {
        assert_eq!(decimal(text), None, "{text}");
    }
}

/// The lean decoder reads what the domain's own decoder reads.
#[test]
fn both_decoders_read_the_same() {
    let acts = [Did::View, Did::Act { interactive: true }, Did::ReadOn];
    let events: Vec<Happened> = acts
        .into_iter()
        .zip(1_u128..)
        .map(|(what, id)| Happened {
            what,
            import: Some((9, 3)),
            source: Some("G\u{e9}\\"),
            ..view(id, -3, "/\u{1f600}\"")
        })
        .collect();
    let lean = record(&events);
    // An attribute that our writer does not give leads to the domain's decoder.
    let text = String::from_utf8(lean.value.to_vec()).unwrap();
    let other = text.replace("\"specversion\"", "\"extra\":1,\"specversion\"");
    let (lean, other) = (decode::decode(&lean.value), decode::decode(other.as_bytes()));
    assert_eq!(lean.visits, other.visits);
    assert_eq!((lean.visits.len(), lean.bad, other.bad), (3, vec![], vec![]));
}

fn happened() -> impl Strategy<Value = Happened> {
    let paths = prop::sample::select(vec!["/", "/a", "/b", "/c"]);
    let what = prop_oneof![
        6 => Just(Did::View),
        2 => any::<bool>().prop_map(|interactive| Did::Act { interactive }),
        1 => Just(Did::ReadOn),
    ];
    let source = prop::option::of(prop::sample::select(vec!["Google", "News"]));
    // Few ids and few visitors, so that retries and visits of several events happen.
    (
        0..60_u128,
        1..4_u64,
        -90..90_i64,
        paths,
        source,
        what,
        prop::option::of((1..3_u128, 0..20_u64)),
    )
        .prop_map(|(id, visitor, minute, path, source, what, import)| Happened {
            id,
            visitor,
            minute,
            path,
            source,
            what,
            import,
        })
}

/// The rows of a log cut into pieces, with restarts from snapshots between some of them: events as they are
/// sent, and of each session its last row.
fn cut(records: &[Vec<Happened>], cuts: &[(usize, bool)]) -> (Vec<u8>, u64, u64, Vec<Row>) {
    let mut fold = Fold::new(0);
    let mut fingerprint = 0_u64;
    let mut repeated = 0;
    let mut events = EventColumns::default();
    let mut piece = fold.begin();
    piece.events = events;
    for (offset, happened) in records.iter().enumerate() {
        if let Some((_, restart)) = cuts.iter().find(|(place, _)| *place == offset) {
            let done = fold.finish(piece);
            fingerprint = fingerprint.wrapping_add(done.fingerprint);
            repeated += done.repeated;
            events = done.events;
            if *restart {
                fold = Fold::restore(&fold.snapshot()).unwrap();
            }
            piece = fold.begin();
            piece.events = events;
        }
        fold.apply(offset as u64 + 1, &record(happened), &mut piece);
    }
    let done = fold.finish(piece);
    let rows = sessions(&fold);
    (
        done.events.block(),
        fingerprint.wrapping_add(done.fingerprint),
        repeated + done.repeated,
        rows,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_cut_and_any_restart_gives_the_same_rows(
        records in prop::collection::vec(prop::collection::vec(happened(), 1..6), 1..20),
        cuts in prop::collection::vec((0..20_usize, any::<bool>()), 0..8),
    ) {
        prop_assert_eq!(cut(&records, &cuts), cut(&records, &[]));
    }

    #[test]
    fn every_event_is_in_one_session_at_most_and_none_is_lost(
        events in prop::collection::vec(happened(), 1..60),
    ) {
        let (fold, piece) = fold(&events);
        let counted: u32 = sessions(&fold).iter().map(|row| row.events).sum();
        let engagement = piece.events.rows() - counted as usize;
        prop_assert!(engagement <= events.iter().filter(|event| event.what == Did::ReadOn).count());
        prop_assert_eq!(piece.events.rows() + piece.repeated as usize, events.len());
    }

    #[test]
    fn bytes_that_are_no_snapshot_are_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0..40_usize) {
        prop_assert!(Fold::restore(&bytes).is_err());
        let (fold, _) = fold(&[view(1, 0, "/")]);
        bytes = fold.snapshot();
        bytes.truncate(bytes.len().saturating_sub(cut + 1));
        prop_assert!(Fold::restore(&bytes).is_err());
    }
}

/// How long decoding takes, lean and by the domain's decoder, and the whole fold:
/// `cargo test -p projectors --release --lib -- --ignored --nocapture speed`.
#[test]
#[ignore = "a measurement"]
fn speed() {
    let records: Vec<Record> = (0..200_u64)
        .map(|batch| {
            let events: Vec<Happened> = (0..500_u64)
                .map(|index| {
                    let number = batch * 500 + index;
                    Happened {
                        visitor: number / 4,
                        ..view(
                            u128::from(number) + 1,
                            i64::try_from(number / 1_000).unwrap(),
                            "/a/page",
                        )
                    }
                })
                .collect();
            record(&events)
        })
        .collect();
    let took = |what: &str, work: &mut dyn FnMut(&Record)| {
        let began = std::time::Instant::now();
        records.iter().for_each(work);
        let seconds = began.elapsed().as_secs_f64();
        println!("{what}: {:.0} events/s", 100_000.0 / seconds);
    };
    took("lean decoder", &mut |record| {
        assert_eq!(decode::decode(&record.value).visits.len(), 500)
    });
    took("domain's decoder", &mut |record| {
        assert_eq!(event_log::visits::decode(record).unwrap().len(), 500)
    });
    let mut fold = Fold::new(0);
    let mut piece = fold.begin();
    let mut offset = 0;
    took("fold, decoding included", &mut |record| {
        offset += 1;
        fold.apply(offset, record, &mut piece);
    });
    let piece = fold.finish(piece);
    let began = std::time::Instant::now();
    let bytes = piece.events.block().len();
    println!(
        "block: {bytes} bytes in {:?}; snapshot of {} bytes in {:?}",
        began.elapsed(),
        fold.snapshot().len(),
        began.elapsed()
    );
}

#[test]
fn a_piece_names_the_first_few_traces_of_its_events() {
    let trace = |n: u32| format!("{n:032x}");
    let events: Vec<Recorded> = (0..20)
        .map(|n: u32| {
            let mut told = recorded(&view(u128::from(n) + 1, 0, "/"));
            // Two events of each trace, and some of none.
            told.envelope.traceparent =
                (!n.is_multiple_of(5)).then(|| format!("00-{}-00f067aa0ba902b7-01", trace(n / 2)));
            told
        })
        .collect();
    let mut fold = Fold::new(0);
    let mut piece = fold.begin();
    fold.apply(1, &event_log::visits::encode(tenant(), &events), &mut piece);
    let expected: Vec<_> = [0, 1, 2, 3, 4, 5, 6, 7].map(trace).to_vec();
    assert_eq!(piece.traces, expected);
}
