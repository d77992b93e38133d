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
    """A name, and the packet that completed it.

    Parameters
    ----------
    number : int
        Packet number in the file.
    kind : {"tls", "quic", "dns"}
        Where it was found. The first two name the server of the packet's flow.
    text : str
        The name, in lower case.
    client : tuple of int, optional
        For DNS: the host that asked, as IP version and high and low 64 bits of the address.
    answers : tuple of such tuples
        For DNS: the addresses of the name.
    """

    number: int
    kind: str
    text: str
    client: Address | None = None
    answers: tuple[Address, ...] = ()


class NameFinder:
    """Finds the names in one capture, batch after batch.

    The names do not depend on how the capture is cut into batches. A reader that ends in the middle of a
    capture continues with ``new=False`` while `waiting`, for at most `LOOK_AHEAD` packets. A reader that
    begins there begins `LOOK_BACK` packets early, and drops their names.

    Parameters
    ----------
    name_sources : {"all", "tls"}
        Whether to find the names of TLS over TCP, QUIC and DNS, or only the first.
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
        """Find the names that the packets of a batch complete.

        Parameters
        ----------
        data : ndarray of uint8
            The buffer that `packets` were dissected from; not used after the call.
        packets : PacketColumns
            Packets of one batch, which follow those of the last call.
        new : bool
            Whether hellos may begin here, and DNS responses count; if not, only hellos that began
            earlier are completed.

        Returns
        -------
        list of ServerName
            In the order of the file. A hello that was sent twice is found twice.
        """
        names = [ServerName(number, "tls", text) for number, text in self._tls.find(data, packets, new=new)]
        if self._quic is None:
            return names
        names += [ServerName(number, "quic", text) for number, text in self._quic.find(data, packets, new=new)]
        for row, (text, answers) in find_responses(data, packets) if new else ():
            client = int(packets.version[row]), int(packets.dst_high[row]), int(packets.dst_low[row])
            names.append(ServerName(int(packets.number[row]), "dns", text, client, answers))
        return sorted(names, key=lambda name: name.number)
