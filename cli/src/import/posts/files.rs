//! Which files of a folder are posts.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// A file that may be a post.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    /// Where it is.
    pub(crate) place: PathBuf,
    /// Where it lies below the folder of the import, with `/` between the parts.
    pub(crate) path: String,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Posts, in the order of their paths.
    pub(crate) files: Vec<File>,
    /// What could not be looked into.
    pub(crate) unreadable: Vec<(String, io::Error)>,
    /// Symbolic links, which are passed over: what they lead to may be no business of a site's readers.
    pub(crate) links: Vec<String>,
}

/// Every post below the folder.
///
/// A folder with an `index.md` is one post, and whatever else lies in it belongs to that post; only the
/// outermost folder may hold an `index.md` beside other posts. Hidden names and symbolic links are passed over.
pub(crate) fn find(folder: &Path) -> io::Result<Found> {
    let mut found = Found::default();
    walk(folder, "", &mut found)?;
    found.links.sort();
    found.files.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

fn walk(folder: &Path, path: &str, found: &mut Found) -> io::Result<()> {
    let index = folder.join("index.md");
    let is_file = fs::symlink_metadata(&index).is_ok_and(|it| it.is_file());
    if !path.is_empty() && is_file {
        found.files.push(File {
            place: index,
            path: format!("{path}index.md"),
        });
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            let shown = format!("{path}{}", entry.file_name().to_string_lossy());
            found.unreadable.push((
                shown,
                io::Error::new(io::ErrorKind::InvalidInput, "its name is not UTF-8"),
            ));
            continue;
        };
        let kind = entry.file_type()?;
        if name.starts_with('.') {
            continue;
        }
        let below = format!("{path}{name}");
        if kind.is_symlink() {
            found.links.push(below);
        } else if kind.is_dir() {
            if let Err(error) = walk(&entry.path(), &format!("{below}/"), found) {
                found.unreadable.push((below, error));
            }
        } else if [".md", ".markdown"]
            .iter()
            .any(|ending| name.to_ascii_lowercase().ends_with(ending))
        {
            found.files.push(File {
                place: entry.path(),
                path: below,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_an_index_is_one_post() {
        let folder = tempfile::tempdir().unwrap();
        for path in [
            "a.md",
            "b.MARKDOWN",
            "c.txt",
            ".d.md",
            "e/index.md",
            "e/notes.md",
            "f/g/h.md",
            "index.md",
        ] {
            let place = folder.path().join(path);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::write(place, "x").unwrap();
        }
        let Found {
            files, unreadable, ..
        } = find(folder.path()).unwrap();
        let paths: Vec<_> = files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(
            paths,
            ["a.md", "b.MARKDOWN", "e/index.md", "f/g/h.md", "index.md"]
        );
        assert!(unreadable.is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn links_lead_nowhere() {
        use std::os::unix::fs::symlink;
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let secret = elsewhere.path().join("secret.md");
        fs::write(&secret, "x").unwrap();
        fs::write(folder.path().join("a.md"), "x").unwrap();
        fs::create_dir(folder.path().join("b")).unwrap();
        symlink(&secret, folder.path().join("l.md")).unwrap();
        symlink(&secret, folder.path().join("b/index.md")).unwrap();
        symlink(elsewhere.path(), folder.path().join("c")).unwrap();
        let found = find(folder.path()).unwrap();
        let paths: Vec<_> = found.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["a.md"]);
        assert_eq!(found.links, ["b/index.md", "c", "l.md"]);
    }

    /// The sample holds what importers stumble over; see its README.
    #[test]
    fn every_post_of_the_sample_is_read_with_a_slug_of_its_own() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../e2e/sample/posts");
        let Found {
            files, unreadable, ..
        } = find(&folder).unwrap();
        assert_eq!((files.len(), unreadable.len()), (40, 0));
        let mut slugs = std::collections::BTreeSet::new();
        for file in files {
            let post = super::super::post::Post::read(&file.path, &fs::read(&file.place).unwrap()).unwrap();
            assert!(
                slugs.insert(post.slug.clone()),
                "{} has the slug {} of another",
                file.path,
                post.slug
            );
        }
        assert!(slugs.contains("inside-rust-all-hands") && slugs.contains("conf-lineup-0"));
    }
}
