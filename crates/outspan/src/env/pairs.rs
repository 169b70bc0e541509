//! Lists of `key=value`, as in `OTEL_EXPORTER_OTLP_HEADERS` and `OTEL_RESOURCE_ATTRIBUTES`.

/// Takes a list apart: entries at commas, each at its first `=`, both sides trimmed, nothing decoded.
///
/// Empty entries, as after a trailing comma, are passed over. The others come with their place, counted from 1; one
/// without `=` comes without a pair.
pub(super) fn entries(list: &str) -> impl Iterator<Item = (usize, Option<(&str, &str)>)> {
    let numbered = list.split(',').enumerate();
    numbered.filter_map(|(index, entry)| {
        let entry = entry.trim();
        if entry.is_empty() {
            return None;
        }
        let pair = entry.split_once('=');
        Some((
            index + 1,
            pair.map(|(key, value)| (key.trim(), value.trim())),
        ))
    })
}

/// Decodes `%41`; `None` if a `%` is not followed by two hexadecimal digits, or if the result is not UTF-8.
///
/// `+` stays as it is: this is no form.
pub(super) fn decode(text: &str) -> Option<String> {
    let mut pieces = text.split('%');
    pieces.next();
    let is_sound = |piece: &str| {
        let digits = piece.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if !pieces.all(is_sound) {
        return None;
    }
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8();
    decoded.ok().map(|text| text.into_owned())
}

/// Adds a pair, in place of an earlier one with the same key as `same` sees it.
pub(super) fn put<V>(
    pairs: &mut Vec<(String, V)>,
    key: String,
    value: V,
    same: impl Fn(&str, &str) -> bool,
) {
    match pairs.iter_mut().find(|(known, _)| same(known, &key)) {
        Some(pair) => *pair = (key, value),
        None => pairs.push((key, value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_taken_apart_at_commas_and_first_equals_signs() {
        let found: Vec<_> = entries(" a = 1 ,b=x=y,,nonsense,").collect();
        assert_eq!(
            found,
            [(1, Some(("a", "1"))), (2, Some(("b", "x=y"))), (4, None),]
        );
    }

    #[test]
    fn percent_signs_stand_for_bytes() {
        assert_eq!(decode("a%2Cb%3dc+d").as_deref(), Some("a,b=c+d"));
        assert_eq!(decode("%c3%bc").as_deref(), Some("ü"));
        assert_eq!(decode(""), Some(String::new()));
        for broken in ["%", "%4", "%zz", "100%", "%%41", "%ff", "%4é"] {
            assert_eq!(decode(broken), None, "{broken}");
        }
    }
}
