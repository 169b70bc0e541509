//! Rust source taken apart, line by line, into code and comments.
//!
//! A lexer of its own, because the rules look at lines, and none of them needs more of the grammar
//! than where comments and literals end.

/// The lines of a source file, each twice: once with only its code, once with only its comments.
///
/// What is left out is blank, so that columns stay; text literals are blank in both.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) code: Vec<String>,
    pub(crate) comments: Vec<String>,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Code,
    LineComment,
    /// Inside that many nested block comments.
    BlockComment(usize),
    Text,
    /// Inside a raw string that ends with a quote and that many `#`.
    RawText(usize),
}

impl Source {
    /// Takes a file apart. Broken source gives some answer, never an error: the compiler judges it.
    pub(crate) fn of(text: &str) -> Self {
        let characters: Vec<char> = text.chars().collect();
        let mut code = String::new();
        let mut comments = String::new();
        let mut state = State::Code;
        let mut at = 0;
        while at < characters.len() {
            let rest = characters.get(at..).unwrap_or_default();
            let (next, length) = step(state, rest, at == 0 || !is_word(characters.get(at - 1)));
            let in_code = state == State::Code && next == State::Code;
            let in_comment = is_comment(state) || is_comment(next);
            for &character in rest.iter().take(length) {
                let keep = |wanted| {
                    if wanted || character == '\n' {
                        character
                    } else {
                        ' '
                    }
                };
                code.push(keep(in_code));
                comments.push(keep(in_comment));
            }
            state = next;
            at += length;
        }
        Self {
            code: code.lines().map(str::to_owned).collect(),
            comments: comments.lines().map(str::to_owned).collect(),
        }
    }
}

fn is_comment(state: State) -> bool {
    matches!(state, State::LineComment | State::BlockComment(_))
}

fn is_word(character: Option<&char>) -> bool {
    character.is_some_and(|character| character.is_alphanumeric() || *character == '_')
}

/// What state the next characters lead to, and how many of them do.
fn step(state: State, rest: &[char], at_word_start: bool) -> (State, usize) {
    match state {
        State::Code => step_in_code(rest, at_word_start),
        State::LineComment => match rest {
            ['\n', ..] => (State::Code, 1),
            _ => (State::LineComment, 1),
        },
        State::BlockComment(depth) => match rest {
            ['/', '*', ..] => (State::BlockComment(depth + 1), 2),
            ['*', '/', ..] if depth == 1 => (State::Code, 2),
            ['*', '/', ..] => (State::BlockComment(depth - 1), 2),
            _ => (State::BlockComment(depth), 1),
        },
        State::Text => match rest {
            ['\\', _, ..] => (State::Text, 2),
            ['"', ..] => (State::Code, 1),
            _ => (State::Text, 1),
        },
        State::RawText(hashes) => {
            let closing = rest.iter().skip(1).take(hashes);
            if rest.first() == Some(&'"') && closing.filter(|one| **one == '#').count() == hashes {
                return (State::Code, 1 + hashes);
            }
            (State::RawText(hashes), 1)
        }
    }
}

fn step_in_code(rest: &[char], at_word_start: bool) -> (State, usize) {
    match rest {
        ['/', '/', ..] => (State::LineComment, 2),
        ['/', '*', ..] => (State::BlockComment(1), 2),
        ['"', ..] => (State::Text, 1),
        ['r', ..] if at_word_start => raw_text(rest, 1),
        ['b' | 'c', 'r', ..] if at_word_start => raw_text(rest, 2),
        // A character literal, not a lifetime: it ends with a quote.
        ['\'', '\\', _, tail @ ..] => {
            let closing = tail.iter().take(10).position(|one| *one == '\'');
            (State::Code, closing.map_or(1, |closing| closing + 4))
        }
        ['\'', _, '\'', ..] => (State::Code, 3),
        _ => (State::Code, 1),
    }
}

/// A raw string, when hashes and a quote follow its prefix.
fn raw_text(rest: &[char], prefix: usize) -> (State, usize) {
    let after = rest.get(prefix..).unwrap_or_default();
    let hashes = after.iter().take_while(|one| **one == '#').count();
    if after.get(hashes) == Some(&'"') {
        return (State::RawText(hashes), prefix + hashes + 1);
    }
    (State::Code, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        Source::of(text).code.join("\n")
    }

    fn comments(text: &str) -> String {
        Source::of(text).comments.join("\n")
    }

    #[test]
    fn comments_are_taken_out_of_the_code() {
        let text = "let a = 1; // one\n/* two /* three */ */ let b;";
        assert!(code(text).contains("let a = 1;"));
        assert!(code(text).contains("let b;"));
        assert!(!code(text).contains("one"));
        assert!(!code(text).contains("three"));
        assert!(comments(text).contains("// one"));
        assert!(comments(text).contains("three"));
        assert!(!comments(text).contains("let"));
    }

    #[test]
    fn columns_and_lines_stay() {
        let text = "a /* é\nb */ c\n\nd";
        assert_eq!(Source::of(text).code, ["a     ", "     c", "", "d"]);
    }

    #[test]
    fn text_in_literals_is_neither_code_nor_comment() {
        for text in [
            "f(\"// use a\")",
            "f(\"\\\" use a\")",
            "f(r\"\\\"); g(\"use a\")",
            "f(r#\"a \" use a\"#)",
            "f(br##\"\"# use a\"##)",
        ] {
            assert!(!code(text).contains("use a"), "{text}");
            assert!(!comments(text).contains("use a"), "{text}");
            assert!(code(text).ends_with(')'), "{text}");
        }
    }

    #[test]
    fn a_quote_in_a_character_opens_no_text() {
        assert_eq!(code("f('\"'); g"), "f('\"'); g");
        assert_eq!(code("f('\\'', \"x\"); g"), "f('\\'',    ); g");
        assert!(code("fn f<'a>(a: &'a str) { \"hidden\" }").ends_with(" }"));
        assert!(!code("fn f<'a>(a: &'a str) { \"hidden\" }").contains("hidden"));
    }

    #[test]
    fn unfinished_text_ends_with_the_file() {
        assert_eq!(code("a \"b"), "a   ");
        assert_eq!(code("a /* b"), "a     ");
        assert_eq!(code("'"), "'");
    }
}
