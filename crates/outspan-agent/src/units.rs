//! Numbers as people write and read them: durations, sizes, counts, rates.

use std::time::Duration;

/// Reads a duration such as `10s`, `500ms`, `2m`, `1h` or `1.5s`; a plain number counts seconds.
///
/// # Errors
///
/// Words for the user, if it is no such duration or is zero.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_unit(text);
    let seconds_per_unit = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("unknown unit \"{unit}\": use ms, s, m or h")),
    };
    let number = positive(number)?;
    let duration = Duration::try_from_secs_f64(number * seconds_per_unit)
        .map_err(|_| "longer than a clock can hold".to_owned())?;
    if duration.is_zero() {
        return Err("must be more than zero".into());
    }
    Ok(duration)
}

/// Reads a number of bytes such as `1MiB`, `512KiB`, `2MB` or `65536`.
///
/// # Errors
///
/// Words for the user, if it is no such number, is below one byte or above 1 GiB.
pub(crate) fn bytes(text: &str) -> Result<usize, String> {
    // A batch beyond 1 GiB is a slip of the finger.
    bytes_up_to(text, 1 << 30)
}

/// Reads a size of memory such as `256MiB` or `4GiB`.
///
/// # Errors
///
/// Words for the user, if it is no such number, is below one byte or above 1 TiB.
pub(crate) fn memory(text: &str) -> Result<usize, String> {
    bytes_up_to(text, 1 << 40)
}

fn bytes_up_to(text: &str, most: u64) -> Result<usize, String> {
    let (number, unit) = split_unit(text);
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "k" | "kib" => 1024.0,
        "m" | "mib" => 1024.0 * 1024.0,
        "g" | "gib" => 1024.0 * 1024.0 * 1024.0,
        _ => {
            return Err(format!(
                "unknown unit \"{unit}\": use KiB, MiB, GiB, KB, MB or GB"
            ));
        }
    };
    let bytes = positive(number)? * factor;
    // Every number below the bound is exact in an f64.
    if !(1.0..=most as f64).contains(&bytes) {
        return Err(format!("must be between 1 byte and {}", show_bytes(most)));
    }
    usize::try_from(bytes as u64).map_err(|_| "more than this machine can address".to_owned())
}

/// Reads a rate in spans per second, such as `500`, `0.5` or `500/s`.
///
/// # Errors
///
/// Words for the user, if it is not a number above zero.
pub(crate) fn rate(text: &str) -> Result<f64, String> {
    let number = text.trim().strip_suffix("/s").unwrap_or(text);
    let rate = positive(number.trim())?;
    match rate {
        0.001..=1e9 => Ok(rate),
        _ => Err("must be between 0.001 and 1000000000 spans a second".into()),
    }
}

/// Holds a rate in spans per second; `None` sets no limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rate(pub(crate) Option<f64>);

/// Reads a rate as [`rate`] does, or 0 for as fast as it goes.
///
/// # Errors
///
/// Words for the user, if it is neither.
pub(crate) fn rate_or_none(text: &str) -> Result<Rate, String> {
    let number = text.trim().strip_suffix("/s").unwrap_or(text);
    match number.trim().parse::<f64>() {
        Ok(0.0) => Ok(Rate(None)),
        _ => rate(text).map(|rate| Rate(Some(rate))),
    }
}

/// Reads a share, such as `5`, `0.5` or `5%`.
///
/// # Errors
///
/// Words for the user, if it is not a number from 0 to 100.
pub(crate) fn percent(text: &str) -> Result<f64, String> {
    let number = text.trim().trim_end_matches('%').trim_end();
    match number.parse::<f64>() {
        Ok(percent @ 0.0..=100.0) => Ok(percent),
        Ok(_) => Err("must be between 0 and 100".into()),
        Err(_) => Err(format!("\"{text}\" is not a number")),
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number.trim_end(), unit)
}

fn positive(number: &str) -> Result<f64, String> {
    match number.parse::<f64>() {
        Ok(value) if value.is_finite() && value > 0.0 => Ok(value),
        Ok(_) => Err("must be more than zero".into()),
        Err(_) => Err(format!("\"{number}\" is not a number")),
    }
}

