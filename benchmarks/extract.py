"""Measure how fast netgen and other tools read the same capture in the same run.

    python benchmarks/extract.py --folder /tmp/bench
    python benchmarks/extract.py --folder /tmp/bench --only netgen,dpkt,small --repeats 1

Builds a capture of real traffic (`bigcapture`), runs netgen and each of the `peers` on it in turn, and prints Markdown:
packets per second, memory, ratios; then thresholds. Times are those of complete processes. Peers are installed into the
folder. Linux only.
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
from peers import PEERS, AbsentError, Tool

CHECKS = ("small", "many", "memory")

#: Speed of netgen over a peer's: (threads of netgen, peer, ratio, must or aim).
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
SMALL_SECONDS = 0.3  # for a capture of SMALL_PACKETS
SMALL_PACKETS = 12
MANY_MS = 2.0  # per file, for MANY_FILES files
MANY_FILES = 10_000
MEMORY_MB = 500

#: A tool that counts a smaller share of the IP packets is marked, as its speed cannot be compared.
MIN_COUNTED = 0.85

#: Ratio up to which the memory on a capture `--times` as long counts as equal.
MEMORY_TOLERANCE = 1.1


@dataclasses.dataclass
class Result:
    """The runs of a tool."""

    tool: Tool
    version: str = ""
    absent: str = ""
    capture: Big | None = None
    startup: float = 0
    runs: list[usage.Run] = dataclasses.field(default_factory=list)
    counts: peers.Counts = (None, None)
    out_bytes: int = 0
    digests: set[str] = dataclasses.field(default_factory=set)

    @property
    def seconds(self) -> list[float]:
        """Scale the times to the complete capture: all but the start grows with the packets."""
        # on a busy machine the start may take longer than it did alone
        starts = [min(self.startup, run.seconds / 2) for run in self.runs]
        return [start + (run.seconds - start) * self.tool.divisor for start, run in zip(starts, self.runs, strict=True)]

    def rate(self, of: Callable[[list[float]], float] = statistics.median) -> float:
        """Return packets of the complete capture per second."""
        assert self.capture is not None
        return self.capture.packets * self.tool.divisor / of(self.seconds)

    @property
    def memory_mb(self) -> float:
        return max(run.memory for run in self.runs) / 1e6

    @property
    def own_memory_mb(self) -> float:
        return max(run.own_memory for run in self.runs) / 1e6


# -- netgen ------------------------------------------------------------------------------------


def netgen_tools(command: str) -> list[Tool]:
    """Return netgen with one thread and with two, and without its compiled part."""

    def words(threads: int, _folder: Path, capture: Path, out: Path) -> list[str]:
        return [command, "extract", str(capture), "-o", str(out.with_suffix(".parquet")), "--threads", str(threads)]

    def version(_folder: Path) -> str:
        return subprocess.run([command, "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]

    def numpy_alone(folder: Path, capture: Path, out: Path) -> list[str]:
        return ["env", "NETGEN_COMPILED=0", *words(1, folder, capture, out)]

    commands: dict[str, Callable[[Path, Path, Path], list[str]]] = {
        f"netgen --threads {threads}": functools.partial(words, threads) for threads in (1, 2)
    }
    commands["netgen, NumPy alone"] = numpy_alone
    task = "series, names, addresses, to Parquet"
    return [Tool(name, task, version, command, _netgen_counts) for name, command in commands.items()]


def _netgen_counts(_run: usage.Run, out: Path) -> peers.Counts:
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
    """Run a tool once, inspect its output and remove it."""
    assert result.capture is not None
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        out = Path(scratch) / "out"
        run = usage.run(result.tool.command(folder, result.capture.path, out))
        if run.code:
            lines = [line for line in run.output.splitlines() if line.strip()]
            result.absent = f"failed with exit code {run.code}: {lines[-1] if lines else 'no output'}"
            log(f"{result.tool.name}: {result.absent}")
            return
        result.runs.append(run)
        result.counts = result.tool.counts(run, out)
        parquet = out.with_suffix(".parquet")
        if parquet.is_file():
            result.out_bytes = parquet.stat().st_size
            result.digests.add(hashlib.sha256(parquet.read_bytes()).hexdigest())
    task = f"{result.tool.name}, {result.capture.path.name}"
    log(f"{task}: {run.seconds:.2f} s ({run.cpu_seconds:.2f} s processor), {run.memory / 1e6:.0f} MB")


def compare(tools: list[Tool], big: Big, repeats: int, folder: Path) -> list[Result]:
    """Run all tools in turn, again and again, so that a slow phase of the machine affects all."""
    results = [Result(tool) for tool in tools]
    captures_by_share = {1: big}
    for result in results:
        try:
            result.version = result.tool.prepare(folder)
        except AbsentError as reason:
            result.absent = str(reason)
            log(f"{result.tool.name}: skipped, {reason}")
            continue
        divisor = result.tool.divisor
        if divisor not in captures_by_share:
            captures_by_share[divisor] = bigcapture.first_packets(
                big.path, big.packets // divisor, folder / f"first-{divisor}.pcap"
            )
        result.capture = captures_by_share[divisor]
    for item in captures_by_share.values():
        warm(item.path)
    small = bigcapture.first_packets(big.path, SMALL_PACKETS, folder / "small.pcap")
    for result in results:
        if result.tool.divisor > 1 and not result.absent:
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
    """Measure a file of 12 packets."""
    small = bigcapture.first_packets(big.path, SMALL_PACKETS, folder / "small.pcap")
    results = [Result(tool, capture=small) for tool in tools]
    for _ in range(repeats):
        for result in results:
            once(result, folder)
    return results


def many_files(tools: list[Tool], big: Big, folder: Path, files: int) -> list[Result]:
    """Measure thousands of small files in one call."""
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
    """Measure the memory for a longer capture, once with each tool."""
    warm(long.path)
    results = [Result(tool, capture=long) for tool in tools]
    for result in results:
        once(result, folder)
    return results


# -- report -----------------------------------------------------------------------------------


def table(head: str, rows: list[list[str]]) -> str:
    names = head.split(" | ")
    return "\n".join("| " + " | ".join(row) + " |" for row in [names, ["---"] * len(names), *rows])


def comparison(results: list[Result]) -> str:
    """Return the Markdown table of all tools."""
    own = [result for result in results if result.tool.name.startswith("netgen") and result.runs]
    head = "tool | version | does | million packets/s (best) | MB/s | peak MB (without files) | counts | flows"
    head += "".join(f" | {item.tool.name} / tool (best)" for item in own) + " | read"
    width = head.count(" | ") + 1
    rows = []
    for result in results:
        start = [result.tool.name, result.version, result.tool.task]
        if not result.runs or result.capture is None:
            rows.append([*start, *[""] * (width - 4), f"not measured: {result.absent}"])
            continue
        divisor = "all" if result.tool.divisor == 1 else f"first 1/{result.tool.divisor}"
        packets, flows = result.counts
        share = 1.0 if packets is None else packets / result.capture.ip_packets
        bytes_a_packet = result.capture.size / result.capture.packets
        rows.append(
            [
                *start,
                f"{result.rate() / 1e6:.4g} ({result.rate(min) / 1e6:.4g})",
                f"{result.rate() * bytes_a_packet / 1e6:.4g}",
                f"{result.memory_mb:.0f} ({result.own_memory_mb:.0f})",
                "" if packets is None else f"{share:.1%}" + ("" if share >= MIN_COUNTED else " (!)"),
                "" if flows is None else f"{flows:,}",
                *(f"{item.rate() / result.rate():.2f} ({item.rate(min) / result.rate(min):.2f})" for item in own),
                f"{divisor}, {len(result.runs)} x" + (f", then {result.absent}" if result.absent else ""),
            ]
        )
    return table(head, rows)


def thresholds(results: list[Result], checks: dict[str, list[Result]], times: int) -> list[list[str]]:
    """Return the thresholds, the measured values, and whether they hold."""
    by_name = {result.tool.name: result for result in results if result.runs}
    own = [result for name, result in by_name.items() if name.startswith("netgen")]
    rows = []

    def row(task: str, needed: str, outcome: str, good: bool) -> None:
        rows.append([task, needed, outcome, "yes" if good else "NO"])

    for threads, name, factor, kind in GOALS:
        netgen, peer = by_name.get(f"netgen --threads {threads}"), by_name.get(name)
        if netgen and peer:
            ratio = netgen.rate() / peer.rate()
            row(f"{netgen.tool.name} / {name}", f"{kind} be {factor}", f"{ratio:.3g}", ratio >= factor)
    for result in [item for outcome in checks.values() for item in outcome if not item.runs]:
        row(f"{result.tool.name}, {result.capture.path.name if result.capture else ''}", "a run", result.absent, False)
    for result in [item for item in checks.get("small", []) if item.runs]:
        seconds = statistics.median(result.seconds)
        task = f"{result.tool.name}, {SMALL_PACKETS} packets (best {min(result.seconds):.2f} s)"
        row(task, f"{SMALL_SECONDS} s", f"{seconds:.2f} s", seconds <= SMALL_SECONDS)
    for result in [item for item in checks.get("many", []) if item.capture and item.runs]:
        assert result.capture is not None
        files = result.capture.packets // SMALL_PACKETS
        file_ms = result.seconds[0] / files * 1e3
        row(f"{result.tool.name}, {files:,} files", f"{MANY_MS} ms a file", f"{file_ms:.2f} ms", file_ms <= MANY_MS)
    longs = {item.tool.name: item for item in checks.get("memory", []) if item.runs}
    for result in own:
        peak = f"{result.memory_mb:.0f} MB"
        row(f"{result.tool.name}, peak memory", f"{MEMORY_MB} MB", peak, result.memory_mb <= MEMORY_MB)
        if long := longs.get(result.tool.name):
            good = long.memory_mb <= min(MEMORY_MB, MEMORY_TOLERANCE * result.memory_mb)
            outcome = f"{long.memory_mb:.0f} MB ({long.own_memory_mb:.0f} without files, {long.seconds[0]:.1f} s)"
            row(
                f"the same, {times} times as long",
                f"{MEMORY_MB} MB, and {MEMORY_TOLERANCE} times the line above",
                outcome,
                good,
            )
    if own:
        digests = set().union(*(result.digests for result in own))
        row("files written by all runs of netgen", "1 content (sha256)", f"{len(digests)}", len(digests) == 1)
    return rows


def result_json(result: Result) -> dict[str, Any]:
    """Return a result as JSON types."""
    return {
        "tool": result.tool.name,
        "version": result.version,
        "skipped": result.absent,
        "divisor": result.tool.divisor,
        "packets": result.capture.packets if result.capture else None,
        "startup_seconds": result.startup,
        "seconds": [run.seconds for run in result.runs],
        "cpu_seconds": [run.cpu_seconds for run in result.runs],
        "memory_bytes": [run.memory for run in result.runs],
        "own_memory_bytes": [run.own_memory for run in result.runs],
        "counted_packets": result.counts[0],
        "counted_flows": result.counts[1],
        "out_bytes": result.out_bytes,
        "sha256": sorted(result.digests),
    }


def main() -> int:
    """Run the command line."""
    names = ["netgen", *(tool.name for tool in PEERS), *CHECKS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="captures and peers; kept (default: a temporary one)")
    parser.add_argument("--only", metavar="NAME,...", default=",".join(names), help=", ".join(names))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--megabytes", type=float, default=800, help="minimum size of the capture")
    parser.add_argument("--times", type=int, default=4, help="length of the long capture, in captures")
    parser.add_argument("--files", type=int, default=MANY_FILES, help="number of small files in one call")
    parser.add_argument("--netgen", default=str(Path(sys.executable).with_name("netgen")), metavar="COMMAND")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results to this file")
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
    """Build the captures, run the tools, print the report."""
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
        f"resident at once, polled every {usage.POLL_SECONDS * 1e3:.0f} ms. Counts: the share of the IP packets that "
        f"the tool reports; (!) under {MIN_COUNTED:.0%}.\n"
    )
    print(comparison(results))
    if rows := thresholds(results, checks, arguments.times):
        print("\n" + table("metric | threshold | measured | holds", rows))
    if arguments.json:
        summary = {
            "machine": machine,
            "command": command,
            "capture": {**dataclasses.asdict(big), "path": str(big.path)},
            "tools": [result_json(result) for result in results],
            "checks": {name: [result_json(result) for result in outcome] for name, outcome in checks.items()},
        }
        arguments.json.write_text(json.dumps(summary, indent=1) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
