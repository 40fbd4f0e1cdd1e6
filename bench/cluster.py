"""The place of a run, and the clusters in it."""

import glob
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path


class Place:
    """A folder on the disk under test, removed at the end."""

    def __init__(self, keep):
        self.keep = keep
        parent = os.environ.get("WALPORT_BENCH_DIR", "/tmp")
        self.path = Path(tempfile.mkdtemp(prefix="walport-bench.", dir=parent))
        self.path.chmod(0o755)
        self.user = None
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            self.user = pwd.getpwnam("postgres")
            os.chown(self.path, self.user.pw_uid, self.user.pw_gid)
        self.bin = postgres_programs()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if not self.keep:
            shutil.rmtree(self.path, ignore_errors=True)

    def identity(self):
        """The arguments of Popen that make a process belong to the worker."""
        if self.user is None:
            return {}
        return {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []}

    def folder(self, *names):
        path = self.path.joinpath(*names)
        path.mkdir(parents=True, exist_ok=True)
        while path != self.path:
            if self.user:
                os.chown(path, self.user.pw_uid, self.user.pw_gid)
            path = path.parent
        return self.path.joinpath(*names)

    def give(self, path):
        if self.user:
            os.chown(path, self.user.pw_uid, self.user.pw_gid)
        return path

    def file_system(self):
        kind = subprocess.run(["stat", "-f", "-c", "%T", self.path], capture_output=True, text=True, check=True)
        return kind.stdout.strip()


def postgres_programs():
    """The newest installation that has pgbench."""
    candidates = glob.glob("/usr/lib/postgresql/*/bin")
    found = shutil.which("pgbench")
    if found:
        candidates.append(os.path.dirname(os.path.realpath(found)))
    candidates = [c for c in candidates if os.path.exists(f"{c}/postgres") and os.path.exists(f"{c}/pgbench")]
    if not candidates:
        raise SystemExit("bench: no PostgreSQL with pgbench was found; run tests/setup")
    return Path(sorted(candidates)[-1])


class Cluster:
    """A running PostgreSQL."""

    def __init__(self, place, name):
        self.place = place
        self.data = place.path / name
        self.socket = place.folder(f"{name}.s")
        self.server = None

    def __enter__(self):
        self.call("initdb", "-D", self.data, "-U", "postgres", "--data-checksums", "--no-sync", "-A", "trust")
        with open(self.data / "postgresql.conf", "a") as conf:
            conf.write(
                "fsync = off\nautovacuum = off\nshared_buffers = 128MB\nmax_wal_size = 4GB\nmin_wal_size = 80MB\n"
                "wal_keep_size = 512MB\ncheckpoint_timeout = 1h\narchive_mode = on\narchive_command = '/bin/true'\n"
                "max_locks_per_transaction = 10000\n"
            )
        log = open(self.place.path / "postgres.log", "ab")
        self.server = subprocess.Popen(
            [self.place.bin / "postgres", "-D", self.data, "-k", self.socket, "-c", "listen_addresses="],
            stdout=log,
            stderr=log,
            cwd=self.place.path,
            **self.place.identity(),
        )
        for _ in range(600):
            lines = (self.data / "postmaster.pid").read_text().splitlines() if (self.data / "postmaster.pid").exists() else []
            if len(lines) > 7 and lines[7].strip() == "ready":
                return self
            time.sleep(0.1)
        raise SystemExit(f"bench: PostgreSQL did not start; see {self.place.path}/postgres.log")

    def __exit__(self, *_):
        if self.server:
            self.server.send_signal(signal.SIGQUIT)
            self.server.wait()
        if not self.place.keep:
            shutil.rmtree(self.data, ignore_errors=True)

    def call(self, program, *words, **more):
        environment = {"PATH": "/usr/bin:/bin", "PGHOST": str(self.socket), "PGUSER": "postgres", "LC_ALL": "C.UTF-8"}
        result = subprocess.run(
            [self.place.bin / program, *words],
            env=environment,
            cwd=self.place.path,
            capture_output=True,
            text=True,
            **self.place.identity(),
            **more,
        )
        if result.returncode != 0:
            raise SystemExit(f"bench: {program} failed: {result.stderr}")
        return result.stdout.strip()

    def sql(self, text):
        return self.call("psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", "postgres", "-c", text)

    def pgbench(self, scale):
        """The tables of pgbench, with some updates in them and WAL behind them."""
        self.call("pgbench", "-i", "-q", "-s", str(scale), "postgres")
        self.call("pgbench", "-n", "-c", "4", "-t", "2000", "postgres")
        self.sql("checkpoint")

    def tables(self, count):
        """So many small tables: each is four files."""
        for start in range(0, count, 1000):
            self.sql(
                f"do $$ begin for i in {start + 1}..{min(start + 1000, count)} loop "
                "execute format('create table t%s (a text primary key)', i); end loop; end $$"
            )
        self.sql("checkpoint")

    def small_files(self, count):
        """Brings the number of files that the benchmark itself placed to `count`."""
        folder = self.data / "small"
        shutil.rmtree(folder, ignore_errors=True)
        for number in range(count):
            part = folder / f"{number // 1000:03}"
            if number % 1000 == 0:
                part.mkdir(parents=True)
                self.place.give(part)
            (part / f"a file with a rather long name {number}").write_bytes(b"x" * 20)
        self.place.give(folder)
        for path in folder.rglob("*"):
            self.place.give(path)

    def segments(self, count):
        """Copies of whole WAL segments, made by writing until there are enough."""
        folder = self.place.folder("segments")
        self.place.folder("segments", "archive_status")
        while True:
            ready = sorted(p for p in (self.data / "pg_wal").iterdir() if len(p.name) == 24)
            current = self.sql("select pg_walfile_name(pg_current_wal_lsn())")
            whole = [p for p in ready if p.name < current]
            if len(whole) >= count:
                break
            # Row updates and the page images of a fresh checkpoint: ordinary WAL.
            self.sql("checkpoint; update pgbench_accounts set abalance = abalance + 1 where aid <= 200000")
        copies = []
        for path in whole[-count:]:
            copy = folder / path.name
            if not copy.exists():
                shutil.copyfile(path, copy)
            copies.append(self.place.give(copy))
        return copies

    def files(self):
        return sum(len(files) for folder, _, files in os.walk(self.data) if "pg_wal" not in folder)

    def megabytes(self):
        total = 0
        for folder, _, files in os.walk(self.data):
            if "pg_wal" in folder:
                continue
            for name in files:
                try:
                    total += os.stat(os.path.join(folder, name)).st_size
                except OSError:
                    pass
        return round(total / 1_000_000)

    def describe(self):
        version = self.sql("show server_version").split()[0]
        return f"PostgreSQL {version}, {self.megabytes()} MB in {self.files()} files"
