"""assemble: packets to flows, with the right ends, direction and names, however the file is cut into parts.

What each rule of docs/flows.md says is held against a second implementation in tests/capture/flows/test_oracle.py.
"""

import struct
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import handshakes as hellos
from support import oracle
from support.examples import examples
from support.extraction import extract

from netgen.capture.errors import InputError
from netgen.capture.flows.assemble import Assembler
from netgen.capture.formats import reader
from netgen.capture.series.spec import SeriesSpec

pytestmark = pytest.mark.usefixtures("either_reader")

NS = 1_000_000_000
T = 1_700_000_000 * NS
FIN, SYN, RST, ACK = 1, 2, 4, 16
A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"
#: Four bins of 36 years: every packet lies in the first.
ONE_BIN = SeriesSpec(bin_ns=2**60 - 1, length=4)
REPEATED, BACKWARDS = "packets seen twice", "packets stamped earlier than the one before"


@pytest.fixture(params=[1 << 25, 100], ids=["one part", "many parts"])
def flows_of(request: pytest.FixtureRequest, pcap_file: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Function: (seconds, Ethernet frame) pairs to their flow table; once from one part, once from many."""
    monkeypatch.setattr(reader, "SEGMENT", request.param)

    def make(packets: Any, **options: Any) -> Any:
        path = pcap_file([(T + round(at * NS), frame) for at, frame in packets], nano=True)
        return extract(path, spec=options.pop("spec", ONE_BIN), **options)

    return make


def rows(table: Any, *names: Any) -> Any:
    values = list(zip(*(table.table[name].to_pylist() for name in names), strict=True))
    return [item[0] for item in values] if len(names) == 1 else values


def up_and_down(table: Any) -> Any:
    """Packets up and down of each flow."""
    return table.series()[:, 2:].sum(2).tolist()


def notes(table: Any) -> Any:
    return table.metadata["read_report"]["warnings"]


def tcp(packet: Any, flags: Any, seq: Any = 1, side: Any = "A", payload: Any = b"", port: Any = 1000) -> Any:
    """A frame of one TCP connection, from its client A or its server B."""
    frame = packet.tcp4(port, 80, flags, payload, A, B) if side == "A" else packet.tcp4(80, port, flags, payload, B, A)
    return frame[:38] + struct.pack(">I", seq) + frame[42:]


def talk(packet: Any, *steps: Any) -> Any:
    """Frames of one TCP connection: steps of (seconds, "A" or "B", flags[, sequence number[, payload]])."""
    return [
        (at, tcp(packet, flags, more[0] if more else 1, side, bytes(*more[1:]))) for at, side, flags, *more in steps
    ]


# -- what a flow is ------------------------------------------------------------------------------


def test_both_directions_are_one_flow_and_up_is_from_the_initiator(packet: Any, flows_of: Any) -> None:
    steps = talk(packet, (0, "A", SYN), (1, "B", SYN | ACK), (2, "A", ACK), (3, "B", ACK, 2, 100))
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
        ([(0, "A", SYN | ACK), (1, "B", SYN)], B),  # a SYN says more than a SYN-ACK
        ([(0, "A", SYN), (1, "B", SYN)], A),  # both open at once: the first
        ([(0, "A", ACK), (1, "A", SYN | ACK), (2, "B", SYN | ACK)], B),  # both answer: the first
        ([(0, "B", ACK), (1, "A", ACK)], B),  # mid-stream: the first packet
    ],
)
def test_the_initiator_sent_the_syn_or_was_answered_or_sent_the_first_packet(
    packet: Any, flows_of: Any, steps: Any, initiator: Any
) -> None:
    assert rows(flows_of(talk(packet, *steps)), "src") == [initiator]


def test_vlans_keep_flows_apart(packet: Any, flows_of: Any) -> None:
    frame = packet.udp4(1, 2)
    tagged = [frame[:12] + b"\x81\x00\x00" + bytes([number]) + frame[12:] for number in (5, 6)]
    assert rows(flows_of([(0, frame), (1, tagged[0]), (2, tagged[1])]), "vlan") == [None, 5, 6]


def test_a_packet_to_itself_goes_up(packet: Any, flows_of: Any) -> None:
    """So does the answer, which looks the same."""
    table = flows_of([(0, packet.udp4(7, 7, b"", A, A)), (1, packet.udp4(7, 7, b"abc", A, A))])
    assert up_and_down(table) == [[2, 0]]
    steps = [(at, packet.tcp4(7, 7, flags, b"", A, A)) for at, flags in ((0, SYN | ACK), (1, ACK), (2, SYN))]
    assert sum(down for _, down in up_and_down(flows_of(steps))) == 0


def test_the_ports_of_one_address_are_two_ends(packet: Any, flows_of: Any) -> None:
    table = flows_of([(0, packet.udp4(9, 7, b"", A, A)), (1, packet.udp4(7, 9, b"", A, A))])
    assert rows(table, "src_port", "dst_port") == [(9, 7)]
    assert up_and_down(table) == [[1, 1]]


def test_flows_stand_in_the_order_of_their_first_packets(packet: Any, flows_of: Any) -> None:
    """In the file, whatever their stamps and keys."""
    ports = [5, 3, 9, 3, 1, 5, 7]
    table = flows_of([(10 - at, packet.udp4(port, 53)) for at, port in enumerate(ports)])
    assert rows(table, "src_port", "packets", "flow") == [(5, 2, 0), (3, 2, 1), (9, 1, 2), (1, 1, 3), (7, 1, 4)]


def test_a_flow_begins_with_its_earliest_stamp_and_ends_with_its_latest(packet: Any, flows_of: Any) -> None:
    table = flows_of(talk(packet, (5, "A", ACK), (3, "B", ACK), (9, "B", ACK), (4, "A", ACK)), spec=SeriesSpec(NS, 8))
    assert rows(table, "start_ns", "duration_ns", "src") == [(T + 3 * NS, 6 * NS, A)]
    assert table.series()[0, 2:].tolist() == [[0, 1, 1, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 1, 0]]


# -- where a flow ends ---------------------------------------------------------------------------


def test_an_idle_timeout_ends_a_flow(packet: Any, flows_of: Any) -> None:
    steps = talk(packet, (0, "A", ACK), (120, "B", ACK), (240.5, "A", ACK))
    assert rows(flows_of(steps), "packets") == [2, 1]
    assert rows(flows_of(steps, idle_timeout_ns=121 * NS), "packets") == [3]
    assert rows(flows_of(steps, idle_timeout_ns=NS), "packets") == [1, 1, 1]


def test_an_active_timeout_ends_a_flow_that_goes_on(packet: Any, flows_of: Any) -> None:
    """Counted from the first packet of each new flow; by default there is none."""
    steps = [(at * 50, packet.udp4(1, 2)) for at in range(10)]
    assert rows(flows_of(steps), "packets") == [10]
    assert rows(flows_of(steps, active_timeout_ns=100 * NS), "packets") == [3, 3, 3, 1]
    assert rows(flows_of(steps, active_timeout_ns=149 * NS), "packets") == [3, 3, 3, 1]
    assert rows(flows_of(steps, active_timeout_ns=10**6 * NS), "packets") == [10]


def test_an_active_timeout_counts_anew_from_every_kind_of_beginning(packet: Any, flows_of: Any) -> None:
    """After silence, and after a SYN that begins another flow."""
    steps = talk(packet, (0, "A", SYN, 1), (60, "A", FIN, 2), (70, "A", SYN, 9), (160, "A", ACK, 10), (171, "A", ACK))
    assert rows(flows_of(steps, active_timeout_ns=100 * NS), "packets") == [2, 2, 1]
    steps = talk(packet, (0, "A", ACK), (90, "A", ACK), (211, "A", ACK), (310, "A", ACK), (312, "A", ACK))
    assert rows(flows_of(steps, active_timeout_ns=100 * NS), "packets") == [2, 2, 1]
    # the SYN that is repeated last is the one with which the time was over
    steps = talk(packet, (0, "A", SYN), (101, "A", SYN), (102, "A", SYN))
    assert rows(flows_of(steps, active_timeout_ns=100 * NS), "packets") == [1, 2]


@pytest.mark.parametrize("end", [FIN | ACK, RST])
def test_a_syn_after_fin_or_rst_is_a_new_flow_and_trailing_acks_stay_with_the_old(
    packet: Any, flows_of: Any, end: Any
) -> None:
    steps = [(0, "A", SYN), (1, "A", end), (2, "B", ACK), (3, "A", ACK), (4, "B", SYN), (5, "A", SYN | ACK)]
    assert rows(flows_of(talk(packet, *steps)), "packets", "src") == [(4, A), (2, B)]


def test_a_syn_of_another_number_is_a_new_flow_even_without_an_end(packet: Any, flows_of: Any) -> None:
    steps = [(0, "A", SYN, 1), (1, "B", SYN | ACK), (2, "A", SYN, 2), (3, "B", SYN | ACK), (4, "A", SYN, 3)]
    assert rows(flows_of(talk(packet, *steps)), "packets") == [2, 2, 1]


def test_a_repeated_syn_is_no_new_flow(packet: Any, flows_of: Any) -> None:
    """Nor is one after a reset that said no to it, nor is the other side's first SYN."""
    steps = [(0, "A", SYN), (1, "A", SYN), (3, "A", SYN), (4, "B", SYN | ACK)]
    assert rows(flows_of(talk(packet, *steps)), "packets") == [4]
    again = [(0, "A", SYN), (1, "B", RST), (2, "A", SYN), (3, "A", SYN), (4, "B", RST), (5, "A", SYN)]
    assert rows(flows_of(talk(packet, *again)), "packets") == [6]
    both = [(0, "A", SYN, 1), (1, "B", SYN, 7), (2, "A", SYN, 1), (3, "B", SYN, 7), (4, "A", SYN, 2)]
    assert rows(flows_of(talk(packet, *both)), "packets") == [4, 1]


def test_a_number_repeats_only_the_last_syn_of_its_own_flow(packet: Any, flows_of: Any) -> None:
    """A sequence number of 0 is one like others, and what a flow before had is forgotten."""
    steps = [(0, "A", SYN, 0), (1, "A", SYN, 0), (2, "B", RST), (200, "A", ACK, 5), (201, "A", SYN, 0)]
    assert rows(flows_of(talk(packet, *steps)), "packets") == [3, 1, 1]
    steps = [(0, "A", SYN, 2**32 - 1), (1, "A", SYN, 2**32 - 1), (2, "A", SYN, 0), (3, "A", SYN, 2**32 - 1)]
    assert rows(flows_of(talk(packet, *steps)), "packets") == [2, 1, 1]


# -- against the rules, cut anywhere ---------------------------------------------------------------

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
def test_timeouts_and_batches_of_any_size_give_the_flows_of_the_rules(
    packet: Any, pcap_file: Any, steps: Any, idle: Any, active: Any, segment: Any
) -> None:
    """The rows of tests/support/oracle.py; and one and the same table whatever the parts."""
    frames, now = [], T
    for gap, side, port, flags, number in steps:
        now += gap
        ends = (port, 80) if side == "A" else (80, port)
        hosts = (A, B) if side == "A" else (B, A)
        udp = packet.udp4(*ends, bytes(number), *hosts)
        frames.append((now, udp if flags is None else tcp(packet, flags, number, side, port=port)))
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


def test_keys_that_are_forgotten_when_their_flows_have_ended_are_flows_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A quarter of a million keys, in nine minutes of a capture; two of them go on for a while in each round."""
    monkeypatch.setattr(reader, "SEGMENT", 1 << 20)
    rng = np.random.default_rng(0)
    rounds, item = 4, 70_000
    # round after round, 130 s apart: keys of the round before, and new ones
    key = np.concatenate([rng.permutation(item) + start for start in (0, item // 2, 3 * item, 4 * item)])
    seconds = np.arange(len(key)) // item * 130 + np.arange(len(key)) % item / 20_000
    steady = np.arange(0, len(key), 20_000)
    key[steady] = 10**6 + np.arange(len(steady)) % 2
    record = np.zeros(len(key), [("seconds", "<u4"), ("us", "<u4"), ("captured", "<u4"), ("length", "<u4"),
                                 ("head", "V42")])  # fmt: skip
    frame = np.zeros((len(key), 42), np.uint8)
    frame[:, 12:14] = 8, 0
    frame[:, 14:24] = 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17
    frame[:, 26:30] = (10 << 24 | key >> 8).astype(">u4").view(np.uint8).reshape(-1, 4)
    frame[:, 30:34] = 10, 255, 0, 1
    frame[:, 34:36] = (key & 0xFF).astype(">u2").view(np.uint8).reshape(-1, 2)
    frame[:, 36:40] = 0, 53, 0, 8
    record["head"] = frame.view("V42").ravel()
    record["seconds"], record["us"] = 1000 + seconds.astype(int), (seconds % 1 * 1e6).astype(int)
    record["captured"] = record["length"] = 42
    path = tmp_path / "a.pcap"
    path.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1) + record.tobytes())
    expected, newest = [], {}
    stamps = record["seconds"].astype(np.int64) * 10**6 + record["us"]
    for one, stamp in zip(key.tolist(), stamps.tolist(), strict=True):
        flow = newest.get(one)
        if flow is None or stamp - flow[2] > 120 * 10**6:
            flow = newest[one] = [stamp * 1000, 0, stamp]
            expected.append(flow)
        flow[1:] = flow[1] + 1, stamp
    table = extract(path, spec=ONE_BIN)
    assert len(table) == len(expected) > 3 * item
    assert rows(table, "start_ns", "packets") == [(start, count) for start, count, _ in expected]
    assert rounds * item == sum(rows(table, "packets"))


def test_timeouts_that_cannot_be_used_are_refused() -> None:
    for options in ({"idle_timeout_ns": 0}, {"active_timeout_ns": -1}):
        option = next(iter(options)).removesuffix("_ns").replace("_", "-")
        with pytest.raises(InputError, match=f"--{option} must be between 1 ns and 146 years, got -?[01] ns"):
            Assembler(**options)


# -- what is counted -----------------------------------------------------------------------------


def test_packets_seen_twice_are_counted_and_kept(packet: Any, flows_of: Any) -> None:
    """Repeated within 10 ms, as a mirrored port does; not a retransmission, which has another IP identification."""

    def numbered(ident: Any, side: Any = "A") -> Any:
        frame = tcp(packet, ACK, 5, side, b"abc")
        return frame[:18] + struct.pack(">H", ident) + frame[20:]

    steps = [(0, numbered(1)), (0.009, numbered(1)), (0.011, numbered(1)), (1, numbered(1)), (1.001, numbered(2))]
    table = flows_of(steps)
    assert notes(table)[REPEATED] == 2
    assert rows(table, "packets") == [5]
    steps = [(0, numbered(1)), (0, numbered(2)), (0.02, numbered(2)), (0.02, numbered(3, "B"))]
    assert REPEATED not in notes(flows_of(steps))


def test_a_packet_seen_twice_may_have_other_flows_between(packet: Any, flows_of: Any) -> None:
    one, other = tcp(packet, ACK, 5), packet.udp4(1, 2, b"abc")
    assert notes(flows_of([(0, one), (0.001, other), (0.002, one)]))[REPEATED] == 1


def test_a_packet_routed_once_is_the_same_packet(packet: Any, flows_of: Any) -> None:
    """Another MAC address and TTL, as before and after a router."""
    one = bytearray(tcp(packet, ACK, 5))
    one[18:20] = b"\0\7"
    other = bytearray(one)
    other[:12], other[22] = bytes(12), 63
    assert notes(flows_of([(0, bytes(one)), (0.001, bytes(other))]))[REPEATED] == 1


def test_stamps_that_go_back_are_counted(packet: Any, flows_of: Any) -> None:
    """From packet to packet, of any flow; equal ones are none."""
    steps = [(at, packet.udp4(port, 53)) for at, port in ((5, 1), (3, 2), (4, 1), (4, 2), (3.999, 3), (9, 1))]
    assert notes(flows_of(steps))[BACKWARDS] == 2
    assert BACKWARDS not in notes(flows_of(steps[1:4]))


def test_stamps_of_two_captures_are_not_compared(packet: Any, pcap_file: Any) -> None:
    paths = [pcap_file([(T - at, packet.udp4(1, 2))], f"{at}.pcap") for at in range(2)]
    table = extract(paths)
    assert BACKWARDS not in notes(table)
    assert len(table) == 2  # nor do their packets meet in a flow


# -- names ---------------------------------------------------------------------------------------


def test_only_the_first_name_sent_by_the_initiator_counts(packet: Any, flows_of: Any) -> None:
    """The first name counts; a flow that is begun anew has its own."""
    film, other = hellos.hello(b"a.nflxvideo.net"), hellos.hello(b"www.example.org")

    def from_b(seq: Any, payload: Any) -> Any:
        return tcp(packet, ACK, seq, "B", payload)

    def from_a(seq: Any, payload: Any, port: Any = 1000) -> Any:
        return tcp(packet, ACK, seq, "A", payload, port)

    steps = [
        (0, tcp(packet, SYN, 1)),
        (1, from_b(1, other)),
        (2, from_a(2, film)),
        (3, from_a(2 + len(film), other)),
        (4, tcp(packet, FIN, 900)),
        (5, tcp(packet, SYN, 5000)),
        (6, from_a(5001, other)),
        (7, from_a(1, film, port=2)),
        (8, from_b(1, b"")),
    ]
    assert rows(flows_of(steps), "server_name", "server_name_source") == [
        ("a.nflxvideo.net", "tls"),
        ("www.example.org", "tls"),
        ("a.nflxvideo.net", "tls"),
    ]
    assert rows(flows_of(steps[1:2]), "server_name") == ["www.example.org"]  # whoever sent the first packet


def test_the_initiator_may_become_known_after_the_name(packet: Any, flows_of: Any) -> None:
    """B's hello comes first, then A's SYN: it was a server's after all."""
    hello = hellos.hello(b"www.example.org")
    steps = [(0, tcp(packet, ACK, 5, "B", hello)), (1, tcp(packet, SYN, 1))]
    assert rows(flows_of(steps), "src", "server_name") == [(A, None)]
    steps = [(0, tcp(packet, ACK, 2, "A", hello)), (1, tcp(packet, SYN | ACK, 1, "B"))]
    assert rows(flows_of(steps), "src", "server_name") == [(A, "www.example.org")]


def dns(packet: Any, name: Any, *addresses: Any, client: Any = A) -> Any:
    """What a name server tells a client."""
    answers = [hellos.record(hellos.dns_name(name), 1, bytes(map(int, item.split(".")))) for item in addresses]
    return packet.udp4(53, 5000, hellos.dns(name, answers), "10.0.0.53", client)


def test_dns_names_later_flows_between_the_client_and_the_address(packet: Any, flows_of: Any) -> None:
    """Not those before, nor another client's; of several answers the last; not where TLS or QUIC say it."""
    quic = hellos.initial(hellos.crypto(0, hellos.message(b"quic.example.org")))
    steps = [
        (0, packet.udp4(1, 9, b"", A, B)),
        (1, dns(packet, "one.example.org", B, C)),
        (2, packet.udp4(2, 9, b"", A, B)),
        (3, packet.udp4(9, 3, b"", B, A)),
        (4, packet.udp4(4, 9, b"", "10.0.0.9", B)),
        (5, dns(packet, "two.example.org", B)),
        (6, packet.udp4(5, 9, b"", A, B)),
        (7, packet.udp4(6, 9, b"", A, C)),
        (8, packet.udp4(1, 9, b"", A, B)),
        (9, packet.udp4(7, 443, quic, A, B)),
        (10, tcp(packet, ACK, 1, "A", hellos.hello(b"tls.example.org"))),
    ]
    columns = ("src_port", "server_name", "server_name_source")
    named = {
        port: (name, source) for port, name, source in rows(flows_of(steps, name_sources="all"), *columns) if port != 53
    }
    assert named == {
        1: (None, None),
        2: ("one.example.org", "dns"),
        9: ("one.example.org", "dns"),
        4: (None, None),
        5: ("two.example.org", "dns"),
        6: ("one.example.org", "dns"),
        7: ("quic.example.org", "quic"),
        1000: ("tls.example.org", "tls"),
    }
    only_tls = [item for item in rows(flows_of(steps), *columns) if item[1]]
    assert only_tls == [(1000, "tls.example.org", "tls")]


def test_dns_of_one_capture_names_no_flow_of_another(packet: Any, pcap_file: Any) -> None:
    one = pcap_file([(T, dns(packet, "one.example.org", B))], "a.pcap")
    two = pcap_file([(T + NS, packet.udp4(2, 9, b"", A, B))], "b.pcap")
    assert rows(extract([one, two], name_sources="all"), "server_name")[1:] == [None]
    both = pcap_file([(T, dns(packet, "one.example.org", B)), (T + NS, packet.udp4(2, 9, b"", A, B))], "c.pcap")
    assert rows(extract(both, name_sources="all"), "server_name")[1:] == ["one.example.org"]


# -- put together ----------------------------------------------------------------------------------


def test_by_capture_is_one_row_with_the_direction_of_its_flows(packet: Any, flows_of: Any) -> None:
    frames = [
        *talk(packet, (0, "A", SYN), (1, "B", SYN | ACK)),
        (2, packet.udp4(9, 53, b"abc", B, A)),
        (400, packet.udp4(9, 53, b"abc", B, A)),
    ]
    table = flows_of(frames, group_by="capture")
    assert rows(table, "packets", "duration_ns", "src", "protocol") == [(4, 400 * NS, None, None)]
    assert up_and_down(table) == [[3, 1]]


def test_by_host_is_one_row_per_initiating_address(packet: Any, flows_of: Any) -> None:
    frames = [
        *talk(packet, (0, "A", SYN), (1, "B", SYN | ACK)),
        (2, packet.udp4(9, 53, b"abc", B, A)),
        (500, packet.udp4(10, 53, b"", A, B)),
    ]
    table = flows_of(frames, group_by="host")
    assert rows(table, "src", "protocol", "packets", "bytes", "duration_ns") == [
        (A, None, 3, 40 + 40 + 28, 500 * NS),
        (B, 17, 1, 31, 0),
    ]
    assert up_and_down(table) == [[2, 1], [1, 0]]
