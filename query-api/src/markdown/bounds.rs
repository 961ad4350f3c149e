//! Whether reading HTML as a browser does stays in proportion to its length.
//!
//! It need not: elements that are open cost time for each tag (the square of the depth, 8 s for 32 KiB of `>`), and
//! `<b title=1><b title=2>…<p>x<p>x…` makes every element anew in every paragraph. What a text nests and repeats is
//! known to the parser only, which closes, moves and ignores tags by its own rules; so the parser itself is asked, a
//! piece of the text at a time, and no more of it when a bound is passed. Each attribute of a tag is compared with all
//! before it, and of these the parser tells nothing before the tag has ended: so whatever may part two is counted.

use std::{
    borrow::Cow,
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
};

use html5ever::{
    Attribute, ParseOpts, QualName, local_name, ns, parse_fragment,
    tendril::{StrTendril, TendrilSink as _},
    tree_builder::{ElementFlags, NodeOrText, QuirksMode, TreeSink},
};

/// Elements may be this deep.
const DEEPEST: usize = 200;

/// What is made of a text, written out, may have so many times its length, and this many bytes.
const TIMES: usize = 4;
const BYTES: usize = 64 * 1024;

/// Attributes may be compared with others so many times, if everything that may part two attributes does.
const COMPARISONS: usize = 200_000_000;

/// So much is read between two looks at what came of it.
const PIECE: usize = 256;

/// Whether the elements of this text are no deeper, and no more, than a person's.
pub(super) fn keeps(html: &str) -> bool {
    let most = html.len().saturating_mul(TIMES) + BYTES;
    let context = QualName::new(None, ns!(html), local_name!("div"));
    // As ammonia reads it.
    let mut parser = parse_fragment(Tree::default(), ParseOpts::default(), context, Vec::new(), false);
    let mut rest = html;
    // In the tag that is being read, perhaps.
    let (mut attributes, mut comparisons) = (0, 0);
    while !rest.is_empty() {
        let (piece, next) = rest.split_at(rest.floor_char_boundary(PIECE));
        let more = piece.bytes().filter(|byte| parts(*byte)).count();
        attributes += more;
        comparisons += more * attributes;
        if comparisons > COMPARISONS {
            return false;
        }
        parser.process(StrTendril::from(piece));
        let tree = &parser.tokenizer.sink.sink;
        if tree.too_deep.get() || tree.written.get() > most {
            return false;
        }
        if tree.grew.take() {
            attributes = more;
        }
        rest = next;
    }
    true
}

/// Whether a new attribute may begin behind it.
const fn parts(byte: u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, b'/' | b'"' | b'\'')
}

/// An element, or something else between them.
struct Node {
    name: QualName,
    parent: RefCell<Weak<Node>>,
    children: RefCell<Vec<Rc<Node>>>,
}

/// The tree, as far as it says how deep it is and how long it would be.
struct Tree {
    document: Rc<Node>,
    too_deep: Cell<bool>,
    written: Cell<usize>,
    /// Whether something came since it was last asked: a tag, or whatever else, has ended.
    grew: Cell<bool>,
}

impl Default for Tree {
    fn default() -> Self {
        Self {
            document: node(QualName::new(None, ns!(), local_name!(""))),
            too_deep: Cell::new(false),
            written: Cell::new(0),
            grew: Cell::new(false),
        }
    }
}

fn node(name: QualName) -> Rc<Node> {
    Rc::new(Node {
        name,
        parent: RefCell::default(),
        children: RefCell::default(),
    })
}

impl Tree {
    fn place(&self, parent: &Rc<Node>, child: NodeOrText<Rc<Node>>) {
        self.grew.set(true);
        let NodeOrText::AppendNode(child) = child else {
            return;
        };
        *child.parent.borrow_mut() = Rc::downgrade(parent);
        parent.children.borrow_mut().push(child);
        let mut above = parent.parent.borrow().upgrade();
        for _ in 0..DEEPEST {
            let Some(node) = above else { return };
            above = node.parent.borrow().upgrade();
        }
        self.too_deep.set(true);
    }
}

