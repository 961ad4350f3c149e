//! Markdown to HTML that may stand in anyone's page.
//!
//! GitHub's dialect, with the writer's own HTML kept as far as it is harmless: what comrak makes is read again
//! by ammonia as a browser would read it, and only known elements, attributes and schemes remain.

mod bounds;

use std::{borrow::Cow, collections::HashSet, sync::LazyLock};

use ammonia::Builder;
use comrak::{Anchorizer, Arena, Options, nodes::NodeValue};

/// Bodies above this are rendered off the workers that answer requests.
pub(crate) const LARGE: usize = 16 * 1024;

/// Prefixes of ids that may stay: our headings' and comrak's footnotes'. Others could shadow what a page's own
/// scripts look up.
const IDS: [&str; 3] = [HEADINGS, "fn-", "fnref-"];
const HEADINGS: &str = "h-";

static OPTIONS: LazyLock<Options<'static>> = LazyLock::new(|| {
    let mut options = Options::default();
    options.extension.strikethrough = true;
    options.extension.table = true;
    options.extension.autolink = true;
    options.extension.tasklist = true;
    options.extension.footnotes = true;
    options.extension.header_id_prefix = Some(HEADINGS.to_owned());
    options.extension.header_id_prefix_in_href = true;
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

/// The HTML of a Markdown text. Takes time in proportion to its length, some milliseconds for 100 KiB. A text
/// that nests deeper, or repeats more, than any person's is shown as it was written.
pub(crate) fn render(text: &str) -> String {
    let html = html(text);
    if !bounds::keeps(&html) {
        return format!("<pre>{}</pre>", ammonia::clean_text(text));
    }
    SANITISER.clean(&html).to_string()
}

/// As the dialect has it. A link to a heading, whose writer does not know our prefix, leads there.
fn html(text: &str) -> String {
    let arena = Arena::new();
    let root = comrak::parse_document(&arena, text, &OPTIONS);
    let mut anchors = Anchorizer::new();
    let headings: HashSet<String> = root
        .descendants()
        .filter(|node| matches!(node.data().value, NodeValue::Heading(_)))
        .map(|node| anchors.anchorize(&node.collect_text()))
        .collect();
    for node in root.descendants() {
        if let NodeValue::Link(link) = &mut node.data_mut().value
            && let Some(name) = link.url.strip_prefix('#')
            && headings.contains(name)
        {
            link.url = format!("#{HEADINGS}{name}");
        }
    }
    let mut html = String::with_capacity(text.len() * 3 / 2);
    // Text takes whatever is written to it.
    let _ = comrak::format_html(root, &OPTIONS, &mut html);
    html
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
    fn links_within_a_text_lead_where_they_should() {
        let html = render(
            "[jump](#two-words) [away](#nowhere)\n\n# Two *words*\n\n# Two words\n\n[again](#two-words-1)",
        );
        for part in [
            r##"<a href="#h-two-words" rel="noopener noreferrer">jump</a>"##,
            r##"<a href="#nowhere" rel="noopener noreferrer">away</a>"##,
            r##"<h1 id="h-two-words">"##,
            r##"<a href="#h-two-words-1" rel="noopener noreferrer">again</a>"##,
            r##"<h1 id="h-two-words-1">"##,
        ] {
            assert!(html.contains(part), "{part} is not in {html}");
        }
        assert!(!html.contains(r##""#two-words"##), "{html}");
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
        let marked: String = (0..199).map(|number| format!("<b title={number}>")).collect();
        for hostile in [
            format!("<p>{marked}{}", "<p>x".repeat(100_000)),
            "<div><!--</div>-->".repeat(20_000),
            "<div title='</div>'>".repeat(20_000),
            "<div><table></div></table>".repeat(20_000),
            "<div><select></div></select>".repeat(20_000),
            "<svg><style><div></style></svg></div>".repeat(20_000),
            format!("<div>\n{}", "<li><dd>".repeat(16_000)),
            "<ul title=\"</ul>\"><li>".repeat(8_000),
            format!("<b title={}>{}", "x".repeat(10_000), "<p>x".repeat(10_000)),
        ] {
            let (started, html) = (std::time::Instant::now(), render(&hostile));
            assert!(
                html.len() < 8 * hostile.len(),
                "{}: {}",
                &hostile[..40],
                html.len()
            );
            assert!(started.elapsed().as_secs() < 20, "{}", &hostile[..40]);
        }
        for honest in [
            format!("<p><svg>{}</svg>", "<circle r=\"1\"/>".repeat(210)),
            format!("<p>{}", "<ruby>漢<rt>kan</ruby>".repeat(210)),
            format!("<p>{}", "<a name=\"x\"/></a>".repeat(210)),
        ] {
            assert!(render(&honest).starts_with("<p>"), "{honest}");
        }
        assert!(render(&"- a\n".repeat(1000)).starts_with("<ul>"));
        assert!(render(&"<p>a\n\n".repeat(1000)).starts_with("<p>"));
    }
}
