//! The connection and the backup session, against real servers of each version.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use futures_util::TryStreamExt;
use support::{Scratch, Server, checked, run, wait_for};
use walport_engine::layout::{Lsn, Segment};
use walport_engine::postgres::{
    ArchiveMode, Client, ControlFile, Database, Relation, connect, wal_page,
};
use walport_engine::{Class, Error, Kind};

async fn refused(settings: &walport_engine::settings::Settings) -> Error {
    connect(settings).await.expect_err("the connection should be refused")
}

fn hint(error: &Error) -> &str {
    error.hint().unwrap_or_else(|| panic!("no hint: {error}"))
}

async fn ask(client: &Client, database: &str) -> Vec<Relation> {
    let there = client.connect_to(database).await.unwrap();
    there.relations().await.unwrap().try_collect().await.unwrap()
}

/// What each version must do: the server's facts, a backup, the relations.
fn a_version(major: u32) {
    let scratch = Scratch::new();
    let mut server = Server::new(major, &scratch, "pg");
    server.start();
    server.sql("create table plain (n int); insert into plain select generate_series(1, 1000)");
    run(async {
        let client =
            connect(&server.settings(&[("WALG_ALIVE_CHECK_INTERVAL", "50ms")])).await.unwrap();
        facts(&server, &client).await;
        backup(&scratch, &server, &client).await;
        relations(&server, &client).await;
        client.close().await;
    });
    wait_for("the end of the session", || {
        server.sql("select count(*) from pg_stat_activity where application_name = 'walport'")
            == "0"
    });
}

async fn facts(server: &Server, client: &Client) {
    let info = client.server().await.unwrap();
    assert_eq!(info.version_num / 10_000, server.major);
    assert_eq!(info.version_num, client.version_num());
    assert_eq!(info.data_directory, server.data);
    assert_eq!(
        (info.wal_segment_size, info.block_size, info.wal_block_size),
        (16 << 20, 8192, 8192)
    );
    assert!(info.data_checksums && !info.in_recovery);
    assert_eq!((info.timeline, info.archive_mode), (1, ArchiveMode::Off));
    assert_eq!((info.archive_command.as_str(), info.archive_library.as_str()), ("", ""));
    let bytes = fs::read(server.data.join("global/pg_control")).unwrap();
    let control = ControlFile::parse(&bytes).unwrap();
    assert_eq!(info.system_identifier, Some(control.system_identifier));
    assert_eq!((control.timeline, control.wal_segment_size), (1, 16 << 20));
    let lsn = client.current_lsn().await.unwrap();
    assert!(lsn >= control.redo && lsn < control.redo + (1 << 30), "{lsn}");
    assert!(client.try_lock_backups().await.unwrap());
    let other = client.connect_to("template1").await.unwrap();
    assert!(other.try_lock_backups().await.unwrap(), "the lock is one of a database");
    let rival = client.connect_to("postgres").await.unwrap();
    assert!(!rival.try_lock_backups().await.unwrap());
}

async fn backup(scratch: &Scratch, server: &Server, client: &Client) {
    let error = client.stop_backup().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    let start = client.start_backup("a 'label'", true).await.unwrap();
    assert!(!start.standby && start.timeline == 1);
    let size = 16 << 20;
    let segment = Segment::parse(&start.segment_name, size).unwrap();
    assert_eq!(segment, Segment::of(1, start.lsn, size), "begins at a record, not at a boundary");
    assert_eq!(client.start_backup("again", true).await.unwrap_err().kind(), Kind::Invalid);
    server.sql("insert into plain select generate_series(1, 1000)");
    // Long enough for some pings.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let stop = client.stop_backup().await.unwrap();
    assert!(stop.lsn > start.lsn);
    assert!(stop.backup_label.contains("LABEL: a 'label'\n"), "{}", stop.backup_label);
    assert!(
        stop.backup_label.starts_with(&format!(
            "START WAL LOCATION: {} (file {})",
            start.lsn, start.segment_name
        )),
        "{}",
        stop.backup_label
    );
    assert_eq!(stop.tablespace_map, "");
    let wal = fs::read(server.data.join("pg_wal").join(&start.segment_name)).unwrap();
    let info = client.server().await.unwrap();
    wal_page::check_segment(&wal, &segment, size, info.system_identifier).unwrap();
    assert_eq!(wal_page::FirstPage::parse(&wal).unwrap().major, Some(server.major));
    // A session can run one backup after the other.
    let place = scratch.folder("space");
    server.sql(&format!("create tablespace space location '{}'", place.display()));
    let oid = server.sql("select oid from pg_tablespace where spcname = 'space'");
    let second = client.start_backup("second", true).await.unwrap();
    assert!(second.lsn >= stop.lsn);
    let stop = client.stop_backup().await.unwrap();
    assert_eq!(stop.tablespace_map, format!("{oid} {}\n", place.display()));
}

