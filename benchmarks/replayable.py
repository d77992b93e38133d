"""Run other programs on captures of thousands of exported flows, and print a table of checks.

    python benchmarks/replayable.py
    NETGEN_SHARED_DATA=/path/to/data python benchmarks/replayable.py --flows 2000

Synthetic: flows of all classes of both shipped models, in equal numbers of each class of a model; of `video`, whose
flows have 8,000 packets each, one in a hundred. Real: flows chosen at random from those of the nDPI and
IoT Sentinel captures, of any size. Each sample is exported in three ways. nfstream must be
importable.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

import netgen
from netgen.capture.table.flow_table import FlowTable
from netgen.exporters.pcap.layout import lay_out, written_series
from netgen.exporters.pcap.options import CaptureOptions
from netgen.exporters.pcap.plan import plan
from netgen.exporters.verify.verify import verify
from netgen.exporters.write import write

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support import external_tools as outside  # noqa: E402

WAYS = {
    "zeros": CaptureOptions(rate=50),
    "TLS": CaptureOptions(seed=1, rate=50, payload="tls", sni="www.example.org"),
    "IPv6": CaptureOptions(seed=2, rate=50, ip_version="6"),
}


def samples(flows: int) -> dict[str, list[FlowTable]]:
    few = max(flows // 100, 4)
    made = [
        netgen.load("base").sample("all", flows - few, seed=1),
        netgen.load("video").sample("all", few, seed=1),
    ]
    data = Path(os.environ.get("NETGEN_SHARED_DATA", ROOT.parent / "shared" / "data")) / "captures"
    real = netgen.extract([data / "ndpi", data / "iot_setup"], label_by="folder")  # so that UDP has profiles
    rows = np.sort(np.random.default_rng(0).permutation(len(real))[:flows])
    return {"synthetic": made, "real": [real.take(rows)]}


def examine(table: FlowTable, options: CaptureOptions, folder: Path) -> dict[str, Any]:
    """Measure one capture; measurements of several captures can be added up."""
    path = folder / "x.pcap"
    report = write(table, path, options=options, force=True)
    truth = pq.read_table(folder / "x.labels.parquet").to_pylist()
    tcp = sum(row["protocol"] == 6 for row in truth)
    planned = plan(table, seed=options.seed, ip_version=options.ip_version)
    order = sorted(range(len(truth)), key=lambda row: (truth[row]["start_ns"], row))
    again = netgen.extract(path, spec_from=table, idle_timeout=1e9)
    same = (
        (again.series() == written_series(planned)[order]).all((1, 2))
        if len(again) == len(table)
        else np.zeros(len(table))
    )
    expert = outside.wireshark(path)
    became = Counter(row["connection"] for row in truth)
    remarks = outside.remarks(lay_out(planned, np.arange(len(table))), became["closed"])
    eve = outside.suricata(path, folder, patience=10**8)
    ids, ids_seen = {row["community_id"] for row in truth}, {flow["community_id"] for flow in eve["flows"]}
    wanted = Counter(map(outside.as_nfstream, truth))
    seen = Counter(outside.nfstream(path))
    traced, states = outside.tcptrace(path), outside.argus(path, folder)
    closed = sum(flow["proto"] == "TCP" and flow["tcp"]["state"] == "closed" for flow in eve["flows"])
    return {
        "flows": len(table),
        "of them TCP": tcp,
        "of them ICMP": sum(row["protocol"] in (1, 58) for row in truth),
        "of them IGMP, of which Suricata keeps no flows": sum(row["protocol"] == outside.IGMP for row in truth),
        "TCP, closed by a FIN each way": became["closed"],
        "TCP, reset": became["reset"],
        "TCP, refused": became["refused"],
        "TCP, half-open": became["half-open"],
        "TCP, unanswered": became["unanswered"],
        "flows whose series had to be changed": sum(row["repaired"] for row in truth),
        "flows with the series of the table": int((written_series(planned) == table.series()).all((1, 2)).sum()),
        "packets": report.packets,
        "flows whose (changed) series comes back, integer for integer": int(same.sum()),
        "Wireshark: errors": sum(expert.get("Errors", Counter()).values()),
        "Wireshark: warnings, but for one of each RST": _distance(expert.get("Warns", Counter()), remarks["Warns"]),
        "Wireshark: notes, but for the two of each closing, one of each repeated SYN": _distance(
            expert.get("Notes", Counter()), remarks["Notes"]
        ),
        "capinfos: captures not in strict order of time": int(not outside.strictly_ordered(path)),
        "tcprewrite -C: captures that differ": int(not outside.checksums_renewed(path, folder)),
        "Suricata: TCP flows closed": closed,
        "Suricata: events": eve["alerts"].total() + eve["anomalies"].total(),
        "Suricata: flows with the Community ID of the truth": len(ids & ids_seen),
        "Suricata: flows it sees": len(eve["flows"]),
        "Suricata: flows seen as TLS": sum(flow.get("app_proto") == "tls" for flow in eve["flows"]),
        "argus: TCP connections closed by FIN": states["tcp FIN"],
        "argus: TCP connections reset": states["tcp RST"],
        "argus: TCP connections asked for": states["tcp REQ"],
        "argus: TCP records in another state": sum(n for s, n in states.items() if s[:3] == "tcp")
        - sum(states[f"tcp {state}"] for state in ("FIN", "RST", "REQ")),
        "tcptrace: connections complete": traced["complete"],
        "tcptrace: packets out of order, or sent twice and no SYN": traced["out of order"]
        + abs(traced["sent twice"] - remarks["Notes"][outside.REPEATED]),
        "nfstream: flows with the truth's packets and bytes": (seen & wanted).total(),
        "netgen verify: issues": len(verify(path).issues),
    }


def _distance(actual: Counter[str], expected: Counter[str]) -> int:
    """Count the messages in which two counters differ."""
    return ((actual - expected) + (expected - actual)).total()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flows", type=int, default=2000)
    options = parser.parse_args()
    lacking = outside.missing(*(tool for tool in outside.PACKAGES if tool not in ("tcpreplay", "tcpdump")))
    if lacking:
        raise SystemExit(f"not installed: {lacking}")
    begun = time.perf_counter()
    columns: dict[str, Counter[str]] = {}
    for name, tables in samples(options.flows).items():
        for way, chosen in WAYS.items():
            total: Counter[str] = Counter()
            for table in tables:
                with tempfile.TemporaryDirectory() as folder:
                    total.update(examine(table, chosen, Path(folder)))
            columns[f"{name}, {way}"] = total
            print(f"{name}, {way}: {time.perf_counter() - begun:.0f} s", file=sys.stderr)
    print(f"| `python benchmarks/replayable.py --flows {options.flows}` | {' | '.join(columns)} |")
    print("|---|" + "---|" * len(columns))
    for row in next(iter(columns.values())):
        print(f"| {row} | " + " | ".join(f"{column[row]:,}" for column in columns.values()) + " |")


if __name__ == "__main__":
    main()