impl TreeSink for Tree {
    type Handle = Rc<Node>;
    type Output = Self;
    type ElemName<'a> = &'a QualName;

    fn finish(self) -> Self {
        self
    }

    fn parse_error(&self, _: Cow<'static, str>) {}

    fn get_document(&self) -> Rc<Node> {
        self.document.clone()
    }

    fn elem_name<'a>(&'a self, target: &'a Rc<Node>) -> &'a QualName {
        &target.name
    }

    fn create_element(&self, name: QualName, attributes: Vec<Attribute>, _: ElementFlags) -> Rc<Node> {
        let attributes: usize = attributes
            .iter()
            .map(|attribute| attribute.name.local.len() + attribute.value.len() + " =\"\"".len())
            .sum();
        let written = 2 * name.local.len() + "<></>".len() + attributes;
        self.written.set(self.written.get() + written);
        node(name)
    }

    fn create_comment(&self, _: StrTendril) -> Rc<Node> {
        node(QualName::new(None, ns!(), local_name!("")))
    }

    fn create_pi(&self, _: StrTendril, _: StrTendril) -> Rc<Node> {
        node(QualName::new(None, ns!(), local_name!("")))
    }

    fn append(&self, parent: &Rc<Node>, child: NodeOrText<Rc<Node>>) {
        self.place(parent, child);
    }

    fn append_based_on_parent_node(
        &self,
        element: &Rc<Node>,
        previous: &Rc<Node>,
        child: NodeOrText<Rc<Node>>,
    ) {
        let parent = element.parent.borrow().upgrade();
        self.place(parent.as_ref().unwrap_or(previous), child);
    }

    fn append_doctype_to_document(&self, _: StrTendril, _: StrTendril, _: StrTendril) {}

    fn get_template_contents(&self, target: &Rc<Node>) -> Rc<Node> {
        target.clone()
    }

    fn same_node(&self, one: &Rc<Node>, other: &Rc<Node>) -> bool {
        Rc::ptr_eq(one, other)
    }

    fn set_quirks_mode(&self, _: QuirksMode) {}

    fn append_before_sibling(&self, sibling: &Rc<Node>, child: NodeOrText<Rc<Node>>) {
        if let NodeOrText::AppendNode(child) = &child {
            self.remove_from_parent(child);
        }
        let parent = sibling.parent.borrow().upgrade();
        self.place(parent.as_ref().unwrap_or(&self.document), child);
    }

    fn add_attrs_if_missing(&self, _: &Rc<Node>, _: Vec<Attribute>) {}

    fn remove_from_parent(&self, target: &Rc<Node>) {
        let Some(parent) = target.parent.take().upgrade() else {
            return;
        };
        let mut children = parent.children.borrow_mut();
        // What is moved was put there last, as a rule.
        if let Some(place) = children.iter().rposition(|child| Rc::ptr_eq(child, target)) {
            children.swap_remove(place);
        }
    }

    fn reparent_children(&self, from: &Rc<Node>, to: &Rc<Node>) {
        for child in from.children.take() {
            self.place(to, NodeOrText::AppendNode(child));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_has_no_more_attributes_than_a_persons() {
        let names = |count: usize| {
            (0..count)
                .map(|number| format!(" a{number:x}"))
                .collect::<String>()
        };
        for tag in ["<div", "</div", "<img src=\"x\""] {
            assert!(!keeps(&format!("{tag}{}>", names(50_000))), "{tag}");
            assert!(keeps(&format!("{tag}{}>", names(2_000))), "{tag}");
        }
        // None of these is one.
        let path = "M10 10 L20 20 ".repeat(2_000);
        assert!(keeps(&format!("<svg><path d=\"{path}\"></svg>")));
        assert!(keeps(&format!(
            "<img src=\"data:image/png;base64,{}\">",
            format!("{}/", "a".repeat(63)).repeat(7_500)
        )));
        assert!(keeps(
            &"<p title=\"a\">Some words in a paragraph.</p>\n".repeat(10_000)
        ));
        assert!(keeps(&"some words ".repeat(40_000)));
    }
}