async fn relations(server: &Server, client: &Client) {
    server.sql("create database app");
    server.sql("create database closed allow_connections false");
    server.sql("create database \"strange \"\" name\"");
    server.sql_in(
        "app",
        "create schema other; \
         create table part (a int, b int) partition by list (a); \
         create index part_b on part (b); \
         create table part_1 partition of part for values in (1); \
         create table other.part_2 partition of part for values in (2) partition by list (b); \
         create table other.part_2_1 partition of other.part_2 for values in (1); \
         create table mother (a int); create table father (b int); \
         create table child () inherits (mother, father); \
         create table grandchild () inherits (child); \
         create sequence counter; create view sight as select 1; \
         create materialized view matter as select 1 as one; \
         create table \"dotted.name\" (t text)",
    );
    let databases = client.databases().await.unwrap();
    let names: Vec<_> = databases.iter().map(|database| database.name.as_str()).collect();
    assert!(names.contains(&"app") && names.contains(&"strange \" name"), "{names:?}");
    assert!(!names.contains(&"closed") && !names.contains(&"template0"), "{names:?}");
    assert!(databases.iter().all(|database| database.tablespace == 1663));
    let gone = Database { name: "gone".to_owned(), ..databases[0].clone() };
    assert!(client.try_connect_to(&gone).await.is_none());

    let found = ask(client, "app").await;
    let below = |top: &str| -> Vec<String> {
        let from = found.iter().position(|r| r.name == top && !r.subtable).unwrap() + 1;
        let mut names: Vec<_> =
            found[from..].iter().take_while(|r| r.subtable).map(|r| r.name.clone()).collect();
        names.sort();
        names
    };
    assert_eq!(below("public.part"), ["other.part_2", "other.part_2_1", "public.part_1"]);
    assert_eq!(below("public.part_b").len(), 3, "indexes are partitioned, too");
    assert_eq!(below("public.mother"), ["public.child", "public.grandchild"]);
    assert_eq!(below("public.father"), ["public.child", "public.grandchild"]);
    for top in ["public.counter", "public.matter", "public.dotted.name", "pg_catalog.pg_class"] {
        assert!(below(top).is_empty(), "{top}");
    }
    assert!(!found.iter().any(|r| r.name == "public.sight" || r.name == "pg_catalog.pg_tables"));
    assert!(!found.iter().any(|r| !r.subtable && r.name == "public.part_1"));
    for relation in &found {
        let files = relation.name != "public.part"
            && relation.name != "other.part_2"
            && !relation.name.ends_with("_b")
            && !relation.name.ends_with("_b_idx")
            && !relation.name.ends_with("part_2_b_idx");
        assert!(relation.relfilenode != 0 || !files, "{relation:?}");
    }
    // A mapped catalogue has no number in pg_class; its file has one.
    let class = found.iter().find(|r| r.name == "pg_catalog.pg_class").unwrap();
    let path = server.sql_in("app", "select pg_relation_filepath('pg_class')");
    assert!(path.ends_with(&format!("/{}", class.relfilenode)), "{path}");

    server.sql_in(
        "app",
        "insert into part values (1, 1), (1, 2), (2, 1); update part set b = 7 where a = 1",
    );
    let app = client.connect_to("app").await.unwrap();
    let file = server.sql_in("app", "select relfilenode from pg_class where relname = 'part_1'");
    let oid = databases.iter().find(|database| database.name == "app").unwrap().oid;
    for attempt in 0.. {
        let updates: Vec<_> = app.updates().await.unwrap().try_collect().await.unwrap();
        let part = updates.iter().find(|row| row.relfilenode.to_string() == file);
        if part.is_some_and(|part| part.count == 4) {
            assert!(updates.iter().all(|row| row.count > 0 && row.database == oid));
            assert!(updates.iter().all(|row| row.tablespace == 1663));
            break;
        }
        // Before PostgreSQL 15 a collector process passes statistics on.
        assert!(attempt < 100, "{updates:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[test]
fn version_14() {
    a_version(14);
}

#[test]
fn version_15() {
    a_version(15);
}

#[test]
fn version_16() {
    a_version(16);
}

#[test]
fn version_17() {
    a_version(17);
}

#[test]
fn version_18() {
    a_version(18);
}

#[test]
fn passwords_come_from_the_environment_or_the_password_file() {
    let scratch = Scratch::new();
    let mut server = Server::new(15, &scratch, "pg");
    server.allow("host all old all md5\nhost all all all scram-sha-256");
    server.start();
    server.sql("create role bob login superuser password 'right:one'");
    server.sql("set password_encryption = md5; create role old login password 'ancient'");
    run(async {
        let bob = ("PGUSER", "bob");
        connect(&server.tcp(&[bob, ("PGPASSWORD", "right:one")])).await.unwrap();
        connect(&server.tcp(&[("PGUSER", "old"), ("PGPASSWORD", "ancient")])).await.unwrap();

        let error = refused(&server.tcp(&[bob, ("PGPASSWORD", "sesame")])).await;
        assert_eq!(error.kind(), Kind::Postgres);
        assert!(error.to_string().contains("password authentication failed"), "{error}");
        assert!(hint(&error).contains("PGPASSWORD"));
        let settings = server.tcp(&[bob, ("PGPASSWORD", "sesame")]);
        let shown = format!("{error} {error:?} {:?} {settings:?}", error.hint());
        assert!(!shown.contains("sesame"), "{shown}");

        let error = refused(&server.tcp(&[bob])).await;
        assert!(hint(&error).contains("~/.pgpass"), "{error}");

        let line = format!("localhost:{}:*:bob:right\\:one\n", server.port);
        let file = scratch.file("pgpass", line);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let file = ("PGPASSFILE", file.to_str().unwrap());
        let client = connect(&server.tcp(&[bob, file])).await.unwrap();
        let shown = format!("{client:?} {:?}", client.params());
        assert!(!shown.contains("right"), "{shown}");
        client.connect_to("template1").await.unwrap();
        fs::set_permissions(file.1, fs::Permissions::from_mode(0o644)).unwrap();
        refused(&server.tcp(&[bob, file])).await;

        let error = refused(&server.tcp(&[("PGUSER", "nobody"), ("PGPASSWORD", "x")])).await;
        assert!(hint(&error).contains("PGPASSWORD"), "{error}");
        let error = refused(&server.settings(&[("PGDATABASE", "none")])).await;
        assert!(hint(&error).contains("PGDATABASE"), "{error}");
    });
}

#[test]
fn the_service_file_is_stronger_than_the_environment() {
    let scratch = Scratch::new();
    let mut server = Server::new(15, &scratch, "pg");
    server.start();
    let text = format!(
        "[here]\nhost={}\nport={}\nuser=postgres\ndbname=template1\napplication_name=mine\n",
        server.socket.display(),
        server.port
    );
    let file = scratch.file("service", text);
    let file = ("PGSERVICEFILE", file.to_str().unwrap());
    run(async {
        let settings =
            support::settings([("PGSERVICE", "here"), file, ("PGHOST", "/none"), ("PGPORT", "1")]);
        let client = connect(&settings).await.unwrap();
        assert_eq!(client.params().database, "template1");
        assert_eq!(
            server.sql("select count(*) from pg_stat_activity where application_name = 'mine'"),
            "1"
        );
        let error = refused(&support::settings([("PGSERVICE", "there"), file])).await;
        assert_eq!(error.kind(), Kind::Config);
        assert!(hint(&error).contains("[there]"));
    });
}

/// Makes keys and certificates with the openssl program.
struct Authority<'a> {
    scratch: &'a Scratch,
}

impl Authority<'_> {
    fn openssl(&self, line: &str) {
        let mut command = std::process::Command::new("openssl");
        command.args(line.split_whitespace()).current_dir(self.scratch.path());
        checked(&mut command);
    }

    /// `<name>.crt` and `<name>.key`, signed by itself.
    fn root(&self, name: &str, algorithm: &str) {
        self.openssl(&format!(
            "req -x509 -newkey {algorithm} -nodes -days 2 -subj /CN={name} \
             -addext subjectAltName=DNS:localhost -keyout {name}.key -out {name}.crt"
        ));
    }

    /// `<name>.crt` and `<name>.key`, signed by `root`.
    fn leaf(&self, root: &str, name: &str, subject: &str) {
        self.scratch.file("san", format!("subjectAltName=DNS:{subject}\n"));
        self.openssl(&format!(
            "req -newkey rsa:2048 -nodes -subj /CN={subject} -keyout {name}.key -out {name}.csr"
        ));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA {root}.crt -CAkey {root}.key -CAcreateserial -days 2 \
             -sha384 -extfile san -out {name}.crt"
        ));
        let key = self.scratch.join(format!("{name}.key"));
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.scratch.join(name).to_str().unwrap().to_owned()
    }
}

