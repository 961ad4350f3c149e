//! Old versions of events become the current ones: vN → vN+1, one small function a step.
//!
//! A released version is never changed. A new shape is a new version in [`crate::event`], which takes the
//! variant over, and one line here that says how the old `data` becomes the new. The old schema and example
//! stay in `schemas/` for ever, and a test decodes every one of them through these steps.
//!
//! A step is pure and total on what its schema allows. What the old version did not know, the step says
//! honestly: absent, never invented.

use std::collections::BTreeMap;

use serde_json::Value;

/// From one version to the next, and back while the next may not be written yet ([`crate::feature`]).
pub(crate) struct Step {
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
    pub(crate) with: fn(Value) -> Value,
    /// What the older version says of the same. What only the newer one can say must not be asked for before the
    /// level allows it: `with` after this gives the same again.
    pub(crate) back: fn(Value) -> Value,
}

/// Every step that exists. None yet: every event is in its first version, but in a build that stands for the next
/// release.
pub(crate) const STEPS: &[Step] = if cfg!(feature = "next-event") {
    &[Step {
        from: "content.archived.v1",
        to: "content.archived.v2",
        with: |_| serde_json::json!({"reason": null}),
        back: |_| serde_json::json!({}),
    }]
} else {
    &[]
};

/// Takes data of an old version to the current one; none, when the name is of no old version.
///
/// # Errors
/// Data that is no JSON.
pub(crate) fn steps(name: &str, data: &str) -> Option<Result<(&'static str, String), serde_json::Error>> {
    through(STEPS, name, data)
}

/// The versions that some step takes on, with what they become.
pub fn released() -> BTreeMap<&'static str, &'static str> {
    STEPS.iter().map(|step| (step.from, step.to)).collect()
}

fn through(
    steps: &[Step],
    name: &str,
    data: &str,
) -> Option<Result<(&'static str, String), serde_json::Error>> {
    let first = steps.iter().find(|step| step.from == name)?;
    let climb = |value| {
        let (mut name, mut value) = (first.to, (first.with)(value));
        while let Some(step) = steps.iter().find(|step| step.from == name) {
            (name, value) = (step.to, (step.with)(value));
        }
        (name, value.to_string())
    };
    Some(serde_json::from_str(data).map(climb))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const INVENTED: &[Step] = &[
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

    #[test]
    fn an_old_version_takes_every_step_up_to_the_current_one() {
        let (name, data) = through(INVENTED, "a.happened.v1", r#"{"word":"hello"}"#)
            .unwrap()
            .unwrap();
        assert_eq!(name, "a.happened.v3");
        assert_eq!(
            serde_json::from_str::<Value>(&data).unwrap(),
            json!({"words": ["hello"], "loud": false})
        );
    }

    #[test]
    fn the_current_version_takes_none() {
        assert!(through(INVENTED, "a.happened.v3", "{}").is_none());
        assert!(through(INVENTED, "b.happened.v1", "{}").is_none());
    }

    #[test]
    fn data_that_is_no_json_is_an_error() {
        assert!(through(INVENTED, "a.happened.v1", "{").unwrap().is_err());
    }

    #[test]
    fn every_step_is_one_version_up_and_ends_at_an_event_that_exists() {
        let current: Vec<_> = crate::Event::schemas()
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        for step in STEPS {
            let (event, version) = step.from.rsplit_once(".v").unwrap();
            let next: u32 = version.parse::<u32>().unwrap() + 1;
            assert_eq!(step.to, format!("{event}.v{next}"));
            assert!(
                !current.contains(&step.from),
                "{} is old and current at once",
                step.from
            );
            assert!(current.contains(&step.to) || STEPS.iter().any(|later| later.from == step.to));
        }
    }
}
