//! JSON as text: laid out for people, and back, without touching the order of its fields.

/// Without white space between tokens.
pub(crate) fn minified(json: &str) -> String {
    let mut strings = Strings::default();
    json.chars()
        .filter(|c| strings.is_within(*c) || !c.is_whitespace())
        .collect()
}

/// One field a line, two spaces a level, a final line break. Takes what is minified.
pub(crate) fn pretty(json: &str) -> String {
    let (mut text, mut depth, mut last, mut strings) = (String::new(), 0, ' ', Strings::default());
    let line = |depth: usize| format!("\n{}", "  ".repeat(depth));
    let mut rest = json.chars().peekable();
    while let Some(c) = rest.next() {
        let is_open = |c: char| matches!(c, '{' | '[');
        match c {
            _ if strings.is_within(c) => text.push(c),
            '{' | '[' => {
                depth += 1;
                text.push(c);
                if !matches!(rest.peek(), Some('}' | ']')) {
                    text += &line(depth);
                }
            }
            '}' | ']' => {
                depth -= 1;
                if !is_open(last) {
                    text += &line(depth);
                }
                text.push(c);
            }
            ',' => text += &format!(",{}", line(depth)),
            ':' => text += ": ",
            _ => text.push(c),
        }
        last = c;
    }
    text + "\n"
}

/// Tells what is within a string literal, its quotes included.
#[derive(Default)]
struct Strings {
    open: bool,
    escaped: bool,
}

impl Strings {
    fn is_within(&mut self, c: char) -> bool {
        let was_open = self.open;
        if c == '"' && !self.escaped {
            self.open = !self.open;
        }
        self.escaped = was_open && c == '\\' && !self.escaped;
        was_open || self.open
    }
}
