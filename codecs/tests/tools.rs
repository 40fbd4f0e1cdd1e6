//! Other programs read what we write, and we read what they write: `lz4`,
//! `zstd`, `brotli`, `xz` and `gzip` must be installed.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::process::{Command, Stdio};

use support::{decode, encode, inputs, reader, seeded, writer};

const MIB: u64 = 1 << 20;

/// Runs a program with `input` in a file as its stdin, and gives its stdout.
fn run(program: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("input");
    fs::write(&path, input).unwrap();
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::from(fs::File::open(&path).unwrap()))
        .output()
        .unwrap_or_else(|error| panic!("{program} must be installed for this test: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?} failed: {stderr}");
    output.stdout
}

#[test]
fn other_programs_read_what_we_write() {
    let mut random = seeded("tools read");
    for (method, memory, program, arguments) in [
        ("lz4", 200 << 10, "lz4", &["-dc"][..]),
        ("lz4", 6 * MIB, "lz4", &["-dc"]),
        ("lz4", 27 * MIB, "lz4", &["-dc"]),
        ("zstd", 2 * MIB, "zstd", &["-dc"]),
        ("zstd", 16 * MIB, "zstd", &["-dc"]),
        ("brotli", 16 * MIB, "brotli", &["-dc"]),
        ("lzma", 3 * MIB, "xz", &["--format=lzma", "-dc"]),
        ("lzma", 80 * MIB, "xz", &["--format=lzma", "-dc"]),
    ] {
        for threads in [1, 2] {
            for size in [0, 1, 5000, 1_200_000] {
                for (kind, data) in inputs(&mut random, size) {
                    let bytes = encode(&*writer(method, None, memory, threads), &data, 64 << 10);
                    let back = run(program, arguments, &bytes);
                    assert!(back == data, "{method} {memory} {threads}: {size} bytes of {kind}");
                }
            }
        }
    }
}

#[test]
fn we_read_what_other_programs_write() {
    let mut random = seeded("tools write");
    for (extension, program, arguments) in [
        ("lz4", "lz4", &["-c"][..]),
        ("lz4", "lz4", &["-c", "-BD", "-B4"]),
        ("lz4", "lz4", &["-c", "-BX", "-9", "--content-size"]),
        ("zst", "zstd", &["-c"]),
        ("zst", "zstd", &["-c", "-19", "--no-check"]),
        ("zst", "zstd", &["-c", "-1", "--long=27", "-T2"]),
        ("br", "brotli", &["-c", "-w", "24", "-q", "5"]),
        ("lzma", "xz", &["--format=lzma", "-c", "-0"]),
        ("lzma", "xz", &["--format=lzma", "-c", "-7"]),
        ("gz", "gzip", &["-c", "-n"]),
    ] {
        for size in [0, 1, 5000, 1_200_000] {
            for (kind, data) in inputs(&mut random, size) {
                let bytes = run(program, arguments, &data);
                let back = decode(&*reader(extension), &bytes).unwrap();
                assert!(back == data, "{program} {arguments:?}: {size} bytes of {kind}");
            }
        }
    }
}
