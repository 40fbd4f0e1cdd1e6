//! A small tree as WAL-G wrote it, inside the program: the suite runs where no
//! repository is. One full backup, two deltas on it, and their WAL, without the
//! parts that hold the tables; two WAL files as `none` stores them.

/// Pairs of a name under the prefix and the bytes WAL-G stored there.
macro_rules! tree {
    ($($name:literal,)*) => {
        &[$(($name, include_bytes!(concat!("tree/", $name))),)*]
    };
}

/// The tree, in byte order of the names.
pub(crate) const TREE: &[(&str, &[u8])] = tree![
    "basebackups_005/base_000000010000000000000002/metadata.json",
    "basebackups_005/base_000000010000000000000002/tar_partitions/backup_label.tar.zst",
    "basebackups_005/base_000000010000000000000002/tar_partitions/pg_control.tar.zst",
    "basebackups_005/base_000000010000000000000002_backup_stop_sentinel.json",
    "basebackups_005/base_000000010000000000000004_D_000000010000000000000002/metadata.json",
    "basebackups_005/base_000000010000000000000004_D_000000010000000000000002/tar_partitions/backup_label.tar.zst",
    "basebackups_005/base_000000010000000000000004_D_000000010000000000000002/tar_partitions/pg_control.tar.zst",
    "basebackups_005/base_000000010000000000000004_D_000000010000000000000002_backup_stop_sentinel.json",
    "basebackups_005/base_000000010000000000000006_D_000000010000000000000004/metadata.json",
    "basebackups_005/base_000000010000000000000006_D_000000010000000000000004/tar_partitions/backup_label.tar.zst",
    "basebackups_005/base_000000010000000000000006_D_000000010000000000000004/tar_partitions/pg_control.tar.zst",
    "basebackups_005/base_000000010000000000000006_D_000000010000000000000004_backup_stop_sentinel.json",
    "wal_005/000000010000000000000002.00000028.backup",
    "wal_005/000000010000000000000002.00000028.backup.zst",
    "wal_005/000000010000000000000002.zst",
    "wal_005/000000010000000000000004.00000028.backup.zst",
    "wal_005/000000010000000000000004.zst",
    "wal_005/000000010000000000000006.00000028.backup.zst",
    "wal_005/000000010000000000000006.zst",
    "wal_005/000000010000000000000007.00000028.backup.zst",
    "wal_005/000000010000000000000007.zst",
    "wal_005/000000010000000000000008.00000028.backup.zst",
    "wal_005/000000010000000000000008.zst",
    "wal_005/000000010000000000000009.00000028.backup.zst",
    "wal_005/000000010000000000000009.zst",
    "wal_005/00000001000000000000000B.zst",
    "wal_005/00000001000000000000000C.00000028.backup.zst",
    "wal_005/00000001000000000000000C.zst",
    "wal_005/000000010000000000000010.lzma",
    "wal_005/000000010000000000000011.br",
    "wal_005/00000002.history",
    "wal_005/00000002.history.zst",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_in_order_and_small() {
        assert!(TREE.is_sorted_by(|a, b| a.0 < b.0));
        let bytes: usize = TREE.iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(TREE.len() >= 30 && bytes < 300_000, "{} objects, {bytes} bytes", TREE.len());
    }
}
