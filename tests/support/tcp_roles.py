"""Slow oracles of laid-out packets: sums packet by packet, and the order of TCP flags; connections that never open."""

from __future__ import annotations

from typing import Any

import numpy as np

from netgen.capture.headers import TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN
from netgen.capture.series.spec import SeriesSpec
from netgen.capture.table.flow_table import FlowTable
from netgen.exporters.pcap.packets import Packets
from netgen.exporters.pcap.plan import Plan
from netgen.exporters.pcap.tcp_lifecycle import HALF_OPEN, REFUSED, UNANSWERED

SECOND, BINS = 10**9, 8
SYN, SYN_ACK, RST_ACK, RST = TCP_SYN, TCP_SYN | TCP_ACK, TCP_RST | TCP_ACK, TCP_RST

#: Name -> (bin, from the client, bytes, flags) of each packet, kind, and its name in the ground truth.
ATTEMPTS = {
    "Linux asks in vain": ([(at, 1, 60, SYN) for at in (0, 1, 3, 7)], UNANSWERED, "unanswered"),
    "a scan of a filtered port": ([(0, 1, 44, SYN)], UNANSWERED, "unanswered"),
    "a scan of a closed port": ([(0, 1, 44, SYN), (0, 0, 40, RST_ACK)], REFUSED, "refused"),
    "Windows asks thrice": (
        [(at, up, size, flags) for at in range(3) for up, size, flags in ((1, 52, SYN), (0, 40, RST_ACK))],
        REFUSED,
        "refused",
    ),
    "thrice in a bin": ([(0, 1, 52, SYN), (0, 0, 40, RST_ACK)] * 3, REFUSED, "refused"),
    "the answer comes a bin later": (
        [(0, 1, 52, SYN), (1, 0, 40, RST_ACK), (1, 1, 52, SYN), (1, 0, 40, RST_ACK)],
        REFUSED,
        "refused",
    ),
    "a scan of an open port": ([(0, 1, 44, SYN), (0, 0, 44, SYN_ACK), (0, 1, 40, RST)], HALF_OPEN, "half-open"),
    "a slow one": ([(0, 1, 60, SYN), (1, 0, 60, SYN_ACK), (2, 1, 40, RST)], HALF_OPEN, "half-open"),
    "a flood's victim": ([(0, 1, 60, SYN), (0, 0, 60, SYN_ACK), (1, 0, 60, SYN_ACK), (3, 0, 60, SYN_ACK)], HALF_OPEN,
                         "half-open"),
    "asked twice before": (
        [(0, 1, 60, SYN), (1, 1, 60, SYN), (2, 0, 60, SYN_ACK), (2, 1, 40, RST)],
        HALF_OPEN,
        "half-open",
    ),
    "asked twice in a bin": (
        [(0, 1, 60, SYN), (0, 1, 60, SYN), (0, 0, 60, SYN_ACK), (0, 1, 40, RST)],
        HALF_OPEN,
        "half-open",
    ),
    "asked twice, and answered in vain": (
        [(0, 1, 60, SYN), (1, 1, 60, SYN), (2, 0, 60, SYN_ACK), (3, 0, 60, SYN_ACK)],
        HALF_OPEN,
        "half-open",
    ),
}  # fmt: skip


def series_of(packets: list[tuple[int, int, int, int]]) -> np.ndarray:
    """Count packets (bin, from the client, bytes, flags) into a series."""
    out = np.zeros((4, BINS), dtype=np.int64)
    for where, up, size, _ in packets:
        out[1 - up, where] += size
        out[3 - up, where] += 1
    return out


def connection_table(*series: np.ndarray, **columns: Any) -> FlowTable:
    """Build a table of such series."""
    return FlowTable.build(np.stack(series), SeriesSpec(bin_ns=SECOND, length=BINS), **columns)


def attempts(**columns: Any) -> FlowTable:
    """Build a table of all `ATTEMPTS`."""
    return connection_table(*(series_of(packets) for packets, *_ in ATTEMPTS.values()), **columns)


def recount(packets: Packets, flows: int, bins: int, bin_ns: int) -> np.ndarray:
    """Count packets into series, one after the other."""
    series = np.zeros((flows, 4, bins), dtype=np.int64)
    for flow, offset, up, size in zip(packets.flow, packets.offset_ns, packets.up, packets.size, strict=True):
        side = 0 if up else 1
        series[flow, side, offset // bin_ns] += size
        series[flow, 2 + side, offset // bin_ns] += 1
    return series


def check_roles(planned: Plan, packets: Packets, flow: int) -> None:
    """Check that a flow has the flags of a connection, of an attempt at one, or of datagrams."""
    rows = packets.flow == flow
    flags, up, bare = packets.flags[rows], packets.up[rows], (packets.size == packets.headers)[rows]
    if not planned.tcp[flow]:
        assert not flags.any()
    elif planned.attempt[flow]:
        size = packets.size[rows] - planned.ip_overhead[flow]
        check_attempt(flags, up, size, int(planned.attempt[flow]))
        assert bare.all()
    else:
        check_connection(flags, up, bare, reset=bool(planned.reset[flow]))


def check_connection(flags: np.ndarray, up: np.ndarray, bare: np.ndarray, *, reset: bool) -> None:
    """Check handshake and closing of a connection."""
    assert list(flags[:2]) == [TCP_SYN, TCP_SYN | TCP_ACK]
    assert list(up[:3]) == [True, False, True]
    assert bare[:2].all()
    assert bare[-1]
    assert not (flags[2:] & TCP_SYN).any()
    assert (flags[2:] & TCP_ACK).all()
    assert flags[2] & TCP_RST == 0
    fins = np.flatnonzero(flags & TCP_FIN)
    resets = np.flatnonzero(flags & TCP_RST)
    if reset:
        assert list(resets) == [len(flags) - 1]
        assert len(fins) == 0
        return
    assert len(resets) == 0
    assert len(fins) == 2
    closer = up[-1]
    assert list(up[fins]) == [closer, not closer]
    # after its FIN a side sends no data, and the flow's last packet acknowledges the other's FIN
    assert bare[(np.arange(len(up)) > fins[0]) & (up == closer)].all()
    assert fins[1] < len(up) - 1
    assert (up[fins[1] + 1 :] == closer).all()
    assert flags[-1] == TCP_ACK


def check_attempt(flags: np.ndarray, up: np.ndarray, size: np.ndarray, kind: int) -> None:
    """Check the packets of an attempt of this kind."""
    assert flags[0] == TCP_SYN
    if kind == HALF_OPEN and flags[-1] == TCP_RST:
        assert up[-1]
        assert size[-1] == 40
        assert len(flags) > 2
        flags, up, size = flags[:-1], up[:-1], size[:-1]
    assert (flags[up] == TCP_SYN).all()
    answer = {UNANSWERED: -1, REFUSED: TCP_RST | TCP_ACK, HALF_OPEN: TCP_SYN | TCP_ACK}[kind]
    assert (flags[~up] == answer).all()
    assert up.all() == (kind == UNANSWERED)
    if kind == REFUSED:  # each RST has a SYN before it
        assert (np.cumsum(~up) <= np.cumsum(up)).all()
