//! Text that grows into a page. Invariant: what is not a literal of this program is always escaped, for an element's
//! content and for a quoted attribute alike, so that no name or error of the target can become markup. Scripts and
//! styles are literals only; what they need of the data stands in attributes.

use std::fmt::{Display, Write};

#[derive(Clone, Debug, Default)]
pub struct Markup(String);

impl Markup {
    pub fn new() -> Self {
        Self::default()
    }

    /// Markup of our own.
    pub fn raw(&mut self, literal: &'static str) -> &mut Self {
        self.0.push_str(literal);
        self
    }

    /// Anything else, between tags or between the quotes of an attribute.
    pub fn text(&mut self, text: impl Display) -> &mut Self {
        // Writing to a string can't fail.
        let _ = write!(Escaped(&mut self.0), "{text}");
        self
    }

    /// A place in a drawing, to a tenth of a pixel.
    pub fn place(&mut self, value: f64) -> &mut Self {
        let tenths = (value * 10.0).round() as i64;
        let _ = if tenths % 10 == 0 {
            write!(self.0, "{}", tenths / 10)
        } else {
            write!(self.0, "{:.1}", tenths as f64 / 10.0)
        };
        self
    }

    pub fn add(&mut self, other: &Self) -> &mut Self {
        self.0.push_str(&other.0);
        self
    }

    /// `<tag>text</tag>`, for tags without attributes.
    pub fn element(&mut self, tag: &'static str, text: impl Display) -> &mut Self {
        self.raw("<").raw(tag).raw(">").text(text).raw("</").raw(tag).raw(">")
    }

    pub fn finish(self) -> String {
        self.0
    }
}

struct Escaped<'a>(&'a mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                '\n' | '\t' => self.0.push(c),
                // A page must not contain them; and overrides of the writing direction would let a text lie.
                c if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {
                    self.0.push('\u{fffd}');
                }
                c => self.0.push(c),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_comes_in_as_text_is_markup() {
        let mut markup = Markup::new();
        markup.raw("<p title=\"").text("a\" onload='x'").raw("\">").text("</p><script>&\u{1b}\u{202e}").raw("</p>");
        let expected = "<p title=\"a&quot; onload=&#39;x&#39;\">&lt;/p&gt;&lt;script&gt;&amp;\u{fffd}\u{fffd}</p>";
        assert_eq!(markup.finish(), expected);
    }

    #[test]
    fn places_are_short() {
        let mut markup = Markup::new();
        markup.place(12.0).raw(" ").place(12.345).raw(" ").place(-0.04);
        assert_eq!(markup.finish(), "12 12.3 0");
    }
}
