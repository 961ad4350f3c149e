//! The test vectors of `schemas/LEDGER.md`: what this crate says of them is what the files say, byte for byte, and a
//! program that shares no code with this crate (`check.py`) says the same.
//!
//! `UPDATE=1 cargo test -p event-log --test vectors` (`./dev contracts`) writes the files anew; a released vector is
//! never changed.

use std::{collections::BTreeMap, fs, path::PathBuf, process::Command};

use event_log::{
    Claim, CommandHashes, CommandName, Commit, Genesis, Hash, Headers, LogId, Partition, Record, State,
    Verdict, record::HEADER_ORDER, slot, visits,
};
use events::{
    Envelope, EventId, PrincipalId, Recorded, TenantId, Timestamp, VisitorId, directory::TenantCreated,
};
use serde_json::{Value, json};
use uuid::Uuid;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../schemas/ledger-vectors")
}

fn uuid(number: u128) -> Uuid {
    Uuid::from_u128(0x0190_b8a0_7a2e_7000_8000_0000_0000_0000 + number)
}

fn time() -> Timestamp {
    "2026-11-21T16:03:00Z".parse().expect("a time")
}

fn tenant() -> TenantId {
    TenantId::new(uuid(1))
}

fn genesis(partition: Partition) -> Record {
    Genesis::new(LogId(uuid(0)), partition, 4).to_record()
}

fn claim(epoch: u64) -> Record {
    Claim {
        owner: format!("writer-{epoch}"),
        time: time(),
    }
    .to_record(epoch)
}

fn events(number: u64) -> Vec<Recorded> {
    let envelope = Envelope {
        id: EventId::new(uuid(1_000 + u128::from(number))),
        subject: tenant().to_string(),
        time: time(),
        tenant: tenant(),
        aggregate_version: Some(number),
        actor: Some(PrincipalId::new(uuid(2))),
        causation: None,
        correlation: None,
        traceparent: None,
    };
    vec![Recorded {
        envelope,
        event: TenantCreated {
            name: format!("Ünïcode {number}"),
        }
        .into(),
    }]
}

/// A log as it is being written by writers that obey, with strangers between.
struct Log {
    partition: Partition,
    state: State,
    records: Vec<(&'static str, Record)>,
}

impl Log {
    fn new(partition: Partition) -> Self {
        let mut log = Self {
            partition,
            state: State::default(),
            records: Vec::new(),
        };
        log.put("the partition begins", genesis(partition));
        log
    }

    /// Adds a record, whatever it is.
    fn put(&mut self, about: &'static str, record: Record) {
        self.admit(self.records.len() as u64, &record);
        self.records.push((about, record));
    }

    fn admit(&mut self, offset: u64, record: &Record) -> Verdict {
        match self.partition.topic.is_fenced() {
            true => self.state.admit(offset, record),
            false => visits::admit(offset, record),
        }
    }

    /// The commit that follows.
    fn next(&self, tenant_seq: u64, command: Option<CommandHashes>) -> Record {
        let commit = Commit {
            tenant: tenant(),
            tenant_seq,
            command,
            events: events(tenant_seq),
        };
        commit.prepare().expect("small").seal(&self.state).0
    }

