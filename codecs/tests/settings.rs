//! The codecs that a configuration asks for.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use walport_codecs::{SETTINGS, from_settings};
use walport_engine::codec::Codecs;
use walport_engine::settings::{SETTINGS as ENGINE, Settings, Source, Table};
use walport_engine::{Kind, Result};

fn codecs(values: &[(&str, &str)]) -> Result<Codecs> {
    let mut settings = Settings::new(Arc::new(Table::new(ENGINE.iter().chain(SETTINGS))));
    for (name, value) in values {
        settings.set(name, value, Source::Environment((*name).to_owned())).unwrap();
    }
    from_settings(&settings, 6 << 20, 2)
}

const METHOD: &str = "WALG_COMPRESSION_METHOD";
const ZSTD_LEVEL: &str = "WALG_ZSTD_LEVEL";
const LEVEL: &str = "WALPORT_COMPRESSION_LEVEL";

#[test]
fn the_method_and_the_level_choose_the_codec() {
    for (values, extension) in [
        (&[][..], "lz4"),
        (&[(METHOD, "zstd")], "zst"),
        (&[(METHOD, "ZSTD"), (ZSTD_LEVEL, "Best")], "zst"),
        (&[(METHOD, "zstd"), (LEVEL, "9")], "zst"),
        (&[(METHOD, "zstd"), (LEVEL, "best"), (ZSTD_LEVEL, "BEST")], "zst"),
        (&[(METHOD, "brotli"), (LEVEL, "5")], "br"),
        (&[(METHOD, "lzma"), (LEVEL, "0")], "lzma"),
        (&[(METHOD, "none")], ""),
    ] {
        assert_eq!(codecs(values).unwrap().writer().extension(), extension, "{values:?}");
    }
}

#[test]
fn levels_that_cannot_be_are_errors_of_the_configuration() {
    for values in [
        &[(ZSTD_LEVEL, "best")][..],
        &[(METHOD, "brotli"), (ZSTD_LEVEL, "3")],
        &[(METHOD, "zstd"), (ZSTD_LEVEL, "fast")],
        &[(METHOD, "zstd"), (ZSTD_LEVEL, "best"), (LEVEL, "3")],
        &[(LEVEL, "1")],
        &[(METHOD, "none"), (LEVEL, "1")],
        &[(METHOD, "lzma"), (LEVEL, "best")],
    ] {
        let error = codecs(values).unwrap_err();
        assert_eq!(error.kind(), Kind::Config, "{values:?}: {error}");
        assert!(error.hint().is_some(), "{values:?}: {error}");
    }
}

#[test]
fn everything_walg_writes_can_be_read() {
    let codecs = codecs(&[]).unwrap();
    for extension in ["lz4", "lzma", "gz", "", "tar", "br", "zst"] {
        assert!(codecs.reader(extension).is_ok(), "{extension}");
    }
    assert_eq!(codecs.probe(None), ["lz4", "lzma", "gz", "", "br", "zst"]);
    assert_eq!(codecs.reader("lzo").unwrap_err().kind(), Kind::Unsupported);
}
