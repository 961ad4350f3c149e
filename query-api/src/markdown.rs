//! Markdown to HTML that may stand in anyone's page.
//!
//! GitHub's dialect, with the writer's own HTML kept as far as it is harmless: what comrak makes is read again
//! by ammonia as a browser would read it, and only known elements, attributes and schemes remain.

use std::{borrow::Cow, collections::HashMap, sync::LazyLock};

use ammonia::Builder;
use comrak::Options;

/// Bodies above this are rendered off the workers that answer requests.
pub(crate) const LARGE: usize = 16 * 1024;

/// Prefixes of ids that may stay: our headings' and comrak's footnotes'. Others could shadow what a page's own
/// scripts look up.
const IDS: [&str; 3] = ["h-", "fn-", "fnref-"];

static OPTIONS: LazyLock<Options<'static>> = LazyLock::new(|| {
    let mut options = Options::default();
    options.extension.strikethrough = true;
    options.extension.table = true;
    options.extension.autolink = true;
    options.extension.tasklist = true;
    options.extension.footnotes = true;
    options.extension.header_id_prefix = Some("h-".to_owned());
    // The sanitiser decides about HTML, by how a browser reads it.
    options.render.r#unsafe = true;
    options
});

static SANITISER: LazyLock<Builder<'static>> = LazyLock::new(|| {
    let mut builder = Builder::default();
    builder
        .add_tags(["input", "section"])
        .add_tag_attributes("input", ["type", "checked", "disabled"])
        .add_tag_attributes("code", ["class"])
        .add_generic_attributes(["id"])
        .set_tag_attribute_value("input", "disabled", "")
        .set_tag_attribute_value("input", "type", "checkbox")
        .attribute_filter(|element, attribute, value| match (element, attribute) {
            (_, "id") => IDS
                .iter()
                .any(|prefix| value.starts_with(prefix))
                .then_some(Cow::Borrowed(value)),
            ("code", "class") => value.starts_with("language-").then_some(Cow::Borrowed(value)),
            _ => Some(Cow::Borrowed(value)),
        });
    builder
});

/// Elements deeper than this are not read by the sanitiser: a browser's way of reading takes time with the square
/// of the depth, 8 s for 32 KiB of `>` where this text takes none.
const DEEPEST: u32 = 200;

/// The HTML of a Markdown text. Takes time in proportion to its length, some milliseconds for 100 KiB. A text
/// that nests deeper than any person's is shown as it was written.
pub(crate) fn render(text: &str) -> String {
    let html = comrak::markdown_to_html(text, &OPTIONS);
    if too_deep(&html) {
        return format!("<pre>{}</pre>", ammonia::clean_text(text));
    }
    SANITISER.clean(&html).to_string()
}

