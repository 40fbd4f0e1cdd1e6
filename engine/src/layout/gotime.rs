//! Times as Go prints and reads them.

use std::fmt::Write as _;

use chrono::{DateTime, Datelike, FixedOffset, NaiveDate, Offset, TimeZone, Timelike, Utc};

use super::invalid;
use crate::error::Result;

/// Go's zero time, 1 January of the year 1 UTC: what a document without a time reads as.
pub fn zero() -> DateTime<Utc> {
    // The value is a constant of the calendar; the fallback is never taken.
    DateTime::from_timestamp(-62_135_596_800, 0).unwrap_or(DateTime::UNIX_EPOCH)
}

/// Whether `time` is Go's zero time.
pub fn is_zero(time: &DateTime<Utc>) -> bool {
    *time == zero()
}

/// Whether RFC 3339 can say this time: a year of four digits, here and in its zone.
pub fn is_representable<Tz: TimeZone>(time: &DateTime<Tz>) -> bool {
    (0..=9999).contains(&time.year())
}

/// RFC 3339 with up to nine fractional digits, trailing zeros and a bare dot
/// removed: `2026-11-23T09:08:43.461346404Z`. The offset of `time` is kept.
pub fn rfc3339_nano<Tz: TimeZone>(time: &DateTime<Tz>) -> String {
    let mut text = seconds(time, 'T');
    push_fraction(&mut text, time.nanosecond());
    push_offset(&mut text, time.offset().fix());
    text
}

/// RFC 3339 in whole seconds: `2026-11-23T09:08:43Z`.
pub fn rfc3339<Tz: TimeZone>(time: &DateTime<Tz>) -> String {
    let mut text = seconds(time, 'T');
    push_offset(&mut text, time.offset().fix());
    text
}

/// RFC 850: `Monday, 23-Nov-26 09:08:43 UTC`.
pub fn rfc850(time: &DateTime<Utc>) -> String {
    format!(
        "{}, {:02}-{}-{:02} {:02}:{:02}:{:02} UTC",
        ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
            [time.weekday().num_days_from_monday() as usize],
        time.day(),
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
            [time.month0() as usize],
        time.year().rem_euclid(100),
        time.hour(),
        time.minute(),
        time.second(),
    )
}

/// What Go prints for a time in UTC if not told otherwise:
/// `2026-11-23 09:08:43.461346404 +0000 UTC`.
pub fn go_default(time: &DateTime<Utc>) -> String {
    let mut text = seconds(time, ' ');
    push_fraction(&mut text, time.nanosecond());
    text.push_str(" +0000 UTC");
    text
}

fn seconds<Tz: TimeZone>(time: &DateTime<Tz>, between: char) -> String {
    let local = time.naive_local();
    format!(
        "{:04}-{:02}-{:02}{between}{:02}:{:02}:{:02}",
        local.year(),
        local.month(),
        local.day(),
        local.hour(),
        local.minute(),
        local.second()
    )
}

fn push_fraction(text: &mut String, nanoseconds: u32) {
    // chrono counts a leap second as more than a second of nanoseconds.
    let nanoseconds = nanoseconds % 1_000_000_000;
    if nanoseconds != 0 {
        // Writing to a string cannot fail.
        let _ = write!(text, ".{nanoseconds:09}");
        text.truncate(text.trim_end_matches('0').len());
    }
}

fn push_offset(text: &mut String, offset: FixedOffset) {
    let offset = offset.local_minus_utc();
    if offset == 0 {
        text.push('Z');
        return;
    }
    let minutes = offset.unsigned_abs() / 60;
    let sign = if offset < 0 { '-' } else { '+' };
    let _ = write!(text, "{sign}{:02}:{:02}", minutes / 60, minutes % 60);
}

/// Rounds up to a whole microsecond, as WAL-G does with the times in documents.
pub fn ceil_to_micros(time: DateTime<Utc>) -> DateTime<Utc> {
    let beyond = time.nanosecond() % 1000;
    if beyond == 0 { time } else { time + chrono::TimeDelta::nanoseconds(i64::from(1000 - beyond)) }
}

/// Reads RFC 3339 with any offset below a day and any number of fractional
/// digits, of which nine count. Forgives what Go forgives: an hour of one digit,
/// a comma before the fraction, an offset with 60 minutes.
pub fn parse_rfc3339(text: &str) -> Result<DateTime<FixedOffset>> {
    read_rfc3339(text.as_bytes())
        .ok_or_else(|| invalid(format!("{text:?} is not a time in the form of RFC 3339")))
}

fn read_rfc3339(text: &[u8]) -> Option<DateTime<FixedOffset>> {
    let (date, rest) = text.split_at_checked(11)?;
    if (date[4], date[7], date[10]) != (b'-', b'-', b'T') {
        return None;
    }
    let hour_digits = if rest.get(1) == Some(&b':') { 1 } else { 2 };
    let (time, mut rest) = rest.split_at_checked(hour_digits + 6)?;
    let (hour, time) = time.split_at(hour_digits);
    if (time[0], time[3]) != (b':', b':') {
        return None;
    }
    let year = i32::try_from(digits(&date[..4])?).ok()?;
    let date = NaiveDate::from_ymd_opt(year, digits(&date[5..7])?, digits(&date[8..10])?)?;
    let mut nanoseconds = 0;
    if let [b'.' | b',', fraction @ ..] = rest {
        let length = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (fraction, after) = fraction.split_at(length);
        let counted = &fraction[..length.min(9)];
        nanoseconds = digits(counted)? * 10u32.pow(9 - counted.len() as u32);
        rest = after;
    }
    let (minute, second) = (digits(&time[1..3])?, digits(&time[4..])?);
    let time = date.and_hms_nano_opt(digits(hour)?, minute, second, nanoseconds)?;
    time.and_local_timezone(offset(rest)?).single()
}

