//! Imports: everything is there once, however often they were interrupted and repeated, and the statistics are what
//! the log says.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use e2e::{
    installation::{Installation, LogKind},
    wait,
};
use serde_json::json;

use crate::sample::{self, SITE, run, told};

#[tokio::test]
async fn posts_are_imported_once_on_the_embedded_log() {
    posts_are_imported_once(LogKind::Embedded).await;
}

#[tokio::test]
async fn posts_are_imported_once_on_kafka() {
    posts_are_imported_once(LogKind::Kafka).await;
}

async fn posts_are_imported_once(log: LogKind) {
    let annals = crate::running(log).await;
    let key = annals.tenant("blog", SITE).await.unwrap();
    // A folder of our own: a file in it will change.
    let folder = tempfile::tempdir().unwrap();
    copy(&sample::posts(), folder.path());
    std::fs::write(folder.path().join("broken.md"), "+++\ntitle = \n+++\n").unwrap();
    let dir = folder.path().to_str().unwrap();
    let args = ["import", "posts", dir, "--site", SITE];

    // Killed without mercy in the middle.
    let mut child = annals
        .annals(&key, &["import", "posts", dir, "--site", SITE, "--at-once", "1"])
        .spawn()
        .unwrap();
    let some = wait::until("the first posts", crate::PATIENCE, async || {
        let answer = annals
            .query(&format!("/api/v1/content?site={SITE}&size=1"), &key, None)
            .await
            .ok()?;
        answer.body["total"].as_u64().filter(|total| *total >= 3)
    });
    let some = some.await.unwrap();
    child.kill().await.unwrap();
    assert!(some <= sample::POSTS);

    let (code, text) = run(&annals, &key, &args).await;
    assert_eq!(code, Some(3), "one file cannot be read: {text}");
    assert!(text.contains("broken.md: the front matter is not TOML"), "{text}");
    sample::posts_shown(&annals, &key, SITE, sample::POSTS).await;

    let (_, text) = run(&annals, &key, &args).await;
    assert!(
        text.contains("0 created, 0 changed, 40 unchanged, 1 not imported"),
        "{text}"
    );

    std::fs::remove_file(folder.path().join("broken.md")).unwrap();
    let changed = folder.path().join("Windows-7.md");
    let text = std::fs::read_to_string(&changed).unwrap();
    std::fs::write(&changed, text + "\nOne more line.\n").unwrap();
    let (code, text) = run(&annals, &key, &args).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("0 created, 1 changed, 39 unchanged, 0 not imported"),
        "{text}"
    );

    // Date, authors, aliases and path are as in the file, and a reader needs no key.
    let read = || annals.query("/api/v1/sites/semicomplete.com/content/post/windows-7", "", None);
    let post = wait::until("the changed post", crate::PATIENCE, async || {
        let answer = read().await.ok()?;
        answer.body["body"]
            .as_str()?
            .contains("One more line")
            .then_some(answer.body)
    });
    let post = post.await.unwrap();
    assert!(
        post["published_at"].as_str().unwrap().starts_with("2024-02-26"),
        "{post}"
    );
    assert_eq!(post["metadata"]["path"], "2024/02/26/Windows-7");
    assert_eq!(post["metadata"]["aliases"][0], "2024/02/26/Windows-7.html");
    assert!(post["metadata"]["authors"].is_array(), "{post}");

    // What is published stays so, and that the file says otherwise is told.
    let text = std::fs::read_to_string(&changed).unwrap();
    std::fs::write(&changed, text.replacen("+++\n", "+++\ndraft = true\n", 1)).unwrap();
    let (code, text) = run(&annals, &key, &[&args[..], &["-v"]].concat()).await;
    assert_eq!(code, Some(0), "{text}");
    for words in [
        "1 have another date or status here than in their file: not changed",
        "Windows-7.md: a draft in the file, published here",
    ] {
        assert!(text.contains(words), "{words:?} is not in {text}");
    }
    let piece = read().await.unwrap().body;
    assert_eq!(piece["status"], "published");

    // So does what was put away.
    let path = format!("/api/v1/content/{}/archive", piece["id"].as_str().unwrap());
    let archived = annals.command(reqwest::Method::POST, &path, &key, json!({}));
    let archived = archived.await.unwrap();
    assert_eq!(archived.status, 200, "{archived:?}");
    let text = std::fs::read_to_string(&changed).unwrap();
    std::fs::write(&changed, text + "\nAnd another.\n").unwrap();
    let query = "/api/v1/sites/semicomplete.com/content/post/windows-7";
    let there = annals
        .query(query, &key, archived.position.as_deref())
        .await
        .unwrap();
    assert_eq!(there.body["status"], "archived", "{there:?}");
    let (code, text) = run(&annals, &key, &[&args[..], &["-v"]].concat()).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("Windows-7.md: archived here"), "{text}");
    crate::finish(annals).await;
}

