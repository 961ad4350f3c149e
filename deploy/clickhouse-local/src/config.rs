//! The engine's configuration: the template `config.xml` with paths and password hashes filled in.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use crate::arguments::Passwords;

const TEMPLATE: &str = include_str!("../config.xml");

/// The finished text of a configuration file.
pub(crate) struct Config(String);

impl Config {
    /// Fills in the template; `path` is where the file will stand, for it names itself as the list of users.
    pub(crate) fn new(path: &Path, passwords: &Passwords) -> Self {
        let text = TEMPLATE
            .replace("{{config_path}}", &escaped(&path.to_string_lossy()))
            .replace("{{launcher}}", &hash(&passwords.launcher))
            .replace("{{writer}}", &hash(&passwords.writer))
            .replace("{{reader}}", &hash(&passwords.reader))
            .replace("{{analyst}}", &hash(&passwords.analyst));
        Self(text)
    }

    /// Writes the file for this user's eyes only.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let new = path.with_extension("xml.new");
        let mut file = fs::File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)
            .with_context(|| format!("cannot write {}", new.display()))?;
        file.write_all(self.0.as_bytes())
            .with_context(|| format!("cannot write {}", new.display()))?;
        fs::rename(&new, path).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// ClickHouse's `password_sha256_hex`.
fn hash(password: &str) -> String {
    hex::encode(Sha256::digest(password))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_written_in_the_clear_and_no_place_is_left_open() {
        let passwords = Passwords {
            writer: "w-secret".into(),
            reader: "r-secret".into(),
            analyst: "a-secret".into(),
            launcher: "l-secret".into(),
        };
        let Config(text) = Config::new(Path::new("/a & b/config.xml"), &passwords);
        assert!(!text.contains("-secret"), "{text}");
        assert!(text.contains("<path>/a &amp; b/config.xml</path>"), "{text}");
        assert_eq!(
            text.matches("{{").count(),
            1,
            "only the opening comment may speak of {{braces}}"
        );
        // printf %s w-secret | sha256sum
        let expected = "90d69e968ead0b001bf76513a78e28b5533c4aa1baee660698fae819a1e823cb";
        assert!(
            text.contains(&format!("<password_sha256_hex>{expected}</password_sha256_hex>")),
            "{text}"
        );
    }
}
