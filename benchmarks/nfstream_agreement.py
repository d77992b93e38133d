"""Compare flow tables of netgen and nfstream on the same captures, and explain the differences.

    python benchmarks/nfstream_agreement.py --nfstream /path/to/venv/bin/python

nfstream stays in an environment of its own. A table is the multiset of (both ends with their ports,
protocol, packets, IP bytes). Where the two differ, the slow second implementation of netgen's rules
(tests/support/oracle.py) is given nfstream's habits, one at a time, until the tables are equal: the fewest habits
that do it are the reason. A capture that no habits explain is listed under "not explained".
"""

from __future__ import annotations

import argparse
import dataclasses
import ipaddress
import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import netgen

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("NETGEN_SHARED_DATA", ROOT.parent / "shared" / "data"))

NFSTREAM = """
import json, sys, nfstream
print(json.dumps(nfstream.__version__))
for path in sys.stdin.read().splitlines():
    streamer = nfstream.NFStreamer(
        source=path, idle_timeout=120, active_timeout=2**31 - 1, accounting_mode=1, decode_tunnels=False,
        n_dissections=0, statistical_analysis=False, n_meters=1, snapshot_length=65535)
    rows = [[f.src_ip, f.src_port, f.dst_ip, f.dst_port, f.protocol, f.bidirectional_packets, f.bidirectional_bytes]
            for f in streamer]
    print(json.dumps([path, rows]), flush=True)
"""

#: What nfstream 6.6 does otherwise; its source says so (lib_engine.c, meter.py) and the comparison shows it.
ECHO = "ICMP: the identifier of an echo is not part of the key"
LATER = "later fragments are dropped"
INNER = "IP in IP: always the inner packet counts"
ZERO = "packets with an IP length of 0 (offload) are dropped"
SHORT = "TCP of under 20 bytes and UDP of under 8 have ports 0"
CUT = "IPv6 packets that were not captured whole are dropped"
PORTS = "SCTP, DCCP and UDP-Lite have ports 0"
SPLIT = "SYN, FIN and RST end no flow"
CLOCK = "times in milliseconds, set up to the latest seen; idle from 120.000 s on"
HABITS = (ECHO, LATER, INNER, ZERO, SHORT, CUT, PORTS, SPLIT, CLOCK)

#: Most habits that explain one capture.
MAX_HABITS = 4

Row = tuple[Any, ...]

sys.path.insert(0, str(ROOT / "tests"))
from support import oracle  # noqa: E402


def row(src: str, src_port: int | None, dst: str, dst_port: int | None, *rest: Any) -> Row:
    """Make a row without the direction of the flow; unknown ports are 0."""
    ends = ((str(ipaddress.ip_address(src)), src_port or 0), (str(ipaddress.ip_address(dst)), dst_port or 0))
    return (*sorted(ends), *rest)


def nfstream_tables(python: str, paths: list[Path]) -> tuple[str, dict[Path, Counter[Row]]]:
    """Run nfstream. Return its version, and the flows of each capture."""
    run = subprocess.run(
        [python, "-c", NFSTREAM], input="\n".join(map(str, paths)), capture_output=True, text=True, check=True
    )
    version, *tables = [json.loads(line) for line in run.stdout.splitlines() if line.startswith(("[", '"'))]
    return version, {Path(path): Counter(row(*flow) for flow in rows) for path, rows in tables}


def netgen_table(path: Path) -> Counter[Row]:
    """Extract the flows of a capture with netgen."""
    table = netgen.extract([path], bin_width="1s", length=4).table
    names = ("src", "src_port", "dst", "dst_port", "protocol", "packets", "bytes")
    return Counter(row(*flow) for flow in zip(*(table[name].to_pylist() for name in names), strict=True))


def rules_table(path: Path) -> Counter[Row]:
    """Assemble the flows of a capture by the rules alone."""
    order = (1, 2, 3, 4, 0, 8, 9)
    rows: Iterator[tuple[Any, ...]] = (flow.row() for flow in oracle.flows_of(path))
    return Counter(row(*(values[index] for index in order)) for values in rows)


