//! Credentials inside texts: URLs, their parameters, connection strings.

use std::borrow::Cow;
use std::ops::Range;

use super::names::is_secret_parameter;

/// What stands for a credential. The semantic conventions use this word.
pub(super) const REDACTED: &str = "REDACTED";

/// Says how a text is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// Any text: URLs in it have users, passwords and parameters, and programs have options.
    Text,
    /// The query of a URL: begins with a parameter.
    Query,
    /// A connection string: settings with or without a URL.
    Connection,
}

/// The text without its credentials, or nothing if it has none.
pub(super) fn redacted(text: &str, style: Style) -> Option<String> {
    let without_named = without_users(text, style);
    let Some(clean) = without_parameters(without_named.as_deref().unwrap_or(text), style) else {
        return without_named;
    };
    // A value with a slash in it hides the user behind it.
    Some(without_users(&clean, style).unwrap_or(clean))
}

/// Replaces users and passwords: `scheme://user:password@host` (RFC 3986, section 3.2).
fn without_users(text: &str, style: Style) -> Option<String> {
    if !text.contains('@') {
        return None;
    }
    let mut out = Replaced::new(text);
    for (place, marker) in text.match_indices("://") {
        let begin = place + marker.len();
        let rest = text.get(begin..).unwrap_or_default();
        let authority = &rest[..rest.find(ends_authority).unwrap_or(rest.len())];
        if let Some(at) = authority.rfind('@') {
            out.replace(begin..begin + at, hidden_user(&authority[..at]));
        }
    }
    if style == Style::Connection && !text.contains("://") {
        // `user:password@tcp(host)/database`, as Go's drivers for MySQL write it.
        let before_path = &text[..text.rfind('/').unwrap_or(text.len())];
        let user = before_path.rfind('@').map(|at| &before_path[..at]);
        let user = user.filter(|user| user.contains(':') && !user.contains(['=', ';', ' ']));
        if let Some(user) = user {
            out.replace(0..user.len(), hidden_user(user));
        }
    }
    out.finish()
}

fn ends_authority(character: char) -> bool {
    matches!(character, '/' | '\\' | '?' | '#' | '"' | '\'' | '<' | '>')
        || character.is_whitespace()
}

fn hidden_user(user: &str) -> &'static str {
    match user.contains(':') {
        true => "REDACTED:REDACTED",
        false => REDACTED,
    }
}

/// Where the value of a parameter ends.
#[derive(Clone, Copy, Debug)]
enum Ending {
    /// Where a part of a URL does.
    Url,
    /// At a space, as an option of a command line does.
    Space,
    /// At a semicolon: ADO.NET, ODBC.
    Semicolon,
    /// At a space, or at the quote that closes it: libpq.
    Setting,
}

/// Replaces the values of parameters whose names say that they are credentials.
fn without_parameters(text: &str, style: Style) -> Option<String> {
    if !text.contains('=') {
        return None;
    }
    let setting = match text.contains(';') {
        true => Ending::Semicolon,
        false => Ending::Setting,
    };
    let mut out = Replaced::new(text);
    for (equals, _) in text.match_indices('=') {
        if equals < out.copied {
            continue;
        }
        let parameter = match style {
            Style::Connection => setting_name(&text[..equals]).map(|name| (name, setting)),
            Style::Text | Style::Query => parameter_name(&text[..equals], style),
        };
        if let Some((name, ending)) = parameter
            && is_secret_parameter(name)
        {
            out.replace(value_of(text, equals + 1, ending), REDACTED);
        }
    }
    out.finish()
}

/// The name of a URL's parameter or an option that ends where `before` does, if one may stand there.
fn parameter_name(before: &str, style: Style) -> Option<(&str, Ending)> {
    let (separator, name) = last_name(before);
    let is_option = name.starts_with('-');
    match separator {
        None if is_option => Some((name, Ending::Space)),
        None if style == Style::Query => Some((name, Ending::Url)),
        Some('?' | '&' | ';' | '#') => Some((name, Ending::Url)),
        Some(' ' | '"' | '\'' | '\t' | '\n') if is_option => Some((name, Ending::Space)),
        _ => None,
    }
}

/// The name of a setting that ends where `before` does, if one may stand there.
fn setting_name(before: &str) -> Option<&str> {
    let (separator, name) = last_name(before.trim_end());
    let may_begin = separator.is_none_or(|separator| {
        matches!(separator, '?' | '&' | ';' | ',' | '#') || separator.is_whitespace()
    });
    may_begin.then_some(name)
}

/// What stands before the name at the end of `text`, and the name.
fn last_name(text: &str) -> (Option<char>, &str) {
    let name = text.trim_end_matches(is_of_name);
    let separator = name.chars().next_back();
    (separator, &text[name.len()..])
}

