"""The tools that netgen is measured against: how to get them, how to run them, what they say they saw."""

from __future__ import annotations

import dataclasses
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from usage import Run

HERE = Path(__file__).parent
SCRIPTS = HERE / "peer_scripts"

#: Packets and flows that a tool reports; None where it does not.
Seen = tuple[int | None, int | None]


class Absent(Exception):
    """A tool that cannot be had here; its text says why."""


@dataclasses.dataclass(frozen=True)
class Tool:
    """Something that reads a capture.

    Parameters
    ----------
    name : str
        What it is called on the command line and in the table.
    what : str
        What it does here, in a few words.
    prepare : callable
        Given the folder, installs or finds the tool and returns its version; raises `Absent`.
    command : callable
        Given the folder, the capture and a path to write to, the words of the command line.
    seen : callable
        Given the run and the path written to, what the tool says it saw.
    part : int
        It is given the first 1/part of the capture, and what it takes is scaled.
    repeats : int
        Runs at most.
    """

    name: str
    what: str
    prepare: Callable[[Path], str]
    command: Callable[[Path, Path, Path], list[str]]
    seen: Callable[[Run, Path], Seen] = lambda run, out: (None, None)
    part: int = 1
    repeats: int = 1000


# -- getting them ------------------------------------------------------------------------------


def _venv(name: str, *requirements: str) -> Callable[[Path], str]:
    """A tool in a virtual environment of its own, made once."""

    def prepare(folder: Path) -> str:
        home = folder / "venvs" / name
        done = home / "requirements.txt"
        if not done.is_file() or done.read_text().split() != list(requirements):
            print(f"installing {' '.join(requirements)} into {home}", file=sys.stderr, flush=True)
            for words in ([sys.executable, "-m", "venv", "--clear", home], [_bin(folder, name, "python"), *_PIP]):
                _quietly([*words, *requirements] if "pip" in words else words)
            done.write_text("\n".join(requirements))
        listed = _quietly([_bin(folder, name, "python"), "-m", "pip", "freeze", "--disable-pip-version-check"])
        wanted = [re.split("[=<>]", each)[0].lower() for each in requirements]
        versions = (line.split("==") for line in listed.splitlines() if "==" in line)
        found = {package.lower(): number for package, number in versions}
        # the tool's own version stands for itself
        return ", ".join(f"{each} {found[each]}" if each != name else found[each] for each in wanted)

    return prepare


_PIP = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")


def _bin(folder: Path, venv: str, command: str) -> str:
    return str(folder / "venvs" / venv / "bin" / command)


