"""Compare netgen, scapy and dpkt at rendering the same packets, and measure the memory of netgen export.

    python benchmarks/render.py
    python benchmarks/render.py --packets 1000000 --repeats 3  # quicker

The packets are those of flows sampled from a bundled model, as `netgen export` writes them. Two jobs are timed:

* render: header fields in columns (netgen) or tuples (the others) -> a capture file. All three write the same bytes,
  which is checked.
* whole: `netgen export TABLE -o FILE`, a process of its own: reading the table, packets, sequence numbers, order,
  the ground truth. The others have no such thing; their time to render is put beside it.

Memory is the most that the process had resident at once.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dpkt
import numpy as np
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from scapy.utils import PcapWriter

import netgen
from netgen.capture.table.flow_table import FlowTable, concat
from netgen.exporters.pcap.capture_file import FrameStream, pcap_header
from netgen.exporters.pcap.options import CaptureOptions
from netgen.exporters.pcap.render import render

NETGEN = Path(sys.executable).with_name("netgen")
Fields = tuple[int, bytes, bytes, bytes, bytes, int, int, int, int, int, int, int, int, bytes, int]


def fields(path: Path, number: int) -> list[Fields]:
    """Header fields of a capture's first packets: what scapy and dpkt are given."""
    out: list[Fields] = []
    with path.open("rb") as stream:
        stream.read(24)
        while len(out) < number and (head := stream.read(16)):
            seconds, fraction, kept, _ = struct.unpack("<4I", head)
            data = stream.read(kept)
            identity, ttl = int.from_bytes(data[18:20], "big"), data[22]
            ports = struct.unpack(">HH", data[34:38])
            seq, ack, offset, flags, window = struct.unpack(">IIBBH", data[38:50])
            end = 34 + (offset >> 4) * 4
            when, ends = seconds * 10**9 + fraction, (data[:6], data[6:12], data[26:30], data[30:34])
            rest = (seq, ack, flags, window, data[54:end], len(data) - end)
            out.append((when, *ends, identity, ttl, *ports, *rest))
    return out


