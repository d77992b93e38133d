"""Packets in columns: what stands between a plan of flows and the frames of a capture."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from netgen.exporters.pcap.constants import Bools, Ints


@dataclasses.dataclass(frozen=True)
class Packets:
    """Packets in columns, in the order of the flows and, in each, of time; all of shape (packets,).

    Parameters
    ----------
    flow : ndarray of int64
        Row of the plan.
    offset_ns : ndarray of int64
        Time since the flow's first packet.
    up : ndarray of bool
        From the initiator.
    size : ndarray of int64
        IP bytes.
    headers : ndarray of int64
        Of those, all headers from IP on, with their options.
    flags : ndarray of uint8
        TCP flags; 0 for all else.
    """

    flow: Ints
    offset_ns: Ints
    up: Bools
    size: Ints
    headers: Ints
    flags: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.flow)
