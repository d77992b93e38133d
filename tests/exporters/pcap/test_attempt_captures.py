"""Captures of connections that never opened: their ground truth, their TCP numbers, and faults that verify finds."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import dpkt
import numpy as np
import pyarrow.parquet as pq
import pytest
from support.paths import ROOT
from support.tcp_roles import ATTEMPTS, RST, RST_ACK, SYN, SYN_ACK, attempts, connection_table, series_of

import netgen
from netgen.capture.headers import TCP_ACK, TCP_RST
from netgen.exporters.pcap.options import CaptureOptions
from netgen.exporters.verify.verify import verify
from netgen.exporters.write import write


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """Write a capture with a flow of each kind."""
    report = write(attempts(protocol=6), tmp_path / "x.pcap", options=CaptureOptions(rate=2, seed=3))
    assert report.repairs == {}
    assert report.connections == Counter(name for *_, name in ATTEMPTS.values())
    return tmp_path / "x.pcap"


def test_the_ground_truth_names_the_kinds(capture: Path) -> None:
    """The column `connection` has the kind of each flow, and extraction gives each series back."""
    rows = pq.read_table(capture.with_name("x.labels.parquet")).to_pylist()
    assert [row["connection"] for row in rows] == [name for *_, name in ATTEMPTS.values()]
    order = sorted(range(len(rows)), key=lambda row: rows[row]["start_ns"])
    np.testing.assert_array_equal(netgen.extract(capture, spec_from=attempts()).series(), attempts().series()[order])
    assert verify(capture).issues == ()


def test_export_prints_the_kinds(tmp_path: Path) -> None:
    """`netgen export` prints how many connections are of each kind, and has it in its JSON."""
    attempts(protocol=6).write(tmp_path / "x.parquet")
    command: list[str | Path] = [
        Path(sys.executable).with_name("netgen"),
        "export",
        tmp_path / "x.parquet",
        "-o",
        tmp_path / "x.pcap",
    ]
    outputs = [
        subprocess.run([*command, "--force", *option], capture_output=True, text=True, check=True).stdout
        for option in ([], ["--json"])
    ]
    assert "TCP connections: 2 unanswered, 4 refused, 6 half-open\n" in outputs[0]
    assert json.loads(outputs[1])["connections"] == {"unanswered": 2, "refused": 4, "half-open": 6}


def test_sequence_numbers_follow_rfc_9293(capture: Path) -> None:
    """A SYN and its repeats have one number, an RST of the server acknowledges it, one of the client has the next."""
    client: dict[tuple[bytes, int], int] = {}
    count = 0
    with capture.open("rb") as stream:
        for _, frame in dpkt.pcap.Reader(stream):
            ip = dpkt.ethernet.Ethernet(frame).data
            segment = ip.data
            up = ip.src[:2] == b"\xc6\x12"
            ends = (ip.src, segment.sport) if up else (ip.dst, segment.dport)
            first = client.setdefault(ends, segment.seq)
            count += 1
            if segment.flags == SYN:
                assert (segment.seq, segment.ack) == (first, 0)
            elif segment.flags == RST:
                assert (segment.seq, segment.ack, segment.win) == ((first + 1) % 2**32, 0, 0)
            else:
                assert segment.flags in (RST_ACK, SYN_ACK)
                assert segment.ack == (first + 1) % 2**32
                assert (segment.seq == 0) == (segment.flags == RST_ACK)
            assert len(segment.data) == 0
    assert count == sum(len(packets) for packets, *_ in ATTEMPTS.values())


SEQ, ACKED, FLAGS = 38, 42, 47  # offsets in a frame


@dataclasses.dataclass(frozen=True)
class Fault:
    """A change of four bytes from `offset` of the `nth` packet with TCP flags `flags`, and the check that fails."""

    flags: int
    offset: int
    change: Callable[[bytes], bytes]
    check: str
    nth: int = 0

    def apply(self, path: Path) -> None:
        """Change the capture at `path`; checksums stay as they were."""
        data, begin, nth = bytearray(path.read_bytes()), 24, self.nth
        while data[begin + 16 + FLAGS] != self.flags or nth:
            nth -= data[begin + 16 + FLAGS] == self.flags
            begin += 16 + int.from_bytes(data[begin + 8 : begin + 12], "little")
        word = slice(begin + 16 + self.offset, begin + 20 + self.offset)
        data[word] = self.change(bytes(data[word]))
        path.write_bytes(data)


def plus(amount: int) -> Callable[[bytes], bytes]:
    """Add an amount to a four-byte number."""
    return lambda word: (int.from_bytes(word, "big") + amount & 0xFFFFFFFF).to_bytes(4, "big")


def become(flags: int) -> Callable[[bytes], bytes]:
    """Replace the TCP flags, the first of four bytes."""
    return lambda word: bytes([flags]) + word[1:]


FAULTS = {
    "a repeated SYN has another number": Fault(SYN, SEQ, plus(1), "handshake", 1),
    "a refusal has a number of its own": Fault(RST_ACK, SEQ, plus(777), "handshake"),
    "a refusal acknowledges another number": Fault(RST_ACK, ACKED, plus(-1), "acknowledgement"),
    "a SYN-ACK acknowledges another number": Fault(SYN_ACK, ACKED, plus(-500_000), "acknowledgement"),
    "the SYN between two refusals is one, too": Fault(SYN, FLAGS, become(RST_ACK), "handshake", 8),
    "the RST of an accepted SYN has become an ACK": Fault(RST, FLAGS, become(TCP_ACK), "closing"),
    "a SYN-ACK has become a refusal": Fault(SYN_ACK, FLAGS, become(RST_ACK), "handshake", 2),
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", FAULTS)
def test_verify_detects_a_broken_attempt(name: str, seed: int, tmp_path: Path) -> None:
    """Packets that no host sends in an attempt are an issue with any sequence numbers."""
    write(attempts(protocol=6), tmp_path / "x.pcap", options=CaptureOptions(rate=0.001, seed=seed))  # flow by flow
    FAULTS[name].apply(tmp_path / "x.pcap")
    assert FAULTS[name].check in {issue.check for issue in verify(tmp_path / "x.pcap").issues}


def test_verify_detects_a_reset_that_does_not_end_the_connection(tmp_path: Path) -> None:
    """No host sends an RST within a connection that continues, and closes by FINs."""
    up, down = (1, 0)
    packets = [(0, up, 60), (0, down, 60), (0, up, 152), (1, down, 252), (1, up, 52), (2, up, 52), (2, down, 52)]
    series = series_of([(*packet, 0) for packet in [*packets, (2, up, 52)]])
    write(connection_table(series, protocol=6), tmp_path / "x.pcap")
    assert verify(tmp_path / "x.pcap").issues == ()
    Fault(TCP_ACK, FLAGS, become(TCP_RST | TCP_ACK), "closing").apply(tmp_path / "x.pcap")
    assert "closing" in {issue.check for issue in verify(tmp_path / "x.pcap").issues}


def test_the_page_lists_the_faults() -> None:
    """docs/replay.md names each fault and the check that detects it."""
    page = (ROOT / "docs/replay.md").read_text()
    for name, fault in FAULTS.items():
        assert f"| {name} | {fault.check} |" in page


def test_verify_detects_another_connection_kind_in_the_ground_truth(capture: Path) -> None:
    """A ground truth that calls a refused connection closed does not match its capture."""
    labels = capture.with_name("x.labels.csv")
    labels.write_text(labels.read_text().replace('"refused"', '"closed"'))
    issues = verify(capture, labels).issues
    assert [issue.check for issue in issues] == ["ground truth"]
    assert "is refused, the ground truth says closed" in issues[0].message
