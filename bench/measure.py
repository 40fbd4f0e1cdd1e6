"""Runs commands and measures them."""

import filecmp
import os
import signal
import subprocess
import time
from dataclasses import dataclass


class Failed(Exception):
    """A command that did not succeed."""


@dataclass
class Times:
    """Seconds."""

    wall: float = 0.0
    cpu: float = 0.0


@dataclass
class Peaks:
    """MiB, and a number of threads: the most of any one process."""

    resident: float = 0.0
    virtual: float = 0.0
    threads: int = 0


def start(tool, command, errors):
    return subprocess.Popen(
        command.words,
        env=command.environment,
        cwd=tool.home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        **tool.place.identity(),
    )


def check(tool, command, status, errors):
    if status == 0:
        return
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    said = lines[-1] if lines else "nothing on stderr"
    raise Failed(f"{' '.join(command.words[1:3])}: status {status}: {said}")


def timed(tool, commands):
    """The sum of the commands' wall and CPU time."""
    total = Times()
    for command in commands:
        with open(tool.home / "stderr", "w+b") as errors:
            begin = time.monotonic()
            process = start(tool, command, errors)
            _, status, usage = os.wait4(process.pid, 0)
            total.wall += time.monotonic() - begin
            total.cpu += usage.ru_utime + usage.ru_stime
            process.returncode = os.waitstatus_to_exitcode(status)
            check(tool, command, process.returncode, errors)
    return total


def run(tool, command):
    """Runs a command that is not measured."""
    timed(tool, [command])


def peaks(tool, commands):
    """The peaks over the commands and what they start.

    ru_maxrss would be simpler, but it carries the size of this interpreter over
    the exec. VmHWM and VmPeak belong to the program, and the kernel keeps them,
    so that reading them often enough misses only the very end.
    """
    most = Peaks()
    for command in commands:
        with open(tool.home / "stderr", "w+b") as errors:
            process = start(tool, command, errors)
            mine = os.readlink(f"/proc/{os.getpid()}/exe")
            while process.poll() is None:
                for pid in family(process.pid):
                    look(pid, mine, most)
            check(tool, command, process.returncode, errors)
    return most


def family(pid):
    """The process and its descendants."""
    yield pid
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            children = file.read().split()
    except OSError:
        return
    for child in children:
        yield from family(int(child))


def look(pid, mine, most):
    try:
        # Before its exec, a child is still this interpreter.
        if os.readlink(f"/proc/{pid}/exe") == mine:
            return
        with open(f"/proc/{pid}/status") as file:
            fields = dict(line.split(":", 1) for line in file if ":" in line)
        most.resident = max(most.resident, int(fields["VmHWM"].split()[0]) / 1024)
        most.virtual = max(most.virtual, int(fields["VmPeak"].split()[0]) / 1024)
        most.threads = max(most.threads, int(fields["Threads"]))
    except (OSError, KeyError, ValueError):
        pass  # it ended, or is about to


def wait_for_detached(tool):
    """Waits for what a fetch left running in the background."""
    for _ in range(600):
        if not list(processes_in(tool.fetched)):
            return
        time.sleep(0.02)
    for pid in processes_in(tool.fetched):
        os.kill(pid, signal.SIGKILL)


def processes_in(folder):
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    if str(folder).encode() in file.read():
                        yield int(name)
            except OSError:
                pass


def same(left, right):
    """Stops the benchmark unless the files are the same: a wrong answer has no speed."""
    if not filecmp.cmp(left, right, shallow=False):
        raise SystemExit(f"{right} is not what was archived")
