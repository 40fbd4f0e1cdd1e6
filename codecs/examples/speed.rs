//! How fast each codec is on a file, and what it holds: `speed FILE [MEMORY_KIB
//! [THREADS [PIECE_KIB]]]`. Each line is a process of its own; times are the best
//! of nine, as they passed and as the calling thread used them: on a busy machine
//! only the latter tell.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::process::Command;
use std::time::{Duration, Instant};

use walport_codecs::{Options, readable, writer};

type Outcome<T> = Result<T, Box<dyn Error>>;

const ROUNDS: u32 = 9;
/// Methods and levels; `stock` is the frame encoder of lz4_flex with 256 KiB
/// blocks, to compare with.
const RUNS: &[(&str, &str)] = &[
    ("stock", ""),
    ("lz4", ""),
    ("zstd", "fastest"),
    ("zstd", "default"),
    ("zstd", "better"),
    ("zstd", "best"),
    ("brotli", ""),
    ("lzma", ""),
];

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let text = |index: usize, default: &str| {
        arguments.get(index).map_or(default, String::as_str).to_owned()
    };
    match text(0, "").as_str() {
        "" => Err("usage: speed FILE [MEMORY_KIB [THREADS [PIECE_KIB]]]".into()),
        "run" => run(&arguments[1..]),
        file => {
            println!(
                "method  level    encode MB/s  (CPU)  decode MB/s  (CPU)  bytes out  RSS KiB  virtual KiB"
            );
            for (method, level) in RUNS {
                let status = Command::new(std::env::current_exe()?)
                    .args([
                        "run",
                        file,
                        &text(1, "6144"),
                        &text(2, "1"),
                        &text(3, "256"),
                        method,
                        level,
                    ])
                    .env("MALLOC_ARENA_MAX", "1")
                    .status()?;
                if !status.success() {
                    return Err(format!("{method} {level} failed").into());
                }
            }
            Ok(())
        }
    }
}

fn run(arguments: &[String]) -> Outcome<()> {
    let [file, memory, threads, piece, method, level] = arguments else {
        return Err("six arguments".into());
    };
    let options = Options {
        level: Some(level.clone()).filter(|level| !level.is_empty()),
        memory: memory.parse::<u64>()? << 10,
        threads: threads.parse()?,
    };
    let piece = piece.parse::<usize>()? << 10;
    let size = fs::metadata(file)?.len();
    let (rss, virtual_size) = (status("VmRSS:")?, status("VmSize:")?);
    let mut out = 0;
    let packing = best(|| {
        out = encode(file, method, &options, piece, Count::default())?.0;
        Ok(())
    })?;
    let (rss, virtual_size) = (status("VmHWM:")? - rss, status("VmPeak:")? - virtual_size);
    let packed = std::env::temp_dir().join(format!("walport-speed-{}", std::process::id()));
    encode(file, method, &options, piece, Count(0, Some(File::create(&packed)?)))?;
    let unpacking = best(|| decode(&packed, method, piece))?;
    fs::remove_file(&packed)?;
    let rate = |time: Duration| size as f64 / 1e6 / time.as_secs_f64();
    println!(
        "{method:7} {level:8} {:11.0} {:6.0} {:12.0} {:6.0} {out:10} {rss:8} {virtual_size:12}",
        rate(packing.passed),
        rate(packing.used),
        rate(unpacking.passed),
        rate(unpacking.used),
    );
    Ok(())
}

/// The time of one round.
#[derive(Clone, Copy)]
struct Time {
    passed: Duration,
    used: Duration,
}

fn best(mut work: impl FnMut() -> Outcome<()>) -> Outcome<Time> {
    let mut best = Time { passed: Duration::MAX, used: Duration::MAX };
    for _ in 0..ROUNDS {
        let (start, used) = (Instant::now(), used()?);
        work()?;
        best.passed = best.passed.min(start.elapsed());
        best.used = best.used.min(self::used()?.saturating_sub(used));
    }
    Ok(best)
}

/// The processor time of this thread.
fn used() -> Outcome<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let first = text.split_whitespace().next().ok_or("an empty schedstat")?;
    Ok(Duration::from_nanos(first.parse()?))
}

fn encode(
    file: &str,
    method: &str,
    options: &Options,
    piece: usize,
    mut to: Count,
) -> Outcome<Count> {
    let mut from = File::open(file)?;
    let mut buffer = vec![0; piece];
    if method == "stock" {
        use lz4_flex::frame::{BlockSize, FrameEncoder, FrameInfo};
        let info = FrameInfo::new().block_size(BlockSize::Max256KB).content_checksum(true);
        let mut encoder = FrameEncoder::with_frame_info(info, to);
        copy(&mut from, &mut encoder, &mut buffer)?;
        return Ok(encoder.finish()?);
    }
    let mut encoder = writer(method, options)?.encoder(Box::new(&mut to))?;
    copy(&mut from, &mut encoder, &mut buffer)?;
    encoder.finish()?;
    Ok(to)
}

fn decode(packed: &std::path::Path, method: &str, piece: usize) -> Outcome<()> {
    let from = File::open(packed)?;
    let mut buffer = vec![0; piece];
    if method == "stock" {
        let mut decoder = lz4_flex::frame::FrameDecoder::new(BufReader::new(from));
        return Ok(copy(&mut decoder, &mut io::sink(), &mut buffer)?);
    }
    let codec =
        readable().into_iter().find(|codec| codec.name() == method).ok_or("no such codec")?;
    let mut decoder = codec.decoder(Box::new(from))?;
    Ok(copy(&mut decoder, &mut io::sink(), &mut buffer)?)
}

fn copy(from: &mut impl Read, to: &mut impl Write, buffer: &mut [u8]) -> io::Result<()> {
    loop {
        match from.read(buffer)? {
            0 => return Ok(()),
            read => to.write_all(&buffer[..read])?,
        }
    }
}

/// Counts what is written, and keeps it if there is a file.
#[derive(Default)]
struct Count(u64, Option<File>);

impl Write for Count {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0 += data.len() as u64;
        if let Some(file) = &mut self.1 {
            file.write_all(data)?;
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A field of this process's status, in KiB.
fn status(field: &str) -> Outcome<u64> {
    let text = fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)).ok_or("no such field")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
