//! Log sequence numbers and times.
#![no_main]

use libfuzzer_sys::fuzz_target;
use walport_engine::layout::{Lsn, gotime};

fuzz_target!(|text: &str| {
    if let Ok(lsn) = text.parse::<Lsn>() {
        assert_eq!(lsn.to_string().parse::<Lsn>().unwrap(), lsn);
    }
    if let Ok(time) = gotime::parse_rfc3339(text) {
        assert_eq!(gotime::parse_rfc3339(&gotime::rfc3339_nano(&time)).unwrap(), time);
    }
});