def with_scapy(packets: list[Fields], path: Path) -> None:
    def address(four: bytes) -> str:
        return ".".join(map(str, four))

    def mac(six: bytes) -> str:
        return six.hex(":")

    def unpacked(options: bytes) -> Any:
        return TCP(struct.pack(">HHIIBBHHH", 0, 0, 0, 0, (20 + len(options)) // 4 << 4, 0, 0, 0, 0) + options).options

    known: dict[bytes, Any] = {}
    ready: list[Any] = []
    for packet in packets:  # options as scapy wants them: not timed in the caller's loop, but once a shape
        options = packet[13]
        stamps = options[4:12] if options[:4] == b"\1\1\x08\x0a" else b""
        if stamps:
            ready.append([("NOP", None), ("NOP", None), ("Timestamp", struct.unpack(">II", stamps))])
        else:
            ready.append(known.setdefault(options, unpacked(options)))
    begun = time.perf_counter()
    with PcapWriter(str(path), nano=True, linktype=1, snaplen=262_144, sync=False) as out:
        for packet, parsed in zip(packets, ready, strict=True):
            when, to, sender, src, dst, identity, ttl, sport, dport, seq, ack, flags, window, _, payload = packet
            frame = (
                Ether(dst=mac(to), src=mac(sender))
                / IP(src=address(src), dst=address(dst), id=identity, ttl=ttl, flags="DF")
                / TCP(sport=sport, dport=dport, seq=seq, ack=ack, flags=flags, window=window, options=parsed)
            )
            if payload:
                frame = frame / Raw(bytes(payload))
            frame.time = when / 10**9
            out.write(frame)
    with_scapy.seconds = time.perf_counter() - begun  # type: ignore[attr-defined]


def with_dpkt(packets: list[Fields], path: Path) -> None:
    begun = time.perf_counter()
    with path.open("wb") as stream:
        out = dpkt.pcap.Writer(stream, nano=True, snaplen=262_144, linktype=1)
        for (
            when,
            to,
            sender,
            src,
            dst,
            identity,
            ttl,
            sport,
            dport,
            seq,
            ack,
            flags,
            window,
            options,
            payload,
        ) in packets:
            tcp = dpkt.tcp.TCP(sport=sport, dport=dport, seq=seq, ack=ack, flags=flags, win=window, opts=options,
                               off=(20 + len(options)) // 4, data=bytes(payload))  # fmt: skip
            ip = dpkt.ip.IP(src=src, dst=dst, id=identity, ttl=ttl, p=6, df=1, data=tcp)
            ip.len = len(ip)
            out.writepkt_time(bytes(dpkt.ethernet.Ethernet(dst=to, src=sender, type=0x800, data=ip)), when / 10**9)
    with_dpkt.seconds = time.perf_counter() - begun  # type: ignore[attr-defined]


def same_packets(path: Path, other: Path, number: int) -> bool:
    """Whether the packets are equal; times, which dpkt takes as floats, are left out."""

    def packets(path: Path) -> Iterator[bytes]:
        with path.open("rb") as stream:
            stream.read(24)
            for _ in range(number):
                yield stream.read(struct.unpack("<4I", stream.read(16))[2])

    return all(a == b for a, b in zip(packets(path), packets(other), strict=True))


def timed(job: Callable[[], float], repeats: int) -> float:
    """Median of some runs' seconds."""
    return statistics.median(job() for _ in range(repeats))


def render_all(table: FlowTable, path: Path) -> tuple[float, int]:
    """Render and write all frames of a table, which are in memory; return the seconds and the packets."""
    stream = FrameStream(table, CaptureOptions())
    batches = list(stream)
    begin = time.perf_counter()
    with path.open("wb") as file:
        file.write(pcap_header())
        for batch in batches:
            file.write(render(batch, stream.endpoints).data)
    return time.perf_counter() - begin, sum(map(len, batches))


_WATCH = """
import os, subprocess, sys, time
begun = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
process.returncode = os.waitstatus_to_exitcode(status)
print(time.perf_counter() - begun, usage.ru_maxrss)
sys.exit(process.returncode)
"""


def run_process(words: list[str | Path]) -> tuple[float, float]:
    """Measure the seconds of a process, and the MB of memory it had at most."""
    # by way of a small process: the memory of whoever starts a process counts as its own
    done = subprocess.run([sys.executable, "-c", _WATCH, *map(str, words)], capture_output=True, text=True, check=True)
    seconds, memory = done.stdout.split()
    return float(seconds), float(memory) / 1000


def tiled(table: FlowTable, packets: int) -> FlowTable:
    """Repeat the table until it has about so many packets."""
    times = max(round(packets / sum(table.table["packets"].to_pylist())), 1)
    return concat([table] * times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packets", type=int, default=10_000_000, help="packets of the run that measures memory")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = netgen.load("base").sample("all", 480, seed=0)
        few = tiled(base, 1_000_000)
        few.write(folder / "few.parquet")
        words: list[str | Path] = [NETGEN, "export", folder / "few.parquet", "-o", folder / "few.pcap", "--force"]
        run_process(words)
        number = (folder / "few.pcap").stat().st_size
        rows = []
        for tool, function, many in (("scapy", with_scapy, 4_000), ("dpkt", with_dpkt, 60_000)):
            given = fields(folder / "few.pcap", many)

            def job(function: Callable[..., None] = function, given: list[Fields] = given) -> float:
                function(given, folder / "other.pcap")
                return float(function.seconds)  # type: ignore[attr-defined]

            rate = many / timed(job, options.repeats)
            if not same_packets(folder / "few.pcap", folder / "other.pcap", many):
                raise SystemExit(f"{tool} wrote other packets than netgen")
            rows.append((tool, rate, many))
        rendered = [render_all(few, folder / "other.pcap") for _ in range(options.repeats)]
        if (folder / "other.pcap").read_bytes() != (folder / "few.pcap").read_bytes():
            raise SystemExit("rendering gave another file than the command")
        packets = rendered[0][1]
        render_rate = packets / statistics.median(seconds for seconds, _ in rendered)
        export_rate = packets / timed(lambda: run_process(words)[0], options.repeats)
        machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
        command = f"python benchmarks/render.py --packets {options.packets} --repeats {options.repeats}"
        print(f"`{command}` on {machine}, numpy {np.__version__}, load {os.getloadavg()[0]:.1f}\n")
        print(f"{packets:,} packets of {len(few):,} flows, {number / packets - 16:.0f} bytes on average. Medians.\n")
        print("| tool | packets timed | packets a second | netgen renders / tool | netgen export / tool |")
        print("|---|---|---|---|---|")
        for tool, rate, many in rows:
            print(f"| {tool} | {many:,} | {rate:,.0f} | {render_rate / rate:,.1f} | {export_rate / rate:,.1f} |")
        print(f"| netgen, render | {packets:,} | {render_rate:,.0f} | 1 | |")
        print(f"| netgen export, whole | {packets:,} | {export_rate:,.0f} | | 1 |\n")
        (folder / "few.pcap").unlink()
        (folder / "other.pcap").unlink()

        print("| capture | packets | flows | seconds | packets a second | MB of memory |")
        print("|---|---|---|---|---|---|")
        video = netgen.load("video").sample("all", 40, seed=0)
        for name, source, more in (
            ("short flows", base, []),
            ("short flows, all at once", base, ["--rate", "1e6"]),
            ("long flows, all at once", video, ["--rate", "1e6"]),
        ):
            table = tiled(source, options.packets)
            table.write(folder / "many.parquet", force=True)
            flows = len(table)
            del table
            words = [NETGEN, "export", folder / "many.parquet", "-o", folder / "many.pcap.zst", "--force", *more]
            seconds, memory = run_process(words)
            made = int(np.sum(netgen_packets(folder / "many.labels.parquet")))
            print(
                f"| {name} | {made:,} | {flows:,} | {seconds:.1f} | {made / seconds:,.0f} | {memory:.0f} |", flush=True
            )


def netgen_packets(path: Path) -> np.ndarray:
    import pyarrow.parquet as pq

    rows = pq.read_table(path, columns=["up_packets", "down_packets"])
    counts: np.ndarray = rows["up_packets"].to_numpy() + rows["down_packets"].to_numpy()
    return counts


if __name__ == "__main__":
    main()