/// A server of this version with TLS, and the files `ca.crt`, `other.crt`,
/// `server.*`, `client.*` in the scratch folder.
fn encrypted(major: u32, scratch: &Scratch) -> Server {
    let authority = Authority { scratch };
    let curve = "ec -pkeyopt ec_paramgen_curve:prime256v1";
    authority.root("ca", curve);
    authority.root("other", curve);
    authority.leaf("ca", "server", "localhost");
    authority.leaf("ca", "client", "carol");
    let mut server = Server::new(major, scratch, "pg");
    support::user::give(&scratch.join("server.key"));
    server.configure(&format!(
        "ssl = on\nssl_cert_file = '{}'\nssl_key_file = '{}'\nssl_ca_file = '{}'",
        authority.path("server.crt"),
        authority.path("server.key"),
        authority.path("ca.crt")
    ));
    server.allow("hostssl all carol all cert\nhostssl all postgres all scram-sha-256\nhostnossl all plain all trust");
    server.start();
    server.sql("alter role postgres password 'secret'; create role carol login superuser; create role plain login");
    server
}

#[test]
fn tls_trusts_whom_the_mode_says() {
    let scratch = Scratch::new();
    let server = encrypted(15, &scratch);
    let authority = Authority { scratch: &scratch };
    let (ca, other) = (authority.path("ca.crt"), authority.path("other.crt"));
    let password = ("PGPASSWORD", "secret");
    run(async {
        // The strictest of everything, with the password tied to the channel.
        let strict = [
            password,
            ("PGSSLMODE", "verify-full"),
            ("PGSSLROOTCERT", ca.as_str()),
            ("PGCHANNELBINDING", "require"),
        ];
        let client = connect(&server.tcp(&strict)).await.unwrap();
        assert!(client.server().await.unwrap().data_checksums);
        let ssl = "select ssl, version from pg_stat_ssl join pg_stat_activity using (pid) \
                   where application_name = 'walport'";
        assert_eq!(server.sql(ssl), "t|TLSv1.3");
        drop(client);

        let wrong_name = [
            password,
            ("PGHOST", "127.0.0.1"),
            ("PGSSLMODE", "verify-full"),
            ("PGSSLROOTCERT", &ca),
        ];
        let error = refused(&server.tcp(&wrong_name)).await;
        assert!(hint(&error).contains("alternative name"), "{error}");
        let by_address =
            [password, ("PGHOST", "127.0.0.1"), ("PGSSLMODE", "verify-ca"), ("PGSSLROOTCERT", &ca)];
        connect(&server.tcp(&by_address)).await.unwrap();
        let hostaddr = [
            password,
            ("PGHOSTADDR", "127.0.0.1"),
            ("PGSSLMODE", "verify-full"),
            ("PGSSLROOTCERT", &ca),
        ];
        connect(&server.tcp(&hostaddr)).await.unwrap();

        // `system` and no file at all trust the system's authorities, who do not know ours.
        for root in [other.as_str(), "system"] {
            for mode in ["verify-full", "verify-ca", "require"] {
                if (root, mode) == ("system", "require") {
                    continue;
                }
                let values = [password, ("PGSSLMODE", mode), ("PGSSLROOTCERT", root)];
                let error = refused(&server.tcp(&values)).await;
                assert!(hint(&error).contains("PGSSLROOTCERT"), "{root} {mode}: {error}");
            }
        }
        connect(&server.tcp(&[password, ("PGSSLMODE", "require")])).await.unwrap();
        // The server takes TLS only.
        for mode in ["prefer", "allow"] {
            connect(&server.tcp(&[password, ("PGSSLMODE", mode)])).await.unwrap();
        }
        let error = refused(&server.tcp(&[password, ("PGSSLMODE", "disable")])).await;
        assert!(hint(&error).contains("PGSSLMODE"), "{error}");
        // The server takes this role without TLS only.
        for mode in ["prefer", "allow", "disable"] {
            connect(&server.tcp(&[("PGUSER", "plain"), ("PGSSLMODE", mode)])).await.unwrap();
        }
        refused(&server.tcp(&[("PGUSER", "plain"), ("PGSSLMODE", "require")])).await;
        let missing = [password, ("PGSSLMODE", "verify-ca"), ("PGSSLROOTCERT", "/none")];
        let error = refused(&server.tcp(&missing)).await;
        assert!(error.to_string().contains("/none"), "{error}");
    });
}