def table_with_habits(path: Path, habits: frozenset[str]) -> Counter[Row]:
    """Assemble the flows by the rules, but with some of nfstream's habits."""
    packets = list(_packets_with_habits(path, habits))
    if CLOCK in habits:
        latest = 0
        for index, packet in enumerate(packets):
            latest = max(latest, packet.time_ns // 1_000_000)
            packets[index] = dataclasses.replace(packet, time_ns=latest * 1_000_000)
    if SPLIT in habits:
        packets = [dataclasses.replace(packet, flags=0) for packet in packets]
    table: Counter[Row] = Counter()
    for flow in oracle.assemble(packets, oracle.IDLE_NS - (CLOCK in habits)):
        one = flow.packets[0]
        ends = (str(ipaddress.ip_address(one.src)), one.sender[1], str(ipaddress.ip_address(one.dst)), one.receiver[1])
        table[row(*ends, one.protocol, len(flow.packets), sum(packet.size for packet in flow.packets))] += 1
    return table


def _packets_with_habits(path: Path, habits: frozenset[str]) -> Iterator[Any]:
    for record in oracle.records(path):
        try:
            at, kind, _ = oracle.find_ip(record)
            if INNER in habits:
                record = _innermost(record, at, kind)
                at, kind, _ = oracle.find_ip(record)
            packet = oracle.packet(record)
        except oracle.NotIPError:
            continue
        length = int.from_bytes(record.data[at + 2 : at + 4] if kind == 0x0800 else record.data[at + 4 : at + 6], "big")
        header = (record.data[at] & 15) * 4 if kind == 0x0800 else 0
        if ZERO in habits and length == 0 and kind == 0x0800:
            continue
        if CUT in habits and kind == 0x86DD and len(record.data) < at + 40 + length:
            continue
        if LATER in habits and packet.ports is None:
            continue
        if ECHO in habits and packet.protocol in (oracle.ICMP, oracle.ICMPV6) and packet.ports:
            packet = dataclasses.replace(packet, ports=(0, 0))
        if PORTS in habits and packet.protocol in (33, 132, 136) and packet.ports:
            packet = dataclasses.replace(packet, ports=(0, 0))
        if (
            SHORT in habits
            and packet.ports
            and length - header < {oracle.TCP: 20, oracle.UDP: 8}.get(packet.protocol, 0)
        ):
            packet = dataclasses.replace(packet, ports=(0, 0), flags=0)
        yield packet


def _innermost(record: Any, at: int, kind: int) -> Any:
    """Strip the IP headers around the innermost packet of IP-in-IP."""
    while True:
        if kind == 0x0800:
            following, next_at = record.data[at + 9 : at + 10], at + (record.data[at] & 15) * 4
        else:
            following, next_at = record.data[at + 6 : at + 7], at + 40
        if following not in (b"\x04", b"\x29") or next_at <= at:
            return record
        record = oracle.Record(record.time_ns, 101, record.wire - next_at, record.data[next_at:])
        at, kind, _ = oracle.find_ip(record)


def reason(path: Path, nfstream_flows: Counter[Row]) -> tuple[str, ...] | None:
    """Find the fewest habits with which the rules give nfstream's table."""
    for count in range(MAX_HABITS + 1):
        for habits in itertools.combinations(HABITS, count):
            if table_with_habits(path, frozenset(habits)) == nfstream_flows:
                return habits
    return None


def main() -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nfstream", required=True, metavar="PYTHON", help="an interpreter that has nfstream")
    parser.add_argument("--rules", action="store_true", help="tests/support/oracle.py in netgen's place")
    parser.add_argument("--folder", default="ndpi", help="folder of the shared captures")
    arguments = parser.parse_args()
    paths = sorted(path for path in (DATA / "captures" / arguments.folder).rglob("*") if path.is_file())
    if not paths:
        print(f"the shared captures are not at {DATA}: set NETGEN_SHARED_DATA", file=sys.stderr)
        return 1
    version, nfstream_flows = nfstream_tables(arguments.nfstream, paths)
    equal = flows = equal_flows = 0
    reasons: Counter[str] = Counter()
    alone: Counter[str] = Counter()
    unexplained = []
    for path in paths:
        ours = rules_table(path) if arguments.rules else netgen_table(path)
        flows += ours.total()
        equal_flows += (ours & nfstream_flows[path]).total()
        if ours == nfstream_flows[path]:
            equal += 1
            continue
        habits = reason(path, nfstream_flows[path])
        if habits is None:
            unexplained.append(f"{path.name}: {(nfstream_flows[path] - ours).total()} flows of nfstream's, "
                               f"{(ours - nfstream_flows[path]).total()} of netgen's")  # fmt: skip
        elif not habits:
            unexplained.append(
                f"{path.name}: tests/support/oracle.py has nfstream's flows; it reads fewer link types than netgen"
            )
        for habit in habits or ():
            reasons[habit] += 1
            alone[habit] += len(habits or ()) == 1
    print(f"nfstream {version}, {len(paths)} captures: equal flow tables on {equal}; "
          f"{equal_flows} of netgen's {flows} flows are nfstream's too\n")  # fmt: skip
    print("| nfstream's habit | captures that differ for it | for it alone |\n|---|---|---|")
    for habit, count in reasons.most_common():
        print(f"| {habit} | {count} | {alone[habit]} |")
    print(f"| not explained | {len(unexplained)} | |\n")
    print("\n".join(unexplained))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
