//! What is written reads back, for every codec, size, level and thread count.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::io::Write;

use proptest::prelude::*;
use support::{Kept, decode, decode_in, encode, inputs, reader, seeded, writer};
use walport_engine::Kind;

const KIB: usize = 1 << 10;
const MIB: u64 = 1 << 20;

fn check(method: &str, level: Option<&str>, memory: u64, threads: usize, sizes: &[usize]) {
    let codec = writer(method, level, memory, threads);
    let reader = reader(codec.extension());
    let mut random = seeded(method);
    for &size in sizes {
        for (kind, data) in inputs(&mut random, size) {
            for piece in [size.max(1), 64 * KIB, 8191] {
                let bytes = encode(&*codec, &data, piece);
                let back = decode(&*reader, &bytes).unwrap();
                assert!(
                    back == data,
                    "{method} {level:?} {memory} {threads}: {size} bytes of {kind} in {piece}"
                );
            }
        }
    }
}

#[test]
fn every_codec_reads_what_it_wrote() {
    let sizes = [0, 1, 2, 12, 13, 4095, 4096, 4097, 65_535, 65_536, 65_537, 300_000];
    for method in ["lz4", "none", "zstd", "brotli", "lzma"] {
        check(method, None, 64 * MIB, 1, &sizes);
    }
}

#[test]
fn lz4_blocks_of_every_size_and_on_many_threads() {
    for (memory, block) in
        [(200, 64), (1800, 256), (7000, 1024), (27_000, 4096)] as [(u64, usize); 4]
    {
        let block = block * KIB;
        check("lz4", None, memory << 10, 1, &[block - 1, block, block + 1, 2 * block + 17]);
    }
    for threads in [2, 3, 8] {
        let block = 64 * KIB;
        let sizes = [0, 1, block - 1, block, block + 1, 5 * block, 20 * block + 17];
        check("lz4", None, (threads as u64) * 500 * KIB as u64, threads, &sizes);
    }
}

#[test]
fn levels_by_name_and_number() {
    for level in
        ["fastest", "Default", "BETTER", "best", "1", "2", "5", "9", "13", "16", "19", "22"]
    {
        check("zstd", Some(level), 12 * MIB, 1, &[0, 1, 200_000]);
    }
    for level in ["0", "1", "5", "9"] {
        check("brotli", Some(level), 64 * MIB, 1, &[0, 1, 70_000]);
    }
    for level in ["0", "3", "6", "9"] {
        check("lzma", Some(level), 16 * MIB, 1, &[0, 1, 70_000]);
    }
}

#[test]
fn sources_and_buffers_of_any_size() {
    let mut random = seeded("pieces");
    for method in ["lz4", "zstd", "brotli", "lzma", "none"] {
        let codec = writer(method, None, 16 * MIB, 2);
        for (kind, data) in inputs(&mut random, 150_001) {
            let bytes = encode(&*codec, &data, 1000);
            for (piece, room) in [(1, 7), (3, 100_000), (70_000, 1), (1 << 20, 1 << 20)] {
                let back = decode_in(&*codec, &bytes, piece, room).unwrap();
                assert!(back == data, "{method} {kind} {piece} {room}");
            }
        }
    }
}

#[test]
fn the_frames_are_framed_as_walg_does() {
    let lz4 = encode(&*writer("lz4", None, 32 * MIB, 1), b"", 1);
    assert_eq!(hex::encode(&lz4), "04224d186470b900000000055dcc02");
    let zstd = encode(&*writer("zstd", None, 16 * MIB, 1), &vec![7; 300_000], 1000);
    // A checksum, no content size; a window of 2 MiB.
    assert_eq!(hex::encode(&zstd[..6]), "28b52ffd0458");
    let lzma = encode(&*writer("lzma", None, 80 * MIB, 1), b"x", 1);
    assert_eq!(hex::encode(&lzma[..13]), "5d00008000ffffffffffffffff");
    assert_eq!(encode(&*writer("none", None, 0, 1), b"as it is", 1), b"as it is");
}

#[test]
fn no_window_is_above_what_every_decoder_reads() {
    for level in 1..=22 {
        let codec = writer("zstd", Some(&level.to_string()), 1 << 40, 1);
        let bytes = encode(&*codec, &vec![7; 300_000], 1000);
        assert!(bytes[5] >> 3 <= 13, "level {level}: window byte {:x}", bytes[5]);
    }
}

#[test]
fn threads_change_no_byte() {
    let mut random = seeded("threads");
    for (_, data) in inputs(&mut random, 3_000_000) {
        let one = encode(&*writer("lz4", None, 200 << 10, 1), &data, 8192);
        let many = encode(&*writer("lz4", None, 2 * MIB, 3), &data, 100_000);
        assert_eq!(one[4..6], [0x64, 0x40]);
        assert!(many[5] == 0x40, "{:x}", many[5]);
        assert!(one == many);
    }
}

