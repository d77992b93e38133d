"""A number by which a packet is known again when a capture has it twice.

A switch that copies its traffic to a port (SPAN) sends a packet that it routes once from each side,
with another TTL, MAC address or VLAN. What stays is the IP identification, the checksum of the
transport, and what TCP says; a retransmission has at least another identification.
"""

from __future__ import annotations

import numpy as np

from capture import headers
from capture.headers import take

#: Where in the header of a transport two bytes stand that differ from packet to packet.
CHECKSUM_AT = {
    headers.PROTOCOL_TCP: 16,
    headers.PROTOCOL_UDP: 6,
    headers.PROTOCOL_ICMP: 2,
    headers.PROTOCOL_ICMPV6: 2,
    headers.PROTOCOL_IGMP: 2,
    headers.PROTOCOL_UDP_LITE: 6,
    headers.PROTOCOL_DCCP: 6,
    headers.PROTOCOL_SCTP: 10,
    headers.PROTOCOL_ESP: 6,  # the lower half of its sequence number
}
_CHECKSUM = np.dtype(">u2")

# odd numbers with about as many ones as zeros, so that each bit of a product depends on many
_FACTORS = tuple(np.array([0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D, 0x27D4EB2F, 0x165667B1], np.uint32))
_SHIFT = np.uint32(15)


def fingerprint(
    identification: np.ndarray,
    checksum: np.ndarray,
    seq: np.ndarray,
    ack: np.ndarray,
    flags: np.ndarray,
    size: np.ndarray,
) -> np.ndarray:
    """Fingerprints of packets from what their headers say.

    Parameters
    ----------
    identification : ndarray of uint32, shape (packets,)
        IP identification (and fragment offset); 0 for none.
    checksum : ndarray of uint32, shape (packets,)
        What stands at `CHECKSUM_AT`; 0 for none.
    seq, ack : ndarray of uint32, shape (packets,)
        Of TCP, else 0.
    flags : ndarray of uint8, shape (packets,)
        Of TCP, else 0.
    size : ndarray of int64, shape (packets,)
        IP bytes.

    Returns
    -------
    ndarray of uint32, shape (packets,)
        0 where the first four are 0, as then nothing but its size tells a packet from the next (and
        for one of the others in 4 thousand million).
    """
    found: np.ndarray = identification * _FACTORS[0]
    for word, factor in zip((checksum, seq, ack), _FACTORS[1:], strict=False):
        found += word * factor
    known = found != 0
    rest = size.astype(np.uint32)
    rest <<= np.uint32(8)
    rest |= flags
    rest *= _FACTORS[4]
    found += rest
    found ^= found >> _SHIFT
    found *= _FACTORS[1]
    found ^= found >> _SHIFT
    found *= known
    return found


def checksums(data: np.ndarray, at: np.ndarray, end: np.ndarray, protocol: np.ndarray) -> np.ndarray:
    """What stands at `CHECKSUM_AT` of transport headers.

    Parameters
    ----------
    data : ndarray of uint8
        The buffer.
    at, end : ndarray of int64, shape (packets,)
        Where the header of the transport begins, and where the packet ends.
    protocol : ndarray of uint8, shape (packets,)
        IP protocol.

    Returns
    -------
    ndarray of uint32, shape (packets,)
        0 where the protocol has no such place or it was not captured.
    """
    found = np.zeros(len(at), np.uint32)
    for number in np.unique(protocol).tolist():
        place = CHECKSUM_AT.get(number)
        if place is None:
            continue
        here = np.flatnonzero((protocol == number) & (at + (place + _CHECKSUM.itemsize) <= end))
        found[here] = take(data, at[here] + place, _CHECKSUM)
    return found
