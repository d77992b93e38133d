"""Measure a command from start to end: time, CPU time, and peak memory of it and its children (Linux)."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

#: Seconds between two readings of the memory.
POLL_SECONDS = 0.02


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """One run of a command.

    Parameters
    ----------
    seconds, cpu_seconds : float
        From start to end, and on the processors (user and system, children included).
    memory : int
        Most bytes resident at once in the command and its children, read every `POLL_SECONDS` seconds:
        pages of mapped files count, and those shared by two processes count twice.
    own_memory : int
        The same without pages of files, which the system takes back when it needs them.
    code : int
        Exit code; of a signal, minus its number.
    output : str
        What it printed, errors first.
    """

    seconds: float
    cpu_seconds: float
    memory: int
    own_memory: int
    code: int
    output: str


def _environment() -> dict[str, str]:
    """Return the environment of this process, in which Python keeps compiled modules, as it does after pip."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def run(words: list[str], *, timeout: float = 600) -> Run:
    """Run a command to its end, or kill it after `timeout` seconds."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=out, stderr=errors, start_new_session=True, env=_environment()
        )
        memory = _Memory(process.pid)
        watch = threading.Thread(target=memory.watch, daemon=True)
        watch.start()
        killer = threading.Timer(timeout, _kill, [process.pid])
        killer.start()
        try:
            _, status, used = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - start
        except BaseException:  # an interrupt must not leave it running
            _kill(process.pid)
            raise
        finally:
            killer.cancel()
            memory.stop.set()
            watch.join()
        process.returncode = os.waitstatus_to_exitcode(status)  # Popen must not wait for it again
        texts = []
        for stream in (errors, out):
            stream.seek(0)
            texts.append(stream.read().decode(errors="replace"))
    return Run(
        seconds, used.ru_utime + used.ru_stime, memory.peak, memory.peak_own, process.returncode, "\n".join(texts)
    )


def _kill(session: int) -> None:
    """End a command and the children it left in its session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(session, signal.SIGKILL)


class _Memory:
    """Peak resident memory of a process and its descendants."""

    def __init__(self, pid: int) -> None:
        self.stop = threading.Event()
        self.peak = self.peak_own = 0
        self._pids = {pid}
        self._others = {int(name) for name in os.listdir("/proc") if name.isdecimal()} - {pid}  # noqa: PTH208

    def watch(self) -> None:
        while True:
            self._poll()
            if self.stop.wait(POLL_SECONDS):
                return

    def _poll(self) -> None:
        for name in os.listdir("/proc"):  # noqa: PTH208 - 50 times a second
            if name.isdecimal() and (pid := int(name)) not in self._pids and pid not in self._others:
                is_descendant = _field(pid, "PPid") in self._pids
                (self._pids if is_descendant else self._others).add(pid)
        resident = [_resident(pid) for pid in self._pids]
        # a peak between two readings is known for each process, not for their sum
        self.peak = max(self.peak, sum(now for now, _, _ in resident), *(peak for _, peak, _ in resident))
        self.peak_own = max(self.peak_own, sum(own for _, _, own in resident))


def _status(pid: int) -> dict[str, int]:
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:  # the process has ended
        return {}
    pairs = (line.split(None, 2)[:2] for line in text.splitlines() if line.startswith(("PPid", "Vm", "Rss")))
    return {name.rstrip(":"): int(value) for name, value in pairs}


def _field(pid: int, name: str) -> int:
    return _status(pid).get(name, -1)


def _resident(pid: int) -> tuple[int, int, int]:
    """Return the bytes resident now, at most so far, and now without pages of files."""
    status = _status(pid)
    now, peak, of_files = (status.get(name, 0) * 1024 for name in ("VmRSS", "VmHWM", "RssFile"))
    return now, peak, now - of_files


def machine() -> str:
    """Describe processor, cores, memory, system, Python and load."""
    models = [line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    memory = [int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")]
    return (
        f"{models[0] if models else platform.machine()}, {len(os.sched_getaffinity(0))} cores, "
        f"{memory[0] / 2**20:.0f} GiB, {platform.system()} {platform.release()}, Python {platform.python_version()}, "
        f"load before {os.getloadavg()[0]:.1f}"
    )


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
