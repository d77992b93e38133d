"""Captures: other programs read them as real connections, and extraction returns the exported series."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import re
import shutil
import socket
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import dpkt
import numpy as np
import pytest
from support.extraction import extract

import netgen.exporters.pcap.capture_file
from netgen.capture.errors import OutputError, TableError
from netgen.capture.series.spec import SeriesSpec
from netgen.capture.table.flow_table import FlowTable
from netgen.exporters.pcap.capture_file import EPOCH_NS
from netgen.exporters.pcap.options import CaptureOptions
from netgen.exporters.pcap.plan import plan
from netgen.exporters.write import write

BIN, BINS = 250_000_000, 16
MASK = 0xFFFFFFFF


def flows(number: int, seed: int = 0, *, repaired: bool = True, **columns: Any) -> FlowTable:
    """Make random flows of many shapes, TCP and UDP by turns; `repaired`: series that need no repairs."""
    rng = np.random.default_rng(seed)
    busy = rng.random((number, 2, BINS)) < rng.random((number, 1, 1))
    count = rng.geometric(rng.uniform(0.1, 1, (number, 1, 1)), (number, 2, BINS)) * busy
    size = rng.choice([40, 44, 48, 52, 60, 64, 72, 80, 601, 1500], (number, 2, BINS))
    series = np.concatenate([count * size, count], axis=1)
    spec = SeriesSpec(bin_ns=BIN, length=BINS)
    columns = {"protocol": [6, 17] * (number // 2) + [6] * (number % 2), **columns}
    if repaired:
        series = plan(FlowTable.build(series, spec, **columns)).series
    return FlowTable.build(series, spec, **columns)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[FlowTable, Path]:
    """Make a table of 300 flows and a capture of it."""
    table = flows(300)
    path = tmp_path_factory.mktemp("sample") / "sample.pcap"
    report = write(table, path)
    assert report.repairs == {}
    assert report.bytes_written == path.stat().st_size
    return table, path


def tool(name: str, *arguments: str | Path) -> str:
    """Output of a program from outside; without it the test skips."""
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed: apt-get install tshark")
    done = subprocess.run([name, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def read_with_dpkt(path: Path) -> dict[tuple[object, ...], list[tuple[int, bool, dpkt.ip.IP]]]:
    """Read the capture with dpkt: packets of each 5-tuple, client first: (time ns, from client, IP packet)."""
    conversations: dict[tuple[object, ...], list[tuple[int, bool, dpkt.ip.IP]]] = defaultdict(list)
    with path.open("rb") as stream:
        for stamp, frame in dpkt.pcap.Reader(stream):
            ip = dpkt.ethernet.Ethernet(frame).data
            assert len(frame) == 14 + ip.len
            ends = (ip.src, ip.data.sport), (ip.dst, ip.data.dport)
            up = ip.src[:2] == b"\xc6\x12"
            conversations[(ip.p, *(ends if up else ends[::-1]))].append((round(float(stamp) * 10**9), up, ip))
    return conversations


def test_dpkt_reads_the_series_back(sample: tuple[FlowTable, Path]) -> None:
    """Summing the packets that dpkt reads gives the series of every flow; its times are exact to 240 ns."""
    table, path = sample
    all_series = []
    for packets in read_with_dpkt(path).values():
        series = np.zeros((4, BINS), dtype=np.int64)
        for stamp, up, ip in packets:
            index = (stamp - packets[0][0]) // BIN
            series[0 if up else 1, index] += ip.len
            series[2 if up else 3, index] += 1
        all_series.append(series.tobytes())
    assert sorted(all_series) == sorted(series.tobytes() for series in table.series())


def test_extraction_returns_the_exported_flows(sample: tuple[FlowTable, Path]) -> None:
    """extract(export(flows)) == flows, in order, with the same integers."""
    table, path = sample
    again = extract(path, spec=table.spec, idle_timeout_ns=10**12)
    np.testing.assert_array_equal(again.series(), table.series())
    assert again.table["protocol"].to_pylist() == table.table["protocol"].to_pylist()


def test_extraction_returns_repaired_series(tmp_path: Path) -> None:
    """The report counts the repaired flows."""
    table = flows(100, 3, repaired=False)
    report = write(table, tmp_path / "x.pcap", options=CaptureOptions(seed=4))
    planned = plan(table, seed=4)
    assert report.repairs == planned.repairs != {}
    again = extract(tmp_path / "x.pcap", spec=table.spec, idle_timeout_ns=10**12)
    np.testing.assert_array_equal(again.series(), planned.series)
    assert report.packets == planned.packet_counts.sum()


def test_sequence_numbers(sample: tuple[FlowTable, Path]) -> None:
    """Each side's numbers follow on, and each ACK is exactly what came before it, in windows that were offered."""
    _, path = sample
    for (protocol, *_), packets in read_with_dpkt(path).items():
        if protocol != dpkt.ip.IP_PROTO_TCP:
            assert packets[0][1]  # the client speaks first
            continue
        following: dict[bool, int] = {}
        last_ack: dict[bool, tuple[int, int]] = {}
        clock: dict[bool, int] = {}
        edge: dict[bool, int] = {}  # how far each side may send
        scale = 7 if all(b"\x03\x03\x07" in ip.data.opts for *_, ip in packets[:2]) else 0
        for _, up, ip in packets:
            tcp = ip.data
            syn, fin = bool(tcp.flags & dpkt.tcp.TH_SYN), bool(tcp.flags & dpkt.tcp.TH_FIN)
            assert tcp.seq == following.setdefault(up, tcp.seq)
            following[up] = (tcp.seq + len(tcp.data) + syn + fin) & MASK
            assert tcp.ack == following.get(not up, 0)
            if tcp.data and up in edge:
                assert (edge[up] - following[up]) & MASK < 1 << 31
            if not syn or tcp.flags & dpkt.tcp.TH_ACK:
                edge[not up] = (tcp.ack + (tcp.win << (0 if syn else scale))) & MASK
            if not (tcp.data or syn or fin):
                assert (tcp.ack, tcp.win) != last_ack.get(up)  # else a duplicate ACK
            last_ack[up] = tcp.ack, tcp.win
            options = dict(dpkt.tcp.parse_opts(tcp.opts))
            assert (dpkt.tcp.TCP_OPT_MSS in options) <= syn
            if dpkt.tcp.TCP_OPT_TIMESTAMP in options:
                stamps = options[dpkt.tcp.TCP_OPT_TIMESTAMP]
                now, echo = int.from_bytes(stamps[:4], "big"), int.from_bytes(stamps[4:], "big")
                assert now >= clock.get(up, 0)
                assert echo == clock.get(not up, 0)
                clock[up] = now
            if syn:
                assert tcp.win >= 64240
        assert not clock or set(clock) == {True, False}