fn offset(text: &[u8]) -> Option<FixedOffset> {
    if text == b"Z" {
        return FixedOffset::east_opt(0);
    }
    let [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] = *text else { return None };
    let (hours, minutes) = (digits(&[h1, h2])?, digits(&[m1, m2])?);
    if minutes > 60 {
        return None;
    }
    // None for a day and more.
    let seconds = i32::try_from(hours * 3600 + minutes * 60).ok()?;
    FixedOffset::east_opt(if sign == b'-' { -seconds } else { seconds })
}

fn digits(text: &[u8]) -> Option<u32> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u32, |sum, byte| {
        byte.is_ascii_digit().then(|| sum * 10 + u32::from(byte - b'0'))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn utc(secs: i64, nanos: u32) -> DateTime<Utc> {
        DateTime::from_timestamp(secs, nanos).unwrap()
    }

    #[test]
    fn times_print_as_in_go() {
        let time = utc(1_795_424_923, 461_346_404);
        assert_eq!(rfc3339_nano(&time), "2026-11-23T09:08:43.461346404Z");
        assert_eq!(rfc3339(&time), "2026-11-23T09:08:43Z");
        assert_eq!(rfc850(&time), "Monday, 23-Nov-26 09:08:43 UTC");
        assert_eq!(go_default(&time), "2026-11-23 09:08:43.461346404 +0000 UTC");
        assert_eq!(go_default(&utc(1_795_424_923, 0)), "2026-11-23 09:08:43 +0000 UTC");
        assert_eq!(rfc3339_nano(&utc(1_795_424_923, 120_000_000)), "2026-11-23T09:08:43.12Z");
        let moscow = FixedOffset::east_opt(3 * 3600).unwrap();
        assert_eq!(
            rfc3339_nano(&time.with_timezone(&moscow)),
            "2026-11-23T12:08:43.461346404+03:00"
        );
        let newfoundland = FixedOffset::east_opt(-(3 * 3600 + 1800)).unwrap();
        assert_eq!(rfc3339(&time.with_timezone(&newfoundland)), "2026-11-23T05:38:43-03:30");
        assert_eq!(rfc3339_nano(&zero()), "0001-01-01T00:00:00Z");
        assert!(is_zero(&zero()));
    }

    #[test]
    fn reading_forgives_what_go_forgives() {
        for good in [
            "2026-11-23T09:08:43Z",
            "2026-11-23T09:08:43.5+03:00",
            "0000-01-01T00:00:00-23:59",
            "9999-12-31T23:59:59.999999999999Z",
            "2024-02-29T00:00:00Z",
            "2026-11-23T9:08:43Z",
            "2026-11-23T09:08:43,5Z",
            "2026-11-23T09:08:43+03:60",
        ] {
            assert!(parse_rfc3339(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "2026-11-23",
            "2026-11-23 09:08:43Z",
            "2026-11-23t09:08:43Z",
            "2026-11-23T09:08:43z",
            "2026-11-23T09:08:43",
            "2026-11-23T09:08:43.Z",
            "2026-11-23T24:00:00Z",
            "2026-11-23T23:59:60Z",
            "2026-02-29T00:00:00Z",
            "2026-11-23T09:08:43+0300",
            "2026-11-23T09:08:43+24:00",
            "2026-11-23T09:08:43+03:61",
            "2026-11-23T:08:43Z",
            "2026-11-23T9:8:43Z",
            "+026-11-23T09:08:43Z",
            "2026-11-23T09:08:43ZZ",
            "2026-11-23T09:08:4éZ",
        ] {
            assert!(parse_rfc3339(bad).is_err(), "{bad}");
        }
        assert_eq!(
            parse_rfc3339("2026-11-23T12:08:43.1234567899+03:00").unwrap().with_timezone(&Utc),
            utc(1_795_424_923, 123_456_789)
        );
    }

    #[test]
    fn microseconds_are_rounded_up() {
        assert_eq!(ceil_to_micros(utc(5, 1001)), utc(5, 2000));
        assert_eq!(ceil_to_micros(utc(5, 2000)), utc(5, 2000));
        assert_eq!(ceil_to_micros(utc(5, 999_999_001)), utc(6, 0));
    }

    proptest! {
        #[test]
        fn a_time_read_and_written_is_the_same(
            secs in -62_167_000_000i64..253_402_000_000, nanos in 0u32..1_000_000_000, minutes in -1439i32..1440
        ) {
            let zone = FixedOffset::east_opt(minutes * 60).unwrap();
            let time = utc(secs, nanos).with_timezone(&zone);
            prop_assume!(is_representable(&time));
            let text = rfc3339_nano(&time);
            let read = parse_rfc3339(&text).unwrap();
            prop_assert_eq!(read, time);
            prop_assert_eq!(read.offset(), time.offset());
            prop_assert_eq!(rfc3339_nano(&read), text);
        }

        #[test]
        fn any_text_is_handled(text in "[0-9TZ:.+é-]{0,40}") {
            if let Ok(time) = parse_rfc3339(&text) {
                prop_assert_eq!(parse_rfc3339(&rfc3339_nano(&time)).unwrap(), time);
            }
        }
    }
}
