//! The tar reader, and the writer on what was read.
#![no_main]

use std::io;

use libfuzzer_sys::fuzz_target;
use walport_engine::layout::tar::{TarReader, TarWriter};

fuzz_target!(|archive: &[u8]| {
    let mut reader = TarReader::new(archive);
    let mut total = 0;
    while let Ok(Some(header)) = reader.next() {
        let Ok(payload) = io::copy(&mut reader, &mut io::sink()) else { break };
        assert_eq!(payload, header.payload());
        total += payload;
        let mut writer = TarWriter::new(Vec::new());
        if writer.append(&header).is_ok() {
            let written = writer.into_inner();
            let again = TarReader::new(&written[..]).next().unwrap().unwrap();
            assert_eq!(
                (again.name, again.size, again.kind),
                (header.name, header.size, header.kind)
            );
        }
    }
    assert!(total <= archive.len() as u64);
});