def test_scapy_confirms_the_checksums(sample: tuple[FlowTable, Path]) -> None:
    """Checksums as scapy computes them, over all header shapes; a UDP checksum is never zero."""
    from scapy.layers.inet import IP, in4_chksum
    from scapy.utils import checksum

    _, path = sample
    shapes: dict[tuple[int, int, int], int] = defaultdict(int)
    for packets in read_with_dpkt(path).values():
        for _, _, ip in packets:
            raw = bytearray(bytes(ip))
            shape = ip.p, len(raw) % 2, raw[32] if ip.p == 6 else 0
            shapes[shape] += 1
            if shapes[shape] > 12:
                continue
            at = 20 + (16 if ip.p == 6 else 6)
            written = int.from_bytes(raw[10:12], "big"), int.from_bytes(raw[at : at + 2], "big")
            raw[10:12] = raw[at : at + 2] = bytes(2)
            inner = in4_chksum(ip.p, IP(bytes(raw[:20])), bytes(raw[20:]))
            assert written == (checksum(bytes(raw[:20])), inner or 0xFFFF)
    assert len(shapes) > 9


def test_wireshark_reports_no_problem(sample: tuple[FlowTable, Path]) -> None:
    """tshark, with checksums validated, finds no error, and notes each closing and reset, and no more."""
    table, path = sample
    checks = [word for name in ("ip", "tcp", "udp") for word in ("-o", f"{name}.check_checksum:TRUE")]
    expert = tool("tshark", "-q", "-r", path, *checks, "-z", "expert")
    assert "Errors" not in expert
    planned = plan(table)
    assert not planned.attempt.any()
    tcp, resets = int(planned.tcp.sum()), int(planned.reset.sum())
    assert 0 < resets < tcp
    notes = re.findall(r"^ *(\d+) +\w+ +TCP +(.*)", expert.split("Warns")[1].split("Chats")[0], re.MULTILINE)
    assert sorted(notes) == sorted(
        [
            (str(resets), "Connection reset (RST)"),
            (str(tcp - resets), "This frame initiates the connection closing"),
            (str(tcp - resets), "This frame undergoes the connection closing"),
        ]
    )
    assert tool("tshark", "-r", path, *checks, "-Y", "_ws.malformed || tcp.analysis.duplicate_ack") == ""
    conversations = tool("tshark", "-q", "-r", path, "-z", "conv,tcp")
    assert conversations.count("<->") >= tcp
    assert len(re.findall(r"^198\.18\.", conversations, re.MULTILINE)) == tcp


