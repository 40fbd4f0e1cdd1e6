//! The checksum of a page, as PostgreSQL computes it: FNV-1a in 32 lanes, so
//! that the compiler can use vectors.

const LANES: usize = 32;
const STRIDE: usize = LANES * 4;
const PRIME: u32 = 16_777_619;

/// Where each lane starts.
const BASES: [u32; LANES] = [
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

/// Where the checksum itself stands; it counts as zero.
const FIELD: std::ops::Range<usize> = 8..10;

/// The checksum of a page that is block `block` of its relation (counted over
/// all its files). The page's length is a multiple of 128, at least that.
/// Never 0.
pub fn checksum(page: &[u8], block: u32) -> u16 {
    let (strides, _) = page.as_chunks::<STRIDE>();
    let mut sums = BASES;
    let mut strides = strides.iter();
    if let Some(first) = strides.next() {
        let mut first = *first;
        first[FIELD].fill(0);
        mix(&mut sums, &first);
    }
    for stride in strides {
        mix(&mut sums, stride);
    }
    let zeros = [0; STRIDE];
    mix(&mut sums, &zeros);
    mix(&mut sums, &zeros);
    let folded = sums.iter().fold(block, |all, sum| all ^ sum);
    // 1 to 65535, so that 0 stays the mark of a page without one.
    (folded % 65_535 + 1) as u16
}

#[inline]
fn mix(sums: &mut [u32; LANES], stride: &[u8; STRIDE]) {
    let (words, _) = stride.as_chunks::<4>();
    for (sum, word) in sums.iter_mut().zip(words) {
        let mixed = *sum ^ u32::from_le_bytes(*word);
        *sum = mixed.wrapping_mul(PRIME) ^ (mixed >> 17);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGES: [&[u8; 16_384]; 2] = [
        include_bytes!("../../../tests/data/postgres/pages-15"),
        include_bytes!("../../../tests/data/postgres/pages-18"),
    ];

    #[test]
    fn pages_of_real_servers_have_the_checksum_they_say() {
        for pages in PAGES {
            for (index, page) in pages.chunks(8192).enumerate() {
                let stored = u16::from_le_bytes([page[8], page[9]]);
                let block = index as u32 + 1;
                assert_eq!(checksum(page, block), stored);
                assert_ne!(checksum(page, block + 1), stored, "the block number counts");
            }
        }
    }

    #[test]
    fn every_size_of_page_is_summed_to_its_end() {
        for size in [1024, 2048, 4096, 8192, 16_384, 32_768] {
            let mut page = vec![7; size];
            let before = checksum(&page, 1);
            page[size - 1] ^= 1;
            assert_ne!(checksum(&page, 1), before, "{size}");
            page[8] ^= 1;
            let with = checksum(&page, 1);
            page[9] ^= 1;
            assert_eq!(checksum(&page, 1), with, "the field itself does not count");
        }
    }
}
