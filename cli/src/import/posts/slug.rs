//! The slug of a file: from its name and the folders that it lies in, never from other files, so that a file
//! added later changes no slug.

use super::date;

/// As long as the API takes.
const LONGEST: usize = 200;

/// Lower-case letters, digits and single hyphens of this text; none, when nothing of it is left.
pub(crate) fn of_text(text: &str) -> Option<String> {
    let ascii = deunicode::deunicode(text);
    let mut slug = String::with_capacity(ascii.len());
    for character in ascii.chars() {
        if character.is_ascii_alphanumeric() {
            slug.push(character.to_ascii_lowercase());
        } else if !matches!(character, '\'' | '"') && !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.truncate(LONGEST);
    let slug = slug.trim_end_matches('-');
    (!slug.is_empty()).then(|| slug.to_owned())
}

/// The slug of a file: folders that are no dates, and its name without a date: `inside/2020/x.md` is `inside-x`.
pub(crate) fn of_path(path: &str) -> Option<String> {
    let named = without_index(path);
    let folders = named.rsplit_once('/').map_or("", |(folders, _)| folders);
    let is_date = |part: &&str| part.len() <= 4 && part.bytes().all(|byte| byte.is_ascii_digit());
    let folders = folders
        .split('/')
        .filter(|part| !is_date(part) && *part != "_posts");
    let words: Vec<&str> = folders.chain([name(path)]).collect();
    of_text(&words.join(" "))
}

/// What a file is called: without its ending and a date before it; a folder's `index.md` by the folder.
pub(crate) fn name(path: &str) -> &str {
    let named = without_index(path);
    let name = named.rsplit_once('/').map_or(named, |(_, name)| name);
    match date::split_name(name) {
        (Some(_), "") | (None, _) => name,
        (Some(_), rest) => rest,
    }
}

/// The path without `.md`, and without `/index` or `/_index`; an index at the top is called `index`.
fn without_index(path: &str) -> &str {
    let path = path.rsplit_once('.').map_or(path, |(path, _ending)| path);
    let of_folder = path
        .strip_suffix("/index")
        .or_else(|| path.strip_suffix("/_index"));
    match of_folder {
        Some(folder) => folder,
        None if path == "_index" => "index",
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_become_slugs() {
        for (path, slug) in [
            ("Rust-1.88.0.md", "rust-1-88-0"),
            ("Rust-1.12/index.md", "rust-1-12"),
            ("conf-lineup@0.md", "conf-lineup-0"),
            ("all-hands.md", "all-hands"),
            ("inside-rust/all-hands.md", "inside-rust-all-hands"),
            ("inside-rust/_index.md", "inside-rust"),
            ("_index.md", "index"),
            ("index.md", "index"),
            ("2019/07/2019-07-04-über-café.markdown", "uber-cafe"),
            ("_posts/2019-07-04-x.md", "x"),
            ("2019-07-04.md", "2019-07-04"),
        ] {
            assert_eq!(of_path(path).as_deref(), Some(slug), "{path}");
        }
        assert_eq!(of_text("--- !"), None);
    }

    proptest! {
        #[test]
        fn a_slug_is_a_slug_and_stays_one(text in ".{0,300}") {
            if let Some(slug) = of_text(&text) {
                prop_assert!(slug.len() <= LONGEST && !slug.starts_with('-') && !slug.ends_with('-'));
                prop_assert!(!slug.contains("--"));
                prop_assert!(slug.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-')));
                prop_assert_eq!(of_text(&slug), Some(slug));
            }
        }
    }
}
