//! How many columns text takes on a terminal, near enough for columns to line up.
//!
//! Ranges after Unicode Standard Annex 11 (East Asian Width), without its exceptions.

/// Counts the columns of `text`.
pub(super) fn of(text: &str) -> usize {
    match text.is_ascii() {
        true => text.len(),
        false => text.chars().map(of_char).sum(),
    }
}

fn of_char(c: char) -> usize {
    match c {
        '\0'..='\u{2ff}' => 1,
        // Combining marks, joiners, variation selectors.
        '\u{300}'..='\u{36f}'
        | '\u{200b}'..='\u{200d}'
        | '\u{20d0}'..='\u{20ff}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{e0100}'..='\u{e01ef}' => 0,
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{303e}'
        | '\u{3041}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1f64f}'
        | '\u{1f680}'..='\u{1f6ff}'
        | '\u{1f900}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

/// Cuts `text` to `columns`, with an ellipsis where something is missing.
pub(super) fn cut(text: &mut String, columns: usize) {
    if of(text) <= columns {
        return;
    }
    let room = columns.saturating_sub(1);
    let mut used = 0;
    let mut end = 0;
    for (at, c) in text.char_indices() {
        used += of_char(c);
        if used > room {
            break;
        }
        end = at + c.len_utf8();
    }
    text.truncate(end);
    text.push('…');
}

/// Appends spaces after a text of `columns` until it fills `wanted`.
pub(super) fn pad(out: &mut String, columns: usize, wanted: usize) {
    for _ in columns..wanted {
        out.push(' ');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_and_combining_characters_count_as_what_they_take() {
        assert_eq!(of("abc"), 3);
        assert_eq!(of("žluť"), 4);
        assert_eq!(of("注文"), 4);
        assert_eq!(of("e\u{301}"), 1);
        assert_eq!(of("😀"), 2);
    }

    #[test]
    fn a_cut_says_that_something_is_missing_and_keeps_the_width() {
        for (text, columns, expected) in [
            ("abcdef", 6, "abcdef"),
            ("abcdef", 5, "abcd…"),
            ("注文確認", 5, "注文…"),
            ("注文確認", 6, "注文…"),
            ("abc", 0, "…"),
        ] {
            let mut text = text.to_owned();
            cut(&mut text, columns);
            assert_eq!(text, expected);
        }
    }
}
