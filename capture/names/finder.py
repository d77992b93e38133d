"""Names of flows: what clients tell a server, over TLS and QUIC, and what DNS tells clients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from netgen.capture.layers.dissect import PacketColumns
from netgen.capture.names.dns import Address, responses
from netgen.capture.names.tls import LOOK_AHEAD, LOOK_BACK, TlsFinder

__all__ = ["LOOK_AHEAD", "LOOK_BACK", "Name", "NameFinder"]


@dataclass(frozen=True, slots=True)
class ServerName:
    """A name, and the packet with which it became known.

    Parameters
    ----------
    number : int
        Packet number in the file.
    kind : {"tls", "quic", "dns"}
        What said it. The first two name the server of the packet's flow.
    text : str
        The name, in lower case.
    client : tuple of int, optional
        For DNS: who asked, as IP version and high and low 64 bits of the address.
    answers : tuple of such tuples
        For DNS: the addresses that the name stands for.
    """

    number: int
    kind: str
    text: str
    client: Address | None = None
    answers: tuple[Address, ...] = ()


class NameFinder:
    """Finds the names in one capture, chunk after chunk.

    What it finds does not depend on how the capture is cut into chunks. Whoever ends in the middle
    of a capture goes on with ``new=False`` while `waiting`, which is over after `LOOK_AHEAD` packets
    at most. Whoever begins there begins `LOOK_BACK` packets early, and leaves out their names.

    Parameters
    ----------
    kinds : {"all", "tls"}
        Those of TLS over TCP, QUIC and DNS, or only the first.
    """

    def __init__(self, kinds: str = "all") -> None:
        self._tls = TlsFinder()
        self._quic = None
        if kinds == "all":
            from netgen.capture.names.quic import QuicFinder  # with it, cryptography is loaded

            self._quic = QuicFinder()

    @property
    def waiting(self) -> bool:
        """Whether a ClientHello is incomplete and packets to come may complete it."""
        return self._tls.waiting or (self._quic is not None and self._quic.waiting)

    def find(self, data: np.ndarray, packets: PacketColumns, *, new: bool = True) -> list[ServerName]:
        """Names that became known with the packets of a chunk.

        Parameters
        ----------
        data : ndarray of uint8
            The buffer that `packets` were dissected from; may go away afterwards.
        packets : Packets
            Packets of one chunk, which follow those of the last call.
        new : bool
            Whether hellos may begin here, and DNS responses count; if not, only those hellos are
            gone on with that are waited for.

        Returns
        -------
        list of Name
            In the order of the file. A hello that was sent twice is found twice.
        """
        found = [ServerName(number, "tls", text) for number, text in self._tls.find(data, packets, new=new)]
        if self._quic is None:
            return found
        found += [ServerName(number, "quic", text) for number, text in self._quic.find(data, packets, new=new)]
        for row, (text, answers) in responses(data, packets) if new else ():
            client = int(packets.version[row]), int(packets.dst_high[row]), int(packets.dst_low[row])
            found.append(ServerName(int(packets.number[row]), "dns", text, client, answers))
        return sorted(found, key=lambda name: name.number)
