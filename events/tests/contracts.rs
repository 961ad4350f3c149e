//! The contract with everyone who reads the log, held by three locks:
//!
//! 1. what the code writes is what `schemas/` says: every schema and example is made anew and compared;
//! 2. every version that was ever released decodes, is brought up to date, and fits its schema;
//! 3. what is in `schemas/released.txt` is there, byte for byte.
//!
//! `UPDATE=1 cargo test -p events --test contracts` (`./dev contracts`) writes the files of the first lock;
//! nothing writes over a released one.

mod contracts {
    pub(crate) mod examples;
    pub(crate) mod json;
    pub(crate) mod schema;
}

use std::{collections::BTreeMap, fs, path::PathBuf};

use contracts::{
    examples::examples,
    json::{minified, pretty},
    schema::schema_of,
};
use events::{Event, Recorded, envelope, upcast};
use serde_json::Value;
use sha2::{Digest, Sha256};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../schemas")
}

fn read(name: &str) -> String {
    fs::read_to_string(folder().join(name)).unwrap_or_else(|error| panic!("schemas/{name}: {error}"))
}

fn parsed(name: &str) -> Value {
    serde_json::from_str(&read(name)).unwrap_or_else(|error| panic!("schemas/{name}: {error}"))
}

/// One event as the log has it, without the batch around it.
fn encoded(event: &Recorded) -> String {
    let batch = String::from_utf8(envelope::encode(std::slice::from_ref(event))).expect("JSON is UTF-8");
    batch
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .expect("a batch is an array")
        .to_owned()
}

/// Every file that the code says, by name.
fn generated() -> BTreeMap<String, String> {
    let examples = examples();
    let mut files = BTreeMap::new();
    for (name, data) in Event::schemas() {
        let of_this: Vec<_> = examples
            .iter()
            .filter(|example| example.event.wire_name() == name)
            .collect();
        let [example] = of_this[..] else {
            panic!(
                "{name} has {} examples in events/tests/contracts/examples.rs, expected one",
                of_this.len()
            );
        };
        let mut schema = schema_of(name, data.into());
        schema.sort_all_objects(); // the same text, whatever features serde_json was built with
        let schema = serde_json::to_string_pretty(&schema).expect("a schema is JSON");
        files.insert(format!("{name}.json"), schema + "\n");
        files.insert(format!("{name}.example.json"), pretty(&encoded(example)));
    }
    files
}

/// Writes the files anew when asked to, once, before any test reads them.
fn up_to_date() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        if std::env::var_os("UPDATE").is_none() {
            return;
        }
        let released: BTreeMap<_, _> = released().into_iter().collect();
        for (name, text) in generated() {
            if !released.contains_key(&name) {
                fs::write(folder().join(&name), text)
                    .unwrap_or_else(|error| panic!("schemas/{name}: {error}"));
            }
        }
    });
}

/// Names of all events that have an example, of every version.
fn names() -> Vec<String> {
    let files = fs::read_dir(folder()).expect("schemas/ is there");
    let names = files.filter_map(|file| {
        Some(
            file.ok()?
                .file_name()
                .to_str()?
                .strip_suffix(".example.json")?
                .to_owned(),
        )
    });
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

fn released() -> Vec<(String, String)> {
    let line = |line: &str| {
        let (hash, name) = line
            .split_once("  ")
            .unwrap_or_else(|| panic!("schemas/released.txt: {line:?}"));
        (name.to_owned(), hash.to_owned())
    };
    read("released.txt").lines().map(line).collect()
}

#[test]
fn schemas_and_examples_are_what_the_code_says() {
    up_to_date();
    let files = generated();
    for (name, text) in files {
        assert!(
            read(&name) == text,
            "schemas/{name} is not what the code says: a new version, or ./dev contracts?"
        );
    }
}

#[test]
fn every_version_ever_written_decodes_and_fits_its_schema() {
    up_to_date();
    let names = names();
    assert!(names.len() >= Event::schemas().len());
    let old = upcast::released();
    for name in names {
        let text = minified(&read(&format!("{name}.example.json")));
        let example: Value = serde_json::from_str(&text).expect("an example is JSON");
        assert_eq!(
            example["type"],
            name.as_str(),
            "the example's type and its file's name"
        );
        let decoded = envelope::decode(format!("[{text}]").as_bytes())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        if old.contains_key(name.as_str()) {
            assert_ne!(
                decoded[0].event.wire_name(),
                name,
                "an old version becomes the current one"
            );
        } else {
            assert_eq!(decoded[0].event.wire_name(), name);
            assert_eq!(encoded(&decoded[0]), text, "{name}: written again, byte for byte");
        }
        let schema = parsed(&format!("{name}.json"));
        let validator = jsonschema::options().should_validate_formats(true).build(&schema);
        let validator = validator.unwrap_or_else(|error| panic!("schemas/{name}.json: {error}"));
        if let Err(error) = validator.validate(&example) {
            panic!(
                "schemas/{name}.example.json at {}: {error}",
                error.instance_path()
            );
        }
        refuses_what_is_wrong(&name, &validator, &example);
    }
}

/// A schema that takes everything would hold nothing.
fn refuses_what_is_wrong(name: &str, validator: &jsonschema::Validator, example: &Value) {
    let wrong = |change: &dyn Fn(&mut Value)| {
        let mut event = example.clone();
        change(&mut event);
        assert!(!validator.is_valid(&event), "schemas/{name}.json takes {event}");
    };
    wrong(&|event| event["data"]["unheard_of"] = Value::from(1));
    wrong(&|event| event["type"] = Value::from("other.v1"));
    wrong(&|event| event["specversion"] = Value::from("2.0"));
    wrong(&|event| event["tenant"] = Value::from("me"));
    wrong(&|event| event["data"] = Value::Null);
    wrong(&|event| {
        event
            .as_object_mut()
            .expect("an event is an object")
            .remove("time");
    });
}

#[test]
fn what_was_released_is_there_byte_for_byte() {
    up_to_date();
    let released = released();
    assert!(!released.is_empty());
    for (name, hash) in released {
        let found: String = Sha256::digest(read(&name))
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            found, hash,
            "schemas/{name} was released and must never change: add a new version"
        );
    }
}
