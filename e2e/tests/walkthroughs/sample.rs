//! The sample input, and what it must come to: counted here by other code than the import's.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read as _,
    path::{Path, PathBuf},
};

use e2e::{installation::Installation, wait};
use serde_json::{Value, json};

/// The domain that it is imported into.
pub(crate) const SITE: &str = "semicomplete.com";
/// Files in the folder of posts, each of them one post.
pub(crate) const POSTS: u64 = 40;

pub(crate) fn posts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sample/posts")
}

pub(crate) fn log_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sample/access.log.gz")
}

pub(crate) fn log_text() -> String {
    let mut text = String::new();
    let file = std::fs::File::open(log_file()).unwrap();
    flate2::read::GzDecoder::new(file)
        .read_to_string(&mut text)
        .unwrap();
    text
}

/// What a log should come to. Who is a bot is taken from the table of user agents, which has tests of its own;
/// everything else is counted here by other code.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) pageviews: u64,
    /// Different pairs of address and user agent, each day for itself.
    pub(crate) visitors: u64,
    pub(crate) by_page: BTreeMap<String, u64>,
}

/// Files and feeds in this log that were answered with 200 or 304; every other name is a page.
const NO_PAGES: [&str; 47] = [
    ".png", ".css", ".ico", ".jpg", ".js", ".txt", ".gif", ".jar", ".ttf", ".pdf", ".xml", ".py", ".log",
    ".svg", ".xsl", ".conf", ".exe", ".c", ".gz", ".sh", ".jpeg", ".tex", ".deb", ".woff", ".swf", ".spec",
    ".lua", ".pyc", ".doc", ".patch", ".rb", ".cpp", ".pcap", ".eot", ".zip", ".rpm", ".bz2", ".tgz", ".h",
    ".java", ".json", ".yml", ".cfg", ".diff", ".csv", ".mp3", ".mp4",
];

/// Counts by splitting lines at their quotes.
pub(crate) fn expected(text: &str) -> Expected {
    let mut expected = Expected::default();
    let mut visitors = BTreeSet::new();
    for line in text.lines() {
        let quoted: Vec<&str> = line.split('"').collect();
        let (before, request, numbers) = (quoted[0], quoted[1], quoted[2]);
        // The common format has none.
        let agent = quoted.get(5).copied();
        let words: Vec<&str> = request.split(' ').collect();
        let status = numbers.split_whitespace().next().unwrap();
        if words[0] != "GET" || !["200", "304"].contains(&status) {
            continue;
        }
        let (path, query) = words[1].split_once('?').unwrap_or((words[1], ""));
        let name = path.rsplit('/').next().unwrap().to_lowercase();
        let feed = query.contains("flav=rss20") || query.contains("flav=atom");
        if feed || NO_PAGES.iter().any(|ending| name.ends_with(ending)) {
            continue;
        }
        if agent.is_some_and(|agent| command_api::visit::Agent::read(agent).is_err()) {
            continue;
        }
        let day = before.split('[').nth(1).unwrap().split(':').next().unwrap();
        let address = before.split(' ').next().unwrap();
        expected.pageviews += 1;
        *expected.by_page.entry(path.replace("%20", " ")).or_default() += 1;
        visitors.insert((
            day.to_owned(),
            address.to_owned(),
            agent.unwrap_or_default().to_owned(),
        ));
    }
    expected.visitors = visitors.len() as u64;
    expected
}

/// The same as the statistics tell it.
pub(crate) async fn counted(annals: &Installation, key: &str, site: &str) -> Expected {
    let ask = async |metrics: Value, dimensions: Value| {
        let query = json!({
            "site_id": site, "metrics": metrics, "date_range": "all", "dimensions": dimensions, "pagination": {"limit": 10_000},
        });
        let answer = annals.stats(key, query, None).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body["results"].as_array().unwrap().clone()
    };
    let sums = ask(json!(["pageviews", "visitors"]), json!([])).await;
    let pages = ask(json!(["pageviews"]), json!(["event:page"])).await;
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let page = |row: &Value| {
        (
            row["dimensions"][0].as_str().unwrap().to_owned(),
            number(&row["metrics"][0]),
        )
    };
    Expected {
        pageviews: sums.first().map_or(0, |row| number(&row["metrics"][0])),
        visitors: sums.first().map_or(0, |row| number(&row["metrics"][1])),
        by_page: pages.iter().map(page).collect(),
    }
}

