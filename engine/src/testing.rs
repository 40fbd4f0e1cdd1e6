//! What unit tests of the jobs share: a context over a store in memory.
#![allow(clippy::unwrap_used)]

use std::io::{self, Read, Write};
use std::sync::Arc;

use crate::codec::{Codec, Codecs, Finish, Footprint, SharedCodec};
use crate::context::Context;
use crate::error::Result;
use crate::memory::{Budget, Operation, Plan};
use crate::progress::Progress;
use crate::settings::{Settings, Source, Table};
use crate::storage::{InMemory, Store};

/// A codec that changes nothing, under any extension.
#[derive(Debug)]
struct Identity(&'static str);

struct Pass<'a>(Box<dyn Write + Send + 'a>);

impl Write for Pass<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Finish for Pass<'_> {
    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.0.flush()
    }
}

impl Codec for Identity {
    fn name(&self) -> &'static str {
        self.0
    }

    fn extension(&self) -> &'static str {
        self.0
    }

    fn footprint(&self) -> Footprint {
        Footprint::default()
    }

    fn encoder<'a>(&self, to: Box<dyn Write + Send + 'a>) -> Result<Box<dyn Finish + Send + 'a>> {
        Ok(Box::new(Pass(to)))
    }

    fn decoder<'a>(&self, from: Box<dyn Read + Send + 'a>) -> Result<Box<dyn Read + Send + 'a>> {
        Ok(from)
    }
}

/// Settings with these values on top of the defaults.
pub(crate) fn settings(values: &[(&str, &str)]) -> Settings {
    let rows = crate::postgres::SETTINGS.iter().chain(crate::settings::SETTINGS);
    let mut settings = Settings::new(Arc::new(Table::new(rows)));
    for (name, value) in values {
        settings.set(name, value, Source::Environment((*name).to_owned())).unwrap();
    }
    settings
}

/// A context over `store`, that writes uncompressed objects called `.lz4`.
pub(crate) fn context(store: Store, values: &[(&str, &str)]) -> Context {
    let settings = settings(values);
    let plan = Plan::derive(&settings, Operation::BackupPush).unwrap();
    let readable: Vec<SharedCodec> = ["lz4", "zst", ""]
        .into_iter()
        .map(|name| Arc::new(Identity(name)) as SharedCodec)
        .collect();
    Context {
        storages: vec![("default".to_owned(), Arc::clone(&store))],
        store,
        codecs: Codecs::new(readable.clone(), readable[0].clone(), None),
        budget: Budget::new(plan.buffers),
        plan,
        progress: Progress::new(),
        settings,
    }
}

/// A store in memory, and a context over it.
pub(crate) fn in_memory(values: &[(&str, &str)]) -> (Arc<InMemory>, Context) {
    let store = Arc::new(InMemory::new());
    (store.clone(), context(store, values))
}

/// Runs a future as the program does.
pub(crate) fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}
