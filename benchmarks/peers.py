"""Tools that netgen is compared with: how to install them, how to run them, what they report."""

from __future__ import annotations

import dataclasses
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from usage import Run

FOLDER = Path(__file__).parent
SCRIPTS = FOLDER / "peer_scripts"

#: Packets and flows that a tool reports; None if it does not.
Counts = tuple[int | None, int | None]


class AbsentError(Exception):
    """A tool cannot be installed; the message has the reason."""


@dataclasses.dataclass(frozen=True)
class Tool:
    """Something that reads a capture.

    Parameters
    ----------
    name : str
        On the command line and in the table.
    task : str
        The work that is measured.
    prepare : callable
        Takes the folder, installs or finds the tool and returns its version; raises `AbsentError`.
    command : callable
        Takes the folder, the capture and an output path; returns the command line.
    counts : callable
        Takes the run and the output path; returns the packets and flows that the tool reports.
    divisor : int
        The tool reads the first 1/divisor of the capture, and its time is scaled.
    repeats : int
        Maximum number of runs.
    """

    name: str
    task: str
    prepare: Callable[[Path], str]
    command: Callable[[Path, Path, Path], list[str]]
    counts: Callable[[Run, Path], Counts] = lambda _run, _out: (None, None)
    divisor: int = 1
    repeats: int = 1000


# -- installation ------------------------------------------------------------------------------


def _venv(name: str, *requirements: str) -> Callable[[Path], str]:
    """Return a function that installs a tool in a virtual environment of its own, once."""

    def prepare(folder: Path) -> str:
        home = folder / "venvs" / name
        done = home / "requirements.txt"
        if not done.is_file() or done.read_text().split() != list(requirements):
            print(f"installing {' '.join(requirements)} into {home}", file=sys.stderr, flush=True)
            _output([sys.executable, "-m", "venv", "--clear", home])
            _output([_bin(folder, name, "python"), *_PIP, *requirements])
            done.write_text("\n".join(requirements))
        listed = _output([_bin(folder, name, "python"), "-m", "pip", "freeze", "--disable-pip-version-check"])
        packages = [re.split("[=<>]", requirement)[0].lower() for requirement in requirements]
        versions = dict(line.lower().split("==") for line in listed.splitlines() if "==" in line)
        # the tool's own version needs no name
        return ", ".join(
            f"{package} {versions[package]}" if package != name else versions[name] for package in packages
        )

    return prepare


_PIP = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")


def _bin(folder: Path, venv: str, command: str) -> str:
    return str(folder / "venvs" / venv / "bin" / command)


