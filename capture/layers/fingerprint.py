"""A number by which netgen recognises a packet that a capture holds twice.

A switch that copies its traffic to a mirror port sends a packet that it routes once from each side, with
another TTL, MAC address or VLAN. The IP identification, the size and the transport header behind the ports
(sequence numbers, checksums) stay the same. A retransmission has at least another identification.
"""

from __future__ import annotations

import numpy as np

from netgen.capture import headers
from netgen.capture.headers import gather, protocol_mask

#: Words of 4 bytes of the transport header that count, from behind the ports on; as many as TCP has there.
WORDS = 4

#: Protocols without ports that begin with something else in every packet. Tunnels, for one, do not.
_CHANGING = protocol_mask(headers.PROTOCOL_ICMP, headers.PROTOCOL_IGMP, headers.PROTOCOL_ESP, headers.PROTOCOL_ICMPV6)
_WORD = np.dtype(">u4")
_UDP_CHECKSUM = np.uint32(0xFFFF)

# odd numbers with about as many ones as zeros, so that each bit of a product depends on many
_FACTORS = tuple(np.array([0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D, 0x27D4EB2F, 0x165667B1, 0xD6E8FEB9], np.uint32))
_SHIFT = np.uint32(15)


def fingerprint(identification: np.ndarray, words: np.ndarray, protocol: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Compute fingerprints of packets, uint32, from their IP identification, transport words, protocol and IP bytes.

    The identification (uint32) includes the fragment offset, and is 0 for none. A fingerprint is 0 where there is
    neither an identification nor a sequence number or checksum, so that nothing distinguishes the packets of a flow
    (and for 1 in 2**32 of the others).
    """
    mixed = identification * _FACTORS[0]
    for word, factor in zip((*words, size.astype(np.uint32)), _FACTORS[1:], strict=True):
        mixed += word * factor
    # UDP has its length and checksum there, the latter 0 for none; its payloads may all begin alike
    is_udp = protocol == headers.PROTOCOL_UDP
    distinct = identification | np.where(is_udp, words[0] & _UDP_CHECKSUM, words[0] | words[1])
    mixed ^= mixed >> _SHIFT
    mixed *= _FACTORS[1]
    mixed ^= mixed >> _SHIFT
    mixed *= distinct != 0
    return mixed


def transport_words(data: np.ndarray, at: np.ndarray, end: np.ndarray, protocol: np.ndarray) -> np.ndarray:
    """Read the words of transport headers that fingerprints count, uint32, shape (`WORDS`, packets).

    The headers begin at `at`, the packets end at `end`. A word that was not captured is 0, and so are the words of
    protocols whose packets may begin alike.
    """
    has_ports = headers.HAS_PORTS[protocol]
    at = at + np.where(has_ports, headers.PORTS.itemsize, 0)
    counts = has_ports | _CHANGING[protocol]
    words = np.zeros((WORDS, len(at)), np.uint32)
    for word in words:
        rows = np.flatnonzero(counts & (at + _WORD.itemsize <= end))
        word[rows] = gather(data, at[rows], _WORD)
        at += _WORD.itemsize
    return words
