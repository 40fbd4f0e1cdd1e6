//! The rows of the file store in the settings table.

use walport_engine::settings::{Setting, Type};

/// The setting that names the root directory.
pub const PREFIX: &str = "WALG_FILE_PREFIX";

/// The settings of the file store.
pub const SETTINGS: &[Setting] = &[Setting::new(
    PREFIX,
    "File",
    "Directory that holds the archive: a plain path, or file:///path. It must exist.",
)
.kind(Type::Path)
.namespaced()];
