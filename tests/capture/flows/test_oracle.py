"""netgen and a second implementation of docs/flows.md (tests/support/oracle.py) give the same flows.

Cases with expected flows check the oracle against the rules. netgen is compared with the oracle on these
cases, on captures that hypothesis generates, and on real captures.
"""

import ipaddress
import itertools
import json
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import oracle
from support.examples import examples
from support.flow_cases import (
    A6,
    ACK,
    B6,
    CASES,
    FIN,
    MORE,
    NS,
    ROWS,
    RST,
    SYN,
    TICK,
    YEAR,
    A,
    B,
    C,
    T,
    echo,
    ether,
    frag,
    ip,
    ip6,
    tcp,
    udp,
    write,
)

import netgen

pytestmark = pytest.mark.usefixtures("either_reader")


#: Four bins of 36 years, so that no packet lies after the last bin.
ONE_BIN = netgen.SeriesSpec(bin_ns=2**60 - 1, length=4)
COLUMNS = ("protocol", "src", "src_port", "dst", "dst_port", "vlan", "start_ns", "duration_ns", "packets", "bytes")


def netgen_rows(path: Path, **options: Any) -> Counter[tuple[object, ...]]:
    """Count netgen's flows of a capture, in the form of the oracle's rows."""
    table = netgen.extract([path], spec_from=ONE_BIN, **options)
    columns = [table.table[name].to_pylist() for name in COLUMNS]
    for number in (1, 3):
        columns[number] = [str(ipaddress.ip_address(address)) for address in columns[number]]
    return Counter(zip(*columns, *table.series().sum(2).T.tolist(), strict=True))


def oracle_rows(path: Path, **options: Any) -> Counter[tuple[object, ...]]:
    return Counter(flow.row() for flow in oracle.flows_of(path, **options))


def differences(path: Path) -> str | None:
    """Describe the rows that only netgen has and that only the oracle has; None if there are none."""
    ours, expected = netgen_rows(path), oracle_rows(path)
    if ours == expected:
        return None
    return f"{path.name}: netgen {sorted(ours - expected, key=str)[:2]}, oracle {sorted(expected - ours, key=str)[:2]}"


@pytest.mark.parametrize("name", CASES)
def test_packets_are_grouped_by_the_rules(name: Any, tmp_path: Path) -> None:
    frames, flows = CASES[name]
    path = write(tmp_path / "a.pcap", frames)
    assert sorted(sorted(flow.numbers) for flow in oracle.flows_of(path)) == sorted(flows)
    assert netgen_rows(path) == oracle_rows(path)


@pytest.mark.parametrize("name", ROWS)
def test_rows_are_those_that_the_rules_give(name: Any, tmp_path: Path) -> None:
    frames, flows = ROWS[name]
    path = write(tmp_path / "a.pcap", frames)
    assert oracle_rows(path) == Counter(flows)
    assert netgen_rows(path) == Counter(flows)


def test_a_clock_that_jumped_ahead_is_set_back_after_a_block(tmp_path: Path) -> None:
    """One time stamp a year ahead ends every flow once; a block of 1024 packets later, timeouts work again."""
    ahead = [(0, udp()), (YEAR, udp(sport=9)), (1, udp())]
    frames = (
        ahead + [(2 + i * 0.01, udp(sport=5)) for i in range(2048 - len(ahead))] + [(200, udp()), (201, udp(sport=5))]
    )
    path = write(tmp_path / "a.pcap", frames)
    flows = oracle.flows_of(path)
    assert [(flow.numbers[0], len(flow.numbers)) for flow in flows] == [
        *((0, 1), (1, 1), (2, 1)),
        (3, 2045),
        (2048, 1),
        (2049, 1),
    ]
    assert netgen_rows(path) == oracle_rows(path)
    # with the block one packet short, the clock still stands a year ahead and nothing ends
    del frames[100]
    path = write(tmp_path / "b.pcap", frames)
    assert [len(flow.numbers) for flow in oracle.flows_of(path)] == [1, 1, 2, 2045]
    assert netgen_rows(path) == oracle_rows(path)