fn is_of_name(character: char) -> bool {
    character.is_ascii_alphanumeric()
        || matches!(character, '_' | '-' | '.' | '~' | '%' | '[' | ']' | '$')
}

/// Where the value is that begins at `begin`.
fn value_of(text: &str, begin: usize, ending: Ending) -> Range<usize> {
    let rest = text.get(begin..).unwrap_or_default();
    let end_at = |ends: fn(char) -> bool| rest.find(ends).unwrap_or(rest.len());
    let end = match ending {
        Ending::Url => end_at(|character| {
            matches!(character, '&' | ';' | '#' | '"' | '\'' | '<' | '>')
                || character.is_whitespace()
        }),
        Ending::Space => {
            end_at(|character| matches!(character, '"' | '\'') || character.is_whitespace())
        }
        Ending::Semicolon | Ending::Setting => {
            let value = rest.trim_start();
            let spaces = rest.len() - value.len();
            let length = length_of_setting(value, ending);
            return begin + spaces..begin + spaces + length;
        }
    };
    begin..begin + end
}

fn length_of_setting(value: &str, ending: Ending) -> usize {
    let quote = value.chars().next().and_then(closing);
    let quoted = quote.map_or(0, |quote| length_of_quoted(value, quote));
    // What stands right behind the quote belongs to the value as well, whoever wrote it.
    let rest = value.get(quoted..).unwrap_or_default();
    let end = rest.find(|character: char| match ending {
        Ending::Semicolon => matches!(character, ';' | '&'),
        _ => character == '&' || character.is_whitespace(),
    });
    quoted + end.unwrap_or(rest.len())
}

/// How long a quoted value is, its quotes included. A quote that is written twice is one inside.
fn length_of_quoted(value: &str, quote: char) -> usize {
    let mut rest = value.char_indices().skip(1).peekable();
    while let Some((place, character)) = rest.next() {
        if character != quote {
            continue;
        }
        if rest.next_if(|(_, next)| *next == quote).is_none() {
            return place + quote.len_utf8();
        }
    }
    value.len()
}

fn closing(quote: char) -> Option<char> {
    match quote {
        '"' | '\'' => Some(quote),
        '{' => Some('}'),
        _ => None,
    }
}

/// Builds a text with parts replaced, the first one first.
struct Replaced<'a> {
    text: &'a str,
    out: Cow<'a, str>,
    /// Up to where the text is in `out`, or replaced.
    copied: usize,
}