/// Whether more than [`DEEPEST`] elements may be open at once. Counts each name for itself, so that an end tag of
/// another name hides nothing; those that are ended by their next kind, and those without content, do not nest.
fn too_deep(html: &str) -> bool {
    const FLAT: [&str; 21] = [
        "p", "li", "td", "th", "tr", "dt", "dd", "option", "br", "hr", "img", "input", "wbr", "col",
        "source", "track", "area", "base", "meta", "link", "embed",
    ];
    let mut open: HashMap<String, u32> = HashMap::new();
    let mut depth = 0;
    for tag in html.split('<').skip(1) {
        let (ends, tag) = tag.strip_prefix('/').map_or((false, tag), |tag| (true, tag));
        let name = tag
            .split(|c: char| c.is_ascii_whitespace() || c == '>' || c == '/')
            .next()
            .unwrap_or_default();
        if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            continue;
        }
        let name = name.to_ascii_lowercase();
        if FLAT.contains(&name.as_str()) {
            continue;
        }
        let count = open.entry(name).or_default();
        if !ends {
            *count += 1;
            depth += 1;
        } else if *count > 0 {
            *count -= 1;
            depth -= 1;
        }
        if depth > DEEPEST {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_writers_use_is_rendered() {
        let html = render(
            "# A *title*\n\n| a | b |\n|---|---|\n| 1 | ~~2~~ |\n\n- [x] done\n\n```rust\nfn f() {}\n```\n\nText[^1].\n\n[^1]: Note.\n",
        );
        for part in [
            "<em>title</em>",
            "<td><del>2</del></td>",
            "checkbox",
            r#"<code class="language-rust">"#,
            r#"href="http://e.org""#,
            r##"href="#fn-1""##,
            r#"id="fn-1""#,
        ] {
            assert!(
                html.contains(part) || part.contains("e.org"),
                "{part} is not in {html}"
            );
        }
        assert!(render("see http://e.org").contains(r#"href="http://e.org""#));
        assert!(render("<details><summary>a</summary>b</details>").contains("<details>"));
    }

    #[test]
    fn nothing_that_acts_remains() {
        for hostile in [
            "<script>alert(1)</script>",
            "<img src=x onerror=alert(1)>",
            "[a](javascript:alert(1))",
            "[a](JaVaScRiPt:alert(1))",
            "[a](&#106;avascript:alert(1))",
            "<a href=\"java\nscript:alert(1)\">x</a>",
            "![a](data:text/html;base64,PHNjcmlwdD4=)",
            "<svg><script>alert(1)</script></svg>",
            "<math><mi xlink:href=\"data:x,y\">z</mi></math>",
            "<iframe src=//evil></iframe>",
            "<form action=//evil><input type=image src=x formaction=javascript:alert(1)></form>",
            "<style>*{background:url(//evil)}</style>",
            "<a id=location href=x>x</a><b id='body'>y</b>",
            "<object data=x></object><embed src=x><base href=//evil><meta http-equiv=refresh content=0>",
            "<p style=\"position:fixed\">x</p>",
            "```a\" onclick=\"alert(1)\nx\n```",
        ] {
            let html = render(hostile).to_ascii_lowercase();
            let page = ammonia::Builder::default()
                .add_generic_attributes(["id"])
                .clean(&html)
                .to_string();
            for part in [
                "<script",
                " onerror",
                " onclick",
                "href=\"javascript",
                "<iframe",
                "<form",
                "<style",
                "style=",
                "<svg",
                "<math",
                "<object",
                "<embed",
                "<base",
                "<meta",
                "data:",
                "id=\"location\"",
                "id=\"body\"",
            ] {
                assert!(!html.contains(part) && !page.contains(part), "{part} in {html}");
            }
        }
    }

    #[test]
    fn deep_and_long_texts_end() {
        for part in [
            ">",
            "* ",
            "[",
            "![",
            "<div>",
            "<div></x>",
            "<b><i>",
            "**a ",
            "`",
            "[a](",
            "&",
            "- a\n  ",
            "[^1]: [^1]\n",
            "<a",
            "a@b",
            "|a\n|-\n",
            "<b><p>",
            "> a\n\n",
            "*_",
            "~~a",
            "<table>",
            "<svg>",
            "<math><mi>",
        ] {
            let hostile = part.repeat(20_000 / part.len());
            let started = std::time::Instant::now();
            let html = render(&hostile);
            assert!(
                started.elapsed().as_secs() < 20,
                "{part:?} took {:?}",
                started.elapsed()
            );
            assert!(
                html.len() < 100 * hostile.len(),
                "{part:?} became {} characters",
                html.len()
            );
        }
    }

    #[test]
    fn what_nests_too_deep_is_shown_as_written() {
        let html = render(&format!("{} <script>", ">".repeat(300)));
        assert!(
            html.starts_with("<pre>&gt;") && !html.contains("<script"),
            "{html}"
        );
        assert!(render(&"- a\n".repeat(1000)).starts_with("<ul>"));
        assert!(render(&"<p>a\n\n".repeat(1000)).starts_with("<p>"));
    }
}
