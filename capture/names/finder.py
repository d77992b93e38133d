"""Server names of flows: those that clients send in TLS and QUIC, and those that DNS returns to clients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from netgen.capture.layers.dissect import PacketColumns
from netgen.capture.names.client_hello import LOOK_AHEAD, LOOK_BACK
from netgen.capture.names.dns import Address, find_responses
from netgen.capture.names.tls import TlsFinder

__all__ = ["LOOK_AHEAD", "LOOK_BACK", "NameFinder", "ServerName"]


@dataclass(frozen=True, slots=True)
class ServerName:
    """A name in lower case, and the packet that completed it."""

    number: int  # of the packet in the file
    kind: str  # where it was found: "tls" or "quic" (it names the server of the packet's flow), or "dns"
    text: str
    client: Address | None = None  # for DNS: the host that asked
    answers: tuple[Address, ...] = ()  # for DNS: the addresses of the name


class NameFinder:
    """Finds the names in one capture, batch after batch: of TLS over TCP (``tls``), or of QUIC and DNS too (``all``).

    The names do not depend on how the capture is cut into batches. A reader that ends in the middle of a capture
    continues with ``new=False`` while `waiting`, for at most `LOOK_AHEAD` packets. A reader that begins there begins
    `LOOK_BACK` packets early, and drops their names.
    """

    def __init__(self, name_sources: str = "all") -> None:
        self._tls = TlsFinder()
        self._quic = None
        if name_sources == "all":
            from netgen.capture.names.quic import QuicFinder  # it loads cryptography

            self._quic = QuicFinder()

    @property
    def waiting(self) -> bool:
        """Whether a ClientHello is incomplete and later packets may complete it."""
        return self._tls.waiting or (self._quic is not None and self._quic.waiting)

    def find(self, data: np.ndarray, packets: PacketColumns, *, new: bool = True) -> list[ServerName]:
        """Find the names that the packets of the next batch complete, in the order of the file; `data` is its buffer.

        Unless `new`, no hello begins here and no DNS response counts; hellos that began earlier are completed. A hello
        that was sent twice is found twice.
        """
        names = [ServerName(number, "tls", text) for number, text in self._tls.find(data, packets, new=new)]
        if self._quic is None:
            return names
        names += [ServerName(number, "quic", text) for number, text in self._quic.find(data, packets, new=new)]
        for row, (text, answers) in find_responses(data, packets) if new else ():
            client = int(packets.version[row]), int(packets.dst_high[row]), int(packets.dst_low[row])
            names.append(ServerName(int(packets.number[row]), "dns", text, client, answers))
        return sorted(names, key=lambda name: name.number)
