//! The engine on the store under test: a context as a command has it, whose
//! archive is the prefix of the case, with the one codec that needs no other
//! crate.

use std::io::{self, Read, Write};
use std::sync::Arc;

use walport_engine::Result;
use walport_engine::codec::{Codec, Codecs, Finish, Footprint, SharedCodec};
use walport_engine::context::Context;
use walport_engine::memory::{Budget, Operation, Plan};
use walport_engine::progress::Progress;
use walport_engine::settings::{SETTINGS, Settings, Table};
use walport_engine::storage::Store;
use walport_engine::storage::prefix::Prefix;

/// A context over `folder` of the store, with every setting at its default.
pub(crate) fn context(store: Store, folder: &str) -> Result<Context> {
    let rows = SETTINGS.iter().chain(walport_engine::postgres::SETTINGS);
    let settings = Settings::new(Arc::new(Table::new(rows)));
    let plan = Plan::derive(&settings, Operation::WalPush)?;
    let plain: SharedCodec = Arc::new(Plain);
    let archive: Store = Arc::new(Prefix::new(store, folder)?);
    Ok(Context {
        store: Arc::clone(&archive),
        storages: vec![("default".to_owned(), archive)],
        codecs: Codecs::new(vec![plain.clone()], plain, None),
        budget: Budget::new(plan.buffers),
        plan,
        settings,
        progress: Progress::new(),
    })
}

/// What the method `none` does.
#[derive(Debug)]
struct Plain;

impl Codec for Plain {
    fn name(&self) -> &'static str {
        "none"
    }

    fn extension(&self) -> &'static str {
        ""
    }

    fn footprint(&self) -> Footprint {
        Footprint::default()
    }

    fn encoder<'a>(&self, to: Box<dyn Write + Send + 'a>) -> Result<Box<dyn Finish + Send + 'a>> {
        Ok(Box::new(Through(to)))
    }

    fn decoder<'a>(&self, from: Box<dyn Read + Send + 'a>) -> Result<Box<dyn Read + Send + 'a>> {
        Ok(from)
    }
}

struct Through<'a>(Box<dyn Write + Send + 'a>);

impl Write for Through<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Finish for Through<'_> {
    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.0.flush()
    }
}
