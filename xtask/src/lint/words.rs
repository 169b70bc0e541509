//! One word per thing: the ones we do not say.

use super::Finding;
use crate::repository::TextFile;

pub(super) const RULE: &str = "word";

/// What not to say, in all its forms, and what to say instead.
const WORDS: [(&[&str], &str); 5] = [
    (&["sink", "sinks"], "exporter, or destination"),
    (&["layer", "layers", "layered", "layering"], "combinator"),
    (&["middleware", "middlewares"], "combinator"),
    (&["reporter", "reporters"], "exporter"),
    (
        &["spool", "spools", "spooled", "spooler", "spooling"],
        "disk queue",
    ),
];

/// Two words not to say one after the other, and what to say instead.
const PAIRS: [(&str, &str, &str); 7] = [
    ("pipeline", "stage", "processor, or combinator"),
    ("pipeline", "stages", "processors, or combinators"),
    ("exporter", "client", "exporter"),
    ("client", "exporter", "exporter"),
    ("span", "client", "exporter"),
    ("batch", "client", "exporter"),
    ("trace", "client", "exporter"),
];

/// Names that others gave, which we must use to call them.
const FOREIGN: [&str; 10] = [
    "Transport Layer Security",
    "OpenTelemetryLayer",
    "tracing_opentelemetry::layer",
    "tracing_subscriber::Layer",
    "tracing_subscriber::layer",
    "fmt::layer",
    "fmt::Layer",
    "io::sink",
    "io::Sink",
    "futures_util::sink",
];

/// Finds the words in code, comments and documents alike.
pub(super) fn check(file: &TextFile) -> Vec<Finding> {
    if !is_written_by_us(&file.path) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        let words = words(&without_foreign(line));
        for text in objections(&words) {
            findings.push(Finding {
                rule: RULE,
                place: file.path.clone(),
                line: index + 1,
                text,
            });
        }
    }
    findings
}

fn is_written_by_us(path: &str) -> bool {
    let file = path.rsplit('/').next().unwrap_or(path);
    match file.rsplit_once('.') {
        Some((_, ending)) => matches!(
            ending,
            "rs" | "md" | "toml" | "sh" | "yml" | "yaml" | "html"
        ),
        // Scripts without an ending, such as CI's.
        None => true,
    }
}

/// The line without addresses and names that are not ours to choose.
fn without_foreign(line: &str) -> String {
    let mut own = String::new();
    let spaced = line.split_inclusive(char::is_whitespace);
    for part in spaced.filter(|part| !part.contains("://")) {
        own.push_str(part);
    }
    for name in FOREIGN {
        own = own.replace(name, " ");
    }
    own
}

/// The words of a line in small letters; an identifier is as many words as it has humps.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let characters: Vec<char> = line.chars().collect();
    for (index, &character) in characters.iter().enumerate() {
        if !character.is_alphabetic() {
            end(&mut words, &mut word);
            continue;
        }
        let before = index
            .checked_sub(1)
            .and_then(|before| characters.get(before));
        let after = characters.get(index + 1);
        let rises = before.is_some_and(|before| before.is_lowercase());
        let last_of_capitals = after.is_some_and(|after| after.is_lowercase());
        if character.is_uppercase() && (rises || last_of_capitals) {
            end(&mut words, &mut word);
        }
        word.extend(character.to_lowercase());
    }
    end(&mut words, &mut word);
    words
}

fn end(words: &mut Vec<String>, word: &mut String) {
    if !word.is_empty() {
        words.push(std::mem::take(word));
    }
}

fn objections(words: &[String]) -> Vec<String> {
    let mut objections = Vec::new();
    for word in words {
        for (forms, instead) in WORDS {
            if forms.contains(&word.as_str()) {
                objections.push(format!("not `{word}`: say {instead}"));
            }
        }
    }
    for pair in words.windows(2) {
        for (first, second, instead) in PAIRS {
            if pair == [first, second] {
                objections.push(format!("not `{first} {second}`: say {instead}"));
            }
        }
    }
    objections
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(path: &str, text: &str) -> usize {
        let file = TextFile {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        check(&file).len()
    }

    #[test]
    fn each_word_is_found_in_prose_and_in_identifiers() {
        for word in ["sink", "layer", "middleware", "reporter", "spool"] {
            assert_eq!(count("a.md", &format!("a {word}, here")), 1, "{word}");
            assert_eq!(
                count("a.rs", &format!("let span_{word}_count = 1;")),
                1,
                "{word}"
            );
            assert_eq!(count("a.toml", &format!("{word} = 1")), 1, "{word}");
        }
        assert_eq!(count("a.rs", "struct OTLPSink; struct RetryLayer<'a>;"), 2);
        assert_eq!(count(".ci/run", "echo the sinks"), 1);
    }

    #[test]
    fn words_that_only_contain_one_are_fine() {
        assert_eq!(
            count("a.rs", "player sinking bespoke report spoon relayed"),
            0
        );
    }

    #[test]
    fn client_is_for_connections_not_for_exporters() {
        assert_eq!(
            count("a.rs", "client certificate, SpanKind::Client, http_client"),
            0
        );
        assert_eq!(
            count("a.rs", "struct ExporterClient; let span_client = 1;"),
            2
        );
        assert_eq!(count("a.md", "a pipeline-stage"), 1);
    }

    #[test]
    fn names_and_addresses_of_others_are_fine() {
        let line = "registry().with(tracing_opentelemetry::layer()).with(fmt::layer())";
        assert_eq!(count("a.rs", line), 0);
        assert_eq!(count("a.md", "see https://example.com/layers for more"), 0);
        assert_eq!(
            count("a.rs", "let layer = tracing_opentelemetry::layer();"),
            1
        );
    }

    #[test]
    fn data_files_are_not_prose() {
        assert_eq!(
            count("examples/shop.jsonl", "{\"name\":\"kitchen sink\"}"),
            0
        );
    }
}