#[test]
fn a_client_certificate_opens_the_door() {
    let scratch = Scratch::new();
    let server = encrypted(15, &scratch);
    let authority = Authority { scratch: &scratch };
    let (certificate, key) = (authority.path("client.crt"), authority.path("client.key"));
    let values = [
        ("PGUSER", "carol"),
        ("PGSSLMODE", "require"),
        ("PGSSLCERT", certificate.as_str()),
        ("PGSSLKEY", key.as_str()),
    ];
    run(async {
        connect(&server.tcp(&values)).await.unwrap();
        let error = refused(&server.tcp(&values[..2])).await;
        assert!(hint(&error).contains("carol"), "{error}");
        let mut swapped = values;
        (swapped[2].1, swapped[3].1) = (&key, &certificate);
        fs::set_permissions(&certificate, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(refused(&server.tcp(&swapped)).await.kind(), Kind::Config);
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        let error = refused(&server.tcp(&values)).await;
        assert!(hint(&error).contains("0600"), "{error}");
    });
}

#[test]
fn a_self_signed_server_can_be_pinned_and_version_17_spoken_to_directly() {
    let scratch = Scratch::new();
    let authority = Authority { scratch: &scratch };
    authority.root("self", "rsa:2048");
    let key = scratch.join("self.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    support::user::give(&key);
    let mut server = Server::new(17, &scratch, "pg");
    server.configure(&format!(
        "ssl = on\nssl_cert_file = '{}'\nssl_key_file = '{}'",
        authority.path("self.crt"),
        authority.path("self.key")
    ));
    server.allow("hostssl all all all trust");
    server.start();
    let pinned = authority.path("self.crt");
    run(async {
        for negotiation in ["postgres", "direct"] {
            let values = [
                ("PGSSLMODE", "verify-full"),
                ("PGSSLROOTCERT", pinned.as_str()),
                ("PGSSLNEGOTIATION", negotiation),
            ];
            connect(&server.tcp(&values)).await.unwrap();
        }
        let wrong_name =
            [("PGHOST", "127.0.0.1"), ("PGSSLMODE", "verify-full"), ("PGSSLROOTCERT", &pinned)];
        let error = refused(&server.tcp(&wrong_name)).await;
        assert!(hint(&error).contains("alternative name"), "{error}");
        let weak = [("PGSSLMODE", "prefer"), ("PGSSLNEGOTIATION", "direct")];
        assert_eq!(refused(&server.tcp(&weak)).await.kind(), Kind::Config);
    });
}

#[test]
fn a_server_that_is_not_there_is_told_with_a_hint() {
    let scratch = Scratch::new();
    let empty = scratch.folder("empty");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port().to_string();
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port().to_string()
    };
    let base = [("PGUSER", "u"), ("PGPASSFILE", "/nonexistent")];
    let with = |more: &[(&'static str, &str)]| {
        let all: Vec<_> = base.iter().chain(more).copied().collect();
        support::settings(all)
    };
    run(async {
        let error = refused(&with(&[("PGHOST", empty.to_str().unwrap())])).await;
        assert!(error.to_string().contains(".s.PGSQL.5432"), "{error}");
        assert!(hint(&error).contains("unix_socket_directories"), "{error}");
        assert_eq!(error.class(), Class::Transient);
        let error = refused(&with(&[("PGHOST", "127.0.0.1"), ("PGPORT", &closed)])).await;
        assert!(hint(&error).contains("listen_addresses"), "{error}");
        let error = refused(&with(&[("PGHOST", "no-such-host.invalid")])).await;
        assert!(hint(&error).contains("PGHOST"), "{error}");
        let values =
            [("PGHOST", "127.0.0.1"), ("PGPORT", port.as_str()), ("PGCONNECT_TIMEOUT", "1")];
        let error = refused(&with(&values)).await;
        assert!(hint(&error).contains("PGCONNECT_TIMEOUT"), "{error}");
        let error = refused(&with(&[("PGHOST", "a,b"), ("PGPORT", "1,2,3")])).await;
        assert_eq!(error.kind(), Kind::Config);
    });
}

#[test]
fn a_lost_session_ends_the_backup() {
    let scratch = Scratch::new();
    let mut server = Server::new(15, &scratch, "pg");
    server.start();
    let backend = "from pg_stat_activity where application_name = 'walport'";
    run(async {
        // The server ends the session: noticed at once.
        let client = connect(&server.settings(&[])).await.unwrap();
        client.start_backup("ended", true).await.unwrap();
        server.sql(&format!("select pg_terminate_backend(pid) {backend}"));
        let error = tokio::time::timeout(Duration::from_secs(30), client.lost()).await.unwrap();
        assert!(error.to_string().contains("is lost: "), "{error}");
        assert!(hint(&error).contains("server's log"));
        let error = client.stop_backup().await.unwrap_err();
        assert!(error.to_string().contains("session"), "{error}");
        drop(client);

        // The server hangs: noticed by the ping.
        let client =
            connect(&server.settings(&[("WALG_ALIVE_CHECK_INTERVAL", "100ms")])).await.unwrap();
        client.start_backup("frozen", true).await.unwrap();
        let pid = server.sql(&format!("select pid {backend}")).parse().unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
        let error = tokio::time::timeout(Duration::from_secs(60), client.lost()).await;
        rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
        assert!(error.unwrap().to_string().contains("ping"));

        // Nothing is lost while all is well.
        let client = connect(&server.settings(&[])).await.unwrap();
        client.start_backup("fine", true).await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(200), client.lost()).await.is_err());
        client.stop_backup().await.unwrap();
    });
}

