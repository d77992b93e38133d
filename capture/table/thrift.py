"""Thrift's compact protocol, as far as Parquet's footer and page headers need it.

A struct is a dict from field numbers to pairs of type and value, so that what is read is written
again as it was, known or not (https://github.com/apache/thrift, doc/specs/thrift-compact-protocol.md).
"""

from __future__ import annotations

from typing import Any

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)

#: Fields by number: type and value. A list is the type of its elements and these.
Struct = dict[int, tuple[int, Any]]

_INTEGERS = (I16, I32, I64)


def dumps(struct: Struct) -> bytes:
    """A struct as bytes."""
    out = bytearray()
    _write_struct(out, struct)
    return bytes(out)


def loads(data: bytes) -> Struct:
    """The struct that some bytes begin with."""
    return _Reader(data).struct()


def varint(number: int) -> bytes:
    """A number that is not negative, seven bits a byte."""
    out = bytearray()
    _write_varint(out, number)
    return bytes(out)


def _write_varint(out: bytearray, number: int) -> None:
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)


def _write_struct(out: bytearray, struct: Struct) -> None:
    last = 0
    for number, (kind, value) in sorted(struct.items()):
        if 0 < number - last < 16:
            out.append((number - last) << 4 | kind)
        else:
            out.append(kind)
            _write_varint(out, number << 1)
        last = number
        if kind not in (TRUE, FALSE):
            _write(out, kind, value)
    out.append(0)


def _write(out: bytearray, kind: int, value: Any) -> None:
    if kind in _INTEGERS:
        _write_varint(out, value << 1 if value >= 0 else (-value << 1) - 1)
    elif kind == BINARY:
        _write_varint(out, len(value))
        out += value
    elif kind == STRUCT:
        _write_struct(out, value)
    elif kind in (LIST, SET):
        inner, elements = value
        if len(elements) < 15:
            out.append(len(elements) << 4 | inner)
        else:
            out.append(0xF0 | inner)
            _write_varint(out, len(elements))
        for each in elements:
            _write(out, inner, each)
    elif kind in (BYTE, TRUE, FALSE):  # the latter in a list
        out.append(value & 0xFF)
    elif kind == DOUBLE:
        out += value
    else:
        raise ValueError(f"thrift type {kind} is not written")


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _bytes(self, count: int) -> bytes:
        self._at += count
        return self._data[self._at - count : self._at]

    def _varint(self) -> int:
        number = shift = 0
        while True:
            byte = self._byte()
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
            shift += 7

    def _integer(self) -> int:
        number = self._varint()
        return number >> 1 ^ -(number & 1)

    def struct(self) -> Struct:
        found: Struct = {}
        last = 0
        while head := self._byte():
            kind = head & 15
            last = last + (head >> 4) if head >> 4 else self._integer()
            found[last] = kind, self._value(kind) if kind not in (TRUE, FALSE) else None
        return found

    def _value(self, kind: int) -> Any:
        if kind in _INTEGERS:
            return self._integer()
        if kind == BINARY:
            return self._bytes(self._varint())
        if kind == STRUCT:
            return self.struct()
        if kind in (LIST, SET):
            head = self._byte()
            count = head >> 4 if head >> 4 < 15 else self._varint()
            return head & 15, [self._value(head & 15) for _ in range(count)]
        if kind in (BYTE, TRUE, FALSE):
            return self._byte()
        if kind == DOUBLE:
            return self._bytes(8)
        raise ValueError(f"thrift type {kind} is not read")
