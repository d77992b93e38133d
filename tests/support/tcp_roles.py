"""Slow oracles of what `netgen.exporters.pcap.plan` lays out: sums packet by packet, and the order of TCP's flags."""

from __future__ import annotations

import numpy as np

from netgen.capture.headers import TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN
from netgen.exporters.pcap.packets import Packets
from netgen.exporters.pcap.plan import Plan
from netgen.exporters.pcap.tcp_lifecycle import HALF_OPEN, REFUSED, UNANSWERED


def recount(packets: Packets, flows: int, bins: int, bin_ns: int) -> np.ndarray:
    """The slow oracle: one packet after the other."""
    series = np.zeros((flows, 4, bins), dtype=np.int64)
    for flow, offset, up, size in zip(packets.flow, packets.offset_ns, packets.up, packets.size, strict=True):
        side = 0 if up else 1
        series[flow, side, offset // bin_ns] += size
        series[flow, 2 + side, offset // bin_ns] += 1
    return series


def check_roles(planned: Plan, packets: Packets, flow: int) -> None:
    """The flags of a flow's packets are those of a connection, of an attempt at one, or of datagrams."""
    mine = packets.flow == flow
    flags, up, bare = packets.flags[mine], packets.up[mine], (packets.size == packets.headers)[mine]
    if not planned.tcp[flow]:
        assert not flags.any()
    elif planned.attempt[flow]:
        size = packets.size[mine] - planned.ip_overhead[flow]
        check_attempt(flags, up, size, int(planned.attempt[flow]))
        assert bare.all()
    else:
        check_connection(flags, up, bare, reset=bool(planned.reset[flow]))


def check_connection(flags: np.ndarray, up: np.ndarray, bare: np.ndarray, *, reset: bool) -> None:
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
