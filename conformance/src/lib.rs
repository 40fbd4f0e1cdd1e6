//! The suite that tells whether a store can be trusted with backups.
//!
//! It takes any [`Storage`](walport_engine::storage::Storage) and runs one
//! [`Case`] for each behaviour line of the contract, and for the ways in which
//! backups were lost in practice: a reader that sees half an object, a second
//! creator that wins, a listing that ends at its first page, an
//! acknowledgement that comes before the bytes are safe.
//!
//! A backend of your own is two steps: implement the trait, and add one test.
//!
//! ```no_run
//! use walport_conformance::{Subject, Unfit, check};
//! # use walport_engine::storage::{Result, Store};
//! # async fn open_my_store() -> Result<Store> {
//! #     Ok(std::sync::Arc::new(walport_engine::storage::InMemory::new()))
//! # }
//!
//! // #[test]
//! fn my_store_conforms() -> Result<(), Unfit> {
//!     // Called again by cases that look at the store with fresh eyes: it must
//!     // open the same objects each time.
//!     check(Subject::new("mine", || Box::pin(open_my_store())))
//! }
//! ```
//!
//! Rules of the suite:
//!
//! - A case whose ability the store does not declare in its
//!   [`Limits`](walport_engine::storage::Limits), or whose hook the [`Subject`]
//!   does not offer, is *skipped*: counted, explained, never passed.
//! - The store is tested bare. Open it with no retries; a store that needs a
//!   second try to keep its promise has not kept it.
//! - Everything is written under one random prefix, printed in the report, and
//!   removed afterwards, also after a failure or when the run is stopped.
//! - Data and order come from one seed, printed in the report; the same seed
//!   repeats the run.
//! - No case has a deadline. A case ends as failed when nothing at all moves
//!   for [`Options::no_progress`].
//!
//! [`broken`] has stores that lie, to prove that the suite sees it; [`fault`]
//! has the servers and the proxy that make a network fail on purpose.

pub mod broken;
mod case;
mod check;
mod context;
mod data;
mod engine;
pub mod fault;
mod golden;
mod report;
mod run;
mod subject;
mod watch;

pub use case::{Case, Need, cases};
pub use check::{Unfit, check, check_with};
pub use report::{CaseResult, Outcome, Report};
pub use run::{Options, Sizes, run, run_until};
pub use subject::{Opener, Subject};
