//! Takes text apart that should be one JSON object and is not.
//!
//! A line may hold several objects, one behind the other, and something else between them. What is found:
//!
//! ```text
//! text  = *( piece / separator )
//! piece = object              up to the bracket that closes it
//!       / broken object       up to the next `{"resourceSpans"`, or to the end
//!       / stray text          likewise
//! ```
//!
//! `{"resourceSpans"` stands in no string, where quotes are escaped, so it begins a request wherever it stands in text that
//! is broken before it.

use super::Format;
use super::record::Part;
use super::record::RawRecord;

/// The pieces of a text, one at a time: their number has no bound but the length of the text.
pub(super) struct Documents {
    text: Vec<u8>,
    at: usize,
    /// Where `at` stands in the file.
    place: Part,
    /// Whether an object did not end, so that every request that begins ends what is before it.
    is_broken: bool,
}

impl Documents {
    pub(super) fn new(record: RawRecord) -> Self {
        let place = record.part_at_start();
        let mut text = record.bytes;
        text.truncate(text.trim_ascii_end().len());
        Self {
            text,
            at: 0,
            place,
            is_broken: false,
        }
    }

    /// Whether the text is one piece.
    pub(super) fn is_one_piece(&self) -> bool {
        let start = separators(&self.text);
        piece_end(&self.text, start, false).0 == self.text.len()
    }

    /// Returns the next piece.
    pub(super) fn next(&mut self) -> Option<RawRecord> {
        self.go_to(self.at + separators(self.text.get(self.at..)?));
        if self.at == self.text.len() {
            return None;
        }
        let (end, is_broken) = piece_end(&self.text, self.at, self.is_broken);
        self.is_broken = is_broken;
        let mut piece = RawRecord::new(Format::Json, self.place.position);
        piece.parts.push(self.place);
        piece
            .bytes
            .extend_from_slice(self.text.get(self.at..end).unwrap_or_default());
        self.go_to(end);
        Some(piece)
    }

    fn go_to(&mut self, at: usize) {
        let passed = self.text.get(self.at..at).unwrap_or_default();
        self.place = self.place.behind(passed);
        self.at = at;
    }
}

/// Returns how many bytes of whole objects text begins with; what follows them is incomplete.
pub(super) fn whole_objects(text: &[u8]) -> usize {
    let mut end = 0;
    loop {
        let rest = text.get(end..).unwrap_or_default();
        let start = separators(rest);
        let object = rest.get(start..).unwrap_or_default();
        match object.first() {
            Some(b'{') => match object_end(object) {
                Some(length) => end += start + length,
                None => return end,
            },
            _ => return end,
        }
    }
}

/// Returns where the piece ends that begins at `start`, and whether what follows is only told apart by its beginnings.
fn piece_end(text: &[u8], start: usize, is_broken: bool) -> (usize, bool) {
    let rest = text.get(start..).unwrap_or_default();
    if is_broken {
        let rest = rest.get(..next_begin(rest)).unwrap_or(rest);
        let end = object_end(rest).unwrap_or(rest.len());
        return (start + end, true);
    }
    match object_end(rest) {
        Some(end) => (start + end, false),
        None => (start + next_begin(rest), rest.first() == Some(&b'{')),
    }
}

/// Returns how many separators text begins with.
fn separators(text: &[u8]) -> usize {
    let is_separator = |byte: &u8| byte.is_ascii_whitespace() || *byte == b',';
    let piece = text.iter().position(|byte| !is_separator(byte));
    piece.unwrap_or(text.len())
}

/// Returns the length of the object that text begins with, if it begins with one that ends.
fn object_end(text: &[u8]) -> Option<usize> {
    if text.first() != Some(&b'{') {
        return None;
    }
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut is_escaped = false;
    for (at, &byte) in text.iter().enumerate() {
        if in_string {
            match byte {
                // JSON has no line breaks inside strings.
                b'\n' => return None,
                _ if is_escaped => is_escaped = false,
                b'\\' => is_escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// Returns where the next request begins behind the first byte, or the length of the text.
fn next_begin(text: &[u8]) -> usize {
    let mut from = 1;
    while let Some(behind) = text.get(from..) {
        let Some(bracket) = behind.iter().position(|byte| *byte == b'{') else {
            break;
        };
        if super::look::begins_record(behind.get(bracket..).unwrap_or_default()) {
            return from + bracket;
        }
        from += bracket + 1;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::super::Position;
    use super::*;

    fn pieces(text: &str) -> Vec<String> {
        let mut record = RawRecord::new(Format::Json, Position::start_of_text());
        record.bytes = text.as_bytes().to_vec();
        let mut documents = Documents::new(record);
        let mut found = Vec::new();
        while let Some(piece) = documents.next() {
            let part = piece.parts[0];
            assert!(text.as_bytes()[part.position.byte as usize..].starts_with(&piece.bytes));
            found.push(format!(
                "{}:{} {}",
                part.position.line.unwrap(),
                part.column,
                String::from_utf8(piece.bytes).unwrap()
            ));
        }
        found
    }

    #[test]
    fn objects_end_at_their_brackets() {
        assert_eq!(pieces(""), [""; 0]);
        assert_eq!(pieces("{}"), ["1:1 {}"]);
        assert_eq!(
            pieces("{\"a\":\"}\\\"\"}{} , {\"b\":[{}]}\n {}"),
            [
                "1:1 {\"a\":\"}\\\"\"}",
                "1:12 {}",
                "1:17 {\"b\":[{}]}",
                "2:2 {}"
            ]
        );
        assert_eq!(
            pieces("{\"a\":{\"resourceSpans\":[]}}{}"),
            ["1:1 {\"a\":{\"resourceSpans\":[]}}", "1:27 {}"]
        );
    }

    #[test]
    fn broken_text_ends_where_a_request_begins() {
        assert_eq!(
            pieces("[info] {\"resourceSpans\":[]}"),
            ["1:1 [info] ", "1:8 {\"resourceSpans\":[]}"]
        );
        assert_eq!(
            pieces(
                "{\"resourceSpans\":[{\"a\":\"b{\"resourceSpans\":[]}{\"resourceSpans\":[{\"resourceSpans\":[]}"
            ),
            [
                "1:1 {\"resourceSpans\":[{\"a\":\"b",
                "1:26 {\"resourceSpans\":[]}",
                "1:46 {\"resourceSpans\":[",
                "1:64 {\"resourceSpans\":[]}"
            ]
        );
    }

    #[test]
    fn whole_objects_are_counted_up_to_the_one_that_does_not_end() {
        assert_eq!(whole_objects(b"{} {\"a\":1},{\"b\":"), 10);
        assert_eq!(whole_objects(b"{\"b\":"), 0);
        assert_eq!(whole_objects(b"x{}"), 0);
    }
}