@pytest.mark.parametrize(
    ("block", "probe", "flows"),
    [
        ([YEAR - 120] * 1024, [YEAR - 119, YEAR + 2], 1),  # not further back than the timeout: not set
        ([YEAR - 120 - 1e-6] * 1024, [YEAR - 119, YEAR + 2], 2),  # set to a year less 120 s
        ([10] * 1000 + [YEAR - 60] + [10] * 23, [YEAR - 59, YEAR + 99], 1),  # one packet is not in the past
        ([500] * 1000 + [10] * 24, [20, 400, 620], 1),  # set to its latest time, 500 s
        ([500] * 1000 + [10] * 24, [20, 621], 2),
        ([None] * 1000 + [10] * 24, [20, 129], 1),  # stamps of 0 don't count
        ([None] * 1024, [20, 400, YEAR], 1),  # no packet has a time: not set
    ],
)
def test_the_clock_is_set_to_the_latest_time_of_a_block_in_the_past(
    tmp_path: Path, block: Any, probe: Any, flows: int
) -> None:
    first = [(0, udp()), (YEAR, udp(sport=9))] + [(1, udp(sport=5))] * 1022
    path = write(
        tmp_path / "a.pcap", first + [(at, udp(sport=5)) for at in block] + [(at, udp(sport=7)) for at in probe]
    )
    assert sum(flow.numbers[0] >= 2048 for flow in oracle.flows_of(path)) == flows
    assert netgen_rows(path) == oracle_rows(path)


def test_an_active_timeout_ends_flows_that_go_on(tmp_path: Path) -> None:
    times = [0, 100, 200, 300, 300 + TICK, 400, 500, 600, 600 + TICK, 601]
    path = write(tmp_path / "a.pcap", [(at, udp()) for at in times])
    assert [len(flow.numbers) for flow in oracle.flows_of(path, active_ns=300 * NS)] == [4, 5, 1]
    assert netgen_rows(path, active_timeout="300s") == oracle_rows(path, active_ns=300 * NS)


# -- generated captures -------------------------------------------------------------------------------

_STEPS = st.sampled_from([0, 1e-3, 1, 5, 25, 29, 31, 119, 121, -1, -40, -200])
_PORTS = st.sampled_from([(1000, 80), (80, 1000), (1001, 80), (80, 80)])
_VLANS = st.sampled_from([(), (), (), (5,), (5, 6)])
_ENDS = st.sampled_from([(A, B), (B, A), (A, B), (A, A), (A, C)])
_FLAGS = st.sampled_from([SYN, SYN, SYN | ACK, ACK, ACK, FIN | ACK, RST, RST | ACK, 0])


@st.composite
def _tcp(draw: Any) -> Any:
    src, dst = draw(_ENDS)
    sport, dport = draw(_PORTS)
    return tcp(
        draw(_FLAGS), draw(st.integers(1, 3)), src, dst, sport, dport, draw(st.integers(0, 3)), vlans=draw(_VLANS)
    )


@st.composite
def _other(draw: Any) -> Any:
    src, dst = draw(_ENDS)
    sport, dport = draw(_PORTS)
    match draw(st.integers(0, 5)):
        case 0:
            return udp(src, dst, sport, dport, draw(st.integers(0, 9)), vlans=draw(_VLANS))
        case 1:
            return echo(draw(st.sampled_from([0, 8, 3, 13])), draw(st.integers(1, 2)), src, dst)
        case 2:
            return ip(src, dst, draw(st.sampled_from([132, 33, 136, 47])), struct.pack(">HH", sport, dport) + bytes(16))
        case 3:
            ends = {A: A6, B: B6, C: "fe80::3"}
            return ip6(ends[src], ends[dst], 17, struct.pack(">HHHH", sport, dport, 8, 0))
        case 4:
            return ether(0x0806, bytes(28))
        case _:
            return udp(src, dst, sport, dport, 60, length=draw(st.sampled_from([0, 88, 60, 28])))


@st.composite
def _fragment(draw: Any) -> Any:
    src, dst = draw(_ENDS)
    sport, dport = draw(_PORTS)
    ident, protocol = draw(st.integers(7, 8)), draw(st.sampled_from([6, 17, 17]))
    if draw(st.booleans()):
        return frag(draw(st.sampled_from([1, 3, 3 | MORE])), ident, src, dst, protocol)
    if protocol == 6:
        return tcp(draw(_FLAGS), 1, src, dst, sport, dport, fragment=MORE, ident=ident)
    return udp(src, dst, sport, dport, fragment=MORE, ident=ident)


def _frames(packets: Any, steps: Any = _STEPS, size: Any = 30) -> Any:
    """Generate frames with these time steps; rarely a time stamp of 0, or one a year ahead."""

    def timed(pairs: Any) -> Any:
        frames, now = [], 10_000
        for data, step, odd in pairs:
            now += step
            frames.append(({1: None, 2: now + YEAR}.get(odd, now), data))
        return frames

    triple = st.tuples(packets, steps, st.sampled_from([0] * 30 + [1, 2]))
    return st.lists(triple, min_size=1, max_size=size).map(timed)


