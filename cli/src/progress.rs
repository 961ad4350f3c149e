//! How far a long command is: a bar with rate and time left, or plain lines where nobody watches a terminal.

use std::{
    io::{IsTerminal, stderr},
    sync::Mutex,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// One bar; shared by whoever works.
pub(crate) struct Progress {
    bar: ProgressBar,
    unit: String,
    /// What was done before it began.
    before: u64,
    /// When the last plain line was written; none on a terminal, where the bar draws itself.
    plain: Option<Mutex<Instant>>,
}

/// How far apart plain lines are.
const PLAIN_EVERY: Duration = Duration::from_secs(2);

/// No estimate is as long as this.
const UNKNOWN: Duration = Duration::from_secs(30 * 24 * 60 * 60);

impl Progress {
    /// A bar for `length` things of which `done` are there already.
    pub(crate) fn new(unit: impl Into<String>, length: u64, done: u64) -> Self {
        let unit = unit.into();
        let terminal = stderr().is_terminal();
        let target = if terminal {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(length), target).with_position(done);
        let template =
            format!("{{bar:30}} {{human_pos}}/{{human_len}} {unit}  {{per_sec}}  {{left}}  {{msg}}");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            let left = |state: &ProgressState, to: &mut dyn std::fmt::Write| {
                let _ = to.write_str(&left(state.eta()));
            };
            bar.set_style(style.with_key("left", left));
        }
        bar.reset_eta();
        Self {
            bar,
            unit,
            before: done,
            plain: (!terminal).then(|| Mutex::new(Instant::now())),
        }
    }

    /// A count of things of which nobody knows how many there will be.
    pub(crate) fn open(unit: &str) -> Self {
        let this = Self::new(unit, 0, 0);
        this.bar.unset_length();
        let template = format!("{{spinner}} {{human_pos}} {unit}  {{per_sec}}");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            this.bar.set_style(style);
        }
        this
    }

    /// It is longer than was known.
    pub(crate) fn reach(&self, length: u64) {
        self.bar.set_length(length);
    }

    /// So many more are done.
    pub(crate) fn add(&self, count: u64) {
        self.bar.inc(count);
        let Some(last) = &self.plain else { return };
        let Ok(mut last) = last.lock() else { return };
        if last.elapsed() >= PLAIN_EVERY {
            *last = Instant::now();
            eprintln!("{}", self.line());
        }
    }

    /// What is being done, beside what is counted.
    pub(crate) fn say(&self, what: &'static str) {
        self.bar.set_message(what);
    }

    /// Ends it: the bar goes away, what was done stays said.
    pub(crate) fn finish(&self) {
        let line = self.done();
        self.bar.finish_and_clear();
        eprintln!("{line}");
    }

    /// What was done, now and before.
    fn done(&self) -> String {
        let done = self.bar.position().saturating_sub(self.before);
        let before = match self.before {
            0 => String::new(),
            before => format!(" ({before} were there before)"),
        };
        format!(
            "{done} {} in {:.1} s{before}",
            self.unit,
            self.bar.elapsed().as_secs_f64()
        )
    }

    fn line(&self) -> String {
        let (position, rate, said) = (self.bar.position(), self.bar.per_sec(), self.bar.message());
        let Some(length) = self.bar.length() else {
            return format!("{position} {}, {rate:.0}/s", self.unit);
        };
        let left = left(self.bar.eta());
        let line = format!("{position}/{length} {}, {rate:.0}/s, {left}  {said}", self.unit);
        line.trim_end().to_owned()
    }
}

/// In words; what stands still seems to take for ever.
fn left(time: Duration) -> String {
    match time {
        time if time < UNKNOWN => format!("{} s left", time.as_secs()),
        _ => "time left unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_line_says_what_is_being_done() {
        let progress = Progress::new("records", 4, 4);
        assert!(progress.line().ends_with(" left"), "{}", progress.line());
        progress.say("comparing");
        assert!(
            progress.line().starts_with("4/4 records, "),
            "{}",
            progress.line()
        );
        assert!(progress.line().ends_with("  comparing"), "{}", progress.line());
    }

    #[test]
    fn what_was_done_before_is_told_apart() {
        let first = Progress::new("records of ledger/0", 7, 0);
        first.add(7);
        assert!(
            first.done().starts_with("7 records of ledger/0 in "),
            "{}",
            first.done()
        );
        assert!(first.done().ends_with(" s"), "{}", first.done());
        let again = Progress::new("records of ledger/0", 9, 7);
        again.add(2);
        assert!(
            again.done().starts_with("2 records of ledger/0 in "),
            "{}",
            again.done()
        );
        assert!(
            again.done().ends_with(" s (7 were there before)"),
            "{}",
            again.done()
        );
    }
}
