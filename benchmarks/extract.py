"""How fast netgen reads captures, beside other tools, on the same capture in the same run.

    python benchmarks/extract.py --folder /tmp/bench
    python benchmarks/extract.py --folder /tmp/bench --only netgen,dpkt,small --repeats 1

Builds a capture of real traffic (`bigcapture`), gives it to netgen and to each of the `peers`, whole
processes in turn, and prints Markdown: packets a second, memory, ratios; then what must hold. Peers
are installed into the folder. Linux only.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import hashlib
import json
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bigcapture
import peers
import usage
from bigcapture import Big
from peers import PEERS, Absent, Tool

CHECKS = ("small", "many", "memory")

#: netgen must be so many times as fast: with how many processes, as what, how many times, must or aim.
GOALS = [
    (1, "nfstream", 14, "must"),
    (1, "dpkt", 22, "must"),
    (1, "scapy", 300, "must"),
    (1, "cicflowmeter", 900, "must"),
    (2, "nfstream", 20, "must"),
    (2, "dpkt", 30, "must"),
    (2, "softflowd", 1, "must"),
    (2, "nfpcapd", 1, "must"),
    (2, "pcaploop", 0.5, "aim"),
]
SMALL_S, SMALL_PACKETS = 0.3, 12
MANY_MS, MANY_FILES = 2.0, 10_000
MEMORY_MB = 500

#: A tool that counts a smaller share of the IP packets is marked: its speed is not to be compared.
MOST = 0.85

#: Memory on a capture `--times` as long counts as the same up to this.
SAME = 1.1


@dataclasses.dataclass
class Result:
    """What became of a tool."""

    tool: Tool
    version: str = ""
    absent: str = ""
    capture: Big | None = None
    startup: float = 0
    runs: list[usage.Run] = dataclasses.field(default_factory=list)
    seen: peers.Seen = (None, None)
    out_bytes: int = 0
    digests: set[str] = dataclasses.field(default_factory=set)

    @property
    def seconds(self) -> list[float]:
        """For the whole capture, if only a part of it was read: what is not start-up grows with the packets."""
        # on a busy machine a start may take longer than at other times
        starts = [min(self.startup, run.seconds / 2) for run in self.runs]
        return [start + (run.seconds - start) * self.tool.part for start, run in zip(starts, self.runs, strict=True)]

    def rate(self, of: Callable[[list[float]], float] = statistics.median) -> float:
        """Packets of the whole capture a second."""
        assert self.capture is not None
        return self.capture.packets * self.tool.part / of(self.seconds)

    @property
    def memory_mb(self) -> float:
        return max(run.memory for run in self.runs) / 1e6

    @property
    def own_memory_mb(self) -> float:
        return max(run.own_memory for run in self.runs) / 1e6


# -- netgen ------------------------------------------------------------------------------------


def netgen_tools(command: str) -> list[Tool]:
    """netgen with one thread and with two, or as it is while it has no --threads; and without its compiled part."""
    summary = subprocess.run([command, "extract", "--help"], capture_output=True, text=True, check=True).stdout
    modes: list[list[str]] = [["--threads", "1"], ["--threads", "2"]] if "--threads" in summary.split() else [[]]

    def words(mode: list[str], folder: Path, capture: Path, out: Path) -> list[str]:
        return [command, "extract", str(capture), "-o", str(out.with_suffix(".parquet")), *mode]

    def version(folder: Path) -> str:
        return subprocess.run([command, "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]

    def numpy_alone(folder: Path, capture: Path, out: Path) -> list[str]:
        return ["env", "NETGEN_COMPILED=0", *words(modes[0], folder, capture, out)]

    commands = {" ".join(["netgen", *mode]): functools.partial(words, mode) for mode in modes}
    commands["netgen, NumPy alone"] = numpy_alone
    task = "series, names, addresses, to Parquet"
    return [Tool(name, task, version, command, _netgen_seen) for name, command in commands.items()]


def _netgen_seen(run: usage.Run, out: Path) -> peers.Seen:
    import pyarrow.parquet as pq

    read_report = json.loads(pq.read_metadata(out.with_suffix(".parquet")).metadata[b"netgen"])["read_report"]
    return read_report["in_flows"], read_report["flows"]


# -- running -----------------------------------------------------------------------------------


def log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def warm(path: Path) -> None:
    """Bring a file into the page cache."""
    with path.open("rb", buffering=0) as stream:
        while stream.read(1 << 24):
            pass


def once(result: Result, folder: Path) -> None:
    """One run of a tool, with what it wrote looked at and removed."""
    assert result.capture is not None
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        out = Path(scratch) / "out"
        run = usage.run(result.tool.command(folder, result.capture.path, out))
        if run.code:
            lines = [line for line in run.output.splitlines() if line.strip()]
            result.absent = f"failed with exit code {run.code}: {lines[-1] if lines else 'no word'}"
            log(f"{result.tool.name}: {result.absent}")
            return
        result.runs.append(run)
        result.seen = result.tool.seen(run, out)
        parquet = out.with_suffix(".parquet")
        if parquet.is_file():
            result.out_bytes = parquet.stat().st_size
            result.digests.add(hashlib.sha256(parquet.read_bytes()).hexdigest())
    task = f"{result.tool.name}, {result.capture.path.name}"
    log(f"{task}: {run.seconds:.2f} s ({run.cpu_seconds:.2f} s processor), {run.memory / 1e6:.0f} MB")


def compare(tools: list[Tool], big: Big, repeats: int, folder: Path) -> list[Result]:
    """Every tool in turn, then all over again, so that a slow spell of the machine meets all."""
    results = [Result(tool) for tool in tools]
    captures_by_share = {1: big}
    for result in results:
        try:
            result.version = result.tool.prepare(folder)
        except Absent as reason:
            result.absent = str(reason)
            log(f"{result.tool.name}: left out, {reason}")
            continue
        divisor = result.tool.part
        if divisor not in captures_by_share:
            captures_by_share[divisor] = bigcapture.first_packets(
                big.path, big.packets // divisor, folder / f"first-{divisor}.pcap"
            )
        result.capture = captures_by_share[divisor]
    for item in captures_by_share.values():
        warm(item.path)
    small = bigcapture.first_packets(big.path, SMALL_PACKETS, folder / "small.pcap")
    for result in results:
        if result.tool.part > 1 and not result.absent:
            start = Result(result.tool, capture=small)
            for _ in range(3):
                once(start, folder)
            result.startup = min((run.seconds for run in start.runs), default=0)
    for number in range(repeats):
        for result in results:
            if not result.absent and number < result.tool.repeats:
                once(result, folder)
    return results


def small_file(tools: list[Tool], big: Big, repeats: int, folder: Path) -> list[Result]:
    """A file of 12 packets, start to finish."""
    small = bigcapture.first_packets(big.path, SMALL_PACKETS, folder / "small.pcap")
    results = [Result(tool, capture=small) for tool in tools]
    for _ in range(repeats):
        for result in results:
            once(result, folder)
    return results


def many_files(tools: list[Tool], big: Big, folder: Path, files: int) -> list[Result]:
    """Thousands of small files in one call."""
    home = folder / f"many-{files}"
    if not home.is_dir():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            bigcapture.small_files(big.path, Path(scratch) / "many", files=files, packets=SMALL_PACKETS)
            (Path(scratch) / "many").rename(home)
    results = [Result(tool, capture=Big(home, files * SMALL_PACKETS, 0, 0)) for tool in tools]
    for result in results:
        once(result, folder)
    return results


def long_capture(tools: list[Tool], long: Big, folder: Path) -> list[Result]:
    """A capture several times as long, once each, for its memory."""
    warm(long.path)
    results = [Result(tool, capture=long) for tool in tools]
    for result in results:
        once(result, folder)
    return results


# -- telling -----------------------------------------------------------------------------------


def table(head: str, rows: list[list[str]]) -> str:
    names = head.split(" | ")
    return "\n".join("| " + " | ".join(row) + " |" for row in [names, ["---"] * len(names), *rows])


def comparison(results: list[Result]) -> str:
    """The Markdown table of all tools."""
    ours = [result for result in results if result.tool.name.startswith("netgen") and result.runs]
    head = "tool | version | does | million packets/s (best) | MB/s | peak MB (without files) | counts | flows"
    head += "".join(f" | {item.tool.name} / tool (best)" for item in ours) + " | read"
    width = head.count(" | ") + 1
    rows = []
    for result in results:
        start = [result.tool.name, result.version, result.tool.what]
        if not result.runs or result.capture is None:
            rows.append([*start, *[""] * (width - 4), f"not measured: {result.absent}"])
            continue
        divisor = "all" if result.tool.part == 1 else f"first 1/{result.tool.part}"
        packets, flows = result.seen
        share = 1.0 if packets is None else packets / result.capture.ip_packets
        bytes_a_packet = result.capture.size / result.capture.packets
        rows.append(
            [
                *start,
                f"{result.rate() / 1e6:.4g} ({result.rate(min) / 1e6:.4g})",
                f"{result.rate() * bytes_a_packet / 1e6:.4g}",
                f"{result.memory_mb:.0f} ({result.own_memory_mb:.0f})",
                "" if packets is None else f"{share:.1%}" + ("" if share >= MOST else " (!)"),
                "" if flows is None else f"{flows:,}",
                *(f"{item.rate() / result.rate():.2f} ({item.rate(min) / result.rate(min):.2f})" for item in ours),
                f"{divisor}, {len(result.runs)} x" + (f", then {result.absent}" if result.absent else ""),
            ]
        )
    return table(head, rows)


def promises(results: list[Result], checks: dict[str, list[Result]], times: int) -> list[list[str]]:
    """What must hold, what was found, and whether that is enough."""
    by_name = {result.tool.name: result for result in results if result.runs}
    ours = [result for name, result in by_name.items() if name.startswith("netgen")]
    rows = []

    def row(task: str, needed: str, outcome: str, good: bool) -> None:
        rows.append([task, needed, outcome, "yes" if good else "NO"])

    for processes, name, factor, kind in GOALS:
        me, peer = by_name.get(f"netgen --threads {processes}", by_name.get("netgen")), by_name.get(name)
        if me and peer:
            ratio = me.rate() / peer.rate()
            row(f"{me.tool.name} / {name}", f"{kind} be {factor}", f"{ratio:.3g}", ratio >= factor)
    for result in [item for outcome in checks.values() for item in outcome if not item.runs]:
        row(f"{result.tool.name}, {result.capture.path.name if result.capture else ''}", "a run", result.absent, False)
    for result in [item for item in checks.get("small", []) if item.runs]:
        seconds = statistics.median(result.seconds)
        task = f"{result.tool.name}, {SMALL_PACKETS} packets (best {min(result.seconds):.2f} s)"
        row(task, f"{SMALL_S} s", f"{seconds:.2f} s", seconds <= SMALL_S)
    for result in [item for item in checks.get("many", []) if item.capture and item.runs]:
        files = result.capture.packets // SMALL_PACKETS
        file_ms = result.seconds[0] / files * 1e3
        row(f"{result.tool.name}, {files:,} files", f"{MANY_MS} ms a file", f"{file_ms:.2f} ms", file_ms <= MANY_MS)
    longs = {item.tool.name: item for item in checks.get("memory", []) if item.runs}
    for result in ours:
        peak = f"{result.memory_mb:.0f} MB"
        row(f"{result.tool.name}, peak memory", f"{MEMORY_MB} MB", peak, result.memory_mb <= MEMORY_MB)
        if long := longs.get(result.tool.name):
            good = long.memory_mb <= min(MEMORY_MB, SAME * result.memory_mb)
            outcome = f"{long.memory_mb:.0f} MB ({long.own_memory_mb:.0f} without files, {long.seconds[0]:.1f} s)"
            row(f"the same, {times} times as long", f"{MEMORY_MB} MB, and {SAME} times the line above", outcome, good)
    if ours:
        digests = set().union(*(result.digests for result in ours))
        row("files written by all runs of netgen", "1 content (sha256)", f"{len(digests)}", len(digests) == 1)
    return rows


def figures(result: Result) -> dict[str, Any]:
    """A result for the JSON file."""
    return {
        "tool": result.tool.name,
        "version": result.version,
        "left_out": result.absent,
        "part": result.tool.part,
        "packets": result.capture.packets if result.capture else None,
        "startup_seconds": result.startup,
        "seconds": [run.seconds for run in result.runs],
        "cpu_seconds": [run.cpu_seconds for run in result.runs],
        "memory_bytes": [run.memory for run in result.runs],
        "own_memory_bytes": [run.own_memory for run in result.runs],
        "seen_packets": result.seen[0],
        "seen_flows": result.seen[1],
        "out_bytes": result.out_bytes,
        "sha256": sorted(result.digests),
    }


def main() -> int:
    """The command line."""
    names = ["netgen", *(tool.name for tool in PEERS), *CHECKS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="captures and peers; kept (default: a temporary one)")
    parser.add_argument("--only", metavar="NAME,...", default=",".join(names), help=", ".join(names))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--megabytes", type=float, default=800, help="least size of the capture")
    parser.add_argument("--times", type=int, default=4, help="the long capture is so many times as long")
    parser.add_argument("--files", type=int, default=MANY_FILES, help="how many small files in one call")
    parser.add_argument("--netgen", default=str(Path(sys.executable).with_name("netgen")), metavar="COMMAND")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here, too")
    arguments = parser.parse_args()
    only = arguments.only.split(",")
    if unknown := set(only) - set(names):
        parser.error(f"--only: no {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    if not bigcapture.CAPTURES.is_dir():
        log(f"the shared captures are not at {bigcapture.CAPTURES}: set NETGEN_SHARED_DATA")
        return 1
    if not shutil.which(arguments.netgen):
        log(f"there is no netgen at {arguments.netgen}: install it here, or name it with --netgen")
        return 1
    with tempfile.TemporaryDirectory(prefix="netgen-bench.") as temporary:
        folder = (arguments.folder or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        measure(arguments, only, folder)
    return 0


def measure(arguments: argparse.Namespace, only: list[str], folder: Path) -> None:
    """Build, run, tell."""
    machine = usage.machine()
    big = bigcapture.build(folder / "big.pcap", arguments.megabytes)
    log(f"{big.path}: {big.size / 1e6:.0f} MB, {big.packets:,} packets")
    netgen = netgen_tools(arguments.netgen)
    tools = [*(netgen if "netgen" in only else []), *(tool for tool in PEERS if tool.name in only)]
    results = compare(tools, big, arguments.repeats, folder)
    checks: dict[str, list[Result]] = {}
    if "small" in only:
        checks["small"] = small_file(netgen, big, 2 * arguments.repeats, folder)
    if "many" in only:
        checks["many"] = many_files(netgen, big, folder, arguments.files)
    if "memory" in only and "netgen" in only:
        long = bigcapture.build(folder / "long.pcap", arguments.megabytes, times=arguments.times)
        checks["memory"] = long_capture(netgen, long, folder)
    command = shlex.join(["python", *sys.argv])
    print(f"`{command}` on {machine}\n")
    print(
        f"The capture: {big.size / 1e6:.0f} MB, {big.packets:,} packets ({big.ip_packets:,} of IP) of "
        f"{big.size / big.packets:.0f} bytes on average, {big.copies} copies of {big.files} real captures. It is in "
        f"the page cache. Medians of whole processes, all tools in turn; in brackets the best. A tool that reads a "
        f"part of it is scaled by packets, less its start-up. Memory is the most that a tool and its children had "
        f"resident at once, looked at every {usage.EVERY * 1e3:.0f} ms. Counts: the share of the IP packets that the "
        f"tool says it saw; (!) under {MOST:.0%}.\n"
    )
    print(comparison(results))
    if rows := promises(results, checks, arguments.times):
        print("\n" + table("what | needed | found | holds", rows))
    if arguments.json:
        summary = {
            "machine": machine,
            "command": command,
            "capture": {**dataclasses.asdict(big), "path": str(big.path)},
            "tools": [figures(result) for result in results],
            "checks": {name: [figures(result) for result in outcome] for name, outcome in checks.items()},
        }
        arguments.json.write_text(json.dumps(summary, indent=1) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
