//! The stream of `files_metadata.json`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use walport_engine::Result;
use walport_engine::layout::{FileRecord, FilesReader, FilesVisitor};

struct Count(usize);

impl FilesVisitor for Count {
    fn file(&mut self, _: &str, _: &FileRecord) -> Result<()> {
        self.0 += 1;
        Ok(())
    }
    fn entry(&mut self, _: &str, _: &str) -> Result<()> {
        self.0 += 1;
        Ok(())
    }
    fn table(&mut self, _: &str, _: &str, _: u32, _: u32) -> Result<()> {
        self.0 += 1;
        Ok(())
    }
}

fuzz_target!(|json: &[u8]| {
    let mut count = Count(0);
    let _ = FilesReader::new(json).visit(&mut count);
    assert!(count.0 <= json.len());
});