def test_wireshark_accepts_repaired_flows(tmp_path: Path) -> None:
    """Repaired flows have no errors."""
    write(flows(200, 8, repaired=False), tmp_path / "x.pcap")
    expert = tool("tshark", "-q", "-r", tmp_path / "x.pcap", "-o", "tcp.check_checksum:TRUE", "-z", "expert")
    assert "Errors" not in expert
    warned = re.findall(r"^ *\d+ +\w+ +TCP +(.*)", expert.split("Warns")[1].split("Notes")[0], re.MULTILINE)
    assert warned == ["Connection reset (RST)"]


def test_strict_time_order(sample: tuple[FlowTable, Path]) -> None:
    """capinfos: nanosecond pcap, Ethernet, in strict order of time, from the fixed epoch on."""
    table, path = sample
    lines = tool("capinfos", path)
    for line in (r"Strict time order:\s+True", r"File encapsulation:\s+Ethernet", r"(?i)nanosecond"):
        assert re.search(line, lines)
    assert re.search(rf"Number of packets[ =:]+\s*{int(table.series()[:, 2:].sum())}", tool("capinfos", "-cM", path))
    assert read_with_dpkt(path)[next(iter(read_with_dpkt(path)))][0][0] // 10**9 == EPOCH_NS // 10**9


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    """The seed, and nothing else, decides the bytes: also across the blocks in which a file is written."""
    table = flows(40)
    digests = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write(table, tmp_path / f"{name}.pcap", options=CaptureOptions(seed=seed))
        digests.append(hashlib.sha256((tmp_path / f"{name}.pcap").read_bytes()).hexdigest())
    assert digests[0] == digests[1] != digests[2]