def _quietly(words: list[str | Path]) -> str:
    """What a command prints; its last line is the reason if it fails."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=600)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Absent(str(error)) from error
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        raise Absent(f"{Path(words[0]).name} failed: {lines[-1] if lines else done.returncode}")
    return done.stdout


def _found(command: str, package: str, *version: str) -> Callable[[Path], str]:
    """A tool of the system."""

    def prepare(folder: Path) -> str:
        if not shutil.which(command):
            raise Absent(f"not here; Debian has it: apt-get install {package}")
        if not version:
            return ""
        done = subprocess.run([command, *version], capture_output=True, text=True, timeout=60)
        found = re.search(r"\d+(\.\d+\w*)+", done.stdout + done.stderr)
        return found.group() if found else ""

    return prepare


def _loop(folder: Path) -> str:
    for command in ("gcc", "cc"):
        if shutil.which(command):
            _quietly([command, "-O2", "-o", folder / "pcaploop", HERE / "pcaploop.c", "-lpcap"])
            return f"{command} {_quietly([command, '-dumpfullversion']).strip()}"
    raise Absent("no C compiler; Debian: apt-get install gcc libpcap-dev")


# -- what they saw -----------------------------------------------------------------------------


def _script_seen(run: Run, out: Path) -> Seen:
    found = re.search(r"packets=(\d+) flows=(\d+)", run.output)
    return (int(found[1]), int(found[2])) if found else (None, None)


def _softflowd_seen(run: Run, out: Path) -> Seen:
    packets, flows = (re.search(rf"{name}: (\d+)", run.output) for name in ("Packets processed", "Flows expired"))
    return (int(packets[1]) if packets else None, int(flows[1]) if flows else None)


def _nfdump_seen(run: Run, out: Path) -> Seen:
    if not shutil.which("nfdump"):
        return None, None
    text = _quietly(["nfdump", "-R", out, "-I"])
    packets, flows = (re.search(rf"^{name}: (\d+)", text, re.MULTILINE) for name in ("Packets", "Flows"))
    return (int(packets[1]) if packets else None, int(flows[1]) if flows else None)


def _tshark_seen(run: Run, out: Path) -> Seen:
    # ADDRESS <-> ADDRESS  frames bytes unit  frames bytes unit  frames bytes unit  start duration
    rows = [line.split() for line in run.output.splitlines() if "<->" in line]
    return sum(int(row[9]) for row in rows), len(rows)


def _csv_seen(run: Run, out: Path) -> Seen:
    if not out.is_file() or not out.stat().st_size:
        return None, None
    head, *rows = (line.split(",") for line in out.read_text().splitlines())
    columns = [head.index(name) for name in ("tot_fwd_pkts", "tot_bwd_pkts")]
    return sum(int(row[column]) for row in rows for column in columns), len(rows)


# -- the list ----------------------------------------------------------------------------------


def _script(name: str, *more: str, venv: str | None = None) -> Callable[[Path, Path, Path], list[str]]:
    def command(folder: Path, capture: Path, out: Path) -> list[str]:
        python = _bin(folder, venv or name, "python")
        return [python, "-W", "ignore", str(SCRIPTS / f"{name}_flows.py"), str(capture), *more]

    return command


def _nfpcapd(folder: Path, capture: Path, out: Path) -> list[str]:
    out.mkdir()
    return ["nfpcapd", "-r", str(capture), "-w", str(out)]


def _softflowd(folder: Path, capture: Path, out: Path) -> list[str]:
    pid = out.with_suffix(".pid")
    # in the foreground, sending its records to a socket of ours that nobody reads; with a control
    # socket it would wait for a command at the end
    return ["softflowd", "-d", "-r", str(capture), "-v", "9", "-n", _sink(), "-p", str(pid), "-c", "none"]


_sockets = list[socket.socket]()


def _sink() -> str:
    if not _sockets:
        _sockets.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        _sockets[0].bind(("127.0.0.1", 0))
    return f"127.0.0.1:{_sockets[0].getsockname()[1]}"


def _tshark(folder: Path, capture: Path, out: Path) -> list[str]:
    return ["tshark", "-n", "-r", str(capture), "-q", "-z", "conv,tcp", "-z", "conv,udp"]


def _cicflowmeter_ready(folder: Path) -> str:
    _found("tcpdump", "tcpdump")(folder)  # its scapy reads with it
    return _venv("cicflowmeter", "cicflowmeter==0.2.0", "scapy==2.5.0")(folder)


def _cicflowmeter(folder: Path, capture: Path, out: Path) -> list[str]:
    return [_bin(folder, "cicflowmeter", "cicflowmeter"), "-f", str(capture), "-c", str(out)]


def _read(folder: Path, capture: Path, out: Path) -> list[str]:
    return ["dd", f"if={capture}", "of=/dev/null", "bs=128k"]


PEERS = [
    Tool("nfstream", "flow features and nDPI, its defaults", _venv("nfstream", "nfstream"), _script("nfstream"),
         _script_seen),
    Tool("nfstream-bare", "flow features only (n_dissections=0)", _venv("nfstream", "nfstream"),
         _script("nfstream", "bare"), _script_seen, part=4, repeats=3),
    Tool("dpkt", "a script: packets and bytes a flow", _venv("dpkt", "dpkt"), _script("dpkt"), _script_seen,
         part=2),
    Tool("scapy", "a script: packets and bytes a flow", _venv("scapy", "scapy"), _script("scapy"), _script_seen,
         part=40, repeats=3),
    Tool("tshark", "-q -z conv,tcp -z conv,udp", _found("tshark", "tshark", "--version"), _tshark, _tshark_seen,
         part=4, repeats=3),
    Tool("cicflowmeter", "Python port, features to CSV", _cicflowmeter_ready, _cicflowmeter,
         _csv_seen, part=100, repeats=3),
    Tool("softflowd", "totals, sent as NetFlow v9", _found("softflowd", "softflowd", "-h"), _softflowd,
         _softflowd_seen),
    Tool("nfpcapd", "totals, to nfdump's files", _found("nfpcapd", "nfdump", "-V"), _nfpcapd, _nfdump_seen),
    Tool("pcaploop", "libpcap and a hash table in C: totals, no output", _loop,
         lambda folder, capture, out: [str(folder / "pcaploop"), str(capture)], _script_seen),
    Tool("read", "dd to /dev/null", _found("dd", "coreutils", "--version"), _read),
]  # fmt: skip
