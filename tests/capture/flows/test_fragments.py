"""fragments: later fragments join the flow of their first (docs/flows.md, rule 3), for any segment size."""

import ipaddress
import struct
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import oracle
from support.examples import examples
from support.extraction import extract

from netgen.capture.flows import fragments
from netgen.capture.formats import reader
from netgen.capture.series.spec import SeriesSpec

pytestmark = pytest.mark.usefixtures("either_reader")


NS = 1_000_000_000
T = 1_700_000_000
A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"
A6, B6 = "2001:db8::1", "2001:db8::2"
MORE = 0x2000
UDP, TCP = 17, 6
SYN, ACK, FIN = 2, 16, 1
#: Four bins of 36 years.
ONE_BIN = SeriesSpec(bin_ns=2**60 - 1, length=4)
SEGMENTS = (60, 500, 1 << 25)
_EXAMPLES = settings(max_examples=examples(40), suppress_health_check=[HealthCheck.function_scoped_fixture])


def ip(src: Any, dst: Any, payload: Any, offset: Any = 0, ident: Any = 0, protocol: Any = UDP) -> Any:
    """Build a frame; `offset` is in units of 8 bytes, plus `MORE`."""
    ends = ipaddress.ip_address(src).packed + ipaddress.ip_address(dst).packed
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), ident, offset, 64, protocol, 0)
    return bytes(12) + b"\x08\0" + head + ends + payload


def first(sport: Any, ident: Any = 7, src: Any = A, dst: Any = B, size: Any = 16) -> Any:
    """Build the first fragment of a datagram."""
    return ip(src, dst, struct.pack(">HHHH", sport, 53, 999, 0) + bytes(size), MORE, ident)


def later(ident: Any = 7, src: Any = A, dst: Any = B, offset: Any = 3, size: Any = 8) -> Any:
    return ip(src, dst, b"\xff" * size, offset, ident)


def first6(sport: Any, ident: Any = 7) -> Any:
    body = struct.pack(">BBHI", UDP, 0, 1, ident) + struct.pack(">HHHH", sport, 53, 999, 0) + bytes(16)
    return _ip6(body)


def later6(ident: Any = 7, following: Any = UDP) -> Any:
    return _ip6(struct.pack(">BBHI", following, 0, 3 << 3, ident) + b"\xff" * 8)


def _ip6(body: Any) -> Any:
    ends = ipaddress.ip_address(A6).packed + ipaddress.ip_address(B6).packed
    return bytes(12) + b"\x86\xdd" + struct.pack(">IHBB", 6 << 28, len(body), 44, 64) + ends + body


def tcp(flags: Any, seq: Any, offset: Any = 0, ident: Any = 0, size: Any = 0) -> Any:
    head = struct.pack(">HHIIBBHHH", 1000, 80, seq, 0, 0x50, flags, 0, 0, 0)
    return ip(A, B, head + bytes(size), offset, ident, TCP)


@pytest.fixture
def capture(pcap_file: Any) -> Any:
    """Return a function that writes (seconds, frame) pairs to a file."""
    return lambda frames: pcap_file([(T * NS + round(at * NS), data) for at, data in frames], nano=True)