#[test]
fn an_encoder_that_is_dropped_writes_no_end() {
    for method in ["lz4", "zstd", "brotli", "lzma"] {
        let codec = writer(method, None, 16 * MIB, 2);
        let kept = Kept::default();
        let mut encoder = codec.encoder(Box::new(kept.clone())).unwrap();
        encoder.write_all(&vec![5; 1_000_000]).unwrap();
        drop(encoder);
        let bytes = kept.bytes();
        support::assert_corrupt(&*codec, &bytes, "dropped");
        // The next encoder is not disturbed by what the dropped one left.
        let bytes = encode(&*codec, b"next", 4);
        assert_eq!(decode(&*codec, &bytes).unwrap(), b"next", "{method}");
    }
}

#[test]
fn errors_of_the_other_end_come_back_unchanged() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    struct Reset;
    impl std::io::Read for Reset {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(walport_engine::Error::new(Kind::Unavailable, "reset").into())
        }
    }
    for method in ["lz4", "zstd", "brotli", "lzma", "none"] {
        let codec = writer(method, None, 16 * MIB, 2);
        let mut encoder = codec.encoder(Box::new(Full)).unwrap();
        let error =
            encoder.write_all(&vec![1; 9 << 20]).and_then(|()| encoder.finish()).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{method}");
    }
    for codec in walport_codecs::readable() {
        let mut reader = codec.decoder(Box::new(Reset)).unwrap();
        let error = walport_engine::Error::from(reader.read(&mut [0; 10]).unwrap_err());
        assert_eq!(error.kind(), Kind::Unavailable, "{}", codec.name());
    }
}

#[test]
fn an_encoder_whose_write_failed_cannot_finish() {
    struct Hiccup(usize);
    impl Write for Hiccup {
        fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
            self.0 += 1;
            if self.0 == 2 { Err(std::io::ErrorKind::StorageFull.into()) } else { Ok(data.len()) }
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(9 << 20).collect();
    for method in ["lz4", "zstd", "brotli", "lzma"] {
        for threads in [1, 2] {
            let mut encoder =
                writer(method, None, 16 * MIB, threads).encoder(Box::new(Hiccup(0))).unwrap();
            assert!(noise.chunks(1 << 20).any(|part| encoder.write_all(part).is_err()), "{method}");
            assert!(encoder.write_all(b"more").is_err(), "{method}");
            assert!(encoder.finish().is_err(), "{method}");
        }
    }
}

#[test]
fn what_cannot_work_is_said() {
    let refused = |method: &str, level: Option<&str>, memory: u64| {
        let options =
            walport_codecs::Options { level: level.map(str::to_owned), memory, threads: 1 };
        walport_codecs::writer(method, &options).unwrap_err().kind()
    };
    for (method, level) in [
        ("lz4", "1"),
        ("none", "1"),
        ("zstd", "fast"),
        ("zstd", "0"),
        ("zstd", "23"),
        ("brotli", "10"),
        ("brotli", "best"),
        ("lzma", "10"),
        ("lzma", "-1"),
    ] {
        assert_eq!(refused(method, Some(level), 64 * MIB), Kind::Config, "{method} {level}");
    }
    for method in ["gzip", "lzo", ""] {
        assert_eq!(refused(method, None, 64 * MIB), Kind::Config, "{method}");
    }
    for method in ["lz4", "zstd", "brotli", "lzma"] {
        assert_eq!(refused(method, None, 1000), Kind::Memory, "{method}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_writes_read_back(
        parts in prop::collection::vec(prop::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 0..40_000), 0..12),
        method in prop::sample::select(vec!["lz4", "zstd", "brotli", "lzma"]),
        threads in 1usize..4,
    ) {
        let codec = writer(method, None, 8 << 20, threads);
        let kept = Kept::default();
        let mut encoder = codec.encoder(Box::new(kept.clone())).unwrap();
        for part in &parts {
            encoder.write_all(part).unwrap();
            encoder.flush().unwrap();
        }
        encoder.finish().unwrap();
        let bytes = kept.bytes();
        prop_assert_eq!(decode(&*codec, &bytes).unwrap(), parts.concat());
    }
}

#[test]
fn lz4_blocks_grow_with_the_memory() {
    for (memory, threads, block) in [
        (170 << 10, 1, 0x40),
        (1700 << 10, 1, 0x40),
        (1800 << 10, 1, 0x50),
        (6 << 20, 1, 0x50),
        (7 << 20, 1, 0x60),
        (27 << 20, 1, 0x70),
        (6 << 20, 2, 0x50),
        (170 << 10, 8, 0x40),
    ] {
        let codec = writer("lz4", None, memory, threads);
        assert!(codec.footprint().encode <= memory);
        assert_eq!(encode(&*codec, b"", 1)[5], block, "{memory} bytes on {threads} threads");
    }
}