def _output(words: Sequence[str | Path]) -> str:
    """Run a command and return its output; if it fails, the last line is the reason."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=600)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AbsentError(str(error)) from error
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        raise AbsentError(f"{Path(words[0]).name} failed: {lines[-1] if lines else done.returncode}")
    return done.stdout


def _installed(command: str, package: str, *version: str) -> Callable[[Path], str]:
    """Return a function that looks for a tool of the system."""

    def prepare(_folder: Path) -> str:
        if not shutil.which(command):
            raise AbsentError(f"not installed; Debian: apt-get install {package}")
        if not version:
            return ""
        done = subprocess.run([command, *version], capture_output=True, text=True, timeout=60)
        number = re.search(r"\d+(\.\d+\w*)+", done.stdout + done.stderr)
        return number.group() if number else ""

    return prepare


def _loop(folder: Path) -> str:
    for command in ("gcc", "cc"):
        if shutil.which(command):
            _output([command, "-O2", "-o", folder / "pcaploop", FOLDER / "pcaploop.c", "-lpcap"])
            return f"{command} {_output([command, '-dumpfullversion']).strip()}"
    raise AbsentError("no C compiler; Debian: apt-get install gcc libpcap-dev")


# -- reported counts -----------------------------------------------------------------------------


def _script_counts(run: Run, _out: Path) -> Counts:
    counts = re.search(r"packets=(\d+) flows=(\d+)", run.output)
    return (int(counts[1]), int(counts[2])) if counts else (None, None)


def _softflowd_counts(run: Run, _out: Path) -> Counts:
    packets, flows = (re.search(rf"{name}: (\d+)", run.output) for name in ("Packets processed", "Flows expired"))
    return (int(packets[1]) if packets else None, int(flows[1]) if flows else None)


def _nfdump_counts(_run: Run, out: Path) -> Counts:
    if not shutil.which("nfdump"):
        return None, None
    text = _output(["nfdump", "-R", out, "-I"])
    packets, flows = (re.search(rf"^{name}: (\d+)", text, re.MULTILINE) for name in ("Packets", "Flows"))
    return (int(packets[1]) if packets else None, int(flows[1]) if flows else None)


def _tshark_counts(run: Run, _out: Path) -> Counts:
    # ADDRESS <-> ADDRESS  frames bytes unit  frames bytes unit  frames bytes unit  start duration
    rows = [line.split() for line in run.output.splitlines() if "<->" in line]
    return sum(int(row[9]) for row in rows), len(rows)


def _csv_counts(_run: Run, out: Path) -> Counts:
    if not out.is_file() or not out.stat().st_size:
        return None, None
    head, *rows = (line.split(",") for line in out.read_text().splitlines())
    columns = [head.index(name) for name in ("tot_fwd_pkts", "tot_bwd_pkts")]
    return sum(int(row[column]) for row in rows for column in columns), len(rows)


# -- the tools ----------------------------------------------------------------------------------


def _script(name: str, *more: str, venv: str | None = None) -> Callable[[Path, Path, Path], list[str]]:
    def command(folder: Path, capture: Path, _out: Path) -> list[str]:
        python = _bin(folder, venv or name, "python")
        return [python, "-W", "ignore", str(SCRIPTS / f"{name}_flows.py"), str(capture), *more]

    return command


def _nfpcapd(_folder: Path, capture: Path, out: Path) -> list[str]:
    out.mkdir()
    return ["nfpcapd", "-r", str(capture), "-w", str(out)]


def _softflowd(_folder: Path, capture: Path, out: Path) -> list[str]:
    pid = out.with_suffix(".pid")
    # in the foreground, sending to a socket that is not read; without a control socket, at which it would wait
    return ["softflowd", "-d", "-r", str(capture), "-v", "9", "-n", _sink(), "-p", str(pid), "-c", "none"]


_sockets = list[socket.socket]()


def _sink() -> str:
    if not _sockets:
        _sockets.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        _sockets[0].bind(("127.0.0.1", 0))
    return f"127.0.0.1:{_sockets[0].getsockname()[1]}"


def _tshark(_folder: Path, capture: Path, _out: Path) -> list[str]:
    return ["tshark", "-n", "-r", str(capture), "-q", "-z", "conv,tcp", "-z", "conv,udp"]


def _prepare_cicflowmeter(folder: Path) -> str:
    _installed("tcpdump", "tcpdump")(folder)  # its scapy needs it
    return _venv("cicflowmeter", "cicflowmeter==0.2.0", "scapy==2.5.0")(folder)


def _cicflowmeter(folder: Path, capture: Path, out: Path) -> list[str]:
    return [_bin(folder, "cicflowmeter", "cicflowmeter"), "-f", str(capture), "-c", str(out)]


def _read(_folder: Path, capture: Path, _out: Path) -> list[str]:
    return ["dd", f"if={capture}", "of=/dev/null", "bs=128k"]


PEERS = [
    Tool("nfstream", "flow features and nDPI, its defaults", _venv("nfstream", "nfstream"), _script("nfstream"),
         _script_counts),
    Tool("nfstream-bare", "flow features only (n_dissections=0)", _venv("nfstream", "nfstream"),
         _script("nfstream", "bare"), _script_counts, divisor=4, repeats=3),
    Tool("dpkt", "a script: packets and bytes a flow", _venv("dpkt", "dpkt"), _script("dpkt"), _script_counts,
         divisor=2),
    Tool("scapy", "a script: packets and bytes a flow", _venv("scapy", "scapy"), _script("scapy"), _script_counts,
         divisor=40, repeats=3),
    Tool("tshark", "-q -z conv,tcp -z conv,udp", _installed("tshark", "tshark", "--version"), _tshark, _tshark_counts,
         divisor=4, repeats=3),
    Tool("cicflowmeter", "Python port, features to CSV", _prepare_cicflowmeter, _cicflowmeter,
         _csv_counts, divisor=100, repeats=3),
    Tool("softflowd", "totals, sent as NetFlow v9", _installed("softflowd", "softflowd", "-h"), _softflowd,
         _softflowd_counts),
    Tool("nfpcapd", "totals, to nfdump's files", _installed("nfpcapd", "nfdump", "-V"), _nfpcapd, _nfdump_counts),
    Tool("pcaploop", "libpcap and a hash table in C: totals, no output", _loop,
         lambda folder, capture, _out: [str(folder / "pcaploop"), str(capture)], _script_counts),
    Tool("read", "dd to /dev/null", _installed("dd", "coreutils", "--version"), _read),
]  # fmt: skip
