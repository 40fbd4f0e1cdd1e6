//! Reading values: switches, sizes, times.
#![allow(clippy::result_unit_err)] // the caller knows the setting and writes the message

use std::time::Duration;

/// A switch. Accepts what Go's `ParseBool` and YAML accept.
pub fn parse_bool(text: &str) -> Result<bool, ()> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "t" | "1" | "yes" | "on" => Ok(true),
        "false" | "f" | "0" | "no" | "off" => Ok(false),
        _ => Err(()),
    }
}

/// A size in bytes; units are powers of 1024 and may be written `k`, `kb`, `KiB`.
pub fn parse_size(text: &str) -> Result<u64, ()> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().map_err(|_| ())?;
    let shift = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(()),
    };
    number.checked_mul(1 << shift).ok_or(())
}

/// A time as Go writes it (`1h2m3.5s`, `500ms`, `0`); a bare number is seconds.
pub fn parse_duration(text: &str) -> Result<Duration, ()> {
    let mut rest = text.trim();
    if let Ok(seconds) = rest.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).map_err(|_| ());
    }
    if rest.is_empty() {
        return Err(());
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or(())?;
        let number: f64 = rest[..digits].parse().map_err(|_| ())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(()),
        };
        total += number * unit;
        rest = &rest[letters..];
    }
    Duration::try_from_secs_f64(total).map_err(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_read() {
        assert_eq!(parse_size("1073741823"), Ok(1_073_741_823));
        assert_eq!(parse_size("64MiB"), Ok(64 << 20));
        assert_eq!(parse_size("1mb"), Ok(1 << 20));
        assert!(parse_size("x").is_err() && parse_size("-1").is_err() && parse_size("1q").is_err());
        assert_eq!(parse_duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("15"), Ok(Duration::from_secs(15)));
        assert!(parse_duration("soon").is_err() && parse_duration("1x").is_err());
    }
}
