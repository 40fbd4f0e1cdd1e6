//! The rows of the settings table for SFTP.

use walport_engine::settings::{Setting, Type};

const SSH: &str = "SSH";

/// The setting that names the target.
pub(super) const PREFIX: &str = "WALG_SSH_PREFIX";

/// The settings of the SFTP store.
pub const SETTINGS: &[Setting] = &[
    Setting::new(PREFIX, SSH, "Where backups are on a server: `ssh://[USER@]HOST[:PORT]/ABSOLUTE/PATH`.")
        .aliases(&["WALE_SSH_PREFIX"]),
    Setting::new("SSH_PORT", SSH, "The port, unless the target names one.")
        .kind(Type::Int(1, 65_535)).default("22").namespaced(),
    Setting::new("SSH_USERNAME", SSH, "The account, unless the target names one. Unset: the name of the user who runs Walport.").namespaced(),
    Setting::new("SSH_PASSWORD", SSH, "The password of the account.").namespaced().secret(),
    Setting::new("SSH_PRIVATE_KEY_PATH", SSH, "The file with the private key. Unset, and without a password: the keys of the agent (SSH_AUTH_SOCK), then ~/.ssh/id_ed25519, id_ecdsa and id_rsa.")
        .kind(Type::Path).namespaced(),
    Setting::new("WALPORT_SSH_KEY_PASSPHRASE", SSH, "The passphrase of the private key.").secret(),
    Setting::new("WALPORT_SSH_KNOWN_HOSTS", SSH, "The file with the keys of known servers. Unset: ~/.ssh/known_hosts.")
        .kind(Type::Path),
    Setting::new("WALPORT_SSH_HOST_KEY_CHECK", SSH, "Refuse a server whose key is not in the file of known servers. Off, anybody between can read and change backups, as with WAL-G.")
        .kind(Type::Bool).default("true"),
    Setting::new("WALPORT_SSH_REQUESTS", SSH, "Requests of 32 KiB that one transfer has under way at a time. More of them make a distant server faster.")
        .kind(Type::Int(1, 1024)).default("64"),
];
