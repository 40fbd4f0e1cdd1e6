//! Tablespaces: restored where they were, or where the operator says.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::Site;
use common::site::PGBENCH_DIGEST;

struct Spaces {
    site: Site,
    oids: [String; 2],
    folders: [PathBuf; 2],
    wanted: String,
}

/// A cluster with two tablespaces and tables in each, backed up and destroyed.
fn destroyed(major: u32) -> Spaces {
    let mut site = Site::new(major);
    let folders = ["space one", "two"].map(|name| site.scratch.folder(name));
    let oids = ["one", "two"].map(|name| {
        let folder = &folders[usize::from(name == "two")];
        site.cluster.sql(&format!("create tablespace {name} location '{}'", folder.display()));
        site.cluster.sql(&format!("select oid from pg_tablespace where spcname = '{name}'"))
    });
    site.cluster.pgbench_init(1);
    site.cluster.sql("alter table pgbench_accounts set tablespace one");
    site.cluster.sql("create index in_two on pgbench_accounts (abalance) tablespace two");
    site.backup(&[]);
    site.cluster.sql("update pgbench_accounts set abalance = aid where aid % 10 = 0");
    let wanted = site.cluster.sql(PGBENCH_DIGEST);
    site.cluster.switch_wal();
    site.destroy();
    for folder in &folders {
        fs::remove_dir_all(folder).unwrap();
    }
    Spaces { site, oids, folders, wanted }
}

impl Spaces {
    #[track_caller]
    fn assert_restored(&self, data: &Path, folders: [&Path; 2]) {
        for (oid, folder) in self.oids.iter().zip(folders) {
            let link = data.join("pg_tblspc").join(oid);
            assert_eq!(fs::read_link(&link).unwrap(), folder);
            assert_eq!(fs::read_dir(folder).unwrap().count(), 1, "{}", folder.display());
        }
        let mut restored = self.site.recovering(data, "");
        restored.start();
        assert_eq!(restored.sql(PGBENCH_DIGEST), self.wanted);
        for (oid, folder) in self.oids.iter().zip(folders) {
            let place = restored.sql(&format!("select pg_tablespace_location({oid})"));
            assert_eq!(Path::new(&place), folder);
        }
        restored.assert_sound();
        restored.stop();
        restored.assert_checksums();
    }
}

#[test]
fn go_back_to_where_they_were() {
    let spaces = destroyed(17);
    let data = spaces.site.restore("main", &["LATEST"]);
    spaces.assert_restored(&data, [&spaces.folders[0], &spaces.folders[1]]);
}

#[test]
fn links_are_made_under_the_destination() {
    let spaces = destroyed(15);
    let data = spaces.site.restore("elsewhere", &["LATEST"]);
    spaces.assert_restored(&data, [&spaces.folders[0], &spaces.folders[1]]);
}

#[test]
fn go_where_the_map_says() {
    let spaces = destroyed(18);
    let moved = spaces.site.scratch.join("moved");
    let map = format!("{}={}", spaces.oids[0], moved.display());
    let data = spaces.site.restore("elsewhere", &["LATEST", "--tablespace-map", &map]);
    assert!(!spaces.folders[0].exists(), "the old place is left alone");
    spaces.assert_restored(&data, [&moved, &spaces.folders[1]]);
}

#[test]
fn go_where_a_restore_spec_says() {
    let spaces = destroyed(16);
    let target = spaces.site.scratch.join("elsewhere");
    let moved = ["new/a", "new/b"].map(|name| spaces.site.scratch.join(name));
    let [one, two] = &spaces.oids;
    let spec = serde_json::json!({
        "base_prefix": target,
        "tablespaces": [one, two],
        one: {"loc": moved[0], "link": format!("pg_tblspc/{one}")},
        two: {"loc": moved[1], "link": format!("pg_tblspc/{two}")},
    });
    let spec = spaces.site.scratch.file("spec.json", spec.to_string());
    let data =
        spaces.site.restore("elsewhere", &["LATEST", "--restore-spec", spec.to_str().unwrap()]);
    spaces.assert_restored(&data, [&moved[0], &moved[1]]);
}

#[test]
fn a_place_that_is_taken_is_refused() {
    let spaces = destroyed(17);
    let mine = spaces.site.scratch.file("space one/PG_17_202406281/mine", "mine");
    let target = spaces.site.scratch.join("restored");
    spaces.site.tool.run(&["backup-fetch", target.to_str().unwrap(), "LATEST"]).fails();
    assert_eq!(fs::read_to_string(mine).unwrap(), "mine");

    // A map that names a tablespace the backup does not have is a mistake.
    let map = format!("424242={}", spaces.site.scratch.join("nowhere").display());
    let words = ["backup-fetch", target.to_str().unwrap(), "LATEST", "--tablespace-map", &map];
    spaces.site.tool.run(&words).fails().says("424242");
}
