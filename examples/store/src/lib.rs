//! A store out of tree: a folder of notes. An object is one file, named by the hash of its key,
//! with the key on its first line. It is written as `.new`, which is removed if the put is dropped.
use futures_util::stream::{self, BoxStream, StreamExt};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::{fs, fs::File, os::unix::fs::MetadataExt, path::Path, path::PathBuf, sync::Arc};
use tempfile::NamedTempFile;
use walport_engine::{memory::CHUNK, settings::Setting, storage::*};

/// What the registry knows of the store: `note:///srv/notes`, or the same in `NOTE_PREFIX`.
pub const BACKEND: Backend = Backend {
    scheme: "note",
    prefix: "NOTE_PREFIX",
    plain_path: false,
    settings: &[Setting::new("NOTE_PREFIX", "Notes", "The folder of notes: note:///path.")],
    open: |open| Box::pin(async move { Ok(Arc::new(Notes::open(open.target)?) as Store) }),
};

/// The folder, and what it can do.
#[derive(Debug)]
pub struct Notes(PathBuf, Limits);

impl Notes {
    /// Opens the folder of `note://FOLDER`, which must exist.
    pub fn open(url: &str) -> Result<Self> {
        let root = PathBuf::from(url.trim_start_matches("note://"));
        fs::read_dir(&root).map_err(|error| Error::io(root.display(), error))?;
        Ok(Self(root, Limits { server_side_copy: false, ..Limits::unlimited() }))
    }
    fn path(&self, key: &Key) -> PathBuf {
        self.0.join(format!("{:x}", Sha256::digest(key.as_str())))
    }
    fn entries(&self, prefix: &Key, how: List) -> Result<BTreeMap<Key, Result<Entry>>> {
        let mut found = BTreeMap::new();
        for file in fs::read_dir(&self.0)? {
            let path = file?.path();
            let (key, meta, _) = match read(&path) {
                Ok(note) if path.extension().is_none() => note,
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
                _ => continue, // it is being written, or was deleted since
            };
            let Some(rest) = key.strip_prefix(prefix) else { continue };
            let entry = match rest.split_once('/') {
                Some((folder, _)) if !how.recursive => Entry::Prefix(prefix.join(folder).join("")),
                _ => Entry::Object(key, meta),
            };
            if how.after.as_ref().is_none_or(|after| entry.key() > after) {
                found.insert(entry.key().clone(), Ok(entry));
            }
        }
        Ok(found)
    }
}

/// Opens a note and reads its first line.
fn read(path: &Path) -> io::Result<(Key, Meta, BufReader<File>)> {
    let (mut note, mut key) = (BufReader::new(File::open(path)?), String::new());
    let (line, stat) = (note.read_line(&mut key)?, note.get_ref().metadata()?);
    let version = Some(format!("{}-{}", stat.ino(), stat.mtime_nsec()));
    let (size, modified) = (stat.len() - line as u64, stat.modified()?.into());
    Ok((Key::foreign(key.trim_end_matches('\n')), Meta { size, modified, version }, note))
}
#[async_trait::async_trait]
impl Storage for Notes {
    fn limits(&self) -> &Limits {
        &self.1
    }
    async fn put(&self, key: &Key, body: Body, how: Put) -> Result<Stored> {
        if key.is_prefix() {
            return Err(Error::new(Kind::Invalid, "a prefix").with_op("put").with_key(key));
        }
        let named = |error: io::Error| Error::from(error).with_op("put").with_key(key);
        let (mut size, mut body, path) = (0, body.into_stream(), self.path(key));
        let mut note = NamedTempFile::with_suffix_in(".new", &self.0).map_err(named)?;
        writeln!(note, "{key}").map_err(named)?;
        while let Some(chunk) = body.next().await.transpose()? {
            note.write_all(&chunk).map_err(named)?;
            size += chunk.len() as u64;
        }
        note.as_file().sync_all().map_err(named)?;
        let kept = if how.if_absent { note.persist_noclobber(path) } else { note.persist(path) };
        kept.map_err(|error| named(error.error))?;
        File::open(&self.0).and_then(|folder| folder.sync_all()).map_err(named)?;
        Ok(Stored { size, version: None })
    }
    async fn get(&self, key: &Key, how: Get) -> Result<Object> {
        let named = |error: Error| error.with_op("get").with_key(key);
        let (_, meta, mut note) = read(&self.path(key)).map_err(|error| named(error.into()))?;
        let same = how.check_version(meta.version.as_deref());
        let range = same.and_then(|()| how.within(meta.size)).map_err(named)?;
        note.seek(SeekFrom::Current(range.start as i64))?;
        let mut left = note.take(range.end - range.start);
        let chunks = std::iter::from_fn(move || {
            let mut chunk = Vec::with_capacity(CHUNK);
            let read = left.by_ref().take(CHUNK as u64).read_to_end(&mut chunk);
            (read.is_err() || !chunk.is_empty()).then(|| Ok(read.map(|_| chunk.into())?))
        });
        let body = body::exactly(range.end - range.start, stream::iter(chunks).boxed());
        Ok(Object { meta, range, body })
    }
    async fn head(&self, key: &Key) -> Result<Meta> {
        let named = |error| Error::from(error).with_op("head").with_key(key);
        read(&self.path(key)).map(|note| note.1).map_err(named)
    }
    fn list(&self, prefix: &Key, how: List) -> BoxStream<'_, Result<Entry>> {
        match self.entries(prefix, how) {
            Ok(entries) => stream::iter(entries.into_values()).boxed(),
            Err(error) => stream::iter([Err(error.with_op("list").with_key(prefix))]).boxed(),
        }
    }
    async fn delete(&self, keys: &[Key]) -> Result<Vec<Deleted>> {
        let removed = keys.iter().map(|key| match fs::remove_file(self.path(key)) {
            Err(error) if error.kind() != ErrorKind::NotFound => (key, Err(error.into())),
            _ => (key, Ok(())),
        });
        Ok(removed.map(|(key, outcome)| Deleted { key: key.clone(), outcome }).collect())
    }
    async fn copy(&self, from: &Key, _: &Key) -> Result<Stored> {
        Err(Error::new(Kind::Unsupported, "notes are not copied").with_op("copy").with_key(from))
    }
}
