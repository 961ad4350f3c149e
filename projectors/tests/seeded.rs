//! A test that cannot fail proves nothing: bugs are put into the projectors on purpose, and each is caught.
//!
//! `seeded.patch` puts all of them into a copy of this workspace, each behind its name, so that one build does. A bug
//! that is missed is a hole in the tests; a patch that does not apply is to be written anew, as it says.
//!
//! The bugs of the way into ClickHouse are also switched on one by one in its model, in `runner/clickhouse/model.rs`,
//! and those of the ledger in `event-log/src/writer/tests`. A token without its generation is not among them, because
//! it does no harm: tokens count within a table, and each generation has tables of its own (`read-models/tests/stats.rs`).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where it was")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A bug, and the test that is to fail of it.
const BUGS: [(&str, &str, &str); 8] = [
    (
        "a checkpoint without its condition",
        "replay",
        "several_ranges_are_written_side_by_side_and_none_by_whoever_was_fenced_off",
    ),
    (
        "a parked aggregate whose later event slips through",
        "replay",
        "a_parked_aggregate_holds_its_later_events_in_whichever_range_they_are",
    ),
    (
        "a switch before the check",
        "rebuild",
        "a_generation_that_is_not_what_the_log_says_does_not_answer",
    ),
    (
        "a retry with the same token",
        "visits",
        "a_block_that_was_lost_while_its_token_stayed_is_written_again",
    ),
    (
        "an insert again without comparing",
        "visits",
        "a_run_that_is_stopped_between_any_two_steps_loses_and_doubles_nothing",
    ),
    (
        "an insert taken for written without comparing",
        "visits",
        "a_run_that_is_stopped_between_any_two_steps_loses_and_doubles_nothing",
    ),
    (
        "a late insert of a predecessor",
        "visits",
        "what_a_predecessor_sends_late_is_refused",
    ),
    (
        "session state from the clock",
        "golden",
        "the_golden_log_gives_the_same_tables_for_ever",
    ),
];

#[test]
fn every_seeded_bug_is_caught() {
    let seeded = Seeded::make();
    let tests: Vec<&str> = BUGS.iter().map(|(_, binary, _)| *binary).collect();
    let built = seeded.cargo(&tests).arg("--no-run").status().unwrap();
    assert!(built.success(), "with seeded.patch it does not compile");
    for (bug, binary, test) in BUGS {
        let sound = seeded.run("", binary, test);
        assert!(
            sound.contains("1 passed"),
            "without any bug {test} fails:\n{sound}"
        );
        let output = seeded.run(bug, binary, test);
        assert!(
            output.contains("1 failed"),
            "{bug} went unnoticed by {test}:\n{output}"
        );
    }
}

/// The copy with the bugs. Its dependencies are the compiled ones of this workspace.
struct Seeded {
    folder: tempfile::TempDir,
}

impl Seeded {
    fn make() -> Self {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let deps = std::env::current_exe().unwrap();
        let profile = deps.parent().and_then(Path::parent).unwrap();
        let target = profile.parent().unwrap();
        let folder = tempfile::Builder::new()
            .prefix("seeded-")
            .tempdir_in(target)
            .unwrap();
        let copy = folder.path().join("copy");
        fs::create_dir(&copy).unwrap();
        for entry in fs::read_dir(workspace).unwrap() {
            let path = entry.unwrap().path();
            let generated = [".git", ".annals", "target"]
                .iter()
                .any(|name| path.ends_with(name));
            if !generated && !target.starts_with(&path) {
                // With its times, by which cargo sees what has changed.
                done(Command::new("cp").args(["-a", "-t"]).arg(&copy).arg(path));
            }
        }
        let patch = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/seeded.patch");
        done(
            Command::new("patch")
                .args(["-p1", "--quiet", "--force", "-i"])
                .arg(patch)
                .current_dir(&copy),
        );
        let seeded = Self { folder };
        let theirs = seeded.target().join(profile.file_name().unwrap());
        fs::create_dir_all(&theirs).unwrap();
        // Links, for they are large. What cargo writes in place is copied.
        for (how, what) in [("-al", "deps"), ("-al", "build"), ("-a", ".fingerprint")] {
            done(Command::new("cp").arg(how).arg(profile.join(what)).arg(&theirs));
        }
        seeded
    }

    fn target(&self) -> PathBuf {
        self.folder.path().join("target")
    }

    /// The whole workspace, so that its crates have the features that they have here.
    fn cargo(&self, tests: &[&str]) -> Command {
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args(["test", "--offline", "--quiet", "--workspace"])
            .args(tests.iter().flat_map(|test| ["--test", test]))
            .env("CARGO_TARGET_DIR", self.target())
            .env("CARGO_INCREMENTAL", "0")
            .current_dir(self.folder.path().join("copy"));
        cargo
    }

    /// What the test says with this bug switched on.
    fn run(&self, bug: &str, binary: &str, test: &str) -> String {
        let mut cargo = self.cargo(&[binary]);
        let output = cargo
            .args(["--", "--exact", test])
            .env("ANNALS_SEEDED_BUG", bug)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }
}

fn done(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