#[test]
fn waiting_for_the_archive_has_a_limit() {
    let scratch = Scratch::new();
    let mut server = Server::new(15, &scratch, "pg");
    server.configure("archive_mode = on\narchive_command = 'false'");
    server.start();
    run(async {
        let client =
            connect(&server.settings(&[("WALG_STOP_BACKUP_TIMEOUT", "1s")])).await.unwrap();
        let info = client.server().await.unwrap();
        assert_eq!((info.archive_mode, info.archive_command.as_str()), (ArchiveMode::On, "false"));
        client.start_backup("stuck", true).await.unwrap();
        let error = client.stop_backup().await.unwrap_err();
        assert!(hint(&error).contains("archive_command"), "{error}");
        assert!(hint(&error).contains("WALG_STOP_BACKUP_TIMEOUT"), "{error}");
        server.sql("alter system set archive_command = 'true'");
        server.sql("select pg_reload_conf()");
        let client = connect(&server.settings(&[])).await.unwrap();
        client.start_backup("flows", true).await.unwrap();
        client.stop_backup().await.unwrap();
    });
}

#[test]
fn a_standby_backs_up_until_its_timeline_changes() {
    let scratch = Scratch::new();
    let mut primary = Server::new(15, &scratch, "a");
    primary.start();
    primary.sql("create table t (n int)");
    let mut middle = Server::standby(&primary, &scratch, "b");
    middle.start();
    let mut last = Server::standby(&middle, &scratch, "c");
    last.start();
    run(async {
        // Which of several servers will do.
        let hosts = format!("{},{}", last.socket.display(), primary.socket.display());
        let ports = format!("{},{}", last.port, primary.port);
        for (wanted, recovering) in [
            ("any", true),
            ("primary", false),
            ("read-write", false),
            ("standby", true),
            ("read-only", true),
            ("prefer-standby", true),
        ] {
            let values =
                [("PGHOST", hosts.as_str()), ("PGPORT", &ports), ("PGTARGETSESSIONATTRS", wanted)];
            let client = connect(&primary.settings(&values)).await.unwrap();
            assert_eq!(client.server().await.unwrap().in_recovery, recovering, "{wanted}");
        }
        let values = [("PGTARGETSESSIONATTRS", "standby")];
        let error = refused(&primary.settings(&values)).await;
        assert!(hint(&error).contains("PGTARGETSESSIONATTRS"), "{error}");
        let values = [("PGTARGETSESSIONATTRS", "prefer-standby")];
        connect(&primary.settings(&values)).await.unwrap();

        // A backup from a standby.
        let client = connect(&last.settings(&[])).await.unwrap();
        let start = client.start_backup("standby", true).await.unwrap();
        assert!(start.standby && start.timeline == 1);
        let before = Lsn(start.lsn.0 - 1);
        assert_eq!(start.segment_name, Segment::of(1, before, 16 << 20).name(16 << 20));
        assert!(client.current_lsn().await.unwrap() >= start.lsn);
        let stop = client.stop_backup().await.unwrap();
        assert!(stop.backup_label.contains("BACKUP FROM: standby"), "{}", stop.backup_label);

        // The server above it becomes a primary, and it follows.
        client.start_backup("changed", true).await.unwrap();
        middle.promote();
        middle.sql("insert into t values (1); checkpoint");
        wait_for("the new timeline", || {
            last.sql("checkpoint");
            last.sql("select timeline_id from pg_control_checkpoint()") == "2"
        });
        let error = client.stop_backup().await.unwrap_err();
        assert_eq!(error.kind(), Kind::Changed, "{error}");
        assert!(error.to_string().contains("timeline 1 to 2"), "{error}");
    });
}

