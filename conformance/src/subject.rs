//! The store under test, and what its owner lets the suite do with it.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use walport_engine::storage::{Key, Result, Store};

use crate::fault::{Dialect, Faults};

/// A function that opens the store. It is called several times in a run, and
/// must open the same objects each time.
pub type Opener = Arc<dyn Fn() -> BoxFuture<'static, Result<Store>> + Send + Sync>;

type Count = Arc<dyn Fn() -> u64 + Send + Sync>;
type Unfinished = Arc<dyn Fn(Key) -> BoxFuture<'static, Result<Vec<String>>> + Send + Sync>;

/// The same store over a way that can be made to fail.
#[derive(Clone)]
pub(crate) struct Faulty {
    pub(crate) faults: Faults,
    pub(crate) dialect: Option<Dialect>,
    pub(crate) open: Opener,
}

/// The store under test: how to open it, and hooks that let more cases run.
#[derive(Clone)]
pub struct Subject {
    pub(crate) name: String,
    pub(crate) open: Opener,
    pub(crate) requests: Option<Count>,
    pub(crate) unfinished: Option<Unfinished>,
    pub(crate) faulty: Option<Faulty>,
    pub(crate) retains: bool,
}

impl Subject {
    /// A store by the name it has in reports, and the function that opens it.
    ///
    /// Open it without retries, and with a memory budget where it takes one.
    pub fn new(
        name: impl Into<String>,
        open: impl Fn() -> BoxFuture<'static, Result<Store>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            open: Arc::new(open),
            requests: None,
            unfinished: None,
            faulty: None,
            retains: false,
        }
    }

    /// Lets the suite count requests: `count` says how many the server has
    /// received so far. A [`fault::Proxy`](crate::fault::Proxy) can tell.
    pub fn with_requests(mut self, count: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        self.requests = Some(Arc::new(count));
        self
    }

    /// Lets the suite see what a listing does not show but somebody pays for:
    /// `list` names the uploads under a prefix that were begun and neither
    /// completed nor aborted, or the temporary files.
    pub fn with_unfinished(
        mut self,
        list: impl Fn(Key) -> BoxFuture<'static, Result<Vec<String>>> + Send + Sync + 'static,
    ) -> Self {
        self.unfinished = Some(Arc::new(list));
        self
    }

    /// Lets the suite break the connection: `open` opens the same store through
    /// a [`fault::Proxy`](crate::fault::Proxy) that obeys `faults`. With a
    /// dialect, cases that need replies in the store's own words run too.
    pub fn with_faults(
        mut self,
        faults: Faults,
        dialect: Option<Dialect>,
        open: impl Fn() -> BoxFuture<'static, Result<Store>> + Send + Sync + 'static,
    ) -> Self {
        self.faulty = Some(Faulty { faults, dialect, open: Arc::new(open) });
        self
    }

    /// The place honours `Put::retention` (a bucket with object lock), so that
    /// the deletion of a retained object can be tried.
    pub fn retains(mut self) -> Self {
        self.retains = true;
        self
    }

    /// The name in reports.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject")
            .field("name", &self.name)
            .field("requests", &self.requests.is_some())
            .field("unfinished", &self.unfinished.is_some())
            .field("faults", &self.faulty.is_some())
            .field("retains", &self.retains)
            .finish_non_exhaustive()
    }
}