_EXAMPLES = settings(
    max_examples=examples(100), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def _agree(tmp_path: Any, frames: Any) -> None:
    path = write(tmp_path / "generated.pcap", frames)
    for idle in (120, 10):
        assert netgen_rows(path, idle_timeout=f"{idle}s") == oracle_rows(path, idle_ns=idle * NS)


@_EXAMPLES
@given(frames=_frames(_tcp()))
def test_generated_tcp_gives_the_same_flows(tmp_path: Path, frames: Any) -> None:
    _agree(tmp_path, frames)


@_EXAMPLES
@given(frames=_frames(_other()))
def test_generated_traffic_of_all_kinds_gives_the_same_flows(tmp_path: Path, frames: Any) -> None:
    _agree(tmp_path, frames)


@_EXAMPLES
@given(frames=_frames(_fragment()))
def test_generated_fragments_give_the_same_flows(tmp_path: Path, frames: Any) -> None:
    _agree(tmp_path, frames)


@settings(_EXAMPLES, max_examples=examples(20))
@given(
    pieces=st.lists(
        st.tuples(
            st.integers(1, 1500),  # packets
            st.sampled_from([0, 0, 0, -YEAR, -300, -60, 60, 300, YEAR]),  # the clock's jump before them
            st.sampled_from([0.0, 0.01, 0.5, 2.0, -0.2]),  # seconds between two
            st.sampled_from([0, 0, 1, 50]),  # number of packets with a time stamp of 0
        ),
        min_size=1,
        max_size=5,
    )
)
def test_generated_clocks_that_jump_give_the_same_flows(tmp_path: Path, pieces: Any) -> None:
    """The clock of a long capture jumps, runs backwards and is set back after a block."""
    frames, now = [], 10_000.0
    for count, jump, step, zeros in pieces:
        now += jump
        for index in range(count):
            now += step
            sport = 1000 + index % 5 + 10 * (index % 300 == 0)
            frames.append((None if index < zeros else now, udp(sport=sport)))
    path = write(tmp_path / "generated.pcap", [(None if at is None else max(at, 1 - T), data) for at, data in frames])
    assert netgen_rows(path) == oracle_rows(path)


# -- real captures -------------------------------------------------------------------------------


def captures_of(shared_data: Any, folder: Any) -> Any:
    """List the captures whose link type the oracle reads: loopback, Ethernet, Linux cooked, raw."""
    truth = json.loads((shared_data / "captures" / "truth.json").read_text())
    names = [
        name
        for name, metadata in truth.items()
        if name.startswith(folder) and metadata["linktype_raw"] & 0xFFFF in oracle.LINKTYPES
    ]
    assert len(names) > 100
    return [shared_data / "captures" / name for name in names]


@pytest.mark.parametrize("folder", [pytest.param("ndpi", marks=pytest.mark.slow), "tcpdump", "iot_setup/test"])
def test_real_captures_give_the_same_flows(shared_data: Path, folder: str) -> None:
    paths = captures_of(shared_data, folder)
    results = [differences(path) for path in paths]
    wrong = [difference for difference in results if difference]
    assert not wrong, f"{len(wrong)} of {len(paths)} differ:\n" + "\n".join(wrong[:20])


@pytest.mark.parametrize("folder", ["ndpi", "iot_setup/test"])
def test_real_captures_give_the_same_first_packets(shared_data: Path, folder: str) -> None:
    """Signed sizes and gaps of the first packets of each flow agree, in order of time."""
    wrong = []
    for path in captures_of(shared_data, folder)[::4]:
        table = netgen.extract([path], view="packets", length=16)
        expected = Counter(first_packets(flow, 16) for flow in oracle.flows_of(path))
        if Counter(series.tobytes() for series in table.series()) != expected:
            wrong.append(path.name)
    assert not wrong


def first_packets(flow: Any, number: Any) -> Any:
    """Return sizes and gaps in microseconds of an oracle's flow, as bytes of the numbers."""
    client = flow.initiator.sender
    ordered = sorted(flow.packets, key=lambda packet: packet.time_ns)[:number]
    sizes = [packet.size if packet.sender == client else -packet.size for packet in ordered]
    times = [(packet.time_ns - ordered[0].time_ns) // 1000 for packet in ordered]
    gaps = [0, *(after - before for before, after in itertools.pairwise(times))]
    rest = [0] * (number - len(ordered))
    return struct.pack(f"<{2 * number}q", *sizes, *rest, *gaps, *rest)