#[tokio::test]
async fn what_is_no_access_log_is_not_taken_for_imported() {
    let annals = crate::running(LogKind::Embedded).await;
    let key = annals.tenant("blog", SITE).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.log");
    std::fs::write(&file, [0x00, 0xff, b'\n', b'x', b'\n'].repeat(9)).unwrap();
    let args = ["import", "access-log", file.to_str().unwrap(), "--site", SITE];
    for _ in 0..2 {
        let (code, text) = run(&annals, &key, &args).await;
        assert_eq!(code, Some(3), "{text}");
        assert!(
            text.contains("is no access log") && !text.contains("complete: nothing"),
            "{text}"
        );
    }
    // Some lines that cannot be read among others.
    let text: String = sample::log_text()
        .lines()
        .take(40)
        .map(|line| format!("{line}\n"))
        .collect();
    std::fs::write(&file, format!("nonsense\n{text}")).unwrap();
    let (code, text) = run(&annals, &key, &args).await;
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("1 lines could not be read"), "{text}");
    let (code, text) = run(&annals, &key, &args).await;
    assert!(
        code == Some(0) && text.contains("complete: nothing to do"),
        "{text}"
    );
    crate::finish(annals).await;
}

#[tokio::test]
async fn an_access_log_is_imported_once_and_counted_honestly_on_the_embedded_log() {
    an_access_log_is_imported_once_and_counted_honestly(LogKind::Embedded).await;
}

#[tokio::test]
async fn an_access_log_is_imported_once_and_counted_honestly_on_kafka() {
    an_access_log_is_imported_once_and_counted_honestly(LogKind::Kafka).await;
}

async fn an_access_log_is_imported_once_and_counted_honestly(log: LogKind) {
    let annals = crate::running(log).await;
    let key = annals.tenant("blog", SITE).await.unwrap();
    let file = sample::log_file();
    let args = ["import", "access-log", file.to_str().unwrap(), "--site", SITE];
    let (code, text) = run(&annals, &key, &args).await;
    assert_eq!(code, Some(0), "{text}");
    let accepted = told(&text, "page views imported");
    let (bots, skipped): (u64, u64) = (sum(&text, "visits not counted"), sum(&text, "lines skipped"));
    assert_eq!(accepted + bots + skipped, 10_000, "every line is told: {text}");
    assert!(bots > 200, "bots are told apart: {text}");
    sample::pageviews_shown(&annals, &key, SITE, accepted).await;
    let projections = annals
        .query("/api/v1/projections", annals.operator_key(), None)
        .await
        .unwrap();
    for projection in projections.body["items"].as_array().unwrap() {
        for partition in projection["partitions"].as_array().unwrap() {
            // The visits are of 2015; their records are of now, and so is the lag.
            let last = partition["last_time"].as_str();
            assert!(last.is_none_or(|last| last > "2026"), "{projection}");
        }
    }
    let expected = sample::expected(&sample::log_text());
    assert!(
        expected.pageviews > 300 && expected.by_page.len() > 50,
        "{expected:?}"
    );
    same(&sample::counted(&annals, &key, SITE).await, &expected);

    // Again, and unpacked: it is the same file.
    let folder = tempfile::tempdir().unwrap();
    let unpacked = folder.path().join("another-name.log");
    std::fs::write(&unpacked, sample::log_text()).unwrap();
    for file in [file.to_str().unwrap(), unpacked.to_str().unwrap()] {
        let (code, text) = run(&annals, &key, &["import", "access-log", file, "--site", SITE]).await;
        assert!(
            code == Some(0) && text.contains("is complete: nothing to do"),
            "{text}"
        );
    }
    same(&sample::counted(&annals, &key, SITE).await, &expected);
    crate::finish(annals).await;
}

/// It names no user agents: who visited is told by the address alone, and nobody is taken for a bot.
#[tokio::test]
async fn a_log_in_the_common_format_is_imported() {
    let annals = crate::running(LogKind::Embedded).await;
    let key = annals.tenant("blog", SITE).await.unwrap();
    let text: String = sample::log_text()
        .lines()
        .map(|line| {
            let parts: Vec<&str> = line.splitn(4, '"').collect();
            format!("{}\"{}\"{}\n", parts[0], parts[1], parts[2].trim_end())
        })
        .collect();
    let expected = sample::expected(&text);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("common.log");
    std::fs::write(&file, text).unwrap();
    // The site may be named in any way that a browser takes.
    let site = format!(" {}.", SITE.to_uppercase());
    let args = ["import", "access-log", file.to_str().unwrap(), "--site", &site];
    let (code, said) = run(&annals, &key, &args).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(told(&said, "page views imported"), expected.pageviews, "{said}");
    assert!(!said.contains("not counted"), "{said}");
    sample::pageviews_shown(&annals, &key, SITE, expected.pageviews).await;
    same(&sample::counted(&annals, &key, SITE).await, &expected);
    crate::finish(annals).await;
}

