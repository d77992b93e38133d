"""Series become packets that add up to the series, exactly, in every bin and direction."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import tcp_roles as roles

from netgen.capture.errors import OutputError
from netgen.capture.headers import TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN
from netgen.capture.series.spec import SeriesSpec
from netgen.capture.table.flow_table import FlowTable
from netgen.exporters.pcap.layout import lay_out
from netgen.exporters.pcap.packets import MTU
from netgen.exporters.pcap.plan import Plan, Repair, plan

BIN = 250_000_000


def table(series: np.ndarray, protocol: object = None, bin_ns: int = BIN) -> FlowTable:
    return FlowTable.build(series, SeriesSpec(bin_ns=bin_ns, length=series.shape[2]), protocol=protocol)


def one(up_bytes: list[int], down_bytes: list[int], up: list[int], down: list[int], **keywords: object) -> Plan:
    """Plan one flow of at most eight bins."""
    rows = [values + [0] * (8 - len(values)) for values in (up_bytes, down_bytes, up, down)]
    return plan(table(np.array([rows]), **keywords))  # type: ignore[arg-type]


def simulate(flows: int, seed: int, bins: int = 32) -> np.ndarray:
    """Series of TCP connections as a simple pair of hosts makes them."""
    rng = np.random.default_rng(seed)
    series = np.zeros((flows, 4, bins), dtype=np.int64)
    for flow in range(flows):
        bare, syn = (52, 60) if rng.random() < 0.5 else (40, 52)
        rtt = rng.uniform(0.001, 0.05)
        packets = [(0.0, 0, syn), (rtt, 1, syn), (rtt, 0, bare)]
        now = rtt
        for _ in range(rng.integers(1, 6)):
            now += rng.exponential(0.5)
            packets.append((now, 0, int(bare + rng.integers(100, 1400))))
            now += rtt
            for number in range(int(rng.pareto(1.2) * 6) % 500):
                packets.append((now, 1, 1500))
                if number % 2:
                    packets.append((now, 0, bare))
                now += rng.exponential(0.002)
            packets += [(now, 1, int(bare + rng.integers(1, 1400))), (now, 0, bare)]
        side = int(rng.integers(2))
        packets += [(now, side, bare), (now + rtt, 1 - side, bare), (now + rtt, side, bare)]
        squeeze = min(1.0, bins * 0.249 / (now + rtt))
        for time, sender, size in packets:
            where = int(time * squeeze / 0.25)
            series[flow, sender, where] += size
            series[flow, 2 + sender, where] += 1
    return series


cells = st.tuples(st.integers(0, 12), st.integers(-3, 20_000))
anything = st.lists(st.lists(cells, min_size=16, max_size=16), min_size=1, max_size=4)


@settings(max_examples=150, deadline=None)
@given(anything, st.sampled_from([None, 6, 17]), st.sampled_from([1000, BIN, 10**13]), st.booleans())
def test_packets_add_up_to_the_repaired_series(
    sampled: list[list[tuple[int, int]]], protocol: int | None, bin_ns: int, sane: bool
) -> None:
    """Whatever numbers are given: sums per bin and direction hold, and times and sizes are those of packets."""
    cell = np.array(sampled, dtype=np.int64).reshape(len(sampled), 2, 8, 2)
    count, size = cell[..., 0], cell[..., 1]
    if sane:  # bytes that fit the packets, and idle bins
        count = np.where(size % 3 == 0, 0, count)
        size = count * (40 + size % 1461)
    planned = plan(table(np.concatenate([size, count], axis=1), protocol, bin_ns))
    packets = lay_out(planned, np.arange(len(sampled)))
    np.testing.assert_array_equal(roles.recount(packets, len(sampled), 8, bin_ns), planned.series)
    assert (packets.size <= MTU).all()
    assert (packets.size >= packets.headers).all()
    new = np.r_[True, packets.flow[1:] != packets.flow[:-1]]
    assert (packets.offset_ns[new] == 0).all()
    assert packets.up[new].all()
    assert (np.diff(packets.offset_ns)[~new[1:]] > 0).all()
    assert (packets.offset_ns[~new] % bin_ns > 0).all()
    for flow in range(len(sampled)):
        roles.check_roles(planned, packets, flow)


@settings(max_examples=100, deadline=None)
@given(anything, st.sampled_from([None, 17]))
def test_a_repaired_series_needs_no_repairs(sampled: list[list[tuple[int, int]]], protocol: int | None) -> None:
    """A repaired series passes without changes."""
    cell = np.array(sampled, dtype=np.int64).reshape(len(sampled), 2, 8, 2)
    first = plan(table(np.concatenate([cell[..., 1], cell[..., 0]], axis=1), protocol))
    again = plan(table(first.series, protocol))
    assert again.repairs == {}
    np.testing.assert_array_equal(again.series, first.series)


@pytest.mark.parametrize("seed", range(3))
def test_series_of_complete_connections_need_no_repairs(seed: int) -> None:
    """Series of plausible TCP connections need no change, so the closed loop is exact for them."""
    series = simulate(100, seed)
    planned = plan(table(series))
    assert planned.repairs == {}
    np.testing.assert_array_equal(planned.series, series)
    packets = lay_out(planned, np.arange(100))
    np.testing.assert_array_equal(roles.recount(packets, 100, 32, BIN), series)
    assert not planned.attempt.any()
    assert not planned.reset.any()
    for flow in range(100):
        roles.check_roles(planned, packets, flow)


def test_the_shortest_connection() -> None:
    """SYN, SYN-ACK, the client's FIN, the server's FIN, the last ACK: five packets are enough."""
    planned = one([132], [92], [3], [2])
    assert planned.repairs == {}
    packets = lay_out(planned, np.array([0]))
    assert packets.up.tolist() == [True, False, True, False, True]
    assert packets.flags.tolist() == [TCP_SYN, TCP_SYN | TCP_ACK, TCP_FIN | TCP_ACK, TCP_FIN | TCP_ACK, TCP_ACK]


def test_a_client_that_takes_much_opens_its_window() -> None:
    """A client of SYN, FIN and ACK receives no more than the SYN's unscaled window; one of SYN, ACK and RST does."""
    few = one([132], [52 + 40 * 1500, 40], [3], [41, 1])
    assert few.packet_counts[0] == 45
    assert not few.reset[0]
    many = one([132], [52 + 50 * 1500], [3], [51])
    assert many.repairs == {}
    assert many.reset[0]
    assert lay_out(many, np.array([0])).flags[[0, 1, 2, -1]].tolist() == [
        TCP_SYN,
        TCP_SYN | TCP_ACK,
        TCP_ACK,
        TCP_RST | TCP_ACK,
    ]