def flows(path: Any, segment: Any = 1 << 25, **options: Any) -> Any:
    """Return source port and packets of the flows of a file that is read in segments of this many bytes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "SEGMENT", segment)
        table = extract(path, spec=ONE_BIN, **options)
    read_report = table.metadata["read_report"]
    assert read_report["packets"] == read_report["in_flows"] == sum(table.table["packets"].to_pylist())
    return list(zip(table.table["src_port"].to_pylist(), table.table["packets"].to_pylist(), strict=True))


# fmt: off
#: Name: (seconds and frames, source port and packets of each flow).
CASES = {
    "in order": ([(0, first(1)), (1, later()), (2, later())], [(1, 3)]),
    "in reverse order": ([(0, later()), (1, later()), (2, first(1))], [(1, 3)]),
    "before and after the first": ([(0, later()), (1, first(1)), (2, later())], [(1, 3)]),
    "the first never comes": ([(0, later()), (1, later())], [(None, 2)]),
    "a fragment without a first comes last": ([(0, later()), (1, first(1, ident=8))], [(1, 1), (None, 1)]),
    "the last first before a fragment counts": ([(0, first(1)), (1, first(2)), (2, later())], [(1, 1), (2, 2)]),
    "the next first after a fragment counts": ([(0, later()), (1, first(1)), (2, first(2))], [(1, 2), (2, 1)]),
    "too long after": ([(0, first(1)), (31, later())], [(1, 1), (None, 1)]),
    "too long after one, not before another": ([(0, first(1)), (31, later()), (32, first(2))], [(1, 1), (2, 2)]),
    "too long before": ([(0, later()), (31, first(1)), (32, first(2))], [(1, 1), (None, 1), (2, 1)]),
    "an earlier time stamp, later in the file": ([(20, first(1)), (0, later()), (19, later())], [(1, 3)]),
    "of another sender": ([(0, first(1)), (1, later(src=B, dst=A)), (2, later(src=C))], [(1, 1), (None, 1), (None, 1)]),
    "of another datagram": ([(0, first(1)), (1, later(8)), (2, first(2, 8))], [(1, 1), (2, 2)]),
    "of IPv6": ([(0, later6()), (1, first6(1)), (2, later6()), (3, later6(8))], [(1, 3), (None, 1)]),
    # IPv6 fragments of one datagram may name different next headers (RFC 8200, 4.5)
    "of IPv6 before another header": ([(0, first6(1)), (1, later6(following=60))], [(1, 2)]),
}
# fmt: on


@pytest.mark.parametrize("segment", SEGMENTS)
@pytest.mark.parametrize("name", CASES)
def test_later_fragments_join_the_flow_of_their_first(capture: Any, name: Any, segment: Any) -> None:
    frames, expected = CASES[name]
    assert flows(capture(frames), segment) == expected


@pytest.mark.parametrize("segment", SEGMENTS)
def test_a_fragment_that_waited_follows_directly_after_its_first(capture: Any, segment: Any) -> None:
    """It joins the connection of its first, which may be the second one with these ports."""
    early = ip(A, B, b"\xff" * 8, 3, 7, TCP)
    frames = [(0, early), (1, tcp(SYN, 1)), (2, tcp(ACK, 2, MORE, 7, 24)), (3, tcp(FIN, 3)), (4, tcp(SYN, 9))]
    assert flows(capture(frames), segment) == [(1000, 4), (1000, 1)]
    frames = [(0, early), (1, tcp(SYN, 1)), (2, tcp(FIN, 3)), (3, tcp(SYN, 9)), (4, tcp(ACK, 10, MORE, 7, 24))]
    assert flows(capture(frames), segment) == [(1000, 2), (1000, 3)]


@pytest.mark.parametrize("segment", SEGMENTS)
def test_a_fragment_that_waited_keeps_its_time_and_direction(capture: Any, segment: Any) -> None:
    """It may be the first packet of the flow, and decides the direction; its size is its own."""
    path = capture([(5, later(src=B, dst=A, size=100)), (9, first(1, src=B, dst=A)), (10, ip(A, B, first(1)[34:]))])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "SEGMENT", segment)
        table = extract(path, spec=ONE_BIN)
    (row,) = table.table.drop_columns(list(ONE_BIN.channels)).to_pylist()[:1]
    assert (row["src"], row["src_port"], row["packets"], row["start_ns"]) == (B, 1, 2, (T + 5) * NS)
    assert table.series()[0].sum(1).tolist() == [120 + 44, 0, 2, 0]


def test_fragments_of_different_captures_are_not_joined(pcap_file: Any) -> None:
    one = pcap_file([(T * NS, first(1))], "a.pcap")
    two = pcap_file([(T * NS, later())], "b.pcap")
    for paths in ([one, two], [two, one]):
        table = extract(paths)
        assert sorted(table.table["src_port"].to_pylist(), key=str) == [1, None]


@st.composite
def _frames(draw: Any) -> Any:
    """Generate fragments of a few datagrams and complete packets in any order, some far apart."""
    frames, now = [], 1000
    for _ in range(draw(st.integers(1, 40))):
        now += draw(st.sampled_from([0, 0, 1, 9, 29, 31, 121, -1, -31]))
        src, dst = draw(st.sampled_from([(A, B), (A, B), (B, A), (A, C)]))
        ident, sport = draw(st.integers(7, 9)), draw(st.integers(1, 2))
        kind = draw(st.integers(0, 6))
        if kind < 3:
            frame = later(ident, src, dst, draw(st.sampled_from([1, 3, 3 | MORE])))
        elif kind < 5:
            frame = first(sport, ident, src, dst)
        elif kind == 5:
            frame = draw(st.sampled_from([first6(sport, ident), later6(ident), later6(ident)]))
        else:
            frame = ip(src, dst, struct.pack(">HHHH", sport, 53, 8, 0))
        frames.append((now, frame))
    return frames


COLUMNS = ("protocol", "src", "src_port", "dst", "dst_port", "vlan", "start_ns", "duration_ns", "packets", "bytes")


def uncut_rows(path: Any, segment: Any) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "SEGMENT", segment)
        table = extract(path, spec=ONE_BIN)
    columns = [table.table[name].to_pylist() for name in COLUMNS]
    return Counter(zip(*columns, *table.series().sum(2).T.tolist(), strict=True)), table


@_EXAMPLES
@given(frames=_frames(), segment=st.integers(24, 2000))
def test_flows_are_those_of_the_oracle_for_any_segment_size(capture: Any, frames: Any, segment: Any) -> None:
    """The rows equal those of tests/support/oracle.py, and the table does not depend on the segment size."""
    path = capture(frames)
    expected = Counter(flow.row() for flow in oracle.flows_of(path))
    rows, uncut = uncut_rows(path, 1 << 25)
    assert rows == expected
    _, cut = uncut_rows(path, segment)
    assert cut.table.equals(uncut.table)
    assert cut.metadata == uncut.metadata


# -- memory --------------------------------------------------------------------------------------


@_EXAMPLES
@given(frames=_frames(), segment=st.integers(24, 2000), room=st.integers(1, 4))
def test_with_little_memory_no_packet_is_lost_for_any_segment_size(
    capture: Any, frames: Any, segment: Any, room: Any
) -> None:
    path = capture(frames)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fragments, "MAX_REMEMBERED", room)
        uncut = flows(path)
        assert flows(path, segment) == uncut
    assert sum(packets for _, packets in uncut) == len(frames)


@pytest.mark.parametrize("segment", SEGMENTS)
def test_first_fragments_are_forgotten_after_many_others(
    capture: Any, monkeypatch: pytest.MonkeyPatch, segment: Any
) -> None:
    monkeypatch.setattr(fragments, "MAX_REMEMBERED", 10)
    for between, port in ((9, 1), (10, None)):
        others = [(1, first(2, ident)) for ident in range(100, 100 + between)]
        path = capture([(0, first(1)), *others, (2, later())])
        assert (port, 2 if port else 1) in flows(path, segment)


@pytest.mark.parametrize("segment", SEGMENTS)
def test_the_oldest_waiting_fragments_are_released(capture: Any, monkeypatch: pytest.MonkeyPatch, segment: Any) -> None:
    monkeypatch.setattr(fragments, "MAX_REMEMBERED", 10)
    for between, expected in ((9, [(1, 2), (None, 9)]), (10, [(None, 11), (1, 1)])):
        others = [(1, later(ident)) for ident in range(100, 100 + between)]
        path = capture([(0, later()), *others, (2, first(1))])
        assert flows(path, segment) == expected


@pytest.mark.parametrize("segment", SEGMENTS)
def test_a_released_fragment_takes_no_memory(capture: Any, monkeypatch: pytest.MonkeyPatch, segment: Any) -> None:
    """Fragments of many datagrams come before their first; a first that is seen again counts as new."""
    monkeypatch.setattr(fragments, "MAX_REMEMBERED", 3)
    frames = [frame for ident in range(50) for frame in ((0, later(ident)), (0, later(ident)), (0, first(1, ident)))]
    assert flows(capture(frames), segment) == [(1, 150)]
    seen = [(0, first(1, ident)) for ident in (7, 8, 9, 7, 10, 11)]
    assert flows(capture([*seen, (1, later(7))]), segment) == [(1, 7)]


def test_any_number_of_fragments_up_to_the_limit_can_wait(capture: Any) -> None:
    """They may be of one datagram or of many, and all join the flow of their first."""
    path = capture([(0, later())] * 3000 + [(1, first(1))])
    assert flows(path) == [(1, 3001)]
    path = capture([(0, later(ident)) for ident in range(3000)] + [(1, first(1, ident)) for ident in range(3000)])
    assert flows(path) == [(1, 6000)]