/// Every answer that readers and dashboards get of the sample, to be compared with itself later.
pub(crate) async fn answers(annals: &Installation, key: &str, site: &str) -> Vec<Value> {
    let mut answers = Vec::new();
    let mut ids = Vec::new();
    for page in 1..=4 {
        let path = format!("/api/v1/content?site={site}&sort=title&size=15&page={page}");
        let list = annals.query(&path, key, None).await.unwrap().body;
        ids.extend(
            list["items"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|item| item["id"].as_str().unwrap_or_default().to_owned()),
        );
        answers.push(list);
    }
    for id in ids {
        for path in [
            format!("/api/v1/content/{id}"),
            format!("/api/v1/content/{id}/history"),
        ] {
            answers.push(annals.query(&path, key, None).await.unwrap().body);
        }
    }
    let dimensions = [
        "time:day",
        "event:page",
        "visit:source",
        "visit:browser",
        "visit:os",
        "visit:device",
        "visit:entry_page",
        "visit:exit_page",
    ];
    for dimension in dimensions {
        let query = json!({
            "site_id": site, "metrics": ["visitors", "visits", "pageviews", "bounce_rate", "visit_duration"], "date_range": "all",
            "dimensions": [dimension], "order_by": [["pageviews", "desc"], [dimension, "asc"]],
        });
        answers.push(annals.stats(key, query, None).await.unwrap().body["results"].clone());
    }
    answers.push(annals.query(&report_of(site), key, None).await.unwrap().body);
    answers
}

fn report_of(site: &str) -> String {
    format!("/api/v1/reports/content?site={site}&from=2015-05-01&to=2015-05-31")
}

/// Waits until every projection has all of the log, what statistics know about content too.
pub(crate) async fn settled(annals: &Installation, key: &str, site: &str) {
    let everywhere = wait::until(
        "every table to have what was written",
        crate::PATIENCE,
        async || {
            let report = annals.query(&report_of(site), key, None).await.ok()?;
            let projections = annals.query("/api/v1/projections", annals.operator_key(), None);
            let projections = projections.await.ok()?.body;
            let partitions = projections["items"]
                .as_array()?
                .iter()
                .map(|it| it["partitions"].as_array());
            let partitions = partitions.collect::<Option<Vec<_>>>()?;
            let mut lags = partitions
                .into_iter()
                .flatten()
                .map(|it| it["lag_events"].as_u64());
            (report.status == 200 && lags.all(|lag| lag == Some(0))).then_some(())
        },
    );
    everywhere.await.unwrap();
}

/// Runs `annals ARGS` to its end: whether it succeeded, and what it printed.
pub(crate) async fn run(annals: &Installation, key: &str, args: &[&str]) -> (Option<i32>, String) {
    let output = annals.annals(key, args).output().await.unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    (output.status.code(), text)
}

/// Waits until the read models show so many posts.
pub(crate) async fn posts_shown(annals: &Installation, key: &str, site: &str, count: u64) {
    let what = format!("{count} posts in the list");
    let result = wait::until(&what, crate::PATIENCE, async || {
        let path = format!("/api/v1/content?site={site}&size=1");
        let answer = annals.query(&path, key, None).await.ok()?;
        (answer.body["total"] == count).then_some(())
    });
    result.await.unwrap();
}

/// Waits until the statistics show so many page views of all visitors.
pub(crate) async fn pageviews_shown(annals: &Installation, key: &str, site: &str, count: u64) {
    let what = format!("{count} page views in the statistics");
    let result = wait::until(&what, crate::PATIENCE, async || {
        (pageviews(annals, key, site).await == count).then_some(())
    });
    if let Err(error) = result.await {
        panic!("{error}; there are {}", pageviews(annals, key, site).await);
    }
}

pub(crate) async fn pageviews(annals: &Installation, key: &str, site: &str) -> u64 {
    let query = json!({"site_id": site, "metrics": ["pageviews"], "date_range": "all"});
    let answer = annals.stats(key, query, None).await.unwrap();
    answer.body["results"][0]["metrics"][0].as_u64().unwrap_or(0)
}

/// The number in front of some words of what a command printed.
pub(crate) fn told(text: &str, words: &str) -> u64 {
    let line = text
        .lines()
        .find(|line| line.contains(words))
        .unwrap_or_else(|| panic!("{words:?} is not in {text}"));
    let before = line
        .split(words)
        .next()
        .unwrap()
        .trim()
        .rsplit(|c: char| !c.is_ascii_digit())
        .next()
        .unwrap();
    before
        .parse()
        .unwrap_or_else(|_| panic!("no number before {words:?} in {line}"))
}
