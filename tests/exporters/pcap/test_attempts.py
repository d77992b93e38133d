"""Connections that are unanswered, refused, half-open or reset keep their packets and bytes in a capture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import tcp_roles as roles
from support.tcp_roles import ATTEMPTS, BINS, RST, RST_ACK, SECOND, SYN, SYN_ACK, connection_table, series_of

import netgen
from netgen.capture.series.spec import SeriesSpec
from netgen.capture.table.flow_table import FlowTable
from netgen.exporters.pcap.layout import lay_out, written_series
from netgen.exporters.pcap.plan import Plan, Repair, plan
from netgen.exporters.pcap.tcp_lifecycle import HALF_OPEN, MAX_ATTEMPT_PACKETS, MIN_SYN_SIZE, NONE, REFUSED, UNANSWERED
from netgen.exporters.verify.verify import verify
from netgen.exporters.write import write


def flags(planned: Plan, flow: int = 0) -> list[int]:
    return list(lay_out(planned, np.array([flow])).flags)


@pytest.mark.parametrize("name", ATTEMPTS)
def test_an_attempt_keeps_its_packets(name: str) -> None:
    """Its packets have their flags, sizes and order, its series needs no change, and nothing is added."""
    packets, kind, _ = ATTEMPTS[name]
    planned = plan(connection_table(series_of(packets)))
    assert planned.repairs == {}
    assert planned.attempt.tolist() == [kind]
    layout = lay_out(planned, np.array([0]))
    columns = (layout.offset_ns // SECOND, layout.up, layout.size, layout.flags)
    assert [tuple(map(int, packet)) for packet in zip(*columns, strict=True)] == packets


syn_sizes = st.sampled_from([40, 44, 48, 52, 60, 64])
bins = st.lists(st.integers(0, BINS - 1), min_size=0, max_size=MAX_ATTEMPT_PACKETS - 1)


@st.composite
def connection_attempts(draw: st.DrawFn) -> list[tuple[int, int, int, int]]:
    """Make packets of a connection that never opens, as (bin, from the client, bytes, flags), in order."""
    syn, syn_bins = draw(syn_sizes), [0, *sorted(draw(bins))]
    kind = draw(st.sampled_from([UNANSWERED, REFUSED, HALF_OPEN]))
    packets = [(where, 1, syn, SYN) for where in syn_bins]
    if kind == REFUSED:
        refused = draw(st.lists(st.sampled_from(syn_bins), min_size=1, max_size=len(syn_bins), unique_by=id))
        times = [draw(st.integers(where, BINS - 1)) for where in sorted(refused)[: len(syn_bins)]]
        packets += [(where, 0, 40, RST_ACK) for where in times]
    if kind == HALF_OPEN:
        accepted = draw(st.integers(0, BINS - 1))
        packets = [packet for packet in packets if packet[0] <= accepted][: MAX_ATTEMPT_PACKETS - 1]
        answer = draw(st.sampled_from([44, 52, 60]))
        repeats = sorted([accepted, *draw(st.lists(st.integers(accepted, BINS - 1), max_size=3))])
        packets += [(where, 0, answer, SYN_ACK) for where in repeats]
        if syn < MIN_SYN_SIZE or draw(st.booleans()):
            packets.append((draw(st.integers(repeats[-1], BINS - 1)), 1, 40, RST))
    return sorted(packets, key=lambda packet: packet[0])


@settings(max_examples=200, deadline=None)
@given(st.lists(connection_attempts(), min_size=1, max_size=4), st.sampled_from([None, 6]))
def test_attempts_of_any_kind_keep_their_series(sent: list[list[tuple[int, int, int, int]]], protocol: int) -> None:
    """Packets add up to the series, for SYNs sent, refused or accepted at any times."""
    series = [series_of(flow) for flow in sent]
    planned = plan(connection_table(*series, protocol=protocol))
    layout = lay_out(planned, np.arange(len(sent)))
    assert planned.repairs == {}
    np.testing.assert_array_equal(roles.recount(layout, len(sent), BINS, SECOND), np.stack(series))
    for flow, packets_sent in enumerate(sent):
        roles.check_roles(planned, layout, flow)
        # two SYNs of 44 bytes that are accepted are one of 48 and an RST as well
        if planned.attempt[flow] in (UNANSWERED, REFUSED):
            assert sorted(flags(planned, flow)) == sorted(number for *_, number in packets_sent)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_a_connection_that_is_reset_needs_no_closing(seed: int, down: bool) -> None:
    """One side sends on alone, and its last packet is bare: it becomes an RST, and no packet is added."""
    rng = np.random.default_rng(seed)
    count = np.zeros((2, BINS), dtype=np.int64)
    count[:, :6] = rng.integers(1, 20, (2, 6))
    size = count * 52 + rng.integers(0, 1448, (2, BINS)) * count
    count[0, 0], size[0, 0] = 3, 60 + 52 + 500
    count[1, 0], size[1, 0] = 2, 60 + 1000
    count[int(down), 6:], size[int(down), 6:] = 1, [300, 52]
    planned = plan(connection_table(np.concatenate([size, count])))
    assert planned.repairs == {}
    assert planned.reset.tolist() == [True]
    layout = lay_out(planned, np.array([0]))
    np.testing.assert_array_equal(roles.recount(layout, 1, BINS, SECOND)[0], np.concatenate([size, count]))
    roles.check_roles(planned, layout, 0)
    assert bool(layout.up[-1]) is not down


@pytest.mark.parametrize("size", [40, 44, 48])
@pytest.mark.parametrize("beside", [0, 1])
def test_a_reset_needs_no_timestamp(beside: int, size: int, tmp_path: Path) -> None:
    """A small RST has no timestamp where the other packets have, alone in its bin or beside an acknowledgement."""
    opened = [(0, 1, 60), (0, 0, 60), (0, 1, 52), (0, 1, 352), (1, 0, 52), (1, 0, 1500), (1, 1, 52)]
    series = series_of([(*packet, 0) for packet in [*opened, (6, 1, 352), *[(7, 1, 52)] * beside, (7, 1, size)]])
    planned = plan(connection_table(series))
    assert planned.repairs == {}
    assert planned.reset.tolist() == [True]
    assert planned.headers.tolist() == [52]
    layout = lay_out(planned, np.array([0]))
    np.testing.assert_array_equal(roles.recount(layout, 1, BINS, SECOND)[0], series)
    assert (layout.size[-1], layout.headers[-1]) == (size, size)
    assert set(layout.headers[:-1]) == {52, 60}
    roles.check_roles(planned, layout, 0)
    write(connection_table(series), tmp_path / "x.pcap")
    assert verify(tmp_path / "x.pcap").issues == ()
    np.testing.assert_array_equal(
        netgen.extract(tmp_path / "x.pcap", spec_from=connection_table(series)).series()[0], series
    )


NOT_ATTEMPTS = {
    "data": [(0, 1, 41, 0)],
    "larger than any SYN": [(0, 1, 84, 0)],
    "more than any kernel repeats": [(at % BINS, 1, 60, 0) for at in range(MAX_ATTEMPT_PACKETS + 1)],
    "SYNs of two sizes": [(0, 1, 60, 0), (1, 1, 52, 0)],
    "a whole connection with a small answer": [
        *((0, up, 40, 0) for up in (0, 0, 1, 1, 1)),
        (0, 1, 60, 0),
    ],
    "the server speaks first": [(0, 0, 60, 0), (1, 1, 60, 0)],
    "refused before it asks": [(0, 1, 60, 0), (1, 0, 40, 0), (2, 0, 40, 0), (3, 1, 60, 0)],
    "open, and nothing more": [(0, 1, 60, 0), (0, 0, 60, 0), (0, 1, 52, 0)],
    "SYN-ACKs of two sizes": [(0, 1, 60, 0), (0, 0, 60, 0), (1, 0, 52, 0)],
    "a whole connection": [(0, 1, 60, 0), (0, 0, 60, 0), (0, 1, 52, 0), (1, 0, 52, 0), (1, 1, 52, 0)],
}


@pytest.mark.parametrize("name", NOT_ATTEMPTS)
def test_other_flows_become_connections(name: str) -> None:
    """Flows with data, or with packets that no attempt has, still get a handshake and a closing."""
    planned = plan(connection_table(series_of(NOT_ATTEMPTS[name])))
    assert planned.attempt.tolist() == [NONE]
    roles.check_roles(planned, lay_out(planned, np.array([0])), 0)


def test_datagrams_are_not_attempts() -> None:
    """UDP flows with the packets and bytes of an attempt stay UDP."""
    planned = plan(connection_table(series_of(ATTEMPTS["Linux asks in vain"][0]), protocol=17))
    assert planned.attempt.tolist() == [NONE]
    assert flags(planned) == [0] * 4


@pytest.mark.parametrize("name", ATTEMPTS)
def test_an_attempt_over_another_ip_version(name: str) -> None:
    """An attempt stays one when it is written over the other IP version; packets without room are enlarged."""
    packets, kind, _ = ATTEMPTS[name]
    series = series_of(packets)
    own = series.copy()
    own[:2] += 20 * own[2:]
    was_v6 = connection_table(own, src=["2001:db8::1"], dst=["2001:db8::2"])
    same = np.array([number for *_, number in packets])
    made_v4 = () if packets[-1][-1] == RST else ((was_v6, "4"),)  # no room to tell the RST from the SYN
    for flows, ip in ((connection_table(series), "6"), (was_v6, "auto"), (was_v6, "6"), *made_v4):
        planned = plan(flows, ip_version=ip)
        assert planned.attempt.tolist() == [kind]
        layout = lay_out(planned, np.array([0]))
        assert list(layout.flags) == list(same)
        np.testing.assert_array_equal(roles.recount(layout, 1, BINS, SECOND), planned.series)
        roles.check_roles(planned, layout, 0)
        if flows is was_v6:
            assert planned.repairs == {}
            np.testing.assert_array_equal(planned.series[0], own)
        else:
            assert set(planned.repairs) <= {Repair.DISAGREE}
            np.testing.assert_array_equal(planned.series[0, 2:], series[2:])


def test_attempts_in_a_view_of_packets() -> None:
    """In series of packets instead of bins, each attempt keeps its packets and their times."""
    spec = SeriesSpec.packets(12)
    series = np.zeros((len(ATTEMPTS), 2, 12), dtype=np.int64)
    for row, (packets, *_) in zip(series, ATTEMPTS.values(), strict=True):
        row[0, : len(packets)] = [size if up else -size for _, up, size, _ in packets]
        row[1, 1 : len(packets)] = 1000
    planned = plan(FlowTable.build(series, spec, protocol=6))
    assert planned.repairs == {}
    assert planned.attempt.tolist() == [kind for _, kind, _ in ATTEMPTS.values()]
    np.testing.assert_array_equal(written_series(planned), series)
    for flow, (packets, *_) in enumerate(ATTEMPTS.values()):
        assert flags(planned, flow) == [number for *_, number in packets]
