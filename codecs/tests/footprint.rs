//! A codec holds no more than its footprint says: measured as the growth of the
//! peak of virtual memory of a process that does nothing else.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use walport_codecs::{Options, readable, writer};
use walport_engine::codec::SharedCodec;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// What the heap adds: it grows in steps, and small things live in it.
const SLACK: u64 = 256 * KIB;

/// One measurement: a codec as it is asked for.
#[derive(Clone)]
struct Case {
    method: &'static str,
    level: Option<&'static str>,
    memory: u64,
    threads: usize,
    /// Bytes of input: enough to fill the window.
    input: u64,
}

const fn case(
    method: &'static str,
    level: Option<&'static str>,
    memory: u64,
    threads: usize,
    input: u64,
) -> Case {
    Case { method, level, memory, threads, input }
}

const CASES: &[Case] = &[
    case("none", None, MIB, 1, 4 * MIB),
    case("lz4", None, 200 * KIB, 1, 4 * MIB),
    case("lz4", None, 2 * MIB, 1, 8 * MIB),
    case("lz4", None, 7 * MIB, 1, 8 * MIB),
    case("lz4", None, 6 * MIB, 2, 16 * MIB),
    case("lz4", None, 27 * MIB, 1, 16 * MIB),
    case("lz4", None, 16 * MIB, 4, 16 * MIB),
    case("zstd", Some("1"), 16 * MIB, 1, 4 * MIB),
    case("zstd", Some("3"), 16 * MIB, 1, 8 * MIB),
    case("zstd", Some("3"), 2 * MIB, 1, 8 * MIB),
    case("zstd", Some("7"), 16 * MIB, 1, 8 * MIB),
    case("zstd", Some("11"), 64 * MIB, 1, 12 * MIB),
    case("zstd", Some("11"), 4 * MIB, 1, 8 * MIB),
    case("zstd", Some("19"), 256 * MIB, 1, 10 * MIB),
    case("brotli", None, 2 * MIB, 1, 8 * MIB),
    case("brotli", None, 8 * MIB, 1, 8 * MIB),
    case("brotli", None, 64 * MIB, 1, 16 * MIB),
    case("brotli", Some("0"), 64 * MIB, 1, 16 * MIB),
    case("brotli", Some("1"), 64 * MIB, 1, 16 * MIB),
    case("brotli", Some("5"), 64 * MIB, 1, 12 * MIB),
    case("brotli", Some("9"), 64 * MIB, 1, 6 * MIB),
    case("lzma", Some("0"), 4 * MIB, 1, 4 * MIB),
    case("lzma", None, 4 * MIB, 1, 4 * MIB),
    case("lzma", None, 80 * MIB, 1, 12 * MIB),
    case("lzma", Some("6"), 16 * MIB, 1, 3 * MIB),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("encode") => {
            report(&|| encode(&CASES[arguments[1].parse::<usize>().unwrap()], io::sink()));
        }
        Some("decode") => report(&|| decode(&arguments[1], Path::new(&arguments[2]))),
        _ => measure_all(),
    }
}

fn measure_all() {
    let scratch = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let mut failed = Vec::new();
    for (index, case) in CASES.iter().enumerate() {
        let codec = codec(case);
        let name = format!(
            "{} {:?} in {} KiB on {}",
            case.method,
            case.level,
            case.memory / KIB,
            case.threads
        );
        let said = codec.footprint().encode;
        assert!(said <= case.memory, "{name}: says {said}");
        let held = child(&["encode", &index.to_string()]);
        println!("{name}: encoder holds {} KiB, says {}", held / KIB, said / KIB);
        if held > said + SLACK {
            failed.push(format!("{name}: an encoder holds {held} bytes, but says {said}"));
        }
    }
    for (extension, case) in [
        ("lz4", case("lz4", None, 27 * MIB, 1, 24 * MIB)),
        ("zst", case("zstd", Some("17"), 128 * MIB, 1, 12 * MIB)),
        ("br", case("brotli", None, 128 * MIB, 1, 16 * MIB)),
        ("lzma", case("lzma", None, 80 * MIB, 1, 12 * MIB)),
        ("gz", case("gzip", None, 0, 1, 8 * MIB)),
    ] {
        let path = scratch.join(format!("footprint.{extension}"));
        let file = File::create(&path).unwrap();
        match case.method {
            "gzip" => {
                let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
                feed(&mut encoder, case.input).unwrap();
                encoder.finish().unwrap();
            }
            _ => encode(&case, file),
        }
        let said = reader(extension).footprint().decode;
        let held = child(&["decode", extension, path.to_str().unwrap()]);
        fs::remove_file(&path).unwrap();
        println!("{extension}: decoder holds {} KiB, says {}", held / KIB, said / KIB);
        if held > said + SLACK {
            failed.push(format!("{extension}: a decoder holds {held} bytes, but says {said}"));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

fn child(arguments: &[&str]) -> u64 {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(arguments)
        .env("MALLOC_ARENA_MAX", "1")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    text.trim().parse().unwrap()
}

fn report(work: &dyn Fn()) {
    let before = status("VmSize:");
    work();
    println!("{}", status("VmPeak:") - before);
}

/// A field of this process's status, in bytes.
fn status(field: &str) -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * KIB
}

fn codec(case: &Case) -> SharedCodec {
    let options = Options {
        level: case.level.map(str::to_owned),
        memory: case.memory,
        threads: case.threads,
    };
    writer(case.method, &options).unwrap()
}

fn reader(extension: &str) -> SharedCodec {
    readable().into_iter().find(|codec| codec.extension() == extension).unwrap()
}

fn encode(case: &Case, to: impl Write + Send + 'static) {
    let mut encoder = codec(case).encoder(Box::new(to)).unwrap();
    feed(&mut *encoder, case.input).unwrap();
    encoder.finish().unwrap();
}

fn decode(extension: &str, path: &Path) {
    let mut decoder = reader(extension).decoder(Box::new(File::open(path).unwrap())).unwrap();
    let mut buffer = [0; 16 << 10];
    while decoder.read(&mut buffer).unwrap() > 0 {}
}

/// Pages that compress about as those of PostgreSQL, then as much noise, in
/// small writes.
fn feed(to: &mut (impl Write + ?Sized), bytes: u64) -> io::Result<()> {
    let mut random = fastrand::Rng::with_seed(1);
    let mut page = [0; 8192];
    let pages = bytes / page.len() as u64;
    for number in 0..pages {
        if number > pages / 2 {
            random.fill(&mut page);
            to.write_all(&page)?;
            continue;
        }
        let value = random.u64(..);
        for (index, tuple) in page[..7000].chunks_mut(50).enumerate() {
            tuple[..8].copy_from_slice(&(value ^ index as u64).to_le_bytes());
            tuple[12] = random.u8(..);
            tuple[13] = random.u8(..);
        }
        to.write_all(&page)?;
    }
    Ok(())
}