    fn to_json(&self, about: &str) -> Value {
        let mut fold = Self {
            records: Vec::new(),
            state: State::default(),
            ..*self
        };
        let records = self.records.iter().zip(0..).map(|((about, record), offset)| {
            let verdict = fold.admit(offset, record);
            let (name, why) = match &verdict {
                Verdict::Genesis(_) => ("genesis", None),
                Verdict::Claimed(_) => ("claim", None),
                Verdict::Commit(_) => ("commit", None),
                Verdict::Visits => ("visits", None),
                Verdict::Void(why) => ("void", Some(why.to_string())),
            };
            let headers = record
                .headers
                .iter()
                .map(|(name, value)| json!([bytes(name), bytes(value)]));
            let mut line = json!({
                "about": about,
                "offset": offset,
                "key": record.key.as_deref().map(bytes),
                "headers": headers.collect::<Vec<_>>(),
                "value": bytes(&record.value),
                "verdict": name,
            });
            let also = line.as_object_mut().expect("an object");
            if let Some(why) = why {
                also.insert("why".to_owned(), why.into());
            }
            if self.partition.topic.is_fenced() {
                let State { epoch, seq, hash } = fold.state;
                also.insert(
                    "after".to_owned(),
                    json!({"epoch": epoch.to_string(), "seq": seq.to_string(), "hash": hash.to_string()}),
                );
            }
            line
        });
        let records = records.collect::<Vec<_>>();
        json!({"about": about, "topic": self.partition.topic.name(), "partition": self.partition.index, "records": records})
    }
}

/// Text where it is text, else base64.
fn bytes(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\u{0}') => text.into(),
        _ => json!({ "base64": base64(bytes) }),
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let chunk = |chunk: &[u8]| {
        let bits = chunk
            .iter()
            .fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        let digit = |place: usize| match place <= chunk.len() {
            true => DIGITS[(bits >> (18 - 6 * place)) as usize & 63] as char,
            false => '=',
        };
        (0..4).map(digit).collect::<String>()
    };
    bytes.chunks(3).map(chunk).collect()
}

fn with(record: &Record, name: &str, value: &[u8]) -> Record {
    let headers = record
        .headers
        .iter()
        .map(|(this, old)| (this, if this == name.as_bytes() { value } else { old }));
    Record {
        headers: Headers::new(headers),
        ..record.clone()
    }
}

fn without(record: &Record, name: &str) -> Record {
    let headers = record.headers.iter().filter(|(this, _)| *this != name.as_bytes());
    Record {
        headers: Headers::new(headers),
        ..record.clone()
    }
}

fn plus(record: &Record, name: &str, value: &[u8]) -> Record {
    let headers = record.headers.iter().chain([(name.as_bytes(), value)]);
    Record {
        headers: Headers::new(headers),
        ..record.clone()
    }
}

/// Gives a commit the hash that its headers and its value have after this state.
fn rehashed(record: &Record, at: &State) -> Record {
    let bare = without(record, "annals-hash");
    let hash = at.hash.then(&bare).to_string();
    plus(&bare, "annals-hash", hash.as_bytes())
}

fn history() -> Log {
    let mut log = Log::new(Partition::ledger(0));
    log.put("a writer claims", claim(1));
    let key = CommandHashes {
        name: CommandName::Key([0xAB; 16]),
        request: [0x01; 16],
    };
    log.put(
        "a commit of a command that the client named",
        log.next(1, Some(key)),
    );
    let id = CommandHashes {
        name: CommandName::Id([0xCD; 16]),
        request: [0x02; 16],
    };
    log.put(
        "a commit of a command that the process named",
        log.next(2, Some(id)),
    );
    log.put("a commit without annals-command", log.next(3, None));
    log.put("another writer claims", claim(2));
    log.put("its first commit has number 1", log.next(4, None));
    let mut headers: Vec<_> = HEADER_ORDER.to_vec();
    headers.reverse();
    let record = log.next(5, Some(key));
    let reversed = headers
        .iter()
        .filter_map(|name| Some((name.as_bytes(), record.header(name)?)));
    let moved = Record {
        headers: Headers::new(reversed),
        ..record.clone()
    };
    log.put("the order of headers on the wire does not matter", moved);
    log.put(
        "a header of somebody else does not matter",
        plus(&log.next(6, None), "x-mirror", b"\xff\x00\x01"),
    );
    log.put(
        "a key is not looked at",
        Record {
            key: None,
            ..log.next(7, None)
        },
    );
    log
}

fn fencing() -> Log {
    let mut log = Log::new(Partition::ledger(1));
    log.put("nobody has claimed yet", {
        let claimed = State {
            epoch: 1,
            ..log.state
        };
        Commit {
            tenant: tenant(),
            tenant_seq: 1,
            command: None,
            events: events(1),
        }
        .prepare()
        .expect("small")
        .seal(&claimed)
        .0
    });
    log.put("a claim that skips an epoch", claim(2));
    log.put("a writer claims", claim(1));
    log.put(
        "the same epoch is claimed by another",
        Claim {
            owner: "late".to_owned(),
            time: time(),
        }
        .to_record(1),
    );
    let first = log.next(1, None);
    log.put("the first commit", first.clone());
    log.put("the same record again", first);
    let second = log.next(2, None);
    let after = {
        let mut state = log.state;
        state.admit(99, &second);
        state
    };
    let third = Commit {
        tenant: tenant(),
        tenant_seq: 3,
        command: None,
        events: events(3),
    }
    .prepare()
    .expect("small")
    .seal(&after)
    .0;
    log.put("a number is skipped", third.clone());
    log.put(
        "an edited value",
        Record {
            value: b"[]".to_vec().into(),
            ..second.clone()
        },
    );
    log.put("an edited header", with(&second, "annals-tenant-seq", b"3"));
    log.put("the second commit", second);
    log.put("another writer claims", claim(2));
    log.put("the old writer's commit arrives late", third);
    log.put("a second genesis", genesis(Partition::ledger(1)));
    log.put("visits do not belong here", visits::encode(tenant(), &events(9)));
    log.put("the new writer's first commit", log.next(3, None));
    log
}

fn malformed() -> Log {
    let mut log = Log::new(Partition::ledger(2));
    log.put("a writer claims", claim(1));
    log.put("nothing at all", Record::default());
    log.put(
        "bytes",
        Record {
            value: vec![0, 159, 146, 150].into(),
            ..Record::default()
        },
    );
    let good = log.next(1, None);
    let at = log.state;
    let mut bad = |about, record: Record| log.put(about, rehashed(&record, &at));
    bad("an unknown kind", with(&good, "annals-kind", b"Commit"));
    bad(
        "another media type",
        with(&good, "content-type", b"application/json"),
    );
    bad(
        "a media type with a parameter",
        with(
            &good,
            "content-type",
            b"application/cloudevents-batch+json; charset=utf-8",
        ),
    );
    bad("an epoch with a leading zero", with(&good, "annals-epoch", b"01"));
    bad("an epoch with a sign", with(&good, "annals-epoch", b"+1"));
    bad("an epoch of zero", with(&good, "annals-epoch", b"0"));
    bad(
        "an epoch in other digits",
        with(&good, "annals-epoch", "\u{661}".as_bytes()),
    );
    bad("a number with a space", with(&good, "annals-seq", b"1 "));
    bad(
        "a number of 2^64",
        with(&good, "annals-tenant-seq", b"18446744073709551616"),
    );
    bad("an empty number", with(&good, "annals-seq", b""));
    bad("no number", without(&good, "annals-seq"));
    bad(
        "no number among the tenant's",
        without(&good, "annals-tenant-seq"),
    );
    bad("no kind", without(&good, "annals-kind"));
    bad("no media type", without(&good, "content-type"));
    bad(
        "an annals-command in another form",
        plus(&good, "annals-command", b"key=abcd;request=abcd"),
    );
    bad(
        "an annals-command without a request",
        plus(&good, "annals-command", b"key=abababababababababababababababab"),
    );
    bad("a header twice", plus(&good, "annals-seq", b"1"));
    bad("a header that is not text", with(&good, "annals-epoch", b"\xff"));
    log.put("no hash", without(&good, "annals-hash"));
    let upper = Hash(
        good.header("annals-hash")
            .and_then(|hex| Hash::from_hex(std::str::from_utf8(hex).ok()?))
            .expect("a hash")
            .0,
    );
    log.put(
        "a hash in upper case",
        with(&good, "annals-hash", upper.to_string().to_uppercase().as_bytes()),
    );
    log.put("a claim with a number", plus(&claim(2), "annals-seq", b"1"));
    log.put(
        "a claim with a hash",
        plus(&claim(2), "annals-hash", at.hash.to_string().as_bytes()),
    );
    log.put("a claim without an epoch", without(&claim(2), "annals-epoch"));
    log.put(
        "a claim of a batch's media type",
        with(&claim(2), "content-type", b"application/cloudevents-batch+json"),
    );
    log.put("a good commit after all that", good);
    log.put(
        "a claim counts whatever its value says",
        Record {
            value: b"not json".to_vec().into(),
            ..claim(2)
        },
    );
    log
}

fn no_genesis(partition: Partition, about: &'static str, first: Record) -> Log {
    let mut log = Log {
        partition,
        state: State::default(),
        records: Vec::new(),
    };
    log.put(about, first);
    log.put("too late", genesis(partition));
    log.put("nothing counts", claim(1));
    log
}

fn bad_genesis(edit: impl FnOnce(&mut Value)) -> Record {
    let good = genesis(Partition::ledger(0));
    let mut value: Value = serde_json::from_slice(&good.value).expect("json");
    edit(&mut value);
    Record {
        value: sorted(value).to_string().into(),
        ..good
    }
}

fn more() -> Log {
    let mut log = Log {
        partition: Partition::ledger(0),
        state: State::default(),
        records: Vec::new(),
    };
    let members = r#""made_by":"a","made_by":{"format":2,"format":3}"#;
    log.put("a genesis with more members", genesis_with(members));
    log.put("a claim", claim(1));
    log
}

/// With these members, as text, before its own.
fn genesis_with(members: &str) -> Record {
    let good = genesis(Partition::ledger(0));
    let own = String::from_utf8(good.value.to_vec()).expect("text");
    Record {
        value: own.replacen('{', &format!("{{{members},"), 1).into(),
        ..good
    }
}

fn visits_log() -> Log {
    let mut log = Log::new(Partition::visits(0));
    log.put("visits", visits::encode(tenant(), &events(1)));
    log.put(
        "the same again: a fold drops ids that it has seen, admission does not",
        visits::encode(tenant(), &events(1)),
    );
    log.put("visits are not claimed", claim(1));
    log.put(
        "garbage",
        Record {
            value: b"garbage".to_vec().into(),
            ..Record::default()
        },
    );
    log.put(
        "visits with an epoch",
        plus(&visits::encode(tenant(), &events(2)), "annals-epoch", b"1"),
    );
    log.put("a second genesis", genesis(Partition::visits(0)));
    log.put("visits", visits::encode(tenant(), &events(3)));
    log
}

fn slots() -> Value {
    let tenants = (0..8).map(|number| {
        let tenant = TenantId::new(uuid(number));
        json!({"tenant": tenant, "slot": slot::of_tenant(tenant)})
    });
    let visitors = [0, 1, 0x0123_4567_89ab_cdef, u64::MAX].map(|visitor| {
        let visitor = VisitorId::new(visitor);
        json!({"tenant": tenant(), "visitor": visitor, "slot": slot::of_visitor(tenant(), visitor)})
    });
    let tables = [1, 2, 3, 4]
        .map(|partitions| json!({"partitions": partitions, "slots": slot::SlotTable::even(partitions)}));
    json!({
        "about": "the slots of tenants and of visitors, and the even tables",
        "tenants": tenants.collect::<Vec<_>>(), "visitors": visitors, "tables": tables,
    })
}

fn vectors() -> Vec<(&'static str, Value)> {
    vec![
        (
            "history",
            history().to_json("two writers, one after the other; all is admitted"),
        ),
        (
            "fencing",
            fencing().to_json("late, repeated, skipped, edited and foreign records are void"),
        ),
        (
            "malformed",
            malformed().to_json("headers have one form; whatever has another is void"),
        ),
        (
            "no-genesis-claim",
            no_genesis(Partition::ledger(0), "a claim in the genesis's place", claim(1))
                .to_json("a partition without a genesis"),
        ),
        (
            "no-genesis-format",
            no_genesis(
                Partition::ledger(0),
                "a genesis of another format",
                bad_genesis(|value| value["format"] = json!(2)),
            )
            .to_json("a partition of another format"),
        ),
        (
            "no-genesis-slots",
            no_genesis(
                Partition::ledger(0),
                "a slot without a partition",
                bad_genesis(|value| value["slots"][0][1] = json!(4_094)),
            )
            .to_json("a partition whose slot table has a gap"),
        ),
        (
            "no-genesis-twice",
            no_genesis(
                Partition::ledger(0),
                "a genesis that says its format twice",
                genesis_with(r#""format":1"#),
            )
            .to_json("a partition whose genesis may be read in two ways"),
        ),
        (
            "genesis-more",
            more().to_json("a genesis may have members that mean nothing here, even twice"),
        ),
        (
            "no-genesis-visits",
            no_genesis(
                Partition::visits(0),
                "visits in the genesis's place",
                visits::encode(tenant(), &events(1)),
            )
            .to_json("a partition of visits without a genesis: a reader refuses it"),
        ),
        (
            "visits",
            visits_log().to_json("a partition of visits: no epochs, no hashes"),
        ),
        ("slots", slots()),
    ]
}

/// The same with its members in one order, whichever way serde_json was built to keep them.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let members: BTreeMap<_, _> = members.into_iter().collect();
            Value::Object(
                members
                    .into_iter()
                    .map(|(name, value)| (name, sorted(value)))
                    .collect(),
            )
        }
        Value::Array(values) => Value::Array(values.into_iter().map(sorted).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}

#[test]
fn the_vectors_are_what_this_crate_says() {
    for (name, vector) in vectors() {
        let path = folder().join(format!("{name}.json"));
        let text = serde_json::to_string_pretty(&sorted(vector)).expect("json") + "\n";
        if std::env::var_os("UPDATE").is_some() {
            fs::create_dir_all(folder()).expect("a folder");
            fs::write(&path, &text).expect("written");
        }
        let committed = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(
            committed,
            text,
            "{} differs: ./dev contracts writes it anew",
            path.display()
        );
    }
}

#[test]
fn every_kind_of_verdict_stands_in_the_vectors() {
    let all = vectors();
    let verdicts: Vec<_> = all
        .iter()
        .flat_map(|(_, vector)| vector["records"].as_array().cloned().unwrap_or_default())
        .map(|record| record["verdict"].as_str().expect("text").to_owned())
        .collect();
    for verdict in ["genesis", "claim", "commit", "visits", "void"] {
        assert!(verdicts.iter().any(|found| found == verdict), "{verdict}");
    }
}

#[test]
fn the_vectors_are_what_a_stranger_says() {
    let checked = Command::new("python3")
        .arg(folder().join("check.py"))
        .output()
        .expect("python3 is needed to check the ledger vectors with a program of another language");
    let said =
        String::from_utf8_lossy(&checked.stderr).into_owned() + &String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success(), "{said}");
}
