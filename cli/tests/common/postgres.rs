//! Where the installations of PostgreSQL are.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// One installation.
#[derive(Debug, Clone)]
pub struct Installation {
    /// 14 for 14.23.
    pub major: u32,
    /// The folder of its programs.
    pub bin: PathBuf,
}

/// The majors that the tests cover; each must be installed (`tests/setup`).
pub const MAJORS: [u32; 5] = [14, 15, 16, 17, 18];

/// The installations, by major: `WALPORT_TEST_PG_<major>` names a folder of
/// programs; then Debian's; then those of `tests/setup`.
pub fn installations() -> &'static BTreeMap<u32, Installation> {
    static FOUND: OnceLock<BTreeMap<u32, Installation>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("parent");
        let mut caches = vec![repository.join(".test"), "/var/cache/walport-test".into()];
        if let Some(cache) = std::env::var_os("WALPORT_TEST_CACHE") {
            caches.insert(0, cache.into());
        }
        let mut found = BTreeMap::new();
        for major in MAJORS {
            let mut places = Vec::new();
            if let Some(named) = std::env::var_os(format!("WALPORT_TEST_PG_{major}")) {
                places.push(PathBuf::from(named));
            }
            places.push(format!("/usr/lib/postgresql/{major}/bin").into());
            places.extend(caches.iter().map(|cache| cache.join(format!("pg{major}/bin"))));
            let place = places.into_iter().find(|bin| bin.join("postgres").is_file());
            if let Some(bin) = place {
                let bin = fs::canonicalize(bin).expect("canonicalize");
                found.insert(major, Installation { major, bin });
            }
        }
        found
    })
}

/// The installation of this major. Without it the test fails: a test that did
/// not run has not passed.
pub fn installation(major: u32) -> &'static Installation {
    installations()
        .get(&major)
        .unwrap_or_else(|| panic!("PostgreSQL {major} is not installed; run tests/setup"))
}

/// A client program: Debian's newest, since the packages of npm have servers only.
pub fn client(name: &str) -> PathBuf {
    installations()
        .values()
        .rev()
        .map(|installation| installation.bin.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("{name} is not installed; run tests/setup"))
}
