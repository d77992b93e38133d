"""Names in DNS responses (RFC 1035), with their addresses.

Only answers of type A and AAAA count, and only those to which the chain of CNAMEs leads from the name in
the question. Responses come over UDP, or over TCP where one segment holds all of it. netgen ignores
multicast DNS, whose answers nobody requested.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np

from netgen.capture.headers import PROTOCOL_TCP, PROTOCOL_UDP, gather, layout
from netgen.capture.layers.dissect import PacketColumns
from netgen.capture.names.client_hello import host_text, payload

PORT = 53

#: An address: IP version, high and low 64 bits.
Address = tuple[int, int, int]

#: Header of a message.
DNS = layout("id >u2, flags >u2, questions >u2, answers >u2, authorities >u2, additional >u2")

_RESPONSE, _OPCODE = 0x8000, 0x7800
_INTERNET = 1
_CNAME = 5
_ADDRESS_SIZES = {1: 4, 28: 16}  # bytes, by type of record: A, AAAA
_MAX_NAME = 255


class Response(NamedTuple):
    """The name in the question, and its addresses."""

    name: str
    answers: tuple[Address, ...]


def parse_response(message: bytes) -> Response | None:
    """Read the addresses of a name from a DNS response, which may be cut or damaged; the records before that count.

    Return None if it is not a response to one question, or has no address of the name in the question.
    """
    if len(message) < DNS.itemsize:
        return None
    flags, questions, records = struct.unpack_from(">3H", message, 2)
    if flags & (_RESPONSE | _OPCODE) != _RESPONSE or questions != 1:
        return None
    aliases: dict[bytes, bytes] = {}
    addresses: list[tuple[bytes, Address]] = []
    question = b""
    try:
        question, at = _read_name(message, DNS.itemsize)
        at += 4
        for _ in range(records):
            owner, at = _read_name(message, at)
            kind, family, length = struct.unpack_from(">HH4xH", message, at)
            at += 10
            content = message[at : at + length]
            if len(content) < length:
                break
            if family == _INTERNET and kind == _CNAME:
                aliases[owner] = _read_name(message, at)[0]
            elif family == _INTERNET and length == _ADDRESS_SIZES.get(kind):
                addresses.append((owner, (4 if length == 4 else 6, *divmod(int.from_bytes(content), 1 << 64))))
            at += length
    except (IndexError, ValueError, struct.error):  # cut or damaged
        pass
    names, name = {question}, question
    while name in aliases and aliases[name] not in names:
        name = aliases[name]
        names.add(name)
    answers = tuple(dict.fromkeys(address for owner, address in addresses if owner in names))
    text = host_text(question)
    return Response(text, answers) if text and answers else None


def _read_name(message: bytes, at: int) -> tuple[bytes, int]:
    """Return the name at a position of a message, in lower case, and its end."""
    labels = []
    end = size = 0
    start = at
    while (length := message[at]) != 0:
        if length >= 0xC0:
            # a pointer leads to an earlier name, and so each further back than the last
            end = end or at + 2
            at = (length & 0x3F) << 8 | message[at + 1]
            if at >= start:
                raise ValueError("a pointer leads forward")
            start = at
            continue
        size += length + 1
        at += length + 1
        if length > 63 or size >= _MAX_NAME or at >= len(message):
            raise ValueError("a name or label is too long")
        labels.append(message[at - length : at])
    return b".".join(labels).lower(), end or at + 1


def find_responses(data: np.ndarray, packets: PacketColumns) -> list[tuple[int, Response]]:
    """Return the row and content of each DNS response in a batch."""
    responses = []
    for protocol, prefix in ((PROTOCOL_UDP, 0), (PROTOCOL_TCP, 2)):  # over TCP, the message's length comes first
        is_long_enough = packets.payload_length >= prefix + DNS.itemsize
        rows = np.flatnonzero((packets.src_port == PORT) & (packets.protocol == protocol) & is_long_enough)
        header = gather(data, packets.payload_at[rows] + prefix, DNS)
        is_response = header["flags"] & (_RESPONSE | _OPCODE) == _RESPONSE
        for row in rows[is_response & (header["questions"] == 1) & (header["answers"] > 0)].tolist():
            message = payload(data, packets, row)
            if prefix:
                size = int.from_bytes(message[:prefix])
                message = message[prefix : prefix + size]
                if len(message) < size:
                    continue
            response = parse_response(message)
            if response is not None:
                responses.append((row, response))
    return responses
