//! Text from peers, made safe to print.

use std::fmt::Write;

/// `text` with everything that could move a cursor, change a colour or reorder a line written as an
/// escape, cut after `max` characters of output.
///
/// A cut text ends in `…`, which counts as one of the `max` characters.
pub fn printable(text: &str, max: usize) -> String {
    let mut out = String::new();
    let mut used = 0;
    // Where the text is cut if it turns out too long: the last place that leaves room for `…`.
    let mut cut = 0;
    for c in text.chars() {
        let before = out.len();
        if harmless(c) {
            out.push(c);
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "{}", c.escape_default());
        }
        used += out[before..].chars().count();
        if used > max {
            out.truncate(cut);
            if max > 0 {
                out.push('…');
            }
            return out;
        }
        if used < max {
            cut = out.len();
        }
    }
    out
}

/// The beginning of a peer's text, for a field of the log.
///
/// Give it to the log as text, not as something that displays itself: the log's format quotes and
/// escapes text, so that no name looks like a further field, or like a line.
#[must_use]
pub fn head(text: &str) -> &str {
    const MOST: usize = 256;
    text.char_indices().nth(MOST).map_or(text, |(end, _)| &text[..end])
}

/// Whether a character prints as itself, moves nothing and hides nothing.
fn harmless(c: char) -> bool {
    !c.is_control()
        && !matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::{head, printable};

    #[test]
    fn a_head_ends_with_a_whole_character() {
        for (len, kept) in [(255, 255), (256, 256), (257, 256)] {
            assert_eq!(head(&"水".repeat(len)), "水".repeat(kept));
        }
    }

    #[test]
    fn escapes_what_a_terminal_would_obey() {
        assert_eq!(printable("a\x1b[2Jb\r\n", 40), "a\\u{1b}[2Jb\\r\\n");
        assert_eq!(printable("x\u{202e}y\u{9b}z", 40), "x\\u{202e}y\\u{9b}z");
        assert_eq!(printable("Zürich 水", 40), "Zürich 水");
    }

    #[test]
    fn cuts_between_characters_and_never_inside_an_escape() {
        assert_eq!(printable("abcdef", 6), "abcdef");
        assert_eq!(printable("abcdefg", 6), "abcde…");
        assert_eq!(printable("abc\x1bxyz", 6), "abc…");
        assert_eq!(printable("abc", 1), "…");
        assert_eq!(printable("abc", 0), "");
        assert_eq!(printable("", 0), "");
    }
}
