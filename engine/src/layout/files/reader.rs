//! Reads `files_metadata.json` as a stream.

use std::io::Read;

use super::super::gojson::{JsonReader, field};
use super::super::{corrupt, gotime};
use super::{CorruptBlocks, FileRecord};
use crate::error::Result;

/// Gets what the document holds, in the document's order. Each call may end the
/// reading with an error. What a visitor does not care for it leaves out.
///
/// If a name occurs twice, it is reported twice, and the last one counts.
pub trait FilesVisitor {
    /// A file: the name of its tar entry, and its record.
    fn file(&mut self, name: &str, record: &FileRecord) -> Result<()> {
        let _ = (name, record);
        Ok(())
    }

    /// The list of a part begins.
    fn part(&mut self, part: &str) -> Result<()> {
        let _ = part;
        Ok(())
    }

    /// A tar entry of a part.
    fn entry(&mut self, part: &str, name: &str) -> Result<()> {
        let _ = (part, name);
        Ok(())
    }

    /// A database. Comes before its tables if the document has the oid first,
    /// as WAL-G writes it, and after them otherwise.
    fn database(&mut self, name: &str, oid: u32) -> Result<()> {
        let _ = (name, oid);
        Ok(())
    }

    /// A table of a database. Comes before its descendants if the document has
    /// its numbers first, as WAL-G writes them, and after them otherwise.
    fn table(&mut self, database: &str, name: &str, oid: u32, relfilenode: u32) -> Result<()> {
        let _ = (database, name, oid, relfilenode);
        Ok(())
    }

    /// A descendant of a table.
    fn subtable(
        &mut self,
        database: &str,
        table: &str,
        name: &str,
        oid: u32,
        relfilenode: u32,
    ) -> Result<()> {
        let _ = (database, table, name, oid, relfilenode);
        Ok(())
    }
}

/// Reads the document from a stream, in memory that depends neither on its size
/// nor on the order of its members.
#[derive(Debug)]
pub struct FilesReader<R> {
    json: JsonReader<R>,
}

impl<R: Read> FilesReader<R> {
    /// Reads from `input`, with a buffer of 64 KiB.
    pub fn new(input: R) -> Self {
        Self { json: JsonReader::new(input) }
    }

    /// Reads the whole document and reports what it holds.
    pub fn visit(mut self, visitor: &mut dyn FilesVisitor) -> Result<()> {
        read(&mut self.json, visitor).map_err(|error| error.context("files_metadata.json"))
    }
}

fn read<R: Read>(json: &mut JsonReader<R>, visitor: &mut dyn FilesVisitor) -> Result<()> {
    json.object(|json, name| match field(&name, &["Files", "TarFileSets", "DatabasesByNames"]) {
        Some("Files") => json.object(|json, name| {
            let record =
                record(json).map_err(|error| error.context(format_args!("file {name:?}")))?;
            visitor.file(&name, &record)
        }),
        Some("TarFileSets") => json.object(|json, part| {
            visitor.part(&part)?;
            json.array(|json| {
                let name = json.string()?.unwrap_or_default();
                visitor.entry(&part, &name)
            })
        }),
        Some(_) => json.object(|json, name| database(json, &name, visitor)),
        None => json.skip(),
    })?;
    json.end()
}

const RECORD: &[&str] = &["IsIncremented", "IsSkipped", "MTime", "CorruptBlocks", "UpdatesCount"];

fn record<R: Read>(json: &mut JsonReader<R>) -> Result<FileRecord> {
    let mut record = FileRecord::full(gotime::zero().fixed_offset());
    json.object(|json, name| {
        match field(&name, RECORD) {
            Some("IsIncremented") => keep(&mut record.is_incremented, json.boolean()?),
            Some("IsSkipped") => keep(&mut record.is_skipped, json.boolean()?),
            Some("MTime") => {
                let time = json.string()?.map(|text| gotime::parse_rfc3339(&text)).transpose();
                keep(&mut record.mtime, time.map_err(|error| corrupt(error.message()))?);
            }
            Some("CorruptBlocks") => record.corrupt = corrupt_blocks(json)?,
            Some(_) => keep(&mut record.updates, json.integer()?),
            None => json.skip()?,
        }
        Ok(())
    })?;
    Ok(record)
}

/// The most block numbers a record may list: those of a file of 1 GiB with the
/// smallest pages PostgreSQL can have.
const MAX_BLOCKS: usize = 1 << 20;

fn corrupt_blocks<R: Read>(json: &mut JsonReader<R>) -> Result<Option<CorruptBlocks>> {
    if json.null()? {
        return Ok(None);
    }
    let mut blocks = CorruptBlocks::default();
    json.object(|json, name| {
        match field(&name, &["CorruptBlocksCount", "SomeCorruptBlocks"]) {
            Some("CorruptBlocksCount") => keep(&mut blocks.count, json.integer()?),
            Some(_) => {
                blocks.some.clear();
                json.array(|json| {
                    if blocks.some.len() == MAX_BLOCKS {
                        return Err(json.wrong("more block numbers than a file has pages"));
                    }
                    blocks.some.push(json.integer()?.unwrap_or_default());
                    Ok(())
                })?;
            }
            None => json.skip()?,
        }
        Ok(())
    })?;
    Ok(Some(blocks))
}

fn database<R: Read>(
    json: &mut JsonReader<R>,
    name: &str,
    visitor: &mut dyn FilesVisitor,
) -> Result<()> {
    let mut reported = false;
    json.object(|json, member| match field(&member, &["oid", "tables_new"]) {
        Some("oid") => {
            reported = true;
            visitor.database(name, json.integer()?.unwrap_or_default())
        }
        Some(_) => json.object(|json, table| relation(json, name, None, &table, visitor)),
        None => json.skip(),
    })?;
    if reported { Ok(()) } else { visitor.database(name, 0) }
}

/// A table, or with `parent` a descendant of it. WAL-G flattens descendants, so
/// those of a descendant are skipped.
fn relation<R: Read>(
    json: &mut JsonReader<R>,
    database: &str,
    parent: Option<&str>,
    name: &str,
    visitor: &mut dyn FilesVisitor,
) -> Result<()> {
    let report = |visitor: &mut dyn FilesVisitor, oid: Option<u32>, node: Option<u32>| {
        let (oid, node) = (oid.unwrap_or_default(), node.unwrap_or_default());
        match parent {
            None => visitor.table(database, name, oid, node),
            Some(table) => visitor.subtable(database, table, name, oid, node),
        }
    };
    let (mut oid, mut node, mut reported) = (None, None, false);
    json.object(|json, member| {
        match field(&member, &["oid", "relfilenode", "subtables"]) {
            Some("oid") => oid = json.integer()?,
            Some("relfilenode") => node = json.integer()?,
            Some(_) if parent.is_none() => {
                return json
                    .object(|json, child| relation(json, database, Some(name), &child, visitor));
            }
            _ => return json.skip(),
        }
        if !reported && oid.is_some() && node.is_some() {
            reported = true;
            report(visitor, oid, node)?;
        }
        Ok(())
    })?;
    if reported { Ok(()) } else { report(visitor, oid, node) }
}

/// `null` changes nothing, as in Go.
fn keep<T>(to: &mut T, read: Option<T>) {
    if let Some(value) = read {
        *to = value;
    }
}
