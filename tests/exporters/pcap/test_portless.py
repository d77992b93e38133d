"""Flows without ports: ICMP, ICMPv6 and IGMP keep their protocol in captures."""

from __future__ import annotations

import ipaddress
import struct
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.extraction import extract

from netgen.capture.series.spec import SeriesSpec
from netgen.capture.table.flow_table import FlowTable
from netgen.choices import IpVersion, Payload
from netgen.exporters.pcap.addresses import addresses
from netgen.exporters.pcap.ground_truth import community_id
from netgen.exporters.pcap.options import CaptureOptions
from netgen.exporters.pcap.plan import Repair, plan
from netgen.exporters.verify.verify import verify
from netgen.exporters.write import write

ICMP, IGMP, UDP, ICMPV6, SCTP = 1, 2, 17, 58, 132
SPEC = SeriesSpec(bin_ns=250_000_000, length=8)


def flows(number: int, seed: int = 0, protocols: tuple[int, ...] = (ICMP, IGMP, ICMPV6)) -> FlowTable:
    """Make flows of these protocols by turns, with packet sizes that all of them can have."""
    rng = np.random.default_rng(seed)
    protocol = np.resize(protocols, number)
    count = rng.poisson(0.6, (number, 2, 8))
    count[:, 0, 0] = np.maximum(count[:, 0, 0], 1)
    size = count * rng.choice([48, 84, 85, 577, 1480], (number, 2, 8))
    return FlowTable.build(
        np.concatenate([size, count], axis=1), SPEC, protocol=protocol.tolist(), label=["x"] * number
    )


@pytest.mark.parametrize(
    ("ip", "written", "why"),
    [
        ("auto", [ICMP, IGMP, ICMPV6, UDP], {Repair.OTHER_PROTOCOL: 10}),
        ("4", [ICMP, IGMP, ICMP, UDP], {Repair.OTHER_PROTOCOL: 10, Repair.OTHER_ICMP: 10}),
        ("6", [ICMPV6, UDP, ICMPV6, UDP], {Repair.OTHER_PROTOCOL: 20, Repair.OTHER_ICMP: 10}),
    ],
)
def test_protocols_are_written_as_themselves_or_counted(
    tmp_path: Path, ip: IpVersion, written: list[int], why: dict[str, int]
) -> None:
    """ICMP becomes that of the IP version, and protocols that cannot be written become UDP; both are counted."""
    table = flows(40, protocols=(ICMP, IGMP, ICMPV6, SCTP))
    report = write(table, tmp_path / "x.pcap", options=CaptureOptions(ip_version=ip))
    reasons = {
        reason: number
        for reason, number in report.repairs.items()
        if reason in (Repair.OTHER_PROTOCOL, Repair.OTHER_ICMP)
    }
    assert reasons == why
    truth = pq.read_table(tmp_path / "x.labels.parquet").sort_by("row").to_pylist()
    assert [row["protocol"] for row in truth] == written * 10
    changed = plan(table, ip_version=ip).repaired
    assert [row["repaired"] for row in truth] == changed.tolist()
    again = extract(tmp_path / "x.pcap", spec=SPEC, labels=tmp_path / "x.labels.csv")
    assert sorted(again.table["protocol"].to_pylist()) == sorted(written * 10)
    assert again.counts() == {"x": 40}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32),
    ip=st.sampled_from(["auto", "4", "6"]),
    payload=st.sampled_from(["zeros", "tls", "random"]),
    headers_only=st.booleans(),
    ending=st.sampled_from([".pcap", ".pcapng"]),
)
def test_extraction_returns_the_series(
    tmp_path: Path, seed: int, ip: IpVersion, payload: Payload, headers_only: bool, ending: str
) -> None:
    """The integers are the same for all options of the capture."""
    table = flows(30, seed)
    options = CaptureOptions(
        seed, ip_version=ip, payload="zeros" if headers_only else payload, headers_only=headers_only
    )
    path = tmp_path / f"x{ending}"
    write(table, path, options=options, force=True)
    again = extract(path, spec=SPEC)
    wanted = plan(table, seed=seed, ip_version=ip).series
    if ip != "6":
        np.testing.assert_array_equal(wanted, table.series())
    truth = pq.read_table(tmp_path / "x.labels.parquet").to_pylist()
    names = ("src", "dst", "src_port", "dst_port")
    row = {tuple(flow[name] for name in names): flow["row"] for flow in truth}
    ends = zip(*(again.table[name].to_pylist() for name in names), strict=True)
    np.testing.assert_array_equal(again.series(), wanted[[row[tuple_] for tuple_ in ends]])
    if not headers_only:
        assert verify(path).issues == ()


