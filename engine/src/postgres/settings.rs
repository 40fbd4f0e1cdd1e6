//! The rows of the settings table that concern PostgreSQL: how to connect, and
//! what the cluster looks like.

use crate::settings::{Setting, Type};

const GROUP: &str = "PostgreSQL";

const SSL_MODES: &[&str] = &["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];
const SSL_NEGOTIATION: &[&str] = &["postgres", "direct"];
const CHANNEL_BINDING: &[&str] = &["disable", "prefer", "require"];
const SESSION_ATTRS: &[&str] =
    &["any", "read-write", "read-only", "primary", "standby", "prefer-standby"];

const fn row(name: &'static str, help: &'static str) -> Setting {
    Setting::new(name, GROUP, help)
}

/// The settings that concern PostgreSQL.
pub const SETTINGS: &[Setting] = &[
    row("PGDATA", "The data directory, for commands that look for its WAL directory. It does not replace the argument of `backup-push`.")
        .kind(Type::Path),
    row("PGHOST", "Host names, addresses or socket directories to connect to, separated by commas; the first that answers is used. Unset: /var/run/postgresql or /tmp, whichever holds the server's socket."),
    row("PGHOSTADDR", "IP addresses to connect to instead of looking up PGHOST, separated by commas. PGHOST is then only the name in the certificate and in the password file."),
    row("PGPORT", "Port, or one per host, separated by commas. Unset: 5432."),
    row("PGUSER", "The role to connect as. Unset: the name of the operating system user."),
    row("PGPASSWORD", "The password of the role. The password file is safer: the environment can be read by others on some systems.")
        .secret(),
    row("PGDATABASE", "The database to connect to. Unset: the name of the role."),
    row("PGPASSFILE", "The password file; its mode must be 0600 or stricter. Unset: ~/.pgpass.")
        .kind(Type::Path),
    row("PGSERVICE", "The section of the service file to take connection parameters from; what it sets is stronger than the PG variables."),
    row("PGSERVICEFILE", "The service file. Unset: ~/.pg_service.conf, then pg_service.conf in PGSYSCONFDIR.")
        .kind(Type::Path),
    row("PGSYSCONFDIR", "The directory of the system-wide pg_service.conf.").kind(Type::Path),
    row("PGSSLMODE", "Whether the connection is encrypted and the server's certificate checked. Only verify-full is safe against an impostor. Unset: prefer; sockets are never encrypted.")
        .kind(Type::Choice(SSL_MODES)),
    row("PGSSLCERT", "The client certificate, PEM. Unset: ~/.postgresql/postgresql.crt if it exists.")
        .kind(Type::Path),
    row("PGSSLKEY", "The key of the client certificate, PEM, not encrypted; its mode must be 0600 or stricter (0640 if root owns it). Unset: ~/.postgresql/postgresql.key.")
        .kind(Type::Path),
    row("PGSSLROOTCERT", "The authorities that may sign the server's certificate, PEM, or `system` for those of the operating system. Unset: ~/.postgresql/root.crt if it exists; verify-ca and verify-full else use those of the operating system.")
        .kind(Type::Path),
    row("PGSSLSNI", "Send the host name in the TLS handshake.").kind(Type::Bool),
    row("PGSSLNEGOTIATION", "How TLS begins: `postgres` asks the server first, `direct` (PostgreSQL 17 or newer, PGSSLMODE=require or stronger) does not. Unset: postgres.")
        .kind(Type::Choice(SSL_NEGOTIATION)),
    row("PGCHANNELBINDING", "Whether the password exchange is tied to the TLS connection. Unset: prefer.")
        .kind(Type::Choice(CHANNEL_BINDING)),
    row("PGAPPNAME", "The application name that the server shows.").default("walport"),
    row("PGCONNECT_TIMEOUT", "Seconds to wait for each host; 0 or unset waits without limit.")
        .kind(Type::Int(0, 86_400)),
    row("PGOPTIONS", "Options for the server, such as `-c work_mem=64MB`."),
    row("PGTARGETSESSIONATTRS", "Which of several hosts will do. Unset: any.")
        .kind(Type::Choice(SESSION_ATTRS)),
    row("WALG_SLOTNAME", "The replication slot of `wal-receive`; it is created if it does not exist.")
        .default("walg").pending(),
    row("WALG_PG_WAL_SIZE", "The size of a WAL segment in MB: a power of two from 1 to 1024. Only needed where it cannot be read from a segment or from the server.")
        .kind(Type::Int(1, 1024)).default("16"),
    row("WALG_PG_WAL_PAGE_SIZE", "The size of a WAL page in bytes, if PostgreSQL was built with another one.")
        .kind(Type::Int(1024, 65_536)).default("8192").pending(),
    row("WALG_PG_BLOCK_SIZE", "The size of a data page in bytes, if PostgreSQL was built with another one.")
        .kind(Type::Int(1024, 32_768)).default("8192").pending(),
    row("PG_READY_RENAME", "Rename the `.ready` file of a segment to `.done` after the look-ahead upload stored it.")
        .kind(Type::Bool).default("false"),
    row("WALG_ALIVE_CHECK_INTERVAL", "How often the session of a running base backup is checked; a lost session ends the backup. 0 turns the check off.")
        .kind(Type::Duration).default("1m"),
    row("WALG_STOP_BACKUP_TIMEOUT", "How long the call that ends a base backup may take; it waits until the last WAL segment is archived. Unset or 0: no limit.")
        .kind(Type::Duration),
    row("WALG_DAEMON_WAL_UPLOAD_TIMEOUT", "How long the daemon may take for one segment.")
        .kind(Type::Duration).default("60s").pending(),
    row("PGBACKREST_STANZA", "The stanza that the `pgbackrest` commands read.").default("main").pending(),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_of_their_type_and_the_password_is_secret() {
        for row in SETTINGS {
            if let Some(default) = row.default {
                assert!(row.check(default).is_ok(), "{}", row.name);
            }
            assert_eq!(row.secret, row.name == "PGPASSWORD", "{}", row.name);
        }
    }
}
