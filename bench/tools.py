"""The tools that are compared, and how each is told to do the same."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass
class Command:
    words: list
    environment: dict


def find(place, options):
    """Walport first, then each peer that is there."""
    wanted = [name for name in options.tools.split(",") if name]
    found = []
    binary = options.walport or os.environ.get("WALPORT_BIN") or REPOSITORY / "target/release/walport"
    candidates = [("walport", Path(binary), Layout)]
    for name, variable, kind in (("wal-g", "WALG_BIN", Layout), ("walrus", "WALRUS_BIN", Layout), ("pgbackrest", "PGBACKREST_BIN", PgBackRest)):
        path = os.environ.get(variable) or shutil.which(name)
        if path:
            candidates.append((name, Path(path), kind))
    for name, path, kind in candidates:
        if wanted and name not in wanted:
            continue
        if not path.is_file():
            raise SystemExit(f"bench: {name}: {path} is not there (for walport: make build)")
        found.append(kind(name, path, place))
    return found


class Tool:
    """What every tool has: a program, an archive, places to restore to."""

    def __init__(self, name, program, place):
        self.name = name
        self.place = place
        # A copy, since the worker may not be allowed to reach the original.
        self.program = place.folder("bin") / name
        shutil.copy(program.resolve(), self.program)
        self.program.chmod(0o755)
        self.home = place.folder("homes", name)
        self.archive = place.folder("archives", name)
        self.restored = place.path / "restored" / name
        self.fetched = place.folder("fetched", name)
        self.number = None

    def use(self, cluster, codec):
        """Works on this cluster with this codec from now on."""
        self.cluster = cluster
        self.codec = codec
        self.forget_all()

    def concurrency(self, number):
        self.number = number

    def version(self):
        result = subprocess.run([self.program, *self.version_words], capture_output=True, text=True)
        return (result.stdout or result.stderr).strip().replace("\t", " ").splitlines()[0]

    def forget_all(self):
        shutil.rmtree(self.archive, ignore_errors=True)
        self.archive = self.place.folder("archives", self.name)
        self.empty_fetched()
        self.empty_restored()

    def empty_fetched(self):
        shutil.rmtree(self.fetched, ignore_errors=True)
        self.place.folder("fetched", self.name)

    def empty_restored(self):
        shutil.rmtree(self.restored, ignore_errors=True)
        self.place.folder("restored")


class Layout(Tool):
    """The tools that speak WAL-G's layout and take its settings."""

    version_words = ["--version"]

    def command(self, *words, **more):
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.home),
            "WALG_FILE_PREFIX": str(self.archive),
            "WALG_COMPRESSION_METHOD": self.codec,
            "PGHOST": str(self.cluster.socket),
            "PGPORT": "5432",
            "PGUSER": "postgres",
            "PGDATABASE": "postgres",
            **more,
        }
        if self.number is not None:
            for name in ("UPLOAD_CONCURRENCY", "UPLOAD_DISK_CONCURRENCY", "DOWNLOAD_CONCURRENCY"):
                environment[f"WALG_{name}"] = str(self.number)
        return Command([str(self.program), *map(str, words)], environment)

    def wal_push(self, segment):
        return self.command("wal-push", segment)

    def wal_fetch(self, name, target, prefetch):
        if prefetch:
            return self.command("wal-fetch", name, target)
        return self.command("wal-fetch", name, target, WALG_DOWNLOAD_CONCURRENCY="1")

    def backup_push(self):
        return self.command("backup-push", self.cluster.data)

    def backup_fetch(self):
        return self.command("backup-fetch", self.restored, "LATEST")

    def forget_wal(self):
        shutil.rmtree(self.archive / "wal_005", ignore_errors=True)

    def forget_backups(self):
        shutil.rmtree(self.archive / "basebackups_005", ignore_errors=True)


class PgBackRest(Tool):
    """pgBackRest: another layout, the same jobs."""

    version_words = ["version"]

    def use(self, cluster, codec):
        super().use(cluster, codec)
        self.create_stanza()

    def create_stanza(self):
        command = self.command("stanza-create")
        result = subprocess.run(command.words, env=command.environment, capture_output=True, text=True, **self.place.identity())
        if result.returncode != 0:
            raise SystemExit(f"bench: pgbackrest stanza-create: {result.stdout}{result.stderr}")

    def command(self, *words, **more):
        codec = {"zstd": "zst"}.get(self.codec, self.codec)
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.home),
            "PGBACKREST_CONFIG": "/dev/null",
            "PGBACKREST_STANZA": "bench",
            "PGBACKREST_REPO1_PATH": str(self.archive),
            "PGBACKREST_COMPRESS_TYPE": codec,
            "PGBACKREST_PG1_PATH": str(self.cluster.data),
            "PGBACKREST_PG1_SOCKET_PATH": str(self.cluster.socket),
            "PGBACKREST_PG1_USER": "postgres",
            "PGBACKREST_LOCK_PATH": str(self.home),
            "PGBACKREST_SPOOL_PATH": str(self.home),
            "PGBACKREST_LOG_LEVEL_FILE": "off",
            "PGBACKREST_LOG_LEVEL_CONSOLE": "error",
            "PGBACKREST_PROCESS_MAX": str(self.number or os.cpu_count()),
            **more,
        }
        return Command([str(self.program), *map(str, words)], environment)

    def wal_push(self, segment):
        return self.command("archive-push", segment)

    def wal_fetch(self, name, target, prefetch):
        return self.command("archive-get", name, target)

    def backup_push(self):
        # The servers archive_command is /bin/true: the WAL of the backup is not checked.
        return self.command("backup", "--type=full", "--start-fast", "--no-archive-check")

    def backup_fetch(self):
        self.restored.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.place.give(self.restored)
        return self.command("restore", PGBACKREST_PG1_PATH=str(self.restored))

    def forget_wal(self):
        for segments in self.archive.glob("archive/bench/*/0*"):
            shutil.rmtree(segments)

    def forget_backups(self):
        self.forget_all()
        self.create_stanza()
