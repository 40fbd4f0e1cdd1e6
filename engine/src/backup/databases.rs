//! Which relations are in which database, for a partial restore. The server is
//! asked while its session lives; the names wait on disk.

use std::io::Write;
use std::path::PathBuf;
use std::pin::pin;

use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};

use super::spill::{Items, Spill};
use crate::error::Result;
use crate::layout::FilesWriter;
use crate::postgres::Client;

#[derive(Debug, Serialize, Deserialize)]
enum Line {
    Database { name: String, oid: u32 },
    Table { name: String, oid: u32, relfilenode: u32 },
    Subtable { name: String, oid: u32, relfilenode: u32 },
}

/// The relations of all databases, to be written.
#[derive(Debug)]
pub(super) struct Databases(Items<Line>);

/// Asks each database that lets us in.
pub(super) async fn collect(client: &Client, folder: &PathBuf) -> Result<Databases> {
    let mut lines = Spill::create(folder)?;
    for database in client.databases().await? {
        let Some(client) = client.try_connect_to(&database).await else { continue };
        lines.push(&Line::Database { name: database.name, oid: database.oid })?;
        let mut relations = pin!(client.relations().await?);
        while let Some(relation) = relations.try_next().await? {
            let (name, oid, relfilenode) = (relation.name, relation.oid, relation.relfilenode);
            lines.push(&if relation.subtable {
                Line::Subtable { name, oid, relfilenode }
            } else {
                Line::Table { name, oid, relfilenode }
            })?;
        }
        client.close().await;
    }
    Ok(Databases(lines.read()?))
}

impl Databases {
    /// Adds them to the document.
    pub(super) fn write<W: Write>(mut self, document: &mut FilesWriter<W>) -> Result<()> {
        while let Some(line) = self.0.next()? {
            match line {
                Line::Database { name, oid } => document.database(&name, oid)?,
                Line::Table { name, oid, relfilenode } => {
                    document.table(&name, oid, relfilenode)?;
                }
                Line::Subtable { name, oid, relfilenode } => {
                    document.subtable(&name, oid, relfilenode)?;
                }
            }
        }
        Ok(())
    }
}
