"""What was checked of a capture, and what was found."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

#: Check -> what holds where it finds nothing.
CHECKS = {
    "readable": "the file can be read to its end",
    "order": "no packet is older than the one before it",
    "whole": "all of every packet was captured",
    "length": "the IP length fits the frame",
    "ip checksum": "IPv4 header checksums are right",
    "checksum": "checksums of TCP, UDP, IGMP and ICMP echoes are right",
    "handshake": "every TCP connection begins with SYN, SYN-ACK, ACK, or nobody accepts it",
    "closing": "every TCP connection ends with a FIN each way, both acknowledged, or with a reset",
    "sequence": "each TCP segment begins where the one before it ended",
    "acknowledgement": "no segment acknowledges what was not sent, or less than before",
    "duplicate": "every bare acknowledgement acknowledges something new or opens the window",
    "window": "no side sends more than the other has room for",
    "timestamps": "the TCP time stamps of a side never go back, and echo the other side's",
    "tuple": "no two connections have the same addresses and ports",
    "truth": "flows, packets, bytes and times are those of the labels file",
}


@dataclasses.dataclass
class Issue:
    """A promise that does not hold.

    Parameters
    ----------
    check : str
        One of `CHECKS`.
    number : int
        How often.
    packet : int or None
        Number of the first packet that breaks it, from 1.
    what : str
        What is wrong there.
    """

    check: str
    number: int
    packet: int | None
    what: str

    def to_json(self) -> dict[str, Any]:
        """The finding as JSON types."""
        return dataclasses.asdict(self)


class IssueList:
    """Findings as they come up: one a check, with its first place."""

    def __init__(self) -> None:
        self.found: dict[str, Issue] = {}

    def add(self, check: str, number: int, packet: int | None, what: str) -> None:
        """Count `number` breaches of a check of which the first is at `packet`."""
        assert check in CHECKS
        known = self.found.get(check)
        if known is None:
            self.found[check] = Issue(check, number, packet, what)
            return
        known.number += number
        if packet is not None and (known.packet is None or packet < known.packet):
            known.packet, known.what = packet, what

    def rows(self, check: str, bad: np.ndarray, packet: np.ndarray, what: str) -> None:
        """Count the rows where `bad` is true."""
        if bad.any():
            self.add(check, int(bad.sum()), int(packet[bad].min()), what)