def test_scapy_parses_the_packets(tmp_path: Path) -> None:
    """Types, consecutive numbers, one identifier a flow, and checksums are as scapy computes them."""
    from scapy.layers import inet
    from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6
    from scapy.utils import checksum, rdpcap

    write(flows(60), tmp_path / "x.pcap")
    numbers: dict[tuple[str, str], list[int]] = {}
    identifiers: dict[frozenset[str], set[int]] = {}
    kinds = set()
    for frame in rdpcap(str(tmp_path / "x.pcap")):
        ip = frame.payload
        up = ip.src.startswith(("198.18.", "2001:db8:0:18:"))
        again = type(ip)(bytes(ip))
        if isinstance(ip, IPv6):
            echo = ip.payload
            assert isinstance(echo, ICMPv6EchoRequest if up else ICMPv6EchoReply)
            del again.payload.cksum
        elif ip.proto == ICMP:
            echo = ip[inet.ICMP]
            assert (echo.type, echo.code) == (8 if up else 0, 0)
            del again.payload.chksum
        else:
            kinds.add(IGMP)
            message = bytes(ip.payload)
            assert message[0] == (0x16 if up else 0x11)
            assert message[4:6] == b"\xef\xc0"
            assert checksum(message) == 0
            continue
        assert bytes(type(ip)(bytes(again))) == bytes(ip)
        kinds.add(ICMPV6 if isinstance(ip, IPv6) else ICMP)
        numbers.setdefault((ip.src, ip.dst), []).append(echo.seq)
        identifiers.setdefault(frozenset((ip.src, ip.dst)), set()).add(echo.id)
    assert kinds == {ICMP, IGMP, ICMPV6}
    assert all(sequence == list(range(1, len(sequence) + 1)) for sequence in numbers.values())
    assert {len(of_flow) for of_flow in identifiers.values()} == {1}
    assert len(identifiers) == 40


def test_a_reply_repeats_the_payload_of_its_request(tmp_path: Path) -> None:
    """Random payload of the n-th reply begins as that of the n-th request; IGMP's stays zeros."""
    import dpkt

    write(flows(60), tmp_path / "x.pcap", options=CaptureOptions(payload="random"))
    requests: dict[tuple[bytes, int], bytes] = {}
    compared = 0
    with (tmp_path / "x.pcap").open("rb") as stream:
        for _, frame in sorted(dpkt.pcap.Reader(stream), key=lambda record: record[1][14 + 20] == 0):
            ip = dpkt.ethernet.Ethernet(frame).data
            if not isinstance(ip, dpkt.ip.IP):
                continue
            message = frame[34:]
            if ip.p == IGMP:
                assert not any(message[8:])
                continue
            (number,) = struct.unpack(">H", message[6:8])
            if message[0] == 8:
                requests[ip.src, number] = message[8:]
            elif (ip.dst, number) in requests:
                question, answer = requests[ip.dst, number], message[8:]
                shorter = min(len(question), len(answer))
                assert question[:shorter] == answer[:shorter]
                compared += shorter > 20
    assert compared > 10


def test_pairs_of_addresses_are_not_used_twice() -> None:
    """Community ID and netgen's own key know IGMP by its addresses alone: also the 63rd of a number has its own."""
    number = np.tile(np.r_[0:1000, (1 << 26) - 500 : 1 << 26], 63)
    occurrence = np.repeat(np.arange(63), 1500)
    protocol = np.full(len(number), IGMP)
    sampled = addresses(5, number, occurrence, protocol, np.full(len(number), 443))
    assert len(np.unique(np.stack([sampled.client, sampled.server]), axis=1).T) == len(number)
    assert not sampled.client_port.any()
    assert not sampled.server_port.any()


def test_the_community_id_of_an_echo() -> None:
    """It uses the ICMP types as ports and ignores the identifier; expected: corelight/community-id-spec, baseline."""
    ends = [ipaddress.ip_address(address).packed for address in ("192.168.0.89", "192.168.0.1")]
    assert community_id(ICMP, ends[0], 7, ends[1], 7) == "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="


@pytest.mark.parametrize("protocol", [ICMP, IGMP, ICMPV6])
def test_verify_detects_a_changed_byte(tmp_path: Path, protocol: int) -> None:
    """`netgen verify` checks the checksums of portless protocols, too."""
    path = tmp_path / "x.pcap"
    write(flows(9, protocols=(protocol,)), path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    report = verify(path)
    assert [(issue.check, issue.count, issue.packet) for issue in report.issues] == [("checksum", 1, report.packets)]
    assert report.others == 0


def test_extraction_returns_a_series_of_packets(tmp_path: Path) -> None:
    """Size, direction and time of each packet come back, also from a table file that is read in blocks."""
    write(flows(30), tmp_path / "x.pcap")
    packets = extract(tmp_path / "x.pcap", view="packets", length=64)
    packets.write(tmp_path / "x.parquet")
    write(packets, tmp_path / "one.pcap")
    write(tmp_path / "x.parquet", tmp_path / "two.pcap")
    assert (tmp_path / "one.pcap").read_bytes() == (tmp_path / "two.pcap").read_bytes()
    again = extract(tmp_path / "one.pcap", view="packets", length=64)
    assert sorted(again.table["protocol"].to_pylist()) == [ICMP] * 10 + [IGMP] * 10 + [ICMPV6] * 10
    series = [sorted(table.series().reshape(30, -1).tolist()) for table in (packets, again)]
    assert series[0] == series[1]
    assert verify(tmp_path / "one.pcap").issues == ()


@pytest.mark.parametrize("protocol", [ICMP, IGMP, ICMPV6])
def test_the_server_does_not_send_first(tmp_path: Path, protocol: int) -> None:
    """A client packet is added, and counted as a repair."""
    count = np.zeros((1, 2, 8), int)
    count[0, 1, 0] = count[0, 0, 2] = 1
    table = FlowTable.build(np.concatenate([84 * count, count], axis=1), SPEC, protocol=[protocol])
    report = write(table, tmp_path / "x.pcap")
    assert list(report.repairs.values()) == [1]
    count[0, 0, 0] = 1
    np.testing.assert_array_equal(extract(tmp_path / "x.pcap", spec=SPEC).series()[:, 2:], count)
    assert verify(tmp_path / "x.pcap").issues == ()
