//! The folds of verification match names of events as texts: no compiler says that one is missing.

use std::{collections::HashMap, fs, path::Path};

use events::Event;
use serde_json::Value;

use super::{Fold, content, directory, downloads, facts, print::Keys, rows::Expected, walk::Raw};
use read_models::standing::Slice;

/// An example of an event, of this subject and with this version.
fn example(name: &str, version: u64) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../schemas/{name}.example.json"));
    let text = fs::read_to_string(&path).unwrap();
    let mut example: Value = serde_json::from_str(&text).unwrap();
    let subject = uuid::Uuid::from_u128(7).to_string();
    example["tenant"] = uuid::Uuid::from_u128(8).to_string().into();
    example["subject"] = subject.into();
    example["aggregateversion"] = version.to_string().into();
    example.to_string()
}

fn is_of_the_ledger(name: &str) -> bool {
    ["content.", "download.", "import."]
        .iter()
        .any(|family| name.starts_with(family))
}

fn is_of_the_directory(name: &str) -> bool {
    !is_of_the_ledger(name) && !name.starts_with("visit.")
}

#[test]
fn every_event_has_its_place_in_every_fold() {
    for fold in [content::take, downloads::take, facts::take] {
        knows(fold, is_of_the_ledger);
    }
    knows(directory::take, is_of_the_directory);
}

/// Folds one of each event that it is told.
fn knows(fold: Fold, is_told: fn(&str) -> bool) {
    let mut expected = Expected::new(Slice::WHOLE, Keys::new(), None);
    let names = Event::schemas().into_iter().map(|(name, _)| name);
    let mut names: Vec<_> = names.filter(|name| is_told(name)).collect();
    // What begins an aggregate comes first, so that the others have something to follow.
    names.sort_by_key(|name| !(name.contains(".drafted.") || name.contains(".queued.")));
    let mut versions = HashMap::new();
    for name in names {
        let version: &mut u64 = versions.entry(name.split('.').next()).or_default();
        *version += 1;
        let text = example(name, *version);
        let event: Raw<'_> = serde_json::from_str(&text).unwrap();
        let folded = event.fold((0, *version, 0), *version, &mut expected, fold);
        let unknown = |reason: &String| reason.contains("verification does not know");
        assert!(!folded.as_ref().is_err_and(unknown), "{name}: {folded:?}");
    }
}
