"""The checks of `netgen verify`, and the issues they report."""

from __future__ import annotations

import dataclasses

import numpy as np

#: Check -> what it guarantees when it reports no issue.
CHECKS = {
    "readable": "the file can be read to its end",
    "order": "no packet is older than the one before it",
    "whole": "every packet was captured in full",
    "length": "every IP length fits its frame",
    "ip checksum": "IPv4 header checksums are correct",
    "checksum": "checksums of TCP, UDP, IGMP and ICMP echoes are correct",
    "handshake": "every TCP connection begins with SYN, SYN-ACK, ACK, or is never accepted",
    "closing": "every TCP connection ends with a FIN each way, both acknowledged, or with a reset",
    "sequence": "each TCP segment begins where the one before it ended",
    "acknowledgement": "no segment acknowledges data that was not sent, or less than the one before",
    "duplicate": "every segment without data acknowledges something new or changes the window",
    "window": "neither side sends more than the other has room for",
    "timestamps": "the TCP timestamps of a side never decrease, and echo those of the other side",
    "tuple": "no two connections have the same addresses and ports",
    "ground truth": "flows, packets, bytes and times are those of the ground truth",
}


@dataclasses.dataclass
class Issue:
    """A check that failed.

    Parameters
    ----------
    check : str
        One of `CHECKS`.
    count : int
        Number of failures.
    packet : int or None
        Number of the first packet that fails, from 1.
    message : str
        What is wrong with that packet.
    """

    check: str
    count: int
    packet: int | None
    message: str


class IssueList:
    """Collects issues: one for each failed check, at its first packet."""

    def __init__(self) -> None:
        self._issues: dict[str, Issue] = {}

    def add(self, check: str, count: int, packet: int | None, message: str) -> None:
        """Add `count` failures of a check, of which the first is at `packet`."""
        issue = self._issues.setdefault(check, Issue(check, 0, packet, message))
        issue.count += count
        if packet is not None and (issue.packet is None or packet < issue.packet):
            issue.packet, issue.message = packet, message

    def add_rows(self, check: str, failed: np.ndarray, packet: np.ndarray, message: str) -> None:
        """Add a failure for each row where `failed` is true; `packet` holds the rows' packet numbers."""
        if failed.any():
            self.add(check, int(failed.sum()), int(packet[failed].min()), message)

    def in_order(self) -> tuple[Issue, ...]:
        """Return the issues in the order of `CHECKS`."""
        return tuple(self._issues[check] for check in CHECKS if check in self._issues)