/// Shows a count with a comma between thousands.
pub(crate) fn show_count(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Shows a count with its noun, in the plural where it belongs: `1 span`, `2 spans`.
pub(crate) fn show_counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", show_count(count))
}

/// Shows a number of bytes, such as `512 B` or `1.2 MiB`.
pub(crate) fn show_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];

    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = UNITS[0];
    for larger in &UNITS[1..] {
        if value < 1023.95 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    format!("{value:.1} {unit}")
}

/// Shows a duration, coarser the longer it is: `0.42 s`, `12.3 s`, `3 min 20 s`, `2 h 5 min`.
pub(crate) fn show_duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 9.995 {
        return format!("{seconds:.2} s");
    }
    if seconds < 59.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    match whole {
        ..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

/// Shows how many spans went by in a time, as a rate.
pub(crate) fn show_rate(spans: u64, time: Duration) -> String {
    let rate = spans as f64 / time.as_secs_f64().max(0.001);
    match rate {
        10.0.. => format!("{} spans/s", show_count(rate.round() as u64)),
        _ => format!("{rate:.1} spans/s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_units() {
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("10"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("1.5 s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("1h"), Ok(Duration::from_secs(3600)));
        for wrong in ["", "s", "0s", "-1s", "1d", "nan", "inf", "1e400s", "1e300h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_are_read_with_their_units() {
        assert_eq!(bytes("65536"), Ok(65536));
        assert_eq!(bytes("1MiB"), Ok(1 << 20));
        assert_eq!(bytes("512 kib"), Ok(512 << 10));
        assert_eq!(bytes("2MB"), Ok(2_000_000));
        assert_eq!(bytes("1GiB"), Ok(1 << 30));
        assert_eq!(memory("4GiB"), Ok(4 << 30));
        for wrong in ["", "0", "1GiBB", "2048MiB", "-5", "0.2"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rates_are_read_per_second() {
        assert_eq!(rate("500"), Ok(500.0));
        assert_eq!(rate("0.5/s"), Ok(0.5));
        for wrong in ["", "0", "-1", "fast", "1e12"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
        assert_eq!(rate_or_none("0"), Ok(Rate(None)));
        assert_eq!(rate_or_none("0/s"), Ok(Rate(None)));
        assert_eq!(rate_or_none("500/s"), Ok(Rate(Some(500.0))));
        for wrong in ["", "-1", "fast", "1e12", "nan"] {
            assert!(rate_or_none(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn shares_are_read_of_a_hundred() {
        assert_eq!(percent("5"), Ok(5.0));
        assert_eq!(percent("0.5 %"), Ok(0.5));
        for wrong in ["", "%", "-1", "101", "nan", "few"] {
            assert!(percent(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_are_shown_for_people() {
        assert_eq!(show_count(0), "0");
        assert_eq!(show_count(999), "999");
        assert_eq!(show_count(1_234_567), "1,234,567");
        assert_eq!(show_counted(1, "span"), "1 span");
        assert_eq!(show_counted(0, "span"), "0 spans");
        assert_eq!(show_bytes(1023), "1023 B");
        assert_eq!(show_bytes(1536), "1.5 KiB");
        assert_eq!(show_bytes((1 << 20) - 1), "1.0 MiB");
        assert_eq!(show_bytes(u64::MAX), "16384.0 PiB");
        assert_eq!(show_duration(Duration::from_millis(420)), "0.42 s");
        assert_eq!(show_duration(Duration::from_millis(12_340)), "12.3 s");
        assert_eq!(show_duration(Duration::from_secs(200)), "3 min 20 s");
        assert_eq!(show_duration(Duration::from_secs(7500)), "2 h 5 min");
        assert_eq!(show_rate(5000, Duration::from_secs(2)), "2,500 spans/s");
        assert_eq!(show_rate(1, Duration::from_secs(2)), "0.5 spans/s");
    }
}
