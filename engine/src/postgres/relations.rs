//! What is in the databases: names of relations for a partial restore, and how
//! often each is written for the rating composer. Rows are streamed, since a
//! cluster can have millions of relations.

use std::error::Error as StdError;

use futures_util::{Stream, StreamExt};
use tokio_postgres::types::{FromSql, Type};
use tokio_postgres::{Row, RowStream};

use super::client::{Client, get};
use super::error;
use crate::error::Result;

/// A database that allows connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// Its object identifier, the name of its directories.
    pub oid: u32,
    /// Its name.
    pub name: String,
    /// Its default tablespace; 1663 is `base`.
    pub tablespace: u32,
}

/// A relation of the connected database. The descendants of a partitioned or
/// inherited one follow their top ancestor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// `schema.relation`.
    pub name: String,
    /// Its object identifier.
    pub oid: u32,
    /// The name of its files; 0 if it has none, as a partitioned table.
    pub relfilenode: u32,
    /// It descends, over any number of steps, from the last relation before it
    /// for which this is false.
    pub subtable: bool,
}

/// How often a relation was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelationUpdates {
    /// The database.
    pub database: u32,
    /// The tablespace; 1663 is `base`.
    pub tablespace: u32,
    /// The name of its files.
    pub relfilenode: u32,
    /// Rows inserted, updated and deleted since the statistics were reset; never 0.
    pub count: u64,
}

/// Each top relation with all its descendants below it, whatever the schema of
/// each. A relation with several parents appears under each of their tops.
/// `pg_relation_filenode` is asked only about mapped catalogues, because it
/// loads each relation into the server's cache.
const RELATIONS: &str = "
    WITH RECURSIVE tree (top, member) AS (
        SELECT i.inhparent, i.inhrelid FROM pg_inherits i
         WHERE NOT EXISTS (SELECT FROM pg_inherits p WHERE p.inhrelid = i.inhparent)
        UNION
        SELECT t.top, i.inhrelid FROM tree t JOIN pg_inherits i ON i.inhparent = t.member
    ), placed (top, member, below) AS (
        SELECT c.oid, c.oid, false FROM pg_class c
         WHERE NOT EXISTS (SELECT FROM pg_inherits p WHERE p.inhrelid = c.oid)
           AND (c.relkind IN ('r', 'i', 'S', 't', 'm', 'p', 'I')
                OR EXISTS (SELECT FROM pg_inherits p WHERE p.inhparent = c.oid))
        UNION ALL
        SELECT t.top, t.member, true FROM tree t
    )
    SELECT n.nspname::text, c.relname::text, c.oid,
           CASE WHEN c.relfilenode = 0 AND c.relkind NOT IN ('p', 'I', 'f')
                THEN coalesce(pg_relation_filenode(c.oid), 0) ELSE c.relfilenode END,
           p.below
      FROM placed p
      JOIN pg_class c ON c.oid = p.member
      JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE NOT p.below OR c.relkind IN ('r', 'i', 'S', 't', 'm', 'p', 'I')
     ORDER BY p.top, p.below, c.oid";

const UPDATES: &str = "
    SELECT d.oid, CASE WHEN c.reltablespace = 0 THEN d.dattablespace ELSE c.reltablespace END,
           c.relfilenode, s.count
      FROM pg_class c
      CROSS JOIN (SELECT oid, dattablespace FROM pg_database WHERE datname = current_database()) d
      CROSS JOIN LATERAL (SELECT pg_stat_get_tuples_inserted(c.oid)
                               + pg_stat_get_tuples_updated(c.oid)
                               + pg_stat_get_tuples_deleted(c.oid) AS count) s
     WHERE c.relkind IN ('r', 't', 'm') AND c.relfilenode <> 0 AND s.count > 0";

impl Client {
    /// The databases that allow connections, by identifier.
    pub async fn databases(&self) -> Result<Vec<Database>> {
        self.query(
            "cannot list the databases",
            "SELECT oid, datname::text, dattablespace FROM pg_database WHERE datallowconn ORDER BY oid",
        )
        .await?
        .iter()
        .map(|row| {
            Ok(Database {
                oid: get(row, 0)?,
                name: get::<RawText>(row, 1)?.0,
                tablespace: get(row, 2)?,
            })
        })
        .collect()
    }

    /// A session with `database`; `None`, with a warning, if it lets nobody in.
    pub async fn try_connect_to(&self, database: &Database) -> Option<Client> {
        match self.connect_to(&database.name).await {
            Ok(client) => Some(client),
            Err(error) => {
                log::warn!("database {:?} is left out: {error}", database.name);
                None
            }
        }
    }

    /// The relations of the connected database that have files or descendants.
    pub async fn relations(&self) -> Result<impl Stream<Item = Result<Relation>> + Send + 'static> {
        let rows = self.stream("cannot list the relations", RELATIONS).await?;
        Ok(rows.map(|row| {
            let row = row?;
            let (schema, name) = (get::<RawText>(&row, 0)?.0, get::<RawText>(&row, 1)?.0);
            Ok(Relation {
                name: format!("{schema}.{name}"),
                oid: get(&row, 2)?,
                relfilenode: get(&row, 3)?,
                subtable: get(&row, 4)?,
            })
        }))
    }

    /// The relations of the connected database that were written, with how often.
    pub async fn updates(
        &self,
    ) -> Result<impl Stream<Item = Result<RelationUpdates>> + Send + 'static> {
        let rows = self.stream("cannot read the statistics", UPDATES).await?;
        Ok(rows.map(|row| {
            let row = row?;
            Ok(RelationUpdates {
                database: get(&row, 0)?,
                tablespace: get(&row, 1)?,
                relfilenode: get(&row, 2)?,
                count: get::<i64>(&row, 3)?.cast_unsigned(),
            })
        }))
    }

    async fn stream(
        &self,
        what: &'static str,
        sql: &str,
    ) -> Result<impl Stream<Item = Result<Row>> + Send + use<>> {
        let rows: RowStream = self
            .sql
            .query_raw::<_, &str, [&str; 0]>(sql, [])
            .await
            .map_err(|e| error::statement(what, &e))?;
        Ok(rows.map(move |row| row.map_err(|e| error::statement(what, &e))))
    }
}

/// Text of the server that may not be UTF-8: names of `SQL_ASCII` databases, and
/// names of databases that use another encoding than ours.
struct RawText(String);

impl<'a> FromSql<'a> for RawText {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Self(String::from_utf8_lossy(raw).into_owned()))
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::TEXT
    }
}