#[tokio::test]
async fn an_interrupted_import_of_a_log_goes_on_where_it_was() {
    let annals = crate::running(LogKind::Embedded).await;
    let key = annals.tenant("blog", SITE).await.unwrap();
    // The sample on ten days more: long enough to be killed in the middle, several times.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("long.log");
    let text: String = (0..10)
        .map(|month| sample::log_text().replace("/May/2015", &format!("/May/{}", 2000 + month)))
        .collect();
    std::fs::File::create(&file)
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let args = ["import", "access-log", file.to_str().unwrap(), "--site", SITE];
    let mut seen = 0;
    for _ in 0..3 {
        let mut child = annals.annals(&key, &args).spawn().unwrap();
        let more = wait::until("more page views than before", crate::PATIENCE, async || {
            let ended = child.try_wait().ok().flatten().is_some();
            let now = sample::pageviews(&annals, &key, SITE).await;
            (now > seen || ended).then_some(now)
        });
        seen = more.await.unwrap();
        child.kill().await.unwrap();
    }
    let (code, said) = run(&annals, &key, &args).await;
    assert_eq!(code, Some(0), "{said}");
    let expected = sample::expected(&text);
    let mut counted = sample::Expected::default();
    let all = wait::until("every page view", crate::PATIENCE, async || {
        counted = sample::counted(&annals, &key, SITE).await;
        (counted.pageviews >= expected.pageviews).then_some(())
    });
    let all = all.await;
    if let Err(error) = all {
        panic!(
            "{error}; there are {}, expected {}: {said}",
            counted.pageviews, expected.pageviews
        );
    }
    same(&counted, &expected);
    crate::finish(annals).await;
}

/// The sum of the numbers in lines with these words.
fn sum(text: &str, words: &str) -> u64 {
    text.lines()
        .filter(|line| line.contains(words))
        .map(|line| told(line, &line[line.find(char::is_alphabetic).unwrap()..]))
        .sum()
}

/// A post got another slug, and so did its file, and a file with the old name is there, too: two posts, each its own.
#[tokio::test]
async fn a_new_file_with_an_old_slug_is_a_new_post() {
    let annals = crate::running(LogKind::Embedded).await;
    let key = annals.tenant("blog", SITE).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, title: &str| {
        let text = format!("+++\ntitle = \"{title}\"\ndate = 2024-02-26\n+++\n{title}\n");
        std::fs::write(folder.path().join(name), text).unwrap();
    };
    let dir = folder.path().to_str().unwrap();
    let import = async |expected: &str| {
        let (code, text) = run(&annals, &key, &["import", "posts", dir, "--site", SITE]).await;
        assert_eq!(code, Some(0), "{text}");
        assert!(text.contains(expected), "{text}");
    };
    let path = |slug: &str| format!("/api/v1/sites/{SITE}/content/post/{slug}");
    let read = async |slug: &str, title: &str| {
        let shown = wait::until("the post", crate::PATIENCE, async || {
            let answer = annals.query(&path(slug), &key, None).await.ok()?;
            (answer.status == 200 && answer.body["title"] == title).then_some(answer.body)
        });
        shown.await.unwrap()
    };

    write("intro.md", "The old one");
    import("1 created").await;
    let old = read("intro", "The old one").await;
    let id = old["id"].as_str().unwrap();
    let piece = format!("/api/v1/content/{id}");
    let renamed = annals.command(
        reqwest::Method::PATCH,
        &piece,
        &key,
        json!({"slug": "intro-2023"}),
    );
    assert_eq!(renamed.await.unwrap().status, 200);
    read("intro-2023", "The old one").await;

    // The file that is there still says what it said: no earlier answer stands for the new post.
    std::fs::copy(
        folder.path().join("intro.md"),
        folder.path().join("intro-2023.md"),
    )
    .unwrap();
    import("1 created, 0 changed, 1 unchanged").await;
    let new = wait::until("the new post", crate::PATIENCE, async || {
        let answer = annals.query(&path("intro"), &key, None).await.ok()?;
        (answer.status == 200 && answer.body["status"] == "published").then_some(answer.body)
    });
    let new = new.await.unwrap();
    assert_ne!(new["id"], id);
    write("intro.md", "The new one");
    import("0 created, 1 changed, 1 unchanged").await;
    assert_eq!(read("intro", "The new one").await["id"], new["id"]);
    assert_eq!(read("intro-2023", "The old one").await["id"], id);
    import("0 created, 0 changed, 2 unchanged").await;
    crate::finish(annals).await;
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let place = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &place);
        } else {
            std::fs::copy(entry.path(), place).unwrap();
        }
    }
}