#[test]
fn names_that_are_not_utf8_do_not_end_the_list() {
    let scratch = Scratch::new();
    let mut server = Server::new(15, &scratch, "pg");
    server.start();
    server.sql("create database bytes encoding 'SQL_ASCII' template template0");
    server.sql_in(
        "bytes",
        "set client_encoding = 'SQL_ASCII'; do $$ begin \
         execute 'create table '||quote_ident('caf'||chr(233))||' (n int)'; end $$",
    );
    run(async {
        let client = connect(&server.settings(&[])).await.unwrap();
        let found = ask(&client, "bytes").await;
        assert!(found.iter().any(|relation| relation.name == "public.caf\u{FFFD}"));
    });
}

#[test]
fn a_role_without_rights_is_told_what_it_needs() {
    let scratch = Scratch::new();
    let mut server = Server::new(15, &scratch, "pg");
    server.start();
    server.sql("create role weak login");
    run(async {
        let client = connect(&server.settings(&[("PGUSER", "weak")])).await.unwrap();
        let error = client.server().await.unwrap_err();
        assert!(hint(&error).contains("pg_read_all_settings"), "{error}");
        let error = client.start_backup("weak", true).await.unwrap_err();
        assert!(hint(&error).contains("EXECUTE"), "{error}");
        server.sql(
            "grant pg_read_all_settings to weak; \
             grant execute on function pg_backup_start(text, boolean) to weak; \
             grant execute on function pg_backup_stop(boolean) to weak",
        );
        client.server().await.unwrap();
        client.start_backup("weak", true).await.unwrap();
        client.stop_backup().await.unwrap();
    });
}
