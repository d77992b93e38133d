"""Run other programs on a capture. Also used by benchmarks/replayable.py.

Each function runs one program and returns its results; none of them asserts.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import shutil
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from netgen.capture.headers import TCP_ACK, TCP_RST, TCP_SYN
from netgen.exporters.pcap.packets import Packets

PACKAGES = {
    "tshark": "tshark",
    "capinfos": "tshark",
    "tcprewrite": "tcpreplay",
    "tcpreplay": "tcpreplay",
    "argus": "argus-server",
    "ra": "argus-client",
    "tcptrace": "tcptrace",
    "suricata": "suricata",
    "tcpdump": "tcpdump",
}

#: TCP and UDP; and a protocol of which Suricata keeps no flows.
PORTED, IGMP = (6, 17), 2

RULES = Path("/etc/suricata/rules")

#: Event rules that can apply to the traffic that netgen writes.
RULE_FILES = ("stream-events", "decoder-events", "app-layer-events", "tls-events", "quic-events")

_SURICATA = """\
%YAML 1.1
---
max-pending-packets: 1024
stats: {{enabled: no}}
logging: {{default-log-level: error}}
vars:
  address-groups: {{HOME_NET: "any", EXTERNAL_NET: "any"}}
outputs:
  - eve-log:
      enabled: yes
      filename: eve.json
      community-id: true
      community-id-seed: 0
      types:
        - alert
        - flow
        - tls: {{extended: yes}}
        - anomaly: {{enabled: yes, types: {{decode: yes, stream: yes, applayer: yes}}}}
app-layer: {{protocols: {{tls: {{enabled: yes, detection-ports: {{dp: 443}}}}, quic: {{enabled: yes}}}}}}
classification-file: /etc/suricata/classification.config
reference-config-file: /etc/suricata/reference.config
flow: {{memcap: 2gb, hash-size: 65536, prealloc: 10000, managers: 1, recyclers: 1}}
flow-timeouts:
  default: {{new: {patience}, established: {patience}, closed: 0}}
  tcp: {{new: {patience}, established: {patience}, closed: 60}}
  udp: {{new: {patience}, established: {patience}}}
stream:
  memcap: 2gb
  checksum-validation: yes
  midstream: false
  async-oneway: false
  reassembly: {{memcap: 2gb, depth: 0}}
