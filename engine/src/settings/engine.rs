//! The rows that belong to the engine itself: archive, backup, restore,
//! failover, logs, memory. Stores, codecs and PostgreSQL bring their own.

use super::table::{Setting, Type};

const CODECS: &[&str] = &["lz4", "lzma", "zstd", "brotli", "none"];
const ANY: i64 = i64::MAX;

const WAL: &str = "WAL";
const BACKUP: &str = "Backup";
const RESTORE: &str = "Restore";
/// The heading of everything that configures a cipher.
pub const ENCRYPTION: &str = "Encryption";
const FAILOVER: &str = "Failover storages";
const LOG: &str = "Logs and monitoring";
const PROGRAM: &str = "Program";

/// The engine's own settings.
pub const SETTINGS: &[Setting] = &[
    Setting::new("WALG_COMPRESSION_METHOD", "Compression", "Codec of everything that is written.")
        .kind(Type::Choice(CODECS)).default("lz4"),
    Setting::new("WALPORT_MEMORY_LIMIT", "Memory", "The most memory this process may use, resident and virtual, in bytes. Concurrency, part size and codec window follow from it.")
        .kind(Type::Size).default("96MiB"),
    Setting::new("WALPORT_SPILL_DIR", "Memory", "Directory for what must be sorted or kept until the end and does not fit into the memory limit. Default: the system's temporary directory.")
        .kind(Type::Path),

    Setting::new("WALG_PREVENT_WAL_OVERWRITE", WAL, "Refuse to replace a stored segment by a different one; an identical one is success. History files are always protected.")
        .kind(Type::Bool).default("false"),
    Setting::new("WALPORT_CHECK_WAL", WAL, "Before a segment is archived, check system identifier, timeline and address in its first page against its name.")
        .kind(Type::Bool).default("false"),
    Setting::new("TOTAL_BG_UPLOADED_LIMIT", WAL, "The most segments one wal-push archives, the one it was called for included.")
        .kind(Type::Int(1, ANY)).default("32"),
    Setting::new("WALG_UPLOAD_WAL_METADATA", WAL, "Store a document beside the segments: one for each, or one for sixteen.")
        .kind(Type::Choice(&["NOMETADATA", "INDIVIDUAL", "BULK"])).default("NOMETADATA"),
    Setting::new("WALG_USE_WAL_DELTA", WAL, "Record which pages each segment changes, for delta backups.")
        .kind(Type::Bool).default("false").pending(),
    Setting::new("WALG_PREFETCH_DIR", WAL, "Where wal-fetch keeps segments it fetched ahead. Default: beside the destination.")
        .kind(Type::Path),
    Setting::new("WALG_INTEGRITY_MAX_DELAYED_WALS", WAL, "How many of the newest segments wal-verify may miss and call delayed.")
        .kind(Type::Int(0, ANY)).default("0").pending(),

    Setting::new("WALG_UPLOAD_CONCURRENCY", BACKUP, "Uploads at a time, as far as the memory limit allows.")
        .kind(Type::Int(1, ANY)).default("16"),
    Setting::new("WALG_UPLOAD_DISK_CONCURRENCY", BACKUP, "Parts that are read and compressed at a time.")
        .kind(Type::Int(1, ANY)).default("1"),
    Setting::new("WALG_UPLOAD_QUEUE", BACKUP, "Finished parts that wait for their upload. Accepted; parts are streamed here, so none waits.")
        .kind(Type::Int(0, ANY)).default("2"),
    Setting::new("WALG_TAR_SIZE_THRESHOLD", BACKUP, "A part is closed when it reaches this size, in bytes before compression.")
        .kind(Type::Size).default("1073741823"),
    Setting::new("WALG_DISK_RATE_LIMIT", BACKUP, "The most bytes read from disk per second by a backup.")
        .kind(Type::Size),
    Setting::new("WALG_NETWORK_RATE_LIMIT", BACKUP, "The most bytes sent to or read from storage per second by backup commands.")
        .kind(Type::Size),
    Setting::new("WALG_DELTA_MAX_STEPS", BACKUP, "The longest chain of delta backups; 0 makes every backup full.")
        .kind(Type::Int(0, ANY)).default("0").pending(),
    Setting::new("WALG_DELTA_ORIGIN", BACKUP, "What a delta is based on: the newest backup, or its full ancestor.")
        .kind(Type::Choice(&["LATEST", "LATEST_FULL"])).default("LATEST").pending(),
    Setting::new("WALG_DELTA_FROM_NAME", BACKUP, "The backup a delta is based on, by name.").pending(),
    Setting::new("WALG_DELTA_FROM_USER_DATA", BACKUP, "The backup a delta is based on, by its user data.")
        .kind(Type::Json).pending(),
    Setting::new("WALG_FORCE_WAL_DELTA", BACKUP, "Fail instead of scanning all pages when the recorded changes have gaps.")
        .kind(Type::Bool).default("false").pending(),
    Setting::new("WALG_USE_RATING_COMPOSER", BACKUP, "Group files by how often they are updated.")
        .kind(Type::Bool).default("false"),
    Setting::new("WALG_USE_COPY_COMPOSER", BACKUP, "Take over unchanged parts of the previous full backup.")
        .kind(Type::Bool).default("false").pending(),
    Setting::new("WALG_USE_DATABASE_COMPOSER", BACKUP, "Begin a new part for each database.")
        .kind(Type::Bool).default("false"),
    Setting::new("WALG_WITHOUT_FILES_METADATA", BACKUP, "Do not store the list of files; such a backup cannot be the base of a delta.")
        .kind(Type::Bool).default("false"),
    Setting::new("WALG_VERIFY_PAGE_CHECKSUMS", BACKUP, "Check the checksum of every page while it is backed up.")
        .kind(Type::Bool).default("false"),
    Setting::new("WALG_STORE_ALL_CORRUPT_BLOCKS", BACKUP, "Keep the number of every corrupt block, not only of the first ten of a file.")
        .kind(Type::Bool).default("false"),
    Setting::new("WALG_DIRECT_IO", BACKUP, "Read files past the page cache (O_DIRECT).")
        .kind(Type::Bool).default("false").pending(),
    Setting::new("WALG_DIRECT_IO_BLOCK_COUNT", BACKUP, "Blocks of 4 KiB per direct read.")
        .kind(Type::Int(1, ANY)).default("32").pending(),
    Setting::new("WALG_SENTINEL_USER_DATA", BACKUP, "A JSON document to store with the backup.")
        .kind(Type::Json),
    Setting::new("WALG_DISABLE_PARTIAL_RESTORE", BACKUP, "Do not collect the names of databases and tables.")
        .kind(Type::Bool).default("false"),

    Setting::new("WALG_DOWNLOAD_CONCURRENCY", RESTORE, "Downloads at a time, as far as the memory limit allows; also how many segments wal-fetch fetches ahead, where 1 is none.")
        .kind(Type::Int(1, ANY)).default("10"),
    Setting::new("WALG_DOWNLOAD_FILE_RETRIES", RESTORE, "How many times a part that failed is fetched again.")
        .kind(Type::Int(0, ANY)).default("15"),
    Setting::new("WALG_TAR_DISABLE_FSYNC", RESTORE, "Do not sync restored files to disk.")
        .kind(Type::Bool).default("false"),
    Setting::new("WALG_USE_REVERSE_UNPACK", RESTORE, "Restore the newest delta first.")
        .kind(Type::Bool).default("false").pending(),
    Setting::new("WALG_SKIP_REDUNDANT_TARS", RESTORE, "Skip parts that later deltas replace.")
        .kind(Type::Bool).default("false").pending(),
    Setting::new("WALG_FETCH_TARGET_USER_DATA", RESTORE, "Restore the backup with this user data.")
        .kind(Type::Json),

    Setting::new("WALG_PGP_KEY", ENCRYPTION, "An armoured OpenPGP key; `\\n` stands for a line end. A public key writes, a private one reads.").secret(),
    Setting::new("WALG_PGP_KEY_PATH", ENCRYPTION, "A file with an armoured OpenPGP key.").kind(Type::Path),
    Setting::new("WALG_PGP_KEY_PASSPHRASE", ENCRYPTION, "The passphrase of the private key.").secret(),
    Setting::new("GPG_KEY_ID", ENCRYPTION, "The id of a key in GnuPG's key ring.").namespaced().secret(),
    Setting::new("WALG_ENVELOPE_PGP_KEY", ENCRYPTION, "An OpenPGP key, wrapped by a key management service, in base64.").secret(),
    Setting::new("WALG_ENVELOPE_PGP_KEY_PATH", ENCRYPTION, "A file with such a key.").kind(Type::Path),
    Setting::new("WALG_ENVELOPE_PGP_YC_CSE_KMS_KEY_ID", ENCRYPTION, "The key of Yandex KMS that unwraps it."),
    Setting::new("WALG_ENVELOPE_PGP_YC_SERVICE_ACCOUNT_KEY_FILE", ENCRYPTION, "The service account for that.").kind(Type::Path),
    Setting::new("WALG_ENVELOPE_PGP_YC_ENDPOINT", ENCRYPTION, "The endpoint for that."),
    Setting::new("WALG_ENVELOPE_CACHE_EXPIRATION", ENCRYPTION, "How long an unwrapped key is kept; 0 is for ever.").kind(Type::Duration),
    Setting::new("WALG_CSE_KMS_ID", ENCRYPTION, "The key of AWS KMS that makes a data key for each object."),
    Setting::new("WALG_CSE_KMS_REGION", ENCRYPTION, "The region of that key."),
    Setting::new("YC_CSE_KMS_KEY_ID", ENCRYPTION, "The key of Yandex KMS that makes a data key for each object."),
    Setting::new("YC_SERVICE_ACCOUNT_KEY_FILE", ENCRYPTION, "The service account for that.").kind(Type::Path),
    Setting::new("WALG_LIBSODIUM_KEY", ENCRYPTION, "The key of libsodium's secretstream, 32 bytes after WALG_LIBSODIUM_KEY_TRANSFORM.").secret(),
    Setting::new("WALG_LIBSODIUM_KEY_PATH", ENCRYPTION, "A file with that key; white space around it does not count.").kind(Type::Path),
    Setting::new("WALG_LIBSODIUM_KEY_TRANSFORM", ENCRYPTION, "How the key is written.").kind(Type::Choice(&["none", "base64", "hex"])),

    Setting::new("WALG_STORAGE_PREFIX", "Storage", "A folder more, below the prefix of every storage."),
    Setting::new("WALG_TARGET_STORAGE", FAILOVER, "Use only the storage of this name; `default` is the primary one."),
    Setting::new("WALG_FAILOVER_STORAGES", FAILOVER, "Storages to use when the primary one is down: a name for each, and under it the settings that differ from the primary. Names are taken in lower case.")
        .kind(Type::Blocks).secret(),
    Setting::new("WALG_FAILOVER_STORAGES_CHECK", FAILOVER, "Test whether a storage is alive before it is used.")
        .kind(Type::Bool).default("true"),
    Setting::new("WALG_FAILOVER_STORAGES_CHECK_TIMEOUT", FAILOVER, "How long such a test may take.")
        .kind(Type::Duration).default("30s"),
    Setting::new("WALG_FAILOVER_STORAGES_CHECK_SIZE", FAILOVER, "Bytes written by a test of writing.")
        .kind(Type::Size).default("1mb"),
    Setting::new("WALG_FAILOVER_STORAGES_CACHE_LIFETIME", FAILOVER, "How long the answer of a test is believed.")
        .kind(Type::Duration).default("15m"),
    Setting::new("WALG_FAILOVER_STORAGES_CACHE_EMA_ALIVE_LIMIT", FAILOVER, "Above this average a dead storage counts as alive again.")
        .kind(Type::Float).default("0.99"),
    Setting::new("WALG_FAILOVER_STORAGES_CACHE_EMA_DEAD_LIMIT", FAILOVER, "Below this average a storage counts as dead.")
        .kind(Type::Float).default("0.88"),
    Setting::new("WALG_FAILOVER_STORAGES_CACHE_EMA_ALPHA_ALIVE_MAX", FAILOVER, "Largest weight of one answer of a live storage.")
        .kind(Type::Float).default("0.05"),
    Setting::new("WALG_FAILOVER_STORAGES_CACHE_EMA_ALPHA_ALIVE_MIN", FAILOVER, "Smallest weight of one answer of a live storage.")
        .kind(Type::Float).default("0.01"),
    Setting::new("WALG_FAILOVER_STORAGES_CACHE_EMA_ALPHA_DEAD_MAX", FAILOVER, "Largest weight of one answer of a dead storage.")
        .kind(Type::Float).default("0.5"),
    Setting::new("WALG_FAILOVER_STORAGES_CACHE_EMA_ALPHA_DEAD_MIN", FAILOVER, "Smallest weight of one answer of a dead storage.")
        .kind(Type::Float).default("0.1"),

    Setting::new("WALG_LOG_LEVEL", LOG, "What is logged: NORMAL (information, warnings, errors), ERROR (errors only) or DEVEL (everything).")
        .kind(Type::Choice(&["NORMAL", "DEVEL", "ERROR"])).default("NORMAL").aliases(&["WALPORT_LOG_LEVEL"]),
    Setting::new("WALG_LOG_DESTINATION", LOG, "Where logs go: stderr, or a file, which is appended to.")
        .kind(Type::Path).default("stderr"),
    Setting::new("WALPORT_LOG_FORMAT", LOG, "How a log line looks: text as in WAL-G, or one JSON document a line.")
        .kind(Type::Choice(&["text", "json"])).default("text"),
    Setting::new("WALPORT_PROGRESS", LOG, "Show a progress line while a backup or a restore runs: on a terminal only, or never.")
        .kind(Type::Choice(&["auto", "never"])).default("auto"),
    Setting::new("WALG_STATSD_ADDRESS", LOG, "host:port of a statsd server.").pending(),
    Setting::new("WALG_STATSD_EXTRA_TAGS", LOG, "Tags of every statsd metric.")
        .kind(Type::Map).pending(),
    Setting::new("HTTP_LISTEN", LOG, "Address of a debugging server.").pending(),
    Setting::new("HTTP_EXPOSE_PPROF", LOG, "Serve profiles there. Accepted; it has no meaning outside Go.")
        .kind(Type::Bool).default("false"),
    Setting::new("HTTP_EXPOSE_EXPVAR", LOG, "Serve variables there. Accepted; it has no meaning outside Go.")
        .kind(Type::Bool).default("false"),
    Setting::new("PROFILE_SAMPLING_RATIO", LOG, "Share of runs that are profiled. Accepted; it has no meaning outside Go.")
        .kind(Type::Float),
    Setting::new("PROFILE_MODE", LOG, "Kind of profile. Accepted; it has no meaning outside Go."),
    Setting::new("PROFILE_PATH", LOG, "Where profiles go. Accepted; it has no meaning outside Go.")
        .kind(Type::Path),

    Setting::new("WALG_CONFIG_PATH", PROGRAM, "The configuration file, when --config is not given. From the environment only.")
        .kind(Type::Path),
    Setting::new("WALPORT_STRICT", PROGRAM, "An unknown WALG_ or WALPORT_ environment variable is an error instead of a warning.")
        .kind(Type::Bool).default("false"),
    Setting::new("WALPORT_STRICT_EXIT_CODES", PROGRAM, "A missing WAL file ends with 1 and every other failure with 128 or more, so that PostgreSQL never takes a failure for the end of the archive.")
        .kind(Type::Bool).default("false"),
    Setting::new("GOMAXPROCS", PROGRAM, "Threads of the Go runtime. Accepted and ignored."),
    Setting::new("GODEBUG", PROGRAM, "Switches of the Go runtime. Accepted and ignored."),
    Setting::new("WALG_SERIALIZER_TYPE", PROGRAM, "Retired in WAL-G. Accepted and ignored."),
    Setting::new("WALG_STREAM_CREATE_COMMAND", PROGRAM, "Not used for PostgreSQL. Accepted and ignored."),
    Setting::new("WALG_STREAM_RESTORE_COMMAND", PROGRAM, "Not used for PostgreSQL. Accepted and ignored."),
];
