"""Names in DNS responses (RFC 1035), with the addresses they stand for.

Only answers of type A and AAAA count, and only those that the chain of CNAMEs leads to from the
name that was asked for. Responses come over UDP, or over TCP where one segment holds the whole of
it. Multicast DNS, whose answers nobody asked for, is left out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from netgen.capture.headers import PROTOCOL_TCP, PROTOCOL_UDP, gather
from netgen.capture.layers.dissect import PacketColumns
from netgen.capture.names.tls import host_text, payload

#: Port that answers.
PORT = 53

#: An address: IP version, high and low 64 bits.
Address = tuple[int, int, int]

#: Header of a message.
DNS = np.dtype(
    [
        ("id", ">u2"),
        ("flags", ">u2"),
        ("questions", ">u2"),
        ("answers", ">u2"),
        ("authorities", ">u2"),
        ("additional", ">u2"),
    ]
)

_RESPONSE, _OPCODE = 0x8000, 0x7800
_INTERNET, _A, _CNAME, _AAAA = 1, 1, 5, 28
_MAX_NAME = 255


class Response(NamedTuple):
    """The name that was asked for, and the addresses it was said to have."""

    name: str
    answers: tuple[Address, ...]


def response(message: bytes) -> Response | None:
    """What a DNS response says of a name's addresses.

    Parameters
    ----------
    message : bytes
        A response from its header on; may be cut or damaged anywhere. Records before that count.

    Returns
    -------
    Response or None
        None if it is no response to one question, or has no address of the name asked for.
    """
    if len(message) < DNS.itemsize:
        return None
    flags, questions, records = (int.from_bytes(message[at : at + 2]) for at in (2, 4, 6))
    if flags & (_RESPONSE | _OPCODE) != _RESPONSE or questions != 1:
        return None
    aliases: dict[bytes, bytes] = {}
    addresses: list[tuple[bytes, Address]] = []
    asked = b""
    try:
        asked, at = _name(message, DNS.itemsize)
        at += 4
        for _ in range(records):
            owner, at = _name(message, at)
            kind, family, length = (int.from_bytes(message[at + each : at + each + 2]) for each in (0, 2, 8))
            at += 10
            if at + length > len(message):
                break
            content = message[at : at + length]
            if family == _INTERNET and kind == _CNAME:
                aliases[owner] = _name(message, at)[0]
            elif family == _INTERNET and kind == _A and length == 4:
                addresses.append((owner, (4, 0, int.from_bytes(content))))
            elif family == _INTERNET and kind == _AAAA and length == 16:
                addresses.append((owner, (6, int.from_bytes(content[:8]), int.from_bytes(content[8:]))))
            at += length
    except (IndexError, _BadNameError):
        pass
    text = host_text(asked)
    if not addresses or not text:
        return None
    names = {asked}
    owner = asked
    while owner in aliases and aliases[owner] not in names:
        owner = aliases[owner]
        names.add(owner)
    answers = tuple(dict.fromkeys(address for owner, address in addresses if owner in names))
    return Response(text, answers) if answers else None


class _BadNameError(Exception):
    pass


def _name(message: bytes, at: int) -> tuple[bytes, int]:
    """The name at a place of a message, in lower case, and the place after it."""
    labels = []
    after = 0
    size = 0
    start = at
    while (length := message[at]) != 0:
        if length >= 0xC0:
            # a pointer leads to where a name stood before, and so each further back than the last
            after = after or at + 2
            at = (length & 0x3F) << 8 | message[at + 1]
            if at >= start:
                raise _BadNameError
            start = at
            continue
        size += length + 1
        at += length + 1
        if length > 63 or size >= _MAX_NAME or at >= len(message):
            raise _BadNameError
        labels.append(message[at - length : at])
    return b".".join(labels).lower(), after or at + 1


def responses(data: np.ndarray, packets: PacketColumns) -> list[tuple[int, Response]]:
    """What the DNS responses of a chunk say.

    Parameters
    ----------
    data : ndarray of uint8
        The buffer that `packets` were dissected from.
    packets : Packets
        Packets of one chunk.

    Returns
    -------
    list of (int, Response)
        Row of the packet, and what it says.
    """
    found = []
    from_port = packets.src_port == PORT
    for protocol, prefix in ((PROTOCOL_UDP, 0), (PROTOCOL_TCP, 2)):
        # over TCP, the message's length comes first
        rows = np.flatnonzero(
            from_port & (packets.protocol == protocol) & (packets.payload_length >= prefix + DNS.itemsize)
        )
        head = gather(data, packets.payload_at[rows] + prefix, DNS)
        good = (head["flags"] & (_RESPONSE | _OPCODE) == _RESPONSE) & (head["questions"] == 1) & (head["answers"] > 0)
        for row in rows[good].tolist():
            message = payload(data, packets, row)
            if prefix:
                size = int.from_bytes(message[:prefix])
                if size > len(message) - prefix:
                    continue
                message = message[prefix : prefix + size]
            answer = response(message)
            if answer is not None:
                found.append((row, answer))
    return found
