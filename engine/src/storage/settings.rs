//! The rows of the settings table for what is around a store: retry, stall,
//! several targets. Those of failover and rate limits stand with the engine's.

use crate::settings::{Setting, Type};

const STORAGE: &str = "Storage";
const TARGETS: &str = "Several targets";

/// The settings of the policies.
pub const SETTINGS: &[Setting] = &[
    Setting::new("WALPORT_RETRY_ATTEMPTS", STORAGE, "Attempts at most for one request, the first one included; 1 never tries again.")
        .kind(Type::Int(1, 1000)).default("10"),
    Setting::new("WALPORT_RETRY_BASE", STORAGE, "The longest pause before the second attempt. It doubles with each further one, and the pause is a random part of it.")
        .kind(Type::Duration).default("100ms"),
    Setting::new("WALPORT_RETRY_MAX_DELAY", STORAGE, "The longest pause between two attempts, unless the storage asks for a longer one.")
        .kind(Type::Duration).default("20s"),
    Setting::new("WALPORT_RETRY_BUDGET", STORAGE, "No attempt begins later than this after the first failure.")
        .kind(Type::Duration).default("5m"),
    Setting::new("WALPORT_STALL_TIMEOUT", STORAGE, "How long a transfer may stand still before it is broken off and resumed. There is no limit on the whole: what is slow but moves is never cut.")
        .kind(Type::Duration).default("60s"),
    Setting::new("WALPORT_TARGETS", TARGETS, "Write to several storages at once, read from the first that has the object: NAME=URL, separated by commas. Replaces the prefix settings."),
    Setting::new("WALPORT_TARGETS_OPTIONAL", TARGETS, "Names of targets, separated by commas, that may fail with a warning; all others must succeed."),
    Setting::new("WALPORT_TARGETS_QUORUM", TARGETS, "How many targets must have stored an object, whichever they are, besides those that are not optional.")
        .kind(Type::Int(1, 64)).default("1"),
];
