//! Which lines of a log are page views.
//!
//! A log has a line for every image and every failed request; statistics count what a person looked at. So a line
//! counts when it is a GET that was answered with 200, or with 304 (the browser showed its own copy), of something
//! that is no file and no feed. Everything else is skipped, and counted by its reason. Whether the visitor is a bot
//! is told by the API, from the user agent.

use super::line::Line;

/// Why a line is no page view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Skip {
    /// A HEAD, a POST, or no HTTP at all.
    Method,
    /// A redirect, an error, or a part of a file.
    Status,
    /// An image, a style sheet, a script, a download, `robots.txt`.
    File,
    /// RSS or Atom, fetched by readers whether anybody reads or not.
    Feed,
}

impl std::fmt::Display for Skip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Method => "not a GET",
            Self::Status => "redirects, errors and partial answers",
            Self::File => "images, styles, scripts and other files",
            Self::Feed => "feeds",
        })
    }
}

/// Endings of what is no page. An ending that is not here, such as the `0` of `/Rust-1.88.0`, is part of a page's
/// name.
const FILES: &[&str] = &[
    "7z",
    "apk",
    "atom",
    "avi",
    "avif",
    "bin",
    "bmp",
    "bz2",
    "c",
    "cer",
    "cfg",
    "conf",
    "cpp",
    "crt",
    "css",
    "csv",
    "deb",
    "diff",
    "dmg",
    "doc",
    "docx",
    "eot",
    "epub",
    "exe",
    "flac",
    "gif",
    "gz",
    "h",
    "ico",
    "ini",
    "iso",
    "jar",
    "java",
    "jpeg",
    "jpg",
    "js",
    "json",
    "key",
    "log",
    "lua",
    "map",
    "mjs",
    "mkv",
    "mobi",
    "mov",
    "mp3",
    "mp4",
    "msi",
    "odp",
    "ods",
    "odt",
    "ogg",
    "otf",
    "patch",
    "pcap",
    "pdf",
    "pem",
    "png",
    "ppt",
    "pptx",
    "ps",
    "py",
    "pyc",
    "rar",
    "rb",
    "rdf",
    "rpm",
    "rss",
    "rtf",
    "sh",
    "spec",
    "sql",
    "svg",
    "svgz",
    "swf",
    "tar",
    "tex",
    "tgz",
    "tif",
    "tiff",
    "toml",
    "ttf",
    "txt",
    "war",
    "wasm",
    "wav",
    "webm",
    "webmanifest",
    "webp",
    "woff",
    "woff2",
    "xls",
    "xlsx",
    "xml",
    "xsl",
    "xz",
    "yaml",
    "yml",
    "zip",
    "zst",
];

/// Whether the line is a page view, and if not, why.
pub(crate) fn judge(line: &Line<'_>) -> Result<(), Skip> {
    if line.method != "GET" {
        return Err(Skip::Method);
    }
    if !matches!(line.status, 200 | 304) {
        return Err(Skip::Status);
    }
    let (path, query) = line.target.split_once('?').unwrap_or((&line.target, ""));
    if is_feed(path, query) {
        return Err(Skip::Feed);
    }
    if is_file(path) { Err(Skip::File) } else { Ok(()) }
}

/// A path that ends in `/feed`, `/rss` or `/atom`, or with such an ending, or a query that asks for one (`?flav=rss20`,
/// `?feed=atom`).
fn is_feed(path: &str, query: &str) -> bool {
    let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or("");
    let last = last.to_ascii_lowercase();
    let named = matches!(
        last.as_str(),
        "feed" | "rss" | "atom" | "rss.xml" | "atom.xml" | "feed.xml" | "index.rdf"
    );
    let ends = last.ends_with(".rss") || last.ends_with(".atom");
    // Not just any parameter: `utm_source=rss` is a reader who came from a feed to a page.
    let mut asked = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .filter(|(name, _)| matches!(*name, "flav" | "feed" | "format" | "type" | "output" | "alt"));
    named
        || ends
        || asked.any(|(_, form)| matches!(form, "rss" | "rss2" | "rss20" | "atom" | "atom10" | "rdf"))
}

fn is_file(path: &str) -> bool {
    let last = path.rsplit('/').next().unwrap_or("");
    let ending = last
        .rsplit_once('.')
        .map(|(_, ending)| ending.to_ascii_lowercase());
    ending.is_some_and(|ending| FILES.binary_search(&ending.as_str()).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(request: &str, status: u16) -> Result<(), Skip> {
        let text = format!(r#"1.2.3.4 - - [10/Oct/2000:13:55:36 -0700] "{request} HTTP/1.0" {status} 1"#);
        judge(&Line::parse(&text).unwrap())
    }

    #[test]
    fn pages_count() {
        for target in [
            "/",
            "/blog/",
            "/a.html",
            "/a.xhtml",
            "/2025/Rust-1.88.0",
            "/a.php?x=y.png",
            "/v1.2/",
            "/a%20b",
            "/a?utm_source=rss",
        ] {
            assert_eq!(judged(&format!("GET {target}"), 200), Ok(()), "{target}");
        }
        assert_eq!(judged("GET /", 304), Ok(()));
    }

    #[test]
    fn what_is_no_page_says_why() {
        for (request, status, skip) in [
            ("HEAD /", 200, Skip::Method),
            ("POST /", 200, Skip::Method),
            ("GET /", 404, Skip::Status),
            ("GET /", 301, Skip::Status),
            ("GET /a.pdf", 206, Skip::Status),
            ("GET /favicon.ico", 200, Skip::File),
            ("GET /A.PNG?x=1", 200, Skip::File),
            ("GET /robots.txt", 304, Skip::File),
            ("GET /?flav=rss20", 200, Skip::Feed),
            ("GET /feed/", 200, Skip::Feed),
            ("GET /blog.atom", 200, Skip::Feed),
        ] {
            assert_eq!(judged(request, status), Err(skip), "{request} {status}");
        }
    }

    #[test]
    fn the_endings_are_in_order() {
        assert!(FILES.is_sorted());
    }
}