def test_the_handshake_ends_with_a_bare_packet_where_others_carry_the_data() -> None:
    """SYN, SYN-ACK, an acknowledgement and then the question; without room for it, the acknowledgement carries it."""
    packets = lay_out(one([60 + 52 + 552, 104], [1560, 52], [3, 2], [2, 1]), np.array([0]))
    assert (packets.size - packets.headers)[packets.up].tolist() == [0, 0, 500, 0, 0]
    packets = lay_out(one([60 + 552, 104], [1560, 52], [2, 2], [2, 1]), np.array([0]))
    assert (packets.size - packets.headers)[packets.up].tolist() == [0, 500, 0, 0]


def test_timestamps_where_every_packet_has_room() -> None:
    """A flow whose packets all have 52 bytes uses the timestamps option; one with a 40-byte packet does not."""
    assert one([60 + 52 + 52], [60 + 52], [3], [2]).headers.tolist() == [52]
    assert one([60 + 52 + 52], [60 + 40], [3], [2]).headers.tolist() == [40]


REPAIRS = {
    Repair.SERVER_FIRST: ([0, 132], [1500], [0, 3], [1]),
    Repair.NO_PACKET: ([0, 132], [0, 92], [0, 3], [0, 2]),
    Repair.DISAGREE: ([100], [92], [3], [2]),
    Repair.OVERSIZE: ([132], [9000], [3], [3]),
    Repair.TOO_LARGE: ([1000, 92], [52, 40], [1, 2], [1, 1]),
    Repair.ODD_SIZE: ([53, 92], [52, 40], [1, 2], [1, 1]),
    Repair.NO_HANDSHAKE: ([132, 92], [0, 92], [3, 2], [0, 2]),
    Repair.NO_CLOSING: ([132], [92, 1500], [3], [2, 1]),
    Repair.NO_SCALING: ([40, 580], [52, 70 * 1500 + 40], [1, 3], [1, 71]),
    Repair.ONE_SIDED: ([172], [52 + 40 + 70 * 1500], [4], [72]),
}


@pytest.mark.parametrize(("reason", "given"), REPAIRS.items(), ids=[reason.name for reason in REPAIRS])
def test_every_kind_of_repair_is_counted(reason: Repair, given: tuple[list[int], ...]) -> None:
    """A series that cannot be a connection is repaired with few packets, and the kind of repair is counted."""
    planned = one(*given)
    assert planned.repairs.get(reason) == 1
    before = sum(sum(values) for values in given[2:])
    assert abs(int(planned.packet_counts[0]) - before) <= 5


def test_protocols() -> None:
    """UDP stays UDP, an unknown protocol becomes TCP, and one that cannot be written becomes UDP and is counted."""
    series = np.zeros((4, 4, 8), dtype=np.int64)
    series[:, 0, 0], series[:, 1, 0], series[:, 2, 0], series[:, 3, 0] = 132, 92, 3, 2
    planned = plan(FlowTable.build(series, SeriesSpec(bin_ns=BIN, length=8), protocol=[6, 17, None, 47]))
    assert planned.tcp.tolist() == [True, False, True, False]
    assert planned.repairs == {Repair.OTHER_PROTOCOL: 1}
    np.testing.assert_array_equal(planned.series, series)


def test_a_single_datagram_is_a_flow() -> None:
    """UDP needs no second packet."""
    planned = one([61], [], [1], [], protocol=17)
    assert planned.repairs == {}
    assert lay_out(planned, np.array([0])).size.tolist() == [61]


def test_a_flow_does_not_depend_on_the_others() -> None:
    """A flow has the same packets alone, among others, and in any order of the rows."""
    flows = table(simulate(30, 7), protocol=[6, 17] * 15)
    planned = plan(flows, seed=5)
    everyone = lay_out(planned, np.arange(29, -1, -1))
    for row in (0, 1, 17, 29):
        alone = plan(flows.take([row]), seed=5)
        packets, rows = lay_out(alone, np.array([0])), everyone.flow == row
        for name in ("offset_ns", "up", "size", "headers", "flags"):
            np.testing.assert_array_equal(getattr(packets, name), getattr(everyone, name)[rows])
    other = lay_out(plan(flows, seed=6), np.arange(29, -1, -1))
    assert (other.offset_ns != everyone.offset_ns).any()


def test_a_bin_without_time_for_its_packets_is_refused() -> None:
    """Every packet has its own nanosecond; where there are too few, the message names flow and bin."""
    with pytest.raises(OutputError, match="flow 0 has 5 packets in bin 0"):
        one([132], [92], [3], [2], bin_ns=5)
    assert lay_out(one([132], [92], [3], [2], bin_ns=6), np.array([0])).offset_ns.tolist() == [0, 1, 2, 3, 5]
