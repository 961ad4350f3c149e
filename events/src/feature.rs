//! Feature levels: which event versions may be written yet.
//!
//! Releases run side by side while an installation is brought up to date. A release reads every version that it
//! knows, from its first start on; it writes a new one only when the directory's level allows it, and until then the
//! version before. An operator raises the level when every running process knows it, and it never goes back: what
//! was written stays.

use crate::upcast;

/// Versions and types that may be written from a level on, later than 0. A version that is not here is as old as the
/// log. A new version stands here with the level that follows the last one; the step that leads to it (`upcast.rs`)
/// says also how to write the one before. A new type has none before it: its command waits for the level.
const WRITTEN_FROM: &[(&str, u16)] = if cfg!(feature = "next-event") {
    &[("content.archived.v2", 1)]
} else {
    &[]
};

/// The highest level that this release knows.
pub const KNOWN: u16 = highest(WRITTEN_FROM);

/// An event may not be written yet: the installation's feature level is too low.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} is written from feature level {level} on: `annals feature-level` says how to come there")]
pub struct NotYet {
    /// Its name on the wire.
    pub name: &'static str,
    /// From which level on.
    pub level: u16,
}

const fn highest(written_from: &[(&str, u16)]) -> u16 {
    let (mut highest, mut index) = (0, 0);
    while index < written_from.len() {
        if written_from[index].1 > highest {
            highest = written_from[index].1;
        }
        index += 1;
    }
    highest
}

/// The steps back that lead from the current version to the one that this level allows, which is the last one's
/// `from`; none, when the current one may be written.
pub(crate) fn back(name: &'static str, level: u16) -> Result<Vec<&'static upcast::Step>, NotYet> {
    through(WRITTEN_FROM, upcast::STEPS, name, level)
}

fn through<'a>(
    written_from: &[(&str, u16)],
    steps: &'a [upcast::Step],
    mut name: &'static str,
    level: u16,
) -> Result<Vec<&'a upcast::Step>, NotYet> {
    let mut back = Vec::new();
    while let Some((_, needed)) = written_from
        .iter()
        .find(|(known, needed)| *known == name && *needed > level)
    {
        let step = steps.iter().find(|step| step.to == name);
        let step = step.ok_or(NotYet { name, level: *needed })?;
        back.push(step);
        name = step.from;
    }
    Ok(back)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::upcast::Step;

    /// What is neither was added by a release that does not say so: older ones would meet it unawares, and nothing
    /// would keep its schema as it is.
    #[test]
    fn every_event_is_released_or_waits_for_a_level() {
        let released = include_str!("../../schemas/released.txt");
        for (name, _) in crate::Event::schemas() {
            let is_released = released.contains(&format!("  {name}.json\n"));
            let waits = WRITTEN_FROM.iter().any(|(known, _)| *known == name);
            assert!(is_released || waits, "{name} is in neither (schemas/README.md)");
        }
    }

    const STEPS: &[Step] = &[
        Step {
            from: "a.happened.v1",
            to: "a.happened.v2",
            with: |old| json!({"words": [old["word"]]}),
            back: |new| json!({"word": new["words"][0]}),
        },
        Step {
            from: "a.happened.v2",
            to: "a.happened.v3",
            with: |old| json!({"words": old["words"], "loud": false}),
            back: |new| json!({"words": new["words"]}),
        },
    ];
    const FROM: &[(&str, u16)] = &[("a.happened.v2", 1), ("a.happened.v3", 3), ("b.happened.v1", 2)];

    fn written(name: &'static str, level: u16) -> Result<&'static str, NotYet> {
        let back = through(FROM, STEPS, name, level)?;
        Ok(back.last().map_or(name, |step| step.from))
    }

    #[test]
    fn the_version_that_the_level_allows_is_written() {
        let versions = [0, 1, 2, 3, 4].map(|level| written("a.happened.v3", level).unwrap());
        let expected = ["v1", "v2", "v2", "v3", "v3"].map(|version| format!("a.happened.{version}"));
        assert_eq!(versions.map(str::to_owned), expected);
        assert_eq!(written("as.old.as.the.log.v1", 0), Ok("as.old.as.the.log.v1"));
    }

    #[test]
    fn a_new_type_waits_for_its_level() {
        let name = "b.happened.v1";
        assert_eq!(written(name, 1), Err(NotYet { name, level: 2 }));
        assert_eq!(written(name, 2), Ok(name));
    }

    #[test]
    fn what_was_written_back_comes_up_again() {
        let new = json!({"words": ["hello"], "loud": false});
        let back = through(FROM, STEPS, "a.happened.v3", 0).unwrap();
        let old = back.iter().fold(new.clone(), |data, step| (step.back)(data));
        assert_eq!(old, json!({"word": "hello"}));
        let up = back.iter().rev().fold(old, |data, step| (step.with)(data));
        assert_eq!(up, new);
    }

    #[test]
    fn the_highest_level_is_known() {
        assert_eq!((highest(&[]), highest(FROM)), (0, 3));
    }
}
