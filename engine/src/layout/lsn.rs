//! Log sequence numbers: a byte position in the write-ahead log.

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::invalid;
use crate::error::Error;

/// A byte position in the write-ahead log.
///
/// Prints as PostgreSQL does, `16/B374D848`: two hexadecimal halves without
/// leading zeros. In JSON it is one unsigned decimal number, as in WAL-G.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lsn(pub u64);

impl Lsn {
    /// The position `bytes` further on, stopping at the largest.
    pub const fn saturating_add(self, bytes: u64) -> Self {
        Self(self.0.saturating_add(bytes))
    }

    /// The position `bytes` before, stopping at zero.
    pub const fn saturating_sub(self, bytes: u64) -> Self {
        Self(self.0.saturating_sub(bytes))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lsn({self})")
    }
}

impl FromStr for Lsn {
    type Err = Error;

    /// Reads `X/X`: two groups of one to eight hexadecimal digits in either case.
    fn from_str(text: &str) -> Result<Self, Error> {
        text.split_once('/')
            .and_then(|(high, low)| Some(half(high)? << 32 | half(low)?))
            .map(Self)
            .ok_or_else(|| {
                invalid(format!("{text:?} is not a log sequence number"))
                    .with_hint("Write it as PostgreSQL does, for example 16/B374D848.")
            })
    }
}

fn half(text: &str) -> Option<u64> {
    ((1..=8).contains(&text.len()) && text.bytes().all(|digit| digit.is_ascii_hexdigit()))
        .then(|| u64::from_str_radix(text, 16).ok())
        .flatten()
}

impl From<u64> for Lsn {
    fn from(value: u64) -> Self {
        Self(value)
    }
}

impl From<Lsn> for u64 {
    fn from(lsn: Lsn) -> Self {
        lsn.0
    }
}

impl Add<u64> for Lsn {
    type Output = Self;

    fn add(self, bytes: u64) -> Self {
        self.saturating_add(bytes)
    }
}

impl Sub<Lsn> for Lsn {
    type Output = u64;

    /// The bytes between, zero if `other` is the greater.
    fn sub(self, other: Self) -> u64 {
        self.0.saturating_sub(other.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn prints_as_postgresql_does() {
        assert_eq!(Lsn(0x16_B374_D848).to_string(), "16/B374D848");
        assert_eq!(Lsn(0).to_string(), "0/0");
        assert_eq!(Lsn(u64::MAX).to_string(), "FFFFFFFF/FFFFFFFF");
        assert_eq!(serde_json::to_string(&Lsn(u64::MAX)).unwrap(), "18446744073709551615");
    }

    #[test]
    fn rejects_what_is_no_position() {
        for bad in [
            "",
            "/",
            "0",
            "0/",
            "/0",
            "0/0/0",
            "+1/2",
            "1/-2",
            "123456789/0",
            "0/ 1",
            "g/1",
            "0x1/2",
        ] {
            let error = bad.parse::<Lsn>().unwrap_err();
            assert_eq!(error.kind(), crate::Kind::Invalid, "{bad:?}");
            assert!(error.hint().is_some());
        }
    }

    proptest! {
        #[test]
        fn text_and_number_agree(value: u64) {
            prop_assert_eq!(Lsn(value).to_string().parse::<Lsn>().unwrap(), Lsn(value));
            prop_assert_eq!(Lsn(value).to_string().to_lowercase().parse::<Lsn>().unwrap(), Lsn(value));
        }

        #[test]
        fn any_text_is_handled(text in ".{0,40}") {
            if let Ok(lsn) = text.parse::<Lsn>() {
                prop_assert_eq!(lsn.to_string().parse::<Lsn>().unwrap(), lsn);
            }
        }
    }
}