impl<'a> Replaced<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            out: Cow::Borrowed(""),
            copied: 0,
        }
    }

    fn replace(&mut self, part: Range<usize>, by: &str) {
        let old = self.text.get(part.clone());
        let is_done = old.is_none_or(|old| old == by || old.is_empty());
        if is_done || part.start < self.copied {
            return;
        }
        let out = self.out.to_mut();
        out.push_str(&self.text[self.copied..part.start]);
        out.push_str(by);
        self.copied = part.end;
    }

    /// The new text, if anything was replaced.
    fn finish(self) -> Option<String> {
        let Cow::Owned(mut out) = self.out else {
            return None;
        };
        out.push_str(&self.text[self.copied..]);
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(style: Style, before: &str, after: &str) {
        let scrubbed = redacted(before, style);
        assert_eq!(scrubbed.as_deref(), Some(after), "{before}");
        assert_eq!(redacted(after, style), None, "twice: {after}");
    }

    #[test]
    fn users_and_passwords_of_urls_go_wherever_they_stand() {
        for (before, after) in [
            ("https://me:pw@host/x", "https://REDACTED:REDACTED@host/x"),
            (
                "https://ghp_abc@github.com/a",
                "https://REDACTED@github.com/a",
            ),
            (
                "http://a:b@c:80?x=1#y",
                "http://REDACTED:REDACTED@c:80?x=1#y",
            ),
            (
                "cannot dial \"postgres://u:p%40w@db:5432/x\" or amqp://g:g@mq",
                "cannot dial \"postgres://REDACTED:REDACTED@db:5432/x\" or amqp://REDACTED:REDACTED@mq",
            ),
            ("x://a:b@c@host", "x://REDACTED:REDACTED@host"),
            ("redis://:secret@cache", "redis://REDACTED:REDACTED@cache"),
            (
                "x://\u{fc}ser:p\u{e4}ss@h\u{f6}st",
                "x://REDACTED:REDACTED@h\u{f6}st",
            ),
        ] {
            check(Style::Text, before, after);
        }
    }

    #[test]
    fn parameters_that_are_credentials_go_and_others_stay() {
        for (before, after) in [
            ("/login?token=abc&next=/", "/login?token=REDACTED&next=/"),
            ("https://h/?q=1&sig=ab%2Bc", "https://h/?q=1&sig=REDACTED"),
            (
                "https://h/cb#access_token=x&y=1",
                "https://h/cb#access_token=REDACTED&y=1",
            ),
            (
                "GET /a?PASSWORD=x HTTP/1.1",
                "GET /a?PASSWORD=REDACTED HTTP/1.1",
            ),
            ("?api_key=a=b==&x", "?api_key=REDACTED&x"),
            (
                "jdbc:sqlserver://h;user=me;password=x;encrypt=true",
                "jdbc:sqlserver://h;user=me;password=REDACTED;encrypt=true",
            ),
            (
                "s3://b/k?X-Amz-Credential=AK&X-Amz-Date=1&X-Amz-Signature=f0",
                "s3://b/k?X-Amz-Credential=REDACTED&X-Amz-Date=1&X-Amz-Signature=REDACTED",
            ),
            (
                "https://u:p@h/?token=t",
                "https://REDACTED:REDACTED@h/?token=REDACTED",
            ),
            ("x://a;password=/;b@h", "x://REDACTED@h"),
        ] {
            check(Style::Text, before, after);
        }
        for (before, after) in [
            ("--password=a&b", "--password=REDACTED"),
            ("run --api-key=x;y -v", "run --api-key=REDACTED -v"),
            (
                "java -Dssl.keyStorePassword=pw -jar a",
                "java -Dssl.keyStorePassword=REDACTED -jar a",
            ),
            ("sh -c \"x --token=t\"", "sh -c \"x --token=REDACTED\""),
        ] {
            check(Style::Text, before, after);
        }
        check(Style::Query, "token=abc&q=1", "token=REDACTED&q=1");
        check(Style::Query, "q=1&Signature=abc", "q=1&Signature=REDACTED");
    }

    #[test]
    fn settings_of_connection_strings_that_are_credentials_go() {
        for (before, after) in [
            (
                "Server=db;User Id=me;Password=p w;X=1",
                "Server=db;User Id=me;Password=REDACTED;X=1",
            ),
            (
                "host=db password=pw user=me",
                "host=db password=REDACTED user=me",
            ),
            (
                "host=db password='p w' user=me",
                "host=db password=REDACTED user=me",
            ),
            (
                "Driver={x};UID=me;PWD={a;b};Y=2",
                "Driver={x};UID=me;PWD=REDACTED;Y=2",
            ),
            ("Password = \"open", "Password = REDACTED"),
            (
                "AccountName=a;AccountKey=abc==;Z=1",
                "AccountName=a;AccountKey=REDACTED;Z=1",
            ),
            ("password=x", "password=REDACTED"),
            (
                "me:p/w@tcp(db:3306)/shop",
                "REDACTED:REDACTED@tcp(db:3306)/shop",
            ),
            (
                "mysql://u:p@db/x?password=y",
                "mysql://REDACTED:REDACTED@db/x?password=REDACTED",
            ),
        ] {
            check(Style::Connection, before, after);
        }
    }

    /// Texts come from elsewhere: none may cost more than its length.
    #[test]
    fn long_texts_are_read_in_one_go() {
        const TIMES: usize = 100_000;

        for piece in [
            "://",
            "@",
            "=",
            "token=x ",
            "token= ",
            "?token=REDACTED",
            "://a:b@c ",
            "a",
            "--password=\"",
        ] {
            let text = piece.repeat(TIMES);
            for style in [Style::Text, Style::Query, Style::Connection] {
                let once = redacted(&text, style).unwrap_or(text.clone());
                assert!(once.len() <= text.len() * 3, "{piece} {style:?}");
            }
        }
    }

    #[test]
    fn other_texts_stay() {
        for text in [
            "",
            "=",
            "@",
            "://",
            "://@",
            "https://host/@user/x?y=z",
            "mail me@example.com",
            "https://host.example/packages/@scope/package",
            "SELECT * FROM users WHERE password = 'x'",
            "token=abc",
            "?token=",
            "https://@host",
            "a--password=b",
            "?tokens=3&password.attempts=2",
            "https://REDACTED:REDACTED@h/?sig=REDACTED",
            "a=b&c=d",
        ] {
            let scrubbed = redacted(text, Style::Text);
            assert_eq!(scrubbed, None, "{text}");
        }
        for text in [
            "host=db user=me",
            "Server=tcp:h,1433;User Id=me@corp",
            "me@host/x",
        ] {
            assert_eq!(redacted(text, Style::Connection), None, "{text}");
        }
    }

    #[test]
    fn quotes_inside_quotes_do_not_end_a_value() {
        for (before, after) in [
            ("password=\"\"\"", "password=REDACTED"),
            ("password=\"a\"\";b\";user=me", "password=REDACTED;user=me"),
            ("pwd={a}};b};user=me", "pwd=REDACTED;user=me"),
            ("password='a'b c=d", "password=REDACTED c=d"),
        ] {
            check(Style::Connection, before, after);
        }
    }
}
