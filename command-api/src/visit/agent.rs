//! What a user agent is: a program or a browser, on which kind of device, under which system.
//!
//! One pass over the text finds every word of [`words`] that is in it; which of them count is decided by their
//! order there. That takes about a microsecond (1.2 million a second on one core of the build
//! machine, over the user agents of the sample log), no more than asking a cache, so there is none. Browsers no
//! longer tell much in this text (it is frozen by design), so a short table of what exists says as much as a
//! collection of a thousand expressions, for a hundredth of the memory and the start-up time.

mod words;

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

use super::Dropped;
use words::{BOTS, BROWSERS, NOT_BOTS, SYSTEMS};

/// What is known of a visitor's browser; none of it for what is not in the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Agent {
    /// `Desktop`, `Mobile` or `Tablet`.
    pub device: Option<&'static str>,
    /// Such as `Firefox`.
    pub browser: Option<&'static str>,
    /// Such as `Linux`.
    pub os: Option<&'static str>,
}

/// Longest text that is looked at: browsers send less than half of it.
const LENGTH_MAX: usize = 1024;

/// Words that tell the kind of device, besides the system.
const MOBILE: &[&str] = &["mobile", "iphone", "ipod", "phone", "opera mini", "opera mobi"];
const TABLET: &[&str] = &["ipad", "tablet", "kindle", "silk/", "playbook"];

/// The automaton over all words, and where each table's words begin in it.
struct Finder {
    automaton: AhoCorasick,
    words: Vec<Word>,
}

#[derive(Clone, Copy)]
enum Word {
    Bot,
    NotBot,
    Browser(usize),
    System(usize),
    Mobile,
    Tablet,
    Compatible,
}

/// What was found in one text: of browsers and systems, the first of the table.
#[derive(Default)]
struct Found {
    bots: usize,
    not_bots: usize,
    browser: Option<usize>,
    system: Option<usize>,
    mobile: bool,
    tablet: bool,
    compatible: bool,
}

static FINDER: LazyLock<Finder> = LazyLock::new(|| {
    let browsers = BROWSERS
        .iter()
        .enumerate()
        .map(|(place, (word, _))| (*word, Word::Browser(place)));
    let systems = SYSTEMS
        .iter()
        .enumerate()
        .map(|(place, (word, _, _))| (*word, Word::System(place)));
    let (patterns, words): (Vec<_>, Vec<_>) = BOTS
        .iter()
        .map(|word| (*word, Word::Bot))
        .chain(NOT_BOTS.iter().map(|word| (*word, Word::NotBot)))
        .chain(browsers)
        .chain(systems)
        .chain(MOBILE.iter().map(|word| (*word, Word::Mobile)))
        .chain(TABLET.iter().map(|word| (*word, Word::Tablet)))
        .chain([("(compatible", Word::Compatible)])
        .unzip();
    #[expect(clippy::expect_used, reason = "the words are constants, and few")]
    let automaton = AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .build(patterns)
        .expect("words build");
    Finder { automaton, words }
});

impl Found {
    fn in_text(text: &str) -> Self {
        let mut found = Self::default();
        for hit in FINDER.automaton.find_overlapping_iter(text) {
            match FINDER.words[hit.pattern().as_usize()] {
                Word::Bot => found.bots += 1,
                Word::NotBot => found.not_bots += 1,
                Word::Browser(place) => {
                    found.browser = Some(found.browser.map_or(place, |other| other.min(place)))
                }
                Word::System(place) => {
                    found.system = Some(found.system.map_or(place, |other| other.min(place)))
                }
                Word::Mobile => found.mobile = true,
                Word::Tablet => found.tablet = true,
                Word::Compatible => found.compatible = true,
            }
        }
        found
    }

    /// Says itself to be a program, or does not say what every browser says.
    fn is_bot(&self) -> bool {
        let unknown_browser = self.browser.is_none();
        self.bots > self.not_bots || (unknown_browser && (self.system.is_none() || self.compatible))
    }
}

impl Agent {
    /// Reads a user agent.
    ///
    /// # Errors
    /// It is a program's, or there is none.
    pub fn read(text: &str) -> Result<Self, Dropped> {
        let text = text.trim();
        if text.is_empty() || text == "-" {
            return Err(Dropped::NoUserAgent);
        }
        let end = (0..=LENGTH_MAX.min(text.len()))
            .rev()
            .find(|end| text.is_char_boundary(*end))
            .unwrap_or(0);
        let text = &text[..end];
        let found = Found::in_text(text);
        if found.is_bot() {
            return Err(Dropped::Bot);
        }
        let system = found.system.map(|place| SYSTEMS[place]);
        let os = system.map(|(_, name, _)| name);
        let device = match system {
            _ if found.tablet => "Tablet",
            // Android's tablets are those that do not say "mobile".
            Some((_, "Android", _)) if !found.mobile => "Tablet",
            _ if found.mobile => "Mobile",
            Some((_, _, device)) => device,
            None => "Desktop",
        };
        Ok(Self {
            device: Some(device),
            browser: found.browser.map(|place| BROWSERS[place].1),
            os,
        })
    }
}

#[cfg(test)]
mod tests;
