//! Our own reading of page checksums, since the servers of npm come without
//! pg_checksums, and a check that is not the engine's proves more.

use std::fs;
use std::path::Path;

const PAGE: usize = 8192;
const PAGES_IN_A_FILE: u32 = 131_072;

/// The start values of the 32 parallel sums (checksum_impl.h of PostgreSQL).
const BASES: [u32; 32] = [
    0x5B1F_36E9,
    0xB852_5960,
    0x02AB_50AA,
    0x1DE6_6D2A,
    0x79FF_467A,
    0x9BB9_F8A3,
    0x217E_7CD2,
    0x83E1_3D2C,
    0xF8D4_474F,
    0xE39E_B970,
    0x42C6_AE16,
    0x9932_16FA,
    0x7B09_3B5D,
    0x98DA_FF3C,
    0xF718_902A,
    0x0B1C_9CDB,
    0xE58F_764B,
    0x1876_36BC,
    0x5D7B_3BB1,
    0xE73D_E7DE,
    0x92BE_C979,
    0xCCA6_C0B2,
    0x304A_0979,
    0x85AA_43D4,
    0x7831_25BB,
    0x6CA8_EAA2,
    0xE407_EAC6,
    0x4B5C_FC3E,
    0x9FBF_8C76,
    0x15CA_20BE,
    0xF2CA_9FD3,
    0x959B_D756,
];

/// Checks every page of every relation; returns how many had a checksum.
#[track_caller]
pub fn verify(data: &Path) -> u64 {
    let mut checked = 0;
    let mut folders = vec![data.join("base"), data.join("global"), data.join("pg_tblspc")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("read_dir") {
            let path = entry.expect("read_dir").path();
            if path.is_dir() {
                folders.push(path);
            } else if let Some(segment) = segment_of(&path) {
                checked += verify_file(&path, segment);
            }
        }
    }
    checked
}

/// The segment number of a relation's file: `16384`, `16384_fsm`, `16384.1`.
fn segment_of(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_str()?;
    let (relation, segment) = name.split_once('.').unwrap_or((name, "0"));
    let number = ["_fsm", "_vm", "_init"]
        .iter()
        .find_map(|fork| relation.strip_suffix(fork))
        .unwrap_or(relation);
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    segment.parse().ok().filter(|_| digits)
}

#[track_caller]
fn verify_file(path: &Path, segment: u32) -> u64 {
    let bytes = fs::read(path).expect("read");
    let mut checked = 0;
    for (number, page) in (segment * PAGES_IN_A_FILE..).zip(bytes.chunks_exact(PAGE)) {
        let new = page[14..16] == [0, 0];
        if new {
            continue;
        }
        let stored = u16::from_le_bytes([page[8], page[9]]);
        let right = checksum(page, number);
        assert_eq!(stored, right, "{}: checksum of page {number}", path.display());
        checked += 1;
    }
    checked
}

fn checksum(page: &[u8], number: u32) -> u16 {
    let mut sums = BASES;
    for (row, chunk) in page.chunks_exact(128).enumerate() {
        for (column, word) in chunk.chunks_exact(4).enumerate() {
            let mut value = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
            if row == 0 && column == 2 {
                value &= 0xFFFF_0000; // the checksum itself counts as zero
            }
            sums[column] = mix(sums[column], value);
        }
    }
    let folded = sums.into_iter().map(|sum| mix(mix(sum, 0), 0)).fold(0, |all, sum| all ^ sum);
    u16::try_from((folded ^ number) % 65_535 + 1).expect("16 bits")
}

fn mix(sum: u32, value: u32) -> u32 {
    let xored = sum ^ value;
    xored.wrapping_mul(16_777_619) ^ (xored >> 17)
}
