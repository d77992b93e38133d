"""What stands behind the headers when it is not zeros: TLS records, or bytes without a meaning.

Whatever it is, it takes the places of the payload bytes that a series has anyway, and depends on the
seed and the flow alone. Zeros are the default: random bytes make Wireshark see damaged RTP, HTTP
and QUIC.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from netgen.exporters.pcap import tls
from netgen.exporters.pcap.counter_rng import random_bits
from netgen.exporters.pcap.frames import ECHO, IGMP, TCP, UP, Endpoints
from netgen.exporters.pcap.options import CaptureOptions
from netgen.exporters.pcap.packets import Ints

Bytes = NDArray[np.uint8]
Frames = NDArray[np.void]

_HELLO, _BYTES, _PLACE = 96, 112, 113  # streams of `random_bits`; a hello takes 16
_BLOCK = 1 << 16
_MOST = 1 << 11  # a payload is shorter


class Payload(Protocol):
    """Writes payloads into a buffer of records."""

    def fill(self, buffer: Bytes, begin: Ints, batch: Frames, both: Endpoints) -> NDArray[np.uint32]:
        """Write the payload of each packet where it begins; what it adds to the checksum.

        Parameters
        ----------
        buffer : ndarray of uint8
        begin : ndarray of int64, shape (packets,)
        batch : ndarray of FRAME, shape (packets,)
        both : Ends

        Returns
        -------
        ndarray of uint32, shape (packets,)
            Sum of the payload's 16-bit words as a little-endian machine reads them.
        """


def payload_of(options: CaptureOptions) -> Payload | None:
    """The payload that is wanted; None for zeros."""
    if options.payload == "tls":
        return TlsPayload(options.sni)
    return RandomPayload() if options.payload == "random" else None


class RandomPayload:
    """Pieces of one block of random bytes; a datagram's first byte is as in QUIC's short header (RFC 9443).

    IGMP stays zeros.
    """

    def __init__(self) -> None:
        words = random_bits(np.arange((_BLOCK + _MOST) // 8, dtype=np.uint64), _BYTES)
        self._block = words.astype("<u8").view(np.uint8)
        self._sums = np.r_[0, np.cumsum(self._block.view("<u2"), dtype=np.int64)]

    def fill(self, buffer: Bytes, begin: Ints, batch: Frames, both: Endpoints) -> NDArray[np.uint32]:
        """See `Payload`."""
        length = batch["size"].astype(np.int64) - batch["headers"]
        length[(batch["kind"] & IGMP) > 0] = 0  # what stands there has a meaning
        keys = both.keys[batch["flow"]]
        # an echo is answered with what it brought
        side = np.where(batch["kind"] & ECHO, 0, batch["kind"] & UP)
        place = random_bits(keys, _PLACE, batch["seq"].astype(np.int64) << 1 | side)
        at = (place % np.uint64(_BLOCK // 2)).astype(np.int64) * 2
        for where, source, many in zip(begin.tolist(), at.tolist(), length.tolist(), strict=True):
            buffer[where : where + many] = self._block[source : source + many]
        words, odd = np.divmod(length, 2)
        total = self._sums[at // 2 + words] - self._sums[at // 2]
        total += np.where(odd, self._block[at + length - odd], 0)
        datagram = np.flatnonzero(((batch["kind"] & (TCP | ECHO)) == 0) & (length > 0))
        first = buffer[begin[datagram]]
        buffer[begin[datagram]] = 0x40 | first & 0x3F
        total[datagram] += (0x40 | first & 0x3F).astype(np.int64) - first
        return total.astype(np.uint32)


class TlsPayload:
    """A ClientHello, a ServerHello, and records of zeros behind them.

    Flows without room for these, and what is not TCP, stay zeros.
    """

    def __init__(self, sni: str | None) -> None:
        self._sni = sni

    def fill(self, buffer: Bytes, begin: Ints, batch: Frames, both: Endpoints) -> NDArray[np.uint32]:
        """See `Payload`."""
        flow, side = batch["flow"], np.where(batch["kind"] & UP, 0, 1)
        hellos = tls.hello_lengths(both.streams[flow], both.early[flow], self._sni)
        hello = hellos[np.arange(len(batch)), side]
        length = batch["size"].astype(np.int64) - batch["headers"]
        offset = (batch["seq"] - both.first_seq[flow, side]).astype(np.int64)
        speaks = ((batch["kind"] & TCP) > 0) & (hello > 0) & (length > 0)
        added = np.zeros(len(batch), dtype=np.uint32)
        rows = np.flatnonzero(speaks)
        stream = both.streams[flow, side][rows] - hello[rows]
        tls.write_records(buffer, begin[rows], offset[rows] - hello[rows], length[rows], stream, added, rows)
        for row in np.flatnonzero(speaks & (offset < hello)):
            words = [random_bits(both.keys[flow[row : row + 1]], _HELLO + each) for each in range(16)]
            noise = np.concatenate(words).astype("<u8").tobytes()
            whole = tls.hello(int(side[row]), int(hello[row]), self._sni, noise)
            part = np.frombuffer(whole[offset[row] : offset[row] + length[row]], np.uint8)
            buffer[begin[row] : begin[row] + len(part)] = part
            added[row] += part[::2].sum(dtype=np.uint32) + (part[1::2].sum(dtype=np.uint32) << 8)
        return added
