"""assemble: packets to flows, their direction and order, and what is counted, in one segment and in many.

tests/capture/flows/test_oracle.py compares the rules of docs/flows.md with a second implementation.
"""

import struct
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import oracle
from support.connections import (
    ACK,
    FIN,
    NS,
    ONE_BIN,
    RST,
    SYN,
    A,
    B,
    T,
    connection,
    report_warnings,
    rows,
    tcp_frame,
    up_and_down,
)
from support.examples import examples
from support.extraction import extract

from netgen.capture.formats import reader
from netgen.capture.series.spec import SeriesSpec

pytestmark = pytest.mark.usefixtures("either_reader")

REPEATED, BACKWARDS = "packets seen twice", "packets stamped earlier than the one before"


# -- what a flow is ------------------------------------------------------------------------------


def test_both_directions_are_one_flow_and_up_is_from_the_initiator(packet: Any, flows_of: Any) -> None:
    steps = connection(packet, (0, "A", SYN), (1, "B", SYN | ACK), (2, "A", ACK), (3, "B", ACK, 2, 100))
    table = flows_of(steps, spec=SeriesSpec(NS, 8))
    assert rows(table, "protocol", "src", "src_port", "dst", "dst_port", "vlan", "server_name") == [
        (6, A, 1000, B, 80, None, None)
    ]
    assert rows(table, "start_ns", "duration_ns", "packets", "bytes") == [(T, 3 * NS, 4, 260)]
    assert table.series()[0, :, :5].tolist() == [
        [40, 0, 40, 0, 0],
        [0, 40, 0, 140, 0],
        [1, 0, 1, 0, 0],
        [0, 1, 0, 1, 0],
    ]


@pytest.mark.parametrize(
    ("steps", "initiator"),
    [
        ([(0, "B", ACK), (1, "A", SYN), (2, "B", SYN | ACK)], A),  # the SYN counts, not the first packet
        ([(0, "B", SYN | ACK), (1, "A", ACK)], A),  # a SYN-ACK answers the initiator
        ([(0, "A", SYN | ACK), (1, "B", SYN)], B),  # a SYN takes precedence over a SYN-ACK
        ([(0, "A", SYN), (1, "B", SYN)], A),  # both open at once: the first
        ([(0, "A", ACK), (1, "A", SYN | ACK), (2, "B", SYN | ACK)], B),  # both answer: the first
        ([(0, "B", ACK), (1, "A", ACK)], B),  # mid-stream: the first packet
    ],
)
def test_the_initiator_sent_the_syn_or_got_the_syn_ack_or_sent_the_first_packet(
    packet: Any, flows_of: Any, steps: Any, initiator: Any
) -> None:
    assert rows(flows_of(connection(packet, *steps)), "src") == [initiator]


def test_vlans_keep_flows_apart(packet: Any, flows_of: Any) -> None:
    frame = packet.udp4(1, 2)
    tagged = [frame[:12] + b"\x81\x00\x00" + bytes([number]) + frame[12:] for number in (5, 6)]
    assert rows(flows_of([(0, frame), (1, tagged[0]), (2, tagged[1])]), "vlan") == [None, 5, 6]


def test_a_packet_to_itself_goes_up(packet: Any, flows_of: Any) -> None:
    """The answer cannot be told from the request, and goes up too."""
    table = flows_of([(0, packet.udp4(7, 7, b"", A, A)), (1, packet.udp4(7, 7, b"abc", A, A))])
    assert up_and_down(table) == [[2, 0]]
    steps = [(at, packet.tcp4(7, 7, flags, b"", A, A)) for at, flags in ((0, SYN | ACK), (1, ACK), (2, SYN))]
    assert sum(down for _, down in up_and_down(flows_of(steps))) == 0


def test_a_flow_between_two_ports_of_one_host_has_two_directions(packet: Any, flows_of: Any) -> None:
    table = flows_of([(0, packet.udp4(9, 7, b"", A, A)), (1, packet.udp4(7, 9, b"", A, A))])
    assert rows(table, "src_port", "dst_port") == [(9, 7)]
    assert up_and_down(table) == [[1, 1]]


def test_flows_are_in_the_order_of_their_first_packets(packet: Any, flows_of: Any) -> None:
    """The order is that of the file, whatever the time stamps and keys."""
    ports = [5, 3, 9, 3, 1, 5, 7]
    table = flows_of([(10 - at, packet.udp4(port, 53)) for at, port in enumerate(ports)])
    assert rows(table, "src_port", "packets", "flow") == [(5, 2, 0), (3, 2, 1), (9, 1, 2), (1, 1, 3), (7, 1, 4)]


def test_a_flow_lasts_from_its_earliest_to_its_latest_time_stamp(packet: Any, flows_of: Any) -> None:
    table = flows_of(
        connection(packet, (5, "A", ACK), (3, "B", ACK), (9, "B", ACK), (4, "A", ACK)), spec=SeriesSpec(NS, 8)
    )
    assert rows(table, "start_ns", "duration_ns", "src") == [(T + 3 * NS, 6 * NS, A)]
    assert table.series()[0, 2:].tolist() == [[0, 1, 1, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 1, 0]]


# -- grouped by host or capture ----------------------------------------------------------------------------------


def test_grouping_by_capture_gives_one_row_with_the_directions_of_the_flows(packet: Any, flows_of: Any) -> None:
    frames = [
        *connection(packet, (0, "A", SYN), (1, "B", SYN | ACK)),
        (2, packet.udp4(9, 53, b"abc", B, A)),
        (400, packet.udp4(9, 53, b"abc", B, A)),
    ]
    table = flows_of(frames, group_by="capture")
    assert rows(table, "packets", "duration_ns", "src", "protocol") == [(4, 400 * NS, None, None)]
    assert up_and_down(table) == [[3, 1]]