defrag: {{memcap: 64mb}}
host: {{memcap: 64mb}}
"""


def missing(*tools: str) -> str | None:
    """Say what to install so that all of these programs exist; None if they do."""
    lacking = sorted({PACKAGES[tool] for tool in tools if shutil.which(tool) is None})
    if lacking:
        return f"apt-get install {' '.join(lacking)}"
    if "suricata" in tools and not all((RULES / f"{name}.rules").is_file() for name in RULE_FILES):
        return f"the event rules that come with suricata, in {RULES}"
    return None


def output(*words: str | Path, **options: Any) -> str:
    """Run a program and return what it prints; its error message is raised if it fails."""
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False, timeout=3600, **options)
    if done.returncode:
        raise AssertionError(f"{words[0]} ended with {done.returncode}: {done.stderr[-2000:]}")
    return str(done.stdout)


def wireshark(path: Path) -> dict[str, Counter[str]]:
    """Read the expert information, with all checksums validated: severity -> message -> count."""
    checks = [word for name in ("ip", "tcp", "udp") for word in ("-o", f"{name}.check_checksum:TRUE")]
    messages: dict[str, Counter[str]] = {}
    severity = ""
    for line in output("tshark", "-q", "-r", path, *checks, "-z", "expert").splitlines():
        if head := re.match(r"(Errors|Warns|Notes|Chats) \((\d+)\)", line):
            severity = head[1]
            messages[severity] = Counter()
        elif severity and (row := re.match(r" *(\d+) +\S+ +(\S+) +(.*)", line)):
            messages[severity][f"{row[2]}: {row[3]}"] += int(row[1])
    return messages


#: Wireshark's message on a repeated SYN or SYN-ACK.
REPEATED = "TCP: This frame is a (suspected) retransmission"


def remarks(packets: Packets, closed: int) -> dict[str, Counter[str]]:
    """Predict what `wireshark` returns if FINs close `closed` of the connections."""
    syn, ack = (packets.flags & TCP_SYN) > 0, (packets.flags & TCP_ACK) > 0
    repeated = sum(int(kind.sum()) - len(np.unique(packets.flow[kind])) for kind in (syn & ~ack, syn & ack))
    notes = {f"TCP: This frame {word} the connection closing": closed for word in ("initiates", "undergoes")}
    resets = int(((packets.flags & TCP_RST) > 0).sum())
    return {
        "Warns": Counter({"TCP: Connection reset (RST)": resets}),
        "Notes": Counter({**notes, REPEATED: repeated}),
    }


def strictly_ordered(path: Path) -> bool:
    """Tell whether capinfos sees no packet that is older than the one before it."""
    return bool(re.search(r"Strict time order:\s+True", output("capinfos", "-o", path)))


def records(path: Path) -> Iterator[bytes]:
    """Yield the packets of a little-endian pcap file."""
    with path.open("rb") as stream:
        assert stream.read(24)[:4] in (b"\x4d\x3c\xb2\xa1", b"\xd4\xc3\xb2\xa1")
        while head := stream.read(16):
            yield stream.read(struct.unpack("<4I", head)[2])


def digest(path: Path, skip: int = 0) -> tuple[int, str]:
    """Count the packets of a capture, and hash them in order without their first `skip` bytes and their times."""
    total, number = hashlib.sha256(), 0
    for number, packet in enumerate(records(path), 1):  # noqa: B007
        total.update(len(packet).to_bytes(4, "big") + packet[skip:])
    return number, total.hexdigest()


def checksums_renewed(path: Path, folder: Path) -> bool:
    """Tell whether the packets stay the same when tcprewrite computes all checksums again.

    Ethernet addresses are left out: tcprewrite 4.4.3 changes those of IPv6 packets to multicast ones.
    """
    output("tcprewrite", "-C", "-i", path, "-o", folder / "rewritten.pcap")
    same = digest(path, 12) == digest(folder / "rewritten.pcap", 12)
    (folder / "rewritten.pcap").unlink()
    return same


def suricata(path: Path, folder: Path, patience: int = 100_000) -> dict[str, Any]:
    """Run Suricata with all checksums validated and its event rules on.

    Returns
    -------
    dict
        ``alerts`` (message -> number), ``anomalies``, and ``flows``: the flow records of eve.json.
    """
    (folder / "eve.json").unlink(missing_ok=True)  # suricata would add to it
    (folder / "suricata.yaml").write_text(_SURICATA.format(patience=patience))
    (folder / "all.rules").write_text("".join((RULES / f"{name}.rules").read_text() for name in RULE_FILES))
    output(
        "suricata", "-c", folder / "suricata.yaml", "-k", "all", "-S", folder / "all.rules",
        "--runmode", "single", "-r", path, "-l", folder,
    )  # fmt: skip
    alerts: Counter[str] = Counter()
    anomalies: Counter[str] = Counter()
    flows, names = [], Counter[str]()
    with (folder / "eve.json").open() as stream:
        for line in stream:
            event = json.loads(line)
            if event["event_type"] == "alert":
                alerts[event["alert"]["signature"]] += 1
            elif event["event_type"] == "anomaly":
                anomalies[event["anomaly"].get("event", event["anomaly"]["type"])] += 1
            elif event["event_type"] == "tls":
                names[event["tls"].get("sni", "")] += 1
            elif event["event_type"] == "flow":
                flows.append(event)
    return {"alerts": alerts, "anomalies": anomalies, "flows": flows, "tls": names}


def argus(path: Path, folder: Path) -> Counter[str]:
    """Count the flows by protocol and state as argus sees them: ``tcp FIN``, ``udp CON``."""
    written = folder / "found.argus"  # through a pipe, the last record is lost at times
    written.unlink(missing_ok=True)
    output("argus", "-X", "-S", "1000000", "-r", path, "-w", written)
    text = output("ra", "-X", "-r", written, "-n", "-c", ",", "-s", "proto", "state")
    return Counter(" ".join(line.split(",")[:2]) for line in text.splitlines() if line[:3] in ("tcp", "udp"))


def tcptrace(path: Path) -> dict[str, int]:
    """Count connections, complete connections, and packets sent twice or out of order."""
    text = output("tcptrace", "-l", "-n", path)
    complete = re.findall(r"complete conn: +(\w+)", text)
    return {
        "connections": len(complete),
        "complete": complete.count("yes"),
        "sent twice": sum(map(int, re.findall(r"rexmt data pkts: +(\d+)", text))),
        "out of order": sum(map(int, re.findall(r"outoforder pkts: +(\d+)", text))),
    }


_NFSTREAM = """\
import csv, sys, nfstream
columns = ["protocol", "src_ip", "src_port", "dst_ip", "dst_port"]
columns += [f"{way}_{what}" for what in ("packets", "bytes") for way in ("src2dst", "dst2src")]
if __name__ == "__main__":
    out = csv.writer(sys.stdout)
    for flow in nfstream.NFStreamer(
        sys.argv[1], accounting_mode=1, idle_timeout=1000000, active_timeout=1000000, n_dissections=0, n_meters=1
    ):
        out.writerow([getattr(flow, name) for name in columns])
"""


def as_nfstream(row: dict[str, Any]) -> tuple[Any, ...]:
    """Convert a row of the ground truth to what `nfstream` returns: ICMP without an identifier."""
    ports = (row["src_port"], row["dst_port"]) if row["protocol"] in PORTED else (0, 0)
    totals = (row[name] for name in ("up_packets", "down_packets", "up_bytes", "down_bytes"))
    return row["protocol"], row["src"], ports[0], row["dst"], ports[1], *totals


def nfstream(path: Path, python: str = sys.executable) -> list[tuple[Any, ...]]:
    """List the flows of nfstream: (5-tuple, packets up, packets down, IP bytes up, IP bytes down)."""
    rows = csv.reader(io.StringIO(output(python, "-c", _NFSTREAM, path)))
    return [(int(p), src, int(sport), dst, int(dport), *map(int, rest)) for p, src, sport, dst, dport, *rest in rows]
