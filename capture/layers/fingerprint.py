"""A number by which a packet is known again when a capture has it twice.

A switch that copies its traffic to a port (SPAN) sends a packet that it routes once from each side,
with another TTL, MAC address or VLAN. What stays is the IP identification, the size, and how the
transport's header goes on behind the ports: sequence numbers, checksums. A retransmission has at
least another identification.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from netgen.capture import headers
from netgen.capture.headers import gather, protocol_mask

#: Words of 4 bytes of the transport that count; those of TCP end where its header does.
WORDS = 4

#: Where the first of them is behind ports.
FIRST_WORD = headers.PORTS.itemsize

# protocols without ports that say something else with every packet; others of them, such as tunnels, may
# begin like the packet before
_AT_ONCE = protocol_mask(headers.PROTOCOL_ICMP, headers.PROTOCOL_IGMP, headers.PROTOCOL_ESP, headers.PROTOCOL_ICMPV6)
_WORD = np.dtype(">u4")
_WORDS = np.dtype(f"V{WORDS * _WORD.itemsize}")
_UDP_CHECKSUM = np.uint32(0xFFFF)

# odd numbers with about as many ones as zeros, so that each bit of a product depends on many
_FACTORS = tuple(np.array([0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D, 0x27D4EB2F, 0x165667B1, 0xD6E8FEB9], np.uint32))
_SHIFT = np.uint32(15)


def fingerprint(
    identification: np.ndarray, words: Sequence[np.ndarray], protocol: np.ndarray, size: np.ndarray
) -> np.ndarray:
    """Fingerprints of packets from what their headers say.

    Parameters
    ----------
    identification : ndarray of uint32, shape (packets,)
        IP identification (and fragment offset); 0 for none.
    words : sequence of `WORDS` ndarrays of uint32, each of shape (packets,)
        What the transport says; 0 where it was not captured.
    protocol : ndarray of uint8, shape (packets,)
        IP protocol.
    size : ndarray of int64, shape (packets,)
        IP bytes.

    Returns
    -------
    ndarray of uint32, shape (packets,)
        0 where there is no identification and no sequence number or checksum either, so that nothing
        tells one packet of a flow from the next (and for one of the others in 4 thousand million).
    """
    found: np.ndarray = identification * _FACTORS[0]
    for word, factor in zip((*words, size.astype(np.uint32)), _FACTORS[1:], strict=True):
        found += word * factor
    # UDP has its length and checksum there, the latter 0 for none; what it carries may begin like any other
    first = np.where(protocol == headers.PROTOCOL_UDP, words[0] & _UDP_CHECKSUM, words[0] | words[1])
    first |= identification
    found ^= found >> _SHIFT
    found *= _FACTORS[1]
    found ^= found >> _SHIFT
    found *= first != 0
    return found


def transport_words(data: np.ndarray, at: np.ndarray, end: np.ndarray, protocol: np.ndarray) -> np.ndarray:
    """The words of transport headers that fingerprints count.

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
    ndarray of uint32, shape (`WORDS`, packets)
        0 where one was not captured, and for protocols that say nothing to tell packets by.
    """
    behind = headers.HAS_PORTS[protocol]
    at = at + np.where(behind, FIRST_WORD, 0)
    telling = behind | _AT_ONCE[protocol]
    found = np.zeros((WORDS, len(at)), np.uint32)
    whole = at + _WORDS.itemsize <= end
    here = np.flatnonzero(telling & whole)
    found[:, here] = gather(data, at[here], _WORDS).view(_WORD).reshape(-1, WORDS).T
    part = np.flatnonzero(telling & ~whole)
    for number in range(WORDS if part.size else 0):
        place = number * _WORD.itemsize
        part = part[at[part] + (place + _WORD.itemsize) <= end[part]]
        found[number, part] = gather(data, at[part] + place, _WORD)
    return found
