//! The cases: stable ids, what each proves, and what it needs to run.
//!
//! An id is never given to another meaning. A group is one file.

mod attributes;
mod copy;
mod create;
mod delete;
mod error;
mod get;
mod head;
mod layout;
mod limits;
mod list;
mod load;
mod put;

use std::fmt;
use std::sync::LazyLock;

use futures_util::future::BoxFuture;
use walport_engine::storage::Limits;

use crate::context::{Checked, Context};
use crate::fault::Dialect;
use crate::run::Options;
use crate::subject::Subject;

/// What a case needs: an ability that the store declares, or a hook that the
/// subject offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Need {
    /// `Limits::create_if_absent`.
    CreateIfAbsent,
    /// `Limits::server_side_copy`.
    ServerSideCopy,
    /// `Limits::pinned_reads`.
    PinnedReads,
    /// `Limits::ordered_list`.
    OrderedList,
    /// `Limits::atomic_put`.
    AtomicPut,
    /// `Limits::atomic_replace`.
    AtomicReplace,
    /// `Limits::attributes`.
    Attributes,
    /// [`Subject::with_requests`].
    Requests,
    /// [`Subject::with_unfinished`].
    Unfinished,
    /// [`Subject::with_faults`].
    Faults,
    /// [`Subject::with_faults`] with a dialect.
    Dialect,
    /// [`Subject::retains`].
    Retains,
    /// [`Options::memory`], and an operating system that tells.
    Memory,
}

impl Need {
    /// `None` if it is there, or why it is not.
    fn missing(self, subject: &Subject, options: &Options, limits: &Limits) -> Option<String> {
        let (there, reason) = match self {
            Need::CreateIfAbsent => (limits.create_if_absent, "is not declared"),
            Need::ServerSideCopy => (limits.server_side_copy, "is not declared"),
            Need::PinnedReads => (limits.pinned_reads, "is not declared"),
            Need::OrderedList => (limits.ordered_list, "is not declared"),
            Need::AtomicPut => (limits.atomic_put, "is not declared"),
            Need::AtomicReplace => (limits.atomic_replace, "is not declared"),
            Need::Attributes => (limits.attributes, "is not declared"),
            Need::Requests => (subject.requests.is_some(), "is not offered"),
            Need::Unfinished => (subject.unfinished.is_some(), "is not offered"),
            Need::Faults => (subject.faulty.is_some(), "is not offered"),
            Need::Dialect => (dialect(subject).is_some(), "is not offered"),
            Need::Retains => (subject.retains, "is not offered"),
            Need::Memory if !cfg!(target_os = "linux") => (false, "is measured on Linux only"),
            Need::Memory => (options.memory.is_some(), "was not given"),
        };
        (!there).then(|| format!("{self} {reason}"))
    }
}

/// The ability by its name in the limits, or the hook in a few words.
impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Need::CreateIfAbsent => "create_if_absent",
            Need::ServerSideCopy => "server_side_copy",
            Need::PinnedReads => "pinned_reads",
            Need::OrderedList => "ordered_list",
            Need::AtomicPut => "atomic_put",
            Need::AtomicReplace => "atomic_replace",
            Need::Attributes => "attributes",
            Need::Requests => "a count of requests",
            Need::Unfinished => "a list of unfinished uploads",
            Need::Faults => "a connection that can be broken",
            Need::Dialect => "the dialect of a server",
            Need::Retains => "a place that retains objects",
            Need::Memory => "a bound of memory",
        })
    }
}

fn dialect(subject: &Subject) -> Option<Dialect> {
    subject.faulty.as_ref().and_then(|faulty| faulty.dialect)
}

type Run = for<'a> fn(&'a Context) -> BoxFuture<'a, Checked>;

/// One case.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// The stable id: group, point, name.
    pub id: &'static str,
    /// What a store that passes does, in one line.
    pub about: &'static str,
    /// What it needs to run; where one is missing, it is skipped.
    pub needs: &'static [Need],
    run: Run,
}

impl Case {
    const fn new(id: &'static str, about: &'static str, needs: &'static [Need], run: Run) -> Self {
        Self { id, about, needs, run }
    }

    /// Why the case cannot run here, if it cannot.
    pub(crate) fn missing(
        &self,
        subject: &Subject,
        options: &Options,
        limits: &Limits,
    ) -> Option<String> {
        let reasons: Vec<_> =
            self.needs.iter().filter_map(|need| need.missing(subject, options, limits)).collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    pub(crate) fn call<'a>(&self, context: &'a Context) -> BoxFuture<'a, Checked> {
        (self.run)(context)
    }
}

/// A table of cases: `id, what it proves, [needs], function;`.
macro_rules! table {
    ($($id:literal, $about:literal, [$($need:ident),*], $run:path;)*) => {
        pub(super) const CASES: &[crate::case::Case] = &[
            $(crate::case::Case::new(
                $id,
                $about,
                &[$(crate::case::Need::$need),*],
                |context| Box::pin($run(context)),
            ),)*
        ];
    };
}
use table;

/// Every case, in the order in which they run.
pub fn cases() -> &'static [Case] {
    static ALL: LazyLock<Vec<Case>> = LazyLock::new(|| {
        [
            limits::CASES,
            put::CASES,
            create::CASES,
            get::CASES,
            head::CASES,
            list::CASES,
            delete::CASES,
            copy::CASES,
            error::CASES,
            attributes::CASES,
            load::CASES,
            layout::CASES,
        ]
        .concat()
    });
    &ALL
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_unique_and_well_formed() {
        let mut seen = HashSet::new();
        for case in cases() {
            assert!(seen.insert(case.id), "{} twice", case.id);
            let (group, name) = case.id.split_once('.').unwrap_or_default();
            for part in [group, name] {
                assert!(
                    !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c == '-'),
                    "{}",
                    case.id
                );
            }
            assert!(!case.about.is_empty() && case.about.len() < 110, "{}", case.id);
        }
    }

    /// The contract names a case behind each behaviour line; each must exist.
    #[test]
    fn every_case_the_contract_names_exists() {
        let contract = include_str!("../../../engine/src/storage/mod.rs");
        let mut named = 0;
        for line in contract.lines().filter(|line| line.trim_start().starts_with("///")) {
            for piece in line.split('[').skip(1) {
                let id = piece.split(']').next().unwrap_or("");
                if id.contains('.') && !id.contains("::") && !id.starts_with('`') {
                    named += 1;
                    assert!(
                        cases().iter().any(|case| case.id == id),
                        "{id} is named and does not exist"
                    );
                }
            }
        }
        assert!(named >= 25, "only {named} names found: the contract's form has changed");
    }
}