/// What the command line shows to operators.
#[tokio::test]
async fn operators_see_projections_and_the_log() {
    let annals: Installation = crate::running(LogKind::Embedded).await;
    let key = annals.tenant("blog", SITE).await.unwrap();
    let operator = annals.operator_key().to_owned();
    let (code, text) = run(&annals, &operator, &["status"]).await;
    assert_eq!(code, Some(0), "{text}");
    for projection in ["directory", "content", "downloads", "visits"] {
        assert!(text.contains(projection), "{text}");
    }
    let (code, text) = run(&annals, &operator, &["log", "tail", "--once"]).await;
    assert_eq!(code, Some(0), "{text}");
    for words in [
        "directory/0 0 ",
        "genesis",
        "claim",
        "tenant.created.v1",
        "site.created.v1",
        "visits/3 0 ",
    ] {
        assert!(text.contains(words), "{words:?} is not in {text}");
    }
    let (code, text) = run(&annals, &operator, &["log", "show", "directory/0", "--from", "2"]).await;
    assert!(
        code == Some(0) && text.contains("\"tenant.created.v1\""),
        "{text}"
    );
    let (code, text) = run(&annals, &key, &["log", "tail", "--once"]).await;
    assert!(
        code == Some(1) && text.contains("403"),
        "the log is for operators: {text}"
    );
    crate::finish(annals).await;
}

/// Compares, and shows only what differs.
fn same(counted: &sample::Expected, expected: &sample::Expected) {
    for (page, count) in &expected.by_page {
        assert_eq!(counted.by_page.get(page), Some(count), "page views of {page}");
    }
    assert_eq!(counted, expected);
}

/// Real input as a whole: `ANNALS_TEST_DATA` names a folder with `posts/` and `access.log`.
#[tokio::test]
#[ignore = "needs a folder of real input, in ANNALS_TEST_DATA"]
async fn the_whole_of_a_real_blog_and_its_log_are_imported() {
    let folder =
        PathBuf::from(std::env::var_os("ANNALS_TEST_DATA").expect("ANNALS_TEST_DATA names a folder"));
    let (posts, log) = (folder.join("posts"), folder.join("access.log"));
    let annals = crate::running(LogKind::Embedded).await;
    let key = annals.tenant("blog", SITE).await.unwrap();

    let files = markdown(&posts);
    let import = ["import", "posts", posts.to_str().unwrap(), "--site", SITE];
    let (_, said) = run(&annals, &key, &import).await;
    let (created, refused) = (told(&said, " created"), told(&said, " not imported"));
    assert_eq!(created + refused, files, "every file is told: {said}");
    assert_eq!(refused, 0, "{said}");
    sample::posts_shown(&annals, &key, SITE, created).await;
    let (_, said) = run(&annals, &key, &import).await;
    assert_eq!(
        (
            told(&said, " created"),
            told(&said, " changed"),
            told(&said, " unchanged")
        ),
        (0, 0, created),
        "{said}"
    );

    let text = std::fs::read_to_string(&log).unwrap();
    let import = ["import", "access-log", log.to_str().unwrap(), "--site", SITE];
    let (code, said) = run(&annals, &key, &import).await;
    assert_eq!(code, Some(0), "{said}");
    let accepted = told(&said, "page views imported");
    let lines = accepted + sum(&said, "visits not counted") + sum(&said, "lines skipped");
    assert_eq!(lines, text.lines().count() as u64, "every line is told: {said}");
    sample::pageviews_shown(&annals, &key, SITE, accepted).await;
    same(
        &sample::counted(&annals, &key, SITE).await,
        &sample::expected(&text),
    );

    let operator = annals.operator_key().to_owned();
    let (code, said) = run(&annals, &operator, &["verify"]).await;
    assert_eq!(code, Some(0), "{said}");
    crate::finish(annals).await;
}

/// How many Markdown files a folder holds, at any depth.
fn markdown(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .map(|path| match path.extension() {
            _ if path.is_dir() => markdown(&path),
            Some(ending) if ending == "md" || ending == "markdown" => 1,
            Some(_) | None => 0,
        })
        .sum()
}