def test_the_block_size_does_not_change_the_capture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written in many small blocks, a capture is the same, byte for byte."""
    table = flows(60)
    write(table, tmp_path / "whole.pcap")
    monkeypatch.setattr(netgen.exporters.pcap.capture_file, "_BLOCK_PACKETS", 100)
    monkeypatch.setattr(netgen.exporters.pcap.capture_file, "_RENDER_BYTES", 10_000)
    write(table, tmp_path / "blocks.pcap")
    assert (tmp_path / "blocks.pcap").read_bytes() == (tmp_path / "whole.pcap").read_bytes()


def test_a_flow_is_the_same_alone(tmp_path: Path) -> None:
    """Flow 17 has the same packets whether it is exported alone or among others like it; only its start moves."""
    table = flows(30)
    write(table, tmp_path / "all.pcap", options=CaptureOptions(seed=9))
    write(table.take([17]), tmp_path / "one.pcap", options=CaptureOptions(seed=9))
    ((tuple_, alone),) = read_with_dpkt(tmp_path / "one.pcap").items()
    among = read_with_dpkt(tmp_path / "all.pcap")[tuple_]
    assert [bytes(ip) for *_, ip in among] == [bytes(ip) for *_, ip in alone]


def test_start_times(tmp_path: Path) -> None:
    """A flow keeps its own time if it has one; others arrive one after the other; the first begin at a start given."""
    table = flows(4, start_ns=[10**18 + 7, None, None, 10**18])
    write(table, tmp_path / "x.pcap", options=CaptureOptions(start_ns=2 * 10**18 // 10**9 * 10**9))
    again = extract(tmp_path / "x.pcap", spec=table.spec)
    starts = again.table["start_ns"].to_pylist()
    assert starts[:2] == [2 * 10**18, 2 * 10**18]
    assert starts[2] == 2 * 10**18 + 7
    assert 2 * 10**18 < starts[3] < 2 * 10**18 + 10**10
    write(table, tmp_path / "own.pcap", ground_truth=False)
    assert extract(tmp_path / "own.pcap", spec=table.spec).table["start_ns"].to_pylist()[:2] == [10**18, 10**18 + 7]
    early = flows(1, start_ns=[-1])
    with pytest.raises(OutputError, match="flow 0 begins -1 ns after 1970"):
        write(early, tmp_path / "y.pcap")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("y")] == []


def test_addresses(tmp_path: Path) -> None:
    """Addresses are of 198.18.0.0/15, never the flow's own, no 5-tuple twice, and say nothing of the class."""
    own: dict[str, Any] = {
        "src": "10.1.2.3",
        "dst": "142.250.1.1",
        "src_port": 5000,
        "dst_port": 80,
        "label": ["a", "b"] * 300,
    }
    table = flows(600, protocol=17, **own)
    twice = table.take(np.r_[np.zeros(600, dtype=np.int64), np.arange(600)])
    planned = plan(twice, seed=2)
    from netgen.exporters.pcap.addresses import addresses

    sampled = addresses(2, planned.number, planned.occurrence, planned.protocol, np.full(1200, 443))
    columns = np.stack([sampled.client, sampled.server, sampled.client_port], axis=1)
    assert len(np.unique(columns, axis=0)) == 1200
    assert set(sampled.client >> 16) == {198 << 8 | 18}
    assert set(sampled.server >> 16) == {198 << 8 | 19}
    assert sampled.client_port.min() >= 49152
    assert sampled.client_port.max() <= 65535
    label = twice.labels == "b"
    for column in columns.T:
        assert abs(np.corrcoef(column, label)[0, 1]) < 0.12  # four standard errors of no correlation
    write(table.take(range(20)), tmp_path / "x.pcap")
    content = (tmp_path / "x.pcap").read_bytes()
    assert socket.inet_aton("10.1.2.3") not in content
    assert socket.inet_aton("142.250.1.1") not in content


def test_captures_of_other_classes_or_models_share_no_endpoints(tmp_path: Path) -> None:
    """Drawn with one seed, they can be merged, and the label file of one labels no flow of another."""
    tables = {}
    for name, label, source, weights in (
        ("a", "netflix", "x", "1"), ("b", "youtube", "x", "1"), ("c", "netflix", "y", "1"), ("d", "netflix", "x", "2")
    ):  # fmt: skip
        tables[name] = flows(200, seed=ord(name), label=[label] * 200, source=[source] * 200)
        tables[name] = dataclasses.replace(tables[name], metadata={"weights_sha256": weights})
        write(tables[name], tmp_path / f"{name}.pcap", options=CaptureOptions(seed=3))
    write(tables["a"].take(range(50)), tmp_path / "fewer.pcap", options=CaptureOptions(seed=3))
    both = extract([tmp_path / f"{name}.pcap" for name in tables], spec=tables["a"].spec)
    names = ("src", "src_port", "dst", "dst_port", "protocol")
    ends = set(zip(*(both.table[name].to_pylist() for name in names), strict=True))
    assert len(ends) == 800
    few = extract(tmp_path / "fewer.pcap", spec=both.spec)
    assert set(zip(*(few.table[name].to_pylist() for name in names), strict=True)) < ends
    for ending in ("csv", "parquet"):
        labels = tmp_path / f"a.labels.{ending}"
        own, other = (extract(tmp_path / f"{name}.pcap", spec=both.spec, labels=labels) for name in "ab")
        assert own.counts() == {"netflix": 200}
        assert other.counts() == {}
    with pytest.raises(TableError, match=r"a\.labels\.parquet is not a flow table"):
        FlowTable.read(tmp_path / "a.labels.parquet")


def test_a_failed_write_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk gives an OutputError and no file, whole or part."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(netgen.exporters.pcap.capture_file, "render", full)
    with pytest.raises(OutputError, match="No space left on device"):
        write(flows(3), tmp_path / "x.pcap")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_table(tmp_path: Path) -> None:
    """No flows make a capture of no packets, which is still a capture."""
    report = write(flows(1).take([]), tmp_path / "x.pcap")
    assert (report.flows, report.packets, report.bytes_written) == (0, 0, 24)
