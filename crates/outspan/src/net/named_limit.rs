//! The size limit that a server names when it finds a request too large.
//!
//! No protocol has a field for it. Servers put it into their text, next to the size of what they got:
//!
//! ```text
//! grpc: received message larger than max (5242880 vs. 4194304)                          Go, C++, Python, Node
//! gRPC message exceeds maximum size 4194304: 5242880                                    Java
//! Error, decoded message length too large: found 5242880 bytes, the limit is: 4194304 bytes     tonic
//! {"message":"request entity too large","length":5242880,"limit":4194304}               body-parser
//! ```
//!
//! So the limit is the smallest of the numbers that follow a word for "limit". A wrong guess does little harm: the splitter
//! uses no limit that the batch keeps or no span fits, and none twice.

/// The texts of servers are short; a longer one is a page.
const TEXT_BYTES_MAX: usize = 4096;

/// How many bytes may stand between a word for "limit" and its number.
const DISTANCE_MAX: usize = 40;

/// What stands before a limit, in lower case.
const WORDS: [&[u8]; 13] = [
    b"limit",
    b"max",
    b"vs",
    b">",
    b"exceed",
    b"larger than",
    b"greater than",
    b"bigger than",
    b"longer than",
    b"more than",
    b"at most",
    b"up to",
    b"allowed",
];

/// Finds how many bytes a server takes, in the text with which it finds a request too large.
pub(crate) fn named_limit(text: &str) -> Option<u64> {
    let mut text = text.as_bytes().to_ascii_lowercase();
    text.truncate(TEXT_BYTES_MAX);
    let found = (0..text.len()).filter_map(|at| {
        let rest = text.get(at..)?;
        let word = WORDS.iter().find(|word| rest.starts_with(word))?;
        next_size(rest.get(word.len()..)?)
    });
    found.filter(|bytes| *bytes > 0).min()
}

/// Reads the first number that stands alone, if it is near and counts bytes.
fn next_size(text: &[u8]) -> Option<u64> {
    let mut before = b' ';
    let mut at = 0;
    while at < text.len().min(DISTANCE_MAX) {
        let byte = *text.get(at)?;
        if byte.is_ascii_digit() {
            let number = text.get(at..)?;
            // Such as the 1 of HTTP/1.1, the 8 of utf8 and -1.
            if !before.is_ascii_alphanumeric() && !matches!(before, b'/' | b'.' | b'-') {
                return read_size(number);
            }
            at += number.iter().take_while(|b| b.is_ascii_digit()).count();
            before = b'0';
            continue;
        }
        before = byte;
        at += 1;
    }
    None
}

/// Reads a number with its unit.
fn read_size(text: &[u8]) -> Option<u64> {
    let (whole, text) = read_whole(text)?;
    let (fraction, digits, text) = match text {
        [b'.', rest @ ..] if rest.first().is_some_and(u8::is_ascii_digit) => {
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let used = rest.get(..digits.min(6))?;
            (value_of(used)?, used.len(), rest.get(digits..)?)
        }
        _ => (0, 0, text),
    };
    let spaces = text.iter().take_while(|byte| **byte == b' ').count();
    let word = text.get(spaces..)?;
    let letters = word.iter().take_while(|b| b.is_ascii_alphabetic()).count();
    let unit = match word.get(..letters)? {
        b"k" | b"kb" | b"kilobyte" | b"kilobytes" => 1000,
        b"kib" | b"kibibyte" | b"kibibytes" => 1 << 10,
        b"m" | b"mb" | b"megabyte" | b"megabytes" => 1_000_000,
        b"mib" | b"mebibyte" | b"mebibytes" => 1 << 20,
        b"g" | b"gb" | b"gigabyte" | b"gigabytes" => 1_000_000_000,
        b"gib" | b"gibibyte" | b"gibibytes" => 1 << 30,
        b"span" | b"spans" | b"request" | b"requests" | b"item" | b"items" | b"record"
        | b"records" | b"message" | b"messages" | b"times" | b"per" | b"percent" | b"ms" | b"s"
        | b"sec" | b"second" | b"seconds" | b"minute" | b"minutes" => return None,
        _ => 1,
    };
    let fraction = fraction * unit / 10_u128.pow(u32::try_from(digits).ok()?);
    u64::try_from(whole.checked_mul(unit)?.checked_add(fraction)?).ok()
}

/// Reads digits, which may stand in groups of three, and returns what follows.
fn read_whole(text: &[u8]) -> Option<(u128, &[u8])> {
    let mut digits = Vec::new();
    let mut text = text;
    loop {
        let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (group, rest) = text.split_at_checked(count)?;
        digits.extend_from_slice(group);
        match rest {
            [b',' | b'_', next @ ..] if is_group(next) => text = next,
            _ => return Some((value_of(&digits)?, rest)),
        }
    }
}

fn is_group(text: &[u8]) -> bool {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit());
    digits.count() == 3
}

fn value_of(digits: &[u8]) -> Option<u128> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_library_s_limit_is_found() {
        for (text, limit) in [
            (
                "grpc: received message larger than max (5242880 vs. 4194304)",
                4_194_304,
            ),
            (
                "CLIENT: Received message larger than max (5242880 vs. 4194304)",
                4_194_304,
            ),
            (
                "grpc: received message after decompression larger than max 4194304",
                4_194_304,
            ),
            (
                "gRPC message exceeds maximum size 4194304: 5242880",
                4_194_304,
            ),
            (
                "Decompressed gRPC message exceeds maximum size 4194304",
                4_194_304,
            ),
            (
                "Error, decoded message length too large: found 5242880 bytes, the limit is: 4194304 bytes",
                4_194_304,
            ),
            (
                "Request body too large. The max request body size is 30000000 bytes.",
                30_000_000,
            ),
            (
                r#"{"message":"request entity too large","length":5242880,"limit":102400}"#,
                102_400,
            ),
            (
                "JSON payload (5242880 bytes) is larger than allowed (limit: 2097152 bytes).",
                2_097_152,
            ),
            ("the request has more than 1048576 bytes", 1_048_576),
            ("limit exceeded: 5242880 > 4194304", 4_194_304),
            ("5242880 bytes exceed 4194304", 4_194_304),
            ("the limit of 4 MiB is exceeded", 4 << 20),
            ("Payload too big (maximum is 5MB)", 5_000_000),
            ("at most 1.5 KiB", 1536),
            ("max: 4,194,304 bytes", 4_194_304),
            ("up to 4_194_304 bytes", 4_194_304),
            ("max size (HTTP/1.1): 700", 700),
        ] {
            assert_eq!(named_limit(text), Some(limit), "{text}");
        }
    }

    #[test]
    fn texts_without_a_limit_name_none() {
        for text in [
            "",
            "Received message exceeds the maximum configured message size.",
            "http: request body too large",
            "the request has 5242880 bytes",
            "limit: 0",
            "limit: -1",
            "the limit is 100 spans",
            "limit of 10 requests per second",
            "max",
            "limit: 99999999999999999999999999999999999999999999",
            "limit: 99999999999999999999 GiB",
            "no more than that; read all about it on our page, chapter 7",
            "limit\u{fffd}\u{fffd} v2",
        ] {
            assert_eq!(named_limit(text), None, "{text}");
        }
        assert_eq!(named_limit(&"limit ".repeat(100_000)), None);
    }
}
