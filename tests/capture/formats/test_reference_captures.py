"""The 1793 shared captures, held against what dpkt (and for most, scapy) read of them: truth.json.

For each file truth.json has its size and sha256, the link-type word with its flags, the number of packets,
their captured bytes, and the time stamps of the first and last packet in the file, as seconds in a float: of
a time in this century, the float keeps a quarter of a microsecond. `dpkt_error` is what stopped dpkt; it is
null for all of them, also for the damaged ones, of which dpkt keeps what netgen keeps.
"""

import functools
import hashlib
import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import oracle

import netgen
from netgen.capture.formats.reader import CaptureFile

NS = 1_000_000_000

#: dpkt takes the clock of a pcapng file's first interface for all packets, so that those of an interface
#: in nanoseconds beside one in microseconds are off by 1000: name to (which stamp, what dpkt made of it).
ANOTHER_CLOCK = {
    "ndpi/anydesk.pcapng": ("last", Fraction(1000)),
    "ndpi/custom_rules_same-ip_multiple_ports.pcapng": ("last", Fraction(1, 1000)),
    "ndpi/dns-google-nsid.pcapng": ("last", Fraction(1, 1000)),
    "ndpi/dtls.pcap": ("last", Fraction(1000)),
    "ndpi/kafka.pcapng": ("last", Fraction(1000)),
    "ndpi/knxip.pcapng": ("last", Fraction(1, 1000)),
    "ndpi/protonvpn.pcap": ("last", Fraction(1000)),
    "ndpi/sites.pcapng": ("first", Fraction(1, 1000)),
    "ndpi/stun_google_meet.pcapng": ("last", Fraction(1, 1000)),
    "ndpi/viber.pcap": ("last", Fraction(1000)),
    "ndpi/z3950.pcapng": ("last", Fraction(1000)),
}

#: Bytes before IP, where all packets of a link type have the same.
LINK_HEADER = {0: 4, 1: 14, 101: 0, 113: 16, 228: 0, 229: 0}

#: Raw captures whose packets are followed by bytes that are not IP's.
TRAILERS = {"ndpi/bjnp.pcap", "tcpdump/scps_invalid.pcap"}

COLUMNS = ("time_ns", "captured", "length", "linktype")


@pytest.fixture(scope="module")
def captures(shared_data: Path) -> Any:
    return shared_data / "captures"


@pytest.fixture(scope="module")
def reference(captures: Any) -> Any:
    return json.loads((captures / "truth.json").read_text())


@pytest.fixture(scope="module")
def columns(captures: Any) -> Any:
    """Return a function that reads the records of a capture as columns."""

    @functools.cache
    def read(name: Any) -> Any:
        chunks = list(CaptureFile(captures / name).chunks())
        return {
            column: np.concatenate([getattr(chunk, column) for chunk in chunks] or [np.zeros(0, np.int64)])
            for column in COLUMNS
        }

    return read


@pytest.fixture(scope="module")
def by_capture(captures: Any) -> Any:
    """Extract each capture as one row; return the totals by capture, and the read report."""
    table = netgen.extract([captures], group_by="capture", bin_width="1s", length=4)
    names = [source.split("/", 1)[1] for source in table.table["source"].to_pylist()]
    totals = zip(
        *(table.table[name].to_pylist() for name in ("packets", "bytes", "start_ns", "duration_ns")), strict=True
    )
    return dict(zip(names, totals, strict=True)), table.metadata["read_report"]


def test_these_are_the_files_that_the_truth_is_about(captures: Any, reference: Any) -> None:
    assert len(reference) == 1793
    assert {metadata["dpkt_error"] for metadata in reference.values()} == {None}
    for name, metadata in reference.items():
        data = (captures / name).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (metadata["size"], metadata["sha256"]), name


def test_every_packet_and_captured_byte_is_read(reference: Any, columns: Any) -> None:
    for name, metadata in reference.items():
        read = columns(name)
        assert len(read["captured"]) == metadata["dpkt_packets"], name
        assert read["captured"].sum() == metadata["caplen_bytes"], name
        assert set(read["linktype"].tolist()) <= {metadata["linktype_raw"] & 0xFFFF}, name


def test_first_and_last_time_stamps_are_right_to_the_floats_last_digit(reference: Any, columns: Any) -> None:
    wrong = []
    for name, metadata in reference.items():
        time_ns = columns(name)["time_ns"].tolist()
        if not time_ns:
            assert metadata["first"] is metadata["last"] is None, name
            continue
        for end, stamp in (("first", time_ns[0]), ("last", time_ns[-1])):
            which, factor = ANOTHER_CLOCK.get(name, ("", Fraction(1)))
            seconds = Fraction(stamp, NS) * (factor if which == end else 1)
            if abs(seconds - Fraction(metadata[end])) > Fraction(math.ulp(metadata[end])):
                wrong.append((name, end, stamp, metadata[end]))
    assert not wrong


def test_every_record_is_the_oracles_to_the_nanosecond(captures: Any, reference: Any, columns: Any) -> None:
    """Times, captured and wire lengths and link types of all 544 392 records, read by plain struct."""
    for name in reference:
        records = oracle.records(captures / name)
        expected = [(record.time_ns, len(record.data), record.wire, record.linktype) for record in records]
        read = columns(name)
        assert expected == list(zip(*(read[column].tolist() for column in COLUMNS), strict=True)), name


def test_extract_accounts_for_every_packet(reference: Any, by_capture: Any) -> None:
    rows, read_report = by_capture
    packets = sum(metadata["dpkt_packets"] for metadata in reference.values())
    assert read_report["files"] == len(reference)
    assert read_report["packets"] == packets == read_report["in_flows"] + sum(read_report["skipped"].values())
    assert sum(row[0] for row in rows.values()) == read_report["in_flows"]
    assert all(row[0] <= reference[name]["dpkt_packets"] for name, row in rows.items())


def test_captures_of_ip_alone_begin_and_end_with_their_records(reference: Any, columns: Any, by_capture: Any) -> None:
    rows, _ = by_capture
    alike = 0
    for name, (packets, _, start_ns, duration_ns) in rows.items():
        time_ns = columns(name)["time_ns"]
        if packets == reference[name]["dpkt_packets"]:
            assert (start_ns, duration_ns) == (time_ns.min(), time_ns.max() - time_ns.min()), name
            alike += 1
    assert alike > 800


def test_ip_bytes_are_the_captured_bytes_without_the_link_layer(reference: Any, columns: Any, by_capture: Any) -> None:
    """Of captures in which every packet is IP and complete: exactly so in raw ones, and in most others.

    The rest have trailers or tags, or headers that lie; flow by flow, tests/capture/flows/test_oracle.py checks those.
    """
    rows, _ = by_capture
    equal = total = 0
    for name, (packets, size, _, _) in rows.items():
        metadata, read = reference[name], columns(name)
        header = LINK_HEADER.get(metadata["linktype_raw"] & 0xFFFF)
        complete = packets == metadata["dpkt_packets"] and (read["captured"] == read["length"]).all()
        padded = header == 14 and read["captured"].min() <= 60
        if header is None or padded or not complete:
            continue
        rest = metadata["caplen_bytes"] - header * packets - size
        if header == 0:
            assert (rest == 0) == (name not in TRAILERS), (name, rest)
        equal += rest == 0
        total += 1
    assert equal > 530
    assert total - equal < 90