def test_grouping_by_host_gives_one_row_per_initiating_address(packet: Any, flows_of: Any) -> None:
    frames = [
        *connection(packet, (0, "A", SYN), (1, "B", SYN | ACK)),
        (2, packet.udp4(9, 53, b"abc", B, A)),
        (500, packet.udp4(10, 53, b"", A, B)),
    ]
    table = flows_of(frames, group_by="host")
    assert rows(table, "src", "protocol", "packets", "bytes", "duration_ns") == [
        (A, None, 3, 40 + 40 + 28, 500 * NS),
        (B, 17, 1, 31, 0),
    ]
    assert up_and_down(table) == [[2, 1], [1, 0]]


# -- compared with the oracle, in segments of any size ---------------------------------------------------------------

COLUMNS = ("protocol", "src", "src_port", "dst", "dst_port", "vlan", "start_ns", "duration_ns", "packets", "bytes")
STEP = st.tuples(
    st.sampled_from([0, NS // 1000, NS, 9 * NS, 60 * NS, 119 * NS, 121 * NS, -NS, -60 * NS]),
    st.sampled_from("AAB"),
    st.integers(1000, 1001),
    st.sampled_from([None, 0, FIN, SYN, SYN, RST, ACK, SYN | ACK, FIN | ACK]),  # None: UDP
    st.integers(0, 2),
)


@settings(max_examples=examples(150), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(STEP, min_size=1, max_size=40),
    idle=st.sampled_from([120, 10]),
    active=st.sampled_from([None, 1, 30, 100, 1000]),
    segment=st.integers(24, 3000),
)
def test_flows_are_those_of_the_oracle_for_any_timeouts_and_segments(
    packet: Any, pcap_file: Any, steps: Any, idle: Any, active: Any, segment: Any
) -> None:
    """The rows equal those of tests/support/oracle.py, and the table does not depend on the segment size."""
    frames, now = [], T
    for gap, side, port, flags, number in steps:
        now += gap
        ends = (port, 80) if side == "A" else (80, port)
        hosts = (A, B) if side == "A" else (B, A)
        udp = packet.udp4(*ends, bytes(number), *hosts)
        frames.append((now, udp if flags is None else tcp_frame(packet, flags, number, side, port=port)))
    path = pcap_file(frames, nano=True)
    options = {"idle_timeout_ns": idle * NS, "active_timeout_ns": active and active * NS}
    uncut = extract(path, spec=ONE_BIN, **options)
    expected = Counter(flow.row() for flow in oracle.flows_of(path, idle * NS, active and active * NS))
    columns = [uncut.table[name].to_pylist() for name in COLUMNS]
    assert Counter(zip(*columns, *uncut.series().sum(2).T.tolist(), strict=True)) == expected
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "SEGMENT", segment)
        cut = extract(path, spec=ONE_BIN, **options)
    assert cut.table.equals(uncut.table)
    assert cut.metadata == uncut.metadata


# -- what is counted -----------------------------------------------------------------------------


def test_packets_seen_twice_are_counted_and_kept(packet: Any, flows_of: Any) -> None:
    """A copy within 10 ms comes from a mirrored port; a retransmission has another IP identification."""

    def numbered(ident: Any, side: Any = "A") -> Any:
        frame = tcp_frame(packet, ACK, 5, side, b"abc")
        return frame[:18] + struct.pack(">H", ident) + frame[20:]

    steps = [(0, numbered(1)), (0.009, numbered(1)), (0.011, numbered(1)), (1, numbered(1)), (1.001, numbered(2))]
    table = flows_of(steps)
    assert report_warnings(table)[REPEATED] == 2
    assert rows(table, "packets") == [5]
    steps = [(0, numbered(1)), (0, numbered(2)), (0.02, numbered(2)), (0.02, numbered(3, "B"))]
    assert REPEATED not in report_warnings(flows_of(steps))


def test_packets_of_other_flows_may_lie_between_the_two_copies(packet: Any, flows_of: Any) -> None:
    one, other = tcp_frame(packet, ACK, 5), packet.udp4(1, 2, b"abc")
    assert report_warnings(flows_of([(0, one), (0.001, other), (0.002, one)]))[REPEATED] == 1


def test_a_packet_before_and_after_a_router_is_the_same_packet(packet: Any, flows_of: Any) -> None:
    """The router changes MAC addresses and TTL."""
    one = bytearray(tcp_frame(packet, ACK, 5))
    one[18:20] = b"\0\7"
    other = bytearray(one)
    other[:12], other[22] = bytes(12), 63
    assert report_warnings(flows_of([(0, bytes(one)), (0.001, bytes(other))]))[REPEATED] == 1


def test_time_stamps_that_go_back_are_counted(packet: Any, flows_of: Any) -> None:
    """Each packet is compared with the one before it, of any flow; equal time stamps are not counted."""
    steps = [(at, packet.udp4(port, 53)) for at, port in ((5, 1), (3, 2), (4, 1), (4, 2), (3.999, 3), (9, 1))]
    assert report_warnings(flows_of(steps))[BACKWARDS] == 2
    assert BACKWARDS not in report_warnings(flows_of(steps[1:4]))


def test_time_stamps_of_two_captures_are_not_compared(packet: Any, pcap_file: Any) -> None:
    paths = [pcap_file([(T - at, packet.udp4(1, 2))], f"{at}.pcap") for at in range(2)]
    table = extract(paths)
    assert BACKWARDS not in report_warnings(table)
    assert len(table) == 2  # their packets are not joined into a flow either
