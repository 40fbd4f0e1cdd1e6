//! Damaged, cut and extended streams are refused: never a short read, a panic
//! or a huge allocation.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::io::Write;

use support::{assert_corrupt, decode, encode, inputs, reader, seeded, writer};
use walport_engine::Kind;
use walport_engine::codec::SharedCodec;

/// Small streams of every format that has an end of its own, with their content.
fn streams(random: &mut fastrand::Rng) -> Vec<(SharedCodec, Vec<u8>, Vec<u8>)> {
    let mut streams = Vec::new();
    for size in [0, 1, 700, 3000] {
        for (_, data) in inputs(random, size) {
            for method in ["lz4", "zstd", "brotli", "lzma"] {
                let codec = writer(method, None, 16 << 20, 1);
                let bytes = encode(&*codec, &data, 512);
                streams.push((codec, bytes, data.clone()));
            }
            streams.push((reader("gz"), gzip(&data), data));
        }
    }
    streams
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn has_checksum(codec: &SharedCodec) -> bool {
    !matches!(codec.name(), "brotli" | "lzma")
}

#[test]
fn every_cut_is_noticed() {
    for (codec, bytes, data) in streams(&mut seeded("cut")) {
        assert!(decode(&*codec, &bytes).unwrap() == data, "{}", codec.name());
        for len in 0..bytes.len() {
            assert_corrupt(&*codec, &bytes[..len], &format!("cut at {len} of {}", bytes.len()));
        }
    }
}

#[test]
fn bytes_after_the_end_are_noticed() {
    for (codec, bytes, _) in streams(&mut seeded("tail")) {
        for tail in [&b"\0"[..], b"\0\0\0\0\0\0\0\0", b"x", b"garbage that is longer"] {
            assert_corrupt(&*codec, &[&bytes, tail].concat(), &format!("then {tail:?}"));
        }
    }
}

#[test]
fn flipped_bits_are_noticed_where_the_format_can() {
    let mut random = seeded("flip");
    for (codec, bytes, data) in streams(&mut random) {
        for _ in 0..300 {
            let mut damaged = bytes.clone();
            let at = random.usize(..damaged.len());
            damaged[at] ^= 1 << random.u32(..8);
            match decode(&*codec, &damaged) {
                // gzip's header holds a time, a system and flags that nothing checks.
                Ok(all) if all == data && (codec.name() == "gzip" && at < 10) => {}
                Ok(all) => {
                    let told = "the content changed, and nothing was said";
                    assert!(
                        !has_checksum(&codec) || all == data,
                        "{} byte {at}: {told}",
                        codec.name()
                    );
                }
                Err(error) => {
                    let kind = error.kind();
                    assert!(
                        kind == Kind::Corrupt || kind == Kind::Unsupported,
                        "{} byte {at}: {error}",
                        codec.name()
                    );
                }
            }
        }
    }
}

#[test]
fn noise_is_refused() {
    let mut random = seeded("noise");
    for codec in walport_codecs::readable().into_iter().filter(has_checksum) {
        if codec.name() == "none" {
            continue;
        }
        for _ in 0..200 {
            let len = random.usize(1..5000);
            let noise: Vec<u8> = (0..len).map(|_| random.u8(..)).collect();
            assert_corrupt(&*codec, &noise, "noise");
        }
    }
}

#[test]
fn several_frames_are_one_stream() {
    let mut random = seeded("frames");
    let skippable = [&[0x5A, 0x2A, 0x4D, 0x18, 5, 0, 0, 0][..], b"notes"].concat();
    for method in ["lz4", "zstd"] {
        let codec = writer(method, None, 16 << 20, 1);
        let parts: Vec<Vec<u8>> =
            inputs(&mut random, 100_000).into_iter().map(|(_, data)| data).collect();
        let mut bytes = skippable.clone();
        for part in &parts {
            bytes.extend(encode(&*codec, part, 1 << 20));
            bytes.extend(encode(&*codec, b"", 1));
            bytes.extend_from_slice(&skippable);
        }
        assert!(decode(&*codec, &bytes).unwrap() == parts.concat(), "{method}");
        assert_corrupt(&*codec, &bytes[..bytes.len() - 1], "cut in a skippable frame");
    }
    let bytes = [gzip(b"one "), gzip(b""), gzip(b"two")].concat();
    assert_eq!(decode(&*reader("gz"), &bytes).unwrap(), b"one two");
}

#[test]
fn headers_that_ask_for_too_much_are_refused() {
    // A dictionary of 4 GiB, and a window of 2 GiB.
    let lzma = hex::decode("5d00000080ffffffffffffffff00").unwrap();
    assert_corrupt(&*reader("lzma"), &lzma, "dictionary");
    let zstd = hex::decode("28b52ffd04a8010000").unwrap();
    assert_corrupt(&*reader("zst"), &zstd, "window");
}

/// Frames of every kind that `lz4_flex` writes: dependent blocks, checksums of
/// blocks, recorded sizes.
#[test]
fn lz4_frames_of_other_writers() {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    let mut random = seeded("lz4 frames");
    for mode in [BlockMode::Linked, BlockMode::Independent] {
        for size in [BlockSize::Max64KB, BlockSize::Max256KB, BlockSize::Max1MB, BlockSize::Max4MB]
        {
            for checksums in [false, true] {
                for (kind, data) in inputs(&mut random, 1_500_000) {
                    let info = FrameInfo::new()
                        .block_mode(mode)
                        .block_size(size)
                        .block_checksums(checksums)
                        .content_checksum(checksums)
                        .content_size(checksums.then_some(data.len() as u64));
                    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
                    for part in data.chunks(50_000) {
                        encoder.write_all(part).unwrap();
                    }
                    let bytes = encoder.finish().unwrap();
                    let back = decode(&*reader("lz4"), &bytes).unwrap();
                    assert!(back == data, "{mode:?} {size:?} {checksums} {kind}");
                }
            }
        }
    }
}

/// What we write, read by a decoder that is not ours.
#[test]
fn lz4_flex_reads_our_frames() {
    use std::io::Read;
    let mut random = seeded("lz4_flex");
    for (memory, threads) in
        [(200 << 10, 1), (2 << 20, 1), (27 << 20, 1), (6 << 20, 2), (20 << 20, 8)]
    {
        let codec = writer("lz4", None, memory, threads);
        for (kind, data) in inputs(&mut random, 5_000_000) {
            let bytes = encode(&*codec, &data, 64 << 10);
            let mut back = Vec::new();
            lz4_flex::frame::FrameDecoder::new(&bytes[..]).read_to_end(&mut back).unwrap();
            assert!(back == data, "{memory} {threads} {kind}");
        }
    }
}
